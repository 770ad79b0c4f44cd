"""Scale-aware contrastive learning (SAGA, section 3.4 and appendix A.1), and version 1's correspondence loss.

Pixels with the same masks are alike in everything that the supervision says of them, so what the masks say is kept a
*kind* of pixel, not a pixel: a view has a few hundred kinds, and all tables over scales and pairs are over these. Only
the cosines are computed a pixel pair, scale by scale and block by block, with the gradient in the same pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gseg_ns.rendering import threads

_BLOCK = 256
"""Rows of the pair matrix at a time: a block of 256 x 1000 floats stays in a core's cache."""


def identity_vectors(members: Tensor, mask_scales: Tensor, scales: Tensor) -> Tensor:
    """Scale-aware pixel identity vectors V(s, p), Eq. 6.

    A mask smaller than s keeps all its pixels; of the masks at least as large as s, a pixel keeps only the smallest
    that contains it (all of them if several share that size).

    Args:
        members: [U, M] bool, which masks contain a (kind of) pixel.
        mask_scales: [M] scales of the masks.
        scales: [S] scales, in the same unit.

    Returns:
        [S, U, M] bool.
    """
    large = mask_scales[None, :] >= scales[:, None]  # [S, M]
    candidates = torch.where(members[None] & large[:, None], mask_scales, torch.inf)  # [S, U, M]
    smallest = candidates.amin(dim=-1, keepdim=True) if members.shape[1] else candidates
    return members[None] & (~large[:, None] | (mask_scales == smallest))


def mask_correspondence(vectors: Tensor) -> Tensor:
    """Corr_m, Eq. 7: whether two kinds of pixel share a mask. [S, U, M] bool to [S, U, U] bool."""
    values = vectors.float()
    return values @ values.transpose(1, 2) > 0


def sample_scales(mask_scales: Tensor, count: int, largest: float, generator: torch.Generator | None = None) -> Tensor:
    """Scales to train one view at (appendix A.1; the ends as in the official code).

    Always one above every mask of the scene, where all that shares a mask belongs together, and one at the view's
    smallest mask. The others fall between two neighbouring mask sizes of the view, so that each is one that tells
    masks apart.

    Args:
        mask_scales: [M] of this view, M >= 1.
        count: how many, at least 1.
        largest: the largest mask scale of the scene.
        generator: of the random numbers, on the CPU.

    Returns:
        [count] float32.
    """
    ordered = mask_scales.sort().values.cpu().float()
    lower = torch.cat([ordered.new_zeros(1), ordered[:-1]])
    above = largest * (1.0 + torch.rand(1, generator=generator)) + torch.finfo(torch.float32).eps
    index = torch.zeros(1, dtype=torch.long)
    if count > 2:
        index = torch.cat([index, torch.randint(len(ordered), (count - 2,), generator=generator)])
    # (0, 1] from [0, 1): the upper end is a scale of its own, the lower one belongs to the next smaller mask.
    share = 1.0 - torch.rand(len(index), generator=generator)
    between = torch.lerp(lower[index], ordered[index], share)
    return torch.cat([above, between])[:count].to(mask_scales.device)


@dataclass(frozen=True)
class PairSampling:
    """Which pixel pairs count, and how much (appendix A.1)."""

    hard_negative: float = 0.5
    """Pairs that never share a mask also count where their cosine is above this."""
    hard_positive: float = 0.75
    """Pairs that always share a mask also count where their cosine is below this."""
    clip_positive: bool = False
    """The paper clips all cosines at 0, so two pixels of one mask that point apart are not pulled together; the
    official code, and this default, clips only those of pairs that shall part."""
    resample: bool = True
    """Draw only as many consistent pairs as there are scale-sensitive ones. Off: all pairs (ablation)."""
    least_drawn: float = 0.05
    """But draw at least this part of them: masks that do not overlap, such as label maps, have no scale-sensitive pair,
    and features would be trained no further than until no pair is hard. 0: official code"""
    reweight: bool = True
    """Weigh pairs by the inverse of their masks' sizes, within [1, 10]. Off: every pair weighs the same (ablation)."""


