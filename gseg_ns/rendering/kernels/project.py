"""Pinhole projection of 3D Gaussians, forward and backward (EWA splatting, Zwicker et al. 2001).

The formulas are those of gsplat 1.4.0's CUDA code (`utils.cuh`, `fully_fused_projection_{fwd,bwd}.cu`), with the same
field-of-view clamp, blur, radius and culling. The covariance is never formed in 3D: with U = J R_view R_quat S the
projected one is U U^T.
"""

from __future__ import annotations

import math

import numpy as np

from gseg_ns.rendering.kernels.jit import kernel, part

# A radius above this is cut to it, to stay within int32.
LARGEST_RADIUS = 1e9

# Gaussians that are projected at a time, and the planes of what is known of them: radius (before: whether it may be
# seen), place in the camera's frame, scales, rotation.
BLOCK = 256
RADIUS, PX, PY, PZ, SX, SY, SZ, QW, QX, QY, QZ = (number * BLOCK for number in range(11))
PLANES = 11
# Planes of the gradients of a block: what they follow from, of which mean, scale and rotation become theirs.
MEAN, SCALE, CONIC, V_CONIC, SHIFTED, QUAT = (number * BLOCK for number in (0, 3, 6, 9, 12, 15))
V_X, V_Y, V_DEPTH, COMPENSATION, V_COMPENSATION, TURNED = (number * BLOCK for number in range(19, 25))
SLOPES = 33


