"""Large scenes out of small ones: as many Gaussians, views, pixels and masks as are asked for."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from gseg_ns.masks import MaskFolder, MaskSet, load_masks, write_mask_set

SPLAT = "splat.ply"
"""In the folder of a large scene."""

GROUPS = "groups.npz"
"""Beside it: the groups of its Gaussians, of the stage `lift`; until that ran, the pieces of a splat in pieces."""


@dataclass
class Scene:
    """Make a large scene."""

    output: Path
    """Folder of the large scene"""
    scene: Path | None = None
    """A scene in Nerfstudio's format to enlarge; None: a demo room is made"""
    geometry: Path | None = None
    """Splat of that scene, PLY in Nerfstudio's frame; None: a Gaussian on each of its sparse points"""
    masks: str = "masks"
    """Mask folder within the scene"""
    views: int = 22
    """Views; those of the small scene again and again, with other scores of their masks"""
    scale: int = 3
    """How many times as wide and high"""
    count: int = 130
    """Masks a view, where there are large enough ones to be cut; 0: as they are"""
    pieces: int = 0
    """Cut the splat into as many objects, and take their outlines for masks; 0: the masks of the small scene"""
    gaussians: int = 1_000_000
    """Gaussians; 0: no splat"""
    objects: int = 12
    """Objects of the demo room"""
    width: int = 512
    """Width of the demo's photographs, before they are enlarged"""

    def main(self) -> None:
        """Write the scene."""
        if self.scene is not None:
            self._enlarge(self.scene)
            return
        from gseg_ns.demo import write_demo_scene

        with tempfile.TemporaryDirectory() as folder:
            room = Path(folder) / "room"
            # Every 8th view of a demo is held out.
            views = max(self.views * 8 // 7 + 2, 8)
            write_demo_scene(
                room, num_objects=self.objects, num_views=views, width=self.width, height=self.width * 3 // 4
            )
            self._enlarge(room)

    def _enlarge(self, scene: Path) -> None:
        meta = json.loads((scene / "transforms.json").read_text(encoding="utf-8"))
        for name in ("w", "h", "fl_x", "fl_y", "cx", "cy"):
            meta[name] *= self.scale
        frames = meta["frames"]
        files = MaskFolder(scene / self.masks).match([Path(frame["file_path"]) for frame in frames])
        usable = [(frame, file) for frame, file in zip(frames, files, strict=True) if file is not None]
        (self.output / "images").mkdir(parents=True, exist_ok=True)
        (self.output / "masks").mkdir(exist_ok=True)
        made: list[dict[str, Any]] = []
        size, parts = (meta["w"], meta["h"]), {}
        for view in range(self.views):
            number = view * len(usable) // self.views if self.views < len(usable) else view % len(usable)
            frame, file = usable[number]
            photograph = self.output / f"images/{view:05d}.jpg"
            if number < view and self.views >= len(usable):
                shutil.copyfile(self.output / made[number]["file_path"], photograph)
            else:
                with Image.open(scene / frame["file_path"]) as image:
                    image.convert("RGB").resize(size).save(photograph)
            if not self.pieces:
                if file not in parts:
                    parts[file] = self._parts(load_masks(file)).resize(size[1], size[0])
                shifted = parts[file].scores + 1e-5 * (view // len(usable))
                write_mask_set(self.output / f"masks/{view:05d}.json", replace(parts[file], scores=shifted))
            made.append({**frame, "file_path": f"images/{view:05d}.jpg"})
        for name in ("train_filenames", "test_filenames", "val_filenames", "ply_file_path"):
            meta.pop(name, None)
        images = [frame["file_path"] for frame in made]
        meta |= {"frames": made, "train_filenames": images, "test_filenames": images[:1]}
        (self.output / "transforms.json").write_text(json.dumps(meta), encoding="utf-8")
        splats = self._small_splat(scene) if self.gaussians or self.pieces else None
        pieces = self._write_pieces(splats) if self.pieces else None
        if self.gaussians:
            self._write_splat(splats, pieces)

    def _small_splat(self, scene: Path) -> Any:
        """The small scene's Gaussians in the large one's frame, which is that of its own cameras."""
        from gseg_ns.splats.ply import read_ply
        from gseg_ns.splats.transform import to_original_frame, transform

        splats = point_splats(scene) if self.geometry is None else read_ply(self.geometry, drop_invalid=True)
        small, large = parsed(scene), parsed(self.output)
        original = to_original_frame(splats, small.dataparser_transform, small.dataparser_scale)
        matrix, scale = large.dataparser_transform, large.dataparser_scale
        return transform(original, matrix[:3, :3], matrix[:3, 3] * scale, scale)

    def _write_pieces(self, splats: Any) -> torch.Tensor:
        """Masks of the parts of space that are nearest to each of some Gaussians, as far as a view shows them.

        Returns the part of every Gaussian, [N] int64 from 1.
        """
        from gseg_ns.data.cameras import to_camera
        from gseg_ns.data.datamanager import MaskDatamanagerConfig
        from gseg_ns.dataparsers.gseg_data import GsegDataParserConfig
        from gseg_ns.masks import write_label_map
        from gseg_ns.neighbours import PointTree
        from gseg_ns.rendering import dominant_labels
        from gseg_ns.splats.projection import project_splats

        solid = splats.opacities.sigmoid() > 0.5
        seeds = splats.means[solid]
        seeds = seeds[spread_rows(seeds, self.pieces)]
        pieces = PointTree(seeds).nearest(splats.means, 1)[1][:, 0] + 1
        splats = splats.subset(solid)
        parser = GsegDataParserConfig(data=self.output)
        data = MaskDatamanagerConfig(data=self.output, dataparser=parser).setup(device="cpu")
        for view in range(self.views):
            labels = dominant_labels(project_splats(splats, to_camera(data.camera(view))), pieces[solid])[0]
            write_label_map(self.output / f"masks/{view:05d}.png", labels.int())
        return pieces

    def _write_splat(self, splats: Any, pieces: torch.Tensor | None) -> None:
        from gseg_ns.splats.ply import write_ply

        times = -(-self.gaussians // len(splats))
        generator = torch.Generator().manual_seed(0)
        rows = torch.arange(len(splats)).repeat_interleave(times)
        if self.gaussians < len(rows):
            rows = rows[torch.randperm(len(rows), generator=generator)[: self.gaussians].sort().values]
        many = splats.subset(rows)
        noise = torch.randn(many.means.shape, generator=generator)
        means = many.means + 0.6 * many.scales.exp() * noise
        smaller = many.scales - math.log(times) / 3
        write_ply(self.output / SPLAT, replace(many, means=means, scales=smaller))
        if pieces is not None:
            write_groups(self.output, pieces[rows], torch.ones(len(rows)))

    def _parts(self, masks: MaskSet) -> MaskSet:
        """As many masks as are wanted: the largest are halved until there are."""
        if len(masks) >= self.count:
            return masks.select(torch.arange(len(masks)) < self.count) if self.count else masks
        arrays = [mask.numpy() for mask in masks.decode()]
        scores, areas = masks.scores.tolist(), masks.areas.tolist()
        whole = list(range(len(arrays)))
        while len(arrays) < self.count and whole:
            index = max(whole, key=areas.__getitem__)
            whole.remove(index)
            rows, columns = np.nonzero(arrays[index])
            if len(rows) < 200:
                continue
            lower = rows > np.median(rows) if np.ptp(rows) > np.ptp(columns) else columns > np.median(columns)
            for half in (lower, ~lower):
                part = np.zeros_like(arrays[index])
                part[rows[half], columns[half]] = True
                whole.append(len(arrays))
                arrays.append(part)
                areas.append(int(half.sum()))
                scores.append(scores[index] - 0.01)
        return MaskSet.from_arrays(np.stack(arrays[: self.count]), scores[: self.count])


def write_groups(scene: Path, groups: torch.Tensor, confidence: torch.Tensor) -> None:
    """Keep the groups [N] of a large scene's Gaussians, and how sure they are."""
    np.savez(scene / GROUPS, labels=groups.int().numpy(), confidence=confidence.numpy())


def spread_rows(points: torch.Tensor, count: int) -> torch.Tensor:
    """Some of the points [P, 3], each one far from those before it: [min(count, P)] int64."""
    chosen = torch.zeros(min(count, len(points)), dtype=torch.long)
    distance = torch.full((len(points),), torch.inf)
    for number in range(1, len(chosen)):
        distance = torch.minimum(distance, (points - points[chosen[number - 1]]).square().sum(dim=1))
        chosen[number] = distance.argmax()
    return chosen


def parsed(scene: Path) -> Any:
    """What Nerfstudio knows of a scene: cameras, points, and its frame, which depends on which cameras there are."""
    from gseg_ns.dataparsers.gseg_data import GsegDataParserConfig

    return GsegDataParserConfig(data=scene).setup().get_dataparser_outputs("train")


def point_splats(scene: Path) -> Any:
    """A Gaussian on each sparse point of a scene, so large that neighbours touch: `Splats`."""
    from gseg_ns.neighbours import PointTree
    from gseg_ns.splats import Splats
    from gseg_ns.splats.container import SH_C0

    points = parsed(scene).metadata
    means, colors = points["points3D_xyz"].float(), points["points3D_rgb"].float() / 255
    distance = PointTree(means).nearest(means, 4)[0][:, 1:].mean(dim=1)
    size = distance.clamp_max(3 * float(distance.median())).clamp_min(1e-6)
    return Splats(
        means=means,
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(len(means), 1),
        scales=(0.7 * size).log()[:, None].repeat(1, 3),
        opacities=torch.full((len(means),), 2.0),
        sh=torch.nn.functional.pad(((colors - 0.5) / SH_C0)[:, None], (0, 0, 0, 15)),
    )
