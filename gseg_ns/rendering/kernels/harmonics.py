"""Colors from real spherical harmonics up to degree 4, forward and backward.

The basis (Sloan 2013, with the signs of Inria's and gsplat's code) factors as Q_lm(z) Re or Im (x + iy)^m, and
d/dx (x + iy)^m = m (x + iy)^(m - 1), which gives both the values and their derivatives in a few lines.
"""

from __future__ import annotations

import math

import numpy as np

from gseg_ns.rendering.kernels.jit import kernel

MAX_DEGREE = 4


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
def powers(x, y, re, im):  # type: ignore[no-untyped-def]
    """Real and imaginary part of (x + iy)^m for m = 0..MAX_DEGREE."""
    re[0], im[0] = 1.0, 0.0
    for m in range(1, MAX_DEGREE + 1):
        re[m] = x * re[m - 1] - y * im[m - 1]
        im[m] = x * im[m - 1] + y * re[m - 1]


@kernel
def forward(start, stop, degree, dirs, coeffs, radii, colors):  # type: ignore[no-untyped-def]
    """Colors max(SH + 0.5, 0) of rows start..stop; zeros where the radius is 0.

    Args:
        dirs: [M, 3], not normalised; coeffs [M, K, 3], or [N, K, 3] shared by M / N cameras.
        colors: [M, 3], written.
    """
    Q, dQ = np.empty(15, np.float64), np.empty(15, np.float64)
    re, im = np.empty(MAX_DEGREE + 1, np.float64), np.empty(MAX_DEGREE + 1, np.float64)
    count = coeffs.shape[0]
    for index in range(start, stop):
        if radii[index] <= 0:
            colors[index] = 0
            continue
        g = index % count
        x, y, z = float(dirs[index, 0]), float(dirs[index, 1]), float(dirs[index, 2])
        inverse = 1.0 / max(math.sqrt(x * x + y * y + z * z), 1e-12)
        z_factors(z * inverse, Q, dQ)
        powers(x * inverse, y * inverse, re, im)
        c0, c1, c2 = 0.5, 0.5, 0.5
        for l in range(degree + 1):
            for m in range(-l, l + 1):
                basis = Q[l * (l + 1) // 2 + abs(m)] * (re[m] if m >= 0 else im[-m])
                k = l * (l + 1) + m
                c0 += basis * coeffs[g, k, 0]
                c1 += basis * coeffs[g, k, 1]
                c2 += basis * coeffs[g, k, 2]
        colors[index, 0], colors[index, 1], colors[index, 2] = max(c0, 0.0), max(c1, 0.0), max(c2, 0.0)


@kernel
def backward(start, stop, degree, dirs, coeffs, radii, colors, v_colors, v_dirs, v_coeffs):  # type: ignore[no-untyped-def]
    """Gradients of Gaussians start..stop (rows of `coeffs`), summed over the cameras that share them.

    Args:
        colors: what `forward` returned: a channel at 0 was clamped and passes nothing on.
        v_dirs: [M, 3], v_coeffs as coeffs, written.
    """
    Q, dQ = np.empty(15, np.float64), np.empty(15, np.float64)
    re, im = np.empty(MAX_DEGREE + 1, np.float64), np.empty(MAX_DEGREE + 1, np.float64)
    count = coeffs.shape[0]
    for g in range(start, stop):
        v_coeffs[g] = 0
        for index in range(g, dirs.shape[0], count):
            if radii[index] <= 0:
                v_dirs[index] = 0
                continue
            x, y, z = float(dirs[index, 0]), float(dirs[index, 1]), float(dirs[index, 2])
            inverse = 1.0 / max(math.sqrt(x * x + y * y + z * z), 1e-12)
            x, y, z = x * inverse, y * inverse, z * inverse
            z_factors(z, Q, dQ)
            powers(x, y, re, im)
            v0 = v_colors[index, 0] if colors[index, 0] > 0 else 0.0
            v1 = v_colors[index, 1] if colors[index, 1] > 0 else 0.0
            v2 = v_colors[index, 2] if colors[index, 2] > 0 else 0.0
            v_x, v_y, v_z = 0.0, 0.0, 0.0
            for l in range(degree + 1):
                for m in range(-l, l + 1):
                    place, order = l * (l + 1) // 2 + abs(m), abs(m)
                    k = l * (l + 1) + m
                    part = re[order] if m >= 0 else im[order]
                    basis = Q[place] * part
                    v_coeffs[g, k, 0] += basis * v0
                    v_coeffs[g, k, 1] += basis * v1
                    v_coeffs[g, k, 2] += basis * v2
                    v_basis = coeffs[g, k, 0] * v0 + coeffs[g, k, 1] * v1 + coeffs[g, k, 2] * v2
                    v_z += v_basis * dQ[place] * part
                    if m > 0:
                        v_x += v_basis * Q[place] * order * re[order - 1]
                        v_y -= v_basis * Q[place] * order * im[order - 1]
                    elif m < 0:
                        v_x += v_basis * Q[place] * order * im[order - 1]
                        v_y += v_basis * Q[place] * order * re[order - 1]
            along = v_x * x + v_y * y + v_z * z
            v_dirs[index, 0] = (v_x - along * x) * inverse
            v_dirs[index, 1] = (v_y - along * y) * inverse
            v_dirs[index, 2] = (v_z - along * z) * inverse
