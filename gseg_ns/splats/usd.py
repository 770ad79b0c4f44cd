"""Writing OpenUSD: splats as `ParticleField3DGaussianSplat`, named, labelled, and with meshes that physics touches."""

from __future__ import annotations

import errno
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from gseg_ns.errors import GsegError, missing_extra
from gseg_ns.files import atomic_path, temporary_beside
from gseg_ns.splats.container import Splats
from gseg_ns.splats.mesh import Proxy
from gseg_ns.splats.placement import Placement
from gseg_ns.splats.scene import Part, SceneObject, identifiers, parts_of

if TYPE_CHECKING:
    from pxr import Usd

_LABELS = "class"
"""The taxonomy that names of objects are labels of, as Isaac Sim and Replicator call it."""

_WORLD = "/World"

_SIGMAS = 3.0
"""Standard deviations at which the kernel of the schema ends."""


@dataclass(frozen=True)
class Layer:
    """A file that a stage is put together of."""

    file: str
    """Relative to the stage."""
    prim: str
    """Name of its prim below `/World`."""
    origin: tuple[float, float, float]


def usd_placement(placement: Placement) -> Placement:
    """Where Gaussians lie in a stage: as they are where y or z is up, which is what a stage can say; else z is up."""
    return placement if placement.up in ("y", "z") else placement.with_up("z")


def write_usd(
    path: Path,
    splats: Splats,
    objects: Sequence[SceneObject] = (),
    placement: Placement | None = None,
    rest: bool = True,
) -> None:
    """Write one stage with an Xform for each object, `/World/NAME`, whose origin is the object's foot.

    Below it is a `UsdVol.ParticleField3DGaussianSplat` with linear scales, opacities in 0..1, unit quaternions and
    spherical harmonics of the splats' degree. The name is the Xform's display name and, by `SemanticsLabelsAPI`, its
    label. Lengths stay as they are: `metersPerUnit` says what they are in metres, 1 where that is not known.

    Args:
        path: `.usd`, `.usdc`, `.usda` or `.usdz`; written whole or not at all.
        splats: the Gaussians, of any SH degree; those that `Splats.exportable` rejects are left out.
        objects: what has an Xform of its own.
        placement: where the Gaussians lie; see `usd_placement`.
        rest: whether the Gaussians of no object are written, as a last Xform.

    Raises:
        GsegError: the package `usd-core` is not installed, nothing can be written, or the disk does not take the file.
    """
    pxr = _pxr()
    splats = splats.to("cpu")
    placement = usd_placement(placement or Placement())
    parts = parts_of(splats, objects, placement, rest)
    if not parts:
        raise GsegError(f"There is no Gaussian to write to {path}.")
    with atomic_path(path) as temporary, temporary_beside(path.with_suffix(".parts")) as folder:
        folder.mkdir()
        packed = path.suffix == ".usdz"
        file = folder / f"{path.stem}.usdc" if packed else temporary
        stage = _new_stage(pxr, file, placement)
        world = pxr.UsdGeom.Xform.Define(stage, _WORLD)
        stage.SetDefaultPrim(world.GetPrim())
        pxr.Usd.ModelAPI(world).SetKind(pxr.Kind.Tokens.group)
        for layer, part in zip(layers_of(parts, [""] * len(parts)), parts, strict=True):
            xform = _object(pxr, stage, f"{_WORLD}/{layer.prim}", part, part.splats(splats, placement))
            _translate(pxr, xform, layer.origin)
        _save(pxr, stage)
        del stage
        if packed:
            package(file, temporary)


def write_usd_object(
    path: Path, part: Part, splats: Splats, placement: Placement, proxy: Proxy | None = None, mass: float | None = None
) -> None:
    """Write the layer of one object, whose origin is its foot, with what physics touches.

    Args:
        path: `.usdc` or `.usda`.
        part: the object, in the coordinates that `placement` leads to.
        splats: the Gaussians that it is a part of, on the CPU.
        placement: as `usd_placement` has it.
        proxy: becomes a child with `CollisionAPI`, not drawn; from the object's foot on.
        mass: in kilograms, of the proxy.

    Raises:
        GsegError: the package `usd-core` is not installed.
    """
    pxr = _pxr()
    stage = _new_stage(pxr, path, placement)
    [name] = identifiers([part.title], [_nameless(part)])
    xform = _object(pxr, stage, f"/{name}", part, part.splats(splats, placement))
    stage.SetDefaultPrim(xform.GetPrim())
    if proxy is not None:
        _collision(pxr, stage, f"/{name}/collision", proxy, mass)
    _save(pxr, stage)