@kernel
def rotation(w, x, y, z):  # type: ignore[no-untyped-def]
    """Rotation matrix of a unit quaternion, row by row."""
    return (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip


@kernel
def clamped(value, depth, focal, centre, size):  # type: ignore[no-untyped-def]
    """The x (or y) kept within 1.15 fields of view for the Jacobian, and whether it was inside."""
    margin = 0.3 * 0.5 * size / focal
    ratio = value / depth
    kept = min((size - centre) / focal + margin, max(-(centre / focal + margin), ratio))
    return depth * kept, kept == ratio


@kernel
def extent_of(px, py, pz, fx, fy, cx, cy, width, height, widest, eps2d):  # type: ignore[no-untyped-def]
    """Where a Gaussian's centre is drawn, and a bound of its radius, however it is turned.

    |J R S|^2 <= |J|^2 max(s)^2.
    """
    tx, _ = clamped(px, pz, fx, cx, width)
    ty, _ = clamped(py, pz, fy, cy, height)
    j00, j02, j11, j12 = fx / pz, -fx * tx / (pz * pz), fy / pz, -fy * ty / (pz * pz)
    spread = 0.5 * (j00 * j00 + j02 * j02 + j11 * j11 + j12 * j12) * widest * widest + eps2d
    bound = 1.001 * (3.0 * math.sqrt(spread + max(0.1, spread)) + 1.0)
    return fx * px / pz + cx, fy * py / pz + cy, bound


@kernel
def touches(x, y, reach, width, height):  # type: ignore[no-untyped-def]
    """Whether a square around a point meets the image; false for what is no number."""
    return (x + reach > 0) & (x - reach < width) & (y + reach > 0) & (y - reach < height)


@kernel
def forward(  # type: ignore[no-untyped-def]
    start, stop, means, quats, scales, viewmats, Ks, width, height, eps2d, near, far, radius_clip, radii, means2d,
    depths, conics, compensations,
):  # fmt: skip
    """Project Gaussians start..stop of camera * N + gaussian.

    Blocks of them, in passes without branches, which vectorise: who may be seen at all, and those Gaussians' shapes.

    Args:
        means: [N, 3], quats [N, 4] wxyz, scales [N, 3], viewmats [C, 4, 4], Ks [C, 3, 3].
        radii: [M] int32, means2d [M, 2], depths [M], conics [M, 3], compensations [M], written; zeros where culled.
    """
    count = means.shape[0]
    block, chosen = np.empty(PLANES * BLOCK, np.float64), np.empty(BLOCK, np.int64)
    begin = start
    while begin < stop:
        camera = begin // count
        end = min(begin + BLOCK, stop, (camera + 1) * count)
        first = begin - camera * count
        view, K = viewmats[camera], Ks[camera]
        fx, fy, cx, cy = float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])
        v00, v01, v02, v03 = float(view[0, 0]), float(view[0, 1]), float(view[0, 2]), float(view[0, 3])
        v10, v11, v12, v13 = float(view[1, 0]), float(view[1, 1]), float(view[1, 2]), float(view[1, 3])
        v20, v21, v22, v23 = float(view[2, 0]), float(view[2, 1]), float(view[2, 2]), float(view[2, 3])
        for i in range(end - begin):
            g = np.uintp(first + i)
            mx, my, mz = float(means[g, 0]), float(means[g, 1]), float(means[g, 2])
            px = v00 * mx + v01 * my + v02 * mz + v03
            py = v10 * mx + v11 * my + v12 * mz + v13
            pz = v20 * mx + v21 * my + v22 * mz + v23
            widest = max(abs(scales[g, 0]), abs(scales[g, 1]), abs(scales[g, 2]))
            x2d, y2d, bound = extent_of(px, py, pz, fx, fy, cx, cy, width, height, float(widest), eps2d)
            seen = touches(x2d, y2d, bound, width, height) & (pz >= near) & (pz <= far)
            block[np.uintp(i)] = 1.0 if seen else 0.0
            block[np.uintp(PX + i)], block[np.uintp(PY + i)], block[np.uintp(PZ + i)] = px, py, pz
        radii[begin:end] = 0
        means2d[begin:end] = 0
        depths[begin:end] = 0
        conics[begin:end] = 0
        compensations[begin:end] = 0
        found = 0
        for i in range(end - begin):
            chosen[found] = i
            found += block[i] > 0.0
        for k in range(found):
            i = chosen[k]
            g = first + i
            # In place: k is not beyond i.
            block[PX + k], block[PY + k], block[PZ + k] = block[PX + i], block[PY + i], block[PZ + i]
            block[SX + k], block[SY + k], block[SZ + k] = scales[g, 0], scales[g, 1], scales[g, 2]
            block[QW + k], block[QX + k] = quats[g, 0], quats[g, 1]
            block[QY + k], block[QZ + k] = quats[g, 2], quats[g, 3]
        for k in range(found):
            px, py, pz = block[np.uintp(PX + k)], block[np.uintp(PY + k)], block[np.uintp(PZ + k)]
            sx, sy, sz = block[np.uintp(SX + k)], block[np.uintp(SY + k)], block[np.uintp(SZ + k)]
            qw, qx = block[np.uintp(QW + k)], block[np.uintp(QX + k)]
            qy, qz = block[np.uintp(QY + k)], block[np.uintp(QZ + k)]
            norm = 1.0 / math.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
            R = rotation(qw * norm, qx * norm, qy * norm, qz * norm)
            tx, _ = clamped(px, pz, fx, cx, width)
            ty, _ = clamped(py, pz, fy, cy, height)
            rz = 1.0 / pz
            j00, j02, j11, j12 = fx * rz, -fx * tx * rz * rz, fy * rz, -fy * ty * rz * rz
            # Rows of J R_view, then of U = J R_view R_quat S.
            a0, a1, a2 = j00 * v00 + j02 * v20, j00 * v01 + j02 * v21, j00 * v02 + j02 * v22
            b0, b1, b2 = j11 * v10 + j12 * v20, j11 * v11 + j12 * v21, j11 * v12 + j12 * v22
            u0, u1, u2 = (
                (a0 * R[0] + a1 * R[3] + a2 * R[6]) * sx,
                (a0 * R[1] + a1 * R[4] + a2 * R[7]) * sy,
                (a0 * R[2] + a1 * R[5] + a2 * R[8]) * sz,
            )
            w0, w1, w2 = (
                (b0 * R[0] + b1 * R[3] + b2 * R[6]) * sx,
                (b0 * R[1] + b1 * R[4] + b2 * R[7]) * sy,
                (b0 * R[2] + b1 * R[5] + b2 * R[8]) * sz,
            )
            xx, xy, yy = u0 * u0 + u1 * u1 + u2 * u2, u0 * w0 + u1 * w1 + u2 * w2, w0 * w0 + w1 * w1 + w2 * w2
            det_sharp = xx * yy - xy * xy
            xx += eps2d
            yy += eps2d
            det = xx * yy - xy * xy
            x2d, y2d = fx * px * rz + cx, fy * py * rz + cy
            middle = 0.5 * (xx + yy)
            radius = np.ceil(3.0 * math.sqrt(middle + math.sqrt(max(0.01, middle * middle - det))))
            # Also false for a NaN or infinity in any input: such a Gaussian is left out.
            whole = (det > 0) & (det < np.inf) & (abs(x2d) < np.inf) & (abs(y2d) < np.inf) & (radius > radius_clip)
            whole = whole & touches(x2d, y2d, radius, width, height)
            inverse = 1.0 / det
            block[np.uintp(RADIUS + k)] = min(radius, LARGEST_RADIUS) if whole else 0.0
            block[np.uintp(PX + k)], block[np.uintp(PY + k)] = x2d, y2d
            block[np.uintp(SX + k)], block[np.uintp(SY + k)], block[np.uintp(SZ + k)] = (
                yy * inverse,
                -xy * inverse,
                xx * inverse,
            )
            block[np.uintp(QW + k)] = math.sqrt(max(0.0, det_sharp * inverse))
        for k in range(found):
            if block[RADIUS + k] > 0:
                index = begin + chosen[k]
                radii[index] = np.int32(block[RADIUS + k])
                means2d[index, 0], means2d[index, 1] = block[PX + k], block[PY + k]
                depths[index] = block[PZ + k]
                conics[index, 0], conics[index, 1], conics[index, 2] = block[SX + k], block[SY + k], block[SZ + k]
                compensations[index] = block[QW + k]
        begin = end


