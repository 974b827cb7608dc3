"""Near duplicates: planted ones found and nothing else, on drawn parts that look alike; chains, blank pictures."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter

from sortal.data import near as near_module
from sortal.data.candidates import Vectors, candidate_pairs, differing_bits
from sortal.data.leaders import Leaders
from sortal.data.likeness import lay_over
from sortal.data.look import look
from sortal.data.look_measure import RECORD
from sortal.data.near import NEAREST, Pictures, _nearest, near_duplicates
from sortal.data.second_look import SECOND_PX
from sortal.data.survey import Survey
from sortal.data.synth.dataset import synthesize
from sortal.data.synth.options import SynthOptions


def _survey(hashes: np.ndarray, tiny: np.ndarray, side_px: int = 200) -> Survey:
    sides = np.full(len(hashes), side_px)
    return Survey(frame=pl.DataFrame({"width": sides, "height": sides}), hashes=hashes, tiny=tiny)


def _looked_at(images: list[Image.Image]) -> Survey:
    records = [look(np.asarray(image.convert("RGB"))).view(RECORD)[0] for image in images]
    return _survey(np.stack([one["hash"] for one in records]), np.stack([one["tiny"] for one in records]))


def _saved(image: Image.Image, quality: int) -> Image.Image:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return Image.open(io.BytesIO(data.getvalue())).convert("RGB")


def _copies(image: Image.Image, rng: np.random.Generator) -> list[Image.Image]:
    """Saved again, smaller, cropped by 5 %, lighter or darker by 15 %, blurred, and all at once."""
    width, height = image.size
    left, top = rng.uniform(0, 0.05, 2)
    box = (left * width, top * height, (0.95 + left) * width, (0.95 + top) * height)
    cropped = image.crop(tuple(round(edge) for edge in box))  # type: ignore[arg-type]
    light = float(rng.choice([0.85, 1.15]))
    return [
        _saved(image, 60),
        image.resize((round(width * 0.6), round(height * 0.6)), Image.Resampling.BICUBIC),
        cropped,
        _saved(ImageEnhance.Brightness(image).enhance(light), 90),
        image.filter(ImageFilter.GaussianBlur(1)),
        _saved(ImageEnhance.Brightness(cropped).enhance(light), 80),
    ]


def _again(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The same object once more: moved, turned by up to 2 degrees, a little lighter or darker, with new noise."""
    turned = image.rotate(
        float(rng.uniform(1, 2) * rng.choice([-1, 1])),
        Image.Resampling.BICUBIC,
        translate=(round(float(rng.uniform(-2, 2))), round(float(rng.uniform(-2, 2)))),
    )
    edge = round(0.04 * image.width)
    inner = turned.resize(image.size, Image.Resampling.BICUBIC, (edge, edge, image.width - edge, image.height - edge))
    pixels = np.asarray(inner) * float(rng.uniform(0.93, 1.07)) + rng.normal(0, 2, (*image.size[::-1], 1))
    return _saved(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), 88)


def _reader(images: list[Image.Image]) -> Pictures:
    def read(rows: np.ndarray) -> np.ndarray:
        square = (SECOND_PX, SECOND_PX)
        small = [images[row].convert("L").resize(square, Image.Resampling.BILINEAR, reducing_gap=2.0) for row in rows]
        return np.stack([np.asarray(one) for one in small])

    return read


def _random_tiny(rng: np.random.Generator, count: int) -> np.ndarray:
    """Smooth random pictures."""
    coarse = rng.integers(0, 256, (count, 5, 5, 3)).astype(np.float32)
    place = np.linspace(0, 3.999, 16)
    low, part = place.astype(int), (place % 1).astype(np.float32)[:, None, None]
    rows = coarse[:, low] * (1 - part) + coarse[:, low + 1] * part
    rows = rows.transpose(0, 2, 1, 3)
    return (rows[:, low] * (1 - part) + rows[:, low + 1] * part).transpose(0, 2, 1, 3).round().astype(np.uint8)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Image.Image]:
    folder: Path = tmp_path_factory.mktemp("parts")
    synthesize(folder / "parts", SynthOptions(classes=3, images=90, size_px=128, seed=3, workers=1))
    return [Image.open(path).convert("RGB") for path in sorted(folder.rglob("*.jpg"))]


