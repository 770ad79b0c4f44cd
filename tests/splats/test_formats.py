"""Every format, read back by a library that is not ours."""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gseg_ns.splats import Placement, Splats
from gseg_ns.splats.objects import write_objects, write_splats
from random_splats import make

N = 60
GROUPS = torch.arange(N) % 3
NAMES = {1: "red mug", 2: 'a/b "ü" 🫖'}
UNIT = 0.25


def placed(form: str) -> Splats:
    """What the files are to hold, by the similarity that each format promises."""
    up = Placement(meters_per_unit=UNIT)
    where = {"ply": up.in_meters(), "spz": up.with_up("y").in_meters(), "glb": up.with_up("y").in_meters()}
    return where.get(form, up).of(make(N))


def assert_same(found: dict[str, np.ndarray], expected: Splats, rows: np.ndarray) -> None:
    """Positions, linear scales, opacities, quaternions up to sign, SH: to 1e-6."""
    np.testing.assert_allclose(found["means"], expected.means[rows], atol=1e-6)
    np.testing.assert_allclose(found["scales"], expected.scales[rows].exp(), rtol=1e-6)
    np.testing.assert_allclose(found["opacities"].reshape(-1), expected.opacities[rows].sigmoid(), atol=1e-6)
    unit = torch.nn.functional.normalize(expected.quats[rows].double(), dim=-1).numpy()
    sign = np.sign((found["quats"] * unit).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found["quats"] * sign, unit, atol=1e-6)
    np.testing.assert_allclose(found["sh"], expected.sh[rows], atol=1e-6)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`export(form)`: a folder of objects, made once."""
    folders: dict[str, Path] = {}

    def write(form: Any) -> Path:
        if form not in folders:
            folders[form] = tmp_path_factory.mktemp(form)
            write_objects(
                folders[form], make(N), GROUPS, form, 1, NAMES, placement=Placement(meters_per_unit=UNIT), run="0f"
            )
        return folders[form]

    return write


def rows_of(group: int) -> np.ndarray:
    return (GROUPS == group).nonzero()[:, 0].numpy()


def files(folder: Path) -> list[tuple[int, Path]]:
    listed = json.loads((folder / "objects.json").read_text())["objects"]
    assert [entry["name"] for entry in listed] == list(NAMES.values())
    return [(entry["group"], folder / entry["file"]) for entry in listed]


def from_ply(path: Path) -> tuple[dict[str, np.ndarray], Any]:
    from plyfile import PlyData

    ply = PlyData.read(path)
    data = ply["vertex"].data

    def columns(*names: str) -> np.ndarray:
        return np.stack([data[name] for name in names], axis=1).astype(np.float64)

    rest = columns(*(f"f_rest_{i}" for i in range(45))).reshape(len(data), 3, 15).transpose(0, 2, 1)
    return {
        "means": columns(*"xyz"),
        "scales": np.exp(columns("scale_0", "scale_1", "scale_2")),
        "opacities": 1 / (1 + np.exp(-columns("opacity"))),
        "quats": (q := columns(*(f"rot_{i}" for i in range(4)))) / np.linalg.norm(q, axis=1, keepdims=True),
        "sh": np.concatenate([columns("f_dc_0", "f_dc_1", "f_dc_2")[:, None], rest], axis=1),
    }, ply


def test_ply_by_plyfile(export: Callable[[str], Path]) -> None:
    folder = export("ply")
    found, ply = from_ply(folder / "scene.ply")
    assert_same(found, placed("ply"), np.arange(N))
    reference = [*"xyz", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *(f"f_rest_{i}" for i in range(45)), "opacity"]
    reference += ["scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    assert len(reference) == 62
    # No `red green blue`: readers take a file with these for a cloud of points.
    assert [p.name for p in ply["vertex"].properties] == [*reference, "label"]
    assert {"Vertical Axis: z", "frame: nerfstudio", "unit: 1 m", "run: 0f"} <= set(ply.comments)
    for group, path in files(folder):
        found, ply = from_ply(path)
        assert_same(found, placed("ply"), rows_of(group))
        assert [p.name for p in ply["vertex"].properties] == [*reference, "label"]
        assert f"object: {group} {json.dumps(NAMES[group])}" in ply.comments


def test_ply_by_open3d(export: Callable[[str], Path]) -> None:
    import open3d as o3d

    cloud = o3d.t.io.read_point_cloud(str(export("ply") / "scene.ply"))
    expected = placed("ply")
    np.testing.assert_allclose(cloud.point.positions.numpy(), expected.means, atol=1e-6)
    np.testing.assert_allclose(cloud.point["opacity"].numpy().reshape(-1), expected.opacities, atol=1e-6)
    np.testing.assert_array_equal(cloud.point["label"].numpy().reshape(-1), GROUPS)


def from_glb(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """What each node shows, by pygltflib."""
    pygltflib = pytest.importorskip("pygltflib")
    gltf = pygltflib.GLTF2().load(str(path))
    blob = gltf.binary_blob()
    shown = {}
    for node in (gltf.nodes[i] for i in gltf.scenes[gltf.scene].nodes):
        (primitive,) = gltf.meshes[node.mesh].primitives
        arrays = {}
        for name, index in vars(primitive.attributes).items():
            if index is None:
                continue
            accessor = gltf.accessors[index]
            view = gltf.bufferViews[accessor.bufferView]
            kind = {5126: "<f4", 5121: "u1"}[accessor.componentType]
            width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor.type]
            values = np.frombuffer(blob, kind, accessor.count * width, view.byteOffset).reshape(-1, width)
            arrays[name.removeprefix("KHR_gaussian_splatting:")] = values
            if name == "POSITION":
                np.testing.assert_array_equal(np.float32(accessor.min), values.min(axis=0))
                np.testing.assert_array_equal(np.float32(accessor.max), values.max(axis=0))
        sh = [arrays[f"SH_DEGREE_{l}_COEF_{m}"] for l in range(4) for m in range(2 * l + 1)]
        shown[node.name] = {
            "means": arrays["POSITION"] + np.array(node.translation or [0, 0, 0]),
            "scales": arrays["SCALE"],
            "opacities": arrays["OPACITY"],
            "quats": arrays["ROTATION"][:, [3, 0, 1, 2]].astype(np.float64),
            "sh": np.stack(sh, axis=1),
            "feature": arrays.get("_FEATURE_ID_0"),
            "color": arrays["COLOR_0"],
        }
    return shown


def test_glb_by_pygltflib(export: Callable[[str], Path]) -> None:
    folder, expected = export("glb"), placed("glb")
    shown = from_glb(folder / "scene.glb")
    assert list(shown) == [*NAMES.values(), "unlabelled"]
    for row, (name, group) in enumerate(zip(shown, (1, 2, 0), strict=True)):
        assert_same(shown[name], expected, rows_of(group))
        assert shown[name]["feature"] is None if group == 0 else (shown[name]["feature"] == row).all()
        color = (0.5 + 0.28209479177387814 * expected.sh[rows_of(group), 0]).clamp(0, 1) * 255
        np.testing.assert_allclose(shown[name]["color"][:, :3], color, atol=0.51)
    for group, path in files(folder):
        [(name, object_)] = from_glb(path).items()
        assert name == NAMES[group]
        assert_same(object_, expected, rows_of(group))


def test_glb_by_trimesh(export: Callable[[str], Path]) -> None:
    """A reader that knows no splats: named clouds of points, upright and in metres."""
    trimesh = pytest.importorskip("trimesh")
    scene = trimesh.load(export("glb") / "scene.glb")
    expected = placed("glb")
    for group, name in NAMES.items():
        matrix, geometry = scene.graph[name]
        points = scene.geometry[geometry].vertices @ matrix[:3, :3].T + matrix[:3, 3]
        np.testing.assert_allclose(points, expected.means[rows_of(group)], atol=1e-6)


def test_glb_tells_which_object_is_which(export: Callable[[str], Path]) -> None:
    """The property table, by the text of EXT_structural_metadata."""
    path = export("glb") / "scene.glb"
    data = path.read_bytes()
    (size,) = struct.unpack_from("<I", data, 12)
    document = json.loads(data[20 : 20 + size])
    binary = data[28 + size :]
    metadata = document["extensions"]["EXT_structural_metadata"]
    [table] = metadata["propertyTables"]
    assert table["count"] == 2

    def view(index: int, kind: str) -> np.ndarray:
        entry = document["bufferViews"][index]
        assert entry["byteOffset"] % 8 == 0
        return np.frombuffer(binary, kind, entry["byteLength"] // np.dtype(kind).itemsize, entry["byteOffset"])

    columns = table["properties"]
    offsets = view(columns["name"]["stringOffsets"], "<u4")
    text = view(columns["name"]["values"], "u1").tobytes()
    assert [text[a:b].decode() for a, b in itertools.pairwise(offsets)] == list(NAMES.values())
    assert view(columns["group"]["values"], "<u4").tolist() == [1, 2]
    low = view(columns["min"]["values"], "<f4").reshape(-1, 3)
    np.testing.assert_allclose(low[0], placed("glb").means[rows_of(1)].amin(0), atol=1e-6)
    assert set(document["extensionsUsed"]) == {
        "KHR_gaussian_splatting", "EXT_mesh_features", "EXT_structural_metadata"
    }  # fmt: skip
    for mesh in document["meshes"][:2]:
        [primitive] = mesh["primitives"]
        assert primitive["mode"] == 0
        assert primitive["extensions"]["KHR_gaussian_splatting"]["kernel"] == "ellipse"
        [ids] = primitive["extensions"]["EXT_mesh_features"]["featureIds"]
        assert (ids["attribute"], ids["propertyTable"]) == (0, 0)


def from_usd(path: Path) -> dict[str, dict[str, Any]]:
    """What each Gaussian field of a stage shows in the world, by OpenUSD."""
    pytest.importorskip("pxr.UsdVol")
    from pxr import Usd, UsdGeom, UsdSemantics, UsdVol

    stage = Usd.Stage.Open(str(path))
    shown = {}
    for prim in stage.Traverse():
        if not prim.IsA(UsdVol.ParticleField3DGaussianSplat):
            continue
        field, parent = UsdVol.ParticleField3DGaussianSplat(prim), prim.GetParent()
        matrix = np.array(UsdGeom.Xformable(prim).ComputeLocalToWorldTransform(Usd.TimeCode.Default()))
        np.testing.assert_array_equal(matrix[:3, :3], np.eye(3))
        sh = np.array(field.GetRadianceSphericalHarmonicsCoefficientsAttr().Get())
        primvar = UsdGeom.Primvar(field.GetRadianceSphericalHarmonicsCoefficientsAttr())
        degree = field.GetRadianceSphericalHarmonicsDegreeAttr().Get()
        assert primvar.GetElementSize() == (degree + 1) ** 2
        assert primvar.GetInterpolation() == "vertex"
        quats = np.array([[q.GetReal(), *q.GetImaginary()] for q in field.GetOrientationsAttr().Get()])
        labelled = parent.HasAPI(UsdSemantics.LabelsAPI, "class")
        shown[parent.GetName()] = {
            "means": np.array(field.GetPositionsAttr().Get()) + matrix[3, :3],
            "scales": np.array(field.GetScalesAttr().Get()),
            "opacities": np.array(field.GetOpacitiesAttr().Get()),
            "quats": quats,
            "sh": sh.reshape(len(quats), -1, 3),
            "extent": np.array(field.GetExtentAttr().Get()) + matrix[3, :3],
            "display": parent.GetDisplayName(),
            "labels": list(UsdSemantics.LabelsAPI(parent, "class").GetLabelsAttr().Get()) if labelled else [],
        }
    return shown


def complaints(path: Path) -> list[str]:
    """What OpenUSD's own checks say of a stage: ComplianceChecker, or the validators that have replaced it."""
    from pxr import Usd, UsdUtils

    if hasattr(UsdUtils, "ComplianceChecker"):
        checker = UsdUtils.ComplianceChecker(arkit=False)
        checker.CheckCompliance(str(path))
        return [*checker.GetErrors(), *checker.GetFailedChecks(), *checker.GetWarnings()]
    from pxr import UsdValidation

    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    assert len(validators) > 20
    found = UsdValidation.ValidationContext(validators).Validate(Usd.Stage.Open(str(path)))
    return [f"{error.GetName()}: {error.GetMessage()}" for error in found]


