"""Texts for methods that know groups: the masks of all views vote for the groups that they show."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import track
from torch import Tensor

from gseg_ns.data.datamanager import MaskDatamanager
from gseg_ns.errors import GsegError
from gseg_ns.lifting.text import TextImageEncoder, VoteGraph, encode_masks, shown_groups
from gseg_ns.models.base import SegmentationModel


def text_scales(model: SegmentationModel) -> tuple[float | None, ...]:
    """The scales at which a model's groups may be meant by a text: parts, objects and groups where there are levels."""
    return (0.0, 0.5, 1.0) if model.has_scales else (None,)


def group_votes(
    model: SegmentationModel,
    datamanager: MaskDatamanager,
    encoder: TextImageEncoder,
    lock: AbstractContextManager[Any] | None = None,
    tell: Callable[[str], None] | None = None,
) -> VoteGraph:
    """Encode the masks of all training views that show a group, and note which.

    Args:
        model: of a method with groups; those of all `text_scales` have numbers that differ.
        datamanager: of the run; the model itself knows it in training only.
        encoder: CLIP, or the like.
        lock: held while a view is rendered, and not while its masks are encoded.
        tell: is told of the progress, which goes to the terminal otherwise.

    Returns:
        a graph without features, whose targets are groups.

    Raises:
        GsegError: no mask of any view shows a group.
    """
    held: AbstractContextManager[Any] = nullcontext() if lock is None else lock
    count = len(datamanager.train_dataset)
    clip, targets = [], []
    for view in track(range(count), "Encoding masks", console=CONSOLE, transient=True, disable=tell is not None):
        if tell is not None:
            tell(f"Encoding masks with CLIP, once for all texts: view {view + 1} of {count} …")
        masks = datamanager.mask_set(view)
        if masks is None or len(masks := masks.select(masks.areas > 0)) == 0:
            continue
        with held:
            camera = datamanager.camera(view)
            images = [model.label_image(camera, scale).cpu() for scale in text_scales(model)]
        found = shown_groups(masks, images)
        shown = (found >= 0).nonzero().squeeze(1)
        if len(shown):
            clip.append(encode_masks(datamanager.cached_train[view]["image"].cpu(), masks.select(shown), encoder))
            targets.append(found[shown])
    if not clip:
        raise GsegError("No mask of any training view shows a group, and text prompts are answered by those masks.")
    rows = torch.cat(clip)
    return VoteGraph(rows, rows.new_zeros(len(rows), 0), rows.new_zeros(len(rows), 0), torch.cat(targets))


@torch.no_grad()
def meant_groups(model: SegmentationModel, groups: list[int]) -> Tensor:
    """The Gaussians of some groups, at whatever scale those are: bool [N]."""
    chosen = torch.zeros(model.num_points, dtype=torch.bool, device=model.device)
    wanted = torch.tensor(groups, device=model.device)
    for scale in text_scales(model):
        chosen |= torch.isin(model.gaussian_groups(scale), wanted)
    return chosen
