"""Memory on a GPU: every phase of all methods.

    python benchmarks/gpu_memory.py estimate

Where no GPU is at hand the methods run on the phantom GPU of the tests at a part of the size, and the bytes of all
tensors that would be on the card are counted. Where there is one, they run on it, and its allocator counts
(`--part 1`: all Gaussians and pixels).
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Union

import numpy as np
import torch
import tyro
from clock import in_process  # type: ignore[import-not-found]
from PIL import Image

from gseg_ns.errors import GsegError

SUPPORT = Path(__file__).resolve().parents[1] / "tests/support"
METHODS = ("gaga", "saga", "saga-v1", "unified-lift", "gradiseg")


@dataclass
class Size:
    """What the memory of a GPU is estimated for."""

    gaussians: int = 3_000_000
    views: int = 300
    pixels: int = 2_000_000
    """Of a photograph"""
    objects: int = 500
    free: float = 10e9
    """Bytes of the card that are free: photographs that would take too much of them stay beside it"""

    def photographs_beside(self) -> bool:
        """Whether the datamanager keeps the photographs and label maps of all views in the host's memory."""
        from gseg_ns.data.datamanager import BYTES, GPU_SHARE

        return BYTES["uint8"] * self.pixels * self.views > GPU_SHARE * self.free


@dataclass
class Estimate:
    """Estimate the memory of every phase of all methods on a GPU, from the shapes of their tensors.

    Each method runs on the phantom GPU of the tests with a part of the Gaussians and of the pixels, the caches and
    blocks of that part, and all objects; what is on the card is counted, and the peak divided by the part. Twice, with
    few views and twice as many, for what each further view adds. Counted are tensors, and what gsplat sorts in; CUDA's
    own context (some 0.5 GB) and what torch's allocator loses by fragmentation are not.
    """

    methods: tuple[str, ...] = METHODS
    """Which"""
    size: Size = field(default_factory=Size)
    """Of the scene"""
    part: float = 1 / 64
    """Part of its Gaussians and pixels that are there"""
    views: int = 4
    """Views of the smaller run"""

    def main(self) -> None:
        """Print the table, in GB."""
        print(f"{'':14}{'':34}{'GB':>6}   of these a view (MB)")
        for method in self.methods:
            few, many = (self._run(method, views) for views in (self.views, 2 * self.views))
            for phase, (peak, kept) in few.items():
                each = max(many[phase][1] - kept, 0) / self.views / self.part
                total = peak / self.part + each * (self.size.views - self.views)
                print(f"{method:14}{phase:34}{total / 1e9:6.2f}   {each / 1e6:.2f}", flush=True)

    def _run(self, method: str, views: int) -> dict[str, tuple[int, int]]:
        options = {
            "method": method, "gaussians": round(self.size.gaussians * self.part),
            "pixels": round(self.size.pixels * self.part), "objects": self.size.objects, "views": views,
            "part": self.part, "all-views": self.size.views,
        }  # fmt: skip
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        words += ["--beside", str(self.size.photographs_beside())]
        paths = os.pathsep.join(filter(None, [str(SUPPORT), os.environ.get("PYTHONPATH")]))
        environment = {"PYTHONPATH": paths}
        output, _, _ = in_process([sys.executable, __file__, "one", *words], environment)
        found: dict[str, tuple[int, int]] = json.loads(output.splitlines()[-1])
        return found


