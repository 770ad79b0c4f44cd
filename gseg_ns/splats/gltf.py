"""Writing binary glTF: splats with KHR_gaussian_splatting, Khronos' ratified extension, and meshes to touch."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gseg_ns.errors import GsegError
from gseg_ns.files import atomic_path
from gseg_ns.splats.container import SH_C0, Splats
from gseg_ns.splats.mesh import Proxy
from gseg_ns.splats.placement import Placement
from gseg_ns.splats.scene import Part, SceneObject, parts_of

EXTENSION = "KHR_gaussian_splatting"
_FEATURES = "EXT_mesh_features"
_METADATA = "EXT_structural_metadata"

_FLOAT, _UNSIGNED_INT, _UNSIGNED_BYTE = 5126, 5125, 5121
_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963
_POINTS = 0
_COLUMNS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}
_LARGEST = 2**32 - 1
"""A GLB and its chunks count their bytes with 32 bits."""

Array = NDArray[Any]


def gltf_placement(placement: Placement) -> Placement:
    """Where Gaussians lie in a glTF file: +Y up as the standard demands, in metres where their length is known."""
    return placement.with_up("y").in_meters()


def write_glb(
    path: Path,
    splats: Splats,
    objects: Sequence[SceneObject] = (),
    placement: Placement | None = None,
    rest: bool = True,
) -> None:
    """Write a GLB file with a node for each object.

    Nothing is rounded: all attributes are 32-bit floats but for `COLOR_0`, which readers without the extension color
    points by. As the extension demands, scales are linear, opacities are in 0..1, quaternions are x, y, z, w of unit
    length, colors are spherical harmonics in display-referred sRGB. A node is called what its object is called, and
    its translation is the object's foot. `_FEATURE_ID_0` (`EXT_mesh_features`) is the object's row in a property table
    (`EXT_structural_metadata`) of names, groups and boxes.

    Args:
        path: the file, written whole or not at all.
        splats: the Gaussians, of any SH degree; those that `Splats.exportable` rejects are left out.
        objects: what has a node of its own.
        placement: where the Gaussians lie; see `gltf_placement` for what is made of it.
        rest: whether the Gaussians of no object are written, as a last node.

    Raises:
        GsegError: nothing can be written, it is more than 4 GiB, or the disk does not take the file.
    """
    splats = splats.to("cpu")
    placement = gltf_placement(placement or Placement())
    parts = parts_of(splats, objects, placement, rest)
    if not parts:
        raise GsegError(f"There is no Gaussian to write to {path}.")
    glb = _Glb()
    listed = [part for part in parts if part.object is not None]
    nodes, meshes = [], []
    for number, part in enumerate(parts):
        table = number if part.object is not None else None
        meshes.append({"name": part.title, "primitives": [_splat_primitive(glb, part, splats, placement, table)]})
        node: dict[str, Any] = {"name": part.title if objects else "splats", "mesh": number}
        if bool(part.origin.any()):
            node["translation"] = part.origin.tolist()
        if part.object is not None:
            node["extras"] = {"group": part.object.id}
        nodes.append(node)
    used = [EXTENSION]
    extensions: dict[str, Any] = {}
    if listed:
        used += [_FEATURES, _METADATA]
        extensions[_METADATA] = _property_table(glb, listed)
    glb.write(
        path,
        {
            "asset": {"version": "2.0", "generator": "gseg-ns", "extras": placement.describe()},
            "extensionsUsed": used,
            "scene": 0,
            "scenes": [{"nodes": list(range(len(nodes)))}],
            "nodes": nodes,
            "meshes": meshes,
            **({"extensions": extensions} if extensions else {}),
        },
    )


def write_proxy_glb(path: Path, proxy: Proxy, name: str, placement: Placement, extras: dict[str, Any]) -> None:
    """Write the meshes that stand for an object as a GLB file, one node each below a node with the object's name.

    Args:
        path: the file, written whole or not at all.
        proxy: in the coordinates that `placement` leads to.
        name: of the object.
        placement: see `gltf_placement`.
        extras: what is told of it beside.

    Raises:
        GsegError: the disk does not take the file.
    """
    turned = gltf_placement(placement)
    # From the file's own coordinates to glTF's.
    turn = (turned.rotation @ placement.rotation.T).numpy()
    factor = turned.scale / placement.scale
    glb = _Glb()
    meshes: list[dict[str, Any]] = []
    for mesh in proxy.meshes:
        vertices = (factor * mesh.vertices @ turn.T).astype("<f4")
        corners = mesh.faces.astype("<u4").reshape(-1)
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        position = glb.add("VEC3", _FLOAT, len(vertices), _as_it_is, partial(_as_it_is, vertices), low, high)
        indices = glb.add(
            "SCALAR", _UNSIGNED_INT, len(corners), _as_it_is, partial(_as_it_is, corners), target=_ELEMENT_ARRAY_BUFFER
        )
        meshes.append({"primitives": [{"attributes": {"POSITION": position}, "indices": indices}]})
    children = [{"name": f"{proxy.kind} {number}", "mesh": number} for number in range(len(meshes))]
    root = {"name": name, "children": list(range(1, 1 + len(children))), "extras": extras}
    glb.write(
        path,
        {
            "asset": {"version": "2.0", "generator": "gseg-ns", "extras": turned.describe()},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [root, *children],
            "meshes": meshes,
        },
    )


def _splat_primitive(glb: _Glb, part: Part, splats: Splats, placement: Placement, table: int | None) -> dict[str, Any]:
    """A primitive of points, whose numbers are computed when the file is written: one object at a time in memory."""
    count = len(part.rows)

    def source() -> Splats:
        return part.splats(splats, placement)

    def add(kind: str, make: Callable[[Splats], Array], component: int = _FLOAT, **options: Any) -> int:
        return glb.add(kind, component, count, make, source, **options)

    def coefficient(row: int) -> Callable[[Splats], Array]:
        return lambda s: s.sh[:, row].numpy()

    attributes = {
        "POSITION": add("VEC3", lambda s: s.means.numpy(), low=part.low.numpy(), high=part.high.numpy()),
        "COLOR_0": add("VEC4", _colors, _UNSIGNED_BYTE, normalized=True),
        f"{EXTENSION}:ROTATION": add("VEC4", _rotations),
        f"{EXTENSION}:SCALE": add("VEC3", lambda s: s.scales.exp().numpy()),
        f"{EXTENSION}:OPACITY": add("SCALAR", lambda s: s.opacities.sigmoid().numpy()),
    }
    for l in range(splats.sh_degree + 1):
        for order in range(2 * l + 1):
            attributes[f"{EXTENSION}:SH_DEGREE_{l}_COEF_{order}"] = add("VEC3", coefficient(l * l + order))
    extensions: dict[str, Any] = {
        EXTENSION: {
            "kernel": "ellipse",
            "colorSpace": "srgb_rec709_display",
            "projection": "perspective",
            "sortingMethod": "cameraDistance",
        }
    }
    if table is not None:
        attributes["_FEATURE_ID_0"] = add("SCALAR", lambda s: np.full(len(s), table, "<f4"))
        extensions[_FEATURES] = {
            "featureIds": [{"featureCount": 1, "attribute": 0, "propertyTable": 0, "label": "object"}]
        }
    return {"attributes": attributes, "mode": _POINTS, "extensions": extensions}


def _rotations(splats: Splats) -> Array:
    quats = torch.nn.functional.normalize(splats.quats.double(), dim=-1)
    # A quaternion of zeros turns nothing.
    quats[(quats == 0).all(dim=1), 0] = 1
    return quats[:, [1, 2, 3, 0]].numpy()


def _colors(splats: Splats) -> Array:
    rgb = 0.5 + SH_C0 * splats.sh[:, 0]
    rgba = torch.cat([rgb, splats.opacities.sigmoid()[:, None]], dim=1)
    return (rgba.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def _property_table(glb: _Glb, parts: Sequence[Part]) -> dict[str, Any]:
    """`EXT_structural_metadata` with a row for each object: its name, group and box in the scene."""
    names = [part.title.encode("utf-8", "replace") for part in parts]
    offsets = np.concatenate([[0], np.cumsum([len(name) for name in names])]).astype("<u4")
    groups = np.array([part.object.id for part in parts if part.object is not None]).astype("<u4")
    boxes = [
        np.stack([(part.origin + corner(part)).numpy() for part in parts]).astype("<f4") for corner in (_low, _high)
    ]
    columns = {
        "name": {
            "values": glb.add_view(np.frombuffer(b"".join(names), np.uint8)),
            "stringOffsets": glb.add_view(offsets),
        },
        "group": {"values": glb.add_view(groups)},
        "min": {"values": glb.add_view(boxes[0])},
        "max": {"values": glb.add_view(boxes[1])},
    }
    corner_type = {"type": "VEC3", "componentType": "FLOAT32", "required": True}
    properties = {
        "name": {"type": "STRING", "required": True},
        "group": {"type": "SCALAR", "componentType": "UINT32", "required": True},
        "min": corner_type,
        "max": corner_type,
    }
    return {
        "schema": {"id": "gseg_objects", "classes": {"object": {"name": "Object", "properties": properties}}},
        "propertyTables": [{"name": "objects", "class": "object", "count": len(parts), "properties": columns}],
    }


def _as_it_is(array: Array) -> Array:
    return array


def _low(part: Part) -> torch.Tensor:
    return part.low


def _high(part: Part) -> torch.Tensor:
    return part.high


class _Glb:
    """The JSON of a GLB and its numbers, which are made when they are written, one array after the other.

    An array is made of a source, and arrays of one source that follow each other share what it gives.
    """

    def __init__(self) -> None:
        self._accessors: list[dict[str, Any]] = []
        self._views: list[dict[str, Any]] = []
        self._makers: list[tuple[Callable[[], Any], Callable[[Any], Array]]] = []
        self._size = 0

    def add(
        self,
        kind: str,
        component: int,
        count: int,
        make: Callable[[Any], Array],
        source: Callable[[], Any],
        low: Array | None = None,
        high: Array | None = None,
        normalized: bool = False,
        target: int = _ARRAY_BUFFER,
    ) -> int:
        """An accessor on an array of its own; its number."""
        bytes_each = 1 if component == _UNSIGNED_BYTE else 4
        view = self._view(count * _COLUMNS[kind] * bytes_each, make, source, 4)
        self._views[view]["target"] = target
        accessor: dict[str, Any] = {"bufferView": view, "componentType": component, "count": count, "type": kind}
        if normalized:
            accessor["normalized"] = True
        if low is not None and high is not None:
            accessor |= {"min": low.tolist(), "max": high.tolist()}
        self._accessors.append(accessor)
        return len(self._accessors) - 1

    def add_view(self, array: Array) -> int:
        """A buffer view that no accessor shows, aligned as property tables demand; its number."""
        return self._view(array.nbytes, _as_it_is, lambda: array, 8)

    def _view(self, size: int, make: Callable[[Any], Array], source: Callable[[], Any], alignment: int) -> int:
        self._size += -self._size % alignment
        self._views.append({"buffer": 0, "byteOffset": self._size, "byteLength": size})
        self._makers.append((source, make))
        self._size += size
        return len(self._views) - 1

    def write(self, path: Path, document: dict[str, Any]) -> None:
        """Write the file, whole or not at all."""
        document = {
            **document,
            "accessors": self._accessors,
            "bufferViews": self._views,
            "buffers": [{"byteLength": self._size}],
        }
        head = json.dumps(document, separators=(",", ":")).encode()
        # Chunks begin at multiples of 4, and property tables count on 8.
        head += b" " * (-(len(head) + 20 + 8) % 8)
        size = self._size + -self._size % 4
        total = 12 + 8 + len(head) + 8 + size
        if total > _LARGEST:
            raise GsegError(
                f"Cannot write {path}: a GLB holds 4 GiB, this is {total / 2**30:.1f}. Export fewer Gaussians."
            )
        with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
            file.write(struct.pack("<4sII", b"glTF", 2, total))
            file.write(struct.pack("<I4s", len(head), b"JSON"))
            file.write(head)
            file.write(struct.pack("<I4s", size, b"BIN\0"))
            for chunk in self._chunks():
                file.write(chunk)
            file.write(b"\0" * (size - self._size))

    def _chunks(self) -> Iterator[bytes]:
        position, known, value = 0, None, None
        for view, (source, make) in zip(self._views, self._makers, strict=True):
            yield b"\0" * (view["byteOffset"] - position)
            if source is not known:
                value = None  # before the next one takes memory
                known, value = source, source()
            array = make(value)
            array = np.ascontiguousarray(array, "<f4" if array.dtype.kind == "f" else array.dtype)
            assert array.nbytes == view["byteLength"]
            yield array.tobytes()
            position = view["byteOffset"] + view["byteLength"]
