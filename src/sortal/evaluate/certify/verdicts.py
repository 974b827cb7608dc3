"""Kept, broken or undecided: what bounds say about each clause, and about the contract as a whole.

A clause is kept where the upper bound of what is bad lies within its limit. The whole is kept where every clause is: an
intersection-union test, which needs no correction (Berger 1982, "Multiparameter hypothesis testing and acceptance
sampling"). A single clause is called broken where the lower bound lies beyond its limit at a level that Holm (1979)
divides among the clauses, so that of contracts that are kept at most a share of 1 - confidence has any clause accused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sortal.evaluate.certify.clauses import Clause

Verdict = Literal["kept", "broken", "undecided"]


def verdicts_of(clauses: Sequence[Clause], confidence: float) -> list[Verdict]:
    """One for each clause, in their order."""
    accused = holm([p_kept(clause) for clause in clauses], 1 - confidence)
    return [
        "broken" if guilty else "kept" if is_kept(clause, confidence) else "undecided"
        for clause, guilty in zip(clauses, accused, strict=True)
    ]


def whole(verdicts: Sequence[Verdict]) -> Verdict:
    """The contract's verdict: kept with every clause, broken with any."""
    if "broken" in verdicts:
        return "broken"
    return "kept" if all(verdict == "kept" for verdict in verdicts) else "undecided"


def is_kept(clause: Clause, confidence: float) -> bool:
    """Whether a clause is shown to be kept. Classes that nothing was seen of leave it open."""
    return clause.bad.value is not None and not clause.missing and clause.bad.stays_below(clause.limit, confidence)


def p_kept(clause: Clause) -> float:
    """The largest chance of data as bad as these while the clause is kept: where it is small, the clause is broken."""
    return 1.0 if clause.bad.value is None else clause.bad.p_below(clause.limit)


def holm(p: Sequence[float], level: float) -> list[bool]:
    """Which hypotheses fall at a level that holds for all of them together."""
    order = sorted(range(len(p)), key=lambda place: p[place])
    rejected = [False] * len(p)
    for rank, place in enumerate(order):
        if p[place] > level / (len(p) - rank):
            break
        rejected[place] = True
    return rejected
