"""Projection of 3D Gaussians to the image plane on the CPU, and their colors from spherical harmonics."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from gsplat.cuda import _torch_impl as gsplat_torch
from torch import Tensor

from gseg_ns.rendering import threads
from gseg_ns.rendering.kernels import harmonics, project

# Gaussians worth handing to a thread.
_GRAIN = 1024


def _array(tensor: Tensor, dtype: torch.dtype) -> np.ndarray:
    return tensor.detach().to(dtype).contiguous().numpy()


class _Pinhole(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        viewmats: Tensor,
        Ks: Tensor,
        width: int,
        height: int,
        eps2d: float,
        near_plane: float,
        far_plane: float,
        radius_clip: float,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        cameras, count = viewmats.shape[0], means.shape[0]
        dtype = means.dtype
        inputs = (*(_array(t, dtype) for t in (means, quats, scales, viewmats, Ks)), width, height, float(eps2d))
        radii = torch.empty((cameras, count), dtype=torch.int32)
        means2d = torch.empty((cameras, count, 2), dtype=dtype)
        depths = torch.empty((cameras, count), dtype=dtype)
        conics = torch.empty((cameras, count, 3), dtype=dtype)
        compensations = torch.empty((cameras, count), dtype=dtype)
        flat = [t.view(cameras * count, *t.shape[2:]).numpy() for t in (radii, means2d, depths, conics, compensations)]
        limits = (float(near_plane), float(far_plane), float(radius_clip))
        threads.share(project.forward, cameras * count, *inputs, *limits, *flat, grain=_GRAIN)
        ctx.inputs, ctx.outputs = inputs, (flat[0], flat[3], flat[4])
        ctx.mark_non_differentiable(radii)
        ctx.set_materialize_grads(False)
        return radii, means2d, depths, conics, compensations

    @staticmethod
    def backward(ctx: Any, _: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        means, quats, scales, viewmats = ctx.inputs[:4]
        cameras, count = viewmats.shape[0], means.shape[0]
        total = cameras * count
        shapes: tuple[tuple[int, ...], ...] = ((total, 2), (total,), (total, 3), (0,))
        upstream = [
            np.zeros(shape, means.dtype)
            if grad is None
            else grad.detach().contiguous().numpy().reshape(total, *shape[1:])
            for grad, shape in zip(grads, shapes, strict=True)
        ]
        results = [np.empty_like(a) for a in (means, quats, scales)]
        v_views = np.empty((total if ctx.needs_input_grad[3] else 0, 12), means.dtype)
        threads.share(project.backward, count, *ctx.inputs, *ctx.outputs, *upstream, *results, v_views, grain=_GRAIN)
        v_viewmats = None
        if ctx.needs_input_grad[3]:
            v_viewmats = torch.zeros((cameras, 4, 4), dtype=torch.from_numpy(means).dtype)
            v_viewmats[:, :3] = torch.from_numpy(v_views.reshape(cameras, count, 12).sum(axis=1)).view(cameras, 3, 4)
        return (*(torch.from_numpy(r) for r in results), v_viewmats, *(None,) * 7)


def project_gaussians(
    means: Tensor,  # [N, 3]
    quats: Tensor,  # [N, 4]
    scales: Tensor,  # [N, 3]
    covars: Tensor | None,  # [N, 3, 3], instead of quats and scales
    viewmats: Tensor,  # [C, 4, 4]
    Ks: Tensor,  # [C, 3, 3]
    width: int,
    height: int,
    eps2d: float,
    near_plane: float,
    far_plane: float,
    radius_clip: float,
    calc_compensations: bool,
    camera_model: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """Radii [C, N] int32, 2D means [C, N, 2], depths [C, N], conics [C, N, 3], compensations [C, N] or None.

    As gsplat's `fully_fused_projection`, with gradients in everything but Ks. The pinhole camera has a kernel; other
    cameras, and given covariances, go through gsplat's own torch reference (slower).

    Raises:
        ValueError: unknown camera model.
    """
    if camera_model not in ("pinhole", "ortho", "fisheye"):
        raise ValueError(f"rasterization: camera_model is {camera_model!r}; use pinhole, ortho or fisheye")
    if covars is None and camera_model == "pinhole":
        radii, means2d, depths, conics, compensations = _Pinhole.apply(
            means, quats, scales, viewmats, Ks, width, height, eps2d, near_plane, far_plane, radius_clip
        )
        return radii, means2d, depths, conics, compensations if calc_compensations else None
    if covars is None:
        covars, _ = gsplat_torch._quat_scale_to_covar_preci(quats, scales, compute_preci=False)
    radii, means2d, depths, conics, compensations = gsplat_torch._fully_fused_projection(
        means, covars, viewmats, Ks, width, height, eps2d, near_plane, far_plane, calc_compensations, camera_model
    )
    if radii.dim() == 3:  # gsplat 1.5: one along each axis
        radii = torch.where((radii > 0).all(dim=-1), radii.amax(dim=-1), 0)
    finite = torch.isfinite(means2d).all(-1) & torch.isfinite(conics).all(-1)
    radii = torch.where((radii > radius_clip) & finite, radii, torch.zeros_like(radii))
    shown = radii > 0
    means2d = torch.where(shown[..., None], means2d, torch.zeros_like(means2d))
    conics = torch.where(shown[..., None], conics, torch.zeros_like(conics))
    if compensations is not None:
        compensations = torch.where(shown, compensations, torch.zeros_like(compensations))
    return radii, means2d, depths, conics, compensations


class Coefficients(NamedTuple):
    """Spherical harmonics in two tensors, as Splatfacto keeps them: nothing is copied to make one of them."""

    first: Tensor  # [N, 1, 3], degree 0
    rest: Tensor  # [N, K - 1, 3]

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the one tensor that they would be."""
        return self.first.shape[0], 1 + self.rest.shape[1], 3

    def joined(self) -> Tensor:
        """[N, K, 3]."""
        return torch.cat(self, dim=1)


