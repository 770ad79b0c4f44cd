"""How fast the viewer answers: set algebra and export at a million Gaussians, picking, and click to highlighted frame.

python benchmarks/viewer.py
python benchmarks/viewer.py --load-config outputs/.../config.yml --scene data/scene     # and in a real browser

With a run, also what the removal of an object leaves of the rest.
"""

from __future__ import annotations

import copy
import math
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median

import torch
import tyro
from nerfstudio.cameras.cameras import Cameras

from gseg_ns.editing.operations import Recolor, Remove, Transform, apply
from gseg_ns.editing.session import Session
from gseg_ns.errors import GsegError
from gseg_ns.models.base import SegmentationModel
from gseg_ns.rendering import threads
from gseg_ns.rendering.camera import Camera
from gseg_ns.runs.edited_model import with_gaussians
from gseg_ns.runs.edited_run import EditedRun
from gseg_ns.runs.run import Run, load_run
from gseg_ns.selection.neighbourhood import Neighbourhood
from gseg_ns.selection.packed import PackedMask
from gseg_ns.selection.picking import pick, warm_up
from gseg_ns.selection.selection import Mode, Selection
from gseg_ns.splats import Splats
from gseg_ns.splats.ply import write_ply
from gseg_ns.viewer.drawing import Drawing

MILLION = 1_000_000


def scene(count: int, degree: int = 3) -> Splats:
    """Gaussians in a ball before the camera, of the size at which they just touch."""
    g = torch.Generator().manual_seed(0)
    means = torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=1)
    means = means * torch.rand(count, 1, generator=g) ** (1 / 3) + torch.tensor([0.0, 0.0, 3.0])
    return Splats(
        means=means,
        quats=torch.randn(count, 4, generator=g),
        scales=torch.full((count, 3), -1.0) - torch.log(torch.tensor(float(count))) / 3,
        opacities=torch.randn(count, generator=g) + 1,
        sh=torch.randn(count, (degree + 1) ** 2, 3, generator=g) * 0.1,
    )


