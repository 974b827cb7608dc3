"""The verbs a user calls, from Python or through the command line.

Each composes the packages below it and returns a Report (or, for `train`, a run; for `load_model`, a classifier).
Training needs the extra `train`; everything else here runs without torch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sortal.asked import as_path, as_table, need, recipe_of, subject_of, table_for
from sortal.core.progress import Listener, Silent

if TYPE_CHECKING:
    from sortal.benchmark.study import Asked as BenchmarkWish
    from sortal.build import TrainedRun
    from sortal.core.contract import Contract
    from sortal.core.predictions import Predictions
    from sortal.core.report import Report
    from sortal.data.synth.options import SynthOptions
    from sortal.data.table import ImageTable
    from sortal.runtime.choice import Wish as RuntimeWish
    from sortal.runtime.classifier import Classifier
    from sortal.runtime.sources import Images
    from sortal.separate import Wish


def images(
    source: str | Path | Sequence[str | Path],
    *,
    label: str = "label",
    group: str | None = None,
    level: str | None = None,
    boxes: str | None = None,
    margin: float = 0.0,
) -> ImageTable:
    """The images at `source`: class folders, a table, a list, annotations, an archive, arrays, or a sequence of paths.

    `label` is the label column of tables, `group` a column or a pattern over paths, `level` that of a taxonomy.
    Annotated boxes are crops grown by `margin`, or with `boxes` = `image` or `largest` classes of their images. Raises
    DataError that says what was found and what is expected.
    """
    from sortal.data.open import images as open_images

    return open_images(source, label=label, group=group, level=level, boxes=boxes, margin=margin)


def train(
    source: str | Path | Sequence[str | Path] | ImageTable,
    *,
    recipe: str | Path | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    out: str | Path = "runs",
    listener: Listener | None = None,
) -> TrainedRun:
    """Train a classifier and evaluate it on the test split (on validation where there is no test).

    `recipe` is a file or the name of one that comes with Sortal; `overrides` are `key=value` texts or a mapping of
    dotted keys. Raises InputError for a wrong recipe or wrong data, MachineError when the machine refuses.
    """
    started_s = time.monotonic()
    resolved = recipe_of(recipe, overrides)
    need("torch", "train")
    need("timm", "train")
    from sortal.build import build
    from sortal.memory import origin_of

    return build(
        table_for(source, resolved),
        resolved,
        out=Path(out),
        subject=subject_of(source),
        listener=listener or Silent(),
        started_s=started_s,
        origin=origin_of(source),
    )


def resume(
    run: str | Path | TrainedRun,
    *,
    source: ImageTable | None = None,
    allow_data_change: bool = False,
    listener: Listener | None = None,
) -> TrainedRun:
    """Go on with a run that was broken off, from its newest checkpoint, with the recipe and plan it began with.

    With the same images, machine and packages and no time budget, the weights are those of a run that was never broken
    off, to the bit. `source` is needed where the run was started with a table made in Python. Raises InputError where
    there is nothing to go on from, DataError where the images changed (unless allowed), MachineError when another
    process is writing the run.
    """
    started_s = time.monotonic()
    need("torch", "train")
    from sortal.core.run import take_run
    from sortal.core.team import leading

    with take_run(as_path(run), lock=leading()) as opened:
        from sortal.takeup import take_up  # imports torch: a run that is taken is refused before that

        return take_up(
            opened,
            source,
            allow_data_change=allow_data_change,
            listener=listener or Silent(),
            started_s=started_s,
        )


def reproduce(
    run: str | Path | TrainedRun,
    *,
    source: ImageTable | None = None,
    out: str | Path = "runs",
    listener: Listener | None = None,
) -> Report:
    """Train once more as a run did (its recipe, plan, images and split) and compare weights and numbers with it.

    The report's metric `same_weights` is 1 where all weights are equal to the bit. Raises DataError where the images
    are not the same ones any more.
    """
    started_s = time.monotonic()
    need("torch", "train")
    from sortal.core.run import open_run
    from sortal.takeup import do_again

    return do_again(open_run(as_path(run)), source, out=Path(out), listener=listener or Silent(), started_s=started_s)


def load_model(where: str | Path | TrainedRun, *, engine: str = "auto", threads: int | None = None) -> Classifier:
    """Open a run, a bundle, an artifact or a `model.onnx` for prediction. Raises BundleError when it was altered."""
    from sortal.runtime.classifier import open_classifier

    return open_classifier(as_path(where), engine=engine, threads=threads)


def predict(where: str | Path | TrainedRun, source: Images, *, engine: str = "auto") -> Predictions:
    """Answers to images: a table, a path, or a sequence of paths, bytes, arrays (RGB) and Pillow images."""
    with load_model(where, engine=engine) as model:
        return model.predict(source)


def evaluate(
    model: Classifier | str | Path | TrainedRun,
    source: str | Path | Sequence[str | Path] | ImageTable,
    *,
    out: str | Path | None = None,
    split: str | None = None,
    by: str | Sequence[str] = (),
    group: str | None = None,
    settings: Sequence[str] = (),
    engine: str = "auto",
    listener: Listener | None = None,
) -> Report:
    """Measure a classifier on labelled images and write the report, by default to `<run>/evaluations/<source>-N`.

    `split` picks one split of the source; without it the test split is taken where the source has one, else all of it.
    `by` are columns, such as camera or line, whose values are measured apart too, and two at once. `group` is a column
    or a pattern over row names: intervals then count groups. `settings` are `evaluate.key=value` and `contract=FILE`.
    Raises DataError when no image has a class that the classifier knows.
    """
    from sortal.evaluate.study import evaluate_source
    from sortal.runtime.classifier import Classifier

    return evaluate_source(
        model if isinstance(model, Classifier) else as_path(model),
        source,
        out=None if out is None else Path(out),
        split=split,
        by=[by] if isinstance(by, str) else by,
        group=group,
        settings=settings,
        engine=engine,
        listener=listener or Silent(),
    )


def certify(
    model: str | Path | TrainedRun,
    source: str | Path | Sequence[str | Path] | ImageTable,
    *,
    contract: str | Path | Contract | None = None,
    group: str | None = None,
    engine: str = "auto",
    out: str | Path | None = None,
    attach: bool = False,
    listener: Listener | None = None,
) -> Report:
    """Whether a contract is kept on images that the model never saw: `report.body["verdict"]`, clause by clause.

    `contract` is a file or a Contract, by default the one that the model was trained for; `group` a column or pattern
    that says which images belong together. The certificate goes to `<run>/certificates/<source>-N` unless `out` is
    given, with `attach` into the bundle too. Raises InputError for a wrong contract, DataError where images have no
    labels or were seen in training, validation or calibration.
    """
    from sortal.evaluate.certify.study import Asked, certify_source

    asked = Asked(
        contract=Path(contract) if isinstance(contract, str) else contract,
        group=group,
        engine=engine,
        out=None if out is None else Path(out),
        attach=attach,
    )
    return certify_source(as_path(model), source, asked=asked, listener=listener or Silent())


def compare(
    models: Sequence[str | Path | TrainedRun],
    source: str | Path | Sequence[str | Path] | ImageTable,
    *,
    by: str | Sequence[str] = (),
    group: str | None = None,
    out: str | Path | None = None,
    split: str | None = None,
    engine: str = "auto",
    confidence: float = 0.95,
    latency: bool = True,
    listener: Listener | None = None,
) -> Report:
    """Which of two or more models is better on the same labelled images, beyond chance, and what each of them costs.

    Every model is held against the first one, on the classes that all of them know. `by` names columns whose values are
    compared apart, `group` one that says which images belong together; `latency` measures each model on some of the
    images. The files go to `comparisons/<source>-N` unless `out` is given. Raises DataError where models or images have
    no class in common.
    """
    from sortal.evaluate.compare.study import Asked, compare_models

    asked = Asked(
        by=(by,) if isinstance(by, str) else tuple(by),
        group=group,
        split=split,
        engine=engine,
        confidence=confidence,
        latency=latency,
    )
    return compare_models(
        [as_path(model) for model in models],
        source,
        out=None if out is None else Path(out),
        asked=asked,
        listener=listener or Silent(),
    )


def explain(
    model: str | Path | TrainedRun,
    images: str | Path | Sequence[str | Path],
    *,
    class_name: str | None = None,
    out: str | Path | None = None,
    engine: str = "auto",
    listener: Listener | None = None,
) -> Report:
    """Why image files were answered as they were: saliency maps with their checks, runner-up, nearest training images.

    With `class_name` the maps show what speaks for that class. A page and a picture for each image go to
    `<run>/explanations/<run>-N` unless `out` is given. Maps by gradients need the extra `train`; all others do not.
    Raises ImageError for a file that cannot be read, DataError for an unknown class.
    """
    from sortal.explain import explain_images

    paths = [images] if isinstance(images, str | Path) else images
    return explain_images(
        as_path(model),
        [Path(path) for path in paths],
        class_name=class_name,
        out=None if out is None else Path(out),
        engine=engine,
        listener=listener or Silent(),
    )


def diagnose(run: str | Path | TrainedRun) -> Report:
    """What is wrong with a training run, with evidence, and the settings to type next; `sortal doctor RUN`.

    Names overfitting, underfitting, gradients that vanish or explode, too short a training, unequal classes, and a
    latency above the contract. Raises InputError for a folder that is no run or has no finished epoch.
    """
    from sortal.evaluate.diagnose.run_checkup import diagnose_run

    return diagnose_run(as_path(run))


def predict_files(
    where: str | Path | TrainedRun,
    source: str | Path | Sequence[str | Path] | ImageTable,
    *,
    out: str | Path = "predictions.csv",
    sort_into: str | Path | None = None,
    link: bool = False,
    engine: str = "auto",
    wish: RuntimeWish | None = None,
    sets: float | None = None,
    back_off: float | None = None,
    listener: Listener | None = None,
) -> Report:
    """Classify images into a file, and on request sort the images by answer. Unreadable images become findings.

    `wish` (a `sortal.runtime.choice.Wish`) says more than `engine` alone: threads, precision, and whether the quickest
    way is measured, which happens by itself from 1,000 images on.

    `sets`, a level such as 0.9, adds the column `set`: the classes that cannot be ruled out (see `Predictions.sets`).
    `back_off`, a probability such as 0.8, adds what is answered where the family stands in for an unsure class.
    """
    from sortal.runtime.answers import answer_files
    from sortal.runtime.choice import Wish

    return answer_files(
        as_path(where),
        as_table(source),
        out=Path(out),
        sort_into=None if sort_into is None else Path(sort_into),
        link=link,
        wish=wish or Wish(engine=engine),
        sets=sets,
        back_off=back_off,
        listener=listener or Silent(),
    )


def import_model(
    model: str | Path,
    *,
    labels: str | Path | None = None,
    preprocess: str | Path | None = None,
    licence: str | None = None,
    out: str | Path | None = None,
) -> Report:
    """Turn a classifier from elsewhere into a bundle: an ONNX file, or a model folder of the Hugging Face hub's format.

    `labels` has one class name a line, `preprocess` the fields of PreprocessSpec; a folder says both itself. Needs the
    extra `train`. Raises InputError when they do not fit the model, BundleError when it cannot be a classifier.
    """
    need("onnx", "train")
    from sortal.core.run import new_run
    from sortal.export.elsewhere import import_any

    source = Path(model)
    names, steps = (None if given is None else Path(given) for given in (labels, preprocess))
    if out is not None:
        return import_any(source, labels=names, preprocess=steps, out=Path(out), licence=licence)
    with new_run(Path("runs"), source.stem) as run:
        try:
            return import_any(source, labels=names, preprocess=steps, out=run.bundle, licence=licence)
        except BaseException:
            run.discard()
            raise


def calibrate(
    where: str | Path | TrainedRun,
    source: str | Path | Sequence[str | Path] | ImageTable,
    *,
    contract: str | Path | Contract | None = None,
    out: str | Path | None = None,
    listener: Listener | None = None,
) -> Report:
    """Fit the decision of a run or bundle anew on labelled images of their own; writes a new run with a new bundle.

    Temperature, bias, and thresholds for `contract` (a file; the bundle's own by default). Needs the extra `train` for
    its ONNX tools. Raises DataError that names images which the classifier has seen.
    """
    need("onnx", "train")
    from sortal.core.bundle import open_bundle
    from sortal.core.contract import load_contract
    from sortal.core.recipe import Recipe
    from sortal.recalibrate import recalibrate

    path = as_path(where)
    bundle = open_bundle(path / "bundle" if (path / "bundle").is_dir() else path)
    wanted = load_contract(Path(contract)) if isinstance(contract, str | Path) else contract
    return recalibrate(
        path,
        table_for(source, bundle.recipe or Recipe()),
        contract=wanted,
        out=None if out is None else Path(out),
        listener=listener or Silent(),
    )


def export(
    where: str | Path | TrainedRun,
    to: Sequence[str],
    *,
    images: Images | None = None,
    count: int = 64,
    replace: bool = False,
    time_limit_s: float = 900.0,
    listener: Listener | None = None,
) -> Report:
    """Write deployment artifacts (`onnx-uint8`, `openvino`, ...) into the bundle of a run, each checked on real images.

    Up to `count` images are the run's own validation and training images where they are still there, else `images`. An
    artifact that decides otherwise than the original raises BundleError, which names the stage where they part;
    `time_limit_s` is for each conversion. The bundle is then as it was. Needs the extra `train` for its ONNX tools.
    """
    need("onnx", "train")
    from sortal.export.story import export_artifacts

    return export_artifacts(
        as_path(where),
        [to] if isinstance(to, str) else to,
        images=images,
        count=count,
        replace=replace,
        time_limit_s=time_limit_s,
        listener=listener or Silent(),
    )


def compress(
    where: str | Path | TrainedRun,
    source: str | Path | Sequence[str | Path] | ImageTable | None = None,
    *,
    settings: Sequence[str] = (),
    out: str | Path | None = None,
    listener: Listener | None = None,
) -> Report:
    """Make a smaller, faster int8 of a run or bundle within a budget of accuracy: `report.body["verdict"]`.

    `settings` are `compress.key=value` and `contract=FILE`. Ranges come from the run's training images and the verdict
    from its validation images, or both from `source`. What passes becomes the artifact `onnx-int8` (`openvino-int8`
    too) of the bundle, or of a new one at `out`. Needs the extra `train` for its ONNX tools. Raises InputError for
    images that are gone, DataError for too few or other ones, BundleError for an altered bundle.
    """
    need("onnx", "train")
    from sortal.compress.study import compress_model
    from sortal.evaluate.asked import asked_recipe
    from sortal.evaluate.compare.sides import bundle_of

    path = as_path(where)
    bundle = bundle_of(path)
    return compress_model(
        path,
        source,
        recipe=asked_recipe(None if bundle is None else bundle.recipe, settings, own="compress"),
        out=None if out is None else Path(out),
        listener=listener or Silent(),
    )


def benchmark(
    where: str | Path | TrainedRun, *, asked: BenchmarkWish | None = None, listener: Listener | None = None
) -> Report:
    """Measure every artifact of a run or bundle on every engine that opens it, each in a process of its own.

    `asked` (a `sortal.benchmark.study.Asked`) names images, artifacts, engines and times. Size, time with intervals,
    memory, and accuracy and flips on labelled images: the run's validation images unless others are named. Raises
    BundleError for an altered bundle, InputError for unknown artifacts or engines, DataError for images of other
    classes; what an artifact does wrong is a row of the report.
    """
    from sortal.benchmark.study import Asked, benchmark_model

    return benchmark_model(as_path(where), asked or Asked(), listener=listener or Silent())


def audit(
    source: str | Path | Sequence[str | Path] | ImageTable,
    *,
    model: str | Path | TrainedRun | None = None,
    out: str | Path | None = None,
    features: str = "auto",
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    label: str = "label",
    group: str | None = None,
    thumbnails: bool = True,
    listener: Listener | None = None,
) -> Report:
    """What is wrong with images, most important first; page, list and plan of repair go to `audits/<source>-N`.

    `features` is `auto` (a weights card where one is at hand), `none`, or a card; `model` a run or bundle to see the
    images through instead. `only` and `skip` name checks. Nothing is changed. Raises DataError for a source that cannot
    be read, InputError for an unknown check.
    """
    from sortal.audit import Wish, audit_table

    wish = Wish(
        model=None if model is None else as_path(model),
        features=features,
        only=tuple(only),
        skip=tuple(skip),
        thumbnails=thumbnails,
    )
    return audit_table(
        as_table(source, label=label, group=group),
        wish=wish,
        out=None if out is None else Path(out),
        subject=subject_of(source),
        listener=listener or Silent(),
    )


def split(
    source: str | Path | Sequence[str | Path] | ImageTable,
    out: str | Path = "split.csv",
    *,
    wish: Wish | None = None,
    model: str | Path | TrainedRun | None = None,
    label: str = "label",
    listener: Listener | None = None,
) -> Report:
    """Divide images so that nothing leaks, and write the split file that `data.split.file` takes.

    Identical files, near duplicates, bursts and groups stay together; `wish` (a `sortal.separate.Wish`) says how much
    goes where, `model` is a run or bundle whose features show scenes that repeat. A locked file that is there is grown,
    any other replaced. Raises DataError for a source that cannot be divided.
    """
    from sortal.separate import separate

    return separate(
        as_table(source, label=label),
        Path(out),
        wish=wish,
        model=None if model is None else as_path(model),
        listener=listener or Silent(),
    )


def synthesize(out: str | Path, *, listener: Listener | None = None, options: SynthOptions | None = None) -> Report:
    """Draw images of mechanical parts into a new folder. Raises InputError for options out of range."""
    from sortal.data.synth.options import SynthOptions
    from sortal.data.synth.report import draw_report

    said = listener or Silent()
    return draw_report(
        Path(out), options or SynthOptions(), progress=lambda done, all: said.progress("drawing", done, all)
    )


def show(where: str | Path | TrainedRun) -> Report:
    """What a run, bundle or artifact is: model, classes, numbers, files, licence."""
    from sortal.runtime.describe import describe

    return describe(as_path(where))
