"""Scale-gated affinity features (SAGA, section 3.3): one vector a Gaussian, one gate for all."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gseg_ns.errors import GsegError


class ScaleGate(nn.Module):
    """S: [0, 1] -> [0, 1]^D, one linear layer and a sigmoid (Eq. 3).

    With `enabled=False` it is constant one: the ablation without a gate, one granularity for all scales.
    """

    def __init__(self, channels: int = 32, enabled: bool = True) -> None:
        super().__init__()
        self.enabled = enabled
        self.channels = channels
        self.linear = nn.Linear(1, channels)

    def forward(self, scale: Tensor) -> Tensor:
        """[S] scales in [0, 1] to [S, D] gates in [0, 1]."""
        if not self.enabled:
            return scale.new_ones(len(scale), self.channels)
        return torch.sigmoid(self.linear(scale[:, None]))

    def at(self, scale: float) -> Tensor:
        """The gate [D] at one scale, without gradient.

        Raises:
            GsegError: the scale is outside [0, 1].
        """
        if not 0.0 <= scale <= 1.0:
            raise GsegError(
                f"A scale of {scale} is outside [0, 1]. It is the share of the scene's masks that are smaller "
                "than what you want: 0 for the finest parts, 1 for the whole."
            )
        with torch.no_grad():
            return self(self.linear.weight.new_tensor([scale]))[0]


def gated(features: Tensor, gate: Tensor) -> Tensor:
    """Unit features in the subspace of a scale, for cosines: [..., N, D] and [..., D] to [..., N, D] (Eq. 3)."""
    return F.normalize(features * gate.unsqueeze(-2), dim=-1)


def smooth(features: Tensor, neighbours: Tensor) -> Tensor:
    """Local feature smoothing: the mean of the neighbours' unit vectors, made a unit vector again (section 3.3).

    Args:
        features: [N, D] as optimised.
        neighbours: [R, K] rows of `features`; R may be a part of the Gaussians, those that are needed.

    Returns:
        [R, D] unit vectors.
    """
    unit = F.normalize(features, dim=-1)
    # embedding_bag gathers and averages in one pass, and its backward adds row-wise in parallel.
    return F.normalize(F.embedding_bag(neighbours, unit, mode="mean"), dim=-1)


def draw_ranks(num_neighbours: int, share: float, generator: torch.Generator | None = None) -> Tensor:
    """Which neighbour ranks to average in this iteration, the same for all Gaussians.

    The paper averages all K = 16. The official code draws 8 of them each time, which is a dropout on the neighbourhood;
    `share=1` gives the paper's form.
    """
    kept = max(1, round(num_neighbours * share))
    return torch.randperm(num_neighbours, generator=generator)[:kept]