def measure(action: Callable[[], object], repeats: int = 7) -> float:
    """Median time of an action in milliseconds."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return 1000 * median(times)


def report(name: str, milliseconds: float, bound: float | None = None) -> None:
    """Print a line of the table."""
    print(f"{name:48}{milliseconds:10.1f}{'' if bound is None else bound:>10}", flush=True)


def in_browser(load_config: Path, data: Path, truth_dir: str, clicks: int) -> tuple[int, list[float], list[float]]:
    """Clicks on an object in Chromium, at the run's own number of Gaussians.

    Returns:
        The number of Gaussians; milliseconds from each click to the frame that shows its highlight, which counts when
        the browser has received it and drawn twice since; and milliseconds of these from prompt to selection.
    """
    sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))
    import browser_driver as driver

    times, selections = [], []
    with driver.browsing(load_config) as running:
        camera, truth = driver.find_view(running, data, truth_dir)
        first, _ = driver.two_objects(truth)
        running.look(camera)
        spot = driver.interior(truth == first)
        for _ in range(clicks):
            running.clear()
            running.settle()
            running.frames.clear()
            started = time.perf_counter()
            running.page.mouse.click(*running.canvas(camera, *spot))
            running.wait(lambda: running.controller.selected.any(), "the selection")
            selected = time.perf_counter()
            running.wait(lambda t=selected: any(at > t and size > 2000 for at, size in running.frames), "a frame")
            running.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            times.append(1000 * (time.perf_counter() - started))
            selections.append(float(re.findall(r"\((\d+) ms\)", running.panel.answers.said.content)[-1]))
        count = running.viewer.pipeline.model.num_points
    return count, times, selections


def removal(load_config: Path, truth_dir: Path) -> tuple[list[float], int]:
    """What is left of the scene when an object is removed.

    Each object of the ground truth is removed as the group that most of its test pixels show.

    Returns:
        PSNR of each object and test view against the untouched render, outside of the object's ground-truth mask; and
        the number of views where nothing changed there, which have none.
    """
    run = load_run(load_config)
    groups = run.model.gaussian_groups()
    scored = run.truth(truth_dir, "test")
    views = {view.name: view.camera for view, _ in scored}
    truth = {view.name: labels for view, labels in scored}
    plain = {stem: run.model.get_outputs_for_camera(camera)["rgb"] for stem, camera in views.items()}
    labels = {stem: run.model.label_image(camera).cpu() for stem, camera in views.items()}
    quality, unchanged = [], 0
    for name in sorted({int(name) for image in truth.values() for name in image.unique()} - {0}):
        shown = torch.cat([labels[stem][truth[stem] == name] for stem in views])
        group = int(torch.bincount(shown[shown > 0], minlength=1).argmax())
        if group == 0:
            continue
        model = EditedRun(run, [Remove(PackedMask.pack(groups == group))]).model()
        for stem, camera in views.items():
            if bool((truth[stem] == name).any()):
                change = model.get_outputs_for_camera(camera)["rgb"] - plain[stem]
                error = float(change[truth[stem] != name].square().mean())
                if error > 0:
                    quality.append(-10 * math.log10(error))
                else:
                    unchanged += 1
    return quality, unchanged


def multiplied(run: Run, count: int) -> SegmentationModel:
    """A run's model with so many Gaussians: each in parts that lie within it, smaller by their number."""
    splats = run.model.splats()
    times = -(-count // len(splats))
    source = torch.arange(len(splats), device=splats.means.device).repeat_interleave(times)[:count]
    parts = splats.subset(source)
    apart = 0.6 * torch.randn(parts.means.shape, generator=torch.Generator().manual_seed(0)).to(parts.means.device)
    parts = replace(parts, means=parts.means + parts.scales.exp() * apart, scales=parts.scales - math.log(times) / 3)
    return with_gaussians(run.model, parts, source)


def frames(model: SegmentationModel, camera: Cameras, width: int, quick: bool) -> dict[str, tuple[float, float]]:
    """A frame of a view that is new, and of one in which another object is highlighted, as the viewer draws them.

    Returns:
        Medians over the five largest groups, in milliseconds: wall time, and processor time of all threads.
    """
    camera = copy.deepcopy(camera)
    camera.rescale_output_resolution(width / float(camera.width))
    session, drawing = Session(model.splats()), Drawing(model)
    groups = model.gaussian_groups()
    times: dict[str, list[tuple[float, float]]] = {"frame": [], "change of the highlight": []}
    for group in torch.bincount(groups[groups > 0]).argsort(descending=True)[:5]:
        camera.camera_to_worlds[..., 0, 3] += 1e-4
        for row in times.values():
            started, processor = time.perf_counter(), time.process_time()
            drawing.outputs(session, 0, None, camera, None, {"rgb"}, quick)["rgb"].cpu()
            row.append((1000 * (time.perf_counter() - started), 1000 * (time.process_time() - processor)))
            session.select(Selection(groups == group))
    return {name: (median(row[0] for row in rows), median(row[1] for row in rows)) for name, rows in times.items()}


@dataclass
class Benchmark:
    """Print a table of times."""

    load_config: Path | None = None
    """config.yml of a trained run to click in, in a real browser; needs chromium and playwright"""
    scene: Path | None = None
    """Its scene"""
    ground_truth: str = "gt/object"
    """Folder of label maps within the scene: what is clicked on and removed"""
    clicks: int = 9
    """Clicks in the browser"""

    def main(self) -> None:
        """Measure."""
        threads.configure()  # as the viewer runs
        g = torch.Generator().manual_seed(1)
        a, b = (Selection(torch.rand(MILLION, generator=g) < 0.3) for _ in range(2))
        print(f"{'':48}{'ms':>10}{'bound':>10}")
        for name, algebra in {
            "add": lambda: a.add(b),
            "remove": lambda: a.remove(b),
            "intersect": lambda: a.intersect(b),
            "invert": lambda: a.invert(),
            "pack for undo, and back": lambda: a.pack().unpack(),
        }.items():
            report(f"1 M: {name}", measure(algebra), 50)
        large = scene(MILLION)
        session = Session(large)
        session.select(a)
        modes: tuple[Mode, ...] = ("set", "add", "remove", "intersect")
        for mode in modes:

            def select(mode: Mode = mode) -> None:
                session.select(a)
                session.select(b, mode)

            # Packing and unpacking included, as a button does it; halved, for there are two of them.
            report(f"1 M: {mode}, with its undo step", measure(select) / 2, 50)
        report("1 M: invert, with its undo step", measure(session.invert), 50)
        report("1 M: undo and redo", measure(lambda: (session.undo(), session.redo(), session.selection)), 50)
        warm_up()
        K = torch.tensor([[700.0, 0.0, 480.0], [0.0, 700.0, 360.0], [0.0, 0.0, 1.0]])
        camera = Camera(torch.eye(4), K, 960, 720)
        small = scene(20_000)
        report("20 k: what is under a pixel", measure(lambda: pick(small, camera, 500, 380), 21), 20)
        graph = Neighbourhood(small.means)
        near = small.means[:, 0] > 0.3
        report("20 k: first grow (builds the graph)", measure(lambda: graph.grow(near), 1))
        report("20 k: grow", measure(lambda: graph.grow(near)))
        part = PackedMask.pack(large.means[:, 0] > 0.6)
        report("1 M: what is under a pixel", measure(lambda: pick(large, camera, 500, 380)))
        turn = Transform(part, (1.0, 0.2, 0.0, 0.0), (0.1, 0.0, 0.0), 1.1)
        for name, operation in {
            "recolor": Recolor(part, (1.0, 0.0, 0.0)),
            "move": turn,
            "remove": Remove(part),
        }.items():
            report(f"1 M: {name}", measure(lambda o=operation: apply(large, [o]), 3))
        with tempfile.TemporaryDirectory() as folder:
            report("1 M: export as PLY", measure(lambda: write_ply(Path(folder) / "a.ply", large), 1), 10_000)
        if self.load_config is not None:
            if self.scene is None:
                raise GsegError("--load-config needs --scene, whose ground truth says where to click")
            quality, unchanged = removal(self.load_config, self.scene / self.ground_truth)
            print(f"removal of an object: PSNR of the rest, over {len(quality)} views of objects", flush=True)
            if unchanged:
                print(f"{'':4}without {unchanged} views whose rest did not change at all")
            if quality:
                values = f"{mean(quality):10.1f}{min(quality):10.1f}"
                print(f"{'':4}{'mean and least, dB (at least 35)':44}{values}")
            run = load_run(self.load_config)
            large_model, view = multiplied(run, MILLION), next(iter(run.cameras("test"))).camera
            print("wall time and processor time of all threads:")
            for width, quick in ((1536, False), (400, True)):
                moving = " in motion" if quick else ""
                for name, (wall, processor) in frames(large_model, view, width, quick).items():
                    print(f"{f'1 M: {name}, {width} wide{moving}':48}{wall:10.1f}{processor:10.1f}", flush=True)
            count, times, selections = in_browser(self.load_config, self.scene, self.ground_truth, self.clicks)
            print(f"in the browser, {count:,} Gaussians, median of {len(times)} clicks", flush=True)
            report("click to highlighted frame", median(times), 1000)
            report("of which prompt to selection", median(selections), 20)


if __name__ == "__main__":
    tyro.cli(Benchmark).main()
