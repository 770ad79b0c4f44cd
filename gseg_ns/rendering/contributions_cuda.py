"""The CUDA side of `contributions`, from gsplat 1.4.0's public operations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gseg_ns.rendering.pixel_weights import PixelWeights
from gseg_ns.transfer import upload

# Label channels of one rasterization; 32 is gsplat's own chunk.
_CHANNELS = 32
# Pixels whose contributors are listed at once: bounds the memory of the pair list.
_PIXELS = 1 << 18


def vote(meta: dict[str, Any], labels: Tensor, num_labels: int, out: Tensor) -> Tensor:
    """Label sums as the gradient of a rendered image in its colors: d (image . onehot) / d color = sum of w."""
    for chunk in _chunks(labels[(labels >= 0) & (labels < num_labels)]):
        out.index_add_(1, chunk, _label_sums(meta, labels, chunk))
    return out


def sparse_vote(meta: dict[str, Any], labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gaussians and labels [nnz] int32 and sums [nnz], by Gaussian and label."""
    none = labels.new_zeros(0, dtype=torch.int32)
    gaussians, found, sums = [none], [none], [none.float()]
    for chunk in _chunks(labels[labels >= 0]):
        total = _label_sums(meta, labels, chunk)
        rows, columns = total.nonzero(as_tuple=True)
        gaussians.append(rows.int())
        found.append(chunk[columns].int())
        sums.append(total[rows, columns])
    order = torch.argsort(torch.cat(gaussians), stable=True)  # labels rise from chunk to chunk
    return torch.cat(gaussians)[order], torch.cat(found)[order], torch.cat(sums)[order]


def _chunks(names: Tensor) -> list[Tensor]:
    """The labels that occur, int64, ascending, as many at a time as are rasterized at once."""
    unique = torch.unique(names).long()
    return list(unique.split(_CHANNELS)) if len(unique) else []


def drawn(meta: dict[str, Any], values: Tensor) -> tuple[Tensor, Tensor]:
    """Values [N] composited, and alpha: [H, W] each."""
    import gsplat

    image, alpha = gsplat.rasterize_to_pixels(
        meta["means2d"].detach(), meta["conics"].detach(), values.detach()[None, :, None].contiguous(),
        meta["opacities"].detach(), meta["width"], meta["height"], meta["tile_size"], meta["isect_offsets"],
        meta["flatten_ids"],
    )  # fmt: skip
    return image[0, ..., 0], alpha[0, ..., 0]


def _label_sums(meta: dict[str, Any], labels: Tensor, chosen: Tensor) -> Tensor:
    """The sums of a few labels: [N, len(chosen)]."""
    import gsplat

    cameras, count = meta["means2d"].shape[:2]
    onehot = (labels[..., None] == chosen).float()
    with torch.enable_grad():
        colors = torch.zeros((cameras, count, chosen.numel()), device=onehot.device, requires_grad=True)
        image, _ = gsplat.rasterize_to_pixels(
            meta["means2d"].detach(), meta["conics"].detach(), colors, meta["opacities"].detach(), meta["width"],
            meta["height"], meta["tile_size"], meta["isect_offsets"], meta["flatten_ids"],
        )  # fmt: skip
        (grad,) = torch.autograd.grad(image, colors, onehot)
    return grad.sum(dim=0)


