"""The sparse matrix of weights: products, gradients, rows."""

from __future__ import annotations

import pytest
import torch

from gseg_ns.rendering import PixelWeights


@pytest.fixture
def matrix():
    g = torch.Generator().manual_seed(0)
    full = torch.rand(30, 11, generator=g, dtype=torch.float64)
    full[full < 0.6] = 0
    full[4] = 0
    row, col = full.nonzero(as_tuple=True)
    crow = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(row, minlength=30).cumsum(0)])
    return PixelWeights(crow, col, full[row, col], 11), full


@pytest.mark.parametrize("channels", [1, 3, 33])
def test_product_and_gradient(matrix, channels):
    weights, full = matrix
    features = torch.rand(11, channels, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(weights @ features, full @ features)
    assert torch.autograd.gradcheck(weights.matmul, [features])


def test_float32(matrix):
    weights, full = matrix
    single = PixelWeights(weights.crow, weights.col, weights.val.float(), 11)
    features = torch.rand(11, 8, requires_grad=True)
    result = single @ features
    result.square().sum().backward()
    torch.testing.assert_close(result, full.float() @ features)
    torch.testing.assert_close(features.grad, 2 * full.float().T @ result.detach())


def test_rows_alpha_and_cat(matrix):
    weights, full = matrix
    torch.testing.assert_close(weights.alpha, full.sum(dim=1))
    features = torch.rand(11, 2, dtype=torch.float64)
    index = torch.tensor([7, 4, 7, 0])
    torch.testing.assert_close(weights.rows(index) @ features, full[index] @ features)
    mask = torch.arange(30) % 3 == 0
    torch.testing.assert_close(weights.rows(mask) @ features, full[mask] @ features)
    both = PixelWeights.cat([weights, weights.rows(index)])
    assert both.shape == (34, 11)
    torch.testing.assert_close(both @ features, torch.cat([full, full[index]]) @ features)
    moved = weights.to("cpu")
    assert torch.equal(moved.val, weights.val)


def test_wrong_input_is_named(matrix):
    weights, _ = matrix
    with pytest.raises(ValueError, match="features must be"):
        weights.matmul(torch.rand(10, 3))
    with pytest.raises(ValueError, match="at least one part"):
        PixelWeights.cat([])
    with pytest.raises(ValueError, match="same Gaussians"):
        PixelWeights.cat([weights, PixelWeights(weights.crow, weights.col, weights.val, 12)])
