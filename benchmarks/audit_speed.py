"""Our survey and checks against cleanvision's full audit of the same images: CPU time, and who finds what.

    python benchmarks/audit_speed.py FOLDER ... [--peer-python PATH] [--trials 3] [--most N]

Each side is a process of its own, in turn, `--trials` times; what is counted is user and system time of the process
and its children, start and imports included. Ours surveys every image (no cache), runs the checks of single images, of
duplicates and of bursts. cleanvision (in the environment of `--peer-python`: `pip install cleanvision`) runs
`find_issues()`, all issue types by default, with one process and with its default number.

Then who finds what: on the images themselves, and on copies of 60 of them into which a fault of each kind was planted
six times. For each of cleanvision's issues, images that it flags and we do not are counted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageFilter

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")
CHECKS_RUN = ("readable", "exposure", "blur", "information", "shape", "storage", "privacy", "duplicates", "bursts")
CODES = ("dark", "light", "blurry", "low_information", "grayscale", "odd_aspect_ratio", "odd_size")
DUPLICATES = ("exact_duplicates", "near_duplicates")
TWINS = (*DUPLICATES, "bursts")
PLANTED = 6

PEER = """
import json, sys
from cleanvision import Imagelab
paths = json.load(open(sys.argv[1]))
lab = Imagelab(filepaths=paths)
lab.find_issues(**({} if sys.argv[3] == "default" else {"n_jobs": int(sys.argv[3])}), verbose=False)
found = {}
for column in lab.issues.columns:
    if column.startswith("is_") and column.endswith("_issue"):
        found[column[3:-6]] = [str(path) for path in lab.issues.index[lab.issues[column]]]
json.dump(found, open(sys.argv[2], "w"))
"""

Found = dict[str, set[str]]
FAULTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "dark": lambda image: image.point(lambda level: level * 0.15),
    "light": lambda image: image.point(lambda level: 240 + level / 17),
    "blurry": lambda image: image.filter(ImageFilter.GaussianBlur(max(image.size) / 50)),
    "low_information": lambda image: Image.new("RGB", image.size, (90, 120, 140)),
    "grayscale": lambda image: image.convert("L"),
    "odd_aspect_ratio": lambda image: image.crop((0, 0, image.width, image.height // 4)),
    "odd_size": lambda image: image.resize((image.width * 5, image.height * 5)),
}


def ours(listing: Path, out: Path) -> None:
    """Survey and checks in this process; issues by code as JSON."""
    from sortal.data.checks import CHECKS
    from sortal.data.checks.material import Material
    from sortal.data.open import images
    from sortal.data.survey import survey

    table, found = survey(images(json.loads(listing.read_text())))
    material = Material(table=table, survey=found)
    flagged: dict[str, set[str]] = {}
    for name in CHECKS_RUN:
        for row, other, code in CHECKS.get(name).check(material).issues.select("name", "other", "code").rows():
            flagged.setdefault(code, set()).update({row, *([other] if other else [])})
    out.write_text(json.dumps({code: sorted(names) for code, names in flagged.items()}))


def run(command: list[str], out: Path) -> tuple[float, float, Found]:
    """(CPU seconds, seconds, issues) of one process."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "SORTAL_CACHE_GB": "0"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = {code: set(names) for code, names in json.loads(out.read_text()).items()}
    return cpu, time.perf_counter() - start, found


Times = dict[str, list[tuple[float, float]]]


def measured(paths: list[str], peer: str | None, trials: int, folder: Path) -> tuple[Times, dict[str, Found]]:
    """(CPU seconds, seconds) and issues of each way, in turn."""
    listing, out = folder / "paths.json", folder / "found.json"
    listing.write_text(json.dumps(paths))
    ways = {"ours": [sys.executable, __file__, "--ours", str(listing), str(out)]}
    if peer is not None:
        ways["cleanvision, 1 process"] = [peer, "-c", PEER, str(listing), str(out), "1"]
        ways["cleanvision, default"] = [peer, "-c", PEER, str(listing), str(out), "default"]
    times: Times = {way: [] for way in ways}
    found: dict[str, Found] = {}
    for _ in range(trials):
        for way, command in ways.items():
            cpu, wall, found[way] = run(command, out)
            times[way].append((cpu, wall))
    return times, found