def write_usd_stage(path: Path, layers: Sequence[Layer], placement: Placement) -> None:
    """Write the stage that puts layers of objects in their places, by reference.

    Raises:
        GsegError: the package `usd-core` is not installed.
    """
    pxr = _pxr()
    stage = _new_stage(pxr, path, placement)
    world = pxr.UsdGeom.Xform.Define(stage, _WORLD)
    stage.SetDefaultPrim(world.GetPrim())
    pxr.Usd.ModelAPI(world).SetKind(pxr.Kind.Tokens.group)
    for layer in layers:
        xform = pxr.UsdGeom.Xform.Define(stage, f"{_WORLD}/{layer.prim}")
        xform.GetPrim().GetReferences().AddReference(f"./{layer.file}")
        _translate(pxr, xform, layer.origin)
    _save(pxr, stage)


def layers_of(parts: Sequence[Part], files: Sequence[str]) -> list[Layer]:
    """How a stage names the layers of its parts."""
    prims = identifiers([part.title for part in parts], [_nameless(part) for part in parts])
    return [
        Layer(file, prim, tuple(part.origin.tolist())) for part, file, prim in zip(parts, files, prims, strict=True)
    ]


def package(stage: Path, path: Path) -> None:
    """Pack a stage and all layers that it refers to into a `.usdz`.

    Raises:
        GsegError: the package `usd-core` is not installed, or it cannot be packed.
    """
    pxr = _pxr()
    packed = pxr.UsdUtils.CreateNewUsdzPackage(pxr.Sdf.AssetPath(str(stage)), str(path))
    if not packed or not _is_archive(path):  # it says nothing of a full disk
        raise GsegError(f"Cannot write {path}: OpenUSD could not pack it. Check free space.")


def _is_archive(path: Path) -> bool:
    """Whether an archive has all that it lists."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError):
        return False


def _nameless(part: Part) -> str:
    return f"group_{part.object.id:04d}" if part.object is not None else "unlabelled"


def _pxr() -> Any:
    """OpenUSD's modules, if they know Gaussians."""
    try:
        import pxr
        from pxr import Gf, Kind, Sdf, Tf, Usd, UsdGeom, UsdPhysics, UsdSemantics, UsdUtils, UsdVol, Vt  # noqa: F401

        if not hasattr(UsdVol, "ParticleField3DGaussianSplat"):
            raise ImportError
    except ImportError as error:
        raise missing_extra("USD needs the package usd-core, 26.3 or newer", "usd") from error
    return pxr


def _new_stage(pxr: Any, path: Path, placement: Placement) -> Usd.Stage:
    stage = pxr.Usd.Stage.CreateNew(str(path))
    tokens = pxr.UsdGeom.Tokens
    pxr.UsdGeom.SetStageUpAxis(stage, tokens.y if placement.up == "y" else tokens.z)
    pxr.UsdGeom.SetStageMetersPerUnit(stage, placement.meters_per_unit or 1.0)
    pxr.UsdPhysics.SetStageKilogramsPerUnit(stage, 1.0)
    layer = stage.GetRootLayer()
    layer.documentation = "Written by gseg-ns."
    matrix = pxr.Gf.Matrix4d(*[value for column in zip(*placement.matrix(), strict=True) for value in column])
    about = {"frame": placement.frame, "unitKnown": placement.meters_per_unit is not None, "fromRun": matrix}
    layer.customLayerData = {"gseg": about}
    return stage


def _save(pxr: Any, stage: Usd.Stage) -> None:
    """Write a stage.

    Raises:
        OSError: it cannot be written; pxr has an exception of its own, which says no reason.
    """
    try:
        stage.GetRootLayer().Save()
    except pxr.Tf.ErrorException as error:
        raise OSError(errno.EIO, "the disk is full or fails") from error


def _object(pxr: Any, stage: Usd.Stage, path: str, part: Part, splats: Splats) -> Any:
    xform = pxr.UsdGeom.Xform.Define(stage, path)
    prim = xform.GetPrim()
    pxr.Usd.ModelAPI(prim).SetKind(pxr.Kind.Tokens.component)
    if part.object is not None:
        title = _printable(part.title)
        prim.SetDisplayName(title)
        prim.SetCustomDataByKey("gseg:group", part.object.id)
        labels = pxr.UsdSemantics.LabelsAPI.Apply(prim, _LABELS)
        labels.CreateLabelsAttr([title])
    _field(pxr, stage, f"{path}/splats", splats)
    return xform


