"""SAM-based prompts (SAGA v1, section 3.4): SAM turns points on a view into a mask, and the mask is the prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gseg_ns.lifting.sam_guidance import accept_mean_query, prototypes, sam_threshold, without_padding
from gseg_ns.lifting.thresholds import SAME_THING
from gseg_ns.masks.asking import asking
from gseg_ns.selection.prompts import Prompt, kmeans

CHECKPOINTS = (".pth", ".pt", ".ckpt", ".bin")
"""How files with weights in SAM's own format end."""


def sam_mask(picture: Tensor, prompt: Prompt, predictor: Any) -> Tensor:
    """SAM's mask of the points of a prompt.

    Args:
        picture: [H, W, 3] uint8, RGB.
        prompt: with at least one positive point.
        predictor: `segment_anything.SamPredictor` or `gseg_ns.masks.pointed.PointedModel`, loaded.

    Returns:
        [H, W] bool, the best scored of SAM's three masks for a single point, its only one for several.

    Raises:
        GsegError: the model fails.
    """
    with asking("SAM"):
        predictor.set_image(picture.cpu().numpy())
        return _mask_of_points(prompt, predictor)


def _mask_of_points(prompt: Prompt, predictor: Any) -> Tensor:
    """As `sam_mask`, on the picture that the predictor was given last."""
    points = torch.cat([prompt.positive, prompt.negative]).cpu().numpy()
    labels = np.repeat([1, 0], [len(prompt.positive), len(prompt.negative)])
    masks, scores, _ = predictor.predict(points, labels, multimask_output=len(points) == 1)
    return torch.from_numpy(np.asarray(masks)[int(np.argmax(scores))].astype(bool))


def sam_embedding(predictor: Any) -> Tensor | None:
    """What SAM's encoder says of the picture that a predictor was given last: [h, w, C], its grid spanning the picture.

    None of models that are not SAM: what version 1 learned is of SAM's own encoder.
    """
    if not hasattr(predictor, "get_image_embedding"):
        return None
    square = predictor.model.image_encoder.img_size
    return without_padding(predictor.get_image_embedding()[0], [size / square for size in predictor.input_size])


class SamPrompts:
    """SAM for one who clicks: a checkpoint is loaded once, and a picture encoded once for all the points on it.

    For one thread at a time.
    """

    def __init__(self, device: torch.device | str) -> None:
        """Load nothing yet; `device` is where SAM shall run."""
        self._device = device
        self._predictor: tuple[Path, Any] | None = None
        self._encoded: Tensor | None = None

    def mask(self, checkpoint: Path, picture: Tensor, prompt: Prompt) -> Tensor:
        """SAM's mask of the points of a prompt, see `sam_mask`; the same tensor is the same picture.

        Raises:
            GsegError: no such checkpoint, or one of another model, or it fails.
        """
        if self._predictor is None or self._predictor[0] != checkpoint:
            self._predictor = self._encoded = None  # two do not stay in memory
            self._predictor = checkpoint, load_predictor(checkpoint, self._device)
        predictor = self._predictor[1]
        with asking("SAM"):
            if self._encoded is not picture:
                self._encoded = None
                predictor.set_image(picture.cpu().numpy())
                self._encoded = picture
            return _mask_of_points(prompt, predictor)

    @property
    def embedding(self) -> Tensor | None:
        """Of the picture of the last `mask`, see `sam_embedding`."""
        return None if self._predictor is None or self._encoded is None else sam_embedding(self._predictor[1])


def load_predictor(checkpoint: Path, device: torch.device | str) -> Any:
    """A predictor of a SAM checkpoint, or of a model of transformers: a folder, or a name on the hub.

    Raises:
        GsegError: no such checkpoint or model, or another one.
    """
    if checkpoint.is_dir() or (not checkpoint.exists() and checkpoint.suffix not in CHECKPOINTS):
        from gseg_ns.masks.pointed import load_pointed

        return load_pointed(checkpoint.as_posix(), device)
    from segment_anything import SamPredictor

    from gseg_ns.masks.sources.sam_model import load_sam

    return SamPredictor(load_sam(checkpoint).to(device))


def mask_queries(
    feature_image: Tensor,
    mask: Tensor,
    gate: Tensor | None = None,
    threshold: float = SAME_THING,
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


@torch.no_grad()
def guided_queries(projected: Tensor, features: Tensor, mask: Tensor, clusters: int = 5) -> Tensor:
    """Queries of a mask out of SAM's own features, which SAM guidance has brought into the space of the Gaussians'.

    Version 1's SAM-based prompt: the mean inside the mask, if it finds nine tenths of the mask's pixels again; else
    means of what k-means finds there, for what is asked for may have several components.

    Args:
        projected: [h, w, D] embedding of the picture, projected (phi).
        features: [H, W, D] rendered, of the same picture.
        mask: [H, W] bool, not empty.
        clusters: of k-means; the official code has one for each eighth of the grid that the mask is in.

    Returns:
        [Q, D], to be compared by dot products (Eq. 12).
    """
    share = F.interpolate(mask[None, None].to(projected), size=projected.shape[:2], mode="area")[0, 0]
    inside = share >= 0.5
    if not bool(inside.any()):  # smaller than a cell of the grid
        inside = share == share.max()
    mean = prototypes(projected, inside[None])[0]
    if accept_mean_query(mean, features, mask.to(features.device)):
        return mean[None]
    cells = projected[inside]
    own = (F.normalize(cells, dim=-1) @ kmeans(cells, clusters).T).argmax(dim=1)
    return torch.stack([cells[own == cluster].mean(dim=0) for cluster in own.unique()])


@torch.no_grad()
def select_guided(features: Tensor, queries: Tensor) -> Tensor:
    """Gaussians [N] whose largest dot product with a query is above the mean plus the standard deviation of all (v1).

    Args:
        features: [N, D].
        queries: [Q, D] of `guided_queries`.
    """
    scores = (features @ queries.T).amax(dim=1)
    return scores > sam_threshold(scores)
