"""Similarity transforms of Gaussians: centres, covariances and view-dependent color together."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from gseg_ns.splats.container import Splats

_DIRECTIONS = 64


def transform(splats: Splats, rotation: Tensor, translation: Tensor, scale: float = 1.0) -> Splats:
    """Move Gaussians by p -> scale * rotation @ p + translation.

    A render of the result from a camera moved along is the render of the input: centres, covariances and the SH of
    degree 1 to 3 all turn. Columns of `extra` are carried over as they are.

    Args:
        splats: N Gaussians.
        rotation: [3, 3], orthonormal with determinant 1 (to 1e-3; rounding is removed).
        translation: [3].
        scale: factor, above 0.

    Returns:
        New Gaussians on the same device. Applying the inverse gives the input back (quaternions up to sign).

    Raises:
        ValueError: `rotation` is not a rotation (a reflection, sheared, not finite) or `scale` is not above 0.
    """
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be above 0, got {scale}")
    exact = _nearest_rotation(rotation)
    device, dtype = splats.device, splats.means.dtype
    shift = translation.detach().to(device, torch.float64).reshape(3)
    # Centres in double: scenes far from the origin would lose digits that the way back needs.
    means = scale * splats.means.to(torch.float64) @ exact.to(device).T + shift
    turn = rotation_to_quaternion(exact).to(device, dtype)
    return replace(
        splats,
        means=means.to(dtype),
        quats=quaternion_multiply(turn, splats.quats),
        scales=splats.scales + math.log(scale),
        opacities=splats.opacities.clone(),
        sh=rotate_sh(splats.sh, exact),
        extra={name: column.clone() for name, column in splats.extra.items()},
    )


def to_original_frame(splats: Splats, dataparser_transform: Tensor, dataparser_scale: float) -> Splats:
    """Undo Nerfstudio's normalisation, so that Gaussians lie in the coordinates of the capture's own poses.

    A Nerfstudio data parser maps p to dataparser_scale * (dataparser_transform @ [p, 1]); both values are in the run's
    `dataparser_transforms.json` and in `DataparserOutputs`.

    Args:
        splats: Gaussians of a run.
        dataparser_transform: [3, 4] (a further row 0 0 0 1 is allowed), rotation and translation.
        dataparser_scale: the factor applied after it.

    Raises:
        ValueError: as `transform`.
    """
    matrix = dataparser_transform.detach().to("cpu", torch.float64)
    rotation = _nearest_rotation(matrix[:3, :3])
    return transform(splats, rotation.T, -rotation.T @ matrix[:3, 3], 1.0 / dataparser_scale)


def rotate_sh(sh: Tensor, rotation: Tensor) -> Tensor:  # [N, K, 3], [3, 3] -> [N, K, 3]
    """Coefficients of the same color function turned: new(d) = old(rotation^T d).

    Each degree turns by a matrix of its own, found from the basis at fixed directions: B(D) M = B(D rotation).

    Args:
        sh: coefficients in 3DGS's basis and order, K = 1, 4, 9 or 16.
        rotation: [3, 3].
    """
    out = sh.clone()
    degree = math.isqrt(sh.shape[1]) - 1
    directions = _sphere(_DIRECTIONS)
    turned = directions @ rotation.detach().to("cpu", torch.float64)
    basis, basis_turned = sh_basis(degree, directions), sh_basis(degree, turned)
    for l in range(1, degree + 1):
        block = slice(l * l, (l + 1) ** 2)
        matrix = torch.linalg.lstsq(basis[:, block], basis_turned[:, block]).solution
        out[:, block] = torch.einsum("ij,njc->nic", matrix.to(sh), sh[:, block])
    return out


def sh_basis(degree: int, directions: Tensor) -> Tensor:  # [..., 3] -> [..., (degree + 1)^2]
    """Real spherical harmonics in the basis, order and signs of 3DGS and gsplat (Condon-Shortley phase).

    Args:
        degree: 0 to 3.
        directions: unit vectors [..., 3].
    """
    x, y, z = directions.unbind(-1)
    terms = [torch.full_like(x, 0.5 / math.sqrt(math.pi))]
    if degree >= 1:
        c = math.sqrt(3 / (4 * math.pi))
        terms += [-c * y, c * z, -c * x]
    if degree >= 2:
        c = math.sqrt(15 / (4 * math.pi))
        terms += [
            c * x * y,
            -c * y * z,
            math.sqrt(5 / (16 * math.pi)) * (3 * z * z - 1),
            -c * x * z,
            c / 2 * (x * x - y * y),
        ]
    if degree >= 3:
        c3, c2, c1 = (math.sqrt(n / math.pi) for n in (35 / 32, 105 / 4, 21 / 32))
        terms += [
            -c3 * y * (3 * x * x - y * y),
            c2 * x * y * z,
            -c1 * y * (5 * z * z - 1),
            math.sqrt(7 / (16 * math.pi)) * z * (5 * z * z - 3),
            -c1 * x * (5 * z * z - 1),
            c2 / 2 * z * (x * x - y * y),
            -c3 * x * (x * x - 3 * y * y),
        ]
    return torch.stack(terms, dim=-1)


def quaternion_multiply(a: Tensor, b: Tensor) -> Tensor:  # [..., 4], [..., 4] -> [..., 4]
    """Hamilton product of quaternions w, x, y, z: the rotation b, then a."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        dim=-1,
    )


def rotation_matrices(quats: Tensor) -> Tensor:
    """Rotations [N, 3, 3] of quaternions w, x, y, z."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], dim=-1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], dim=-1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], dim=-1),
    ]
    return torch.stack(rows, dim=1)


def rotation_to_quaternion(rotation: Tensor) -> Tensor:  # [3, 3] -> [4]
    """Unit quaternion w, x, y, z of a rotation matrix, with w >= 0; stable for every angle, 180 degrees included.

    The eigenvector of Bar-Itzhack's symmetric matrix (2000) to its largest eigenvalue.
    """
    r = rotation.detach().to("cpu", torch.float64)
    k = torch.tensor(
        [
            [r[0, 0] + r[1, 1] + r[2, 2], r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]],
            [r[2, 1] - r[1, 2], r[0, 0] - r[1, 1] - r[2, 2], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0]],
            [r[0, 2] - r[2, 0], r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], r[1, 2] + r[2, 1]],
            [r[1, 0] - r[0, 1], r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1]],
        ],
        dtype=torch.float64,
    )
    quaternion = torch.linalg.eigh(k).eigenvectors[:, -1]
    return -quaternion if quaternion[0] < 0 else quaternion


def _nearest_rotation(rotation: Tensor) -> Tensor:
    """The rotation closest to an almost orthonormal matrix, float64 on the CPU."""
    matrix = rotation.detach().to("cpu", torch.float64)
    if matrix.shape != (3, 3) or not matrix.isfinite().all():
        raise ValueError(f"rotation must be a finite [3, 3] matrix, got {matrix.tolist()}")
    if (matrix @ matrix.T - torch.eye(3, dtype=torch.float64)).abs().max() > 1e-3 or torch.linalg.det(matrix) < 0:
        raise ValueError(f"rotation is not a rotation matrix (orthonormal, determinant 1): {matrix.tolist()}")
    u, _, v = torch.linalg.svd(matrix)
    return u @ v


def _sphere(count: int) -> Tensor:
    """Unit vectors spread evenly (Fibonacci lattice), float64 [count, 3]."""
    i = torch.arange(count, dtype=torch.float64)
    z = 1 - (2 * i + 1) / count
    angle = i * math.pi * (3 - math.sqrt(5))
    radius = (1 - z * z).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), z], dim=-1)
