"""What some frames say together, and when a label begins and ends."""

from __future__ import annotations

import numpy as np
import pytest

from sortal.core.decision import DecisionSpec
from sortal.stream.episodes import Episodes
from sortal.stream.smoothing import Said, Smoother, Vote

NAMES = ["good", "crack", "dent"]
REJECTED, UNKNOWN = Said(state="rejected"), Said(state="unknown", label="good", probability=0.9)


def vote(*chances: float, threshold: float = 0.6) -> Vote:
    index = int(np.argmax(chances))
    state = "answered" if chances[index] >= threshold else "abstained"
    said = Said(state=state, label=NAMES[index], probability=chances[index])
    return Vote(said=said, probabilities=np.asarray(chances, np.float32))


GOOD, CRACK = vote(0.9, 0.05, 0.05), vote(0.05, 0.9, 0.05)


def smoother(kind: str, *, window: int = 4, switch: float = 0.6) -> Smoother:
    decision = DecisionSpec(threshold=0.6)
    return Smoother(kind, NAMES, decision, window=window, switch=switch)  # type: ignore[arg-type]


def test_nothing_is_smoothed_unless_asked() -> None:
    plain = smoother("none")
    assert [plain.add(one).name for one in (GOOD, CRACK, GOOD)] == ["good", "crack", "good"]


def test_the_mean_of_probabilities_passes_over_one_odd_frame_and_abstains_in_between() -> None:
    mean = smoother("mean")
    seen = [mean.add(one) for one in (GOOD, GOOD, GOOD, CRACK, GOOD, GOOD, CRACK, CRACK, CRACK, CRACK)]
    assert [one.name for one in seen] == [
        "good", "good", "good", "good", "good", "good", "abstained", "abstained", "crack", "crack",
    ]  # fmt: skip
    assert seen[3].probability == pytest.approx((3 * 0.9 + 0.05) / 4, abs=1e-6)


def test_unknown_and_rejected_frames_are_respected() -> None:
    mean = smoother("mean")
    strange, none = Vote(said=UNKNOWN, probabilities=np.asarray([0.9, 0.1, 0.0], np.float32)), Vote(said=REJECTED)
    assert mean.add(none).name == "rejected"
    assert mean.add(GOOD).name == "good"  # a rejected frame counts for nothing
    assert mean.add(strange).name == "good"
    assert mean.add(strange).name == "unknown"  # two of three
    assert [mean.add(none).name for _ in range(4)][-1] == "rejected"


def test_a_majority_holds_until_another_answer_has_its_share() -> None:
    majority = smoother("majority", window=5, switch=0.8)
    names = [majority.add(one).name for one in (GOOD, GOOD, CRACK, CRACK, CRACK, GOOD, CRACK, CRACK, CRACK, CRACK)]
    assert names == ["good"] * 6 + ["crack"] * 4
    flicker = smoother("majority", window=5, switch=0.8)
    assert {flicker.add(one).name for one in [GOOD, GOOD, *[CRACK, GOOD] * 20]} == {"good"}


def test_a_majority_says_how_large_it_is_and_unknown_frames_vote_for_unknown() -> None:
    majority = smoother("majority", window=4, switch=0.75)
    strange = Vote(said=UNKNOWN)
    seen = [majority.add(one) for one in (GOOD, strange, strange, strange, Vote(said=REJECTED))]
    assert [(one.state, one.name) for one in seen[:3]] == [("answered", "good")] * 3
    assert [one.probability for one in seen[:3]] == pytest.approx([1.0, 1 / 2, 1 / 3])
    assert [(one.state, one.name, one.label) for one in seen[3:]] == [("unknown", "unknown", "good")] * 2
    assert [one.probability for one in seen[3:]] == pytest.approx([3 / 4, 1.0])  # the rejected frame has no vote


def test_a_window_that_lost_what_it_held_takes_what_most_say() -> None:
    majority = smoother("majority", window=3, switch=1.0)
    names = [majority.add(one).name for one in (GOOD, CRACK, vote(0.05, 0.05, 0.9), vote(0.05, 0.05, 0.9))]
    assert names == ["good", "good", "good", "dent"]


def test_what_was_seen_before_a_loss_does_not_count() -> None:
    for kind in ("mean", "majority"):
        made = smoother(kind)
        for _ in range(4):
            made.add(GOOD)
        made.forget()
        assert made.add(CRACK).name == "crack"


def test_labels_begin_and_end_once() -> None:
    episodes = Episodes("line 4")

    def told(number: int) -> dict[str, object]:
        return {"time": f"t{number}", "frame": number, "state": "answered", "label": "x"}

    seen = []
    for number, name in enumerate(["good", "good", "crack", "crack", "crack", "lost", "good"]):
        seen += episodes.see(name, told(number), at_s=float(number))
    seen += episodes.end(told(9), at_s=9.0)
    assert [(change.began, change.name) for change in seen] == [
        (True, "good"), (False, "good"), (True, "crack"), (False, "crack"), (True, "lost"), (False, "lost"),
        (True, "good"), (False, "good"),
    ]  # fmt: skip
    crack = seen[3].record
    assert (crack["began"], crack["time"], crack["frames"], crack["seconds"]) == ("t2", "t5", 3, 3.0)
    assert "frames" not in seen[5].record
    assert episodes.end(told(9), at_s=9.0) == []
