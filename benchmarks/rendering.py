"""Time of rendering and of contributions on the CPU, as a table.

    python benchmarks/rendering.py                      # synthetic scenes
    python benchmarks/rendering.py --scene splats.ply   # your own Gaussians
    python benchmarks/rendering.py --against REV        # compositing and a step, beside another commit, in one run

Best and median wall time of several runs, and least processor time (all threads of this process). On an idle machine
wall time tends to processor time / threads; on a busy one only processor time means something. Ratios are of processor
time, against the named row of the same run.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import plain_loops
import torch
import torch.nn.functional as F
import tyro
from pytorch_msssim import SSIM
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.rendering import (
    pixel_weights,
    project,
    rasterization,
    rasterize_to_pixels,
    reference,
    threads,
    top_contributors,
    vote,
)


class Scene(NamedTuple):
    """Gaussians [N, ...] with linear scales and opacities in 0..1, and one camera."""

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    viewmats: Tensor
    Ks: Tensor
    width: int
    height: int


def look_at_centre(means: Tensor, width: int, height: int) -> tuple[Tensor, Tensor]:
    """A camera [1, 4, 4], [1, 3, 3] that has the middle 90 % of the points in view."""
    centre = means.median(dim=0).values
    reach = torch.quantile((means - centre).norm(dim=1)[:100_000], 0.9)
    viewmat = torch.eye(4)
    viewmat[:3, 3] = -centre + torch.tensor([0.0, 0.0, 1.6 * float(reach)])
    K = torch.tensor([[0.9 * width, 0, width / 2], [0, 0.9 * width, height / 2], [0, 0, 1.0]])
    return viewmat[None], K[None]


def synthetic(count: int, width: int, height: int, seed: int = 0) -> Scene:
    """A room with 12 objects: flat splats on surfaces, as wide as their spacing, most nearly opaque, some floaters."""
    g = torch.Generator().manual_seed(seed)
    centres = (torch.rand(12, 3, generator=g) * 2 - 1) * torch.tensor([1.6, 0.8, 1.6])
    radii = 0.15 + 0.35 * torch.rand(12, generator=g)
    half = count // 2
    which = torch.randint(0, 12, (half,), generator=g)
    normals = F.normalize(torch.randn(count, 3, generator=g), dim=1)
    means = torch.empty(count, 3)
    means[:half] = centres[which] + radii[which, None] * normals[:half]
    room = (torch.rand(count - half, 3, generator=g) * 2 - 1) * 2.5
    side = torch.randint(0, 3, (count - half,), generator=g)
    room[torch.arange(count - half), side] = 2.5
    means[half:] = room
    spacing = (4 * np.pi * float((radii**2).mean()) * 12 / count) ** 0.5
    scales = spacing * torch.exp(torch.randn(count, 3, generator=g) * 0.5)
    scales[:, 2] *= 0.15
    scales[half:] *= 1.8
    opacities = torch.sigmoid(torch.randn(count, generator=g) * 2.5 + 1.5)
    quats = torch.randn(count, 4, generator=g)
    return Scene(means, quats, scales, opacities, *look_at_centre(means, width, height), width, height)


def from_file(path: Path, width: int, height: int) -> Scene:
    """A splat PLY, or an NPZ with means, quats, scales (linear), opacities (0..1) and optionally viewmat and K."""
    if path.suffix == ".ply":
        from gseg_ns.splats.ply import read_ply

        splats = read_ply(path)
        opacities = torch.sigmoid(splats.opacities).reshape(-1)
        camera = look_at_centre(splats.means, width, height)
        return Scene(splats.means, splats.quats, splats.scales.exp(), opacities, *camera, width, height)
    if path.suffix != ".npz":
        raise GsegError(f"{path}: a scene is a .ply or an .npz file")
    with np.load(path, allow_pickle=False) as data:
        missing = {"means", "quats", "scales", "opacities"} - set(data)
        if missing:
            raise GsegError(f"{path} lacks {', '.join(sorted(missing))}; see --help for what it must hold")
        arrays = {name: torch.from_numpy(data[name]).float() for name in data}
    camera = look_at_centre(arrays["means"], width, height)
    if "viewmat" in arrays and "K" in arrays:
        camera = arrays["viewmat"][None], arrays["K"][None]
    return Scene(arrays["means"], arrays["quats"], arrays["scales"], arrays["opacities"], *camera, width, height)


class Times(NamedTuple):
    """Milliseconds: wall time, best and median, and least processor time."""

    best: float
    median: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.best:.1f} / {self.median:.1f} / {self.cpu:.1f}"


def clock(runs: int, *steps: Callable[[], object]) -> list[Times]:
    """Times of each step; the steps run in turn, so that noise hits them alike. The first round is not counted."""
    wall: list[list[float]] = [[] for _ in steps]
    cpu: list[list[float]] = [[] for _ in steps]
    for run in range(runs + 1):
        for i, step in enumerate(steps):
            start, start_cpu = time.perf_counter(), time.process_time()
            step()
            if run:
                wall[i].append(1e3 * (time.perf_counter() - start))
                cpu[i].append(1e3 * (time.process_time() - start_cpu))
    return [Times(min(w), statistics.median(w), min(c)) for w, c in zip(wall, cpu, strict=True)]


def compositing(scene: Scene, channels: int, runs: int) -> list[Times]:
    """Forward and backward of compositing alone, with gradients in everything."""
    meta = project(*scene)
    names = ("means2d", "conics", "opacities")
    means2d, conics, opacities = (meta[n].clone().requires_grad_() for n in names)
    colors = torch.rand(1, len(scene.means), channels, requires_grad=True)
    result: list[tuple[Tensor, Tensor]] = []
    v_image, v_alphas = (
        torch.randn(1, scene.height, scene.width, channels),
        torch.randn(1, scene.height, scene.width, 1),
    )

    def forward() -> None:
        result[:] = [
            rasterize_to_pixels(
                means2d, conics, colors, opacities, scene.width, scene.height, meta["tile_size"],
                meta["isect_offsets"], meta["flatten_ids"], absgrad=True,
            )
        ]  # fmt: skip

    def backward() -> None:
        for leaf in (means2d, conics, colors, opacities):
            leaf.grad = None
        torch.autograd.backward(result[0], (v_image, v_alphas))

    return clock(runs, forward, backward)


def dense_reference(scene: Scene, runs: int) -> list[Times]:
    """The pure-torch reference, forward and backward."""
    meta = project(*scene)
    means2d, conics, opacities = (meta[n].clone().requires_grad_() for n in ("means2d", "conics", "opacities"))
    colors = torch.rand(1, len(scene.means), 3, requires_grad=True)
    result: list[Tensor] = []

    def forward() -> None:
        result[:] = reference.rasterize_to_pixels(
            means2d, conics, colors, opacities, meta["depths"], meta["radii"], scene.width, scene.height
        )

    return clock(runs, forward, lambda: (result[0].sum() + result[1].sum()).backward())


def structural_similarity() -> torch.nn.Module:
    """The SSIM of a training step, also of a commit (see `against`) that has no kernels for it."""
    upstream = SSIM(data_range=1.0, size_average=True, channel=3)
    if importlib.util.find_spec("gseg_ns.rendering.ssim") is None:
        return upstream
    return cast(torch.nn.Module, importlib.import_module("gseg_ns.rendering.ssim").Ssim(upstream))


def parts_of(step: Callable[[], object], runs: int) -> tuple[dict[str, float], float]:
    """Processor time of each kernel in a step, and of the whole step, in milliseconds: means over the runs."""
    parts: dict[str, float] = {}
    share = threads.share

    def timed(kernel: Any, *args: Any, **options: Any) -> None:
        started = time.process_time()
        share(kernel, *args, **options)
        function = getattr(kernel, "py_func", kernel)  # some share several kernels as one piece of work
        name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        parts[name] = parts.get(name, 0.0) + 1e3 * (time.process_time() - started) / runs

    step()
    threads.share = timed
    try:
        started = time.process_time()
        for _ in range(runs):
            step()
        whole = 1e3 * (time.process_time() - started) / runs
    finally:
        threads.share = share
    return parts, whole


def plain(scene: Scene, runs: int) -> list[Times]:
    """Forward and backward of plain loops, three channels, on one thread."""
    g = torch.Generator().manual_seed(0)
    view = plain_loops.View(project(*scene), torch.rand(len(scene.means), 3, generator=g).numpy())
    v_image = torch.randn(scene.height, scene.width, 3, generator=g).numpy()
    v_alphas = torch.randn(scene.height, scene.width, generator=g).numpy()
    return clock(runs, view.forward, lambda: view.backward(v_image, v_alphas))


def seconds(scenes: dict[tuple[int, int, int], Scene], runs: int) -> dict[str, float]:
    """Processor time, in milliseconds, of what `against` compares."""
    threads.configure()
    found: dict[str, float] = {}
    for size, scene in scenes.items():
        name = f"{size[0]}, {size[1]} x {size[2]}"
        found[f"forward: {name}"], found[f"backward: {name}"] = (t.cpu for t in compositing(scene, 3, runs))
        found[f"step: {name}"] = clock(runs, training_step(scene))[0].cpu
    return found


def against(revision: str, options: Options) -> Table:
    """Times of this tree and of another commit, alternating, each in processes of its own; the least of three."""
    root = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "other"
        subprocess.run(["git", "-C", root, "worktree", "add", "--detach", other, revision], check=True, text=True)
        try:
            best: list[dict[str, float]] = [{}, {}]
            given = [] if options.scene is None else ["--scene", str(options.scene.resolve())]
            command = [sys.executable, str(Path(__file__).resolve()), "--seconds-only", "--runs", str(options.runs)]
            for _ in range(3):
                for tree, times in zip((root, other), best, strict=True):
                    told = subprocess.run(
                        [*command, *given, *(["--quick"] if options.quick else [])], check=True, text=True,
                        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(tree)},
                    ).stdout  # fmt: skip
                    for name, value in json.loads(told.splitlines()[-1]).items():
                        times[name] = min(value, times.get(name, value))
        finally:
            subprocess.run(["git", "-C", root, "worktree", "remove", "--force", other], check=True)
    table = Table("processor time, ms", "this tree", revision, "ratio")
    for name, ours in best[0].items():
        table.add_row(name, f"{ours:.1f}", f"{best[1][name]:.1f}", f"{ours / best[1][name]:.2f}")
    return table


def training_step(scene: Scene) -> Callable[[], object]:
    """One step as Splatfacto takes it: project, SH of degree 3, composite, L1 + SSIM, backward, Adam."""
    leaves = [t.clone().requires_grad_() for t in (scene.means, scene.quats, scene.scales.log())]
    leaves += [torch.logit(scene.opacities.clamp(0.01, 0.99)).requires_grad_()]
    leaves += [(torch.randn(len(scene.means), 16, 3) * 0.2).requires_grad_()]
    optimizer = torch.optim.Adam(leaves, lr=1e-6)
    target = torch.rand(1, 3, scene.height, scene.width)
    similarity = structural_similarity()

    def step() -> None:
        image, _, info = rasterization(
            leaves[0], leaves[1], leaves[2].exp(), torch.sigmoid(leaves[3]), leaves[4], *scene[4:], packed=False,
            sh_degree=3, absgrad=True,
        )  # fmt: skip
        info["means2d"].retain_grad()
        image = image.permute(0, 3, 1, 2)
        loss = 0.8 * (image - target).abs().mean() + 0.2 * (1 - similarity(target, image))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


@contextmanager
def busy_process() -> Iterator[None]:
    """Another process that keeps one core busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.5)
        yield
    finally:
        process.kill()
        process.wait()


