"""Pinhole projection of 3D Gaussians, forward and backward (EWA splatting, Zwicker et al. 2001).

The formulas are those of gsplat 1.4.0's CUDA code (`utils.cuh`, `fully_fused_projection_{fwd,bwd}.cu`), with the same
field-of-view clamp, blur, radius and culling. The covariance is never formed in 3D: with U = J R_view R_quat S the
projected one is U U^T.
"""

from __future__ import annotations

import math

import numpy as np

from gseg_ns.rendering.kernels.jit import kernel

# A radius above this is cut to it, to stay within int32.
LARGEST_RADIUS = 1e9


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
def forward(  # type: ignore[no-untyped-def]
    start, stop, means, quats, scales, viewmats, Ks, width, height, eps2d, near, far, radius_clip, radii, means2d,
    depths, conics, compensations,
):  # fmt: skip
    """Project Gaussians start..stop of camera * N + gaussian.

    Args:
        means: [N, 3], quats [N, 4] wxyz, scales [N, 3], viewmats [C, 4, 4], Ks [C, 3, 3].
        radii: [M] int32, means2d [M, 2], depths [M], conics [M, 3], compensations [M], written; zeros where culled.
    """
    count = means.shape[0]
    for index in range(start, stop):
        camera, g = index // count, index % count
        view, K = viewmats[camera], Ks[camera]
        radii[index] = 0
        depths[index] = compensations[index] = means2d[index, 0] = means2d[index, 1] = 0
        conics[index, 0] = conics[index, 1] = conics[index, 2] = 0
        mx, my, mz = float(means[g, 0]), float(means[g, 1]), float(means[g, 2])
        px = view[0, 0] * mx + view[0, 1] * my + view[0, 2] * mz + view[0, 3]
        py = view[1, 0] * mx + view[1, 1] * my + view[1, 2] * mz + view[1, 3]
        pz = view[2, 0] * mx + view[2, 1] * my + view[2, 2] * mz + view[2, 3]
        if not near <= pz <= far:
            continue
        fx, fy, cx, cy = float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])
        tx, _ = clamped(px, pz, fx, cx, width)
        ty, _ = clamped(py, pz, fy, cy, height)
        j00, j02, j11, j12 = fx / pz, -fx * tx / (pz * pz), fy / pz, -fy * ty / (pz * pz)
        x2d, y2d = fx * px / pz + cx, fy * py / pz + cy
        # Most Gaussians outside of the image are, however they are turned: |J R S|^2 <= |J|^2 max(s)^2.
        widest = max(abs(scales[g, 0]), abs(scales[g, 1]), abs(scales[g, 2]))
        spread = 0.5 * (j00 * j00 + j02 * j02 + j11 * j11 + j12 * j12) * widest * widest + eps2d
        bound = 1.001 * (3.0 * math.sqrt(spread + max(0.1, spread)) + 1.0)
        if x2d + bound <= 0 or x2d - bound >= width or y2d + bound <= 0 or y2d - bound >= height:
            continue
        qw, qx, qy, qz = float(quats[g, 0]), float(quats[g, 1]), float(quats[g, 2]), float(quats[g, 3])
        norm = 1.0 / math.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
        R = rotation(qw * norm, qx * norm, qy * norm, qz * norm)
        xx, xy, yy = 0.0, 0.0, 0.0
        for k in range(3):
            # Column k of R_view R_quat S, then of U.
            a = (view[0, 0] * R[k] + view[0, 1] * R[3 + k] + view[0, 2] * R[6 + k]) * scales[g, k]
            b = (view[1, 0] * R[k] + view[1, 1] * R[3 + k] + view[1, 2] * R[6 + k]) * scales[g, k]
            c = (view[2, 0] * R[k] + view[2, 1] * R[3 + k] + view[2, 2] * R[6 + k]) * scales[g, k]
            u, v = j00 * a + j02 * c, j11 * b + j12 * c
            xx += u * u
            xy += u * v
            yy += v * v
        det_sharp = xx * yy - xy * xy
        xx += eps2d
        yy += eps2d
        det = xx * yy - xy * xy
        # Also false for a NaN or infinity in any input: such a Gaussian is left out.
        if not (0 < det < np.inf and abs(x2d) < np.inf and abs(y2d) < np.inf):
            continue
        middle = 0.5 * (xx + yy)
        radius = min(math.ceil(3.0 * math.sqrt(middle + math.sqrt(max(0.01, middle * middle - det)))), LARGEST_RADIUS)
        if not radius > radius_clip:
            continue
        if x2d + radius <= 0 or x2d - radius >= width or y2d + radius <= 0 or y2d - radius >= height:
            continue
        radii[index] = np.int32(radius)
        means2d[index, 0], means2d[index, 1] = x2d, y2d
        depths[index] = pz
        conics[index, 0], conics[index, 1], conics[index, 2] = yy / det, -xy / det, xx / det
        compensations[index] = math.sqrt(max(0.0, det_sharp / det))


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
    v_R = np.empty(9, np.float64)
    v_view = np.empty((3, 3), np.float64)
    for g in range(start, stop):
        v_mean_x, v_mean_y, v_mean_z = 0.0, 0.0, 0.0
        v_s = (0.0, 0.0, 0.0)
        v_R[:] = 0
        mx, my, mz = float(means[g, 0]), float(means[g, 1]), float(means[g, 2])
        qw, qx, qy, qz = float(quats[g, 0]), float(quats[g, 1]), float(quats[g, 2]), float(quats[g, 3])
        norm = 1.0 / math.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
        qw, qx, qy, qz = qw * norm, qx * norm, qy * norm, qz * norm
        R = rotation(qw, qx, qy, qz)
        seen = False
        for camera in range(viewmats.shape[0]):
            index = camera * count + g
            if v_views.shape[0] > 0:
                v_views[index] = 0
            if radii[index] <= 0:
                continue
            seen = True
            view, K = viewmats[camera], Ks[camera]
            px = view[0, 0] * mx + view[0, 1] * my + view[0, 2] * mz + view[0, 3]
            py = view[1, 0] * mx + view[1, 1] * my + view[1, 2] * mz + view[1, 3]
            pz = view[2, 0] * mx + view[2, 1] * my + view[2, 2] * mz + view[2, 3]
            fx, fy, cx, cy = float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])
            tx, inside_x = clamped(px, pz, fx, cx, width)
            ty, inside_y = clamped(py, pz, fy, cy, height)
            rz = 1.0 / pz
            j00, j02, j11, j12 = fx * rz, -fx * tx * rz * rz, fy * rz, -fy * ty * rz * rz

            # Conic P = inverse of the covariance: d covariance = -P (d P) P.
            A, B, C = float(conics[index, 0]), float(conics[index, 1]), float(conics[index, 2])
            gA, gB, gC = float(v_conics[index, 0]), 0.5 * v_conics[index, 1], float(v_conics[index, 2])
            l00, l01 = A * gA + B * gB, A * gB + B * gC
            l10, l11 = B * gA + C * gB, B * gB + C * gC
            v_xx, v_xy, v_yy = -(l00 * A + l01 * B), -(l00 * B + l01 * C) - (l10 * A + l11 * B), -(l10 * B + l11 * C)
            if v_compensations.shape[0] > 0:
                compensation = float(compensations[index])
                slope = v_compensations[index] * 0.5 / (compensation + 1e-6)
                share = 1.0 - compensation * compensation
                blur = eps2d * (A * C - B * B)
                v_xx += slope * (share * A - blur)
                v_xy += 2.0 * slope * share * B
                v_yy += slope * (share * C - blur)

            v_j00, v_j02, v_j11, v_j12 = 0.0, 0.0, 0.0, 0.0
            v_view[:] = 0
            for k in range(3):
                scale = float(scales[g, k])
                a = view[0, 0] * R[k] + view[0, 1] * R[3 + k] + view[0, 2] * R[6 + k]
                b = view[1, 0] * R[k] + view[1, 1] * R[3 + k] + view[1, 2] * R[6 + k]
                c = view[2, 0] * R[k] + view[2, 1] * R[3 + k] + view[2, 2] * R[6 + k]
                u, v = j00 * a + j02 * c, j11 * b + j12 * c
                # d loss / d (U column k), without and then with the scale.
                v_u = (2.0 * v_xx * u + v_xy * v) * scale
                v_v = (2.0 * v_yy * v + v_xy * u) * scale
                along = v_u * u + v_v * v
                if k == 0:
                    v_s = (v_s[0] + along, v_s[1], v_s[2])
                elif k == 1:
                    v_s = (v_s[0], v_s[1] + along, v_s[2])
                else:
                    v_s = (v_s[0], v_s[1], v_s[2] + along)
                v_u *= scale
                v_v *= scale
                v_j00 += v_u * a
                v_j02 += v_u * c
                v_j11 += v_v * b
                v_j12 += v_v * c
                v_a, v_b, v_c = v_u * j00, v_v * j11, v_u * j02 + v_v * j12
                for row in range(3):
                    v_R[3 * row + k] += v_a * view[0, row] + v_b * view[1, row] + v_c * view[2, row]
                    v_view[0, row] += v_a * R[3 * row + k]
                    v_view[1, row] += v_b * R[3 * row + k]
                    v_view[2, row] += v_c * R[3 * row + k]

            g2x, g2y = float(v_means2d[index, 0]), float(v_means2d[index, 1])
            v_px, v_py = fx * rz * g2x, fy * rz * g2y
            v_pz = v_depths[index] - (fx * px * g2x + fy * py * g2y) * rz * rz
            rz2, rz3 = rz * rz, rz * rz * rz
            if inside_x:
                v_px -= fx * rz2 * v_j02
            else:
                v_pz -= fx * rz3 * v_j02 * tx
            if inside_y:
                v_py -= fy * rz2 * v_j12
            else:
                v_pz -= fy * rz3 * v_j12 * ty
            v_pz += 2.0 * fx * tx * rz3 * v_j02 + 2.0 * fy * ty * rz3 * v_j12 - fx * rz2 * v_j00 - fy * rz2 * v_j11
            v_mean_x += view[0, 0] * v_px + view[1, 0] * v_py + view[2, 0] * v_pz
            v_mean_y += view[0, 1] * v_px + view[1, 1] * v_py + view[2, 1] * v_pz
            v_mean_z += view[0, 2] * v_px + view[1, 2] * v_py + view[2, 2] * v_pz
            if v_views.shape[0] > 0:
                for row in range(3):
                    v_p = v_px if row == 0 else (v_py if row == 1 else v_pz)
                    v_views[index, 4 * row] = v_view[row, 0] + v_p * mx
                    v_views[index, 4 * row + 1] = v_view[row, 1] + v_p * my
                    v_views[index, 4 * row + 2] = v_view[row, 2] + v_p * mz
                    v_views[index, 4 * row + 3] = v_p

        if not seen:
            v_means[g] = 0
            v_quats[g] = 0
            v_scales[g] = 0
            continue
        v_means[g, 0], v_means[g, 1], v_means[g, 2] = v_mean_x, v_mean_y, v_mean_z
        v_scales[g, 0], v_scales[g, 1], v_scales[g, 2] = v_s
        v_w = 2 * (qx * (v_R[7] - v_R[5]) + qy * (v_R[2] - v_R[6]) + qz * (v_R[3] - v_R[1]))
        v_x = 2 * (
            -2 * qx * (v_R[4] + v_R[8]) + qy * (v_R[1] + v_R[3]) + qz * (v_R[2] + v_R[6]) + qw * (v_R[7] - v_R[5])
        )
        v_y = 2 * (
            qx * (v_R[1] + v_R[3]) - 2 * qy * (v_R[0] + v_R[8]) + qz * (v_R[5] + v_R[7]) + qw * (v_R[2] - v_R[6])
        )
        v_z = 2 * (
            qx * (v_R[2] + v_R[6]) + qy * (v_R[5] + v_R[7]) - 2 * qz * (v_R[0] + v_R[4]) + qw * (v_R[3] - v_R[1])
        )
        along = v_w * qw + v_x * qx + v_y * qy + v_z * qz
        v_quats[g, 0] = (v_w - along * qw) * norm
        v_quats[g, 1] = (v_x - along * qx) * norm
        v_quats[g, 2] = (v_y - along * qy) * norm
        v_quats[g, 3] = (v_z - along * qz) * norm