@pytest.mark.parametrize("form", ["usd", "usdz"])
def test_usd_by_openusd(export: Callable[[str], Path], form: str) -> None:
    pytest.importorskip("pxr.UsdVol")
    from pxr import Usd, UsdGeom

    folder, expected = export(form), placed(form)
    path = folder / ("scene.usda" if form == "usd" else "scene.usdz")
    shown = from_usd(path)
    assert list(shown) == ["red_mug", "a_b", "unlabelled"]
    for name, group in zip(shown, (1, 2, 0), strict=True):
        assert_same(shown[name], expected, rows_of(group))
        reach = expected.means[rows_of(group)].abs() + 3 * expected.scales[rows_of(group)].exp().amax(1, keepdim=True)
        assert np.abs(shown[name]["extent"]).max() <= float(reach.max()) + 1e-4
        assert (shown[name]["extent"][0] < expected.means[rows_of(group)].numpy().min(axis=0)).all()
        assert shown[name]["display"] == NAMES.get(group, "")
        assert shown[name]["labels"] == ([NAMES[group]] if group else [])
    for group, file in files(folder):
        [(_, object_)] = from_usd(file).items()
        # By itself, an object stands on the origin.
        foot = object_["means"][:, 2].min()
        assert -0.5 < foot < 0.5
        object_["means"] = object_["means"] - object_["means"].mean(0) + expected.means[rows_of(group)].numpy().mean(0)
        np.testing.assert_allclose(object_["means"], expected.means[rows_of(group)], atol=1e-5)
    stage = Usd.Stage.Open(str(path))
    assert UsdGeom.GetStageMetersPerUnit(stage) == UNIT
    assert UsdGeom.GetStageUpAxis(stage) == "Z"
    assert stage.GetDefaultPrim().GetPath() == "/World"
    assert complaints(path) == []
    if form == "usdz":
        assert {entry.name for entry in folder.iterdir()} == {"scene.usdz", "objects", "objects.json"}


