from __future__ import annotations

import numpy as np
import torch

from sortal.train.randomness import generator, order, torch_randomness, uniforms


def test_a_number_depends_on_its_sample_and_not_on_the_batch() -> None:
    together = uniforms(7, "augment", epoch=3, samples=[5, 9, 2], count=4)
    alone = uniforms(7, "augment", epoch=3, samples=[9], count=4)
    assert np.array_equal(together[1], alone[0])
    assert together.min() >= 0.0
    assert together.max() < 1.0


def test_seed_stream_epoch_and_sample_all_matter() -> None:
    drawn = [
        generator(seed, stream, epoch=epoch, index=index).random(4).tobytes()
        for seed in (0, 1, 2**62)
        for stream in ("augment", "mix")
        for epoch in (0, 1)
        for index in (0, 1)
    ]
    assert len(set(drawn)) == len(drawn)


def test_the_order_is_a_permutation_that_changes_with_the_epoch() -> None:
    first, second = order(1, epoch=0, count=100), order(1, epoch=1, count=100)
    assert sorted(first) == list(range(100))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, order(1, epoch=0, count=100))


def test_torch_randomness_repeats_and_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    draws = []
    for index in (4, 4, 5):
        with torch_randomness(0, "step", index=index):
            draws.append(torch.rand(3))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(before, torch.random.get_rng_state())
