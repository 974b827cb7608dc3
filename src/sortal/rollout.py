"""The story of `sortal rollout`: what stands beside the live classifier of a workspace, held against it by what both
answered and what people said, and what to type next.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sortal.core.errors import InputError
from sortal.core.report import Cell, Finding, Metric, Report, Table
from sortal.core.shares import wilson
from sortal.evaluate.compare.arms import Arm, Interval, Verdict, labels_needed, slower, unpaired_difference, verdict
from sortal.evaluate.compare.paired import PairedTest, difference_interval, images_needed, paired_test
from sortal.evaluate.compare.verdict import GAP, p_text, rounded
from sortal.workspace.arms import Answers, Rollout, agreed_labels, answers_of, last_rollouts
from sortal.workspace.folder import open_workspace

LATENCY_RATIO = 2.0
"""How many times slower than the live one the other may be at its median and 99th percentile."""
_LATEST = 20_000
"""Latencies that are looked at, the last ones."""
_FEWEST = 20
"""Labels of each arm, without which nothing is said about their shares."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One rollout held against the live classifier."""

    rollout: Rollout
    arms: tuple[Arm, Arm]
    """Live, other."""
    difference: Metric
    """Of accuracy, other minus live."""
    verdict: Verdict
    needed: int
    """Labels that are missing to show a gap of the margin."""
    agreement: Metric | None
    """The share of images for which both named the same class; None where they answered different ones."""
    test: PairedTest | None
    slow: str | None
    """Where it is surely slower than allowed."""


def rollout(workspace: str | Path, *, margin: float = GAP, confidence: float = 0.95) -> Report:
    """Hold the canary or shadow of a workspace, or the last one there was, against the live classifier.

    `margin` (0 to 1) is the difference in accuracy that matters: the number of labels is told for it, and `as good`
    means surely not worse by so much. Raises InputError where there never was a canary or shadow, or a number is wrong.
    """
    if not 0.0 < margin < 1.0:
        raise InputError("the margin lies between 0 and 1", received=f"{margin:g}", hint="--margin 1%")
    if not 0.5 < confidence < 1.0:
        raise InputError("the confidence must lie between 0.5 and 1", received=f"{confidence:g}")
    path = Path(workspace)
    with open_workspace(path, read_only=True) as opened:
        rollouts = last_rollouts(opened)
        if not rollouts:
            hint = f"sortal promote RUN {path} --canary 10%"
            raise InputError("there was never a canary or shadow", where=str(path), hint=hint)
        labels, disputed = agreed_labels(opened)
        judged = [_judged(one, *answers_of(opened, one), labels, margin, confidence) for one in rollouts]
    return _report(path, judged, disputed, margin, confidence)


def _judged(
    one: Rollout, live: Answers, other: Answers, labels: dict[str, str], margin: float, confidence: float
) -> Judged:
    if one.role == "shadow":
        return _paired(one, live, other, labels, margin, confidence)
    arms = _arm(live, labels), _arm(other, labels)
    gap, interval = unpaired_difference(*arms, confidence)
    wanted = labels_needed(*arms, margin, confidence=confidence)
    missing = sum(max(0, count - arm.right.size) for count, arm in zip(wanted, arms, strict=True))
    slow = slower(*arms, LATENCY_RATIO, confidence)
    return Judged(
        rollout=one,
        arms=arms,
        difference=_difference(gap, interval, min(arm.right.size for arm in arms)),
        verdict=verdict(interval, margin=margin, slow=slow is not None),
        needed=missing,
        agreement=None,
        test=None,
        slow=slow,
    )


def _paired(
    one: Rollout, live: Answers, other: Answers, labels: dict[str, str], margin: float, confidence: float
) -> Judged:
    """On images that both answered. How long a shadow takes says nothing: its workers stand back behind all others."""
    both = sorted({image for name, image in live.by_request.items() if other.by_request.get(name) == image})
    same = [live.by_image[image] == other.by_image[image] for image in both]
    known = [image for image in both if image in labels]
    right = [np.array([arm.by_image[image] == labels[image] for image in known], np.bool_) for arm in (live, other)]
    test = paired_test(right[0], right[1])
    interval = difference_interval(test, int(right[0].sum()), confidence)
    low, high = (float(end) for end in wilson(sum(same), len(same), confidence))
    share = sum(same) / len(same) if same else None
    return Judged(
        rollout=one,
        arms=(_arm(live, labels, right[0]), _arm(other, labels, right[1])),
        difference=_difference(test.difference, interval, test.n),
        verdict=_by_test(test, interval, margin, confidence),
        needed=max(0, images_needed(test, margin, confidence=confidence) - test.n),
        agreement=Metric(value=share, low=low, high=high, n=len(same)),
        test=test,
        slow=None,
    )


def _by_test(test: PairedTest, interval: Interval, margin: float, confidence: float) -> Verdict:
    """Better and worse by the exact test, which the interval nearly always follows; as good by the interval."""
    if test.p <= 1 - confidence and test.better != test.worse:
        return "better" if test.better > test.worse else "worse"
    return "as good" if interval[0] > -margin else "undecided"


def _arm(
    answers: Answers, labels: dict[str, str], right: np.ndarray[tuple[int], np.dtype[np.bool_]] | None = None
) -> Arm:
    own = [label == labels[image] for image, label in answers.by_image.items() if image in labels]
    return Arm(
        answers=answers.count,
        answered=answers.count - answers.abstained,
        milliseconds=np.array(answers.milliseconds[-_LATEST:], np.float64),
        right=np.array(own, np.bool_) if right is None else right,
    )


def _difference(value: float, interval: Interval, n: int) -> Metric:
    return Metric(value=value if n else None, low=interval[0] if n else None, high=interval[1] if n else None, n=n)


