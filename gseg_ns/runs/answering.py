"""Prompts of published benchmarks, answered by a run: scale and threshold are chosen on the view that is prompted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.lifting.strengths import label_image
from gseg_ns.lifting.thresholds import SAME_THING
from gseg_ns.models.base import SegmentationModel
from gseg_ns.runs.prompting import Prompter
from gseg_ns.selection.prompts import Prompt

SCALES = tuple(step / 10 for step in range(11))
"""Scales that are tried, of methods that have scales."""

THRESHOLDS = tuple(round(0.3 + 0.05 * step, 2) for step in range(14))
"""Cosines that are tried, of methods that answer by features."""

SURELY = 1e-6
"""What is better by less than this is not better."""


class Answer(NamedTuple):
    """What a run makes of a prompt."""

    selected: Tensor  # [N] bool
    scale: float | None
    """Of methods that have scales."""
    threshold: float | None
    """Of methods that answer by features."""
    agreement: float
    """Of what the prompted view then shows with the prompt, in 0..1."""


@torch.no_grad()
def selection_in_view(model: SegmentationModel, camera: Cameras, selected: Tensor) -> Tensor:
    """Where a selection [N] is most of what a view shows: [H, W] bool."""
    model.get_outputs_for_camera(camera)
    return _mostly(model, selected)


def _mostly(model: SegmentationModel, selected: Tensor) -> Tensor:
    """Where a selection [N] is most of what the view shows that was rendered last: [H, W] bool."""
    return model.silhouettes(model.info, selected[:, None])[..., 0]


@torch.no_grad()
def category_in_view(model: SegmentationModel, camera: Cameras, categories: Tensor, number: int) -> Tensor:
    """Where a category is more of what a view shows than any other: [H, W] bool.

    Args:
        model: of the run.
        camera: the view [1].
        categories: [N] int64 of the Gaussians, counted from 1, 0 = none.
        number: which.
    """
    model.get_outputs_for_camera(camera)
    return label_image(model.info, categories)[0] == number


def agreement(prompt: Prompt, seen: Tensor) -> float:
    """How far what is seen [H, W] agrees with a prompt: IoU with its mask; of a scribble, the mean of two shares: of
    what is wanted that is seen, and of what is not wanted that is not.
    """
    if prompt.mask is not None:
        mask = prompt.mask.to(seen.device)
        return float((mask & seen).sum() / (mask | seen).sum().clamp_min(1))
    assert prompt.scribble is not None
    scribble = prompt.scribble.to(seen.device)
    shares = [seen[scribble == 1].float().mean()]
    if bool((scribble == 2).any()):
        shares.append(1 - seen[scribble == 2].float().mean())
    return float(torch.stack(shares).mean())


def answer_prompt(model: SegmentationModel, camera: Cameras, prompt: Prompt) -> Answer:
    """Answer a mask or scribble at the scale and threshold with which the prompted view agrees best.

    Of several that agree alike, those nearest to the defaults are taken.

    Args:
        model: of the run.
        camera: the view [1] that is prompted.
        prompt: with a mask or a scribble, and no points.

    Raises:
        GsegError: nothing is selected at any of them, or the prompt does not fit the view.
    """
    prompter, best = Prompter(model), None
    refused: GsegError | None = None
    # All settings of features ask the same picture.
    seen = prompter.see(camera) if model.prompts_by_feature else None
    drawn: dict[bytes, float] = {}
    for scale, threshold in _settings(model):
        try:
            selected = prompter.select(camera, prompt, scale, SAME_THING if threshold is None else threshold, seen=seen)
        except GsegError as error:  # no group there at this scale
            refused = error
            continue
        if not bool(selected.any()):
            continue
        key = hashlib.blake2b(selected.cpu().numpy().tobytes(), digest_size=16).digest()
        if key not in drawn:
            shown = selection_in_view(model, camera, selected) if seen is None else _mostly(model, selected)
            drawn[key] = agreement(prompt, shown)
        if best is None or drawn[key] > best.agreement + SURELY:
            best = Answer(selected, scale, threshold, drawn[key])
    if best is None and refused is not None:
        raise refused
    if best is None:
        raise GsegError("The prompt selects nothing at any scale and threshold")
    return best


def _settings(model: SegmentationModel) -> Iterator[tuple[float | None, float | None]]:
    """Scales and thresholds, those nearest to the defaults first."""
    scales = sorted(SCALES, key=lambda scale: abs(scale - model.default_scale)) if model.has_scales else [None]
    by_feature = model.prompts_by_feature
    thresholds = sorted(THRESHOLDS, key=lambda value: abs(value - SAME_THING)) if by_feature else [None]
    return ((scale, threshold) for scale in scales for threshold in thresholds)