def test_spz_by_gsply(export: Callable[[str], Path]) -> None:
    gsply = pytest.importorskip("gsply")
    folder, expected = export("spz"), placed("spz")
    for path, rows in [(folder / "scene.spz", np.arange(N)), *((p, rows_of(g)) for g, p in files(folder))]:
        data = gsply.read_spz(path)
        np.testing.assert_allclose(np.array(data.means), expected.means[rows], atol=1e-5)
        np.testing.assert_allclose(np.array(data.scales), expected.scales[rows], atol=0.032)
        opacity = 1 / (1 + np.exp(-np.array(data.opacities).reshape(-1)))
        np.testing.assert_allclose(opacity, expected.opacities[rows].sigmoid(), atol=0.003)
        unit = torch.nn.functional.normalize(expected.quats[rows], dim=-1).numpy()
        assert np.abs((np.array(data.quats) * unit).sum(axis=1)).min() > 0.9999
        np.testing.assert_allclose(np.array(data.sh0), expected.sh[rows, 0], atol=0.014)


@pytest.mark.parametrize("suffix", ["usda", "usdc", "usdz", "glb"])
def test_a_single_file_has_all_objects(tmp_path: Path, suffix: str) -> None:
    splats = make(N, degree=1)
    splats.quats[3] = 0  # OpenUSD would make NaN of it
    splats.opacities[4] = -9  # group 1: left out
    write_splats(tmp_path / f"a.{suffix}", splats, GROUPS, NAMES)
    read = from_usd if suffix != "glb" else None
    if read is not None:
        shown = read(tmp_path / f"a.{suffix}")
        assert list(shown) == ["red_mug", "a_b", "unlabelled"]
        assert len(shown["red_mug"]["means"]) == N // 3 - 1
        assert all(np.isfinite(values["quats"]).all() for values in shown.values())
        assert shown["unlabelled"]["sh"].shape[1] == 4
    assert {path.name for path in tmp_path.iterdir()} == {f"a.{suffix}"}


