"""SAGA's feature phase on frozen geometry: affinity features at sampled pixels and their losses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gseg_ns.errors import GsegError, OptionError
from gseg_ns.lifting.affinity import ScaleGate, draw_ranks
from gseg_ns.lifting.consensus import foremost
from gseg_ns.lifting.correspondence import (
    PairSampling,
    correspondence_loss,
    identity_vectors,
    mask_correspondence,
    norm_loss,
    sample_scales,
)
from gseg_ns.lifting.pixel_pool import PixelPool, make_pool
from gseg_ns.lifting.scales import ScaleQuantiles, expected_depth, mask_scales, mean_depth, unproject
from gseg_ns.lifting.smoothing import MAX_NEIGHBOURS, NeighbourVotes, finest_masks, pack_flags, without_parted
from gseg_ns.lifting.votes import ViewVotes
from gseg_ns.masks import MaskSet
from gseg_ns.neighbours import nearest
from gseg_ns.rendering import PixelWeights, RegionVotes
from gseg_ns.transfer import upload


@dataclass(frozen=True)
class AffinityOptions:
    """How affinity features are trained (SAGA, section 3.4 and appendix A)."""

    num_pixels: int = 1000
    """Pixels drawn from a view in each step; those in no mask take part in the norm regularisation only"""
    balanced: float = 0.5
    """Share of the pixels drawn mask by mask instead of uniformly, so that small masks are met as often as large ones.
    0: all uniform (paper and code)"""
    num_scales: int = 8
    """Scales drawn in each step (paper: 8; the official code adds two more, the ends)"""
    neighbours: int = 16
    """Nearest Gaussians that a feature is smoothed over, itself among them (K of the paper); 1 turns smoothing off"""
    neighbour_agreement: float = 0.5
    """Neighbours that lie in the same smallest mask in less than this part of what the views show of both are left out
    of the smoothing, so that it does not cross borders; 0 leaves none out (paper and code)"""
    rank_share: float = 0.5
    """Share of the neighbours that each step draws (official code: 0.5; paper: 1)"""
    norm_weight: float = 1.0
    """Weight of the feature norm regularisation; 0 turns it off"""
    norm_squared: bool = False
    """The official code's square of the mean lack of length, instead of the paper's mean"""
    pairs: PairSampling = field(default_factory=PairSampling)
    """Which pixel pairs count"""
    cache_gib: float = 2.0
    """Memory for the cached contributions of all views together; where they do not fit, a random part of each view's
    pixels is kept"""

    def __post_init__(self) -> None:
        if not 1 <= self.neighbours <= MAX_NEIGHBOURS:
            raise OptionError(
                f"neighbours is {self.neighbours}: give 1 (no smoothing) to {MAX_NEIGHBOURS}, as many as the flags "
                "that checkpoints keep of them have room for"
            )
        for name in ("balanced", "neighbour_agreement", "rank_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(f"{name} is {getattr(self, name)}: give a share between 0 and 1")


def composite_smoothed(features: Tensor, neighbours: Tensor, weights: PixelWeights) -> Tensor:
    """Composite smoothed unit features at some pixels (section 3.3 and Eq. 10).

    Only Gaussians that the pixels touch are smoothed, and only their neighbours made unit vectors; both steps are
    sparse products.

    Args:
        features: [N, D] as optimised.
        neighbours: [N, K], the ranks of this step.
        weights: [P, N].

    Returns:
        [P, D], of length <= alpha.
    """
    touched, col = _compact(weights.col, len(features))
    count = neighbours.shape[1]
    needed, averaged = _compact(neighbours[touched].reshape(-1), len(features))
    crow = torch.arange(0, count * len(touched) + 1, count, device=features.device)
    average = PixelWeights(crow, averaged, weights.val.new_full((len(averaged),), 1.0 / count), len(needed))
    units = F.normalize(features.index_select(0, needed), dim=-1)
    smoothed = F.normalize(average.matmul(units), dim=-1)
    return PixelWeights(weights.crow, col, weights.val, len(touched)).matmul(smoothed)


def _compact(index: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The values of an index [n] into `count` rows, ascending, and the place among them of each entry.

    On a GPU row 0 follows the values as often as it takes to fill min(n, count): how many values there are is something
    that the GPU knows, and asking it would mean to wait.
    """
    used = torch.zeros(count, dtype=torch.long, device=index.device)
    used[index] = 1
    place = (used.cumsum(0) - 1)[index]
    values = index.new_zeros(min(len(index), count) if index.is_cuda else int(used.sum()))
    values[place] = index
    return values, place


