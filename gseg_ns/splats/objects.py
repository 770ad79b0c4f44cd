"""The objects of a scene as files: one for everything, with labels, and one for each group."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from gseg_ns.choices import SplatFormat
from gseg_ns.errors import GsegError
from gseg_ns.files import slug
from gseg_ns.folders import atomic_folder
from gseg_ns.palette import colors
from gseg_ns.reading import file_path, read_json
from gseg_ns.splats.container import Splats
from gseg_ns.splats.gltf import gltf_placement, write_glb, write_proxy_glb
from gseg_ns.splats.mesh import Proxy
from gseg_ns.splats.placement import Placement
from gseg_ns.splats.ply import write_ply
from gseg_ns.splats.ply_header import PlyHeader
from gseg_ns.splats.scene import Part, SceneObject, objects_of, parts_of, placed_means
from gseg_ns.splats.spz import spz_placement, write_spz
from gseg_ns.splats.tiles import write_tileset
from gseg_ns.splats.usd import layers_of, package, usd_placement, write_usd, write_usd_object, write_usd_stage

_INDEX = "objects.json"
_TILESET = "tileset.json"
_SUFFIXES: dict[SplatFormat, tuple[str, str]] = {
    "ply": ("ply", "ply"),
    "spz": ("spz", "spz"),
    "glb": ("glb", "glb"),
    "usd": ("usda", "usdc"),
    "usdz": ("usdz", "usdz"),
}
"""Of the file of everything and of those of objects."""
_REST = "unlabelled.usdc"
"""The layer of what belongs to no object."""

_FULL_DEGREE = 3
"""Of SH: readers that look for the reference's 62 columns find them."""


@dataclass(frozen=True)
class Standing:
    """An object where its file has it."""

    splats: Splats
    up: Tensor
    """[3]."""
    surrounds: bool
    """Whether it is around the others."""
    rows: Tensor
    """int64, which of the scene's Gaussians (as objects have them on their own) these are."""
    placement: Placement
    """From the scene's coordinates to theirs."""


@dataclass(frozen=True)
class Proxies:
    """What stands for objects where they have to be touched, and how it is made."""

    make: Callable[[Standing], Proxy]
    """Where the object's Gaussians lie."""
    density: float | None = None
    """Kilograms per cubic metre, where objects have a mass."""


def placement_in(form: SplatFormat, placement: Placement) -> Placement:
    """Where Gaussians lie in files of a format: each has its own idea of what is up and how long a unit is."""
    if form == "glb":
        return gltf_placement(placement)
    if form == "spz":
        return spz_placement(placement)
    return placement.in_meters() if form == "ply" else usd_placement(placement)


def write_splats(
    path: Path,
    splats: Splats,
    groups: Tensor | None = None,
    names: Mapping[int, str] | None = None,
    header: PlyHeader | None = None,
) -> None:
    """Write splats in the format that the suffix names, `.ply`, `.spz`, `.glb`, `.usd`, `.usdc`, `.usda` or `.usdz`.

    Args:
        path: the file.
        splats: N Gaussians.
        groups: int [N]; a PLY gets them as its last column, `label`, a GLB a node and a USD an Xform for each. SPZ has
            no room for them.
        names: what some groups are called.
        header: where the Gaussians are to lie, and what a PLY says of them in its first lines.

    Raises:
        GsegError: another suffix, or as `write_ply`, `write_spz`, `write_glb` and `write_usd`.
    """
    header = header or PlyHeader(Placement())
    placement = header.placement or Placement()
    form = path.suffix[1:]
    objects = [] if groups is None else objects_of(groups, names)
    if form == "spz":
        write_spz(path, splats, placement)
    elif form == "glb":
        write_glb(path, splats, objects, placement)
    elif form == "ply":
        _write_ply(path, splats, {} if groups is None else {"label": groups.int()}, header)
    elif form in ("usd", "usdc", "usda", "usdz"):
        write_usd(path, splats, objects, placement)
    else:
        raise GsegError(
            f"Cannot write {path}: the suffix must be .ply, .spz, .glb or one of .usd, .usdc, .usda, .usdz."
        )


