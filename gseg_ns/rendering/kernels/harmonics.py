"""Colors from real spherical harmonics up to degree 4, forward and backward.

The basis (Sloan 2013, with the signs of Inria's and gsplat's code) factors as Q_lm(z) Re or Im (x + iy)^m, and
d/dx (x + iy)^m = m (x + iy)^(m - 1), which gives both the values and their derivatives in a few lines. Function k is
factor `FACTORS[k]` times part `PARTS[k]`: tables in place of branches over l and m.
"""

from __future__ import annotations

import math

import numpy as np

from gseg_ns.rendering.kernels.jit import kernel

MAX_DEGREE = 4
FUNCTIONS = (MAX_DEGREE + 1) ** 2
_LM = [(l, m) for l in range(MAX_DEGREE + 1) for m in range(-l, l + 1)]
FACTORS = np.array([l * (l + 1) // 2 + abs(m) for l, m in _LM])
# Real parts of (x + iy)^m first, then imaginary ones.
PARTS = np.array([m if m >= 0 else MAX_DEGREE + 1 - m for _, m in _LM])


@kernel
def z_factors(z, Q, dQ):  # type: ignore[no-untyped-def]
    """Q_lm(z) and its derivative, at place l (l + 1) / 2 + m."""
    zz = z * z
    Q[0], dQ[0] = 0.2820947917738781, 0.0
    Q[1], dQ[1] = 0.48860251190292 * z, 0.48860251190292
    Q[2], dQ[2] = -0.48860251190292, 0.0
    Q[3], dQ[3] = 0.9461746957575601 * zz - 0.3153915652525201, 1.8923493915151202 * z
    Q[4], dQ[4] = -1.092548430592079 * z, -1.092548430592079
    Q[5], dQ[5] = 0.5462742152960395, 0.0
    Q[6], dQ[6] = z * (1.865881662950577 * zz - 1.119528997770346), 5.597644988851731 * zz - 1.119528997770346
    Q[7], dQ[7] = 0.4570457994644658 - 2.285228997322329 * zz, -4.570457994644658 * z
    Q[8], dQ[8] = 1.445305721320277 * z, 1.445305721320277
    Q[9], dQ[9] = -0.5900435899266435, 0.0
    Q[10] = (3.7024941420321507 * zz - 3.1735664074561294) * zz + 0.31735664074561293
    dQ[10] = z * (14.809976568128603 * zz - 6.347132814912259)
    Q[11], dQ[11] = z * (2.007139630671868 - 4.683325804901025 * zz), 2.007139630671868 - 14.049977414703075 * zz
    Q[12], dQ[12] = 3.31161143515146 * zz - 0.47308734787878, 6.62322287030292 * z
    Q[13], dQ[13] = -1.770130769779931 * z, -1.770130769779931
    Q[14], dQ[14] = 0.6258357354491763, 0.0


@kernel
def powers(x, y, parts):  # type: ignore[no-untyped-def]
    """Real and imaginary parts of (x + iy)^m for m = 0..MAX_DEGREE: [2 * (MAX_DEGREE + 1)], written."""
    parts[0], parts[MAX_DEGREE + 1] = 1.0, 0.0
    for m in range(1, MAX_DEGREE + 1):
        re, im = parts[m - 1], parts[MAX_DEGREE + m]
        parts[m] = x * re - y * im
        parts[MAX_DEGREE + 1 + m] = x * im + y * re


@kernel
def slopes_of_powers(parts, by_x, by_y):  # type: ignore[no-untyped-def]
    """The derivatives of `powers` by x and y."""
    by_x[0] = by_y[0] = by_x[MAX_DEGREE + 1] = by_y[MAX_DEGREE + 1] = 0.0
    for m in range(1, MAX_DEGREE + 1):
        re, im = m * parts[m - 1], m * parts[MAX_DEGREE + m]
        by_x[m], by_x[MAX_DEGREE + 1 + m] = re, im
        by_y[m], by_y[MAX_DEGREE + 1 + m] = -im, re


@kernel
def forward(start, stop, degree, dirs, first, rest, radii, colors):  # type: ignore[no-untyped-def]
    """Colors max(SH + 0.5, 0) of rows start..stop; zeros where the radius is 0.

    Args:
        dirs: [M, 3], not normalised.
        first: [M, 3], the coefficients of degree 0, or [N, 3] shared by M / N cameras.
        rest: [M, K - 1, 3] or [N, K - 1, 3], the others.
        colors: [M, 3], written.
    """
    real = colors.dtype.type
    Q, dQ, parts = np.empty(15, dirs.dtype), np.empty(15, dirs.dtype), np.empty(2 * MAX_DEGREE + 2, dirs.dtype)
    basis = np.empty(FUNCTIONS, dirs.dtype)
    count, used = first.shape[0], (degree + 1) ** 2
    for index in range(start, stop):
        if radii[index] <= 0:
            colors[index] = 0
            continue
        g = index % count
        x, y, z = float(dirs[index, 0]), float(dirs[index, 1]), float(dirs[index, 2])
        inverse = 1.0 / max(math.sqrt(x * x + y * y + z * z), 1e-12)
        z_factors(z * inverse, Q, dQ)
        powers(x * inverse, y * inverse, parts)
        for k in range(used):
            basis[k] = Q[FACTORS[k]] * parts[PARTS[k]]
        half, zero = real(0.5), real(0)
        c0, c1, c2 = half + basis[0] * first[g, 0], half + basis[0] * first[g, 1], half + basis[0] * first[g, 2]
        for k in range(1, used):
            c0 += basis[k] * rest[g, k - 1, 0]
            c1 += basis[k] * rest[g, k - 1, 1]
            c2 += basis[k] * rest[g, k - 1, 2]
        colors[index, 0], colors[index, 1], colors[index, 2] = max(c0, zero), max(c1, zero), max(c2, zero)


@kernel
def backward(start, stop, degree, dirs, first, rest, radii, colors, v_colors, v_dirs, v_first, v_rest):  # type: ignore[no-untyped-def]
    """Gradients of Gaussians start..stop (rows of the coefficients), summed over the cameras that share them.

    Args:
        colors: what `forward` returned: a channel at 0 was clamped and passes nothing on.
        v_dirs: [M, 3], v_first and v_rest as first and rest, written.
    """
    real = colors.dtype.type
    Q, dQ, parts = np.empty(15, dirs.dtype), np.empty(15, dirs.dtype), np.empty(2 * MAX_DEGREE + 2, dirs.dtype)
    by_x, by_y = np.empty_like(parts), np.empty_like(parts)
    zero = real(0)
    count, used = first.shape[0], (degree + 1) ** 2
    for g in range(start, stop):
        v_first[g] = 0
        v_rest[g] = 0
        for index in range(g, dirs.shape[0], count):
            if radii[index] <= 0:
                v_dirs[index] = 0
                continue
            x, y, z = float(dirs[index, 0]), float(dirs[index, 1]), float(dirs[index, 2])
            inverse = 1.0 / max(math.sqrt(x * x + y * y + z * z), 1e-12)
            x, y, z = x * inverse, y * inverse, z * inverse
            z_factors(z, Q, dQ)
            powers(x, y, parts)
            slopes_of_powers(parts, by_x, by_y)
            v0 = v_colors[index, 0] if colors[index, 0] > 0 else zero
            v1 = v_colors[index, 1] if colors[index, 1] > 0 else zero
            v2 = v_colors[index, 2] if colors[index, 2] > 0 else zero
            v_first[g, 0] += Q[0] * v0
            v_first[g, 1] += Q[0] * v1
            v_first[g, 2] += Q[0] * v2
            v_x, v_y, v_z = zero, zero, zero
            for k in range(1, used):
                factor, part = Q[FACTORS[k]], PARTS[k]
                basis = factor * parts[part]
                along = rest[g, k - 1, 0] * v0 + rest[g, k - 1, 1] * v1 + rest[g, k - 1, 2] * v2
                v_rest[g, k - 1, 0] += basis * v0
                v_rest[g, k - 1, 1] += basis * v1
                v_rest[g, k - 1, 2] += basis * v2
                v_x += along * factor * by_x[part]
                v_y += along * factor * by_y[part]
                v_z += along * dQ[FACTORS[k]] * parts[part]
            radial = v_x * x + v_y * y + v_z * z
            v_dirs[index, 0] = (v_x - radial * x) * inverse
            v_dirs[index, 1] = (v_y - radial * y) * inverse
            v_dirs[index, 2] = (v_z - radial * z) * inverse
