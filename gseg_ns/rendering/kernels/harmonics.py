"""Colors from real spherical harmonics up to degree 4, forward and backward.

The basis (Sloan 2013, with the signs of Inria's and gsplat's code) factors as Q_lm(z) Re or Im (x + iy)^m, and
d/dx (x + iy)^m = m (x + iy)^(m - 1).

Gaussians go in blocks: the functions of all of them first and in the end the slopes by their directions, in passes that
vectorise, and between these the coefficients, one Gaussian after another. That pass does little else than read them, so
that many are on their way from memory at a time: they are most of what a Gaussian is.
"""

from __future__ import annotations

import math

import numpy as np

from gseg_ns.rendering.kernels.jit import kernel, part

MAX_DEGREE = 4
Q00, Q10, Q11, Q22 = 0.2820947917738781, 0.48860251190292, -0.48860251190292, 0.5462742152960395
Q33, Q44 = -0.5900435899266435, 0.6258357354491763

# Gaussians at a time, and the planes of what is known of each: its direction, 1 / the length that it had, the gradient
# of its color; the functions but for that of degree 0; and what the color's change along that is for one of each.
BLOCK = 64
DX, DY, DZ, INVERSE, RED, GREEN, BLUE = (number * BLOCK for number in range(7))
OTHERS = (MAX_DEGREE + 1) ** 2 - 1
FUNCTION, ALONG, PLANES = 7 * BLOCK, (7 + OTHERS) * BLOCK, 7 + 2 * OTHERS
# How many coefficients the degree that is trained with most has beside the first: a loop over them has no branches.
USUAL = 15


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
def at(block, plane, k):  # type: ignore[no-untyped-def]
    """A number of a plane."""
    return block[np.uintp(plane + k)]


@part
def put(block, number, k, value):  # type: ignore[no-untyped-def]
    """Write a function, by the number of its coefficient in what follows that of degree 0."""
    block[np.uintp(FUNCTION + number * BLOCK + k)] = value


@kernel
def seen_of(begin, end, dirs, radii, chosen, block):  # type: ignore[no-untyped-def]
    """How many of rows begin..end have a radius; which (from `begin` on), and their directions, written."""
    real = dirs.dtype.type
    found = 0
    for i in range(end - begin):
        chosen[np.uintp(found)] = i
        found += radii[np.uintp(begin + i)] > 0
    for k in range(found):
        index = np.uintp(begin + chosen[np.uintp(k)])
        block[np.uintp(DX + k)], block[np.uintp(DY + k)], block[np.uintp(DZ + k)] = (
            dirs[index, 0],
            dirs[index, 1],
            dirs[index, 2],
        )
    for k in range(found):
        x, y, z = float(at(block, DX, k)), float(at(block, DY, k)), float(at(block, DZ, k))
        inverse = 1.0 / max(math.sqrt(x * x + y * y + z * z), 1e-12)
        block[np.uintp(INVERSE + k)] = real(inverse)
        block[np.uintp(DX + k)] = real(x * inverse)
        block[np.uintp(DY + k)] = real(y * inverse)
        block[np.uintp(DZ + k)] = real(z * inverse)
    return found


@kernel
def functions(block, found, degree):  # type: ignore[no-untyped-def]
    """The functions of the first Gaussians of a block along their directions."""
    real = block.dtype.type
    if degree >= 1:
        for k in range(found):
            put(block, 0, k, real(Q11) * at(block, DY, k))
            put(block, 1, k, real(Q10) * at(block, DZ, k))
            put(block, 2, k, real(Q11) * at(block, DX, k))
    if degree >= 2:
        for k in range(found):
            x, y = at(block, DX, k), at(block, DY, k)
            q20, q21, q30, q31, q32, q40, q41, q42, q43 = z_factors(at(block, DZ, k))
            re2, im2, re3, im3, re4, im4 = powers(x, y)
            put(block, 3, k, real(Q22) * im2)
            put(block, 4, k, q21 * y)
            put(block, 5, k, q20)
            put(block, 6, k, q21 * x)
            put(block, 7, k, real(Q22) * re2)
    if degree >= 3:
        for k in range(found):
            x, y = at(block, DX, k), at(block, DY, k)
            q20, q21, q30, q31, q32, q40, q41, q42, q43 = z_factors(at(block, DZ, k))
            re2, im2, re3, im3, re4, im4 = powers(x, y)
            put(block, 8, k, real(Q33) * im3)
            put(block, 9, k, q32 * im2)
            put(block, 10, k, q31 * y)
            put(block, 11, k, q30)
            put(block, 12, k, q31 * x)
            put(block, 13, k, q32 * re2)
            put(block, 14, k, real(Q33) * re3)
    if degree >= 4:
        for k in range(found):
            x, y = at(block, DX, k), at(block, DY, k)
            q20, q21, q30, q31, q32, q40, q41, q42, q43 = z_factors(at(block, DZ, k))
            re2, im2, re3, im3, re4, im4 = powers(x, y)
            put(block, 15, k, real(Q44) * im4)
            put(block, 16, k, q43 * im3)
            put(block, 17, k, q42 * im2)
            put(block, 18, k, q41 * y)
            put(block, 19, k, q40)
            put(block, 20, k, q41 * x)
            put(block, 21, k, q42 * re2)
            put(block, 22, k, q43 * re3)
            put(block, 23, k, real(Q44) * re4)


