"""The tree of parts, objects and groups: what it finds, and what it takes.

    python benchmarks/tree.py quality --scene SCENE --masks sam_mild/amg --geometry RUN [--beside SAGA_CONFIG]
    python benchmarks/tree.py growth --scene SCENE --masks sam_mild/amg --geometry RUN

`quality` lifts overlapping masks onto given Gaussians and prints, with nothing else to run: the whole scene at the
default cut, at the leaves and at the roots against the ground truth of each level; single clicks on parts, objects and
groups (`gseg bench clicks`), beside the ceiling of the same Gaussians and, of `--beside`, further runs such as saga's;
processor seconds of the tree without the pass over the views. `growth` times the tree on 22 to 300 of the views (those
of the scene again and again, each time without a tenth of their masks) and prints the exponent in masks, and memory.
"""

from __future__ import annotations

import copy
import importlib
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Union

import numpy as np
import torch
import tyro

LEVELS = (("best", None, "instance"), ("part", 0.0, "part"), ("group", 1.0, "group"))
"""Cut, its scale, and the folder of ground truth that it is scored against."""


@dataclass
class Asked:
    """What is put into a tree."""

    scene: Path
    """Scene folder"""
    masks: str
    """Folder of overlapping masks within it"""
    geometry: Path
    """Trained Gaussians of it: a 3DGS PLY or a run"""

    def config(self, folder: Path) -> Any:
        """Of a run of gaga with a tree, below a folder."""
        from gseg_ns.method_configs.gaga import gaga

        config = copy.deepcopy(gaga.config)
        config.data, config.output_dir = self.scene, folder
        config.pipeline.datamanager.masks_dir = Path(self.masks)
        config.pipeline.model.geometry, config.pipeline.model.association = self.geometry, "tree"
        return config


@dataclass
class Quality(Asked):
    """What the tree finds."""

    beside: tuple[Path, ...] = ()
    """config.yml of further runs to click on, such as saga's without a tree"""
    ground_truth: Path = Path("gt")
    """Folder of the label maps `instance`, `part`, `object` and `group` within the scene"""
    clicks: bool = True
    """Click, which takes longest"""

    def main(self) -> None:
        """Lift and print."""
        from gseg_ns.benchmarking.scoring import score_labels
        from gseg_ns.cli.bench import Clicks
        from gseg_ns.runs.lifted import lift_run
        from gseg_ns.runs.run import load_run

        truth = self.scene / self.ground_truth
        with tempfile.TemporaryDirectory() as folder:
            with timed_tree() as seconds:
                config = lift_run(self.config(Path(folder))).config_path
            run = load_run(config)
            model: Any = run.model
            tree = model.tree()
            assert tree is not None
            print(f"{len(tree)} nodes; {seconds[0]:.1f} s of processor time for the tree")
            print("| cut | ground truth | IoU | precision | recall | PQ | groups | ceiling: IoU | precision | recall |")
            print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
            for name, scale, level in LEVELS:
                views = list(run.truth(truth / level, "test", pixels="photograph"))
                found = [run.labels_on_photograph(view, scale).cpu() for view, _ in views]
                scores = score_labels(found, [labels for _, labels in views])
                lifted = ceiling_labels(run, truth / level)
                drawn = [model.heaviest_image(view.camera, lifted).cpu() for view, _ in views]
                top = score_labels(drawn, [labels for _, labels in views])
                cells = [f"{scores[key]:.1f}" for key in ("iou", "precision", "recall", "pq")]
                cells += [str(scores["num_pred"]), *(f"{top[key]:.1f}" for key in ("iou", "precision", "recall"))]
                print(f"| {name} | {level} | {' | '.join(cells)} |", flush=True)
            if self.clicks:
                folders = [truth / level for level in ("part", "object", "group")]
                Clicks(config, folders, beside=self.beside).main()


