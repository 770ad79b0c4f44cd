"""SAM-based prompts (SAGA v1, section 3.4): SAM turns points on a view into a mask, and the mask is the prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gseg_ns.selection.prompts import Prompt, kmeans


def sam_mask(picture: Tensor, prompt: Prompt, predictor: Any) -> Tensor:
    """SAM's mask of the points of a prompt.

    Args:
        picture: [H, W, 3] uint8, RGB.
        prompt: with at least one positive point.
        predictor: `segment_anything.SamPredictor` (or the like) of a loaded model.

    Returns:
        [H, W] bool, the best scored of SAM's three masks for a single point, its only one for several.
    """
    points = torch.cat([prompt.positive, prompt.negative]).cpu().numpy()
    labels = np.repeat([1, 0], [len(prompt.positive), len(prompt.negative)])
    predictor.set_image(picture.cpu().numpy())
    masks, scores, _ = predictor.predict(points, labels, multimask_output=len(points) == 1)
    return torch.from_numpy(np.asarray(masks)[int(np.argmax(scores))].astype(bool))


def load_predictor(checkpoint: Path, device: torch.device | str) -> Any:
    """A predictor of a SAM checkpoint.

    Raises:
        GsegError: no such checkpoint, or another one.
    """
    from segment_anything import SamPredictor

    from gseg_ns.masks.sources.sam_model import load_sam

    return SamPredictor(load_sam(checkpoint).to(device))


def mask_queries(
    feature_image: Tensor,
    mask: Tensor,
    gate: Tensor | None = None,
    threshold: float = 0.75,
    recall: float = 0.9,
    clusters: int = 5,
) -> Tensor:
    """Queries of a mask: its mean feature if that finds the mask again, k-means otherwise.

    Cosines and a threshold where version 1 has dot products and 0: the same for any method with features.

    Args:
        feature_image: [H, W, D] rendered, ungated.
        mask: [H, W] bool, not empty.
        gate: [D] or None.
        threshold: cosine from which a pixel is found.
        recall: share of the mask's pixels that the mean must find.
        clusters: of k-means.

    Returns:
        [Q, D].
    """
    inside = feature_image[mask.to(feature_image.device)]
    mean = F.normalize(inside, dim=-1).mean(dim=0)
    gate = torch.ones_like(mean) if gate is None else gate
    found = F.normalize(inside * gate, dim=-1) @ F.normalize(mean * gate, dim=0) > threshold
    return mean[None] if float(found.float().mean()) > recall else kmeans(inside, clusters)
