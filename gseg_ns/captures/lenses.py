"""Lenses as COLMAP and transforms.json describe them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gseg_ns.captures.capture import CameraKind, Lens
from gseg_ns.errors import GsegError

COLMAP_LENSES: dict[int, tuple[str, int]] = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
    6: ("FULL_OPENCV", 12),
    7: ("FOV", 5),
    8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5),
    10: ("THIN_PRISM_FISHEYE", 12),
    11: ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
}
"""COLMAP's number of a camera model -> its name and how many parameters it has."""

_ONE_FOCAL = ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")

PERSPECTIVE = frozenset(
    ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE", "FULL_OPENCV")
)
"""Names of camera models in a transforms.json that are perspective ones; what they lack is zero."""
FISHEYE = frozenset(("OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "FISHEYE"))
"""The same of fisheye ones."""

_LONGEST_SIDE = 2**16
_LARGEST_NUMBER = 1e9

MAX_FIT_ERROR = 0.25
"""Pixels that a lens may be off where it is described by the nearest one of OpenCV's two models."""

UNDISTORT = "make undistorted photographs with `colmap image_undistorter` and use those"


def colmap_lens(model: str, width: int, height: int, params: Sequence[float], where: str) -> Lens:
    """A camera of a COLMAP model.

    Models that Nerfstudio does not undistort are described by the nearest that it does.

    Args:
        model: COLMAP's name of it.
        width: in pixels.
        height: in pixels.
        params: as many as that model has.
        where: what a message calls this camera.

    Raises:
        GsegError: a model that cannot be described, or numbers that are no lens.
    """
    expected = {name: count for name, count in COLMAP_LENSES.values()}.get(model)
    if expected is None or model == "RAD_TAN_THIN_PRISM_FISHEYE":
        raise GsegError(f"{where} is of the camera model {model}, which is not supported: {UNDISTORT}.")
    if len(params) != expected:
        raise GsegError(f"{where} has {len(params)} parameters, and {model} has {expected}: export the model again.")
    p = [float(value) for value in params]
    if model in _ONE_FOCAL:
        p = [p[0], *p]
    fx, fy, cx, cy, *k = p
    kind: CameraKind = "perspective"
    distortion: Sequence[float] = (0.0,) * 6
    if model in ("SIMPLE_RADIAL", "RADIAL"):
        distortion = (k[0], k[1] if len(k) > 1 else 0.0, 0, 0, 0, 0)
    elif model == "OPENCV":
        distortion = (k[0], k[1], 0, 0, k[2], k[3])
    elif model in ("SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "OPENCV_FISHEYE"):
        kind, distortion = "fisheye", (*k, *[0.0] * (6 - len(k)))
    lens = Lens(kind, width, height, fx, fy, cx, cy, tuple(map(float, distortion)))
    check_lens(lens, where)
    if model == "FULL_OPENCV":
        return rational_lens(lens, k, where)
    if model == "FOV":
        return _nearest(lens, lambda points: _fov(points, k[0]), ("perspective", "fisheye"), where, model)
    if model == "THIN_PRISM_FISHEYE":
        return _nearest(lens, lambda points: _thin_prism_fisheye(points, k), ("fisheye",), where, model)
    return lens


def rational_lens(lens: Lens, k: Sequence[float], where: str) -> Lens:
    """The lens of OpenCV's rational model k1, k2, p1, p2, k3, k4, k5, k6."""
    coefficients = np.array([*k, *[0.0] * (8 - len(k))], dtype=np.float64)
    if not coefficients[5:].any():
        k1, k2, p1, p2, k3 = coefficients[:5].tolist()
        return replace(lens, distortion=(k1, k2, k3, 0.0, p1, p2))
    return _nearest(lens, lambda points: _project(points, coefficients), ("perspective",), where, "FULL_OPENCV")


def json_lens(values: Mapping[str, Any], size: tuple[int, int] | None, where: str) -> Lens:
    """The lens that a transforms.json gives a frame.

    Args:
        values: keys of the frame, over those of the whole scene.
        size: width and height of the photograph, where it is at hand.
        where: what a message calls this frame.

    Raises:
        GsegError: numbers are missing or no lens, or a camera model that cannot be described.
    """

    def number(key: str) -> float | None:
        value = values.get(key)
        if value is None:
            return None
        try:
            return float(value)
        except (TypeError, ValueError):
            raise GsegError(f"{where}: {key} is {value!r}, which is no number.") from None

    width, height = number("w"), number("h")
    if not width or not height:
        if size is None:
            raise GsegError(f"{where} has no size: give w and h.")
        width, height = size
    fx, fy = number("fl_x"), number("fl_y")
    angle_x, angle_y = number("camera_angle_x"), number("camera_angle_y")
    for key, angle in (("camera_angle_x", angle_x), ("camera_angle_y", angle_y)):
        if angle and not 0 < angle < math.pi:
            raise GsegError(f"{where}: {key} is {angle:g}: it is an angle in radians, above 0 and below pi.")
    if fx is None and angle_x:
        fx = 0.5 * width / math.tan(0.5 * angle_x)
    if fy is None and angle_y:
        fy = 0.5 * height / math.tan(0.5 * angle_y)
    fx, fy = fx if fx is not None else fy, fy if fy is not None else fx
    if fx is None or fy is None:
        raise GsegError(f"{where} has no focal length: give fl_x and fl_y, or camera_angle_x.")
    cx, cy = number("cx"), number("cy")
    name = str(values.get("camera_model") or ("OPENCV_FISHEYE" if values.get("is_fisheye") is True else "OPENCV"))
    listed = values.get("distortion_params")
    k = {key: number(key) or 0.0 for key in ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")}
    if name.upper() == "FISHEYE624":
        distortion = listed if isinstance(listed, list) else []
        if len(distortion) != 12:
            raise GsegError(f"{where} is of the camera model FISHEYE624 and needs 12 distortion_params.")
        kind: CameraKind = "fisheye624"
    elif name.upper() in PERSPECTIVE | FISHEYE:
        kind = "perspective" if name.upper() in PERSPECTIVE else "fisheye"
        if isinstance(listed, list):
            distortion = [*listed, *[0.0] * (6 - len(listed))]
        else:
            distortion = [k["k1"], k["k2"], k["k3"], k["k4"], k["p1"], k["p2"]]
    else:
        raise GsegError(
            f"{where} is of the camera model {name}: Gaussian splatting needs perspective or fisheye photographs. "
            "ns-process-data makes perspective ones of panoramas (--camera-type equirectangular)."
        )
    try:
        numbers = tuple(float(value) for value in distortion)
    except (TypeError, ValueError):
        raise GsegError(f"{where}: distortion_params are {listed!r}, which are no numbers.") from None
    width, height = round(width), round(height)
    _refuse_fractions((fx, fy, cx, cy), width, height, where)
    lens = Lens(kind, width, height, fx, fy, width / 2 if cx is None else cx, height / 2 if cy is None else cy, numbers)
    check_lens(lens, where)
    if kind == "perspective" and name.upper() == "FULL_OPENCV" and not isinstance(listed, list):
        return rational_lens(lens, [k[key] for key in ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")], where)
    if kind == "perspective" and (numbers[3] or k["k5"] or k["k6"]):
        raise GsegError(
            f"{where} has a 4th radial coefficient, which perspective cameras have in FULL_OPENCV alone: name the "
            f"camera_model if it is one of those (or OPENCV_FISHEYE), or {UNDISTORT}."
        )
    return lens


def _refuse_fractions(
    intrinsics: tuple[float, float, float | None, float | None], width: int, height: int, where: str
) -> None:
    """Refuse intrinsics that are parts of the photograph's size, as some tools write them, and no pixels.

    Raises:
        GsegError: see there.
    """
    fx, fy, cx, cy = intrinsics
    if min(width, height) < 16:
        return
    in_corner = cx is not None and cy is not None and 0 <= cx <= 1 and 0 <= cy <= 1
    if in_corner or 0 < fx < width / 50 or 0 < fy < height / 50:
        given = ", ".join(
            f"{name} {value:g}"
            for name, value in zip(("fl_x", "fl_y", "cx", "cy"), intrinsics, strict=True)
            if value is not None
        )
        raise GsegError(
            f"{where} has {width} x {height} pixels and {given}, which seem to be parts of that size: give pixels."
        )


def check_lens(lens: Lens, where: str) -> None:
    """Refuse what is no lens.

    Raises:
        GsegError: see there.
    """
    numbers = (lens.fx, lens.fy, lens.cx, lens.cy, *lens.distortion)
    if not all(map(math.isfinite, numbers)):
        raise GsegError(f"{where} has intrinsics that are not finite: run the reconstruction again.")
    if max(lens.width, lens.height) > _LONGEST_SIDE or max(map(abs, numbers)) > _LARGEST_NUMBER:
        raise GsegError(f"{where} has numbers that no camera has: run the reconstruction again.")
    if lens.width < 1 or lens.height < 1 or lens.fx <= 0 or lens.fy <= 0:
        raise GsegError(
            f"{where} has {lens.width} x {lens.height} pixels and the focal lengths {lens.fx:g} and {lens.fy:g}: "
            "they must be positive."
        )


def check_undistortion(lens: Lens, where: str) -> None:
    """Refuse a distortion that leaves nothing of a photograph, as a failed calibration has it.

    Raises:
        GsegError: see there.
    """
    if lens.kind == "fisheye624" or not any(lens.distortion):
        return
    import cv2

    k1, k2, k3, k4, p1, p2 = lens.distortion
    matrix, size = lens.matrix, (lens.width, lens.height)
    matrix[:2, 2] -= 0.5
    try:
        if lens.kind == "perspective":
            new, region = cv2.getOptimalNewCameraMatrix(matrix, np.array([k1, k2, p1, p2, k3]), size, 0)
            good = region[2] >= 2 and region[3] >= 2
        else:
            new = cv2.fisheye.estimateNewCameraMatrixForUndistortRectify(
                matrix, np.array([k1, k2, k3, k4]), size, np.eye(3), balance=0
            )
            good = True
    except cv2.error:
        good, new = False, matrix
    # Ten times the focal length shows a hundredth of the photograph.
    if not good or not np.isfinite(new).all() or not 0 < new[0, 0] < 10 * lens.fx or not 0 < new[1, 1] < 10 * lens.fy:
        raise GsegError(
            f"{where} has a distortion ({', '.join(f'{value:g}' for value in lens.distortion)}) that leaves nothing "
            f"of its photographs: run the reconstruction again with another camera model, or {UNDISTORT}."
        )


def _project(points: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Distort points [N, 2] of the plane z = 1 by OpenCV's perspective model."""
    import cv2

    solid = np.concatenate([points, np.ones((len(points), 1))], axis=1)
    return cv2.projectPoints(solid, np.zeros(3), np.zeros(3), np.eye(3), coefficients)[0][:, 0]


def _fisheye(points: np.ndarray, k: Sequence[float]) -> np.ndarray:
    """Distort points [N, 2] of the plane z = 1 by OpenCV's fisheye model."""
    radius = np.linalg.norm(points, axis=1, keepdims=True).clip(1e-12)
    theta = np.arctan(radius)
    return points * theta * (1 + sum(c * theta ** (2 * i + 2) for i, c in enumerate(k))) / radius


def _fov(points: np.ndarray, omega: float) -> np.ndarray:
    """Devernay and Faugeras' field-of-view model."""
    if abs(omega) < 1e-6:
        return points
    radius = np.linalg.norm(points, axis=1, keepdims=True).clip(1e-12)
    return points * np.arctan(2 * radius * math.tan(omega / 2)) / (omega * radius)


def _thin_prism_fisheye(points: np.ndarray, params: Sequence[float]) -> np.ndarray:
    """COLMAP's thin prism model over an equidistant fisheye."""
    k1, k2, p1, p2, k3, k4, sx, sy = params
    u, v = _fisheye(points, ()).T
    r2 = u * u + v * v
    radial = k1 * r2 + k2 * r2**2 + k3 * r2**3 + k4 * r2**4
    x = u + u * radial + 2 * p1 * u * v + p2 * (r2 + 2 * u * u) + sx * r2
    y = v + v * radial + 2 * p2 * u * v + p1 * (r2 + 2 * v * v) + sy * r2
    return np.stack([x, y], axis=1)


def _nearest(
    lens: Lens, distort: Callable[[np.ndarray], np.ndarray], kinds: Sequence[CameraKind], where: str, model: str
) -> Lens:
    """The lens of OpenCV's models that is nearest to `distort` over the photograph.

    Raises:
        GsegError: none is within `MAX_FIT_ERROR` pixels.
    """
    from scipy.optimize import least_squares

    focal = np.array([lens.fx, lens.fy])
    middle = np.array([lens.cx, lens.cy])
    # Directions of which some lie beyond the photograph's border; those that do not come to lie on it do not count.
    reach = 1.5 * max(lens.width / lens.fx, lens.height / lens.fy)
    axis = np.linspace(-reach, reach, 61)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    wanted = distort(points)
    pixels = wanted * focal + middle
    inside = ((pixels > -1) & (pixels < [lens.width + 1, lens.height + 1])).all(axis=1)
    points, wanted = points[inside], wanted[inside]
    best: tuple[float, Lens] | None = None
    for kind in kinds:
        count = 5 if kind == "perspective" else 4

        def model_of(values: np.ndarray, kind: CameraKind = kind) -> np.ndarray:
            """Of a factor of the focal length and the coefficients."""
            k = values[1:]
            return values[0] * (_project(points, k) if kind == "perspective" else _fisheye(points, k.tolist()))

        if len(points) < 20:
            break
        start = np.array([1.0, *[0.0] * count])
        fit = least_squares(lambda values: ((model_of(values) - wanted) * focal).ravel(), start)
        error = float(np.linalg.norm((model_of(fit.x) - wanted) * focal, axis=1).max())
        factor, *k = fit.x.tolist()
        distortion = (k[0], k[1], k[4], 0.0, k[2], k[3]) if kind == "perspective" else (*k, 0.0, 0.0)
        if best is None or error < best[0]:
            best = error, replace(lens, kind=kind, fx=lens.fx * factor, fy=lens.fy * factor, distortion=distortion)
    if best is None or best[0] > MAX_FIT_ERROR:
        by = "" if best is None else f", and the nearest that is undistorted here is off by {best[0]:.1f} pixels"
        raise GsegError(f"{where} is of the camera model {model}{by}: {UNDISTORT}.")
    return best[1]
