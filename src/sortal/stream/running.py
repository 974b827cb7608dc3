"""A stream that runs: workers ready, a camera watched, every frame answered, and an end that leaves nothing behind.

At the end (Ctrl-C, SIGTERM, `--frames`, `--seconds`, the end of a file, nobody reading any more) the capture is killed,
frames that were taken get their results, episodes end, outputs go off, and then the workers go.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace

from sortal.core.decision import DecisionSpec
from sortal.core.errors import MachineError
from sortal.stream.actions import Action, check_names, close_all, deed_of, wanted
from sortal.stream.camera import CONNECTING, Camera
from sortal.stream.frame import Counts, Frame
from sortal.stream.line import Line
from sortal.stream.log import Told
from sortal.stream.memory import new_memory
from sortal.stream.meter import Meter, used
from sortal.stream.outlet import Outlet, outlet_to
from sortal.stream.recording import Recording
from sortal.stream.results import TOP, Results
from sortal.stream.settings import StreamSettings
from sortal.stream.sizes import Sizes
from sortal.stream.smoothing import Smoother
from sortal.stream.sources.address import Named
from sortal.stream.wish import Done, Wish

SHOW_S = 0.5
_FLUSH_S = 2.0
_END = "end of the source"
_TOLD = ("bundle_id", "engine", "input")
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""What asks for the end; a terminal that is closed sends SIGHUP, too, which `nohup` has ignored."""