def test_planted_copies_are_found_and_nothing_else(parts: list[Image.Image]) -> None:
    rng = np.random.Generator(np.random.Philox(key=1))
    images, owner = list(parts), list(range(len(parts)))
    for number in range(0, len(parts), 6):
        copies = _copies(parts[number], rng)
        images += copies
        owner += [number] * len(copies)
    found = near_duplicates(_looked_at(images))
    owners = np.asarray(owner)
    first, second = found.pairs["first"].to_numpy(), found.pairs["second"].to_numpy()
    right = owners[first] == owners[second]
    planted = np.arange(len(parts), len(images))
    reached = np.isin(found.cluster[planted], found.cluster[owners[planted]]) & (found.cluster[planted] >= 0)
    assert reached.mean() >= 0.95
    strangers = {(one, other) for one, other in zip(owners[first[~right]], owners[second[~right]], strict=True)}
    assert len(strangers) <= 1  # of 90 drawn parts, 30 of a kind, one pair may be as good as the same


@pytest.fixture(scope="module")
def of_two_kinds(tmp_path_factory: pytest.TempPathFactory) -> list[Image.Image]:
    folder: Path = tmp_path_factory.mktemp("kinds")
    synthesize(folder / "parts", SynthOptions(classes=2, images=120, size_px=128, seed=4, workers=1))
    return [Image.open(path).convert("RGB") for path in sorted(folder.rglob("*.jpg"))]


def test_parts_of_one_kind_are_told_apart_by_their_detail(of_two_kinds: list[Image.Image]) -> None:
    survey = _looked_at(of_two_kinds)
    assert near_duplicates(survey).pairs.height >= 2  # at 16 pixels some are as good as the same
    found = near_duplicates(survey, pictures=_reader(of_two_kinds))
    assert found.pairs.height == 0
    assert (found.cluster == -1).all()


def test_copies_looked_at_again_are_certain_and_nothing_else_is_near(parts: list[Image.Image]) -> None:
    rng = np.random.Generator(np.random.Philox(key=1))
    images, owner = list(parts), list(range(len(parts)))
    for number in range(0, len(parts), 6):
        copies = _copies(parts[number], rng)
        images += copies
        owner += [number] * len(copies)
    found = near_duplicates(_looked_at(images), pictures=_reader(images))
    owners, planted = np.asarray(owner), np.arange(len(parts), len(images))
    assert (owners[found.pairs["first"].to_numpy()] == owners[found.pairs["second"].to_numpy()]).all()
    sure = found.certain_clusters()
    assert ((sure[planted] == sure[owners[planted]]) & (sure[planted] >= 0)).mean() >= 0.97


def test_further_pictures_of_one_object_are_found_by_a_second_look(parts: list[Image.Image]) -> None:
    rng = np.random.Generator(np.random.Philox(key=2))
    images, objects = list(parts), range(0, len(parts), 9)
    for number in objects:
        images += [_again(parts[number], rng) for _ in range(3)]
    survey = _looked_at(images)
    of_object = [[number, *range(len(parts) + 3 * n, len(parts) + 3 * n + 3)] for n, number in enumerate(objects)]

    def whole(clusters: np.ndarray) -> int:
        return sum(clusters[rows[0]] >= 0 and len(set(clusters[rows].tolist())) == 1 for rows in of_object)

    found = near_duplicates(survey, pictures=_reader(images))
    assert whole(near_duplicates(survey).certain_clusters()) == 0
    assert whole(found.certain_clusters()) == len(of_object)
    assert np.count_nonzero(found.cluster >= 0) == 4 * len(of_object)