def dominant_labels(
    meta: dict[str, Any], labels: Tensor, num_labels: int, factors: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Labels [C, H, W] int64, weights, labels without factors: some are composited at a time, the best so far is kept.

    Weights are without the factors that decide (see `contributions.dominant_labels`).
    """
    import gsplat

    cameras, height, width = meta["means2d"].shape[0], meta["height"], meta["width"]
    best = torch.zeros((cameras, height, width), device=labels.device)
    winner = torch.zeros((cameras, height, width), dtype=torch.long, device=labels.device)
    plain, most, first_choice = torch.zeros_like(best), torch.zeros_like(best), torch.zeros_like(winner)

    def composited(colors: Tensor) -> Tensor:
        image, _ = gsplat.rasterize_to_pixels(
            meta["means2d"].detach(), meta["conics"].detach(), colors.expand(cameras, -1, -1).contiguous(),
            meta["opacities"].detach(), meta["width"], meta["height"], meta["tile_size"], meta["isect_offsets"],
            meta["flatten_ids"],
        )  # fmt: skip
        return image

    for start in range(1, num_labels, _CHANNELS):
        chosen = torch.arange(start, min(start + _CHANNELS, num_labels), device=labels.device)
        colors = (labels[:, None] == chosen).float()
        image = composited(colors if factors is None else colors * factors.to(colors)[:, None])
        value, place = image.max(dim=-1)
        winner = torch.where(value > best, chosen[place], winner)
        if factors is not None:
            unweighted = composited(colors)
            plain = torch.where(value > best, unweighted.gather(-1, place[..., None]).squeeze(-1), plain)
            largest, which = unweighted.max(dim=-1)
            first_choice = torch.where(largest > most, chosen[which], first_choice)
            most = torch.maximum(most, largest)
        best = torch.maximum(best, value)
    return winner, best if factors is None else plain, first_choice


def pairs(meta: dict[str, Any], pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Contributors of the chosen pixels: pixel ids and Gaussian ids [M] int64, weights [M], front to back by pixel.

    Args:
        pixels: flat indices over all cameras, (camera * height + y) * width + x, without repeats.
    """
    from gsplat.cuda._wrapper import rasterize_to_indices_in_range

    cameras = meta["means2d"].shape[0]
    width, height, tile_size = meta["width"], meta["height"], meta["tile_size"]
    means2d, conics, opacities = meta["means2d"].detach(), meta["conics"].detach(), meta["opacities"].detach()
    # A pixel that starts with transmittance 0 is finished before its first contribution, so it lists nothing.
    start = means2d.new_zeros(cameras * height * width)
    start[pixels] = 1.0
    flatten_ids = meta["flatten_ids"]
    gaussians, pixel, camera = rasterize_to_indices_in_range(
        0, flatten_ids.numel() // (tile_size * tile_size) + 1, start.reshape(cameras, height, width), means2d, conics,
        opacities, width, height, tile_size, meta["isect_offsets"], flatten_ids,
    )  # fmt: skip
    centre = torch.stack([pixel % width, pixel // width], dim=-1) + 0.5
    d = means2d[camera, gaussians] - centre
    a, b, c = conics[camera, gaussians].unbind(-1)
    sigma = 0.5 * (a * d[:, 0] ** 2 + c * d[:, 1] ** 2) + b * d[:, 0] * d[:, 1]
    alpha = (opacities[camera, gaussians] * torch.exp(-sigma)).clamp_max(0.999)
    pixel = pixel + camera * width * height
    # T is the product over the pairs before this one in its pixel; sums of logs in float64 keep it exact enough.
    logs = torch.log1p(-alpha.double())
    before = logs.cumsum(0) - logs
    first = torch.ones_like(pixel, dtype=torch.bool)
    first[1:] = pixel[1:] != pixel[:-1]
    # Sums only fall, so the least one met so far at the start of a pixel is that of the pixel itself.
    begun = torch.where(first, before, torch.inf).cummin(0).values
    weights = alpha * torch.exp(before - begun).to(alpha.dtype)
    return pixel, gaussians, weights


def top_contributors(meta: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Ids [C, H, W] int64 (-1 = none) and weights [C, H, W]."""
    cameras = meta["means2d"].shape[0]
    total = cameras * meta["height"] * meta["width"]
    device = meta["means2d"].device
    ids = torch.full((total,), -1, dtype=torch.int64, device=device)
    best = meta["means2d"].new_zeros(total)
    for start in range(0, total, _PIXELS):
        chosen = torch.arange(start, min(start + _PIXELS, total), device=device)
        pixel, gaussians, weights = pairs(meta, chosen)
        best.scatter_reduce_(0, pixel, weights, reduce="amax")
        place = torch.arange(pixel.numel(), device=device)
        # Of equal weights the nearest: the smallest place in the list.
        winner = torch.full((total,), pixel.numel(), dtype=torch.int64, device=device)
        is_best = weights == best[pixel]
        winner.scatter_reduce_(0, pixel[is_best], place[is_best], reduce="amin")
        found = winner < pixel.numel()
        ids[found] = gaussians[winner[found]]
    shape = (cameras, meta["height"], meta["width"])
    return ids.reshape(shape), best.reshape(shape)


def pixel_weights(meta: dict[str, Any], pixels: Tensor) -> PixelWeights:
    """Sparse rows of the chosen pixels of one camera, in the order asked for.

    Waits for the GPU once a part of `_PIXELS` pixels where `pixels` are on the CPU, ascending and different.
    """
    count, device = meta["means2d"].shape[1], meta["means2d"].device
    unique, inverse = torch.unique(pixels, return_inverse=True)
    as_they_are = not pixels.is_cuda and torch.equal(unique, pixels)
    unique = upload(unique, device)
    parts = []
    for start in range(0, unique.numel(), _PIXELS):
        chosen = unique[start : start + _PIXELS]
        pixel, gaussians, weights = pairs(meta, chosen)
        # Pairs come tile by tile or row by row; rows of the result follow `chosen`.
        row = torch.searchsorted(chosen, pixel)
        row, order = torch.sort(row, stable=True)
        crow = torch.searchsorted(row, torch.arange(chosen.numel() + 1, device=device))
        parts.append(PixelWeights(crow, gaussians[order], weights[order], count))
    if not parts:
        empty = unique.new_zeros(0)
        return PixelWeights(unique.new_zeros(1), empty, meta["means2d"].new_zeros(0), count)
    rows = PixelWeights.cat(parts) if len(parts) > 1 else parts[0]
    return rows if as_they_are else rows.rows(inverse)