@kernel
def copied(source, begin, target, start, count):  # type: ignore[no-untyped-def]
    """Numbers from one flat array into another: whole vectors are more of memory at a time than numbers are."""
    for i in range(count):
        target[np.uintp(start + i)] = source[np.uintp(begin + i)]


@part
def color_of(block, k, near, place, others):  # type: ignore[no-untyped-def]
    """The color that coefficients from a place on are, without that of degree 0."""
    real = block.dtype.type
    red, green, blue = real(0), real(0), real(0)
    for n in range(others):
        value = at(block, FUNCTION + n * BLOCK, k)
        red += value * near[np.uintp(place + 3 * n)]
        green += value * near[np.uintp(place + 3 * n + 1)]
        blue += value * near[np.uintp(place + 3 * n + 2)]
    return red, green, blue


@kernel
def forward(start, stop, degree, dirs, first, rest, skip, radii, colors):  # type: ignore[no-untyped-def]
    """Colors max(SH + 0.5, 0) of rows start..stop; zeros where the radius is 0.

    Args:
        dirs: [M, 3], not normalised.
        first: [M, 3 or more], the coefficients of degree 0 in front, or [N, ...] shared by M / N cameras.
        rest: [M, skip + 3 (K - 1)], the others behind `skip` numbers, or [N, ...].
        skip: 3 where `rest` is `first`, else 0.
        colors: [M, 3], written.
    """
    real = colors.dtype.type
    count, others, width = first.shape[0], (degree + 1) ** 2 - 1, rest.shape[1]
    half, q, zero = real(0.5), real(Q00), real(0)
    block, chosen = np.empty(PLANES * BLOCK, colors.dtype), np.empty(BLOCK, np.int64)
    near, flat = np.empty(BLOCK * width, colors.dtype), rest.reshape(rest.size)
    begin = start
    while begin < stop:
        own = begin % count
        end = min(begin + BLOCK, stop, begin - own + count)
        found = seen_of(begin, end, dirs, radii, chosen, block)
        functions(block, found, degree)
        copied(flat, own * width, near, 0, (end - begin) * width if others > 0 else 0)
        colors[begin:end] = 0
        for k in range(found):
            which = chosen[np.uintp(k)]
            index, g, place = np.uintp(begin + which), np.uintp(own + which), which * width + skip
            red, green, blue = (
                color_of(block, k, near, place, USUAL) if others == USUAL else color_of(block, k, near, place, others)
            )
            colors[index, 0] = max(half + q * first[g, 0] + red, zero)
            colors[index, 1] = max(half + q * first[g, 1] + green, zero)
            colors[index, 2] = max(half + q * first[g, 2] + blue, zero)
        begin = end


@part
def pass_on(block, k, near, v_near, place, again, others):  # type: ignore[no-untyped-def]
    """The shares that coefficients from a place on have in the gradient of a color, and what its change is for one of
    each function.

    `again`: another camera has written them before.
    """
    red, green, blue = at(block, RED, k), at(block, GREEN, k), at(block, BLUE, k)
    for n in range(others):
        value = at(block, FUNCTION + n * BLOCK, k)
        i, j, l = np.uintp(place + 3 * n), np.uintp(place + 3 * n + 1), np.uintp(place + 3 * n + 2)
        block[np.uintp(ALONG + n * BLOCK + k)] = near[i] * red + near[j] * green + near[l] * blue
        if again:
            v_near[i] += value * red
            v_near[j] += value * green
            v_near[l] += value * blue
        else:
            v_near[i], v_near[j], v_near[l] = value * red, value * green, value * blue


@part
def middle(slope, block, k, number, dq):  # type: ignore[no-untyped-def]
    """The gradient by the direction, with the function m = 0, a coefficient's number."""
    return slope[0], slope[1], slope[2] + dq * at(block, ALONG + number * BLOCK, k)


@part
def pair(slope, block, k, number, m, q, dq, re, im, re_before, im_before):  # type: ignore[no-untyped-def]
    """The gradient by the direction, with the functions m and -m around a coefficient's number.

    Args:
        m: as a number of the functions' type.
        q, dq: Q_lm and its derivative.
        re, im: of (x + iy)^m, and `_before` of (x + iy)^(m - 1).
    """
    a, b = at(block, ALONG + (number + int(m)) * BLOCK, k), at(block, ALONG + (number - int(m)) * BLOCK, k)
    return (
        slope[0] + m * q * (a * re_before + b * im_before),
        slope[1] + m * q * (b * re_before - a * im_before),
        slope[2] + dq * (a * re + b * im),
    )


