"""`gseg render`: label maps and pictures of a run's views, and pictures of its objects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gseg_ns.cli.options import Frame, Granular
from gseg_ns.errors import GsegError

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from torch import Tensor

    from gseg_ns.models.base import SegmentationModel
    from gseg_ns.runs.edited_run import EditedRun
    from gseg_ns.runs.run import View

_OVERLAYS = ("overlay", "photo-overlay")
_IDS = "ids"


@dataclass
class Render(Granular):
    """Render a run's views: one 16-bit PNG of group ids each, and pictures beside it.

    With --sheet or --turntable single objects are rendered instead, each of them alone.
    """

    load_config: Path
    """config.yml of the run, a folder NAME.gseg, or a labelled PLY"""
    output_dir: Path
    """Folder to write to: ids/, and one folder for each of the outputs, with files named after the images, in their
    subfolders; sheet.png; turntable/OBJECT/000.png, ... and turntable/OBJECT.mp4"""
    split: Literal["test", "train"] = "test"
    """Which views"""
    outputs: tuple[str, ...] = ("groups", "rgb", "features")
    """Pictures to write beside the ids: groups, rgb, features, depth, accumulation, overlay, photo-overlay (the groups
    over the photograph itself), or what else the method renders"""
    frame: Frame = "photograph"
    """Whose pixels are written: the photographs' own, so that ids lie on them, or those of the undistorted views that
    the run trains on; the same where lenses do not distort"""
    edits: Path | None = None
    """Edit list to apply first (edits.json of the viewer or of `gseg edit`); what it hides is not shown"""
    sheet: bool = False
    """Make a contact sheet of all objects instead, each alone, with its number and name"""
    turntable: tuple[str, ...] = ()
    """Turn around these objects instead: numbers of groups, saved selections, or names given to groups"""
    frames: int = 60
    """Pictures of a turntable"""
    size: int | None = None
    """Width and height of an object's picture in pixels; 160 on a contact sheet and 480 on a turntable unless given"""
    min_gaussians: int = 20
    """Groups with fewer Gaussians are not on the contact sheet"""
    data: Path | None = None
    """The run's scene. Default: where its config.yml says, or of that name beside the run"""
    allow_unfinished: bool = False
    """Use a run that has no groups yet, whose answers are chance"""

    def main(self) -> None:
        """Render."""
        from gseg_ns.runs.edited_run import EditedRun
        from gseg_ns.runs.run import load_run

        if self.frames < 1 or (self.size is not None and not 16 <= self.size <= 4096):
            raise GsegError("--frames must be 1 or more, and --size between 16 and 4096 pixels")
        run = load_run(self.load_config, self.data, self.allow_unfinished)
        edited = EditedRun(run, self.edits, self.granularity(run))
        if self.sheet:
            self._sheet(edited)
        if self.turntable:
            self._turntables(edited)
        if not self.sheet and not self.turntable:
            self._views(edited)

    def _views(self, edited: EditedRun) -> None:
        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.folders import atomic_folder
        from gseg_ns.masks import write_label_map
        from gseg_ns.pictures import write_png
        from gseg_ns.terminal import track

        model, scale = edited.model(), self.granularity(edited.run)
        views = list(edited.run.views(self.split))
        shown = False
        with atomic_folder(self.output_dir, durable=False) as folder:
            for view in track(views, "Rendering"):
                labels, pictures = self._view(model, view, scale, edited.run.alone)
                shown |= bool(labels.any())
                write_label_map(folder / "ids" / f"{view.name}.png", labels)
                for name, picture in pictures.items():
                    write_png(folder / name / f"{view.name}.png", picture)
        CONSOLE.print(f"Wrote ids, {', '.join(self.outputs)} of {len(views)} views to {self.output_dir}")
        if not shown:
            edited.run.model.require_groups()

    def _view(
        self, model: SegmentationModel, view: View, scale: float | None, alone: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Group ids [H, W] and the pictures [H, W, 3] of a view, in the frame that is asked for."""
        from gseg_ns.pictures import overlay

        photograph, camera = view.photograph, view.camera
        if self.frame == "view":
            photograph = photograph.of_view()
        else:
            photograph, camera = photograph.whole(camera)

        def drawn(camera: Cameras) -> dict[str, Tensor]:
            found = {_IDS: model.label_image(camera, scale)}
            if not self.outputs:
                return found
            rendered = model.get_outputs_for_camera(camera)
            for name in self.outputs:
                if name not in (*rendered, *_OVERLAYS):
                    raise GsegError(f"There is no output {name!r}: choose from {', '.join((*rendered, *_OVERLAYS))}")
                if name != "photo-overlay":
                    found[name] = rendered["rgb" if name in _OVERLAYS else name]
            return found

        found = photograph.draw(camera, drawn)
        labels, pictures = found[_IDS], {}
        for name in self.outputs:
            if name == "photo-overlay" and alone:
                raise GsegError(f"{self.load_config} has no photographs: leave photo-overlay out, or take overlay")
            if name == "photo-overlay":
                pixels = view.image[..., :3] if self.frame == "view" else photograph.read()
                picture = pixels.to(labels.device) / 255
            else:
                picture = found[name]
            if name in _OVERLAYS:
                picture = overlay(picture, labels)
            if picture.shape[-1] == 1:
                picture = (picture / picture.max().clamp_min(1e-8)).expand(-1, -1, 3)
            pictures[name] = picture
        return labels, pictures

    def _sheet(self, edited: EditedRun) -> None:
        import torch

        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.palette import colors
        from gseg_ns.pictures import captioned, contact_sheet, write_png
        from gseg_ns.runs.object_pictures import best_views, camera_towards, object_picture, upwards
        from gseg_ns.terminal import track

        drawn = edited.scene.drawn
        ids, counts = edited.groups[drawn].unique(return_counts=True)
        cameras = [view.camera for view in edited.run.views("train")]
        cameras = cameras[:: math.ceil(len(cameras) / 24)]
        best = best_views(edited.scene.splats.subset(drawn), edited.groups[drawn], cameras)
        sizes = {
            int(group): int(count)
            for group, count in zip(ids, counts, strict=True)
            if int(group) in best and count >= self.min_gaussians
        }
        if not sizes:
            raise GsegError("There is no object to show: the run has no groups, or --min-gaussians is too large")
        up = upwards(torch.cat([camera.camera_to_worlds for camera in cameras]))
        tiles = []
        order = sorted(sizes, key=lambda group: -sizes[group])
        for group in track(order, "Objects"):
            rows = drawn & (edited.groups == group)
            view = camera_towards(edited.scene.splats.subset(rows), cameras[best[group]], up, self.size or 160)
            text = " ".join(filter(None, [str(group), edited.names.get(group), f"({sizes[group]:,})"]))
            tiles.append(
                captioned(object_picture(edited.model(rows), view), text, colors(torch.tensor(group)).tolist())
            )
        columns = math.ceil(math.sqrt(1.4 * len(tiles)))
        path = self.output_dir / "sheet.png"
        write_png(path, contact_sheet([tiles[i : i + columns] for i in range(0, len(tiles), columns)], gap=8))
        CONSOLE.print(f"Wrote {len(tiles)} objects to {path}")

    def _turntables(self, edited: EditedRun) -> None:
        import torch

        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.files import unique_slugs
        from gseg_ns.folders import atomic_folder
        from gseg_ns.pictures import read_png, write_mp4, write_png
        from gseg_ns.runs.object_pictures import object_picture, turntable, upwards
        from gseg_ns.terminal import track

        # Nothing is written before all names are known to be good.
        objects = {name: edited.object(name) & edited.scene.drawn for name in self.turntable}
        for name, rows in objects.items():
            if not bool(rows.any()):
                raise GsegError(f"Edits hide all of {name!r}, so there is nothing to turn around")
        up = upwards(torch.cat([view.camera.camera_to_worlds for view in edited.run.views("train")]))
        folders = unique_slugs(objects, "object")
        for name, rows in objects.items():
            model = edited.model(rows)
            cameras = list(turntable(edited.scene.splats.subset(rows), up, self.frames, self.size or 480))
            turns = self.output_dir / "turntable"
            folder = turns / folders[name]
            names = [f"{number:03d}.png" for number in range(len(cameras))]
            with atomic_folder(turns, partial(_pictures, folder), durable=False) as staging:
                paths = [staging / folder.name / name for name in names]
                for path, camera in zip(track(paths, f"Turning {name}"), cameras, strict=True):
                    write_png(path, object_picture(model, camera))
                write_mp4(staging / f"{folder.name}.mp4", map(read_png, paths))
            CONSOLE.print(f"Wrote {len(paths)} pictures to {folder} and the film {folder}.mp4", markup=False)


def _pictures(folder: Path) -> list[Path]:
    """The pictures of an earlier turn, which may have had more of them."""
    return [path for path in folder.glob("*.png") if path.stem.isdecimal()]