class Running:
    """One camera and one task."""

    def __init__(
        self,
        wish: Wish,
        source: Named,
        settings: StreamSettings,
        decision: DecisionSpec,
        log: Told,
        show: Callable[[str], None],
    ):
        self._wish, self._source, self._settings, self._log, self._show = wish, source, settings, log, show
        self._decision = decision
        self._live = source.source.live if wish.live is None else wish.live
        self._name = wish.camera or source.shown
        self._ending, self._hurry, self._why = asyncio.Event(), asyncio.Event(), "interrupted"
        self._meter = Meter()
        self._sizes = Sizes([wish.model, *wish.smaller], settings, live=self._live, log=log)
        self._recording: Recording | None = None

    async def run(self) -> Done:
        """Until it ends. Raises MachineError where workers do not start or a file is lost."""
        loop = asyncio.get_running_loop()
        with_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        heard = _SIGNALS if with_nohup else (*_SIGNALS, signal.SIGHUP)
        for number in heard:
            loop.add_signal_handler(number, self._interrupted)
        try:
            is_ready = await self._workers_are_ready()
            done = await self._answer() if is_ready else self._done(Counts(), None, None, [])
        finally:
            await self._sizes.stop()
            for number in heard:
                loop.remove_signal_handler(number)
        return replace(done, numbers=done.numbers | used())

    def _interrupted(self) -> None:
        """Once: end in order. Twice: end now."""
        if self._ending.is_set():
            self._hurry.set()
        self._end("interrupted")

    @property
    def _is_complete(self) -> bool:
        """Whether a file or folder came to its end, all of whose results are wanted."""
        return not self._live and self._why == _END

    def _end(self, why: str) -> None:
        if not self._ending.is_set():
            self._why = why
            self._ending.set()

    async def _workers_are_ready(self) -> bool:
        """False where the stream was ended before."""
        starting, ending = asyncio.create_task(self._sizes.start()), asyncio.create_task(self._ending.wait())
        await asyncio.wait({starting, ending}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return False
        await starting
        told = self._sizes.current.description
        self._log({"event": "ready", "workers": self._settings.workers} | {key: told[key] for key in _TOLD})
        return True

    async def _answer(self) -> Done:
        actions: list[Action] = []
        memory = new_memory(self._settings.slots, int(self._settings.frame_mb * 2**20))
        outlet = outlet_to(self._wish.out)
        try:
            actions += self._actions()
            results = self._results(outlet, actions)
            camera = Camera(self._source, live=self._live, memory=memory, settings=self._settings, log=self._log)
            line = Line(
                self._sizes,
                memory,
                self._settings,
                live=self._live,
                top=TOP,
                free=camera.free,
                decided=lambda frame: self._decided(results, frame),
                keeps_up=lambda: self._live or not outlet.is_full,
            )
            lost = await self._until_the_end(camera, line, results, outlet)
            results.end()
        finally:
            await asyncio.to_thread(self._close, outlet, actions)
            memory.close()
        if lost:
            raise MachineError(lost, where=self._source.shown)
        if (outlet.trouble or outlet.dropped) and not self._live and not outlet.is_broken:
            where = None if self._wish.out is None else str(self._wish.out)
            why = outlet.trouble or f"{outlet.dropped:,} lines were lost"
            raise MachineError(f"not all results could be written: {why}", where=where)
        return self._done(line.counts, camera, outlet, actions)

    def _actions(self) -> list[Action]:
        typed = [wanted(text) for text in self._wish.on_label]
        check_names(typed, self._sizes.labels)
        return [Action(one.name, deed_of(one), self._log) for one in typed]

    def _results(self, outlet: Outlet, actions: list[Action]) -> Results:
        labels, settings = self._sizes.labels, self._settings
        if self._wish.record is not None:
            self._recording = Recording(
                self._wish.record, what=self._wish.record_what, most_mb=self._wish.record_mb, log=self._log
            )
        return Results(
            self._name,
            labels,
            str(self._sizes.current.description["bundle_id"]),
            smoother=Smoother(
                settings.smooth,
                labels,
                self._decision,
                window=settings.window,
                switch=settings.switch,
            ),
            outlet=outlet,
            only=self._wish.only,
            actions=actions,
            recording=self._recording,
            meter=self._meter,
        )

    def _decided(self, results: Results, frame: Frame) -> None:
        if self._wish.frames is not None and self._meter.frames >= self._wish.frames:
            return
        results.decided(frame)
        if self._wish.frames is not None and self._meter.frames >= self._wish.frames:
            self._end("frames")

    async def _until_the_end(self, camera: Camera, line: Line, results: Results, outlet: Outlet) -> str | None:
        """Run until something ends the stream; returns what went wrong with a file."""
        line.start()
        self._log({"event": "started", "camera": self._name, "live": self._live})
        capturing = asyncio.create_task(camera.run(_Taken(line, results), once=self._wish.once))
        watching = asyncio.create_task(self._watch(camera, line, outlet))
        capturing.add_done_callback(lambda _: self._end(_END))
        try:
            async with asyncio.timeout(self._wish.seconds):
                await self._ending.wait()
        except TimeoutError:
            self._end("seconds")
        watching.cancel()
        lost = capturing.result() if capturing.done() else None
        capturing.cancel()
        await asyncio.gather(capturing, watching, return_exceptions=True)
        await self._drain(line)
        await line.stop()
        return None if lost is None else self._source.scrubbed(lost.what)

    async def _drain(self, line: Line) -> None:
        """Wait for the results of frames that were taken, unless somebody is in a hurry."""
        waits = {asyncio.create_task(line.drain()), asyncio.create_task(self._hurry.wait())}
        limit_s = None if self._is_complete else self._settings.drain_s
        await asyncio.wait(waits, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    async def _watch(self, camera: Camera, line: Line, outlet: Outlet) -> None:
        deaths, trouble, refused = self._sizes.deaths, "", ""
        while True:
            await asyncio.sleep(SHOW_S)
            self._show(self._meter.line(line.counts, camera.state))
            if self._sizes.deaths > deaths:
                deaths = self._sizes.deaths
                self._log({"event": "worker died", "deaths": deaths})
            if self._sizes.trouble != trouble:
                trouble = self._sizes.trouble
                self._log({"event": "worker trouble" if trouble else "worker trouble over", "message": trouble})
            if outlet.trouble != refused:
                refused = outlet.trouble
                self._log({"event": "results not written" if refused else "results written again", "message": refused})
            if outlet.is_broken:
                self._end("nobody reads the results")

    def _close(self, outlet: Outlet, actions: list[Action]) -> None:
        soon_s, late_s = (0.1, 0.1) if self._hurry.is_set() else (_FLUSH_S, self._settings.drain_s)
        close_all(actions, soon_s)
        if self._recording is not None:
            self._recording.close(late_s)
        while not outlet.close(soon_s if self._live else late_s) and self._is_complete and not self._hurry.is_set():
            pass  # a slow reader gets the whole result of a file, however long it takes

    def _done(self, counts: Counts, camera: Camera | None, outlet: Outlet | None, actions: Sequence[Action]) -> Done:
        numbers = self._meter.numbers(counts)
        numbers["workers_died"] = self._sizes.deaths
        if camera is not None and outlet is not None:
            numbers |= {"camera_starts": camera.starts, "camera_lost": camera.losses, "lines_dropped": outlet.dropped}
        if actions:
            numbers["actions"] = [action.counts for action in actions]
        if self._recording is not None:
            numbers |= {"recorded": self._recording.kept, "not_recorded": self._recording.lost}
        table = self._recording.table if self._recording is not None and self._recording.kept else None
        return Done(why=self._why, numbers=numbers, table=table)


class _Taken:
    """What the camera hands over goes to the line, and its state to the results."""

    def __init__(self, line: Line, results: Results):
        self._line, self._results = line, results
        self._told = ""
        self.take, self.skip = line.take, line.skip

    @property
    def has_room(self) -> bool:
        """As the line says."""
        return self._line.has_room

    def state_changed(self, state: str, reason: str) -> None:
        """Told in order, to whoever reads results; trying again is in the log only."""
        if state not in (CONNECTING, self._told):
            self._told = state
            self._line.after_these(lambda: self._results.camera_state(state, reason))