def test_a_picture_of_the_stage_is_that_of_the_ply(export: Callable[[str], Path]) -> None:
    """The numbers of both files drawn by our renderer: more than 60 dB between the two."""
    from gseg_ns.rendering import rasterization

    def picture(numbers: dict[str, np.ndarray]) -> torch.Tensor:
        tensors = {name: torch.from_numpy(np.ascontiguousarray(v)).float() for name, v in numbers.items()}
        viewmat = torch.eye(4)
        viewmat[:3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
        viewmat[2, 3] = 6
        K = torch.tensor([[60.0, 0, 48], [0, 60, 32], [0, 0, 1]])
        image, _, _ = rasterization(
            tensors["means"], tensors["quats"], tensors["scales"] * 5, tensors["opacities"].reshape(-1), tensors["sh"],
            viewmat[None], K[None], 96, 64, sh_degree=3, packed=False,
        )  # fmt: skip
        return image[0]

    ply, _ = from_ply(export("ply") / "scene.ply")
    parts = list(from_usd(export("usd") / "scene.usda").values())
    stage = {name: np.concatenate([part[name] for part in parts]) for name in ("means", "quats", "scales", "sh")}
    stage["opacities"] = np.concatenate([part["opacities"] for part in parts])
    stage |= {"means": stage["means"] * UNIT, "scales": stage["scales"] * UNIT}  # the stage's units are not metres
    one, other = picture(ply), picture(stage)
    assert float(one.std()) > 0.05
    error = float((one - other).square().mean())
    assert error == 0 or -10 * np.log10(error / float(one.max()) ** 2) > 60
