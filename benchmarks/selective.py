"""How often a promised error is broken, and how many images are answered: re-splits of real test images by group.

    python benchmarks/dump_logits.py RUN IMAGES logits.npz        # once, with a run of the identity decision
    python benchmarks/selective.py logits.npz [--max-error 0.02] [--repeats 20] [--netcal temperatures.json]

The test images are divided 20 times into halves that share no group; calibration and threshold are fitted on one half,
coverage and error read off the other. Beside ours stands a threshold on the maximum softmax probability of the logits
as they are, with the same tests. Then the official split: fitted on validation images, read off the test list, which is
what a shift between the two does. And the calibration error of the test list before and after, beside a temperature by
SciPy and, where a file of it is given, by netcal.

Groups are scenes: images whose embeddings are nearer to each other than `--alike` (cosine), joined in chains, within a
class. Without groups in the data this is what keeps pictures of one shelf together.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import binom

from sortal.core.contract import Contract
from sortal.core.decision import DecisionSpec, decide, probabilities
from sortal.core.labels import LabelSet
from sortal.decide import fit_decision
from sortal.evaluate.trust.calibration import calibrate, fit_temperature
from sortal.evaluate.trust.reliability import reliability
from sortal.evaluate.trust.risk_coverage import risk_coverage
from sortal.evaluate.trust.selection import Sighted, fit_thresholds


@dataclass(frozen=True, kw_only=True)
class Images:
    """One list of images."""

    logits: np.ndarray
    labels: np.ndarray
    groups: np.ndarray

    def part(self, rows: np.ndarray) -> Images:
        """Some of them."""
        return Images(logits=self.logits[rows], labels=self.labels[rows], groups=self.groups[rows])


def read(path: Path, split: str, alike: float) -> Images:
    """A split of the file of logits."""
    data = np.load(path)
    labels = data[f"{split}_labels"]
    groups = scenes(data[f"{split}_embeddings"].astype(np.float32), labels, alike)
    return Images(logits=data[f"{split}_logits"], labels=labels, groups=groups)


def scenes(embeddings: np.ndarray, labels: np.ndarray, alike: float) -> np.ndarray:
    """(N,) lowest row of each chain of images of one class whose centered embeddings have a cosine above `alike`."""
    unit = embeddings - embeddings.mean(axis=0)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    found = np.arange(len(unit))
    joined = (unit @ unit.T > alike) & (labels[:, None] == labels[None, :])
    for _ in range(50):
        lowest = np.array([found[row].min() for row in joined])
        if np.array_equal(lowest, found):
            break
        found = lowest
    return found


def halves(groups: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two halves without a common group."""
    names, place = np.unique(groups, return_inverse=True)
    first = random.permutation(len(names))[place] < len(names) / 2
    return np.flatnonzero(first), np.flatnonzero(~first)


def ours(images: Images, known: LabelSet, contract: Contract, *, grouped: bool) -> tuple[DecisionSpec, bool]:
    """What `sortal train` and `sortal calibrate` fit, and whether it is promised."""
    groups = images.groups if grouped else None
    found = fit_decision(images.logits, images.labels, known, contract=contract, groups=groups)
    return found.decision, found.attained is not None and found.attained.state == "met"


def softmax_threshold(
    images: Images, known: LabelSet, contract: Contract, *, grouped: bool
) -> tuple[DecisionSpec, bool]:
    """The same tests for a threshold on the maximum softmax probability of the logits as they are."""
    plain, groups = DecisionSpec(), images.groups if grouped else None
    sighted = Sighted(chances=probabilities(plain, images.logits), labels=images.labels, groups=groups)
    found = fit_thresholds(contract, plain, sighted, known)
    return found.decision, found.fitted[0].promised


def outcome(decision: DecisionSpec, images: Images) -> tuple[float, float, int, int]:
    """Coverage, error among the answered, wrong, answered."""
    decided = decide(decision, images.logits)
    given = ~decided.abstained
    wrong = int((decided.index != images.labels)[given].sum())
    return float(given.mean()), wrong / max(int(given.sum()), 1), wrong, int(given.sum())


def resplits(images: Images, known: LabelSet, contract: Contract, repeats: int) -> None:
    """Twenty halves; violations of the true error of the other half, and coverage."""
    limit = contract.max_error or 0.0
    for grouped in (True, False):
        found: dict[str, list[tuple[float, float, bool]]] = {"ours": [], "softmax": []}
        for repeat in range(repeats):
            random = np.random.Generator(np.random.Philox(key=repeat))
            fit, rest = (images.part(rows) for rows in halves(images.groups, random))
            for name, method in (("ours", ours), ("softmax", softmax_threshold)):
                decision, promised = method(fit, known, contract, grouped=grouped)
                found[name].append((*outcome(decision, rest)[:2], promised))
        for name, rows in found.items():
            broken = sum(error > limit for _, error, promised in rows if promised)
            unpromised = sum(error > limit for _, error, promised in rows if not promised)
            coverage, error = (np.array(part) for part in list(zip(*rows, strict=True))[:2])
            promises, chance = sum(row[2] for row in rows), int(binom.ppf(0.95, repeats, 1 - contract.confidence))
            print(
                f"  {'groups' if grouped else 'images'} {name:8} broken {broken} of {promises} promises (at most "
                f"{chance} by chance), {unpromised} of {repeats - promises} without one  coverage "
                f"{coverage.mean():.3f} ({coverage.min():.3f} to {coverage.max():.3f})  error "
                f"{error.mean():.4f} (most {error.max():.4f})"
            )
        gap = np.array([a[0] - b[0] for a, b in zip(found["ours"], found["softmax"], strict=True)])
        spread = gap.std(ddof=1) / np.sqrt(repeats)
        print(
            f"  {'groups' if grouped else 'images'} coverage, ours less softmax: {gap.mean():+.4f} (s.e. {spread:.4f})"
        )


