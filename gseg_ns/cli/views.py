"""`gseg views`: a scene with photographs out of a splat that has none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal

import tyro

from gseg_ns.errors import GsegError

if TYPE_CHECKING:
    from gseg_ns.captures.capture import Frame
    from gseg_ns.models.trained_geometry import Similarity
    from gseg_ns.rendering import Camera
    from gseg_ns.splats import Splats
    from gseg_ns.views import ViewOptions, ViewPlan
    from gseg_ns.views.places import Kind
    from gseg_ns.views.solids import Floats

_LARGEST = 8192
"""Pixels of a picture's longer side."""
_TAKEN_FOR: dict[Kind, str] = {
    "room": "a room, seen from within",
    "ground": "things on open ground",
    "object": "one thing",
    "focus": "what photographs were taken of, amid what they show by the way",
}


@dataclass
class Views:
    """Make a scene in Nerfstudio's format out of a splat: pictures of it, taken by cameras that are chosen for it.

    Everything that works with a capture works with the folder: gseg masks, gseg lift, ns-train. Cameras are looked for
    in the splat's free space so that every surface is seen well; look at contact_sheet.png.
    """

    splat: tyro.conf.Positional[Path]
    """The splat: a 3DGS PLY, an SPZ file, a folder NAME.gseg, or a Nerfstudio run (its folder or config.yml)"""
    output_dir: Path
    """Where the scene is written"""
    count: int = 40
    """Pictures to take"""
    width: int | None = None
    """Width of a picture in pixels, 640 unless given; with --cameras: pixels of the longer side, the photographs' own
    unless given"""
    height: int = 480
    """Height of a picture in pixels"""
    fov: float = 64.0
    """Degrees that a picture shows from left to right"""
    up: tuple[float, float, float] | None = None
    """Which way is up, in the splat's coordinates: three numbers; estimated unless given"""
    kind: Literal["auto", "room", "ground", "object", "focus"] = "auto"
    """What the splat is: rooms, to be seen from within; things on open ground; one thing, to be seen from all around;
    what photographs were taken of, amid what they show by the way (focus)"""
    cameras: Path | None = None
    """Cameras to use instead: cameras.json of the 3DGS trainer, a transforms.json or its folder, a COLMAP model, or
    config.yml of a run"""
    overwrite: bool = False
    """Replace the views that are in the folder"""

    def main(self) -> None:
        """Write the scene and say what to do with it."""
        import time

        from gseg_ns import gpu, terminal
        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.models.trained_geometry import run_frame
        from gseg_ns.runs.result_folder import MANIFEST, SPLATS, is_result
        from gseg_ns.terminal import duration, track
        from gseg_ns.views.folder import check_free, write_views

        started = time.perf_counter()
        self._refuse_unused()
        check_free(self.output_dir.resolve(), self.overwrite)
        geometry, frame = self.splat, None
        if is_result(geometry):
            folder = geometry.parent if geometry.name == MANIFEST else geometry
            geometry = folder / SPLATS
            if self.cameras is not None and folder.resolve() not in self.cameras.resolve().parents:
                # What was packed from a run lies where the run does, as do the cameras that were packed with it.
                frame = run_frame(folder)
        splats, is_run = _read(geometry)
        splats = splats.to(gpu.best_device())
        names: list[str] | None = None
        background, near, about = 0.0, None, {"splat": self.splat.name, "gaussians": len(splats)}
        if self.cameras is None:
            cameras, more, background, near = self._chosen(splats)
        else:
            cameras, names, more = self._given(splats, is_run, frame)
        scene = write_views(
            self.output_dir, splats, cameras, about | more, names=names, background=background, near=near,
            overwrite=self.overwrite, progress=track(range(len(cameras)), "Taking pictures"),
        )  # fmt: skip
        option = "" if is_run else " --geometry-frame original"
        terminal.say(f"{len(cameras)} views of {len(splats)} Gaussians, {duration(time.perf_counter() - started)}.")
        CONSOLE.print(
            f"{scene.folder}: look at contact_sheet.png\n  gseg masks --data {quote(str(self.output_dir))}\n"
            f"  gseg lift --data {quote(str(self.output_dir))} --geometry {quote(str(geometry))}{option}",
            markup=False,
        )

    def _refuse_unused(self) -> None:
        """Refuse options of cameras that are chosen where they are given.

        Raises:
            GsegError: there are some.
        """
        names = ("count", "height", "fov", "up", "kind")
        unused = [f"--{name}" for name in names if getattr(self, name) != getattr(Views, name)]
        if self.cameras is not None and unused:
            raise GsegError(f"{', '.join(unused)}: cameras are given with --cameras, which this cannot change")

    def _chosen(self, splats: Splats) -> tuple[list[Camera], dict[str, Any], float, float]:
        from gseg_ns import terminal

        plan = chosen_views(splats, self._options())
        up = " ".join(f"{value:.3f}" for value in plan.up)
        what = _TAKEN_FOR[plan.kind]
        seen = "" if plan.kind == "room" else f" {plan.seen:.0%} of what can be seen of it is in 3 or more pictures."
        terminal.say(f"It is taken for {what} (--kind).{seen}")
        if plan.up_is_certain:
            terminal.say(f"Up is {up}, by {plan.up_reason}." if self.up is None else f"Up is {up}, as given.")
        if len(plan.cameras) < self.count:
            terminal.warn(f"There are {len(plan.cameras)} views worth taking, fewer than --count {self.count}.")
        about = {
            "kind": plan.kind, "up": plan.up, "up_is_certain": plan.up_is_certain, "up_by": plan.up_reason,
            "enclosure": round(plan.enclosure, 3), "clear": plan.clear, "seen_by_3": round(plan.seen, 4),
        }  # fmt: skip
        return plan.cameras, about, 1.0 if plan.kind == "object" else 0.0, plan.near

    def _options(self) -> ViewOptions:
        from gseg_ns.views import ViewOptions

        kind = None if self.kind == "auto" else self.kind
        return ViewOptions(self.count, 640 if self.width is None else self.width, self.height, self.fov, self.up, kind)

    def _given(
        self, splats: Splats, is_run: bool, frame: Similarity | None
    ) -> tuple[list[Camera], list[str], dict[str, Any]]:
        from gseg_ns import terminal
        from gseg_ns.views.given import fitting, picture_names, pinhole, placed, read_cameras

        assert self.cameras is not None
        path = self.cameras
        if path.suffix.lower() in (".yml", ".yaml"):
            sets = _of_run(path, is_run)
        else:
            sets = read_cameras(path, terminal.say)
            if frame is not None:
                sets = [[placed(camera, _matrix(frame)) for camera in sets[0]], *sets]
        frames = fitting(sets, splats, path)
        if any(any(frame.lens.distortion) or frame.lens.kind != "perspective" for frame in frames):
            terminal.say("The cameras' lenses distort; the pictures are taken without that.")
        cameras = [pinhole(frame, self.width) for frame in frames]
        longest = max(max(camera.width, camera.height) for camera in cameras)
        if not 16 <= longest <= _LARGEST:
            raise GsegError(
                f"Pictures by {path} would be {longest} pixels wide or high: give --width, 16 to {_LARGEST}"
            )
        return cameras, picture_names(frames), {"cameras": path.name}