def affinity_losses(
    features: Tensor,
    neighbours: Tensor,
    gate: ScaleGate,
    quantiles: ScaleQuantiles,
    pool: PixelPool,
    options: AffinityOptions,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Losses of one view, Eq. 13.

    Args:
        features: [N, D] as optimised.
        neighbours: [N, K].
        gate: the scale gate.
        quantiles: fitted on all training masks.
        pool: the view.
        options: settings; every field has its meaning beside it.
        generator: of the random numbers, on the CPU.

    Returns:
        `correspondence` and `norm`, scalars; `norm` only where it has a weight.
    """
    device = features.device
    weights, regions = pool.draw(options.num_pixels, generator, options.balanced)
    ranks = upload(draw_ranks(neighbours.shape[1], options.rank_share, generator), neighbours.device)
    rendered = composite_smoothed(features, neighbours[:, ranks], weights)
    losses = {"correspondence": rendered.sum() * 0.0}
    if options.norm_weight > 0:
        losses["norm"] = options.norm_weight * norm_loss(rendered, options.norm_squared)
    covered = pool.covered[regions].nonzero().squeeze(1)
    if len(covered) == 0:
        return losses
    # Regions that were not drawn are left out of the tables over pairs of regions.
    present, kinds = regions[covered].unique(return_inverse=True)
    scales = upload(sample_scales(pool.scales, options.num_scales, quantiles.largest(), generator), device)
    members = pool.members[upload(present, device)]
    related = mask_correspondence(identity_vectors(members, upload(pool.scales, device), scales))
    losses["correspondence"] = correspondence_loss(
        rendered[upload(covered, device)],
        gate(quantiles(scales)),
        upload(kinds, device),
        related,
        upload(pool.sizes[present][kinds], device),
        options.pairs,
        generator if not rendered.is_cuda else None,
    )
    return losses


@torch.no_grad()
def view_scales(meta: dict[str, Any], K: Tensor, masks: MaskSet) -> Tensor:
    """Metric 3D scales [M] of the masks of one view (Eq. 2), from its own depth and its own intrinsics.

    Args:
        meta: projection of the view.
        K: [3, 3] intrinsics of this view.
        masks: its masks, of the view's size.
    """
    depth, alpha = expected_depth(meta)
    return mask_scales(unproject(depth, K.to(depth)), masks, alpha >= 0.5)


class AffinityViews:
    """All training views of a frozen scene, prepared once: mask scales, their quantiles, cached contributions."""

    def __init__(
        self,
        means: Tensor,
        views: Iterable[tuple[int, dict[str, Any], Tensor, MaskSet]],
        num_views: int,
        quantiles: ScaleQuantiles,
        options: AffinityOptions,
        seed: int = 0,
    ) -> None:
        """Prepare, and fit `quantiles`.

        Args:
            means: [N, 3] centres.
            views: number, projection, intrinsics [3, 3] and masks of each view that has masks.
            num_views: how many at most; the memory for contributions is divided by this.
            quantiles: is fitted to the scales of all masks.
            options: settings; every field has its meaning beside it.
            seed: of the pixels that are kept and of all that is drawn in training.

        Raises:
            GsegError: no view has a mask.
        """
        self.options = options
        self.quantiles = quantiles
        self.generator = torch.Generator().manual_seed(seed)
        neighbours = nearest(means, options.neighbours)
        votes = NeighbourVotes(neighbours) if options.neighbour_agreement > 0 and neighbours.shape[1] > 1 else None
        bound = options.cache_gib * 2**30 / max(num_views, 1)
        self.pools: dict[int, PixelPool] = {}
        for view, meta, K, masks in views:
            if len(masks):
                # Depth says how large masks are, and that which mask is asked about: one walk for both.
                asked = RegionVotes(meta, masks.regions[0].to(means.device), meta["depths"][0].detach())
                depth = mean_depth(asked.image, asked.alpha)
                scales = mask_scales(unproject(depth, K.to(depth)), masks, asked.alpha >= 0.5)
                self.pools[view] = make_pool(meta, masks, scales, bound, self.generator, options.balanced)
                if votes is not None:
                    said = ViewVotes(*(part.cpu() for part in asked.named(finest_masks(masks, scales))))
                    votes.add(foremost(said))
        if not self.pools:
            raise GsegError("No training view has a mask. Run `gseg masks` on the images, or name another mask folder.")
        quantiles.fit(torch.cat([pool.scales for pool in self.pools.values()]))
        kept = torch.ones_like(neighbours, dtype=torch.bool)
        self.kept = pack_flags(kept if votes is None else votes.agreeing(options.neighbour_agreement))
        """[N] int32, which of the nearest neighbours are smoothed over."""
        self.neighbours = without_parted(neighbours, self.kept)

    def losses(self, view: int, features: Tensor, gate: ScaleGate) -> dict[str, Tensor]:
        """`affinity_losses` of a view; zero for a view without masks."""
        if view not in self.pools:
            return {"correspondence": features.sum() * 0.0}
        return affinity_losses(
            features, self.neighbours, gate, self.quantiles, self.pools[view], self.options, self.generator
        )
