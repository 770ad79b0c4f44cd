"""What an NVIDIA GPU makes of it: kernels beside the CPU's on a real frame, passes, clicks, steps. Needs one.

    python benchmarks/on_gpu.py frame --load-config RUN
    python benchmarks/on_gpu.py steps --scene SCENE --masks MASKS
    python benchmarks/on_gpu.py fuzz

`frame` takes a trained run, and for the larger numbers its Gaussians in parts beside each other. The set-up of saga is
timed by `saga.py speed`; memory is measured by `gpu_memory.py estimate --part 1`, on the card where there is one.
"""

from __future__ import annotations

import copy
import importlib
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Union

import torch
import tyro
from gpu_memory import METHODS, one_step  # type: ignore[import-not-found]
from viewer import frames, multiplied  # type: ignore[import-not-found]

from gseg_ns.errors import GsegError

GIB = 2**30


def timed(action: Callable[[], object], repeats: int = 7) -> tuple[float, float]:
    """Median milliseconds until the GPU has done an action, after one that is not counted, and GiB it took."""
    action()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before, times = torch.cuda.memory_allocated(), []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - started))
    return median(times), (torch.cuda.max_memory_allocated() - before) / GIB


def report(what: str, milliseconds: float, gib: float = 0.0) -> None:
    """Print a line of the table."""
    print(f"{what:64}{milliseconds:11.2f} ms{gib:8.2f} GiB", flush=True)