def _field(pxr: Any, stage: Usd.Stage, path: str, splats: Splats) -> None:
    field = pxr.UsdVol.ParticleField3DGaussianSplat.Define(stage, path)
    quats = torch.nn.functional.normalize(splats.quats.double(), dim=-1)
    # OpenUSD makes NaN of a quaternion of zeros, which turns nothing.
    quats[(quats == 0).all(dim=1), 0] = 1
    means, scales = _array(splats.means), _array(splats.scales.exp())
    field.CreatePositionsAttr(pxr.Vt.Vec3fArray.FromNumpy(means))
    field.CreateScalesAttr(pxr.Vt.Vec3fArray.FromNumpy(scales))
    # In memory, the real part comes last.
    field.CreateOrientationsAttr(pxr.Vt.QuatfArray.FromNumpy(_array(quats[:, [1, 2, 3, 0]])))
    field.CreateOpacitiesAttr(pxr.Vt.FloatArray.FromNumpy(_array(splats.opacities.sigmoid())))
    field.CreateRadianceSphericalHarmonicsDegreeAttr(splats.sh_degree)
    coefficients = field.CreateRadianceSphericalHarmonicsCoefficientsAttr(
        pxr.Vt.Vec3fArray.FromNumpy(_array(splats.sh.reshape(-1, 3)))
    )
    primvar = pxr.UsdGeom.Primvar(coefficients)
    primvar.SetElementSize(splats.sh.shape[1])
    primvar.SetInterpolation(pxr.UsdGeom.Tokens.vertex)
    reach = _SIGMAS * scales.max(axis=1, keepdims=True)
    extent = np.stack([(means - reach).min(axis=0), (means + reach).max(axis=0)])
    field.CreateExtentAttr(pxr.Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(extent, np.float32)))


def _collision(pxr: Any, stage: Usd.Stage, path: str, proxy: Proxy, mass: float | None) -> None:
    """Meshes that physics touches and nothing draws: each has a child of its own."""
    scope = pxr.UsdGeom.Xform.Define(stage, path)
    scope.CreatePurposeAttr(pxr.UsdGeom.Tokens.guide)
    tokens = pxr.UsdPhysics.Tokens
    approximation = tokens.none if proxy.kind == "mesh" else tokens.convexHull
    whole = max(proxy.volume, 1e-30)
    for number, mesh in enumerate(proxy.meshes):
        child = pxr.UsdGeom.Mesh.Define(stage, f"{path}/{proxy.kind}_{number}")
        vertices = np.ascontiguousarray(mesh.vertices, np.float32)
        child.CreatePointsAttr(pxr.Vt.Vec3fArray.FromNumpy(vertices))
        child.CreateFaceVertexCountsAttr(pxr.Vt.IntArray.FromNumpy(np.full(len(mesh.faces), 3, np.int32)))
        child.CreateFaceVertexIndicesAttr(
            pxr.Vt.IntArray.FromNumpy(np.ascontiguousarray(mesh.faces.reshape(-1), np.int32))
        )
        child.CreateSubdivisionSchemeAttr(pxr.UsdGeom.Tokens.none)
        # One a face: what is touched is flat there, and checkers ask for normals where nothing is subdivided.
        child.CreateNormalsAttr(pxr.Vt.Vec3fArray.FromNumpy(mesh.normals().astype(np.float32)))
        child.SetNormalsInterpolation(pxr.UsdGeom.Tokens.uniform)
        extent = np.stack([vertices.min(axis=0), vertices.max(axis=0)])
        child.CreateExtentAttr(pxr.Vt.Vec3fArray.FromNumpy(extent))
        pxr.UsdPhysics.CollisionAPI.Apply(child.GetPrim())
        pxr.UsdPhysics.MeshCollisionAPI.Apply(child.GetPrim()).CreateApproximationAttr(approximation)
        if mass is not None:
            pxr.UsdPhysics.MassAPI.Apply(child.GetPrim()).CreateMassAttr(mass * mesh.volume / whole)


def _translate(pxr: Any, xform: Any, origin: Sequence[float]) -> None:
    # Where it is zero, too: whoever moves the object finds what to change.
    xform.AddTranslateOp().Set(pxr.Gf.Vec3d(*origin))


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), np.float32)
