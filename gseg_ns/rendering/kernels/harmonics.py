"""Colors from real spherical harmonics up to degree 4, forward and backward.

The basis (Sloan 2013, with the signs of Inria's and gsplat's code) factors as Q_lm(z) Re or Im (x + iy)^m, and
d/dx (x + iy)^m = m (x + iy)^(m - 1). So the functions m and -m of a degree go through one another's lines, and nothing
of a Gaussian but its coefficients is read from memory.
"""

from __future__ import annotations

import math

from gseg_ns.rendering.kernels.jit import kernel, part

MAX_DEGREE = 4
Q00, Q10, Q11, Q22 = 0.2820947917738781, 0.48860251190292, -0.48860251190292, 0.5462742152960395
Q33, Q44 = -0.5900435899266435, 0.6258357354491763


@part
def z_factors(z):  # type: ignore[no-untyped-def]
    """Q_lm(z) of degrees 2 to 4 that depend on z, m from 0: Q20, Q21, Q30, Q31, Q32, Q40, Q41, Q42, Q43."""
    n = type(z)
    zz = z * z
    return (
        n(0.9461746957575601) * zz - n(0.3153915652525201),
        n(-1.092548430592079) * z,
        z * (n(1.865881662950577) * zz - n(1.119528997770346)),
        n(0.4570457994644658) - n(2.285228997322329) * zz,
        n(1.445305721320277) * z,
        (n(3.7024941420321507) * zz - n(3.1735664074561294)) * zz + n(0.31735664074561293),
        z * (n(2.007139630671868) - n(4.683325804901025) * zz),
        n(3.31161143515146) * zz - n(0.47308734787878),
        n(-1.770130769779931) * z,
    )


@part
def z_slopes(z):  # type: ignore[no-untyped-def]
    """The derivatives of `z_factors`."""
    n = type(z)
    zz = z * z
    return (
        n(1.8923493915151202) * z,
        n(-1.092548430592079),
        n(5.597644988851731) * zz - n(1.119528997770346),
        n(-4.570457994644658) * z,
        n(1.445305721320277),
        z * (n(14.809976568128603) * zz - n(6.347132814912259)),
        n(2.007139630671868) - n(14.049977414703075) * zz,
        n(6.62322287030292) * z,
        n(-1.770130769779931),
    )


@part
def powers(x, y):  # type: ignore[no-untyped-def]
    """Real and imaginary parts of (x + iy)^m for m = 2, 3, 4."""
    re2, im2 = x * x - y * y, x * y + x * y
    re3, im3 = x * re2 - y * im2, x * im2 + y * re2
    return re2, im2, re3, im3, x * re3 - y * im3, x * im3 + y * re3


@part
def direction(dirs, index):  # type: ignore[no-untyped-def]
    """A direction of length 1, and 1 / the length that it had."""
    real = dirs.dtype.type
    x, y, z = float(dirs[index, 0]), float(dirs[index, 1]), float(dirs[index, 2])
    inverse = 1.0 / max(math.sqrt(x * x + y * y + z * z), 1e-12)
    return real(x * inverse), real(y * inverse), real(z * inverse), real(inverse)


@part
def plus(color, value, rest, g, k):  # type: ignore[no-untyped-def]
    """The color with the function of coefficient k."""
    return color[0] + value * rest[g, k, 0], color[1] + value * rest[g, k, 1], color[2] + value * rest[g, k, 2]


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
    count = first.shape[0]
    half, zero = real(0.5), real(0)
    for index in range(start, stop):
        if radii[index] <= 0:
            colors[index] = 0
            continue
        g = index % count
        x, y, z, _ = direction(dirs, index)
        q = real(Q00)
        color = (half + q * first[g, 0], half + q * first[g, 1], half + q * first[g, 2])
        if degree >= 1:
            color = plus(color, real(Q11) * y, rest, g, 0)
            color = plus(color, real(Q10) * z, rest, g, 1)
            color = plus(color, real(Q11) * x, rest, g, 2)
        if degree >= 2:
            q20, q21, q30, q31, q32, q40, q41, q42, q43 = z_factors(z)
            re2, im2, re3, im3, re4, im4 = powers(x, y)
            color = plus(color, real(Q22) * im2, rest, g, 3)
            color = plus(color, q21 * y, rest, g, 4)
            color = plus(color, q20, rest, g, 5)
            color = plus(color, q21 * x, rest, g, 6)
            color = plus(color, real(Q22) * re2, rest, g, 7)
            if degree >= 3:
                color = plus(color, real(Q33) * im3, rest, g, 8)
                color = plus(color, q32 * im2, rest, g, 9)
                color = plus(color, q31 * y, rest, g, 10)
                color = plus(color, q30, rest, g, 11)
                color = plus(color, q31 * x, rest, g, 12)
                color = plus(color, q32 * re2, rest, g, 13)
                color = plus(color, real(Q33) * re3, rest, g, 14)
            if degree >= 4:
                color = plus(color, real(Q44) * im4, rest, g, 15)
                color = plus(color, q43 * im3, rest, g, 16)
                color = plus(color, q42 * im2, rest, g, 17)
                color = plus(color, q41 * y, rest, g, 18)
                color = plus(color, q40, rest, g, 19)
                color = plus(color, q41 * x, rest, g, 20)
                color = plus(color, q42 * re2, rest, g, 21)
                color = plus(color, q43 * re3, rest, g, 22)
                color = plus(color, real(Q44) * re4, rest, g, 23)
        colors[index, 0], colors[index, 1], colors[index, 2] = (
            max(color[0], zero),
            max(color[1], zero),
            max(color[2], zero),
        )


