"""Image quality of renders: PSNR, SSIM, LPIPS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gseg_ns.errors import GsegError

Image = Tensor | np.ndarray[Any, Any]


@dataclass(frozen=True)
class ImageScores:
    """Means over views."""

    psnr: float
    """dB."""
    ssim: float
    """0..1."""
    lpips: float | None
    """0 is equal; None where not asked for."""
    view_psnr: tuple[float, ...]
    """dB of each view."""


def psnr(pred: Image, gt: Image, mask: Image | None = None) -> float:
    """Peak signal-to-noise ratio of one image, with peak 1.

    Args:
        pred: [H, W, 3], uint8 or floats in 0..1 (clamped to that range, as an image file would be).
        gt: alike.
        mask: bool [H, W], the pixels to look at, e.g. those outside a removed object; None: all.

    Returns:
        dB; infinite for equal images.

    Raises:
        ValueError: different shapes, or no pixel to look at.
    """
    p, g = _unit(pred), _unit(gt)
    if p.shape != g.shape:
        raise ValueError(f"images of shapes {tuple(p.shape)} and {tuple(g.shape)}")
    error = (p - g).square()
    if mask is not None:
        chosen = torch.as_tensor(mask, device=error.device).bool()
        error = error[chosen]
    if error.numel() == 0:
        raise ValueError("no pixel to compare")
    mean = float(error.mean())
    return -10 * math.log10(mean) if mean > 0 else math.inf


def image_quality(pred: Sequence[Image], gt: Sequence[Image], lpips: bool = False) -> ImageScores:
    """PSNR, SSIM and LPIPS of renders, each the mean over views of the score of a view.

    SSIM is torchmetrics' with its defaults (Gaussian window of 11, sigma 1.5, peak 1, borders reflected), LPIPS
    torchmetrics' with AlexNet, both as Nerfstudio reports them. 3DGS and Gaussian Grouping print LPIPS with VGG, which
    is not comparable.

    Args:
        pred: renders [H, W, 3], uint8 or floats in 0..1.
        gt: photographs of the same sizes.
        lpips: also LPIPS; its weights are downloaded on first use.

    Raises:
        ValueError: no view, different numbers or shapes.
        GsegError: the LPIPS weights cannot be had.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    if len(pred) != len(gt) or len(gt) == 0:
        raise ValueError(f"{len(pred)} renders for {len(gt)} photographs")
    perceptual = _lpips() if lpips else None
    psnrs, ssims, distances = [], [], []
    for p, g in zip(pred, gt, strict=True):
        psnrs.append(psnr(p, g))
        first, second = (_unit(image).permute(2, 0, 1)[None] for image in (p, g))
        ssims.append(float(structural_similarity_index_measure(first, second, data_range=1.0)))  # type: ignore[arg-type]
        if perceptual is not None:
            distances.append(float(perceptual.to(first.device)(first, second)))
    return ImageScores(
        psnr=sum(psnrs) / len(psnrs),
        ssim=sum(ssims) / len(ssims),
        lpips=sum(distances) / len(distances) if perceptual is not None else None,
        view_psnr=tuple(psnrs),
    )


def _unit(image: Image) -> Tensor:
    """An image as float32 in 0..1."""
    tensor = torch.as_tensor(image)
    if tensor.dtype == torch.uint8:
        return tensor.float() / 255
    return tensor.detach().float().clamp(0, 1)


def _lpips() -> Any:
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    try:
        return LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)
    except Exception as error:  # torch.hub raises whatever the network layer raised
        raise GsegError(
            f"LPIPS needs AlexNet's weights, which could not be downloaded ({error}). Leave LPIPS out, or put the file"
            " into torch's cache."
        ) from error