@kernel
def gather_slopes(  # type: ignore[no-untyped-def]
    block, chosen, found, begin, first, means, quats, scales, conics, compensations, v_means2d, v_depths, v_conics,
    v_compensations,
):  # fmt: skip
    """What `slopes_of_view` asks of the chosen Gaussians of a block, into its planes."""
    for k in range(found):
        g, index = begin + chosen[k], first + chosen[k]
        for axis in range(3):
            block[MEAN + axis * BLOCK + k] = means[g, axis]
            block[SCALE + axis * BLOCK + k] = scales[g, axis]
            block[CONIC + axis * BLOCK + k] = conics[index, axis]
            block[V_CONIC + axis * BLOCK + k] = v_conics[index, axis]
        for axis in range(4):
            block[QUAT + axis * BLOCK + k] = quats[g, axis]
        block[V_X + k], block[V_Y + k], block[V_DEPTH + k] = v_means2d[index, 0], v_means2d[index, 1], v_depths[index]
        given = v_compensations.shape[0] > 0
        block[COMPENSATION + k] = compensations[index] if given else 0.0
        block[V_COMPENSATION + k] = v_compensations[index] if given else 0.0


@part
def at(block, plane, k):  # type: ignore[no-untyped-def]
    """A number of a plane."""
    return block[np.uintp(plane + k)]