def correspondence_loss(
    features: Tensor,
    gates: Tensor,
    kinds: Tensor,
    related: Tensor,
    mask_size: Tensor,
    sampling: PairSampling,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The two correspondence terms of Eq. 13: mean over Q_in and drawn positives, plus mean over Q_in and negatives.

    Where a set is empty its term is 0. The hard pairs are judged at each scale alone, so a pair may count at one scale
    and not at another (the code: at all scales once it is hard at any).

    Args:
        features: [P, D] rendered features F(p), of any length.
        gates: [S, D] scale gates, S <= 31.
        kinds: [P] int64, the kind of each pixel.
        related: [S, U, U] bool, `mask_correspondence` of the kinds.
        mask_size: [P] mean area of the masks that contain the pixel, > 0.
        sampling: which pairs count.
        generator: of the random numbers, on the device of `features`.

    Returns:
        scalar.
    """
    units = F.normalize(features[None] * gates[:, None], dim=-1)  # [S, P, D]
    bits = (related << torch.arange(len(related), device=related.device)[:, None, None]).sum(dim=0).to(torch.int32)
    size = mask_size.to(units)
    inverse = size.min() / size if len(size) else size
    return _PairLoss.apply(units, kinds, bits, inverse, sampling, generator)


class _PairBlock:
    """Rows start..stop of the matrix of pixel pairs, from the diagonal to the right: the share of one thread.

    Flags are kept as 0/1 floats: dot products and in-place products of floats are what the CPU does fastest.
    """

    coin: Tensor
    """[b, P - start] uniform random numbers."""
    taken: tuple[Tensor, Tensor, Tensor]
    """Pairs that count, over all scales: all, those that never share a mask, those that always do."""
    loss: Tensor
    gradient: Tensor
    """[S, P - start, D]"""

    def __init__(self, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop

    def count(
        self,
        units: Tensor,
        kinds: Tensor,
        bits: Tensor,
        everywhere: int,
        sampling: PairSampling,
        thin_positive: Tensor,
        thin_negative: Tensor,
    ) -> None:
        """Find the pairs that count."""
        rows, columns = slice(self.start, self.stop), slice(self.start, None)
        self.code = code = bits[kinds[rows]].index_select(1, kinds[columns])
        never, always = code == 0, code == everywhere
        # The bar that (1 - 2R) cos must pass: none where the pair was drawn, infinite up to the diagonal, since a
        # pair is counted once.
        self.bar = bar = torch.full(code.shape, -2.0, device=units.device)
        bar.masked_fill_(never & (self.coin >= thin_negative), sampling.hard_negative)
        bar.masked_fill_(always & (self.coin >= thin_positive), -sampling.hard_positive)
        square = bar[:, : self.stop - self.start]
        square.masked_fill_(torch.ones_like(square, dtype=torch.bool).tril_(), torch.inf)
        self.never, self.always = never.float(), always.float()
        taken = self.coin  # its memory
        counts = units.new_zeros(3)
        for scale in range(len(units)):
            value = torch.mm(units[scale, rows], units[scale, columns].T).mul_(_sign(code, scale))
            torch.gt(value, bar, out=taken)
            counts[0] += taken.sum()
            counts[1] += torch.dot(taken.view(-1), self.never.view(-1))
            counts[2] += torch.dot(taken.view(-1), self.always.view(-1))
        self.taken = counts[0], counts[1], counts[2]

    def differentiate(
        self,
        units: Tensor,
        share_positive: Tensor,
        share_negative: Tensor,
        inverse: Tensor,
        lightest: Tensor,
        sampling: PairSampling,
    ) -> None:
        """Sum up the loss and its gradient; each pair of Q_in counts in both means, others in theirs."""
        rows, columns = slice(self.start, self.stop), slice(self.start, None)
        weight = (share_positive + share_negative) - share_positive * self.never - share_negative * self.always
        if sampling.reweight:
            weight *= _pair_weights(inverse[rows], inverse[columns], lightest)
        self.loss = units.new_zeros(())
        self.gradient = torch.zeros_like(units[:, columns])
        for scale in range(len(units)):
            # Again, not kept from above: the product is cheaper than the memory of S of them.
            sign = _sign(self.code, scale)
            value = torch.mm(units[scale, rows], units[scale, columns].T).mul_(sign)
            # A pair that shall part has a gradient only where its cosine is positive: R = 0 raises the bar to 0.
            slope = torch.maximum(self.bar, sign - 1.0)
            torch.gt(value, slope, out=slope)
            if sampling.clip_positive:
                slope *= (value > 0) != (sign < 0)
            slope *= weight
            self.loss += torch.dot(slope.view(-1), value.view(-1))
            slope *= sign
            self.gradient[scale, : self.stop - self.start].addmm_(slope, units[scale, columns])
            self.gradient[scale].addmm_(slope.T, units[scale, rows])


class _PairLoss(torch.autograd.Function):
    """Sums over all pixel pairs and scales, block by block, with the gradient taken in the forward pass.

    The pair weights depend on the features only through the choice of hard pairs, which is not differentiated, so the
    gradient is two more products with weights that are at hand; autograd would keep every [S, P, P] intermediate.
    """

    @staticmethod
    def forward(
        ctx: Any,
        units: Tensor,
        kinds: Tensor,
        bits: Tensor,
        inverse: Tensor,
        sampling: PairSampling,
        generator: torch.Generator | None,
    ) -> Tensor:
        """See `correspondence_loss`; `bits` [U, U] int32 has bit s set where two kinds are related at scale s."""
        units = units.detach()  # worker threads would record what is done here
        num_scales, num_pixels, _ = units.shape
        everywhere = (1 << num_scales) - 1
        # Tensors of one number: a float would have to be waited for on a GPU.
        thin_positive = thin_negative = inverse.new_ones(())
        if sampling.resample:
            thin_positive, thin_negative = (
                share.clamp_min(sampling.least_drawn) for share in _thinning(kinds, bits, everywhere)
            )
        lightest = inverse.min().double() ** 2 if num_pixels else inverse.new_ones((), dtype=torch.double)
        size = max(1, num_pixels if units.is_cuda else _BLOCK)
        blocks = [_PairBlock(start, min(start + size, num_pixels)) for start in range(0, num_pixels, size)]
        for block in blocks:  # here, so that the numbers drawn do not depend on the threads
            block.coin = torch.rand(
                block.stop - block.start, num_pixels - block.start, generator=generator, device=units.device
            )

        def count(first: int, last: int) -> None:
            for block in blocks[first:last]:
                block.count(units, kinds, bits, everywhere, sampling, thin_positive, thin_negative)

        threads.share(count, len(blocks))
        taken_any, taken_never, taken_always = (
            torch.stack([block.taken[kind] for block in blocks]).sum() if blocks else units.new_zeros(())
            for kind in range(3)
        )
        share_positive = 1.0 / (taken_any - taken_never).clamp_min(1)
        share_negative = 1.0 / (taken_any - taken_always).clamp_min(1)

        def differentiate(first: int, last: int) -> None:
            for block in blocks[first:last]:
                block.differentiate(units, share_positive, share_negative, inverse, lightest, sampling)

        threads.share(differentiate, len(blocks))
        loss = units.new_zeros(())
        gradient = torch.zeros_like(units)
        for block in blocks:
            loss += block.loss
            gradient[:, block.start :] += block.gradient
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of `forward`, scaled."""
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0], None, None, None, None, None


