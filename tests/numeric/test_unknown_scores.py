"""The parts of unknown scores against scikit-learn, SciPy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.special import logsumexp, softmax
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from sortal.evaluate.unknown import energy, knn, mahalanobis, odds, rank
from sortal.evaluate.unknown.ridge import fit_quick_head
from sortal.evaluate.unknown.space import fit_space, fit_spaces, kinds, shrunk_covariance
from sortal.evaluate.unknown.threshold import threshold_for
from sortal.evaluate.unknown.training import Training

CLASSES, WIDTH = 12, 40


def blobs(count: int, seed: int, classes: int = CLASSES) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Classes of one shape, stretched along some directions."""
    means = np.random.default_rng(99).normal(0, 3, (classes, WIDTH))
    turn = np.linalg.qr(np.random.default_rng(98).normal(size=(WIDTH, WIDTH)))[0]
    shape = np.geomspace(0.5, 2.0, WIDTH)[:, None] * turn
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return (means[labels] + random.normal(size=(count, WIDTH)) @ shape).astype(np.float32), labels


@pytest.fixture(scope="module")
def training() -> Training:
    values, labels = blobs(360, 0)
    known, known_labels = blobs(120, 1)
    head = fit_quick_head(values, labels, known, known_labels, CLASSES)
    return Training(
        space=fit_space(values, labels, "whitened"),
        embeddings=values,
        labels=labels,
        known_embeddings=known,
        known_logits=head.logits(known),
        temperature=1.7,
        bias=tuple(np.linspace(-1, 1, CLASSES)),
    )


@pytest.mark.parametrize(("count", "width"), [(30, 60), (200, 10), (50, 50)])
def test_shrinkage_is_that_of_ledoit_and_wolf(count: int, width: int) -> None:
    values = np.random.default_rng(count).normal(size=(count, width)) * np.linspace(0.5, 3, width)
    centered = values - values.mean(axis=0)
    covariance, weight = shrunk_covariance(centered)
    expected = LedoitWolf(assume_centered=True).fit(centered)
    np.testing.assert_allclose(weight, expected.shrinkage_, rtol=1e-9)
    np.testing.assert_allclose(covariance, expected.covariance_, rtol=1e-9, atol=1e-12)


def test_a_sphere_is_shrunk_to_a_sphere() -> None:
    covariance, weight = shrunk_covariance(np.vstack([np.eye(4), -np.eye(4)]))
    np.testing.assert_allclose(covariance, np.eye(4) / 4)
    assert 0.0 <= weight <= 1.0


def test_classes_scatter_alike_in_the_whitened_space() -> None:
    values, labels = blobs(1200, 0)
    space = fit_space(values, labels, "whitened")
    found = space.coordinates(values)
    np.testing.assert_allclose(found.mean(axis=0), 0.0, atol=2e-2)
    within = np.concatenate([found[labels == index] - found[labels == index].mean(axis=0) for index in range(CLASSES)])
    scatter = np.linalg.eigvalsh(within.T @ within / len(within))
    assert scatter.max() / scatter.min() < 1.5
    assert np.linalg.cond(np.cov(values.T)) > 20


def test_the_axes_span_the_principal_subspace() -> None:
    random = np.random.default_rng(5)
    values = (random.normal(size=(300, 120)) * np.geomspace(30, 0.01, 120)).astype(np.float32)
    space = fit_space(values, np.arange(300) % 5, "whitened")
    kept = space.axes.shape[1]
    theirs = PCA(kept).fit(values.astype(np.float64)).components_[:20]
    basis = np.linalg.qr(space.axes.astype(np.float64))[0]
    np.testing.assert_allclose(np.linalg.norm(theirs @ basis, axis=1), 1.0, atol=1e-3)


def test_discriminant_axes_are_one_fewer_than_classes_and_keep_them_apart() -> None:
    values, labels = blobs(600, 0)
    spaces = fit_spaces(values, labels, ("whitened", "discriminant"))
    assert spaces["discriminant"].axes.shape == (WIDTH, CLASSES - 1)
    whole, few = (spaces[kind].coordinates(values) for kind in ("whitened", "discriminant"))
    means = [np.stack([part[labels == index].mean(axis=0) for index in range(CLASSES)]) for part in (whole, few)]
    np.testing.assert_allclose(cdist(means[0], means[0]), cdist(means[1], means[1]), rtol=0.02)
    assert kinds(8) == ("whitened",)
    assert kinds(9) == ("whitened", "discriminant")


