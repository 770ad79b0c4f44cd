"""`rasterization`, `project` and `rasterize_to_pixels`: gsplat 1.4.0's contract on either device."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal, cast

import gsplat
import numpy as np
import torch
from torch import Tensor

from gseg_ns.rendering import cpu
from gseg_ns.rendering.binning import tile_lists
from gseg_ns.rendering.projection import Coefficients, project_gaussians, sh_colors

RenderMode = Literal["RGB", "D", "ED", "RGB+D", "RGB+ED"]
CameraModel = Literal["pinhole", "ortho", "fisheye"]

_ONE_RADIUS = gsplat.__version__.startswith("1.4.")
"""Whether the installed gsplat has one radius a Gaussian and view in its `meta`; later ones have one an axis."""

_ONE_PASS = 64
"""Channels that gsplat's backward kernel takes at once in the shared memory that every card has."""


def _check(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)


def rasterization(
    means: Tensor,  # [N, 3]
    quats: Tensor,  # [N, 4]
    scales: Tensor,  # [N, 3]
    opacities: Tensor,  # [N]
    colors: Tensor | Coefficients,  # [(C,) N, D] or [(C,) N, K, 3]
    viewmats: Tensor,  # [C, 4, 4]
    Ks: Tensor,  # [C, 3, 3]
    width: int,
    height: int,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    packed: bool = True,
    tile_size: int = 16,
    backgrounds: Tensor | None = None,  # [C, X]
    render_mode: RenderMode = "RGB",
    sparse_grad: bool = False,
    absgrad: bool = False,
    rasterize_mode: Literal["classic", "antialiased"] = "classic",
    channel_chunk: int = 32,
    distributed: bool = False,
    camera_model: CameraModel = "pinhole",
    covars: Tensor | None = None,  # [N, 3, 3]
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Render Gaussians, with gradients: `gsplat.rasterization` on CUDA tensors, the same on CPU tensors.

    Arguments, defaults and results are those of gsplat 1.4.0; 1.5 does on CUDA what it does, of which `radii` in the
    meta dictionary is one along each axis (see `visible`). A Gaussian whose opacity is NaN or infinite is left out,
    which gsplat alone does not do. Harmonics may also come in two tensors (`Coefficients`). On the CPU:

    - `packed`, `sparse_grad` and `distributed` must be False (pass `packed=False`: gsplat's default is True).
    - `channel_chunk` has no effect: any number of channels is one pass. (On CUDA it is passed over with `absgrad`,
      which gsplat gives of the last chunk alone.)
    - `meta["flatten_ids"]` lists fewer tiles a Gaussian than gsplat's, with the same image.
    - A Gaussian with a NaN or infinite position, rotation, scale or opacity is left out and gets zero gradients;
      a NaN color stays within the pixels that show it.

    Returns:
        Colors [C, H, W, X] (X = D, 1 for "D" and "ED", D + 1 for "RGB+D" and "RGB+ED"), alphas [C, H, W, 1], and
        gsplat's meta dictionary. `meta["means2d"]` is in the graph; after backward it carries `.absgrad` [C, N, 2]
        if asked for.

    Raises:
        ValueError: wrong shape, or an option that the CPU does not have.
    """
    if isinstance(colors, Coefficients) and (means.is_cuda or sh_degree is None):
        colors = colors.joined()
    if means.is_cuda:
        # gsplat composites chunk by chunk, and each chunk's gradient would overwrite the `absgrad` of the one before.
        channels = (colors.shape[-1] if "RGB" in render_mode else 0) + int(render_mode != "RGB")
        if absgrad and channels > channel_chunk:
            _check(channels <= _ONE_PASS, f"rasterization: absgrad has {channels} channels to see; it can {_ONE_PASS}")
            channel_chunk = channels
        # By name: gsplat 1.5 has further arguments between these.
        return gsplat.rasterization(
            means=means, quats=quats, scales=scales, opacities=_finite(opacities), colors=colors, viewmats=viewmats,
            Ks=Ks, width=width, height=height, near_plane=near_plane, far_plane=far_plane, radius_clip=radius_clip,
            eps2d=eps2d, sh_degree=sh_degree, packed=packed, tile_size=tile_size, backgrounds=backgrounds,
            render_mode=render_mode, sparse_grad=sparse_grad, absgrad=absgrad, rasterize_mode=rasterize_mode,
            channel_chunk=channel_chunk, distributed=distributed, camera_model=camera_model, covars=covars,
        )  # fmt: skip
    _check(
        not (packed or sparse_grad or distributed),
        "rasterization: packed, sparse_grad and distributed rendering need CUDA tensors; pass packed=False",
    )
    _check(
        render_mode in ("RGB", "D", "ED", "RGB+D", "RGB+ED"),
        f"rasterization: render_mode is {render_mode!r}; use RGB, D, ED, RGB+D or RGB+ED",
    )
    count, cameras = means.shape[0], viewmats.shape[0]
    shape = tuple(colors.shape)
    if sh_degree is None:
        fits = (len(shape) == 2 and shape[0] == count) or (len(shape) == 3 and shape[:2] == (cameras, count))
        wanted = f"[{count}, D] or [{cameras}, {count}, D]"
    else:
        fits = (len(shape) == 3 and shape[0] == count) or (len(shape) == 4 and shape[:2] == (cameras, count))
        fits = fits and shape[-1] == 3 and shape[-2] >= (sh_degree + 1) ** 2
        wanted = (
            f"[{count}, K, 3] or [{cameras}, {count}, K, 3] with K >= {(sh_degree + 1) ** 2} for degree {sh_degree}"
        )
    _check(fits, f"rasterization: colors has shape {shape}; it must be {wanted}")

    meta = _project_cpu(
        means, quats, scales, opacities, viewmats, Ks, width, height, near_plane, far_plane, radius_clip, eps2d,
        tile_size, rasterize_mode, camera_model, covars,
    )  # fmt: skip
    if sh_degree is None:
        values = cast(Tensor, colors)
        values = values.expand(cameras, -1, -1) if values.dim() == 2 else values
    else:
        values = sh_colors(sh_degree, means[None] - _centres(viewmats)[:, None], colors, visible(meta).int())
    depths = meta["depths"][..., None]
    if render_mode in ("D", "ED"):
        values = depths
        backgrounds = None if backgrounds is None else backgrounds.new_zeros(cameras, 1)
    elif render_mode in ("RGB+D", "RGB+ED"):
        values = torch.cat([values, depths], dim=-1)
        if backgrounds is not None:
            backgrounds = torch.cat([backgrounds, backgrounds.new_zeros(cameras, 1)], dim=-1)
    if backgrounds is not None:
        shape, expected = tuple(backgrounds.shape), (cameras, values.shape[-1])
        _check(shape == expected, f"rasterization: backgrounds has shape {shape}; it must be {expected}")
    image, alphas = cpu.rasterize_to_pixels(
        meta["means2d"], meta["conics"], values, meta["opacities"], width, height, tile_size, meta["isect_offsets"],
        meta["flatten_ids"], backgrounds=backgrounds, absgrad=absgrad, packed=cpu.taken_packed(meta),
    )  # fmt: skip
    if render_mode in ("ED", "RGB+ED"):
        image = torch.cat([image[..., :-1], image[..., -1:] / alphas.clamp(min=1e-10)], dim=-1)
    return image, alphas, meta


def rasterization_with_features(
    features: Tensor,  # [N, F]
    *,
    means: Tensor,  # [N, 3]
    colors: Tensor | Coefficients,  # [N, D] or [N, K, 3]
    viewmats: Tensor,  # [C, 4, 4]
    sh_degree: int | None = None,
    backgrounds: Tensor | None = None,  # [C, D]
    render_mode: RenderMode = "RGB",
    **options: Any,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Render further per-Gaussian values in the same pass as the colors: weights are computed once, not twice.

    Gradients of the features reach the geometry, and `absgrad`, like those of the colors.

    Args:
        features: the values.
        means: as in `rasterization`, like all others.
        colors: alike.
        viewmats: alike.
        sh_degree: alike.
        backgrounds: alike; features are composited without one.
        render_mode: one with RGB.
        options: the rest of `rasterization`'s arguments.

    Returns:
        What `rasterization` returns; `meta["features"]` is [C, H, W, F].

    Raises:
        ValueError: wrong shape, or an option that cannot be.
    """
    count, cameras = means.shape[0], viewmats.shape[0]
    shape = tuple(features.shape)
    _check(len(shape) == 2 and shape[0] == count, f"rasterization: features has shape {shape}; it must be [{count}, F]")
    _check(
        render_mode in ("RGB", "RGB+D", "RGB+ED"), f"rasterization: render_mode is {render_mode!r}; features need RGB"
    )
    if sh_degree is None:
        values = cast(Tensor, colors).expand(cameras, -1, -1)
    else:
        values = _harmonics(sh_degree, means[None] - _centres(viewmats)[:, None], colors)
    values = torch.cat([values, features.expand(cameras, -1, -1)], dim=-1)
    if backgrounds is not None:
        backgrounds = torch.cat([backgrounds, backgrounds.new_zeros(cameras, shape[1])], dim=-1)
    image, alphas, meta = rasterization(
        means=means, colors=values, viewmats=viewmats, backgrounds=backgrounds, render_mode=render_mode, **options
    )
    end = image.shape[-1] - int(render_mode != "RGB")
    begin = end - shape[1]
    meta["features"] = image[..., begin:end]
    image = image[..., :begin] if render_mode == "RGB" else torch.cat([image[..., :begin], image[..., end:]], dim=-1)
    return image, alphas, meta


def _centres(viewmats: Tensor) -> Tensor:
    """Where the cameras are: [C, 3]."""
    if not viewmats.is_cuda and not viewmats.requires_grad:
        # A fifth of the time of torch's, which is made for large matrices, and says which of them has no inverse.
        with suppress(np.linalg.LinAlgError):
            return torch.from_numpy(np.linalg.inv(viewmats.numpy())[:, :3, 3])
    return torch.inverse(viewmats)[:, :3, 3]


def _finite(opacities: Tensor) -> Tensor:
    """The opacities, 0 where they are NaN or infinite."""
    return opacities.nan_to_num(0.0, 0.0, 0.0)


def _harmonics(degree: int, dirs: Tensor, coefficients: Tensor | Coefficients) -> Tensor:
    """Colors [C, N, 3] of SH coefficients [N, K, 3] along dirs [C, N, 3], of every Gaussian."""
    if dirs.is_cuda:
        from gsplat.cuda._wrapper import spherical_harmonics

        if isinstance(coefficients, Coefficients):
            coefficients = coefficients.joined()
        colors = spherical_harmonics(degree, dirs, coefficients.expand(dirs.shape[0], -1, -1, -1))
        return (colors + 0.5).clamp_min(0.0)
    return sh_colors(degree, dirs, coefficients, torch.ones(dirs.shape[:2], dtype=torch.int32))


@torch.no_grad()
def project(
    means: Tensor,  # [N, 3]
    quats: Tensor,  # [N, 4]
    scales: Tensor,  # [N, 3]
    opacities: Tensor,  # [N]
    viewmats: Tensor,  # [C, 4, 4]
    Ks: Tensor,  # [C, 3, 3]
    width: int,
    height: int,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
    eps2d: float = 0.3,
    tile_size: int = 16,
    rasterize_mode: Literal["classic", "antialiased"] = "classic",
    camera_model: CameraModel = "pinhole",
    covars: Tensor | None = None,  # [N, 3, 3]
) -> dict[str, Any]:
    """Everything that `rasterization` does before it composites: its meta dictionary, without gradients.

    Raises:
        ValueError: wrong shape.
    """
    if not means.is_cuda:
        return _project_cpu(
            means, quats, scales, opacities, viewmats, Ks, width, height, near_plane, far_plane, radius_clip, eps2d,
            tile_size, rasterize_mode, camera_model, covars,
        )  # fmt: skip
    from gsplat.cuda._wrapper import fully_fused_projection, isect_offset_encode, isect_tiles

    cameras = viewmats.shape[0]
    triangle = None if covars is None else covars[..., [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]]
    radii, means2d, depths, conics, compensations = fully_fused_projection(
        means, triangle, None if covars is not None else quats, None if covars is not None else scales, viewmats, Ks,
        width, height, eps2d=eps2d, near_plane=near_plane, far_plane=far_plane, radius_clip=radius_clip, packed=False,
        calc_compensations=rasterize_mode == "antialiased", camera_model=camera_model,
    )  # fmt: skip
    opacities = _finite(opacities).repeat(cameras, 1)
    if compensations is not None:
        opacities = opacities * compensations
    tile_width, tile_height = -(-width // tile_size), -(-height // tile_size)
    tiles_per_gauss, isect_ids, flatten_ids = isect_tiles(means2d, radii, depths, tile_size, tile_width, tile_height)
    offsets = isect_offset_encode(isect_ids, cameras, tile_width, tile_height)
    return _meta(
        radii, means2d, depths, conics, opacities, tiles_per_gauss, isect_ids, flatten_ids, offsets, width, height,
        tile_size,
    )  # fmt: skip


def rasterize_to_pixels(
    means2d: Tensor,  # [C, N, 2]
    conics: Tensor,  # [C, N, 3]
    colors: Tensor,  # [C, N, D]
    opacities: Tensor,  # [C, N]
    image_width: int,
    image_height: int,
    tile_size: int,
    isect_offsets: Tensor,  # [C, tile_height, tile_width]
    flatten_ids: Tensor,  # [n_isects]
    backgrounds: Tensor | None = None,  # [C, D]
    masks: Tensor | None = None,  # [C, tile_height, tile_width] bool
    packed: bool = False,
    absgrad: bool = False,
) -> tuple[Tensor, Tensor]:
    """Composite projected Gaussians: `gsplat.rasterize_to_pixels` on CUDA tensors, the same on CPU tensors.

    Typical use: features of Gaussians that were just rendered, over the lists in `meta`, so that projection and sort
    are not repeated. Detach means2d, conics and opacities where features must not move the geometry.

    The tile lists that `rasterization` and `project` make on the CPU hold for `meta["opacities"]` or smaller ones.

    Returns:
        Colors [C, H, W, D] and alphas [C, H, W, 1].

    Raises:
        ValueError: wrong shape, or packed input on the CPU.
    """
    if means2d.is_cuda:
        image, alphas = gsplat.rasterize_to_pixels(
            means2d, conics, colors, opacities, image_width, image_height, tile_size, isect_offsets, flatten_ids,
            backgrounds=backgrounds, masks=masks, packed=packed, absgrad=absgrad,
        )  # fmt: skip
        if masks is not None:
            # gsplat leaves the alphas of masked tiles as the memory was.
            shown = masks.repeat_interleave(tile_size, dim=1).repeat_interleave(tile_size, dim=2)
            alphas = torch.where(shown[:, :image_height, :image_width, None], alphas, 0.0)
        return image, alphas
    _check(not packed, "rasterize_to_pixels: packed input needs CUDA tensors; pass packed=False")
    cameras, count = means2d.shape[:2]
    expected = {
        "means2d": (means2d, (cameras, count, 2)),
        "conics": (conics, (cameras, count, 3)),
        "colors": (colors, (cameras, count, colors.shape[-1])),
        "opacities": (opacities, (cameras, count)),
        "isect_offsets": (isect_offsets, (cameras, -(-image_height // tile_size), -(-image_width // tile_size))),
    }
    if backgrounds is not None:
        expected["backgrounds"] = (backgrounds, (cameras, colors.shape[-1]))
    if masks is not None:
        expected["masks"] = (masks, tuple(isect_offsets.shape))
    for name, (tensor, shape) in expected.items():
        _check(
            tuple(tensor.shape) == shape, f"rasterize_to_pixels: {name} has shape {tuple(tensor.shape)}, not {shape}"
        )
    return cpu.rasterize_to_pixels(
        means2d, conics, colors, opacities, image_width, image_height, tile_size, isect_offsets, flatten_ids,
        backgrounds, masks, absgrad,
    )  # fmt: skip


def visible(meta: dict[str, Any]) -> Tensor:
    """Which Gaussians a view may show: [C, N] bool.

    gsplat 1.4 has one radius a Gaussian and view in its `meta`, 1.5 one along each axis.
    """
    radii = meta["radii"]
    return radii > 0 if radii.dim() == 2 else (radii > 0).all(dim=-1)


def tiles_showing(meta: dict[str, Any], rows: Tensor) -> Tensor:
    """Which tiles some of the Gaussians may be drawn in: [1, tile_height, tile_width] bool.

    Args:
        meta: from `project` or `rasterization`, with one camera.
        rows: [N] bool, the Gaussians.
    """
    if not rows.is_cuda:
        return cpu.tiles_showing(meta, rows)
    hits = rows[meta["flatten_ids"].long()]
    before = torch.zeros(len(hits) + 1, dtype=torch.int64, device=rows.device)
    torch.cumsum(hits, dim=0, out=before[1:])
    begins = meta["isect_offsets"].reshape(-1).long()
    ends = torch.cat([begins[1:], begins.new_full((1,), len(hits))])
    return (before[ends] > before[begins]).reshape(meta["isect_offsets"].shape)


def composite(meta: dict[str, Any], values: Tensor, tiles: Tensor | None = None) -> Tensor:
    """Composite values of Gaussians over the projection, tiles and sort of a view.

    Gradients reach the values, and not the geometry.

    Args:
        meta: from `project` or `rasterization`, with one camera.
        values: [N, D].
        tiles: [1, tile_height, tile_width] bool, where; others stay 0. None: everywhere.

    Returns:
        [H, W, D], not divided by alpha.
    """
    if not values.is_cuda and not (values.requires_grad and torch.is_grad_enabled()):
        count = meta["means2d"].shape[1]
        _check(
            values.dim() == 2 and len(values) == count, f"composite: values are {tuple(values.shape)}, not [{count}, D]"
        )
        shape = tuple(meta["isect_offsets"].shape)
        _check(tiles is None or tuple(tiles.shape) == shape, f"composite: tiles must be {shape}")
        return cpu.composite_values(meta, values.detach(), tiles)
    image, _ = rasterize_to_pixels(
        meta["means2d"].detach(),
        meta["conics"].detach(),
        values[None],
        meta["opacities"].detach(),
        meta["width"],
        meta["height"],
        meta["tile_size"],
        meta["isect_offsets"],
        meta["flatten_ids"],
        masks=tiles,
    )
    return image[0]


def _project_cpu(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    near_plane: float,
    far_plane: float,
    radius_clip: float,
    eps2d: float,
    tile_size: int,
    rasterize_mode: str,
    camera_model: str,
    covars: Tensor | None,
) -> dict[str, Any]:
    count, cameras = means.shape[0], viewmats.shape[0]
    expected = {
        "means": (means, (count, 3)),
        "opacities": (opacities, (count,)),
        "viewmats": (viewmats, (cameras, 4, 4)),
        "Ks": (Ks, (cameras, 3, 3)),
    }
    if covars is None:
        expected |= {"quats": (quats, (count, 4)), "scales": (scales, (count, 3))}
    else:
        expected["covars"] = (covars, (count, 3, 3))
    for name, (tensor, shape) in expected.items():
        _check(tuple(tensor.shape) == shape, f"rasterization: {name} has shape {tuple(tensor.shape)}, not {shape}")
    radii, means2d, depths, conics, compensations = project_gaussians(
        means, quats, scales, covars, viewmats, Ks, width, height, eps2d, near_plane, far_plane, radius_clip,
        rasterize_mode == "antialiased", camera_model,
    )  # fmt: skip
    opacities = opacities.repeat(cameras, 1)  # a copy: callers may change theirs
    if compensations is not None:
        opacities = opacities * compensations
    projected = {"means2d": means2d, "conics": conics, "opacities": opacities}
    lists = tile_lists(cpu.packed_of(projected), radii, depths, width, height, tile_size)
    if not _ONE_RADIUS:
        radii = radii[..., None].expand(-1, -1, 2)
    return _meta(radii, means2d, depths, conics, opacities, *lists, width, height, tile_size) | projected


def _meta(
    radii: Tensor,
    means2d: Tensor,
    depths: Tensor,
    conics: Tensor,
    opacities: Tensor,
    tiles_per_gauss: Tensor,
    isect_ids: Tensor,
    flatten_ids: Tensor,
    isect_offsets: Tensor,
    width: int,
    height: int,
    tile_size: int,
) -> dict[str, Any]:
    cameras, tile_height, tile_width = isect_offsets.shape
    return {
        "camera_ids": None,
        "gaussian_ids": None,
        "radii": radii,
        "means2d": means2d,
        "depths": depths,
        "conics": conics,
        "opacities": opacities,
        "tile_width": tile_width,
        "tile_height": tile_height,
        "tiles_per_gauss": tiles_per_gauss,
        "isect_ids": isect_ids,
        "flatten_ids": flatten_ids,
        "isect_offsets": isect_offsets,
        "width": width,
        "height": height,
        "tile_size": tile_size,
        "n_cameras": cameras,
    }