@kernel
def slopes(block, found, degree):  # type: ignore[no-untyped-def]
    """The gradients by the directions of the first Gaussians of a block, in place of those of their colors."""
    real = block.dtype.type
    n0, n1, n2, n3, n4 = real(0), real(1), real(2), real(3), real(4)
    for k in range(found):
        x, y, z = at(block, DX, k), at(block, DY, k), at(block, DZ, k)
        _, q21, _, q31, q32, _, q41, q42, q43 = z_factors(z)
        d20, d21, d30, d31, d32, d40, d41, d42, d43 = z_slopes(z)
        re2, im2, re3, im3, re4, im4 = powers(x, y)
        s = (n0, n0, n0)
        if degree >= 1:
            s = middle(s, block, k, 1, real(Q10))
            s = pair(s, block, k, 1, n1, real(Q11), n0, x, y, n1, n0)
        if degree >= 2:
            s = middle(s, block, k, 5, d20)
            s = pair(s, block, k, 5, n1, q21, d21, x, y, n1, n0)
            s = pair(s, block, k, 5, n2, real(Q22), n0, re2, im2, x, y)
        if degree >= 3:
            s = middle(s, block, k, 11, d30)
            s = pair(s, block, k, 11, n1, q31, d31, x, y, n1, n0)
            s = pair(s, block, k, 11, n2, q32, d32, re2, im2, x, y)
            s = pair(s, block, k, 11, n3, real(Q33), n0, re3, im3, re2, im2)
        if degree >= 4:
            s = middle(s, block, k, 19, d40)
            s = pair(s, block, k, 19, n1, q41, d41, x, y, n1, n0)
            s = pair(s, block, k, 19, n2, q42, d42, re2, im2, x, y)
            s = pair(s, block, k, 19, n3, q43, d43, re3, im3, re2, im2)
            s = pair(s, block, k, 19, n4, real(Q44), n0, re4, im4, re3, im3)
        radial, inverse = s[0] * x + s[1] * y + s[2] * z, at(block, INVERSE, k)
        block[np.uintp(RED + k)] = (s[0] - radial * x) * inverse
        block[np.uintp(GREEN + k)] = (s[1] - radial * y) * inverse
        block[np.uintp(BLUE + k)] = (s[2] - radial * z) * inverse


@kernel
def backward(  # type: ignore[no-untyped-def]
    start, stop, degree, dirs, first, rest, skip, radii, colors, v_colors, v_dirs, v_first, v_rest
):
    """Gradients of Gaussians start..stop (rows of the coefficients), summed over the cameras that share them.

    Args:
        colors: what `forward` returned: a channel at 0 was clamped and passes nothing on.
        v_dirs: [M, 3], v_first and v_rest as first and rest, written.
    """
    real = colors.dtype.type
    q, zero = real(Q00), real(0)
    count, others, width = first.shape[0], (degree + 1) ** 2 - 1, rest.shape[1]
    block, chosen = np.empty(PLANES * BLOCK, colors.dtype), np.empty(BLOCK, np.int64)
    near, v_near = np.empty(BLOCK * width, colors.dtype), np.empty(BLOCK * width, colors.dtype)
    v_own = np.empty(3 * BLOCK, colors.dtype)
    flat, v_flat = rest.reshape(rest.size), v_rest.reshape(v_rest.size)
    for begin in range(start, stop, BLOCK):
        end = min(begin + BLOCK, stop)
        v_near[:] = 0
        v_own[:] = 0
        copied(flat, begin * width, near, 0, (end - begin) * width if others > 0 else 0)
        for offset in range(0, dirs.shape[0], count):
            v_dirs[offset + begin : offset + end] = 0
            found = seen_of(offset + begin, offset + end, dirs, radii, chosen, block)
            functions(block, found, degree)
            for k in range(found):
                index = np.uintp(offset + begin + chosen[np.uintp(k)])
                for channel in range(3):
                    v = v_colors[index, channel]
                    v = v if colors[index, channel] > 0 else zero
                    block[np.uintp(RED + channel * BLOCK + k)] = v
                    v_own[np.uintp(3 * chosen[k] + channel)] += q * v
            for k in range(found):
                place = chosen[k] * width + skip
                if offset > 0 or others != USUAL:
                    pass_on(block, k, near, v_near, place, offset > 0, others)
                else:
                    pass_on(block, k, near, v_near, place, False, USUAL)
            slopes(block, found, degree)
            for k in range(found):
                index = np.uintp(offset + begin + chosen[np.uintp(k)])
                v_dirs[index, 0], v_dirs[index, 1] = at(block, RED, k), at(block, GREEN, k)
                v_dirs[index, 2] = at(block, BLUE, k)
        copied(v_near, 0, v_flat, begin * width, (end - begin) * width)
        for i in range(end - begin):
            for channel in range(3):
                v_first[begin + i, channel] = v_own[3 * i + channel]
