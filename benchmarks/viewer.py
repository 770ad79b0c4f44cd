"""How fast the viewer answers: set algebra and export at a million Gaussians, picking, and click to highlighted frame.

python benchmarks/viewer.py
python benchmarks/viewer.py --load-config outputs/.../config.yml --scene data/scene     # and in a real browser
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from gseg_ns.editing.operations import Recolour, Remove, Transform, apply
from gseg_ns.errors import GsegError
from gseg_ns.rendering import threads
from gseg_ns.rendering.camera import Camera
from gseg_ns.selection.neighbourhood import Neighbourhood
from gseg_ns.selection.packed import PackedMask
from gseg_ns.selection.picking import pick, warm_up
from gseg_ns.selection.selection import Selection
from gseg_ns.splats import Splats
from gseg_ns.splats.ply import write_ply

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
    return 1000 * statistics.median(times)


def report(name: str, milliseconds: float, bound: float | None = None) -> None:
    """Print a line of the table."""
    print(f"{name:48}{milliseconds:10.1f}{'' if bound is None else bound:>10}", flush=True)


def in_browser(load_config: Path, data: Path, clicks: int) -> list[float]:
    """Milliseconds from a click in Chromium to the frame that shows its highlight, for clicks on an object.

    The frame counts when the browser has received it and drawn twice since.
    """
    path = Path(__file__).resolve().parents[1] / "tests" / "viewer" / "test_browser.py"
    spec = importlib.util.spec_from_file_location("browser_driver", path)
    assert spec is not None
    assert spec.loader is not None
    driver = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = driver
    spec.loader.exec_module(driver)
    times = []
    with driver.browsing(load_config) as running:
        camera, truth = driver.find_view(running, data)
        first, _ = driver.two_objects(truth)
        running.look(camera)
        spot = driver.interior(truth == first)
        for _ in range(clicks):
            running.press("None")
            running.press("Click +")
            running.wait(lambda: "click on the picture" in running.panel._status.content, "the tool")
            running.settle()
            running.frames.clear()
            started = time.perf_counter()
            running.page.mouse.click(*running.canvas(camera, *spot))
            running.wait(lambda: running.controller.selected.any(), "the selection")
            selected = time.perf_counter()
            running.wait(lambda t=selected: any(at > t and size > 2000 for at, size in running.frames), "a frame")
            running.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            times.append(1000 * (time.perf_counter() - started))
    return times


@dataclass
class Benchmark:
    """Print a table of times."""

    load_config: Path | None = None
    """config.yml of a trained run to click in, in a real browser; needs chromium and playwright"""
    scene: Path | None = None
    """Its scene, with ground truth in gt/object"""
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
        warm_up()
        K = torch.tensor([[700.0, 0.0, 480.0], [0.0, 700.0, 360.0], [0.0, 0.0, 1.0]])
        camera = Camera(torch.eye(4), K, 960, 720)
        small = scene(20_000)
        report("20 k: what is under a pixel", measure(lambda: pick(small, camera, 500, 380), 21), 20)
        graph = Neighbourhood(small.means)
        near = small.means[:, 0] > 0.3
        report("20 k: first grow (builds the graph)", measure(lambda: graph.grow(near), 1))
        report("20 k: grow", measure(lambda: graph.grow(near)))
        large = scene(MILLION)
        part = PackedMask.pack(large.means[:, 0] > 0.6)
        report("1 M: what is under a pixel", measure(lambda: pick(large, camera, 500, 380)))
        turn = Transform(part, (1.0, 0.2, 0.0, 0.0), (0.1, 0.0, 0.0), 1.1)
        for name, operation in {
            "recolour": Recolour(part, (1.0, 0.0, 0.0)),
            "move": turn,
            "remove": Remove(part),
        }.items():
            report(f"1 M: {name}", measure(lambda o=operation: apply(large, [o]), 3))
        with tempfile.TemporaryDirectory() as folder:
            report("1 M: export as PLY", measure(lambda: write_ply(Path(folder) / "a.ply", large), 1), 10_000)
        if self.load_config is not None:
            if self.scene is None:
                raise GsegError("--load-config needs --scene, whose ground truth says where to click")
            times = in_browser(self.load_config, self.scene, self.clicks)
            report(f"click to highlighted frame, median of {len(times)}", statistics.median(times), 1000)


if __name__ == "__main__":
    tyro.cli(Benchmark).main()
