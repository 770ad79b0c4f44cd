"""A model with other Gaussians: to draw edits without touching what is trained, and to write them as a run."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import Parameter, ParameterDict

from gseg_ns.models.base import SegmentationModel
from gseg_ns.models.parameters import GEOMETRY, to_parameters
from gseg_ns.splats import Splats

Model = TypeVar("Model", bound=SegmentationModel)


def with_gaussians(model: Model, splats: Splats, source: Tensor) -> Model:
    """A view of `model` in which its Gaussians are others. `model` itself is not changed, not even for a moment.

    Everything but the Gaussians (heads, buffers, configuration) is shared between the two.

    Args:
        model: any method's model with N Gaussians.
        splats: M Gaussians, with SH of at most the model's degree.
        source: int64 [M], the model's Gaussian from which each takes its features; -1 = none, its features are zero.

    Returns:
        A model that renders and answers questions; it cannot be trained.
    """
    source = source.to(model.device)
    values = to_parameters(splats.to(model.device), int(model.config.sh_degree))
    for name, parameter in model.gauss_params.items():
        if name not in GEOMETRY:
            values[name] = _taken(parameter.detach(), source)
    other = copy.copy(model)
    other._modules = dict(model._modules)
    other._buffers = {
        name: _taken(buffer, source)
        if name in model.gaussian_buffers and buffer is not None and len(buffer)
        else buffer
        for name, buffer in model._buffers.items()
    }
    other.gauss_params = ParameterDict({name: Parameter(v, requires_grad=False) for name, v in values.items()})
    other.strategy_state = {}
    other.origin = model, source
    return other


def _taken(values: Tensor, source: Tensor) -> Tensor:
    rows = values[source.clamp_min(0)]
    known = (source >= 0).view(-1, *[1] * (values.ndim - 1))
    return torch.where(known, rows, torch.zeros((), dtype=values.dtype, device=values.device))
