"""Classifier: a bundle opened on an engine; images in, Predictions out. No torch.

    with open_classifier(Path("runs/photos-1")) as model:
        predictions = model.predict(["a.jpg", array, pil_image, image_bytes])

Arrays and Pillow images are taken as RGB (or grey), and every kind of input goes through the same decoding: EXIF
orientation is applied to paths, bytes and Pillow images alike. Preprocessing is the reference of `core.preprocess`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sortal.core.conformal import ConformalScores
from sortal.core.decision import DecisionSpec
from sortal.core.errors import BundleError
from sortal.core.labels import LabelSet
from sortal.core.predictions import Predictions, predictions_from_logits
from sortal.core.preprocess import Pixels, PreprocessSpec
from sortal.runtime.engines.opening import AUTO, default_engine, open_engine, ran_on
from sortal.runtime.engines.protocol import Engine, Outputs, answering
from sortal.runtime.feed import Batch, prepared_batches, single
from sortal.runtime.gathered import Gathered
from sortal.runtime.locate import locate
from sortal.runtime.metadata import ArtifactInfo, from_metadata
from sortal.runtime.network_input import (
    InputMemory,
    NetworkInput,
    network_input,
    takes_any_size,
    takes_floats,
    upright_input,
)
from sortal.runtime.sources import Images, Item, items_of
from sortal.runtime.threads import allowed_cpus

Progress = Callable[[int, int], None]
"""Called with (images finished, images in all)."""

_Run = Callable[[NetworkInput], Outputs]


class Classifier:
    """An opened classifier. Close it, or use it in a `with` block, to give its memory and threads back."""

    def __init__(self, engine: Engine, info: ArtifactInfo, *, threads: int, conformal: ConformalScores | None = None):
        self._engine = engine
        self._answers = answering(engine)
        self._resizes = takes_any_size(engine.metadata)
        self._info = info
        self._threads = threads
        self._conformal = conformal
        self._memory = InputMemory()
        self.network_s = 0.0
        """Seconds that the network has run so far, all in all."""

    @property
    def labels(self) -> LabelSet:
        """The classes, in the order of logits and probabilities."""
        return self._info.labels

    @property
    def preprocess(self) -> PreprocessSpec:
        """How pixels become the network's input."""
        return self._info.preprocess

    @property
    def decision(self) -> DecisionSpec:
        """How logits become an answer."""
        return self._info.decision

    @property
    def bundle_id(self) -> str:
        """Which bundle answers; every prediction carries it."""
        return self._info.bundle_id

    @property
    def engine(self) -> str:
        """The name of the engine that runs the network."""
        return self._engine.name

    @property
    def ran_on(self) -> str:
        """Who really computes, where another provider or delegate than the engine's own was asked for."""
        return ran_on(self._engine)

    @property
    def threads(self) -> int:
        """Threads that decode, and that the engine was given."""
        return self._threads

    def predict(self, images: Images, *, batch: int = 32, progress: Progress | None = None) -> Predictions:
        """Answers in the order of `images`: an ImageTable, paths, bytes, arrays (H, W, C) or Pillow images in RGB.

        A single path may be an image, a folder, a table or an archive. An image that cannot be read becomes a row
        with index -1 and an entry in `errors`. Raises DataError where a source of images cannot be opened.
        """
        items = items_of(images)
        gathered = Gathered(len(items), len(self.labels))
        if len(items) == 1:  # what a line asks all day is spared what only many images need
            only = single(items[0], self.preprocess, upright=self._resizes)
            gathered.add(only.rows, self._run(only, self._answers), only.errors)
            if progress is not None:
                progress(1, 1)
            return self._predictions(items, gathered)
        for rows, outputs, failed in self._stream(items, batch, progress, self._answers):
            gathered.add(rows, outputs, failed)
        return self._predictions(items, gathered)

    def predict_outputs(
        self, images: Images, *, batch: int = 32, progress: Progress | None = None
    ) -> tuple[Predictions, NDArray[np.float32]]:
        """As `predict`, with the embeddings (N, D) float32 beside; a row of NaN where the image could not be read."""
        items = items_of(images)
        gathered = Gathered(len(items), len(self.labels))
        embeddings = np.full((len(items), 0), np.nan, np.float32)
        for rows, outputs, failed in self._stream(items, batch, progress, self._engine.run):
            gathered.add(rows, outputs, failed)
            if outputs is None:
                continue
            if embeddings.shape[1] == 0:
                embeddings = np.full((len(items), outputs.embedding.shape[1]), np.nan, np.float32)
            embeddings[rows] = outputs.embedding
        return self._predictions(items, gathered), embeddings

    def predict_prepared(self, pixels: Pixels) -> Predictions:
        """Answers to pixels (N, height, width, channels) that have the network's size already."""
        outputs = self._run_prepared(pixels, self._answers)
        return predictions_from_logits(
            outputs.logits,
            names=[f"input[{row}]" for row in range(len(pixels))],
            labels=self.labels,
            decision=self.decision,
            bundle_id=self.bundle_id,
            unknown_score=outputs.unknown_score,
            conformal=self._conformal,
        )

    def network_input(self, pixels: Pixels) -> NetworkInput:
        """Prepared pixels (N, height, width, channels) as the graph takes them, normalized unless it does that."""
        return network_input(self.preprocess, pixels, self._engine.metadata)

    def run_network(self, batch: NetworkInput) -> Outputs:
        """The network alone, on a batch of `network_input`: for measuring it."""
        return self._engine.run(batch)

    def close(self) -> None:
        """Give memory and threads back; the classifier cannot be used afterwards."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _stream(
        self, items: Sequence[Item], batch: int, progress: Progress | None, run: _Run
    ) -> Iterator[tuple[list[int], Outputs | None, dict[int, tuple[str, str]]]]:
        """(rows, outputs of those rows or None where there are none, errors of other rows), batch by batch."""
        upright = self._resizes
        for part in prepared_batches(items, self.preprocess, batch=batch, workers=self._threads, upright=upright):
            yield list(part.rows), self._run(part, run), part.errors
            if progress is not None:
                progress(part.end, len(items))

    def _run(self, part: Batch, run: _Run) -> Outputs | None:
        if not part.rows:
            return None
        if self._resizes:
            outputs = self._timed(upright_input(part.pixels), run)
        else:
            outputs = self._run_prepared(part.pixels, run)
        expected = (len(part.rows), len(self.labels))
        if outputs.logits.shape != expected:
            raise BundleError(
                f"the model answers over another number of classes than the bundle's {len(self.labels)}",
                received=f"logits of shape {outputs.logits.shape}",
            )
        return outputs

    def _run_prepared(self, pixels: Pixels, run: _Run) -> Outputs:
        """The network on prepared pixels; normalized ones are written where those of the last batch were."""
        metadata = self._engine.metadata
        if not takes_floats(metadata):
            return self._timed(network_input(self.preprocess, pixels, metadata), run)
        memory = self._memory.lend(pixels)
        try:
            return self._timed(network_input(self.preprocess, pixels, metadata, out=memory[: len(pixels)]), run)
        finally:
            self._memory.give_back(memory)

    def _timed(self, batch: NetworkInput, run: _Run) -> Outputs:
        started_s = time.perf_counter()
        outputs = run(batch)
        self.network_s += time.perf_counter() - started_s
        return outputs

    def _predictions(self, items: Sequence[Item], gathered: Gathered) -> Predictions:
        return predictions_from_logits(
            gathered.logits,
            names=[item.name for item in items],
            labels=self.labels,
            decision=self.decision,
            bundle_id=self.bundle_id,
            errors=gathered.errors,
            unknown_score=gathered.unknown_score,
            conformal=self._conformal,
        )


def open_classifier(path: Path, *, engine: str = AUTO, threads: int | None = None) -> Classifier:
    """Open a run folder, a bundle, an artifact folder or a model file that Sortal wrote.

    `engine` is a name of `ENGINES`, with a variant where it has one (`onnxruntime:XnnpackExecutionProvider`); `auto`
    takes the one that the artifact's manifest names, else the first that opens such a file. `threads` defaults to the
    CPUs this process may use. Raises BundleError for anything damaged, altered or unknown, InputError for an unknown
    engine, MissingExtraError where the engine's package is not installed.
    """
    path, count = Path(path), threads or allowed_cpus()
    located = locate(path)
    name = engine
    if engine == AUTO:
        name = default_engine(located.model, stated=located.engine, exchangeable=located.is_float32)
    opened = open_engine(located.model, name, threads=count)
    info = located.info or from_metadata(opened.metadata, where=str(located.model))
    return Classifier(opened, info, threads=count, conformal=located.conformal)
