"""What canary, shadow and live classifier of a rollout answered, and what people said about the same images."""

from __future__ import annotations

from dataclasses import dataclass, field

from sortal.core.events import Event, Role
from sortal.workspace.deployment import journal
from sortal.workspace.events import events_since
from sortal.workspace.feedback import statements
from sortal.workspace.folder import Workspace

SHADOWED = "#shadow"
"""What the request ids of a shadow's answers end with; without it they are those of the answers they stand beside."""


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """The last time that something stood beside the live bundle: now, or until `ended`."""

    live: str
    role: Role
    bundle: str
    begun: str
    """UTC, ISO 8601."""
    ended: str | None
    """None while it lasts."""
    note: str
    """Why it was ended; empty where nobody said so."""


@dataclass(kw_only=True)
class Answers:
    """What one bundle answered in a rollout."""

    bundle: str
    role: Role
    count: int = 0
    abstained: int = 0
    milliseconds: list[float] = field(default_factory=list)
    by_image: dict[str, str] = field(default_factory=dict)
    """image_sha256 -> the class of its first answer; the same image once more is no further evidence."""
    by_request: dict[str, str] = field(default_factory=dict)
    """request id -> image_sha256, of answers to clients and of those that stood beside them under the same id."""

    def add(self, event: Event) -> None:
        """Count an answer."""
        self.count += 1
        self.abstained += event.abstained
        if event.latency_ms is not None:
            self.milliseconds.append(event.latency_ms)
        self.by_image.setdefault(event.image_sha256, event.top[0][0])
        name = event.request_id.removesuffix(SHADOWED) if self.role == "shadow" else event.request_id
        self.by_request[name] = event.image_sha256


def last_rollouts(workspace: Workspace) -> list[Rollout]:
    """The last canary and the last shadow beside the bundle that the later one of them stood beside; none where there
    was never any."""
    found = [one for one in (_last(workspace, "canary"), _last(workspace, "shadow")) if one is not None]
    latest = max((one.begun for one in found), default="")
    live = next((one.live for one in found if one.begun == latest), "")
    return [one for one in found if one.live == live]


def answers_of(workspace: Workspace, rollout: Rollout) -> tuple[Answers, Answers]:
    """What the live bundle and the one beside it answered during a rollout."""
    live = Answers(bundle=rollout.live, role="live")
    other = Answers(bundle=rollout.bundle, role=rollout.role)
    for event in events_since(workspace, rollout.begun):
        if rollout.ended is not None and event.time > rollout.ended:
            continue
        for arm in (other, live):
            if arm is live and rollout.role == "canary" and not other.count:
                continue  # requests were not divided by chance yet
            if (event.role, event.bundle_id) == (arm.role, arm.bundle) and event.top:
                arm.add(event)
    return live, other


def agreed_labels(workspace: Workspace) -> tuple[dict[str, str], int]:
    """image_sha256 -> the class that everybody named who said something, and about how many images people disagree."""
    said: dict[str, set[str]] = {}
    for one in statements(workspace):
        said.setdefault(one.image_sha256, set()).add(one.label)
    agreed = {image: next(iter(labels)) for image, labels in said.items() if len(labels) == 1}
    return agreed, len(said) - len(agreed)


def _last(workspace: Workspace, role: Role) -> Rollout | None:
    """The latest stretch of the journal in which one bundle had this role beside one live bundle."""
    after, first, found = None, None, None
    for entry in journal(workspace):
        beside = entry.state.canary if role == "canary" else entry.state.shadow
        if found is None:
            if beside is None:
                after = entry
                continue
            found = (entry.state.live, beside)
        if (entry.state.live, beside) != found:
            break
        first = entry
    if found is None or first is None or found[0] is None:
        return None
    return Rollout(
        live=found[0],
        role=role,
        bundle=found[1],
        begun=first.time,
        ended=None if after is None else after.time,
        note="" if after is None or after.action != "withdraw" else after.note,
    )