def _sign(code: Tensor, scale: int) -> Tensor:
    """1 - 2R at one scale: bit `scale` of the int32 `code`, moved to the sign bit of a float one.

    Several times as fast on the CPU as a conversion from integers, and this is done for every pair and scale.
    """
    return (code << (31 - scale)).bitwise_and_(-(1 << 31)).bitwise_or_(0x3F800000).view(torch.float32)


def _pair_weights(rows: Tensor, columns: Tensor, lightest: Tensor) -> Tensor:
    """Pair weights 1 / (m_p m_q), min-max normalised to [1, 10] (A.1).

    Args:
        rows: [A] smallest m of the iteration / m_p, in (0, 1].
        columns: [B] the same of the other pixels.
        lightest: the smallest product of the iteration, a float64 scalar; the largest is 1.
    """
    step = torch.where(lightest < 1.0, 9.0 / (1.0 - lightest), 0.0)  # 0: all masks of one size
    return torch.outer(rows * step, columns).add_(1.0 - step * lightest)


def _thinning(kinds: Tensor, bits: Tensor, everywhere: int) -> tuple[Tensor, Tensor]:
    """Chances with which a consistent positive and negative pair is drawn: half of |Q_in| each (A.1), as scalars."""
    histogram = torch.zeros(len(bits), dtype=torch.double, device=kinds.device)
    histogram.index_add_(0, kinds, histogram.new_ones(()).expand(len(kinds)))
    own = bits.diagonal()  # a pixel's relation with others of its kind; the pair with itself does not count

    def pairs(among: Tensor, self_among: Tensor) -> Tensor:
        return (histogram @ among.double() @ histogram - (histogram * self_among).sum()) / 2

    always = pairs(bits == everywhere, own == everywhere)
    never = pairs(bits == 0, own == 0)
    mixed = pairs((bits != 0) & (bits != everywhere), (own != 0) & (own != everywhere))
    return mixed / 2 / always.clamp_min(1.0), mixed / 2 / never.clamp_min(1.0)