@part
def turned(R, scale, column, view, j00, j02, j11, j12, v_xx, v_xy, v_yy):  # type: ignore[no-untyped-def]
    """Column `column` of U, and the slopes by its scale, by J R_view R_quat's, and by J."""
    a = view[0] * R[column] + view[1] * R[3 + column] + view[2] * R[6 + column]
    b = view[3] * R[column] + view[4] * R[3 + column] + view[5] * R[6 + column]
    c = view[6] * R[column] + view[7] * R[3 + column] + view[8] * R[6 + column]
    u, v = j00 * a + j02 * c, j11 * b + j12 * c
    v_u = (2.0 * v_xx * u + v_xy * v) * scale
    v_v = (2.0 * v_yy * v + v_xy * u) * scale
    along = v_u * u + v_v * v
    v_u *= scale
    v_v *= scale
    return along, v_u * j00, v_v * j11, v_u * j02 + v_v * j12, v_u * a, v_u * c, v_v * b, v_v * c


@kernel
def slopes_of_view(block, found, viewmat, K, width, height, eps2d):  # type: ignore[no-untyped-def]
    """The gradients of the first Gaussians of a block in one view, in place of what `gather_slopes` wrote.

    Written are the planes of mean, scale and rotation, and `TURNED` and `SHIFTED` for `slopes_of_pose`.
    """
    fx, fy, cx, cy = float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])
    view = (
        float(viewmat[0, 0]), float(viewmat[0, 1]), float(viewmat[0, 2]),
        float(viewmat[1, 0]), float(viewmat[1, 1]), float(viewmat[1, 2]),
        float(viewmat[2, 0]), float(viewmat[2, 1]), float(viewmat[2, 2]),
    )  # fmt: skip
    shift_x, shift_y, shift_z = float(viewmat[0, 3]), float(viewmat[1, 3]), float(viewmat[2, 3])
    for k in range(found):
        mx, my, mz = at(block, MEAN, k), at(block, MEAN + BLOCK, k), at(block, MEAN + 2 * BLOCK, k)
        px = view[0] * mx + view[1] * my + view[2] * mz + shift_x
        py = view[3] * mx + view[4] * my + view[5] * mz + shift_y
        pz = view[6] * mx + view[7] * my + view[8] * mz + shift_z
        tx, inside_x = clamped(px, pz, fx, cx, width)
        ty, inside_y = clamped(py, pz, fy, cy, height)
        rz = 1.0 / pz
        j00, j02, j11, j12 = fx * rz, -fx * tx * rz * rz, fy * rz, -fy * ty * rz * rz

        # Conic P = inverse of the covariance: d covariance = -P (d P) P.
        A, B, C = at(block, CONIC, k), at(block, CONIC + BLOCK, k), at(block, CONIC + 2 * BLOCK, k)
        gA, gC = at(block, V_CONIC, k), at(block, V_CONIC + 2 * BLOCK, k)
        gB = 0.5 * at(block, V_CONIC + BLOCK, k)
        l00, l01 = A * gA + B * gB, A * gB + B * gC
        l10, l11 = B * gA + C * gB, B * gB + C * gC
        v_xx, v_xy, v_yy = -(l00 * A + l01 * B), -(l00 * B + l01 * C) - (l10 * A + l11 * B), -(l10 * B + l11 * C)
        compensation = at(block, COMPENSATION, k)
        slope = at(block, V_COMPENSATION, k) * 0.5 / (compensation + 1e-6)
        share = 1.0 - compensation * compensation
        blur = eps2d * (A * C - B * B)
        v_xx += slope * (share * A - blur)
        v_xy += 2.0 * slope * share * B
        v_yy += slope * (share * C - blur)

        qw, qx, qy, qz = (
            at(block, QUAT, k),
            at(block, QUAT + BLOCK, k),
            at(block, QUAT + 2 * BLOCK, k),
            at(block, QUAT + 3 * BLOCK, k),
        )
        norm = 1.0 / math.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
        qw, qx, qy, qz = qw * norm, qx * norm, qy * norm, qz * norm
        R = rotation(qw, qx, qy, qz)
        s0, s1, s2 = at(block, SCALE, k), at(block, SCALE + BLOCK, k), at(block, SCALE + 2 * BLOCK, k)
        by_0, a0, b0, c0, ja0, jc0, jb0, jd0 = turned(R, s0, 0, view, j00, j02, j11, j12, v_xx, v_xy, v_yy)
        by_1, a1, b1, c1, ja1, jc1, jb1, jd1 = turned(R, s1, 1, view, j00, j02, j11, j12, v_xx, v_xy, v_yy)
        by_2, a2, b2, c2, ja2, jc2, jb2, jd2 = turned(R, s2, 2, view, j00, j02, j11, j12, v_xx, v_xy, v_yy)
        v_j00, v_j02, v_j11, v_j12 = ja0 + ja1 + ja2, jc0 + jc1 + jc2, jb0 + jb1 + jb2, jd0 + jd1 + jd2

        g2x, g2y = at(block, V_X, k), at(block, V_Y, k)
        v_px, v_py = fx * rz * g2x, fy * rz * g2y
        v_pz = at(block, V_DEPTH, k) - (fx * px * g2x + fy * py * g2y) * rz * rz
        rz2, rz3 = rz * rz, rz * rz * rz
        v_px -= fx * rz2 * v_j02 if inside_x else 0.0
        v_pz -= 0.0 if inside_x else fx * rz3 * v_j02 * tx
        v_py -= fy * rz2 * v_j12 if inside_y else 0.0
        v_pz -= 0.0 if inside_y else fy * rz3 * v_j12 * ty
        v_pz += 2.0 * fx * tx * rz3 * v_j02 + 2.0 * fy * ty * rz3 * v_j12 - fx * rz2 * v_j00 - fy * rz2 * v_j11

        # Of the rotation's matrix, row by row.
        r0, r1, r2 = (
            a0 * view[0] + b0 * view[3] + c0 * view[6],
            a1 * view[0] + b1 * view[3] + c1 * view[6],
            a2 * view[0] + b2 * view[3] + c2 * view[6],
        )
        r3, r4, r5 = (
            a0 * view[1] + b0 * view[4] + c0 * view[7],
            a1 * view[1] + b1 * view[4] + c1 * view[7],
            a2 * view[1] + b2 * view[4] + c2 * view[7],
        )
        r6, r7, r8 = (
            a0 * view[2] + b0 * view[5] + c0 * view[8],
            a1 * view[2] + b1 * view[5] + c1 * view[8],
            a2 * view[2] + b2 * view[5] + c2 * view[8],
        )
        v_w = 2 * (qx * (r7 - r5) + qy * (r2 - r6) + qz * (r3 - r1))
        v_x = 2 * (-2 * qx * (r4 + r8) + qy * (r1 + r3) + qz * (r2 + r6) + qw * (r7 - r5))
        v_y = 2 * (qx * (r1 + r3) - 2 * qy * (r0 + r8) + qz * (r5 + r7) + qw * (r2 - r6))
        v_z = 2 * (qx * (r2 + r6) + qy * (r5 + r7) - 2 * qz * (r0 + r4) + qw * (r3 - r1))
        along = v_w * qw + v_x * qx + v_y * qy + v_z * qz

        block[np.uintp(MEAN + k)] = view[0] * v_px + view[3] * v_py + view[6] * v_pz
        block[np.uintp(MEAN + BLOCK + k)] = view[1] * v_px + view[4] * v_py + view[7] * v_pz
        block[np.uintp(MEAN + 2 * BLOCK + k)] = view[2] * v_px + view[5] * v_py + view[8] * v_pz
        block[np.uintp(SCALE + k)] = by_0
        block[np.uintp(SCALE + BLOCK + k)] = by_1
        block[np.uintp(SCALE + 2 * BLOCK + k)] = by_2
        block[np.uintp(QUAT + k)] = (v_w - along * qw) * norm
        block[np.uintp(QUAT + BLOCK + k)] = (v_x - along * qx) * norm
        block[np.uintp(QUAT + 2 * BLOCK + k)] = (v_y - along * qy) * norm
        block[np.uintp(QUAT + 3 * BLOCK + k)] = (v_z - along * qz) * norm
        block[np.uintp(SHIFTED + k)] = v_px
        block[np.uintp(SHIFTED + BLOCK + k)] = v_py
        block[np.uintp(SHIFTED + 2 * BLOCK + k)] = v_pz
        block[np.uintp(TURNED + k)] = a0
        block[np.uintp(TURNED + BLOCK + k)] = a1
        block[np.uintp(TURNED + 2 * BLOCK + k)] = a2
        block[np.uintp(TURNED + 3 * BLOCK + k)] = b0
        block[np.uintp(TURNED + 4 * BLOCK + k)] = b1
        block[np.uintp(TURNED + 5 * BLOCK + k)] = b2
        block[np.uintp(TURNED + 6 * BLOCK + k)] = c0
        block[np.uintp(TURNED + 7 * BLOCK + k)] = c1
        block[np.uintp(TURNED + 8 * BLOCK + k)] = c2