@dataclass
class One:
    """A method on the GPU, or the phantom, in this process."""

    method: str
    gaussians: int
    pixels: int
    objects: int
    views: int
    part: float
    all_views: int
    beside: bool
    """Photographs and label maps stay in the host's memory."""

    def main(self) -> None:
        """Print the peak bytes of each phase, and what is left at its end, as JSON."""
        ledger: Ledger
        if torch.cuda.is_available():
            ledger = CardLedger()
        else:
            ledger = PhantomLedger()
            ledger.install()
        with tempfile.TemporaryDirectory() as folder:
            self._shrink_blocks()
            # Some are missing, so that a densification, which takes memory, comes to exactly the bound.
            points = round(0.9 * self._bound())
            write_shell(Path(folder) / "scene", points, self.pixels, self.views, self.objects)
            trainer = self._trainer(Path(folder))
            joint = not trainer.pipeline.model.two_phases
            (self._joint if joint else self._two_phases)(trainer, ledger)
            model = trainer.pipeline.model
            if self.method in ("gaga", "gradiseg") and model.num_groups < 2:
                raise GsegError("The masks were not associated: what groups take would be missing from the estimate.")
            ledger.phase("label image and groups")
            model.eval()
            model.label_image(trainer.pipeline.datamanager.camera(0))
            model.gaussian_groups()
            ledger.end()
        print(json.dumps(ledger.peaks))

    def _shrink_blocks(self) -> None:
        """What is done a block at a time is of the same size with any number of Gaussians."""
        import importlib

        for path, name in (
            ("neighbours", "BLOCK"),
            ("lifting.blocks", "SCORES"),
            ("models.gradiseg", "LOSS_SCORES"),
            ("rendering.contributions_cuda", "_PIXELS"),
            ("rendering.pixel_weights", "_SPREAD"),
        ):
            module = importlib.import_module(f"gseg_ns.{path}")
            setattr(module, name, max(int(getattr(module, name) * self.part), 64))

    def _config(self) -> Any:
        import copy
        import importlib

        name = self.method.replace("-", "_")
        return copy.deepcopy(getattr(importlib.import_module(f"gseg_ns.method_configs.{name}"), name).config)

    def _bound(self) -> int:
        """Of the densification; borders are split beyond it, to the number that is asked for."""
        return round(self.gaussians / (1 + getattr(self._config().pipeline.model, "igd_growth", 0)))

    def _trainer(self, folder: Path) -> Any:
        config = self._config()
        config.data = config.pipeline.datamanager.data = folder / "scene"
        config.output_dir, config.timestamp, config.vis = folder / "out", "run", "tensorboard"
        if self.beside:
            config.pipeline.datamanager.cache_images = "cpu"
        config.max_num_iterations = STEPS
        config.logging.local_writer.enable = False
        config.viewer.quit_on_train_completion = True
        for what in ("eval_batch", "eval_image", "eval_all_images", "save"):
            setattr(config, f"steps_per_{what}", 10**9)
        model = config.pipeline.model
        model.max_gaussians, model.num_downscales, model.sh_degree_interval = self._bound(), 0, 1
        model.warmup_length, model.refine_every = 0, 6
        model.densify_grad_thresh = 0.0
        # Twice this is what opacities are reset to: of Gaussians that nobody sees no view says anything.
        model.cull_alpha_thresh = 0.04
        model.cull_scale_thresh = 1e9
        share = self.part * self.views / self.all_views
        if self.method == "saga":
            model.affinity = replace(model.affinity, cache_gib=model.affinity.cache_gib * share)
        elif self.method in ("gaga", "saga-v1"):
            model.cache_gib *= share
        if hasattr(model, "neighbour_samples"):  # as many whatever the number of Gaussians, as the blocks
            model.neighbour_samples = max(round(model.neighbour_samples * self.part), 8)
        if self.method == "gaga":
            model.strengths = replace(model.strengths, max_bytes=model.strengths.max_bytes * share, steps=4)
        if self.method == "saga-v1":
            model.guidance_weight = 0.0
        if self.method == "unified-lift":
            model.num_codes = self.objects
            model.codebook_start = 0.25  # within the steps that are taken
        trainer = config.setup(local_rank=0, world_size=1)
        config.save_config()
        trainer.setup()
        return trainer

    def _two_phases(self, trainer: Any, ledger: Ledger) -> None:
        model = trainer.pipeline.model
        ledger.phase("geometry")
        for number in (*range(8), 18, 19):  # opacities are reset once, and more Gaussians made
            one_step(trainer, number)
        first = model.geometry_steps
        ledger.phase("association" if self.method == "gaga" else "set-up")
        one_step(trainer, first)
        ledger.phase("features")
        for number in range(first + 1, first + 3):
            one_step(trainer, number)
        for view in range(self.views):  # fills the caches
            model.feature_losses(view)
        for number in range(first + 3, first + 5):
            one_step(trainer, number)

    def _joint(self, trainer: Any, ledger: Ledger) -> None:
        ledger.phase("geometry")
        for number in range(5):
            one_step(trainer, number)
        ledger.phase("joint, with association" if self.method == "gradiseg" else "joint")
        # Every view is visited; steps beyond are one step again, since more of them would densify more often.
        for number in range(STEPS // 4, STEPS // 4 + 2 + 2 * self.views):
            one_step(trainer, min(number, STEPS // 4 + 9))
        if self.method == "gradiseg":
            ledger.phase("joint, borders split")
            for number in range(STEPS // 2 - 14, STEPS // 2):
                one_step(trainer, number)


STEPS = 80
"""Of a run that stands for a whole one: every milestone is a part of it."""


def one_step(trainer: Any, number: int) -> None:
    """One training step with its callbacks, without the loop around it."""
    from nerfstudio.engine.callbacks import TrainingCallbackLocation as Location

    trainer.step = number
    trainer.pipeline.train()
    for callback in trainer.callbacks:
        callback.run_callback_at_location(number, location=Location.BEFORE_TRAIN_ITERATION)
    trainer.train_iteration(number)
    for callback in trainer.callbacks:
        callback.run_callback_at_location(number, location=Location.AFTER_TRAIN_ITERATION)


class Ledger:
    """Bytes of tensors on the GPU, and their peak in each phase."""

    def __init__(self) -> None:
        self.peaks: dict[str, tuple[int, int]] = {}
        """Of each phase, and what is left at its end."""
        self._phase = ""

    def phase(self, name: str) -> None:
        """Begin a phase."""
        self.end()
        self._phase = name
        self.restart()

    def end(self) -> None:
        """End the phase."""
        if self._phase:
            self.peaks[self._phase] = self.count()
        self._phase = ""

    def restart(self) -> None:
        """Let the peak be what there is now."""
        raise NotImplementedError

    def count(self) -> tuple[int, int]:
        """Peak since then, and what there is now."""
        raise NotImplementedError


class CardLedger(Ledger):
    """What torch's allocator counts on a GPU that is there."""

    def restart(self) -> None:
        torch.cuda.reset_peak_memory_stats()

    def count(self) -> tuple[int, int]:
        return torch.cuda.max_memory_allocated(), torch.cuda.memory_allocated()


class PhantomLedger(Ledger):
    """What tensors on the phantom GPU would take."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0

    def install(self) -> None:
        """Let there be a phantom GPU, and watch it."""
        import phantom_cuda  # type: ignore[import-not-found]

        self.watch()
        phantom_cuda.install()
        self.watch_sorting()

    def restart(self) -> None:
        self.peak = self.now

    def count(self) -> tuple[int, int]:
        return self.peak, self.now

    def add(self, size: int) -> None:
        """Note that memory was taken, or given back."""
        self.now += size
        self.peak = max(self.peak, self.now)

    def watch(self) -> None:
        """Hear of everything that gets onto the phantom GPU."""
        import weakref

        counted: set[int] = set()

        def gone(name: int, size: int) -> None:
            counted.discard(name)
            self.add(-size)

        def seen(storage: Any) -> None:
            if id(storage) not in counted:
                counted.add(id(storage))
                self.add(storage.nbytes())
                weakref.finalize(storage, gone, id(storage), storage.nbytes())

        def mark(storage: Any, value: bool) -> None:
            storage.__dict__["phantom"] = value
            seen(storage)

        # The mark is an attribute of a storage; both places that set it do so by name.
        torch.UntypedStorage.phantom = property(  # type: ignore[attr-defined]
            lambda storage: "phantom" in storage.__dict__, mark
        )

    def watch_sorting(self) -> None:
        """Count what gsplat sorts (tile, depth) pairs in: both lists once more, and as much to work with."""
        module = sys.modules["gsplat.csrc"]
        original = module.isect_tiles  # type: ignore[attr-defined]

        def counted(*arguments: Any) -> Any:
            found = original(*arguments)
            size = 2 * sum(part.numel() * part.element_size() for part in found[1:])
            self.add(size)
            self.add(-size)
            return found

        module.isect_tiles = counted  # type: ignore[attr-defined]


def write_shell(folder: Path, gaussians: int, pixels: int, views: int, objects: int) -> None:
    """Points on the inside of a ball, parted into objects, seen from its middle: labels follow from directions."""
    from scipy.spatial import cKDTree

    from gseg_ns.masks import write_label_map
    from gseg_ns.splats.points import write_points

    rng = np.random.default_rng(0)
    height = max(round(math.sqrt(pixels * 3 / 4)), 8)
    width = max(round(pixels / height), 8)
    focal = width / 2
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    ways = rng.standard_normal((gaussians, 3))
    points = ways / np.linalg.norm(ways, axis=1, keepdims=True) * rng.uniform(2.9, 3.1, (gaussians, 1))
    write_points(folder / "points3D.ply", points, rng.integers(0, 255, (gaussians, 3)).astype(np.uint8))
    seeds = rng.standard_normal((objects, 3))
    tree = cKDTree(seeds / np.linalg.norm(seeds, axis=1, keepdims=True))
    y, x = np.mgrid[:height, :width] + 0.5
    rays = np.stack([(x - width / 2) / focal, (height / 2 - y) / focal, -np.ones_like(x)], axis=-1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    frames = []
    for view in range(views):
        angle, pose = view * np.pi / 6, np.eye(4)  # views overlap: masks are associated by what two of them show
        cos, sin = np.cos(angle), np.sin(angle)
        pose[:3, :3] = [[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]
        pose[:3, 3] = 0.05 * rng.standard_normal(3)
        labels = tree.query(rays @ pose[:3, :3].T)[1] + 1
        write_label_map(folder / f"masks/{view:05d}.png", torch.from_numpy(labels.astype(np.int32)))
        noise = rng.integers(0, 255, (height, width, 3)).astype(np.uint8)
        Image.fromarray(noise).save(folder / f"images/{view:05d}.png")
        frames.append({"file_path": f"images/{view:05d}.png", "transform_matrix": pose.tolist()})
    images = [frame["file_path"] for frame in frames]
    meta = {
        "camera_model": "OPENCV", "w": width, "h": height, "cx": width / 2, "cy": height / 2, "fl_x": focal,
        "fl_y": focal, "k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0, "ply_file_path": "points3D.ply", "frames": frames,
        "train_filenames": images, "test_filenames": images[:1],
    }  # fmt: skip
    (folder / "transforms.json").write_text(json.dumps(meta), encoding="utf-8")


Command = Union[  # noqa: UP007  tyro reads the members' annotations
    Annotated[Estimate, tyro.conf.subcommand("estimate")],
    Annotated[One, tyro.conf.subcommand("one")],
]

if __name__ == "__main__":
    tyro.cli(Command).main()