def write_objects(
    folder: Path,
    splats: Splats,
    groups: Tensor,
    form: SplatFormat = "ply",
    min_gaussians: int = 20,
    names: Mapping[int, str] | None = None,
    about: Mapping[str, Any] | None = None,
    track: Callable[[list[int]], Iterable[int]] = iter,
    placement: Placement | None = None,
    run: str = "",
    proxies: Proxies | None = None,
    tileset: bool = False,
    details: Mapping[int, Mapping[str, Any]] | None = None,
    alone: tuple[Splats, Tensor] | None = None,
) -> list[dict[str, Any]]:
    """Write `scene`, one file for each group in `objects/`, and `objects.json`, which lists them.

    What an earlier export into the folder left is replaced as a whole: files of groups that are no more, or have
    another name now, are removed. Until all is written, nothing changes.

    Args:
        folder: where to; made if need be.
        splats: N Gaussians.
        groups: int [N]; 0 means none, and gets no file of its own.
        form: file format.
        min_gaussians: smaller groups get no file of their own.
        names: what some groups are called; it becomes part of the names of their files.
        about: further entries of `objects.json`.
        track: wraps the list of groups while it is worked through, for a progress bar.
        placement: from the coordinates of `splats` to the files'; see `placement_in` for what formats make of it.
        run: digest of the run's Gaussians, by which a file that comes back is known.
        proxies: with them, each object gets a mesh to touch: a GLB beside its file, in USD a child.
        tileset: for GLB, whether `tileset.json` (3D Tiles) is written around the scene.
        details: further entries of each group in `objects.json`, in file coordinates.
        alone: A Gaussians as files of single objects have them (and a USD stage, which is made of these), where they
            end otherwise there than in the scene, and int64 [A], which of the N each stands for: there may be more.
            Corners and origins in `objects.json` are these files'.

    Returns:
        What `objects.json` says of each object: group, name where it has one, file, gaussians, color, min and max
        corner of the centres (file coordinates), and what stands for it where it is touched.

    Raises:
        GsegError: no Gaussian, or as `write_splats`.
    """
    if tileset and form != "glb":
        raise GsegError("A tileset is written around a GLB: choose the format glb.")
    groups = groups.to("cpu", torch.int64)
    splats = splats.to("cpu")
    where = placement_in(form, placement or Placement())
    if proxies is not None and proxies.density is not None and where.meters_per_unit is None:
        raise GsegError("A mass needs the length of a unit: give it in metres.")
    with atomic_folder(folder, lambda: _listed_files(folder), index=_INDEX) as staging:
        objects = objects_of(groups, names, min_gaussians)
        own, parts = splats, objects
        if alone is not None:
            own, of = alone[0].to("cpu"), groups[alone[1].to("cpu")]
            large = {item.id for item in objects}
            parts = [item for item in objects_of(of, names) if item.id in large]
        writer = _Writer(staging, splats, own, groups, form, where, run, proxies)
        listed = writer.write(objects, parts, track)
        listed = [{**(details or {}).get(entry["group"], {}), **entry} for entry in listed]
        if tileset:
            means = placed_means(splats.means, where)
            write_tileset(staging / _TILESET, "scene.glb", means.amin(dim=0), means.amax(dim=0))
        content = json.dumps({**where.describe(), **(about or {}), "objects": listed}, indent=1)
        (staging / _INDEX).write_text(content, encoding="utf-8")
    return listed