def _report(path: Path, judged: list[Judged], disputed: int, margin: float, confidence: float) -> Report:
    metrics: dict[str, Metric] = {}
    for one in judged:
        role = one.rollout.role
        metrics[f"{role}_accuracy_difference"] = one.difference
        metrics[f"{role}_labels_needed"] = Metric(value=float(one.needed))
        if one.agreement is not None:
            metrics[f"{role}_agreement"] = one.agreement
        if one.test is not None:
            metrics[f"{role}_p"] = Metric(value=one.test.p, n=one.test.units)
    first = judged[0]
    return Report(
        kind="rollout",
        subject=str(path),
        metrics=metrics,
        tables={"arms": _table(judged, confidence)},
        findings=tuple(_findings(judged, disputed, confidence)),
        body={
            "summary": [sentence for one in judged for sentence in _sentences(one, margin, confidence)],
            "verdicts": {one.rollout.role: one.verdict for one in judged},
            "bundles": {one.rollout.role: one.rollout.bundle for one in judged} | {"live": first.rollout.live},
            "margin": margin,
            "confidence": confidence,
            "next": list(dict.fromkeys(line for one in judged for line in _next(path, one))),
        },
    )


def _table(judged: list[Judged], confidence: float) -> Table:
    columns = ("arm", "bundle", "images", "answered", "p50_ms", "p99_ms", "labelled", "accuracy", "from", "to")
    rows = []
    for one in judged:
        names = (("live", one.rollout.live), (one.rollout.role, one.rollout.bundle))
        rows += [_row(name, bundle, arm, confidence) for (name, bundle), arm in zip(names, one.arms, strict=True)]
    return Table(columns=columns, rows=tuple(dict.fromkeys(rows)))


def _row(name: str, bundle: str, arm: Arm, confidence: float) -> tuple[Cell, ...]:
    n = arm.right.size
    low, high = (float(end) for end in wilson(arm.hits, n, confidence))
    p50, p99 = np.percentile(arm.milliseconds, [50, 99]).tolist() if arm.milliseconds.size else (None, None)
    times = [None if value is None else round(value, 1) for value in (p50, p99)]
    accuracy = (arm.hits / n, low, high) if n else (None, None, None)
    return (name, bundle[:12], arm.answers, arm.answered / arm.answers if arm.answers else None, *times, n, *accuracy)


def _sentences(one: Judged, margin: float, confidence: float) -> list[str]:
    role, gap, arms = one.rollout.role, one.difference, one.arms
    found = [f"{_VERDICTS[one.verdict].format(role=role, margin=_points(margin))}"]
    if gap.n:
        low, high = (100 * (end or 0.0) for end in (gap.low, gap.high))
        tested = "" if one.test is None else f", p = {p_text(one.test.p)}"
        counts = f"{arms[1].right.size:,} labelled images of the {role} and {arms[0].right.size:,} of the live one"
        found.append(
            f"Accuracy of the {role} minus that of the live one: {100 * (gap.value or 0.0):+.1f} points "
            f"({confidence:.0%} interval {low:.1f} to {high:.1f}{tested}), on {counts}."
        )
    else:
        found.append("Nobody has said yet what images of both show: POST /feedback.")
    if one.agreement is not None and one.agreement.n:
        share = 100 * (one.agreement.value or 0.0)
        found.append(f"Both named the same class for {share:.1f} % of {one.agreement.n:,} images.")
    if one.slow is not None:
        found.append(f"Its {one.slow} is surely more than {LATENCY_RATIO:g} times that of the live one.")
    if one.verdict == "undecided" and one.needed and gap.n:
        found.append(
            f"About {rounded(one.needed):,} more labelled images would very likely show a gap of {_points(margin)}."
        )
    if one.rollout.ended is not None:
        why = f": {one.rollout.note}." if one.rollout.note else "."
        found.append(f"It stood until {one.rollout.ended[:19].replace('T', ' ')} UTC{why}")
    return found


_VERDICTS: dict[Verdict, str] = {
    "better": "The {role} is better.",
    "worse": "The {role} is worse.",
    "as good": "The {role} is as good: surely not worse by {margin}.",
    "undecided": "Undecided about the {role}.",
}


def _points(margin: float) -> str:
    return f"{100 * margin:g} point{'' if margin == 0.01 else 's'}"


def _findings(judged: list[Judged], disputed: int, confidence: float) -> list[Finding]:
    found = []
    if disputed:
        message = f"People disagree about {disputed:,} images, which are left out."
        found.append(Finding(code="disputed_labels", severity="info", message=message))
    for one in judged:
        if one.rollout.role == "canary" and _uneven(*one.arms, confidence):
            message = "Images of one arm were labelled more often than those of the other."
            hint = "where people label what they doubt, label the same share of both arms: the comparison rests on it"
            found.append(Finding(code="uneven_labels", severity="warning", message=message, hint=hint))
    return found


def _uneven(live: Arm, other: Arm, confidence: float) -> bool:
    """Whether the share of labelled answers surely differs."""
    if min(arm.right.size for arm in (live, other)) < _FEWEST:
        return False
    ends = [wilson(arm.right.size, max(arm.answers, arm.right.size), confidence) for arm in (live, other)]
    (low_a, high_a), (low_b, high_b) = ends
    return float(low_a) > float(high_b) or float(low_b) > float(high_a)


def _next(path: Path, one: Judged) -> list[str]:
    bundle = path / "bundles" / one.rollout.bundle
    if one.verdict in ("better", "as good"):
        return [f"sortal promote {bundle} {path}"]
    if one.verdict == "worse":
        return [f"sortal rollback {path}"] if one.rollout.ended is None else [f"sortal journal {path}"]
    return [f"sortal rollout {path}   # again, with more labels"]
