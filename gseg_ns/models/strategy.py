"""Densification within a budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gsplat
import torch
from gsplat.strategy import DefaultStrategy
from gsplat.strategy.ops import reset_opa

from gseg_ns.rendering import visible

_NEVER_RESETS = gsplat.__version__.startswith("1.5.")
"""gsplat 1.5 asks `step % reset_every == 0 & step > 0`, which Python reads as `... == (0 & step) > 0`."""


@dataclass
class BudgetedStrategy(DefaultStrategy):
    """gsplat's `DefaultStrategy` that never grows beyond `max_gaussians`.

    On the CPU the time of a step follows the number of Gaussians: unlimited growth makes it twenty times slower for
    little gain. Where more Gaussians ask to be duplicated or split than the budget allows, those with the largest
    image-plane gradient are served.
    """

    max_gaussians: int = 0
    """0 = no limit."""

    @torch.no_grad()
    def step_post_backward(
        self, params: Any, optimizers: Any, state: dict[str, Any], step: int, info: dict[str, Any], packed: bool = False
    ) -> None:
        """As upstream; opacities are reset with gsplat 1.5.3 too, whose own condition for it is never true."""
        super().step_post_backward(params, optimizers, state, step, info, packed)
        if _NEVER_RESETS and step < self.refine_stop_iter and step > 0 and step % self.reset_every == 0:
            reset_opa(params=params, optimizers=optimizers, state=state, value=self.prune_opa * 2.0)

    def _update_state(self, params: Any, state: dict[str, Any], info: dict[str, Any], packed: bool = False) -> None:
        """As upstream, but over all Gaussians instead of picking out those in view, which a GPU is waited for."""
        if packed:
            super()._update_state(params, state, info, packed)
            return
        means2d, radii, seen = info[self.key_for_gradient], info["radii"], visible(info)
        gradient = (means2d.absgrad if self.absgrad else means2d.grad).clone()  # [C, N, 2]
        gradient[..., 0] *= info["width"] / 2.0 * info["n_cameras"]
        gradient[..., 1] *= info["height"] / 2.0 * info["n_cameras"]
        for name in ("grad2d", "count", *(("radii",) if self.refine_scale2d_stop_iter > 0 else ())):
            if state[name] is None:
                state[name] = torch.zeros(seen.shape[1], device=gradient.device)
        state["grad2d"] += torch.where(seen, gradient.norm(dim=-1), 0.0).sum(dim=0)
        state["count"] += seen.sum(dim=0)
        if self.refine_scale2d_stop_iter > 0:
            size = radii if radii.dim() == 2 else radii.amax(dim=-1)  # gsplat 1.5: one radius an axis
            share = torch.where(seen, size / float(max(info["width"], info["height"])), 0.0).amax(dim=0)
            state["radii"] = torch.maximum(state["radii"], share)

    @torch.no_grad()
    def _grow_gs(self, params: Any, optimizers: Any, state: dict[str, Any], step: int) -> tuple[int, int]:
        count = params["means"].shape[0]
        budget = self.max_gaussians - count
        if self.max_gaussians <= 0:
            return super()._grow_gs(params, optimizers, state, step)
        if budget <= 0:
            return 0, 0
        gradient = state["grad2d"] / state["count"].clamp_min(1)
        wanted = gradient > self.grow_grad2d
        if step < self.refine_scale2d_stop_iter:
            wanted |= state["radii"] > self.grow_scale2d
        if int(wanted.sum()) > budget:
            served = torch.zeros_like(wanted)
            served[torch.where(wanted, gradient, -1.0).topk(budget).indices] = True
            refused = wanted & ~served
            # Growth reads only these two; both are zeroed right after refinement, and pruning reads the radii of
            # Gaussians that are too large on screen, which are then pruned one refinement later.
            state["grad2d"][refused] = 0
            if state.get("radii") is not None:
                state["radii"][refused] = 0
        return super()._grow_gs(params, optimizers, state, step)
