"""From marks on a view to Gaussians, whatever the method: by groups, or by the likeness of features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gseg_ns.lifting.likeness import ONE_THING
from gseg_ns.selection.prompts import Prompt, groups_of, queries, select
from gseg_ns.selection.prompts_sam import mask_queries

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from torch import Tensor

    from gseg_ns.models.base import SegmentationModel


@torch.no_grad()
def select_by_marks(
    model: SegmentationModel,
    camera: Cameras,
    prompt: Prompt,
    scale: float | None = None,
    threshold: float = ONE_THING,
    mask_by_sam: bool = False,
) -> Tensor:
    """Select what a prompt means.

    Args:
        model: a trained model.
        camera: the view [1] that was marked.
        prompt: the marks.
        scale: granularity in [0, 1] of methods that have scales; None: the model's default.
        threshold: least cosine, for methods that answer by features.
        mask_by_sam: the mask of the prompt was made by SAM from points: SAGA's way for those.

    Returns:
        bool [N].

    Raises:
        GsegError: a mark does not fit the view, or lies on empty space.
    """
    if not model.prompts_by_feature:
        return torch.isin(model.gaussian_groups(scale), groups_of(prompt, model.label_image(camera, scale)))
    gate = model.gate(model.default_scale if scale is None else scale)
    image = model.feature_image(camera)
    alpha = model.composite(torch.ones(len(model.means), 1, device=model.device))[..., 0]
    positive, negative = queries(prompt, image, alpha)
    if mask_by_sam and prompt.mask is not None:
        positive = mask_queries(image, prompt.mask.to(alpha.device) & (alpha >= 0.5), gate, threshold)
    features = model.gauss_params[model.main_feature].detach()
    return select(features, positive, negative, gate, threshold)[0]