def official(val: Images, test: Images, known: LabelSet, contract: Contract) -> None:
    """Fitted on validation images, read off the test list."""
    for name, fit in (("ours", ours), ("softmax", softmax_threshold)):
        decision, promised = fit(val, known, contract, grouped=True)
        coverage, error, wrong, given = outcome(decision, test)
        inside = outcome(decision, val)
        print(
            f"  {name:8} threshold {decision.threshold:.4f} ({'promised' if promised else 'not promised'}): validation "
            f"{inside[0]:.1%} answered, {inside[1]:.2%} wrong; test {coverage:.1%} answered, {error:.2%} wrong "
            f"({wrong} of {given})"
        )


def resplit_calibration(images: Images, repeats: int) -> None:
    """Calibration error of one half of the test list, calibrated on the other: mean of the re-splits."""
    errors: dict[str, list[float]] = {"before": [], "temperature alone": [], "ours": [], "by chance": []}
    for repeat in range(repeats):
        random = np.random.Generator(np.random.Philox(key=repeat))
        fit, rest = (images.part(rows) for rows in halves(images.groups, random))
        specs = {
            "before": DecisionSpec(),
            "temperature alone": DecisionSpec(temperature=fit_temperature(fit.logits, fit.labels)),
            "ours": calibrate(fit.logits, fit.labels, units=fit.groups).decision(),
        }
        for name, spec in specs.items():
            chances = probabilities(spec, rest.logits)
            curve = reliability(chances.max(axis=1), chances.argmax(axis=1) == rest.labels)
            errors[name].append(curve.error)
        errors["by chance"].append(curve.by_chance)
    print("  " + "  ".join(f"{name} {np.mean(values):.4f}" for name, values in errors.items()))


def calibration(val: Images, test: Images, netcal: Path | None) -> None:
    """Calibration error of the test list."""

    def loss(logarithm: float) -> float:
        scores = log_softmax(val.logits.astype(np.float64) / np.exp(logarithm), axis=1)
        return float(-scores[np.arange(len(val.labels)), val.labels].mean())

    scipy_temperature = float(np.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded").x))
    whole = calibrate(val.logits, val.labels, units=val.groups)
    specs = {
        "before": DecisionSpec(),
        "temperature alone": DecisionSpec(temperature=fit_temperature(val.logits, val.labels)),
        "ours": whole.decision(),
        "SciPy temperature": DecisionSpec(temperature=scipy_temperature),
    }
    if netcal is not None:
        specs["netcal temperature"] = DecisionSpec(temperature=float(json.loads(netcal.read_text())["temperature"]))
    for name, spec in specs.items():
        chances = probabilities(spec, test.logits)
        right = chances.argmax(axis=1) == test.labels
        curve = reliability(chances.max(axis=1), right)
        area = risk_coverage(chances.max(axis=1), ~right)
        print(
            f"  {name:18} temperature {spec.temperature:.4f}{' with bias' if spec.bias else ''}: ECE {curve.error:.4f} "
            f"(by chance {curve.by_chance:.4f})  accuracy {right.mean():.4f}  AURC {area.aurc:.5f}"
        )


def main() -> None:
    """Everything for one file of logits."""
    parser = argparse.ArgumentParser()
    parser.add_argument("logits", type=Path)
    parser.add_argument("--max-error", type=float, default=0.02)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--alike", type=float, default=0.6)
    parser.add_argument("--netcal", type=Path)
    asked = parser.parse_args()
    val, test = (read(asked.logits, split, asked.alike) for split in ("val", "test"))
    known = LabelSet(names=tuple(f"class {number}" for number in range(val.logits.shape[1])))
    contract = Contract(max_error=asked.max_error)
    for name, part in (("validation", val), ("test", test)):
        sizes = np.unique(part.groups, return_counts=True)[1]
        print(f"{name}: {len(part.labels)} images in {len(sizes)} groups, the largest {sizes.max()}")
    print("calibration, fitted on validation images, read off the test list")
    calibration(val, test, asked.netcal)
    print("calibration error, re-splits of the test list")
    resplit_calibration(test, asked.repeats)
    print(f"re-splits of the test list, max_error {asked.max_error}")
    resplits(test, known, contract, asked.repeats)
    print("official split")
    official(val, test, known, contract)


if __name__ == "__main__":
    main()
