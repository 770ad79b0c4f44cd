"""What `gseg export --format html` writes, in Chromium: how like our renderer's its pictures are, and how fast it is.

python benchmarks/page.py pictures --scene OUT/scene.ply
python benchmarks/page.py speed --scene OUT/scene.ply

The scene is what `gseg export --format ply` wrote of a run.
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from PIL import Image
from rich.console import Console
from rich.table import Table

from gseg_ns.page import View, write_page
from gseg_ns.splats import Placement, Splats, read_ply

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
from browser_driver import chromium, timing
from page_scene import camera_at, psnr, rendered

BACKGROUND = (0xF3, 0xF4, 0xF6)
WINDOW = {"width": 700, "height": 400}
FOV = 50.0
AS_SPARK_HAS_IT = {
    "512 pixels at most": "s.maxPixelRadius = 512",
    "1.4 times the picture": "s.clipXY = 1.4",
    "2.8 standard deviations": "s.maxStdDev = Math.sqrt(8)",
    "stretched without a limit": "s.material.vertexShader = s.material.vertexShader.replace("
    "'clamp(viewCenter.xy * invZ, -widest, widest)', 'viewCenter.xy * invZ'); s.material.needsUpdate = true",
    "blurred after": "s.preBlurAmount = 0; s.blurAmount = 0.3",
}
"""What is undone one by one: how Spark draws unless it is told otherwise."""

_PUT_BACK = """(() => {
    const s = gseg.stage.spark, {shader, ...options} = kept;
    Object.assign(s, options);
    if (s.material.vertexShader !== shader) [s.material.vertexShader, s.material.needsUpdate] = [shader, true];
})()"""


def pictures(scene: Path, undo: bool = False) -> None:
    """Compare the page's pictures with our renderer's, in dB: from a view, from outside the scene, close to things.

    Args:
        scene: PLY with labels.
        undo: also as Spark draws unless it is told how the splats were trained, with numbers as they are.
    """
    splats, groups = _read(scene)
    middle = splats.means.median(dim=0).values
    far = float((splats.means - middle).norm(dim=1).quantile(0.9))
    splats = replace(splats, means=splats.means - middle)
    eye, target = [0.3 * far, 0.35 * far, 0.6 * far], [0.0, 0.0, 0.0]
    columns = ["as numbers are", *(AS_SPARK_HAS_IT if undo else ()), "SPZ"]
    table = Table("camera", *columns)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        rows: dict[str, list[str]] = {}
        for exact in (True, False):
            path = Path(folder) / "page.html"
            where = Placement(up="y")
            write_page(path, splats, groups, placement=where, view=View(eye, target, FOV), exact=exact)
            page = _opened(browser, path)
            shift = np.array(page.evaluate("gseg.meta.view.eye")) - eye
            for name, (one, other) in _cameras(page, eye, target, shift).items():
                width, height = page.evaluate("[gseg.stage.canvas.width, gseg.stage.canvas.height]")
                ours = rendered(splats, camera_at(one, other, FOV, width, height), BACKGROUND)
                _look(page, one + shift, other + shift)
                found = rows.setdefault(name, [])
                found.append(f"{psnr(_picture(page), ours):.1f}")
                for change in AS_SPARK_HAS_IT.values() if undo and exact else ():
                    page.evaluate(
                        "(() => { const s = gseg.stage.spark; window.kept = {shader: s.material.vertexShader};"
                        "for (const key of ['maxPixelRadius', 'clipXY', 'maxStdDev', 'preBlurAmount', 'blurAmount'])"
                        f"kept[key] = s[key]; {change} }})()"
                    )
                    found.append(f"{psnr(_picture(page), ours):.1f}")
                    page.evaluate(_PUT_BACK)
            page.context.close()
    for name, found in rows.items():
        table.add_row(name, *found)
    Console().print(table)


def speed(scene: Path, sizes: tuple[int, ...] = (300_000, 1_000_000), clicks: int = 60) -> None:
    """How large pages are, when they are ready, and how long clicks take; splats are not drawn.

    Args:
        scene: PLY with labels, whose Gaussians are taken several times, with noise.
        sizes: Gaussians of the pages.
        clicks: real ones, of the mouse, evenly over the picture.
    """
    splats, groups = _read(scene)
    generator = torch.Generator().manual_seed(0)
    table = Table(
        "Gaussians", "MB", "SH", "ready, ms", "of it processor, ms", "click, ms: median", "slowest", "hit something"
    )
    for size in sizes:
        chosen = torch.randint(0, len(splats), (size,), generator=generator)
        many = splats.subset(chosen)
        noise = 0.004 * torch.randn(size, 3, generator=generator)
        many = replace(many, means=many.means + noise, scales=many.scales - 0.6)
        with tempfile.TemporaryDirectory() as folder, chromium() as browser:
            path = Path(folder) / "page.html"
            report = write_page(path, many, groups[chosen])
            page = browser.new_context(viewport=WINDOW, offline=True).new_page()
            page.set_default_timeout(120_000)
            page.add_init_script(timing("mesh"))
            page.goto(f"file://{path}")
            _wait(page, "window.readyAt !== undefined")
            page.wait_for_timeout(500)
            ready, busy = page.evaluate("readyAt"), _busy(browser)
            hit = 0
            across = int(np.ceil(np.sqrt(clicks)))
            for place in range(clicks):
                page.mouse.click(40 + 320 * (place % across) / across, 40 + 320 * (place // across) / across)
                hit += page.evaluate("gseg.store.state.selected.size")
            took = np.array(page.evaluate("clicks"))
        table.add_row(
            f"{size:,}", f"{report.size / 1e6:.1f}", str(report.sh_degree), f"{ready:.0f}", f"{busy:.0f}",
            f"{np.median(took):.1f}", f"{took.max():.1f}", f"{hit} of {clicks}",
        )  # fmt: skip
    Console().print(table)


def _busy(browser: Any) -> float:
    """Processor time of the process that has the page, in ms: what does not depend on what else the machine does."""
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    return 1000 * max(float(one["cpuTime"]) for one in processes if one["type"] == "renderer")


def _read(scene: Path) -> tuple[Splats, torch.Tensor]:
    splats = read_ply(scene)
    return replace(splats, extra={}), splats.extra["label"].long()


def _cameras(page: Any, eye: list[float], target: list[float], shift: np.ndarray) -> dict[str, Any]:
    """Eyes and targets, in the coordinates of the splats."""
    start, end = np.array(eye), np.array(target)
    away = end - start
    cameras = {"view": (start, end)}
    for name, degrees, distance in (("outside", 0, 2.5), ("outside, another side", 115, 2.5)):
        angle = np.radians(degrees)
        turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        cameras[name] = (end - distance * turn @ away, end)
    for name, x, y, before in (("close", 200, 220, 0.3), ("against a surface", 170, 250, 0.05)):
        found = page.evaluate(
            f"(() => {{ const hit = gseg.pick({x}, {y}), ray = gseg.stage.ray({x}, {y}); return hit && "
            "[ray.origin.toArray(), ray.direction.toArray(), hit.depth]; })()"
        )
        if found:
            origin, direction, depth = np.array(found[0]) - shift, np.array(found[1]), found[2]
            cameras[name] = (origin + direction * depth * (1 - before), origin + direction * depth)
    return cameras


def _opened(browser: Any, path: Path) -> Any:
    page = browser.new_context(viewport=WINDOW, offline=True, color_scheme="light").new_page()
    page.set_default_timeout(120_000)
    page.goto(f"file://{path}")
    _settle(page)
    return page


def _look(page: Any, eye: np.ndarray, target: np.ndarray) -> None:
    places = ", ".join(f"new gseg.Vector3(...{at.tolist()})" for at in (eye, target))
    page.evaluate(f"gseg.stage.fly({places}, 0)")
    _settle(page)


def _picture(page: Any) -> np.ndarray:
    data = page.evaluate("gseg.stage.picture()").split(",")[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def _settle(page: Any) -> None:
    # Splats that are still in the order of the view before are another picture.
    _wait(page, "window.gseg !== undefined && gseg.stage.spark.activeSplats > 0 && gseg.stage.isSettled")


def _wait(page: Any, condition: str) -> None:
    end = time.monotonic() + 120
    while not page.evaluate(condition):
        if time.monotonic() > end:
            raise TimeoutError(page.inner_text("#status"))
        page.wait_for_timeout(50)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"pictures": pictures, "speed": speed})