@part
def pass_on(value, v, rest, v_rest, again, g, k):  # type: ignore[no-untyped-def]
    """Coefficient k's share of the gradient v of a color; what the color's change along v is for one of the function.

    `again`: another camera has written it before.
    """
    if again:
        v_rest[g, k, 0] += value * v[0]
        v_rest[g, k, 1] += value * v[1]
        v_rest[g, k, 2] += value * v[2]
    else:
        v_rest[g, k, 0], v_rest[g, k, 1], v_rest[g, k, 2] = value * v[0], value * v[1], value * v[2]
    return rest[g, k, 0] * v[0] + rest[g, k, 1] * v[1] + rest[g, k, 2] * v[2]


@part
def middle(slope, q, dq, v, rest, v_rest, again, g, k):  # type: ignore[no-untyped-def]
    """The gradient by the direction, with the function m = 0 at coefficient k."""
    along = pass_on(q, v, rest, v_rest, again, g, k)
    return slope[0], slope[1], slope[2] + dq * along


@part
def pair(slope, m, q, dq, re, im, re_before, im_before, v, rest, v_rest, again, g, k):  # type: ignore[no-untyped-def]
    """The gradient by the direction, with the functions m and -m around coefficient k.

    Args:
        m: as a number of the functions' type.
        q, dq: Q_lm and its derivative.
        re, im: of (x + iy)^m, and `_before` of (x + iy)^(m - 1).
    """
    steps = int(m)
    a = pass_on(q * re, v, rest, v_rest, again, g, k + steps)
    b = pass_on(q * im, v, rest, v_rest, again, g, k - steps)
    return (
        slope[0] + m * q * (a * re_before + b * im_before),
        slope[1] + m * q * (b * re_before - a * im_before),
        slope[2] + dq * (a * re + b * im),
    )


@kernel
def backward(start, stop, degree, dirs, first, rest, radii, colors, v_colors, v_dirs, v_first, v_rest):  # type: ignore[no-untyped-def]
    """Gradients of Gaussians start..stop (rows of the coefficients), summed over the cameras that share them.

    Args:
        colors: what `forward` returned: a channel at 0 was clamped and passes nothing on.
        v_dirs: [M, 3], v_first and v_rest as first and rest, written.
    """
    real = colors.dtype.type
    n0, n1, n2, n3, n4 = real(0), real(1), real(2), real(3), real(4)
    count, used = first.shape[0], (degree + 1) ** 2
    for g in range(start, stop):
        v_first[g] = 0
        again = False
        for index in range(g, dirs.shape[0], count):
            if radii[index] <= 0:
                v_dirs[index] = 0
                continue
            x, y, z, inverse = direction(dirs, index)
            v = (
                v_colors[index, 0] if colors[index, 0] > 0 else n0,
                v_colors[index, 1] if colors[index, 1] > 0 else n0,
                v_colors[index, 2] if colors[index, 2] > 0 else n0,
            )
            v_first[g, 0] += real(Q00) * v[0]
            v_first[g, 1] += real(Q00) * v[1]
            v_first[g, 2] += real(Q00) * v[2]
            s = (n0, n0, n0)
            if degree >= 1:
                s = middle(s, real(Q10) * z, real(Q10), v, rest, v_rest, again, g, 1)
                s = pair(s, n1, real(Q11), n0, x, y, n1, n0, v, rest, v_rest, again, g, 1)
            if degree >= 2:
                q20, q21, q30, q31, q32, q40, q41, q42, q43 = z_factors(z)
                d20, d21, d30, d31, d32, d40, d41, d42, d43 = z_slopes(z)
                re2, im2, re3, im3, re4, im4 = powers(x, y)
                s = middle(s, q20, d20, v, rest, v_rest, again, g, 5)
                s = pair(s, n1, q21, d21, x, y, n1, n0, v, rest, v_rest, again, g, 5)
                s = pair(s, n2, real(Q22), n0, re2, im2, x, y, v, rest, v_rest, again, g, 5)
                if degree >= 3:
                    s = middle(s, q30, d30, v, rest, v_rest, again, g, 11)
                    s = pair(s, n1, q31, d31, x, y, n1, n0, v, rest, v_rest, again, g, 11)
                    s = pair(s, n2, q32, d32, re2, im2, x, y, v, rest, v_rest, again, g, 11)
                    s = pair(s, n3, real(Q33), n0, re3, im3, re2, im2, v, rest, v_rest, again, g, 11)
                if degree >= 4:
                    s = middle(s, q40, d40, v, rest, v_rest, again, g, 19)
                    s = pair(s, n1, q41, d41, x, y, n1, n0, v, rest, v_rest, again, g, 19)
                    s = pair(s, n2, q42, d42, re2, im2, x, y, v, rest, v_rest, again, g, 19)
                    s = pair(s, n3, q43, d43, re3, im3, re2, im2, v, rest, v_rest, again, g, 19)
                    s = pair(s, n4, real(Q44), n0, re4, im4, re3, im3, v, rest, v_rest, again, g, 19)
            radial = s[0] * x + s[1] * y + s[2] * z
            v_dirs[index, 0] = (s[0] - radial * x) * inverse
            v_dirs[index, 1] = (s[1] - radial * y) * inverse
            v_dirs[index, 2] = (s[2] - radial * z) * inverse
            again = True
        v_rest[g, (used - 1 if again else 0) :] = 0
