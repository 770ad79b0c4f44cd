"""Identity Gradient Guided Densification: split the Gaussians that two objects pull at (GradiSeg, section 3.4).

The paper's thresholds and Algorithm 1 are not readable in any public copy; what stands in for them here is said at each
setting. Parameters, optimiser moments and per-Gaussian state change together, by gsplat's own operations.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

import torch
from torch import Tensor

GRADIENT = "identity_gradient"
"""Strategy-state entry: summed norms of the identity gradient, [N]."""

VISITS = "identity_visits"
"""Strategy-state entry: steps in which the identity gradient of a Gaussian was not zero, [N]."""

MAX_OPACITY = 0.99
"""Largest opacity of a child, below 1 so that its logit is finite and its gradient is alive."""


def reset_monitor(state: MutableMapping[str, Tensor], count: int, device: torch.device | str) -> None:
    """Start the identity gradient monitor of `count` Gaussians at zero."""
    state[GRADIENT] = torch.zeros(count, device=device)
    state[VISITS] = torch.zeros(count, device=device)


@torch.no_grad()
def accumulate(state: Mapping[str, Tensor], gradient: Tensor, num_pixels: int) -> None:
    """Add one step's identity gradients [N, D] to the monitor.

    The norm is taken before the sum: the opposite pulls of two objects must not cancel, they are the signal. The loss
    is a mean over pixels, so the gradient is multiplied by `num_pixels` to mean the same at every image size.
    """
    norm = gradient.norm(dim=-1)
    state[GRADIENT].add_(norm, alpha=float(num_pixels))
    state[VISITS].add_(norm > 0)


def mean_gradient(state: Mapping[str, Tensor]) -> Tensor:
    """Mean norm of the identity gradient over the steps that touched each Gaussian, [N]."""
    return state[GRADIENT] / state[VISITS].clamp_min(1.0)


def select(
    gradient: Tensor,  # [N]
    scales: Tensor,  # [N, 3]
    share: float = 0.01,
    threshold: float | None = None,
    min_scale: float = 0.0,
    budget: int | None = None,
) -> Tensor:
    """Gaussians to split.

    Args:
        gradient: mean identity gradient, from `mean_gradient`.
        scales: standard deviations in scene units (not logarithms).
        share: the share of all Gaussians with the largest gradients; used when `threshold` is None. An absolute
            threshold does not carry over between scenes, numbers of classes and stages of training; a share does.
        threshold: split every Gaussian above this mean gradient instead.
        min_scale: Gaussians whose longest axis is shorter are left alone: they lie on one side of any boundary already.
        budget: split no more than this many.

    Returns:
        [N] bool.
    """
    eligible = (gradient > 0) & (scales.amax(dim=-1) > min_scale)
    if threshold is not None:
        eligible &= gradient > threshold
        count = int(eligible.sum())
    else:
        count = min(int(eligible.sum()), round(share * gradient.shape[0]))
    count = count if budget is None else max(0, min(count, budget))
    mask = torch.zeros_like(eligible)
    if count:
        mask[gradient.masked_fill(~eligible, -1.0).topk(count).indices] = True
    return mask


def split_axis(
    quats: Tensor,  # [n, 4]
    scales: Tensor,  # [n, 3]
    direction: str = "longest_axis",
    position_gradient: Tensor | None = None,  # [n, 3]
    generator: torch.Generator | None = None,
) -> Tensor:
    """The principal axis along which each Gaussian is split, [n] int64 in 0..2.

    Args:
        quats: rotations, wxyz, any length.
        scales: standard deviations in scene units.
        direction: "longest_axis"; "position_gradient", the axis along which the loss pulls hardest, in units of its
            own extent (the longest where the gradient is zero); or "random".
        position_gradient: needed for "position_gradient".
        generator: for "random", on the CPU.

    Raises:
        ValueError: for an unknown direction, or a missing gradient.
    """
    if direction == "longest_axis":
        return scales.argmax(dim=-1)
    if direction == "random":
        return torch.randint(3, (scales.shape[0],), generator=generator).to(scales.device)
    if direction != "position_gradient":
        raise ValueError(f"split direction is {direction!r}; use longest_axis, position_gradient or random")
    if position_gradient is None:
        raise ValueError("the split direction position_gradient needs position gradients")
    pull = torch.einsum("nij,ni->nj", _rotations(quats), position_gradient).abs() * scales
    return torch.where(pull.amax(dim=-1) > 0, pull.argmax(dim=-1), scales.argmax(dim=-1))


@torch.no_grad()
def split_in_two(
    params: torch.nn.ParameterDict,
    optimizers: Mapping[str, torch.optim.Optimizer],
    state: MutableMapping[str, Tensor],
    mask: Tensor,  # [N] bool
    axis: Tensor,  # [n] int64
    offset: float = 0.5,
    shrink: float = 1.6,
    match_opacity: bool = True,
) -> int:
    """Replace each chosen Gaussian by two, one on either side of its centre, in place.

    Children stand at mu +- offset * s * v along the chosen principal axis v of extent s, which is divided by `shrink`;
    the other axes stay, so that the pair covers what the parent covered. All else is copied; optimiser moments of the
    children are zero; the monitor of the children starts anew.

    Args:
        params: per-Gaussian parameters as in Splatfacto: means, scales (log), quats, opacities (logit), any others.
        optimizers: one for each entry of `params`.
        state: per-Gaussian tensors [N, ...], moved along.
        mask: Gaussians to split, n of them.
        axis: principal axis of each, from `split_axis`.
        offset: distance of a child from the parent's centre, in standard deviations of the parent.
        shrink: divides the extent along the axis; 1.6 is 3DGS's for two children.
        match_opacity: choose the children's opacity so that the pair is as opaque at the parent's centre as the parent
            was; otherwise copy it, which makes faint Gaussians up to 1.45 times as dense.

    Returns:
        The number of Gaussians split. The children are the last 2n rows: all first ones, then all second ones.
    """
    from gsplat.strategy.ops import split

    count = int(mask.sum())
    if count == 0:
        return 0
    means, scales, opacities = (params[name][mask].clone() for name in ("means", "scales", "opacities"))
    rows = torch.arange(count, device=mask.device)
    step = _rotations(params["quats"][mask])[rows, :, axis] * (offset * scales[rows, axis].exp())[:, None]
    # gsplat's split moves parameters, optimiser moments and state in step, then its random children are overwritten.
    split(params=params, optimizers=optimizers, state=state, mask=mask)  # type: ignore[arg-type]
    scales[rows, axis] -= torch.log(torch.tensor(shrink))
    if match_opacity:
        overlap = torch.exp(torch.tensor(-0.5 * (offset * shrink) ** 2))
        opacity = (1.0 - (1.0 - opacities.sigmoid()).sqrt()) / overlap
        opacities = opacity.clamp(1e-6, MAX_OPACITY).logit()
    params["means"].data[-2 * count :] = torch.cat([means + step, means - step])
    params["scales"].data[-2 * count :] = scales.repeat(2, 1)
    params["opacities"].data[-2 * count :] = opacities.repeat(2, *[1] * (opacities.dim() - 1))
    for name in (GRADIENT, VISITS):
        if name in state:
            state[name][-2 * count :] = 0
    return count


def _rotations(quats: Tensor) -> Tensor:
    """Rotation matrices [n, 3, 3] of quaternions [n, 4], wxyz, any length; columns are the principal axes."""
    from gsplat.utils import normalized_quat_to_rotmat

    return normalized_quat_to_rotmat(torch.nn.functional.normalize(quats, dim=-1))