def mean_mask_size(members: Tensor, areas: Tensor) -> Tensor:
    """m_p, the mean area of the masks that contain a (kind of) pixel (A.1).

    Args:
        members: [U, M] bool.
        areas: [M] in pixels.

    Returns:
        [U] float32; 0 where no mask contains it.
    """
    count = members.sum(dim=1)
    return (members.float() @ areas.float()) / count.clamp_min(1)


def norm_loss(features: Tensor, squared: bool = False) -> Tensor:
    """Feature norm regularisation, Eq. 11: the mean of 1 - |F(p)| over pixels.

    Args:
        features: [P, D] composited unit vectors, not normalised afterwards.
        squared: the official code's form, the square of one minus the mean length.
    """
    lack = 1.0 - features.norm(dim=-1).mean()
    return lack * lack if squared else lack


def mask_set_overlap(members: Tensor) -> Tensor:
    """Version 1's mask correspondence K, Eq. 8: IoU of the sets of masks of two kinds of pixel; -1 where disjoint.

    Args:
        members: [U, M] bool.

    Returns:
        [U, U] float32, in (0, 1] or -1.
    """
    values = members.float()
    shared = values @ values.T
    count = values.sum(dim=1)
    union = count[:, None] + count[None, :] - shared
    return torch.where(shared > 0, shared / union.clamp_min(1), -torch.ones_like(shared))


def overlap_loss(
    features: Tensor,
    kinds: Tensor,
    overlap: Tensor,
    clip: bool = True,
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """Version 1's correspondence loss, Eq. 10.

    Args:
        features: [P, D] rendered features.
        kinds: [P] int64 kind of each pixel.
        overlap: [U, U], see `mask_set_overlap`.
        clip: take max(cosine, 0) as the official code does (and Hamilton et al.), where the paper does not.
        reduction: over pixel pairs, a mean as in the official code or a sum as in the paper.

    Returns:
        scalar.
    """
    units = F.normalize(features, dim=-1)
    cosine = units @ units.T
    if clip:
        cosine = cosine.clamp_min(0)
    wanted = overlap[kinds].index_select(1, kinds)
    if len(kinds) == 0:
        return features.sum() * 0.0
    return -(wanted * cosine).mean() if reduction == "mean" else -(wanted * cosine).sum()
