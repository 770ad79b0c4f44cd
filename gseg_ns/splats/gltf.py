"""Writing binary glTF with KHR_gaussian_splatting, Khronos' ratified extension for splats."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gseg_ns.errors import GsegError
from gseg_ns.files import atomic_path
from gseg_ns.splats.container import Splats
from gseg_ns.splats.transform import transform

EXTENSION = "KHR_gaussian_splatting"

_FLOAT, _ARRAY_BUFFER, _POINTS = 5126, 34962, 0
_TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}
_LARGEST = 2**32 - 1
"""A GLB and its chunks count their bytes with 32 bits."""


def write_glb(path: Path, splats: Splats, labels: torch.Tensor | None = None) -> None:
    """Write a GLB file in which the splats are one primitive of points.

    Nothing is rounded: all attributes are 32-bit floats. As the extension demands, scales are linear, opacities are in
    0..1, quaternions are x, y, z, w of unit length, colors are spherical harmonics in display-referred sRGB. glTF's
    axes are right, up, back; the splats are taken to be right, down, forward, as PLY readers take them (and as in
    `write_spz`).

    Args:
        path: the file, written whole or not at all.
        splats: the Gaussians, of any SH degree; those that `Splats.exportable` rejects are left out.
        labels: int [N], written as the application's own attribute `_LABEL` (a float, exact up to 2^24: glTF has no
            integer attributes of that size).

    Raises:
        GsegError: nothing can be written, it is more than 4 GiB, or the disk does not take the file.
    """
    splats = splats.to("cpu")
    keep = splats.exportable()
    splats = splats.subset(keep)
    if len(splats) == 0:
        raise GsegError(f"There is no Gaussian to write to {path}.")
    turned = transform(splats, torch.diag(torch.tensor([1.0, -1.0, -1.0])), torch.zeros(3))
    quats = torch.nn.functional.normalize(turned.quats.double(), dim=-1)
    attributes: dict[str, torch.Tensor] = {
        "POSITION": turned.means,
        f"{EXTENSION}:ROTATION": quats[:, [1, 2, 3, 0]],
        f"{EXTENSION}:SCALE": turned.scales.exp(),
        f"{EXTENSION}:OPACITY": turned.opacities.sigmoid()[:, None],
    }
    for degree in range(turned.sh_degree + 1):
        for order in range(2 * degree + 1):
            attributes[f"{EXTENSION}:SH_DEGREE_{degree}_COEF_{order}"] = turned.sh[:, degree * degree + order]
    if labels is not None:
        attributes["_LABEL"] = labels.to("cpu")[keep][:, None]

    arrays = {name: np.ascontiguousarray(values.numpy(), dtype="<f4") for name, values in attributes.items()}
    document, size = _document(arrays)
    head = json.dumps(document, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 4)
    total = 12 + 8 + len(head) + 8 + size
    if total > _LARGEST:
        raise GsegError(f"Cannot write {path}: a GLB holds 4 GiB, this is {total / 2**30:.1f}. Export fewer Gaussians.")
    with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<4sII", b"glTF", 2, total))
        file.write(struct.pack("<I4s", len(head), b"JSON"))
        file.write(head)
        file.write(struct.pack("<I4s", size, b"BIN\0"))
        for array in arrays.values():
            file.write(array.tobytes())


def _document(arrays: dict[str, np.ndarray[Any, Any]]) -> tuple[dict[str, Any], int]:
    """The JSON chunk for arrays that lie one behind the other, and how many bytes these take."""
    views: list[dict[str, Any]] = []
    accessors: list[dict[str, Any]] = []
    offset = 0
    for name, array in arrays.items():
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": array.nbytes, "target": _ARRAY_BUFFER})
        accessor: dict[str, Any] = {
            "bufferView": len(accessors),
            "componentType": _FLOAT,
            "count": len(array),
            "type": _TYPES[array.shape[1]],
        }
        if name == "POSITION":  # the one attribute whose bounds glTF wants to know
            accessor |= {"min": array.min(axis=0).tolist(), "max": array.max(axis=0).tolist()}
        accessors.append(accessor)
        offset += array.nbytes  # a multiple of 4, as alignment demands
    primitive = {
        "attributes": {name: index for index, name in enumerate(arrays)},
        "mode": _POINTS,
        "extensions": {
            EXTENSION: {
                "kernel": "ellipse",
                "colorSpace": "srgb_rec709_display",
                "projection": "perspective",
                "sortingMethod": "cameraDistance",
            }
        },
    }
    return {
        "asset": {"version": "2.0", "generator": "gseg-ns"},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": offset}],
    }, offset