def compare(found: dict[str, Found]) -> None:
    """A row for each issue of cleanvision's: how many images it flags, we flag, and it alone flags.

    A copy that is near for one and exact for the other, or one picture of a burst, counts as found.
    """
    mine, theirs = found["ours"], found.get("cleanvision, default", {})
    print(f"{'issue':20}{'cleanvision':>12}{'ours':>8}{'theirs alone':>14}")
    twins = set().union(*(mine.get(code, set()) for code in TWINS))
    for code in (*CODES, *DUPLICATES):
        we, they = mine.get(code, set()), theirs.get(code, set())
        alone = they - (twins if code in DUPLICATES else we)
        print(f"{code:20}{len(they):12}{len(we):8}{len(alone):14}  {', '.join(sorted(alone)[:3])}")


def plant(paths: list[str], folder: Path) -> dict[str, set[str]]:
    """Copies of 60 images, and of others of them with one fault each; the files of each fault."""
    chosen = random.Random(0).sample(paths, min(len(paths), 60 + PLANTED * (len(FAULTS) + 2)))
    truth: dict[str, set[str]] = {}
    for number, path in enumerate(chosen[:60]):
        Image.open(path).convert("RGB").save(folder / f"clean-{number}.jpg", quality=95)
    rest = iter(chosen[60:])
    for code, spoil in FAULTS.items():
        for number in range(PLANTED):
            file = folder / f"{code}-{number}.png"
            spoil(Image.open(next(rest)).convert("RGB")).save(file)
            truth.setdefault(code, set()).add(str(file))
    for number in range(PLANTED):
        for code, options in (("exact_duplicates", [{}, {}]), ("near_duplicates", [{}, {"quality": 60}])):
            source = Image.open(next(rest)).convert("RGB")
            for copy, option in enumerate(options):
                file = folder / f"{code}-{number}-{copy}.{'jpg' if option else 'png'}"
                source.save(file, **option)
                truth.setdefault(code, set()).add(str(file))
    return truth


def recalled(found: Found, truth: dict[str, set[str]]) -> str:
    """How many of the planted faults are found under their name."""
    return ", ".join(f"{code} {len(found.get(code, set()) & files)}/{len(files)}" for code, files in truth.items())


def main() -> None:
    """Print both comparisons and the times."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--peer-python")
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--most", type=int, default=10**9)
    parser.add_argument("--ours", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours:
        ours(*options.ours)
        return
    files = sorted(str(file) for folder in options.folders for file in folder.rglob("*"))
    paths = [file for file in files if file.lower().endswith(SUFFIXES)]
    paths = sorted(random.Random(1).sample(paths, min(len(paths), options.most)))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "planted")
        folder.mkdir()
        print(f"{len(paths)} images as they are")
        times, found = measured(paths, options.peer_python, options.trials, Path(scratch))
        print_times(times, len(paths))
        compare(found)
        truth = plant(paths, folder)
        planted = sorted(map(str, folder.iterdir()))
        print(f"\n{len(planted)} images with planted faults")
        _, found = measured(planted, options.peer_python, 1, Path(scratch))
        compare(found)
        for way, issues in found.items():
            print(f"{way}: {recalled(issues, truth)}")


def print_times(times: dict[str, list[tuple[float, float]]], images: int) -> None:
    """CPU seconds (median, range), milliseconds an image, and how many times ours."""
    mine = statistics.median(cpu for cpu, _ in times["ours"])
    for way, pairs in times.items():
        cpus, walls = zip(*pairs, strict=True)
        middle = statistics.median(cpus)
        spread = f"{min(cpus):.1f} to {max(cpus):.1f}"
        print(
            f"{way:24}{middle:8.1f} s CPU ({spread}), {statistics.median(walls):.1f} s wall, "
            f"{1000 * middle / images:.2f} ms an image, {middle / mine:.2f} x ours"
        )


if __name__ == "__main__":
    main()