def test_energy_is_minus_logsumexp(training: Training) -> None:
    found = energy.score(energy.fit(training), training.known_embeddings, training.known_logits)
    calibrated = training.known_logits / 1.7 + np.linspace(-1, 1, CLASSES)
    np.testing.assert_allclose(found, -logsumexp(calibrated, axis=1), rtol=1e-6)


def test_odds_are_those_of_the_likeliest_class(training: Training) -> None:
    found = odds.score(odds.fit(training), training.known_embeddings, training.known_logits)
    calibrated = training.known_logits / 1.7 + np.linspace(-1, 1, CLASSES)
    best = softmax(calibrated, axis=1).max(axis=1)
    doubtful = best < 1 - 1e-7
    np.testing.assert_allclose(found[doubtful], np.log((1 - best) / best)[doubtful], rtol=1e-6)
    others = np.sort(calibrated, axis=1)
    np.testing.assert_allclose(found, logsumexp(others[:, :-1], axis=1) - others[:, -1], rtol=1e-6)
    sure = np.zeros((1, CLASSES), np.float32)
    sure[0, 3] = 200.0
    assert np.isfinite(odds.log_odds(sure.astype(np.float64))).all()


def test_mahalanobis_is_the_squared_distance_to_the_nearest_mean(training: Training) -> None:
    found = mahalanobis.score(mahalanobis.fit(training), training.known_embeddings, training.known_logits)
    own, other = (training.space.coordinates(part) for part in (training.embeddings, training.known_embeddings))
    means = np.stack([own[training.labels == index].mean(axis=0) for index in range(CLASSES)])
    np.testing.assert_allclose(found, cdist(other, means, "sqeuclidean").min(axis=1), rtol=1e-4)


def test_neighbors_are_those_of_scikit_learn(training: Training) -> None:
    parameters = knn.fit(training)
    found = knn.score(parameters, training.known_embeddings, training.known_logits)
    own, other = (training.space.coordinates(part) for part in (training.embeddings, training.known_embeddings))
    distances, _ = NearestNeighbors(n_neighbors=5, metric="cosine").fit(own).kneighbors(other)
    assert parameters["neighbor"].tolist() == [5]
    np.testing.assert_allclose(found, distances[:, -1], atol=2e-3)


def test_rare_classes_count_a_nearer_neighbor() -> None:
    values, labels = blobs(2 * CLASSES, 0)
    rare = Training(
        space=fit_space(values, labels, "whitened"),
        embeddings=values,
        labels=labels,
        known_embeddings=values,
        known_logits=np.zeros((len(values), CLASSES), np.float32),
    )
    assert knn.fit(rare)["neighbor"].tolist() == [1]


def test_ranks_run_from_0_to_1_over_known_images_and_on_beyond(training: Training) -> None:
    parameters = rank.fit(training)
    known = rank.score(parameters, training.known_embeddings, training.known_logits)
    assert known.min() >= 0.0
    assert known.max() <= 1.0 + 1e-6
    far = training.known_embeddings[:1] + np.float32(1e3)
    farther = training.known_embeddings[:1] + np.float32(1e4)
    one, other = (rank.score(parameters, values, training.known_logits[:1])[0] for values in (far, farther))
    assert known.max() < one < other


@pytest.mark.parametrize(("count", "rate"), [(200, 0.05), (99, 0.01), (1000, 0.01)])
def test_false_alarms_keep_to_the_rate_on_average(count: int, rate: float) -> None:
    random = np.random.default_rng(count)
    alarms = [1.0 - threshold_for(random.random(count), rate).value for _ in range(4000)]
    error = np.std(alarms) / np.sqrt(len(alarms))
    assert np.mean(alarms) <= rate + 3 * error
    assert np.mean(alarms) >= rate - 1 / (count + 1) - 3 * error


def test_too_few_images_promise_less() -> None:
    found = threshold_for(np.arange(50.0), 0.01)
    assert found.value == 49.0
    assert found.rate == pytest.approx(1 / 51)