class _Harmonics(torch.autograd.Function):
    """Coefficients [(C,) N, K, 3] of all degrees, or [N, 1, 3] and the `rest` of them [N, K - 1, 3]."""

    @staticmethod
    def forward(ctx: Any, degree: int, dirs: Tensor, coeffs: Tensor, rest: Tensor | None, radii: Tensor) -> Tensor:
        total = dirs.shape[0] * dirs.shape[1]
        inputs = (
            degree,
            dirs.detach().reshape(total, 3).contiguous().numpy(),
            *_first_and_rest(coeffs.detach(), None if rest is None else rest.detach()),
            radii.reshape(total).contiguous().numpy(),
        )
        colors = torch.empty_like(dirs)
        flat = colors.view(total, 3).numpy()
        threads.share(harmonics.forward, total, *inputs, flat, grain=_GRAIN)
        ctx.inputs, ctx.colors = inputs, flat
        ctx.shapes = coeffs.shape, None if rest is None else rest.shape
        return colors

    @staticmethod
    def backward(ctx: Any, v_colors: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        dirs, first = ctx.inputs[1:3]
        v_dirs = np.empty_like(dirs)
        shape, others = ctx.shapes
        v_coeffs = torch.empty(shape, dtype=v_colors.dtype)
        v_rest = None if others is None else torch.empty(others, dtype=v_colors.dtype)
        upstream = v_colors.contiguous().numpy().reshape(-1, 3)
        threads.share(
            harmonics.backward, first.shape[0], *ctx.inputs, ctx.colors, upstream, v_dirs,
            *_first_and_rest(v_coeffs, v_rest)[:2], grain=_GRAIN,
        )  # fmt: skip
        return None, torch.from_numpy(v_dirs).view_as(v_colors), v_coeffs, v_rest, None


def _first_and_rest(coeffs: Tensor, rest: Tensor | None) -> tuple[np.ndarray, np.ndarray, int]:
    """What the kernels take: rows with the coefficients of degree 0, rows with the others, and where these begin."""
    if rest is None:
        whole = coeffs.reshape(-1, 3 * coeffs.shape[-2]).contiguous().numpy()
        return whole, whole, 3
    others = rest.reshape(len(rest), 3 * rest.shape[1])
    return coeffs.reshape(-1, 3).contiguous().numpy(), others.contiguous().numpy(), 0


def sh_colors(degree: int, dirs: Tensor, coeffs: Tensor | Coefficients, radii: Tensor) -> Tensor:
    """Colors max(SH + 0.5, 0) [C, N, 3] of coefficients [(C,) N, K, 3] along `dirs` [C, N, 3]; 0 where radii is 0.

    Raises:
        ValueError: a degree above 4.
    """
    if not 0 <= degree <= harmonics.MAX_DEGREE:
        raise ValueError(f"rasterization: sh_degree is {degree}; it must be 0..{harmonics.MAX_DEGREE}")
    first, rest = coeffs if isinstance(coeffs, Coefficients) else (coeffs, None)
    return _Harmonics.apply(degree, dirs, first, rest, radii)
