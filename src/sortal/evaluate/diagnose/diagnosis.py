"""What is wrong with a training run, with the evidence, and the settings to type next.

The learning curves are judged by rules with numbers in them, gradients by `health`; what a run left behind is read by
`traces`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sortal.core.recipe import Recipe
from sortal.core.report import Cell, Finding, Metric, Report, Table
from sortal.data.statistics import UNEVEN_RATIO, imbalance_ratio
from sortal.evaluate.diagnose.health import (
    EXPLODING,
    GRADIENT_NORMS,
    diagnose_gradients,
    overfitting_finding,
    overfitting_remedies,
)
from sortal.evaluate.diagnose.traces import Row, Traces

RISE = 1.3
"""Validation loss at the end over its least from which a run overfits, where the training loss went on falling."""
_RISE_NATS = 0.1
STUCK = 0.6
"""Training loss as a share of that of guessing from which on a network is underfitting."""
_STUCK_ACCURACY = 0.9
STILL_FALLING = 0.03
"""Share by which the validation loss fell over the last quarter of epochs from which on a run was too short."""
_GRADIENT_SPIKE = 20.0
_WAITING = 0.4


@dataclass(frozen=True, kw_only=True)
class Symptom:
    """A fault with its evidence, and `key=value` settings that treat it, the likeliest first."""

    finding: Finding
    settings: tuple[str, ...] = ()


def diagnose(traces: Traces, *, subject: str) -> Report:
    """The faults of a run, worst first, each with settings; a healthy run says so, with the numbers looked at."""
    checks = (
        _unfinished,
        _diverged,
        _gradients,
        _overfitting,
        _underfitting,
        _too_short,
        _imbalance,
        _latency,
        _waiting,
    )
    found = [symptom for check in checks for symptom in check(traces)]
    order = {"error": 0, "warning": 1, "info": 2}
    found.sort(key=lambda symptom: order[symptom.finding.severity])
    rows = tuple((one.finding.code, setting) for one in found for setting in one.settings)
    command = _command(traces, found)
    return Report(
        kind="diagnosis",
        subject=subject,
        metrics=_looked_at(traces),
        tables={"remedies": Table(columns=("against", "setting"), rows=rows)} if rows else {},
        findings=tuple(one.finding for one in found),
        body={"summary": _summary(found), "command": command},
    )


def _unfinished(traces: Traces) -> list[Symptom]:
    if traces.finished:
        return []
    message = f"The run is not finished: {len(traces.history)} of {traces.plan.get('epochs', '?')} epochs are there."
    message += f" Its log ends with: {traces.ended}." if traces.ended else ""
    hint = "go on with: sortal train --resume RUN; what follows is about the part that is there"
    return [Symptom(finding=Finding(code="unfinished", severity="warning", message=message, hint=hint))]


def _diverged(traces: Traces) -> list[Symptom]:
    losses = [row.get("train_loss") for row in traces.history]
    broken = [
        number
        for number, loss in enumerate(losses, start=1)
        if "train_loss" in traces.history[number - 1] and loss is None
    ]
    guess = math.log(max(len(traces.train_counts), 2))
    if traces.ended is not None and "diverged" in traces.ended:
        message = f"Training broke down: {traces.ended.rpartition('training ')[2]}."
    elif broken:
        message = f"The training loss is no number from epoch {broken[0]} on: training broke down."
    elif (worst := max((loss for loss in losses if loss is not None), default=0.0)) > 3 * guess:
        message = f"The training loss reached {worst:.3g}, guessing has {guess:.2f}: the steps are too large."
    else:
        return []
    return [_symptom("diverged", "error", message, [*_smaller_steps(traces), "schedule.warmup=0.2", "optim.clip=1.0"])]


def _gradients(traces: Traces) -> list[Symptom]:
    found = []
    for finding in diagnose_gradients([_with_infinity(row) for row in traces.history]):
        settings = {
            "gradients_explode": [*_smaller_steps(traces), "optim.clip=1.0", "schedule.warmup=0.2"],
            "gradients_vanish": ["model=auto", "model.weights=auto"],
            "gradients_zero": ["train.precision=fp32", *_smaller_steps(traces)],
        }.get(finding.code, [])
        found.append(Symptom(finding=finding, settings=_changed(traces.recipe, settings)))
    norms = [row["grad_norm"] for row in traces.history if isinstance(row.get("grad_norm"), int | float)]
    if (
        not found
        and norms
        and (max(norms) > EXPLODING or max(norms) > _GRADIENT_SPIKE * max(float(np.median(norms)), 1.0))
    ):
        message = (
            f"Gradients explode: their norm reached {max(norms):.3g}, the median over epochs is {np.median(norms):.3g}."
        )
        found.append(_symptom("gradients_explode", "warning", message, [*_smaller_steps(traces), "optim.clip=1.0"]))
    return found


def _overfitting(traces: Traces) -> list[Symptom]:
    off = [setting for _, setting, active in overfitting_remedies(traces.recipe) if not active]
    probe = "gradient" not in traces.plan.get("stages", ())
    gap = None if probe else overfitting_finding(traces.history, traces.recipe)
    losses = [(row["val_loss"], row["train_loss"]) for row in _with(traces, "val_loss", "train_loss")]
    if gap is None and len(losses) >= 4:
        least = int(np.argmin([val for val, _ in losses]))
        (low, before), (last, now) = losses[least], losses[-1]
        if last > RISE * low and last - low > _RISE_NATS and now < before:
            message = (
                f"The network memorizes: validation loss rose from {low:.3f} (epoch {least + 1}) to {last:.3f} at the "
                f"end, while the training loss fell from {before:.3f} to {now:.3f}."
            )
            gap = Finding(code="overfitting", severity="warning", message=message)
    if gap is None:
        return []
    epochs = _best_epoch(traces)
    settings = [*off, *([f"train.epochs={epochs}"] if epochs else []), "augment.strength=1.5", "train.freeze=backbone"]
    return [Symptom(finding=gap.model_copy(update={"hint": _hint(settings)}), settings=tuple(settings))]


def _underfitting(traces: Traces) -> list[Symptom]:
    rows = _with(traces, "train_loss")
    if not traces.finished or not rows or len(traces.train_counts) < 2:
        return []
    loss, guess = float(rows[-1]["train_loss"]), math.log(len(traces.train_counts))
    accuracy = rows[-1].get("val_accuracy")
    if not math.isfinite(loss) or loss < STUCK * guess or (accuracy is not None and accuracy > _STUCK_ACCURACY):
        return []
    shown = "" if accuracy is None else f" and validation accuracy {accuracy:.1%}"
    message = (
        f"The network hardly learns: at the end the training loss is {loss:.2f} (guessing has {guess:.2f}){shown}; "
        "on training images as well as on others."
    )
    size = traces.plan.get("size") or [0]
    settings = [*_longer(traces), "model=auto", "train.freeze=none"]
    settings += [f"input.size={2 * int(size[0])}"] if 0 < int(size[0]) <= 112 else []
    lr = traces.plan.get("lr")
    asked = traces.recipe.optim.lr
    if isinstance(asked, float) and isinstance(lr, float) and lr < 1e-4:
        settings.insert(0, "optim.lr=auto")
    return [_symptom("underfitting", "warning", message, settings)]


def _too_short(traces: Traces) -> list[Symptom]:
    losses = [float(row["val_loss"]) for row in _with(traces, "val_loss")]
    told = []
    if traces.stopped == "time":
        told.append(f"the time budget ended it after {len(traces.history)} epochs")
    back = max(1, len(losses) // 4)
    if len(losses) >= 3 and min(losses) == losses[-1] and losses[-1 - back] > 0:
        fell = 1 - losses[-1] / losses[-1 - back]
        if fell > STILL_FALLING and losses[-1] > 0.05:
            told.append(
                f"the validation loss still fell by {fell:.0%} over the last {back} epochs, to {losses[-1]:.3f}"
            )
    if not told or not traces.finished or traces.stopped == "early":
        return []
    return [_symptom("too_short", "warning", f"Training was too short: {' and '.join(told)}.", _longer(traces))]


def _imbalance(traces: Traces) -> list[Symptom]:
    counts = {name: count for name, count in traces.train_counts.items() if count}
    if len(counts) < 2 or (ratio := imbalance_ratio(np.array(list(counts.values())))) < UNEVEN_RATIO:
        return []
    if traces.recipe.loss.imbalance != "none":
        return []
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    message = (
        f"Classes are unequal: “{most}” has {counts[most]:,} training images, “{least}” {counts[least]:,} "
        f"({ratio:.0f} times fewer), and no remedy is on."
    )
    worst = traces.metrics.get("worst_class_recall")
    if worst is not None and worst.value is not None:
        message += f" The weakest class has a recall of {worst.value:.1%}."
    return [_symptom("class_imbalance", "warning", message, ["loss.imbalance=auto", "train.metric=macro_accuracy"])]


def _latency(traces: Traces) -> list[Symptom]:
    if traces.limit_ms is None or traces.latency_ms is None or traces.latency_ms <= traces.limit_ms:
        return []
    message = (
        f"One image takes {traces.latency_ms:.1f} ms (99th percentile, from bytes to decision, on this machine), "
        f"the contract allows {traces.limit_ms:g} ms."
    )
    size = traces.plan.get("size") or [224]
    times = max(traces.latency_ms / traces.limit_ms, 1.0)
    smaller = max(32, int(int(size[0]) / math.sqrt(times) / 32) * 32)
    settings = [f"input.size={smaller}"] if smaller < int(size[0]) else []
    settings += ["model.views=single"] if traces.recipe.model.views != "single" else []
    return [_symptom("latency_above_contract", "error", message, [*settings, "preset=fast"])]


def _waiting(traces: Traces) -> list[Symptom]:
    rows = [row for row in traces.history if row.get("data_s") and row.get("epoch_s")]
    share = sum(row["data_s"] for row in rows) / sum(row["epoch_s"] for row in rows) if rows else 0.0
    if share < _WAITING:
        return []
    message = f"Training waited for images {share:.0%} of the time."
    workers = int(traces.plan.get("workers") or 1)
    return [_symptom("waits_for_images", "info", message, [f"train.workers={2 * workers}", "train.decode=fast"])]


def _symptom(
    code: str, severity: Literal["info", "warning", "error"], message: str, settings: Sequence[str]
) -> Symptom:
    known = tuple(dict.fromkeys(settings))
    return Symptom(finding=Finding(code=code, severity=severity, message=message, hint=_hint(known)), settings=known)


def _hint(settings: Sequence[str]) -> str:
    return f"type {' or '.join(settings)}" if settings else ""


def _smaller_steps(traces: Traces) -> list[str]:
    """A tenth of the rate, or the automatic one where a rate was asked for."""
    lr = traces.plan.get("lr")
    if traces.recipe.optim.lr != "auto":
        return ["optim.lr=auto"]
    return [f"optim.lr={lr / 10:.2g}"] if isinstance(lr, float) else []


def _longer(traces: Traces) -> list[str]:
    if traces.stopped == "time" and traces.recipe.train.time is not None:
        return [f"train.time={round(2 * traces.recipe.train.time)}"]
    epochs = int(traces.plan.get("epochs") or 0)
    return [f"train.epochs={2 * epochs}"] if epochs else ["train.epochs=20"]


def _changed(recipe: Recipe, settings: Sequence[str]) -> tuple[str, ...]:
    """Without settings that the recipe has already."""
    clip = f"optim.clip={recipe.optim.clip}"
    return tuple(setting for setting in dict.fromkeys(settings) if setting != clip)


def _with_infinity(row: Row) -> Row:
    """Norms that were no finite numbers are null in a file; here they are infinite again."""
    norms = row.get(GRADIENT_NORMS)
    if not isinstance(norms, dict):
        return row
    return {**row, GRADIENT_NORMS: {name: math.inf if norm is None else norm for name, norm in norms.items()}}


def _with(traces: Traces, *keys: str) -> list[Row]:
    return [row for row in traces.history if all(isinstance(row.get(key), int | float) for key in keys)]


def _best_epoch(traces: Traces) -> int | None:
    rows = _with(traces, "val_loss")
    if len(rows) < 4:
        return None
    best = int(np.argmin([row["val_loss"] for row in rows])) + 1
    return best if best < len(rows) else None


def _looked_at(traces: Traces) -> dict[str, Metric]:
    last = traces.history[-1]
    shown = ("train_loss", "val_loss", "train_accuracy", "val_accuracy", "val_macro_f1", "grad_norm")
    found = {name: Metric(value=float(last[name])) for name in shown if isinstance(last.get(name), int | float)}
    found["epochs"] = Metric(value=float(sum(1 for row in traces.history if row.get("epoch"))))
    if traces.latency_ms is not None:
        found["latency_p99_ms"] = Metric(value=traces.latency_ms)
    return found


def _summary(found: Sequence[Symptom]) -> list[str]:
    faults = [one for one in found if one.finding.severity != "info"]
    if not faults:
        return ["This run looks healthy: no overfitting, underfitting, unstable gradients, or too short a training."]
    return [f"{len(faults)} thing{'s' if len(faults) > 1 else ''} to treat; type one setting at a time."]


def _command(traces: Traces, found: Sequence[Symptom]) -> str | None:
    """The command line with the first setting of the worst fault."""
    settings: list[Cell] = [setting for one in found if one.finding.severity != "info" for setting in one.settings[:1]]
    if not settings:
        return None
    return f"sortal train {traces.source or 'IMAGES'} {settings[0]}"