@dataclass(frozen=True)
class _Writer:
    """Writes the files of one export, an object at a time: a scene may fill half of the memory."""

    folder: Path
    splats: Splats
    alone: Splats
    """In files of single objects."""
    groups: Tensor
    form: SplatFormat
    placement: Placement
    """Of the files."""
    run: str
    proxies: Proxies | None

    def write(
        self,
        objects: Sequence[SceneObject],
        alone: Sequence[SceneObject],
        track: Callable[[list[int]], Iterable[int]],
    ) -> list[dict[str, Any]]:
        (self.folder / "objects").mkdir()
        parts = parts_of(self.alone, alone, self.placement)
        if not parts:
            raise GsegError(f"There is no Gaussian to write to {self.folder}.")
        own = {part.object.id: part for part in parts if part.object is not None}
        around = _surroundings(self.alone, list(own.values())) if self.proxies is not None else set()
        if self.form not in ("usd", "usdz"):
            self._write_scene([item for item in objects if item.id in own])
        listed, files = [], []
        for group in track(list(own)):
            entry, file = self._write_object(own[group], group in around)
            listed.append(entry)
            files.append(file)
        if self.form in ("usd", "usdz"):
            self._write_stage(parts, files)
        return listed

    def _write_scene(self, objects: Sequence[SceneObject]) -> None:
        path = self.folder / f"scene.{_SUFFIXES[self.form][0]}"
        if self.form == "glb":
            write_glb(path, self.splats, objects, self.placement)
        elif self.form == "spz":
            write_spz(path, self.splats, self.placement)
        else:
            header = PlyHeader(self.placement, self.run)
            _write_ply(path, self.splats, {"label": self.groups.int()}, header)

    def _write_object(self, part: Part, surrounds: bool) -> tuple[dict[str, Any], str]:
        item = part.object
        assert item is not None
        stem = f"objects/{'_'.join(filter(None, [f'group_{item.id:04d}', slug(item.name)]))}"
        name = f"{stem}.{_SUFFIXES[self.form][1]}"
        path = self.folder / name
        entry: dict[str, Any] = {
            "group": item.id,
            **({"name": item.name} if item.name else {}),
            "file": name,
            "gaussians": len(part.rows),
            "color": colors(torch.tensor(item.id)).tolist(),
            "min": (part.origin + part.low).tolist(),
            "max": (part.origin + part.high).tolist(),
            "foot": part.origin.tolist(),
        }
        proxy, mass = None, None
        if self.proxies is not None:
            local = replace(self.placement, translation=self.placement.translation - part.origin)
            there = part.splats(self.alone, self.placement)
            proxy = self.proxies.make(Standing(there, self.placement.up_vector(), surrounds, part.rows, local))
            cubic = (self.placement.meters_per_unit or 1.0) ** 3
            mass = None if self.proxies.density is None else self.proxies.density * proxy.volume * cubic
            entry["proxy"] = {
                "file": f"{stem}_{proxy.kind}.glb",
                "kind": proxy.kind,
                "meshes": len(proxy.meshes),
                "vertices": sum(len(mesh.vertices) for mesh in proxy.meshes),
                "volume": proxy.volume,
                **({} if mass is None else {"mass": mass}),
            }
            write_proxy_glb(
                self.folder / entry["proxy"]["file"],
                proxy.moved(part.origin.numpy()),
                part.title,
                self.placement,
                {"group": item.id, **{key: value for key, value in entry["proxy"].items() if key != "file"}},
            )
        if self.form in ("usd", "usdz"):
            layer = path.with_suffix(".usdc")
            write_usd_object(layer, part, self.alone, self.placement, proxy, mass)
            if self.form == "usdz":
                package(layer, path)
            return entry, layer.relative_to(self.folder).as_posix()
        if self.form == "glb":
            # Its own Gaussians alone: all of the scene would be looked through again for each object.
            own = replace(item, rows=torch.arange(len(part.rows)))
            write_glb(path, self.alone.subset(part.rows), [own], self.placement, rest=False)
        elif self.form == "spz":
            write_spz(path, self.alone.subset(part.rows), self.placement)
        else:
            header = PlyHeader(self.placement, self.run, item.id, item.name)
            _write_ply(path, self.alone.subset(part.rows), {}, header)
        return entry, name

    def _write_stage(self, parts: Sequence[Part], files: list[str]) -> None:
        """A stage that refers to the layers of objects; for `.usdz`, all of it in one file."""
        if parts[-1].object is None:
            write_usd_object(self.folder / _REST, parts[-1], self.alone, self.placement)
            files = [*files, _REST]
        stage = self.folder / "scene.usda"
        write_usd_stage(stage, layers_of(parts, files), self.placement)
        if self.form == "usdz":
            package(stage, self.folder / "scene.usdz")
            for path in (stage, *(self.folder / file for file in files)):
                path.unlink()


def _write_ply(path: Path, splats: Splats, properties: Mapping[str, Tensor], header: PlyHeader) -> None:
    placement = (header.placement or Placement()).in_meters()
    header = replace(header, placement=placement)
    write_ply(path, placement.of(splats).with_sh_degree(_FULL_DEGREE), properties, header.comments())


def _surroundings(splats: Splats, parts: Sequence[Part]) -> set[int]:
    """The groups whose box holds most of the other objects: a room, or the walls of one."""
    if len(parts) < 3:
        return set()
    middles = torch.stack([splats.means[part.rows].median(dim=0).values for part in parts])
    found = set()
    for number, part in enumerate(parts):
        means = splats.means[part.rows]
        outer = torch.quantile(means[:: max(1, len(means) // 10_000)], torch.tensor([0.02, 0.98]), dim=0)
        inside = ((middles > outer[0]) & (middles < outer[1])).all(dim=1)
        inside[number] = False
        if part.object is not None and int(inside.sum()) > (len(parts) - 1) / 2:
            found.add(part.object.id)
    return found


def _listed_files(folder: Path) -> set[Path]:
    """The files that an earlier `write_objects` left in a folder, if it did."""
    try:
        objects = read_json(folder / _INDEX, "a list of objects")["objects"]
        names = [Path(file_path(entry["file"])) for entry in objects]
        names += [Path(file_path(entry["proxy"]["file"])) for entry in objects if "proxy" in entry]
    except (GsegError, ValueError, KeyError, TypeError):
        return set()
    known = {suffix for form in get_args(SplatFormat) for suffix in _SUFFIXES[form]}
    files = {folder / "objects" / name.name for name in names if name.suffix[1:] in known}
    files |= {folder / name for name in (_INDEX, _TILESET, _REST)}
    files |= {folder / f"scene.{suffix}" for suffix in known}
    return {path for path in files if path.is_file()}
