from __future__ import annotations

import numpy as np
import pytest
import torch

from sortal.core.preprocess import PreprocessSpec, normalize
from sortal.train.standardize import standardize


@pytest.mark.parametrize(("channels", "depth"), [(3, 8), (1, 8), (3, 16), (1, 16)])
def test_a_batch_is_normalized_as_the_reference_does_it(channels: int, depth: int) -> None:
    spec = PreprocessSpec.model_validate(
        {
            "size": (5, 7),
            "channels": channels,
            "depth": depth,
            "mean": (0.4, 0.5, 0.6)[:channels],
            "std": (0.2, 0.3, 0.1)[:channels],
        }
    )
    dtype = np.uint8 if depth == 8 else np.uint16
    pixels = np.random.default_rng(0).integers(0, spec.maximum + 1, (4, 5, 7, channels)).astype(dtype)
    before = pixels.copy()
    found = standardize(spec, pixels)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert np.allclose(found.numpy(), normalize(spec, pixels), atol=2e-6)
    assert np.array_equal(pixels, before)
