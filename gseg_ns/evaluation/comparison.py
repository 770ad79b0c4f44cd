"""Prediction beside ground truth, to look at."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gseg_ns.palette import colors
from gseg_ns.pictures import outlines

WRONG = (0.9, 0.1, 0.1)
"""Red, for pixels whose prediction is not the one matched with their ground truth."""


def comparison(rgb: Tensor, truth: Tensor, predicted: Tensor, matched: Mapping[int, int], beyond: int) -> list[Tensor]:
    """The photograph, the ground truth, the prediction in the ground truth's colors, and what is wrong.

    A prediction that is matched with a ground-truth label has that label's color; all others keep one of their own,
    so that fragments and spill show. Void pixels of the ground truth (0) are neither right nor wrong.

    Args:
        rgb: [H, W, 3] in [0, 1].
        truth: [H, W] integer.
        predicted: [H, W] integer, of the same size.
        matched: predicted label -> ground-truth label.
        beyond: more than any ground-truth label of all views, and the same for all of them: a prediction that is not
            matched has the color of its id this much higher, in every view, which is no ground-truth label's.

    Returns:
        four pictures [H, W, 3] in [0, 1].
    """
    values, inverse = predicted.long().unique(return_inverse=True)
    names = torch.tensor([matched.get(int(v), int(v) + beyond if v > 0 else 0) for v in values], dtype=torch.long)
    renamed = names[inverse]
    wrong = (renamed != truth) & (truth > 0)
    grey = rgb.mean(dim=-1, keepdim=True).expand_as(rgb) * 0.5 + 0.5
    errors = torch.where(wrong[..., None], rgb.new_tensor(WRONG), grey)
    pictures = [rgb]
    for labels in (truth.long(), renamed):
        picture = colors(labels).to(rgb) / 255
        pictures.append(torch.where(outlines(labels)[..., None], torch.ones_like(rgb), picture))
    return [*pictures, errors]