def chosen_views(splats: Splats, options: ViewOptions) -> ViewPlan:
    """`choose_views` on the terminal: how far it is, and whether up is a guess."""
    from gseg_ns.terminal import LINE, warn
    from gseg_ns.views import choose_views

    def tell(what: str, done: int, total: int) -> None:
        LINE.show(f"  {what} {done}/{total}" if total > 1 else f"  {what}")

    plan = choose_views(splats, options, tell)
    LINE.clear()
    if not plan.up_is_certain:
        up = " ".join(f"{value:.3f}" for value in plan.up)
        warn(
            f"Up is a guess: {up}, by {plan.up_reason}. If the pictures are upside down or tilted (contact_sheet.png), "
            "name it: --up X Y Z"
        )
    return plan


def _read(path: Path) -> tuple[Splats, bool]:
    """The Gaussians in the coordinates of their file, or of the capture that a run was trained on; whether it is a run.

    Raises:
        GsegError: there is no such splat, or it is damaged.
    """
    from gseg_ns.models.trained_geometry import is_splat_file, load_geometry, run_frame
    from gseg_ns.splats.transform import to_original_frame

    if not path.exists():
        raise GsegError(f"{path} does not exist: give a 3DGS PLY, an SPZ file or a Nerfstudio run")
    splats = load_geometry(path, "nerfstudio", {})
    if is_splat_file(path):
        return splats, False
    frame = run_frame(path if path.is_dir() else path.parent)
    return (splats if frame is None else to_original_frame(splats, *frame)), True


def _of_run(path: Path, is_run: bool) -> list[list[Frame]]:
    """The cameras of a run's scene: in the capture's coordinates, and in the run's own, in which ns-export writes."""
    from gseg_ns import terminal
    from gseg_ns.data.said_scene import said_scene
    from gseg_ns.models.trained_geometry import run_frame
    from gseg_ns.runs.safe_config import read_config
    from gseg_ns.runs.scene import find_scene, where_it_was_looked_for
    from gseg_ns.views.given import placed, read_cameras

    config = read_config(path)
    said = said_scene(config)
    scene = find_scene(path, said)
    if scene is None:
        raise GsegError(where_it_was_looked_for(path, said))
    original, _ = read_cameras(scene, terminal.say)
    found = run_frame(path.parent)
    if found is None:
        return [original]
    own = [placed(frame, _matrix(found)) for frame in original]
    return [original, own] if is_run else [own, original]


def _matrix(frame: Similarity) -> Floats:
    """The map [4, 4] from a capture's coordinates to a run's."""
    import numpy as np

    matrix = np.eye(4)
    matrix[:3] = frame[0].double().numpy()[:3] * frame[1]
    return matrix
