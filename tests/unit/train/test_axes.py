"""Principal axes: the same from either Gram matrix, orthonormal, and found for features that are mostly zero."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sortal.train.axes import principal_axes


@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (12, 12)])
def test_axes_give_the_features_back(shape: tuple[int, int]) -> None:
    x = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = x - x.mean(dim=0)
    sums, axes = principal_axes(x)
    assert torch.all(sums[1:] >= sums[:-1])
    torch.testing.assert_close(axes.T @ axes, torch.eye(len(sums), dtype=torch.float64))
    torch.testing.assert_close((x @ axes).square().sum(dim=0), sums, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(x @ axes @ axes.T, x)
    singular = np.sort(np.linalg.svd(x.numpy(), compute_uv=False) ** 2)
    assert sums.numpy()[-6:] == pytest.approx(singular[-6:])


def test_features_that_do_not_vary() -> None:
    x = torch.zeros(20, 300, dtype=torch.float64)
    x[:10, 0], x[10:, 0] = 1.0, -1.0
    sums, axes = principal_axes(x)
    assert sums.tolist() == pytest.approx([20.0])
    assert axes.abs().argmax().item() == 0
    nothing, _ = principal_axes(torch.zeros(20, 300, dtype=torch.float64))
    assert nothing.tolist() == [0.0]  # one axis is left, along which nothing varies


def test_a_solver_that_gives_up_is_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def gives_up(_matrix: torch.Tensor) -> None:
        raise torch.linalg.LinAlgError("failed to converge")

    x = torch.randn(30, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected, _ = principal_axes(x)
    monkeypatch.setattr(torch.linalg, "eigh", gives_up)
    sums, axes = principal_axes(x)
    torch.testing.assert_close(sums, expected)
    torch.testing.assert_close(x @ axes @ axes.T, x)
