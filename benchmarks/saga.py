"""SAGA's speed: seconds a step of the feature phase with its peak memory, and prompt-to-selection time.

    python benchmarks/saga.py speed --scene SCENE --geometry SPLAT.ply
    python benchmarks/saga.py prompts

`--geometry` is a trained splat of the scene in Nerfstudio's frame (`gseg export`, or a PLY of any Splatfacto run). The
feature phase is the one that `ns-train saga` runs, without Nerfstudio's trainer around it. Quality is measured by
`gseg bench`: `clicks`, `ablation saga`, `ablation saga-v1`.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Union

import numpy as np
import torch
import tyro
from torch import Tensor

from gseg_ns.data.cameras import to_camera
from gseg_ns.dataparsers.gseg_data import GsegDataParserConfig
from gseg_ns.lifting.affinity import ScaleGate
from gseg_ns.lifting.affinity_training import AffinityOptions, AffinityViews
from gseg_ns.lifting.scales import ScaleQuantiles
from gseg_ns.lifting.similarity import similarity
from gseg_ns.masks import MaskFolder, MaskSet, load_masks
from gseg_ns.method_configs.common import FEATURE_LR
from gseg_ns.method_configs.saga import GATE_LR
from gseg_ns.rendering import threads
from gseg_ns.splats import Splats
from gseg_ns.splats.ply import read_ply
from gseg_ns.splats.projection import project_splats

CHANNELS = 32
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WARM_UP = 20
"""Steps before the clock runs: kernels are compiled, caches filled."""


@dataclass
class Speed:
    """Seconds a step of the feature phase, its set-up and peak memory."""

    scene: Path
    """Scene folder"""
    geometry: Path
    """Trained splat of the scene, PLY in Nerfstudio's frame"""
    masks: str = "sam_mild/amg"
    """Mask folder within the scene"""
    steps: int = 300
    """Steps to time"""
    options: AffinityOptions = field(default_factory=AffinityOptions)
    """Options of the feature phase"""
    device: str = DEVICE
    """Where to run"""

    def main(self) -> None:
        """Print the figures."""
        if self.device == "cpu":
            threads.configure()  # as the models do
        torch.manual_seed(0)
        splats = read_ply(self.geometry, drop_invalid=True).to(self.device)
        outputs = GsegDataParserConfig(data=self.scene).setup().get_dataparser_outputs("train")
        count = len(outputs.image_filenames)
        quantiles = ScaleQuantiles().to(self.device)
        before = peak_gib()
        started = time.perf_counter()
        views = AffinityViews(splats.means, self.mask_views(splats, outputs), count, quantiles, self.options, seed=0)
        setup = time.perf_counter() - started
        gate = ScaleGate(CHANNELS).to(self.device)
        features = torch.nn.Parameter(1e-2 * torch.randn(len(splats), CHANNELS, device=self.device))
        groups = [{"params": [features], "lr": FEATURE_LR}, {"params": list(gate.parameters()), "lr": GATE_LR}]
        optimizer = torch.optim.Adam(groups, eps=1e-15, fused=True)

        def step(number: int) -> None:
            losses = views.losses(number % count, features, gate)
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()

        for number in range(WARM_UP):
            step(number)
        self.wait()
        started, processor = time.perf_counter(), time.process_time()
        for number in range(self.steps):
            step(WARM_UP + number)
        self.wait()
        seconds = (time.perf_counter() - started) / self.steps
        processor = (time.process_time() - processor) / self.steps
        print(
            f"{len(splats)} Gaussians, {count} views: "
            f"set-up {setup:.1f} s, {1000 * seconds:.1f} ms a step ({1000 * processor:.1f} ms of processor time), "
            f"10000 steps {10000 * seconds / 60:.1f} min, peak {peak_gib():.2f} GiB (before set-up {before:.2f})"
        )

    def mask_views(self, splats: Splats, outputs: Any) -> Iterator[tuple[int, dict[str, Any], Tensor, MaskSet]]:
        """What `AffinityViews` takes."""
        files = MaskFolder(self.scene / self.masks).match(outputs.image_filenames)
        for view, file in enumerate(files):
            if file is not None:
                camera = to_camera(outputs.cameras[view : view + 1]).to(self.device)
                masks = load_masks(file, (camera.height, camera.width))
                yield view, project_splats(splats, camera), camera.K, masks

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device == "cuda":
            torch.cuda.synchronize()


@dataclass
class Prompts:
    """Time from a prompt to its selection, beside the memory's own speed."""

    gaussians: int = 1_000_000
    """Gaussians that a prompt is matched with"""
    device: str = DEVICE
    """Where to run"""

    def main(self) -> None:
        """Print the figures, with torch's own threads and with one, which the models set on the CPU."""
        features, query, gate = (
            torch.randn(*shape, device=self.device)
            for shape in ((self.gaussians, CHANNELS), (1, CHANNELS), (CHANNELS,))
        )
        tasks: dict[str, Callable[[], object]] = {
            "prompt to selection": lambda: similarity(features, query, gate.sigmoid()) > 0.75,
            "reading the features once": features.sum,
        }
        for count in sorted({torch.get_num_threads(), 1}, reverse=True):
            torch.set_num_threads(count)
            for name, task in tasks.items():
                seconds = float(np.median([self.timed(task) for _ in range(21)][1:]))
                rate = features.nbytes / seconds / 2**30
                print(
                    f"{name}, {self.gaussians} x {CHANNELS}, {count} torch threads: "
                    f"{1000 * seconds:.2f} ms ({rate:.1f} GiB/s)"
                )

    def timed(self, task: Callable[[], object]) -> float:
        """Seconds of one call."""
        started = time.perf_counter()
        task()
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started


def peak_gib() -> float:
    """Peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


Command = Union[  # noqa: UP007  tyro reads the members' annotations
    Annotated[Speed, tyro.conf.subcommand("speed")],
    Annotated[Prompts, tyro.conf.subcommand("prompts")],
]

if __name__ == "__main__":
    tyro.cli(Command).main()
