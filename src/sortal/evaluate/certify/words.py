"""A certificate in plain sentences: the verdict, what decides it, and what would settle what is open."""

from __future__ import annotations

from collections.abc import Sequence

from sortal.evaluate.certify.clauses import Clause
from sortal.evaluate.certify.needed import Needed
from sortal.evaluate.certify.verdicts import Verdict
from sortal.evaluate.summary import percent

_NAMES = {
    "max_error": "error among the answers",
    "min_coverage": "share answered",
    "max_cost": "mean cost",
    "max_latency_ms": "latency (99th percentile)",
    "max_size_mb": "size of the artifact",
}
_WHOLE = {
    "kept": "The contract is kept: every clause, each at {confidence} confidence.",
    "broken": "The contract is broken: {names}.",
    "undecided": "Undecided: these images do not settle {names}. Nothing is promised until they do.",
}


def clause_name(clause: Clause) -> str:
    """`recall of crack`, `error among the answers`."""
    kind, _, of = clause.key.partition(".")
    return f"recall of “{of}”" if of else _NAMES[kind]


def amount(clause: Clause, value: float | None, *, digits: str = ".3g") -> str:
    """A value as the contract speaks of it: a percentage, milliseconds, megabytes or a cost."""
    if value is None:
        return "not known"
    if value == float("inf"):
        return "no bound"
    kind = clause.key.partition(".")[0]
    if kind in ("max_error", "min_coverage", "recall"):
        return percent(min(max(value, 0.0), 1.0))
    unit = {"max_latency_ms": " ms", "max_size_mb": " MB"}.get(kind, "")
    return f"{value:{digits}}{unit}"


def promise(clause: Clause) -> str:
    """`at least 98.0%`."""
    return f"at {'least' if clause.complement else 'most'} {amount(clause, clause.promised)}"


def whole_sentence(verdict: Verdict, clauses: Sequence[Clause], verdicts: Sequence[Verdict], confidence: float) -> str:
    """The first sentence of all."""
    names = ", ".join(clause_name(clause) for clause, own in zip(clauses, verdicts, strict=True) if own == verdict)
    return _WHOLE[verdict].format(names=names, confidence=f"{100 * confidence:g} %")


def clause_sentence(clause: Clause, verdict: Verdict, needed: Needed | None, confidence: float) -> str:
    """One clause: promised, measured, bounded, decided."""
    said = f"{clause_name(clause).capitalize()}: promised {promise(clause)}"
    value = clause.bad.value
    if value is None:
        return f"{said}; nothing to measure it on. {_taken(needed)}".strip()
    measured = f"measured {amount(clause, clause.told(value))} on {clause.bad.count:,} {clause.of}"
    if clause.key == "max_size_mb":
        return f"{said}, {measured.partition(' on ')[0]}: {verdict}."
    bad_end = clause.bad.lower(confidence) if verdict == "broken" else clause.bad.upper(confidence)
    lower = clause.complement != (verdict == "broken")
    bound = f"with {100 * confidence:g} % confidence {'at least' if lower else 'at most'} "
    end = amount(clause, clause.told(bad_end)) if bad_end != float("inf") else "no bound yet"
    return f"{said}, {measured}, {bound}{end}: {verdict}. {_taken(needed)}".strip()


def _taken(needed: Needed | None) -> str:
    if needed is None:
        return ""
    if needed.more is None:
        return "No reasonable number of images would settle it at this rate: it is too close to the limit."
    lead = "If the rate stays as observed" if needed.outcome == "broken" else "If it goes on like this"
    return f"{lead}, {needed.more:,} more {needed.of} would settle it ({needed.outcome})."
