"""SAM guidance, of the first version of SAGA (arXiv 2312.00860v1, section 3.3): masks as the encoder of SAM sees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gseg_ns.errors import GsegError
from gseg_ns.reading import read_npz, reading

_LARGEST_EMBEDDING = 2**27


def read_embedding(path: Path) -> Tensor:
    """Read a stored image embedding, without the padding of the square that the encoder saw.

    Args:
        path: .npz with `embedding` [C, S, S] and, where the image was padded, `input_size` [2] (height, width) of the
            image within a square of side `square`.

    Returns:
        [h, w, C] float32; its grid spans the image.

    Raises:
        GsegError: the file is missing or is no embedding.
    """
    about = ("a stored image embedding", "Make the masks again with embeddings, or leave the SAM guidance out.")
    with reading(path, *about):
        stored = read_npz(path, ["embedding"], *about, optional=["input_size", "square"], most=_LARGEST_EMBEDDING)
        grid = stored["embedding"]
        fits = grid.ndim == 3 and grid.dtype.kind == "f" and 0 not in grid.shape
        if not fits or not (np.abs(grid) <= np.finfo(np.float32).max).all():
            raise GsegError(
                f"{path} holds an array of shape {grid.shape}, not an embedding of channels, rows, columns."
            )
        used = np.ones(2)
        if "input_size" in stored:
            sizes, square = stored["input_size"].astype(np.float64), stored["square"].astype(np.float64)
            if sizes.shape != (2,) or square.shape != () or not (0 < sizes.min() <= sizes.max() <= square < np.inf):
                raise ValueError("an image that does not lie within its square")
            used = sizes / square
        return without_padding(torch.from_numpy(np.asarray(grid, dtype=np.float32)), used.tolist())


def without_padding(embedding: Tensor, used: Sequence[float]) -> Tensor:
    """The part of an embedding that is of the image.

    Args:
        embedding: [C, S, S] of the square that the encoder saw, with the image in its upper left.
        used: parts of the square's height and width that the image has.

    Returns:
        [h, w, C]; its grid spans the image.
    """
    height, width = (max(1, round(size * share)) for size, share in zip(embedding.shape[1:], used, strict=True))
    return embedding[:, :height, :width].permute(1, 2, 0).contiguous()


class SamProjection(nn.Module):
    """The MLP phi from the embedding of SAM to the space of the features (Eq. 4), laid out as the official one."""

    def __init__(self, embedding: int = 256, channels: int = 32, hidden: int = 64) -> None:
        super().__init__()
        self.channels = embedding
        """Of the embeddings that it takes."""
        self.layers = nn.Sequential(
            nn.Linear(embedding, hidden),
            nn.LayerNorm(hidden),
            nn.LeakyReLU(),
            nn.Linear(hidden, hidden),
            nn.LayerNorm(hidden),
            nn.LeakyReLU(),
            nn.Linear(hidden, channels),
        )

    def forward(self, embedding: Tensor) -> Tensor:
        """[..., E] embeddings to [..., D]."""
        return self.layers(embedding)


def prototypes(projected: Tensor, masks: Tensor) -> Tensor:
    """One query a mask: the mean of the projected embedding inside it (Eq. 5).

    Args:
        projected: [h, w, D] of one image.
        masks: [M, h, w] bool, resized to the embedding's grid; leave out those that cover none of its cells.

    Returns:
        [M, D] queries; zero for a mask without a cell.
    """
    weight = masks.flatten(1).to(projected)
    return weight @ projected.flatten(0, 1) / weight.sum(dim=1, keepdim=True).clamp_min(1)


def guidance_loss(
    features: Tensor, queries: Tensor, members: Tensor, reduction: Literal["mean", "sum"] = "mean"
) -> Tensor:
    """Binary cross entropy between sigmoid(T . F) and the masks (Eqs. 6 and 7).

    Args:
        features: [P, D] rendered.
        queries: [M, D].
        members: [P, M] bool.
        reduction: over pixels and masks, a mean as in the official code or a sum as in the paper.

    Returns:
        scalar, 0 where there is no mask.
    """
    if members.numel() == 0:
        return features.sum() * 0.0
    return F.binary_cross_entropy_with_logits(features @ queries.T, members.to(features), reduction=reduction)


def clutter_loss(features: Tensor, queries: Tensor) -> Tensor:
    """Mean of max(f . T, 0) over Gaussians and queries: most Gaussians belong to no given mask.

    In the official code (times 0.1, on a tenth of the Gaussians), not in the paper.

    Args:
        features: [n, D] of drawn Gaussians.
        queries: [M, D].
    """
    return F.relu(features @ queries.T).mean() if len(queries) and len(features) else features.sum() * 0.0


def accept_mean_query(query: Tensor, features: Tensor, mask: Tensor, recall: float = 0.9) -> bool:
    """Whether one query explains a mask: it finds the given share of the mask's pixels (section 3.4, SAM-based prompt).

    Args:
        query: [D].
        features: [H, W, D] rendered.
        mask: [H, W] bool.
        recall: share.
    """
    inside = features[mask]
    return bool(len(inside)) and float((inside @ query > 0).float().mean()) > recall


def sam_threshold(scores: Tensor) -> float:
    """tau^SAM, mean plus standard deviation of all scores [N] (section 3.4)."""
    return float(scores.mean() + scores.std(unbiased=False)) if len(scores) else 0.0