@dataclass
class Growth(Asked):
    """What the tree takes."""

    views: tuple[int, ...] = (22, 44, 88, 176, 300)
    """Numbers of views"""
    dropped: float = 0.1
    """Share of the masks that a view lacks when it comes again"""

    def main(self) -> None:
        """Grow trees and print."""
        from gseg_ns.lifting.tree import grow_tree
        from gseg_ns.lifting.votes import VoteStore

        asked, count = self._asked()
        generator = np.random.default_rng(0)
        print("| views | masks | seconds | peak GiB | nodes |\n|---:|---:|---:|---:|---:|")
        sizes, times = [], []
        for wanted in self.views:
            votes, members, foremost = VoteStore(), [], []
            for place in range(wanted):
                number = len(asked.votes)
                view = place * number // wanted if wanted < number else place % number
                covers = asked.members[view]
                kept = torch.from_numpy(generator.random(covers.shape[1]) >= self.dropped)
                votes.append(asked.votes[view])
                members.append(covers if place < number else covers[:, kept])
                foremost.append(asked.foremost[view])
            started = time.process_time()
            tree = grow_tree(votes, members, foremost, count)
            times.append(time.process_time() - started)
            sizes.append(sum(covers.shape[1] for covers in members))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(f"| {wanted} | {sizes[-1]} | {times[-1]:.1f} | {peak:.2f} | {len(tree)} |", flush=True)
        exponent = np.polyfit(np.log(sizes), np.log(times), 1)[0]
        print(f"seconds grow with masks to the power of {exponent:.2f}")

    def _asked(self) -> tuple[Any, int]:
        """What the views say, and the number of Gaussians."""
        with tempfile.TemporaryDirectory() as folder:
            config = self.config(Path(folder))
            config.pipeline.datamanager.data = self.scene
            config.set_timestamp()
            pipeline = config.pipeline.setup(device="cpu", test_mode="val")
            pipeline.model.use_masks(pipeline.datamanager)
            return pipeline.model.ask_masks(), pipeline.model.num_points


def ceiling_labels(run: Any, ground_truth: Path) -> torch.Tensor:
    """What the ground truth of the training views votes each Gaussian to be: [N] int64."""
    from gseg_ns.data.cameras import to_camera
    from gseg_ns.evaluation.overlap import resize_nearest
    from gseg_ns.lifting.votes import VoteStore, lift, view_votes
    from gseg_ns.splats.projection import project_splats

    splats, votes, maps = run.model.splats(), VoteStore(), []
    for view, labels in run.truth(ground_truth, "train", required=False):
        camera = to_camera(run.model.corrected(view.camera))
        maps.append((camera, resize_nearest(labels, camera.height, camera.width).long()))
    ids = torch.cat([torch.zeros(1, dtype=torch.long), *(labels.unique() for _, labels in maps)]).unique()
    for camera, labels in maps:
        votes.append(view_votes(project_splats(splats, camera), torch.searchsorted(ids, labels)))
    return ids[lift(votes, [torch.arange(len(ids))] * len(maps), len(ids) - 1, len(splats)).labels]


@contextmanager
def timed_tree() -> Iterator[list[float]]:
    """Measure the processor seconds of `grow_tree` in models, within this block."""
    trees: Any = importlib.import_module("gseg_ns.models.trees")
    grow, seconds = trees.grow_tree, []

    def measured(*arguments: Any) -> Any:
        started = time.process_time()
        found = grow(*arguments)
        seconds.append(time.process_time() - started)
        return found

    trees.grow_tree = measured
    try:
        yield seconds
    finally:
        trees.grow_tree = grow


@dataclass
class Benchmark:
    """The tree of parts, objects and groups."""

    command: tyro.conf.OmitSubcommandPrefixes[
        Union[  # noqa: UP007  tyro reads the members' annotations
            Annotated[Quality, tyro.conf.subcommand("quality")],
            Annotated[Growth, tyro.conf.subcommand("growth")],
        ]
    ]

    def main(self) -> None:
        """Run the one that was asked for."""
        self.command.main()


if __name__ == "__main__":
    tyro.cli(Benchmark).main()
