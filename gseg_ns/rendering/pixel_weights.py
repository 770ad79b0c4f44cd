"""Sparse rows of compositing weights, and their differentiable product with per-Gaussian features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gseg_ns.rendering import threads
from gseg_ns.rendering.kernels import rows as kernels

# Channels that one thread takes in the transposed product.
_CHANNEL_BLOCK = 16
# Numbers of the gradient on a GPU that are spread over their Gaussians at once: 256 MiB.
_SPREAD = 1 << 26


@dataclass(frozen=True)
class PixelWeights:
    """Weights w[p, i] = alpha_i T_i of Gaussian i at pixel p, in CSR form: a [P, N] matrix.

    `matmul(features)` is what compositing the features would give at these pixels, for the price of the non-zeros.
    """

    crow: Tensor
    """[P + 1] int64: row p is crow[p]..crow[p + 1]."""
    col: Tensor
    """[nnz] int64: Gaussian ids, front to back within a row."""
    val: Tensor
    """[nnz]: weights."""
    num_gaussians: int
    """N."""

    def __len__(self) -> int:
        """P, the number of pixels."""
        return self.crow.shape[0] - 1

    @property
    def shape(self) -> tuple[int, int]:
        """(P, N)."""
        return len(self), self.num_gaussians

    @property
    def row(self) -> Tensor:
        """[nnz] int64: the row of each weight."""
        rows = torch.arange(len(self), device=self.crow.device)
        return torch.repeat_interleave(rows, self.crow.diff(), output_size=self.col.shape[0])

    @property
    def alpha(self) -> Tensor:
        """[P]: sum of each row, the accumulated opacity of the pixel."""
        return self.val.new_zeros(len(self)).index_add_(0, self.row, self.val)

    def to(self, device: torch.device | str) -> PixelWeights:
        """The same weights on another device."""
        return PixelWeights(self.crow.to(device), self.col.to(device), self.val.to(device), self.num_gaussians)

    def rows(self, index: Tensor, length: int | None = None) -> PixelWeights:
        """Chosen rows.

        Args:
            index: [K] integer positions or [P] bool.
            length: number of weights in them together, for callers that know it: else a GPU is waited for.
        """
        index = index.to(self.crow.device)
        if index.dtype == torch.bool:
            index = index.nonzero()[:, 0]
        lengths = self.crow.diff()[index]
        crow = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        starts = torch.repeat_interleave(self.crow[:-1][index] - crow[:-1], lengths, output_size=length)
        pick = starts + torch.arange(starts.shape[0], device=starts.device)
        return PixelWeights(crow, self.col[pick], self.val[pick], self.num_gaussians)

    @staticmethod
    def cat(parts: Sequence[PixelWeights]) -> PixelWeights:
        """Rows of several views of the same Gaussians, one after the other.

        Raises:
            ValueError: no parts, or parts of different numbers of Gaussians.
        """
        if not parts or any(part.num_gaussians != parts[0].num_gaussians for part in parts):
            raise ValueError("PixelWeights.cat: give at least one part, all of the same Gaussians")
        lengths = torch.cat([part.crow.diff() for part in parts])
        crow = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        col, val = torch.cat([part.col for part in parts]), torch.cat([part.val for part in parts])
        return PixelWeights(crow, col, val, parts[0].num_gaussians)

    def matmul(self, features: Tensor) -> Tensor:
        """Composited features [P, D] of per-Gaussian `features` [N, D]; differentiable in the features.

        Deterministic on the CPU, whatever the number of threads. On a GPU neither direction sorts anything or waits;
        the gradient is added up in no fixed order.

        Raises:
            ValueError: features of another shape.
        """
        if features.dim() != 2 or features.shape[0] != self.num_gaussians:
            raise ValueError(f"PixelWeights.matmul: features must be [{self.num_gaussians}, D], not {features.shape}")
        return _SparseProduct.apply(features, self)

    __matmul__ = matmul


class _SparseProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weights: PixelWeights) -> Tensor:
        ctx.weights = weights
        if features.is_cuda:
            return F.embedding_bag(
                weights.col, features, weights.crow, mode="sum", include_last_offset=True,
                per_sample_weights=weights.val.to(features.dtype),
            )  # fmt: skip
        out = features.new_empty(len(weights), features.shape[1])
        threads.share(
            kernels.sparse_times_dense, len(weights), weights.crow.numpy(), weights.col.numpy(),
            weights.val.numpy(), features.detach().contiguous().numpy(), out.numpy(), grain=256,
        )  # fmt: skip
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        weights: PixelWeights = ctx.weights
        if grad.is_cuda:
            total = grad.new_zeros(weights.num_gaussians, grad.shape[1])
            block = max(1, _SPREAD // max(grad.shape[1], 1))
            for row, col, val in zip(*(t.split(block) for t in (weights.row, weights.col, weights.val)), strict=True):
                total.index_add_(0, col, grad.index_select(0, row).mul_(val.to(grad.dtype)[:, None]))
            return total, None
        out = grad.new_zeros(weights.num_gaussians, grad.shape[1])
        blocks = -(-grad.shape[1] // _CHANNEL_BLOCK)
        threads.share(
            kernels.transpose_times_dense, blocks, _CHANNEL_BLOCK, weights.crow.numpy(), weights.col.numpy(),
            weights.val.numpy(), grad.contiguous().numpy(), out.numpy(),
        )  # fmt: skip
        return out, None