@kernel
def slopes_of_pose(block, k, means, quats, g, v_view):  # type: ignore[no-untyped-def]
    """What a Gaussian says of the first three rows of the view matrix: [12], written."""
    qw, qx, qy, qz = float(quats[g, 0]), float(quats[g, 1]), float(quats[g, 2]), float(quats[g, 3])
    norm = 1.0 / math.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
    R = rotation(qw * norm, qx * norm, qy * norm, qz * norm)
    for row in range(3):
        v_p = block[SHIFTED + row * BLOCK + k]
        for axis in range(3):
            turn = 0.0
            for column in range(3):
                turn += block[TURNED + (3 * row + column) * BLOCK + k] * R[3 * axis + column]
            v_view[4 * row + axis] = turn + v_p * means[g, axis]
        v_view[4 * row + 3] = v_p


@kernel
def backward(  # type: ignore[no-untyped-def]
    start, stop, means, quats, scales, viewmats, Ks, width, height, eps2d, radii, conics, compensations, v_means2d,
    v_depths, v_conics, v_compensations, v_means, v_quats, v_scales, v_views,
):  # fmt: skip
    """Gradients of Gaussians start..stop (of N), summed over the cameras.

    Args:
        v_means2d: [M, 2], v_depths [M], v_conics [M, 3], v_compensations [M] or length 0.
        v_means: [N, 3], v_quats [N, 4], v_scales [N, 3], written.
        v_views: [M, 12] or length 0, written: gradients of the first three rows of the view matrix, by Gaussian.
    """
    count = means.shape[0]
    block, chosen = np.empty(SLOPES * BLOCK, np.float64), np.empty(BLOCK, np.int64)
    for begin in range(start, stop, BLOCK):
        end = min(begin + BLOCK, stop)
        v_means[begin:end] = 0
        v_quats[begin:end] = 0
        v_scales[begin:end] = 0
        for camera in range(viewmats.shape[0]):
            found, first = 0, camera * count + begin
            for i in range(end - begin):
                chosen[found] = i
                found += radii[first + i] > 0
            gather_slopes(
                block,
                chosen,
                found,
                begin,
                first,
                means,
                quats,
                scales,
                conics,
                compensations,
                v_means2d,
                v_depths,
                v_conics,
                v_compensations,
            )
            slopes_of_view(block, found, viewmats[camera], Ks[camera], width, height, eps2d)
            for k in range(found):
                g = begin + chosen[k]
                for axis in range(3):
                    v_means[g, axis] += block[MEAN + axis * BLOCK + k]
                    v_scales[g, axis] += block[SCALE + axis * BLOCK + k]
                for axis in range(4):
                    v_quats[g, axis] += block[QUAT + axis * BLOCK + k]
            if v_views.shape[0] > 0:
                v_views[first : first + end - begin] = 0
                for k in range(found):
                    slopes_of_pose(block, k, means, quats, begin + chosen[k], v_views[first + chosen[k]])