def contributions(scene: Scene, runs: int) -> list[tuple[str, Times]]:
    """Everything in `contributions`, and the sparse product with its gradient."""
    meta = project(*scene)
    height, width = scene.height, scene.width
    few = (torch.arange(width) * 3 // width)[None].expand(height, width) + 3 * (torch.arange(height)[:, None] > 90)
    many = (torch.arange(width) // 8)[None] + 40 * (torch.arange(height)[:, None] // 8)
    sample = torch.randint(0, height * width, (4096,), generator=torch.Generator().manual_seed(0))
    weights = pixel_weights(meta, sample)
    features = torch.rand(len(scene.means), 32, requires_grad=True)
    rows: list[tuple[str, Callable[[], object]]] = [
        ("project and sort", lambda: project(*scene)),
        ("vote, 6 labels", lambda: vote(meta, few, 6)),
        ("vote, 960 labels", lambda: vote(meta, many, 960)),
        ("top contributor of each pixel", lambda: top_contributors(meta)),
        ("sparse weights of 4096 pixels", lambda: pixel_weights(meta, sample)),
        ("sparse weights of all pixels", lambda: pixel_weights(meta, torch.arange(height * width))),
        ("4096 pixels x 32 features, product", lambda: weights @ features),
        ("4096 pixels x 32 features, both ways", lambda: (weights @ features).sum().backward()),
    ]
    return [(name, times) for (name, _), times in zip(rows, clock(runs, *(f for _, f in rows)), strict=True)]


# What older commits lack is imported where it is used: `against` runs this file on them.


def lifting_view(scene: Scene) -> Callable[[], object]:
    """What `gseg lift` asks of a view: project, votes of 960 masks, the label image."""
    from gseg_ns.rendering import dominant_labels, sparse_vote

    labels = (torch.arange(scene.width) // 8)[None] + 40 * (torch.arange(scene.height)[:, None] // 8)
    groups = torch.arange(len(scene.means)) % 30

    def ask() -> None:
        meta = project(*scene)
        sparse_vote(meta, labels)
        dominant_labels(meta, groups)

    return ask


def memory_speed(runs: int) -> float:
    """Bytes read and written a millisecond of wall time, by all threads of the kernels, of arrays beyond all caches."""
    source = np.ones(1 << 26, np.float32)
    target = np.empty_like(source)

    def copy(start: int, stop: int) -> None:
        target[start:stop] = source[start:stop]

    return 2 * source.nbytes / clock(runs, lambda: threads.share(copy, len(source)))[0].best


def traffic(scene: Scene, channels: int) -> tuple[int, int]:
    """Bytes that compositing forward and backward has to move at least, if caches keep nothing from tile to tile.

    For each pair of tile and Gaussian its packed line, number and color; for each pixel its picture; backward the
    picture and its gradient, and for each pair its gradients, written and read again.
    """
    from gseg_ns.rendering.kernels.composite import EXTRA
    from gseg_ns.rendering.kernels.weights import PACKED

    meta = project(*scene)
    pairs, pixels = len(meta["flatten_ids"]), scene.width * scene.height
    forward = pairs * 4 * (PACKED + 1 + channels) + pixels * 4 * (channels + 1)
    return forward, forward + pixels * 4 * (channels + 1) + 2 * pairs * 4 * (channels + EXTRA)


@dataclass
class Options:
    """Time the CPU renderer."""

    scene: Path | None = None
    """A splat .ply, or an .npz with means, quats, scales, opacities and optionally viewmat, K."""
    runs: int = 7
    """Timed runs of each row; the first, untimed one compiles."""
    quick: bool = False
    """Leave out the largest sizes."""
    against: str | None = None
    """A commit of this repository: print times of compositing and of a step beside its, and nothing else."""
    seconds_only: bool = False
    """Print what --against compares, as JSON, and nothing else."""


def main(options: Options) -> None:
    """Print the tables."""
    console = Console()
    if options.against is not None:
        console.print(against(options.against, options))
        return
    threads.configure()
    sizes = [(20_000, 256, 192), (50_000, 512, 384)] + ([] if options.quick else [(200_000, 1024, 768)])
    scenes = {s: synthetic(*s) for s in sizes}
    if options.scene is not None:
        scenes = {}
        for width, height in ((256, 192), (512, 384), (1024, 768)):
            scene = from_file(options.scene, width, height)
            scenes[len(scene.means), width, height] = scene
    if options.seconds_only:
        print(json.dumps(seconds(scenes, options.runs)))
        return
    console.print(f"{threads.num_threads()} kernel threads, torch on {torch.get_num_threads()}")
    console.print("milliseconds: best wall / median wall / processor time")

    table = Table("compositing: Gaussians, image, channels", "forward", "backward", "ratio, both")
    small = synthetic(2_000, 64, 48)
    dense = dense_reference(small, options.runs)
    table.add_row("torch reference: 2000, 64 x 48, 3", *map(str, dense), "A")
    kernels = compositing(small, 3, options.runs)
    table.add_row("2000, 64 x 48, 3", *map(str, kernels), f"{total(kernels) / total(dense):.4f} A")
    baseline = 0.0
    for (size, scene), channels in itertools.product(scenes.items(), (3, 16, 32)):
        times = compositing(scene, channels, options.runs)
        baseline = baseline or total(times)
        name = f"{size[0]}, {size[1]} x {size[2]}, {channels}"
        table.add_row(name, *map(str, times), "B" if total(times) == baseline else f"{total(times) / baseline:.2f} B")
    for size, scene in scenes.items():
        times = plain(scene, max(options.runs // 3, 1))
        name = f"plain loops, one thread: {size[0]}, {size[1]} x {size[2]}, 3"
        table.add_row(name, *map(str, times), f"{total(times) / baseline:.2f} B")
    console.print(table)

    for size, scene in list(scenes.items())[:2]:
        parts, whole = parts_of(training_step(scene), options.runs)
        table = Table(f"parts of a step: {size[0]}, {size[1]} x {size[2]}", "processor time", "share")
        parts["torch and Python"] = whole - sum(parts.values())
        for name, value in sorted(parts.items(), key=lambda item: -item[1]):
            table.add_row(name, f"{value:.1f}", f"{100 * value / whole:.0f} %")
        console.print(table)

    for size, scene in scenes.items():
        parts, whole = parts_of(lifting_view(scene), options.runs)
        table = Table(f"a view of a lift's pass: {size[0]}, {size[1]} x {size[2]}", "processor time", "share")
        parts["torch, NumPy and Python"] = whole - sum(parts.values())
        for name, value in sorted(parts.items(), key=lambda item: -item[1]):
            table.add_row(name, f"{value:.1f}", f"{100 * value / whole:.0f} %")
        table.add_row("seconds a view", f"{whole / 1e3:.3f}", "")
        console.print(table)

    speed = memory_speed(options.runs)
    table = Table("bytes of compositing, 3 channels", "MB", "GB/s", f"of memory's {speed / 1e6:.1f} GB/s")
    for size, scene in scenes.items():
        ways = zip(("forward", "backward"), traffic(scene, 3), compositing(scene, 3, options.runs), strict=True)
        for way, moved, took in ways:
            name = f"{way}: {size[0]}, {size[1]} x {size[2]}"
            rate = moved / took.best
            table.add_row(name, f"{moved / 1e6:.1f}", f"{rate / 1e6:.2f}", f"{100 * rate / speed:.0f} %")
    console.print(table)

    table = Table("training step: Gaussians, image", "time", "ratio of median wall time")
    idle = 0.0
    for size, scene in list(scenes.items())[:2]:
        (step,) = clock(options.runs, training_step(scene))
        idle = idle or step.median
        name = f"{size[0]}, {size[1]} x {size[2]}"
        table.add_row(name, str(step), "C" if idle == step.median else f"{step.median / idle:.2f} C")
    size, scene = next(iter(scenes.items()))
    for name, torch_threads in (("a busy process beside it", 1), ("and torch on all cores", threads.available_cores())):
        torch.set_num_threads(torch_threads)
        with busy_process():
            (step,) = clock(options.runs, training_step(scene))
        table.add_row(f"{size[0]}, {size[1]} x {size[2]}, {name}", str(step), f"{step.median / idle:.2f} C")
    torch.set_num_threads(1)
    console.print(table)

    table = Table(f"contributions: {size[0]}, {size[1]} x {size[2]}", "time", "ratio")
    rows = contributions(scene, options.runs)
    for row, (name, step) in enumerate(rows):
        table.add_row(name, str(step), "D" if row == 0 else f"{step.cpu / rows[0][1].cpu:.2f} D")
    console.print(table)
    console.print(f"load average while measuring: {os.getloadavg()[0]:.1f}")


def total(times: list[Times]) -> float:
    """Processor time of all steps."""
    return sum(t.cpu for t in times)


if __name__ == "__main__":
    main(tyro.cli(Options))
