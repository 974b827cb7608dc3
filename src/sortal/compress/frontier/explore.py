"""Make the candidates of a frontier: cheap ones first, none that cannot finish in time, none from what failed already.

Input sizes first, downwards, until one loses more than the budget for certain; then int8 of every size within the
budget, the smallest input first, since it costs least; then cut networks at those sizes, the smaller share first, each
followed by its int8. What was made by an earlier command is taken as it lies.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sortal.compress.frontier.candidate import (
    BUNDLE,
    Candidate,
    Record,
    read_candidate,
    write_answers,
    write_record,
)
from sortal.compress.frontier.clock import Clock
from sortal.compress.frontier.ground import Ground
from sortal.compress.frontier.steps import Made, Refusal, Step
from sortal.compress.frontier.wish import Wish
from sortal.compress.judge import Price, answer, price
from sortal.compress.pricing import Budget
from sortal.core.bundle import Bundle, open_bundle
from sortal.core.errors import InternalError
from sortal.core.predictions import Predictions
from sortal.core.publish import publish_folder
from sortal.runtime.engines import ENGINES
from sortal.runtime.engines.protocol import Engine
from sortal.runtime.locate import locate
from sortal.runtime.threads import allowed_cpus


@dataclass(kw_only=True)
class Explored:
    """What came of it, in the order tried."""

    candidates: list[Candidate] = field(default_factory=list)
    prices: dict[Wish, Price] = field(default_factory=dict)
    """Of those that were made, against the network as it is."""
    skipped: list[tuple[Wish, str]] = field(default_factory=list)
    """What was not tried, and why."""
    interrupted: bool = False

    def find(self, wish: Wish) -> Candidate | None:
        """The candidate of a wish, None where it was not made."""
        return next((one for one in self.candidates if one.wish == wish and one.made), None)


class Explorer:
    """Candidates under `folder`, made by `steps` (kind -> function); `run` fills `explored`."""

    def __init__(
        self,
        ground: Ground,
        folder: Path,
        *,
        steps: Mapping[str, Step],
        sides: tuple[int, ...],
        cuts: tuple[float, ...],
        budget: Budget,
        clock: Clock,
    ):
        self._ground, self._folder, self._steps = ground, folder, steps
        self._sides, self._cuts, self._budget, self._clock = sides, cuts, budget, clock
        self.explored = Explored()

    def run(self) -> Explored:
        """Try everything that fits into the time. An interruption ends it, and what is there counts."""
        try:
            self._tour()
        except KeyboardInterrupt:
            self.explored.interrupted = True
            self._ground.listener.say("interrupted: the report is about what was finished")
        return self.explored

    def _tour(self) -> None:
        own = self._ground.own
        if self._made(own) is None:
            return
        for side in self._sides[1:]:
            wish = Wish(side=side)
            if self._made(wish) is not None and self._certainly_too_dear(wish):
                smaller = [Wish(side=other) for other in self._sides if other < side]
                self.explored.skipped += [(one, f"{wish.name} loses more than the budget already") for one in smaller]
                break
        kept = [side for side in sorted(self._sides) if self._within(Wish(side=side))]
        for side in kept:
            self._made(Wish(side=side, precision="int8"))
        for wish in self._cut_wishes(kept):
            if self._made(wish) is not None and self._within(wish):
                self._made(Wish(side=wish.side, cut=wish.cut, precision="int8"))

    def _cut_wishes(self, sides: list[int]) -> Iterator[Wish]:
        """Cut networks, size by size; a larger share only where the smaller one is within the budget."""
        if "cut" not in self._steps:
            return
        for side in sides:
            for cut in self._cuts:
                wish = Wish(side=side, cut=cut)
                yield wish
                if not self._within(wish):
                    why = "is not within the budget" if wish in self.explored.prices else "was not made"
                    rest = [Wish(side=side, cut=other) for other in self._cuts if other > cut]
                    self.explored.skipped += [(one, f"{wish.name} {why}") for one in rest]
                    break

    def _made(self, wish: Wish) -> Candidate | None:
        """The candidate of a wish, made now or before; None where that is not possible or not in time."""
        known = read_candidate(self._folder / wish.folder, self._ground.bundle.path, self._ground.key(wish))
        if known is None:
            forbidden = "" if wish == self._ground.own else self._clock.forbids(wish)
            if forbidden:
                self.explored.skipped.append((wish, forbidden))
                self._ground.listener.say(f"{wish.name}: not tried, it {forbidden}")
                return None
            known = self._make(wish)
        else:
            self._ground.listener.say(f"{wish.name}: made before")
        self._clock.learn(wish, known.record.seconds)
        self.explored.candidates.append(known)
        if not known.made:
            self._ground.listener.say(f"{wish.name}: {known.record.refused}")
            return None
        self.explored.prices[wish] = self._price(known)
        return known

    def _make(self, wish: Wish) -> Candidate:
        self._ground.listener.say(f"{wish.name}: trying")
        begun_s = time.monotonic()

        def fill(folder: Path) -> None:
            made, bundle = self._step(wish, folder)
            if isinstance(made, Refusal):
                for leftover in folder.iterdir():
                    shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
                write_record(folder, self._record(wish, begun_s, refused=made.why))
                return
            write_answers(folder, self._answers(bundle, made))
            write_record(folder, self._record(wish, begun_s, made=made))

        folder = publish_folder(self._folder / wish.folder, fill, replace=True)
        found = read_candidate(folder, self._ground.bundle.path, self._ground.key(wish))
        if found is None:
            raise InternalError("a candidate is gone that was just put in place", where=str(folder))
        return found

    def _step(self, wish: Wish, folder: Path) -> tuple[Made | Refusal, Bundle]:
        """Run the step of a wish on its parent, which was made before; the network as it is may be there already."""
        own = self._ground.bundle
        if wish == self._ground.own and not self._ground.remade:
            return Made(), own
        whole = wish.kind == "size"
        parent = None if whole else self.explored.find(wish.parent)
        made = self._steps[wish.kind](self._ground, wish, own if parent is None else parent.bundle(), folder)
        return made, own if isinstance(made, Refusal) else open_bundle(folder / BUNDLE)

    def _record(self, wish: Wish, begun_s: float, *, made: Made | None = None, refused: str = "") -> Record:
        return Record(
            side=wish.side,
            cut=wish.cut,
            precision=wish.precision,
            key=self._ground.key(wish),
            seconds=time.monotonic() - begun_s,
            artifact="" if made is None else made.artifact,
            engine="" if made is None else made.engine,
            refused=refused,
            notes=() if made is None else made.notes,
        )

    def _answers(self, bundle: Bundle, made: Made) -> Predictions:
        path = locate(bundle.artifact(made.artifact)).model
        engine: Engine = ENGINES.get(made.engine).open(path, threads=allowed_cpus())
        try:
            return answer(engine, bundle, self._ground.material(bundle).judged)
        finally:
            engine.close()

    def _price(self, one: Candidate) -> Price:
        truth, own = self._ground.truth, self.explored.candidates[0]
        sizes = tuple(each.model.stat().st_size for each in (own, one))
        return price(
            own.answers(truth), one.answers(truth), truth, contract=self._budget.contract, sizes=(sizes[0], sizes[1])
        )

    def _within(self, wish: Wish) -> bool:
        cost = self.explored.prices.get(wish)
        return cost is not None and self._budget.holds(cost)

    def _certainly_too_dear(self, wish: Wish) -> bool:
        """Whether even the friendlier end of the interval of its drop is above the budget."""
        low = self.explored.prices[wish].accuracy_drop.low
        return low is not None and low > self._budget.max_drop