@dataclass
class Frame:
    """Kernels on the views of a run: the same numbers as on the CPU, and how long they take."""

    load_config: Path
    """config.yml of a trained run"""
    counts: tuple[int, ...] = (0, 1_000_000, 3_000_000)
    """Numbers of Gaussians; 0: the run's own"""

    def main(self) -> None:
        """Print the tables."""
        from gseg_ns.data.cameras import to_camera
        from gseg_ns.runs.run import load_run

        run = load_run(self.load_config)
        if run.model.device.type != "cuda":
            raise GsegError("There is no GPU here that can be used: `gseg doctor` says why")
        name = torch.cuda.get_device_name()
        view = next(iter(run.cameras("train")))
        camera = to_camera(view.camera)
        splats = run.model.splats()
        labels = run.datamanager.labels(0)
        if labels is None:
            raise GsegError("The first training view has no masks")
        print(f"{name}; {len(splats)} Gaussians, {camera.width}x{camera.height}")
        self.parity(splats, camera, run.model.gaussian_groups())
        for count in self.counts:
            model = multiplied(run, count) if count else run.model
            print(f"\n{model.num_points} Gaussians")
            self.speed(model, camera, labels.to(model.device))
            self.clicks(model, view.camera, camera)

    def parity(self, splats: Any, camera: Any, groups: torch.Tensor) -> None:
        """The GPU's kernels beside the CPU's."""
        from gseg_ns.rendering import composite, dominant_labels, sparse_vote, top_contributors
        from gseg_ns.splats.projection import project_splats

        asked: list[dict[str, torch.Tensor]] = []
        pattern = torch.arange(camera.height * camera.width).reshape(camera.height, camera.width) // 997
        for device in ("cpu", "cuda"):
            there, labels = splats.to(device), groups.to(device)
            meta = project_splats(there, camera.to(device))
            rows, names, weights = sparse_vote(meta, pattern.to(device))
            table = torch.sparse_coo_tensor(
                torch.stack([rows.long(), names.long()]), weights, (len(there), int(pattern.max()) + 1)
            )
            ids, best = top_contributors(meta)
            shown, share = dominant_labels(meta, labels)
            found = {
                "picture": composite(meta, there.sh[:, 0].contiguous()), "votes": table.coalesce(),
                "first contributor": ids, "its weight": best, "label image": shown, "its share": share,
            }  # fmt: skip
            asked.append({name: value.cpu() for name, value in found.items()})
        cpu, cuda = asked
        print("beside the CPU's kernels:")
        for what, one in cpu.items():
            other = cuda[what]
            if one.is_sparse:
                gap = (one - other).coalesce().values().abs()
                print(f"  {what:20} greatest difference {float(gap.max()):.1e}, of {float(one.values().max()):.1f}")
            elif one.is_floating_point():
                gap = (one - other).abs()
                print(f"  {what:20} greatest difference {float(gap.max()):.1e}, mean {float(gap.mean()):.1e}")
            else:
                print(f"  {what:20} the same in {100 * float((one == other).float().mean()):.3f} % of the pixels")

    def speed(self, model: Any, camera: Any, labels: torch.Tensor) -> None:
        """A pass over a view, in parts."""
        from gseg_ns.lifting.consensus import foremost
        from gseg_ns.lifting.votes import view_votes
        from gseg_ns.rendering import composite, dominant_labels, pixel_weights, top_contributors
        from gseg_ns.splats.projection import project_splats

        splats, groups = model.splats(), model.gaussian_groups()
        meta = project_splats(splats, camera)
        features = torch.randn(len(splats), 16, device=splats.means.device)
        pixels = torch.randperm(camera.width * camera.height, device=splats.means.device)[:8192]
        rows = pixel_weights(meta, pixels)
        said = view_votes(meta, labels)
        learned = features.clone().requires_grad_()

        def product() -> None:
            learned.grad = None
            (rows @ learned).sum().backward()

        parts: dict[str, Callable[[], object]] = {
            "project": lambda: project_splats(splats, camera),
            "composite 3 channels": lambda: composite(meta, splats.sh[:, 0].contiguous()),
            "composite 16 channels": lambda: composite(meta, features),
            "votes of a view": lambda: view_votes(meta, labels),
            "its foremost votes, for the association": lambda: foremost(said),
            "label image of labels": lambda: dominant_labels(meta, groups),
            "first contributor of each pixel": lambda: top_contributors(meta),
            "weights of 8192 pixels": lambda: pixel_weights(meta, pixels),
            f"their product with 16 channels and its gradient ({len(rows.col)} pairs)": product,
        }
        for what, action in parts.items():
            report(what, *timed(action))

    def clicks(self, model: Any, view: Any, camera: Any) -> None:
        """What a user of the viewer waits for."""
        from gseg_ns.rendering import dominant_labels
        from gseg_ns.selection.neighbourhood import Neighbourhood
        from gseg_ns.selection.postprocess import clean_up
        from gseg_ns.splats.projection import project_splats
        from gseg_ns.viewer.controller import SegmentController

        for what, (wall, _) in frames(model, view, 1536, False).items():
            report(f"viewer, 1536 wide: {what}", wall)
        controller = SegmentController(model)
        labels, weights = dominant_labels(project_splats(model.splats(), camera), model.gaussian_groups())
        y, x = divmod(int((weights * (labels > 0)).argmax()), camera.width)
        report("click to selection", timed(lambda: controller.click(camera, x + 0.5, y + 0.5, anew=True))[0])
        means = model.splats().means
        near = (means - means.median(dim=0).values).norm(dim=1)
        count = min(len(near) // 4, 224_000)
        part = near <= near.sort().values[count - 1]
        report(f"clean of {int(part.sum())} selected", timed(lambda: clean_up(means, part), 3)[0])
        report("first grow, which finds the neighbours of all", timed(lambda: Neighbourhood(means).grow(part), 1)[0])
        graph = Neighbourhood(means)
        report("grow", timed(lambda: graph.grow(part), 3)[0])


@dataclass
class Steps:
    """Milliseconds a training step of each method, in each phase, with everything in it."""

    scene: Path
    """Scene folder"""
    masks: str = "sam_mild/labels/object"
    """Mask folder within the scene"""
    methods: tuple[str, ...] = METHODS
    """Which"""
    steps: int = 600
    """Of each training; each phase has half of them"""

    def main(self) -> None:
        """Print the table."""
        if not torch.cuda.is_available():
            raise GsegError("There is no GPU here: `gseg doctor` says why")
        print(f"{torch.cuda.get_device_name()}, {self.scene.name}: median over windows of {WINDOW} steps", flush=True)
        for method in self.methods:
            with tempfile.TemporaryDirectory() as folder:
                self.one(method, Path(folder))

    def one(self, method: str, folder: Path) -> None:
        """Train."""
        module = method.replace("-", "_")
        config = copy.deepcopy(getattr(importlib.import_module(f"gseg_ns.method_configs.{module}"), module).config)
        config.data = config.pipeline.datamanager.data = self.scene
        config.pipeline.datamanager.masks_dir = Path(self.masks)
        config.output_dir, config.timestamp, config.vis = folder, "run", "tensorboard"
        config.max_num_iterations = self.steps
        config.logging.local_writer.enable = False
        for what in ("eval_batch", "eval_image", "eval_all_images", "save"):
            setattr(config, f"steps_per_{what}", 10**9)
        if method == "saga-v1":
            config.pipeline.model.guidance_weight = 0.0
        torch.cuda.reset_peak_memory_stats()
        trainer = config.setup(local_rank=0, world_size=1)
        config.save_config()
        trainer.setup()
        model = trainer.pipeline.model
        half = model.geometry_steps if model.two_phases else self.steps // 2
        windows: list[float] = []
        slow: list[float] = []
        for number in range(self.steps):
            if number % WINDOW == 0 or number == half + 1:
                torch.cuda.synchronize()
                started, counted = time.perf_counter(), number
            one_step(trainer, number)
            if number == half:
                torch.cuda.synchronize()
                slow.append(time.perf_counter() - started - (number - counted) * (windows[-1] if windows else 0))
            elif (number + 1) % WINDOW == 0:
                torch.cuda.synchronize()
                windows.append((time.perf_counter() - started) / (number + 1 - counted))
        early, late = windows[2 : half // WINDOW], windows[half // WINDOW + 1 :]
        print(
            f"{method:14} first half {1000 * median(early):7.2f} ms, second half {1000 * median(late):7.2f} ms a step; "
            f"step {half} (set-up) {max(slow):5.2f} s; {model.num_points} Gaussians, "
            f"peak {torch.cuda.max_memory_allocated() / GIB:.2f} GiB",
            flush=True,
        )


@dataclass
class Fuzz:
    """Random scenes, odd ones among them, on the GPU and on the CPU: the same pictures, gradients and votes."""

    first: int = 0
    """Seed of the first scene"""
    count: int = 100
    """How many"""

    def main(self) -> None:
        """Print the faults, and how many there were.

        Raises:
            GsegError: there were.
        """
        faults = 0
        for seed in range(self.first, self.first + self.count):
            try:
                told = compare(seed)
            except (RuntimeError, ValueError, AssertionError) as error:
                told = [f"{type(error).__name__}: {error}"]
            for one in told:
                print(f"seed {seed}: {one}", flush=True)
            faults += len(told)
        print(f"{self.count} scenes, {faults} faults")
        if faults:
            raise GsegError("The GPU's kernels and the CPU's do not agree")


def compare(seed: int) -> list[str]:
    """What differs between the devices on one random scene: a line each."""
    from gseg_ns.rendering import (
        composite,
        dominant_labels,
        pixel_weights,
        project,
        rasterization_with_features,
        top_contributors,
        vote,
    )

    rng, draw = random.Random(seed), torch.Generator().manual_seed(seed)
    count, cameras = rng.choice([0, 1, 2, 7, 60, 300]), rng.choice([1, 1, 2, 3])
    width, height = rng.choice([(1, 1), (16, 16), (17, 5), (40, 33), (75, 53), (5, 64)])
    scene = {
        "means": torch.randn((count, 3), generator=draw) * rng.choice([0.3, 1.0, 3.0]),
        "quats": torch.randn((count, 4), generator=draw),
        "scales": torch.rand((count, 3), generator=draw) * rng.choice([0.01, 0.1, 0.5]) + 1e-3,
        "opacities": torch.rand(count, generator=draw),
    }
    viewmats = torch.eye(4).repeat(cameras, 1, 1)
    viewmats[:, 2, 3] = rng.choice([0.0, 2.0, 4.0, -50.0])
    viewmats[:, 0, 3] = torch.rand(cameras, generator=draw)
    focal = float(max(width, height))
    K = torch.tensor([[focal, 0, width / 2], [0, 1.1 * focal, height / 2], [0, 0, 1.0]]).repeat(cameras, 1, 1)
    mode: Any = rng.choice(["RGB", "RGB+D", "RGB+ED"])
    kind: Any = rng.choice(["classic", "antialiased"])
    lens: Any = rng.choice(["pinhole", "pinhole", "ortho", "fisheye"])
    values = {"colors": torch.rand((count, 16, 3), generator=draw), "features": torch.rand((count, 9), generator=draw)}
    labels = torch.randint(-1, rng.choice([1, 5, 40]), (cameras, height, width), generator=draw)
    names = torch.randint(0, 40, (count,), generator=draw)
    pixels = torch.randperm(width * height, generator=draw)[: rng.choice([0, 1, 30])]
    upstream = torch.rand((cameras, height, width, 9), generator=draw)
    found: list[dict[str, torch.Tensor]] = []
    for device in ("cpu", "cuda"):
        leaves = {name: value.clone().to(device).requires_grad_() for name, value in (scene | values).items()}
        image, alphas, meta = rasterization_with_features(
            viewmats=viewmats.to(device), Ks=K.to(device), width=width, height=height, packed=False, sh_degree=3,
            render_mode=mode, rasterize_mode=kind, camera_model=lens, absgrad=True, **leaves,
        )  # fmt: skip
        meta["means2d"].retain_grad()
        (image.sum() + (meta["features"] * upstream.to(device)).sum() + alphas.sum()).backward()
        bare: dict[str, Any] = {name: value.to(device) for name, value in scene.items()}
        flat = project(
            **bare, viewmats=viewmats.to(device), Ks=K.to(device), width=width, height=height, rasterize_mode=kind
        )
        label, share = dominant_labels(flat, names.to(device))
        one = {
            "image": image, "features": meta["features"], "alphas": alphas,
            "votes": vote(flat, labels.to(device), 40), "share": share, "label": label,
            "weight of the first": top_contributors(flat)[1],
        }  # fmt: skip
        if count:
            one["absgrad"] = meta["means2d"].absgrad
        one |= {f"gradient of {name}": torch.zeros_like(x) if x.grad is None else x.grad for name, x in leaves.items()}
        if cameras == 1:
            one["composite"] = composite(flat, values["features"].to(device))
            one["pixels"] = pixel_weights(flat, pixels.to(device)) @ values["features"].to(device)
        found.append({name: value.detach().cpu() for name, value in one.items()})
    told = f"{count} Gaussians, {cameras} x {width}x{height}, {mode} {kind} {lens}"
    return [f"{told}: {name}" for name, cpu in found[0].items() if not alike(cpu, found[1][name])]


def alike(cpu: torch.Tensor, cuda: torch.Tensor) -> bool:
    """Whether two answers are one, but for a fiftieth of the numbers: a weight at a threshold falls to either side."""
    if cpu.shape != cuda.shape or bool(cuda.isnan().any()):
        return False
    if cpu.numel() == 0:
        return True
    if not cpu.is_floating_point():
        return float((cpu == cuda).float().mean()) > 0.97
    wrong = (cpu - cuda).abs() > 2e-3 + 2e-3 * cpu.abs().max().clamp_min(1e-3)
    return float(wrong.float().mean()) < 0.02


WINDOW = 25
"""Steps between two looks at the clock."""


Command = Union[  # noqa: UP007  tyro reads the members' annotations
    Annotated[Frame, tyro.conf.subcommand("frame")],
    Annotated[Steps, tyro.conf.subcommand("steps")],
    Annotated[Fuzz, tyro.conf.subcommand("fuzz")],
]

if __name__ == "__main__":
    tyro.cli(Command).main()
