"""A full server refuses requests for answers from their headers, before anything is started for them.

Under five times the load that a server can answer, four of five requests are refused; what that costs is lost to the
fifth. So it is done in the protocol, and by the way that all others go it would be the same answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from sortal.core.errors import OverloadError, SortalError
from sortal.serve.account import Account
from sortal.serve.answers import request_id, signed
from sortal.serve.guard.gate import Keeper
from sortal.serve.models import Models
from sortal.serve.protocol import Early
from sortal.serve.refusals import refused
from sortal.serve.telemetry.trace_parent import HEADER as TRACE

_PREDICT = re.compile(r"(?:/models/([^/%]+))?/predict")


class EarlyRefusal:
    """Of `/predict` and `/models/NAME/predict`."""

    def __init__(self, models: Models, account: Account, is_ending: Callable[[], bool]):
        self._models, self._account, self._is_ending = models, account, is_ending

    def reason(self, scope: Scope) -> OverloadError | None:
        """Why there is no room; None where there is, and for all that is another's to answer."""
        found = _PREDICT.fullmatch(scope["path"])
        if found is None or b"model=" in scope["query_string"] or self._is_ending():
            return None
        if any(name == b"origin" for name, _ in scope["headers"]):  # its answer has to say that the page may read it
            return None
        try:
            self._models.find(found[1]).refuse_overload()
        except OverloadError as error:
            return error
        except SortalError:
            return None
        return None

    def answer(self, scope: Scope, reason: OverloadError) -> Response:
        """The refusal, counted and logged as any request."""
        headers = Headers(scope=scope)
        call = self._account.begin("http", request_id(headers), trace_parent=headers.get(TRACE, ""))
        response, outcome = refused(reason, call.name)
        self._account.finish(call, outcome, response.status_code)
        return signed(response, call)


def behind(keeper: Keeper, early: EarlyRefusal) -> Early:
    """For those who may ask; where there is no room, the others are refused by `keeper`."""

    def refusal(scope: Scope) -> Response | None:
        reason = early.reason(scope)
        return None if reason is None else keeper.refused(scope) or early.answer(scope, reason)

    return refusal