def test_no_more_pairs_are_looked_at_again_than_may_be(
    parts: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [copy for image in parts[:10] for copy in (image, _saved(image, 60))]
    survey, read, asked = _looked_at(images), _reader(images), []

    def counted(rows: np.ndarray) -> np.ndarray:
        asked.extend(rows.tolist())
        return read(rows)

    assert near_duplicates(survey, pictures=counted).findings() == ()
    everything = len(asked)
    asked.clear()
    monkeypatch.setattr(near_module, "MOST_LOOKS", 3)
    found = near_duplicates(survey, pictures=counted)
    assert 0 < len(asked) <= 6 < everything
    assert found.unseen >= 7
    assert [one.code for one in found.findings()] == ["near_not_verified"]
    seen = set(asked)
    for first, second, score in found.pairs.select("first", "second", "score").iter_rows():
        assert {first, second} <= seen or score == 1.0  # nothing else is said to be a copy


@settings(max_examples=25, deadline=None)
@given(shift=st.floats(-0.6, 0.6), scale=st.floats(-0.08, 0.08), gain=st.floats(0.85, 1.15), seed=st.integers(0, 99))
def test_a_moved_and_lighter_picture_lies_over_its_original(shift: float, scale: float, gain: float, seed: int) -> None:
    rng = np.random.Generator(np.random.Philox(key=seed))
    waves = rng.normal(size=(6, 5))

    def picture(move: float, stretch: float, light: float) -> np.ndarray:
        place = np.arange(16) - 7.5
        x, y = np.meshgrid(place * (1 + stretch) + move, place)
        plane = sum(a * np.sin(x * b / 3 + y * c / 3 + d) for a, b, c, d, _ in waves)
        plane = 128 + 18 * light * np.asarray(plane)
        return np.repeat(np.clip(plane, 0, 255)[..., None], 3, axis=2).round().astype(np.uint8)

    tiny = np.stack([picture(0, 0, 1), picture(shift, scale, gain), _random_tiny(rng, 1)[0]])
    fits = lay_over(tiny, np.asarray([0, 0]), np.asarray([1, 2]))
    assert fits.left[0] < 0.01
    assert fits.plausible[0]
    assert fits.left[1] > 0.05


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), bits=st.integers(0, 15))
def test_no_pair_within_the_bands_is_missed(seed: int, bits: int) -> None:
    """The pigeonhole: of 16 bands of 16 bits, 15 differing bits leave one equal."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    hashes = rng.integers(0, 256, (300, 32), dtype=np.uint8)
    flips = np.zeros(256, np.uint8)
    flips[rng.permutation(256)[:bits]] = 1
    hashes[299] = np.packbits(np.unpackbits(hashes[7]) ^ flips)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sortal.data.candidates.WHOLE_UP_TO", 0)
        first, second = candidate_pairs(hashes, 20, [])
    assert (7, 299) in set(zip(first.tolist(), second.tolist(), strict=True))
    assert (differing_bits(hashes, first, second) <= 20).all()


def test_two_hundred_thousand_random_hashes_with_planted_pairs() -> None:
    rng = np.random.Generator(np.random.Philox(key=5))
    count, planted = 200_000, 2_000
    hashes = rng.integers(0, 256, (count, 32), dtype=np.uint8)
    source = rng.choice(count - planted, planted, replace=False)
    flips = rng.random((planted, 256)) < rng.choice([0.005, 0.03, 0.06], (planted, 1))
    hashes[count - planted :] = np.packbits(np.unpackbits(hashes[source], axis=1) ^ flips, axis=1)
    first, second = candidate_pairs(hashes, 40, [])
    found = set(zip(first.tolist(), second.tolist(), strict=True))
    wanted = set(zip(source.tolist(), range(count - planted, count), strict=True))
    assert len(found & wanted) >= 0.97 * planted
    assert len(found - wanted) == 0


def test_alike_vectors_are_found_among_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sortal.data.candidates.WHOLE_UP_TO", 0)
    rng = np.random.Generator(np.random.Philox(key=6))
    values = rng.normal(size=(20_000, 48)).astype(np.float32)
    values[19_000:] = values[:1_000] + 0.2 * rng.normal(size=(1_000, 48))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    hashes = rng.integers(0, 256, (20_000, 32), dtype=np.uint8)
    first, second = candidate_pairs(hashes, 20, [Vectors(values=values, least=0.9)])
    assert set(zip(range(1_000), range(19_000, 20_000), strict=True)) <= set(
        zip(first.tolist(), second.tolist(), strict=True)
    )


def test_fifty_thousand_equal_pictures_cost_fifty_thousand_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = 0

    def counted(tiny: np.ndarray, first: np.ndarray, second: np.ndarray) -> object:
        nonlocal fits
        fits += len(first)
        return lay_over(tiny, first, second)

    monkeypatch.setattr(near_module, "lay_over", counted)
    rng = np.random.Generator(np.random.Philox(key=7))
    hashes = np.repeat(rng.integers(0, 256, (1, 32), dtype=np.uint8), 50_000, axis=0)
    tiny = np.repeat(_random_tiny(rng, 1), 50_000, axis=0)
    found = near_duplicates(_survey(hashes, tiny))
    assert (found.cluster == 0).all()
    assert found.pairs.height == 49_999
    assert fits < 110_000


def test_blank_pictures_are_no_duplicates() -> None:
    rng = np.random.Generator(np.random.Philox(key=8))
    tiny = np.clip(rng.normal(250, 1, (5000, 16, 16, 3)), 0, 255).astype(np.uint8)
    found = near_duplicates(_survey(np.zeros((5000, 32), np.uint8), tiny))
    assert found.pairs.height == 0
    assert (found.cluster == -1).all()


def test_a_chain_is_cut_where_its_ends_are_strangers() -> None:
    """Pictures that change a little from each to the next are not one picture."""
    rng = np.random.Generator(np.random.Philox(key=9))
    start, end = _random_tiny(rng, 2).astype(np.float32)
    share = np.linspace(0, 1, 60)[:, None, None, None]
    tiny = (start * (1 - share) + end * share).round().astype(np.uint8)
    hashes = rng.integers(0, 256, (60, 32), dtype=np.uint8)
    found = near_duplicates(_survey(hashes, tiny))
    assert found.pairs.height >= 40
    largest = np.bincount(found.cluster[found.cluster >= 0]).max()
    assert largest < 35
    clusters = found.cluster[found.pairs.select("first", "second").to_numpy()]
    assert (clusters[:, 0] == clusters[:, 1]).all()


def test_leaders_refuse_what_is_not_near() -> None:
    leaders = Leaders(lambda low, high: high - low <= 2)
    leaders.join((row, row + 1) for row in range(9))
    assert [leaders.of(row) for row in range(10)] == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9]


def test_small_images_are_never_certain(parts: list[Image.Image]) -> None:
    copy = _saved(parts[0], 90)
    survey = _looked_at([parts[0], copy, *parts[1:10]])
    pair = pl.col("second") == 1
    assert near_duplicates(survey).pairs.filter(pair)["certain"].to_list() == [True]
    small = near_duplicates(_survey(survey.hashes, survey.tiny, side_px=32)).pairs
    assert small.filter(pair).height == 1
    assert not small["certain"].any()


def test_of_very_many_pairs_the_nearest_of_each_row_are_laid_over_each_other() -> None:
    rng = np.random.Generator(np.random.Philox(key=2))
    values = rng.normal(size=(40, 8)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    first, second = np.triu_indices(40, 1)
    kept = set(zip(*(part.tolist() for part in _nearest(values, first, second)), strict=True))
    likeness = values @ values.T - 2 * np.eye(40)
    wanted = {
        (min(row, int(other)), max(row, int(other)))
        for row in range(40)
        for other in np.argsort(-likeness[row])[:NEAREST]
    }
    assert kept == wanted
    few = first[: NEAREST * 40], second[: NEAREST * 40]
    assert _nearest(values, *few)[0].tolist() == few[0].tolist()
