"""The tree of parts, objects and groups: what it finds, and what it takes.

    python benchmarks/tree.py quality --scene SCENE --masks sam_mild/amg --geometry RUN [--beside SAGA_CONFIG]
    python benchmarks/tree.py growth --scene SCENE --masks sam_mild/amg --geometry RUN
    python benchmarks/tree.py room --scene room

`quality` lifts overlapping masks onto given Gaussians and prints, with nothing else to run: the whole scene at the
default cut, at the leaves and at the roots against the ground truth of each level; single clicks on parts, objects and
groups (`gseg bench clicks`), beside the ceiling of the same Gaussians and, of `--beside`, further runs such as saga's;
processor seconds of the tree without the pass over the views. `growth` times the tree on 22 to 300 of the views (those
of the scene again and again, each time without a tenth of their masks) and prints the exponent in masks, and memory.
`room` prints the quality of a large room of `gseg demo`, which it makes where it is not there (hours of one core), on
Gaussians that lie on the very surfaces: what is measured is the tree, and not a splat.
"""

from __future__ import annotations

import copy
import importlib
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union

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
    frame: Literal["nerfstudio", "original"] = "nerfstudio"
    """Coordinates of a PLY"""

    def config(self, folder: Path) -> Any:
        """Of a run of gaga with a tree, below a folder."""
        from gseg_ns.method_configs.gaga import gaga

        config = copy.deepcopy(gaga.config)
        config.data, config.output_dir = self.scene, folder
        config.pipeline.datamanager.masks_dir = Path(self.masks)
        config.pipeline.model.geometry, config.pipeline.model.association = self.geometry, "tree"
        config.pipeline.model.geometry_frame = self.frame
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
    levels: tuple[str, ...] = ("best", "part", "group")
    """Cuts to score"""

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
            for name, scale, level in (one for one in LEVELS if one[0] in self.levels):
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
class Room:
    """What the tree finds in a large room of the demo."""

    scene: Path
    """Folder of the room"""
    objects: int = 500
    """Objects in it"""
    views: int = 206
    """Photographs"""
    width: int = 512
    """Their width"""
    seed: int = 11
    """Of the room"""
    first: int = 0
    """Take only so many photographs, from the first on; 0: all"""
    gaussians: int = 500_000
    """Discs on its surfaces, a fifth of them on floor and walls"""

    def main(self) -> None:
        """Make what is missing, lift and print."""
        from gseg_ns.demo import write_demo_scene
        from gseg_ns.demo.cameras import make_cameras
        from gseg_ns.demo.layout import make_layout
        from gseg_ns.demo.scene import _transforms
        from gseg_ns.splats.ply import write_ply

        height = self.width * 3 // 4
        if not (self.scene / "images").is_dir():
            write_demo_scene(
                self.scene,
                num_objects=self.objects,
                num_views=self.views,
                width=self.width,
                height=height,
                seed=self.seed,
            )
        layout = make_layout(self.objects, self.seed)
        meta = _transforms(make_cameras(layout, self.views, self.width, height))
        if self.first:
            meta["frames"] = meta["frames"][: self.first]
            kept = {frame["file_path"] for frame in meta["frames"]}
            for split in ("train", "val", "test"):
                meta[f"{split}_filenames"] = [name for name in meta[f"{split}_filenames"] if name in kept]
            meta.pop("ply_file_path")
        (self.scene / "transforms.json").write_text(json.dumps(meta), encoding="utf-8")
        splat = self.scene / "surfaces.ply"
        write_ply(splat, surface_splats(layout, self.gaussians))
        Quality(self.scene, "masks", splat, frame="original", clicks=False, levels=("best", "part")).main()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{time.process_time():.0f} s of processor time and at most {peak:.2f} GiB in all")


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


def surface_splats(layout: Any, count: int) -> Any:
    """Flat discs that cover the surfaces of a demo room, a fifth of them floor and walls: `Splats`."""
    from gseg_ns.demo.render import parts_of
    from gseg_ns.splats import Splats

    corners, room = [], []
    for instance, part, rotation, position in parts_of(layout):
        placed = part.mesh.vertices @ rotation.T + position
        corners.append(placed[part.mesh.triangles])
        room.append(np.full(len(part.mesh.triangles), instance > len(layout.objects)))
    triangles, outside = np.concatenate(corners), np.concatenate(room)
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    areas = np.linalg.norm(normals, axis=1) / 2
    generator = np.random.default_rng(0)
    means, axes, scales = [], [], []
    for those, number in ((outside, count // 5), (~outside, count - count // 5)):
        chosen = generator.choice(np.flatnonzero(those), number, p=areas[those] / areas[those].sum())
        u, v = generator.random((2, number))
        u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
        first, second, third = triangles[chosen].transpose(1, 0, 2)
        means.append(first + u[:, None] * (second - first) + v[:, None] * (third - first))
        axes.append(normals[chosen] / np.maximum(2 * areas[chosen], 1e-12)[:, None])
        scales.append(np.full(number, 0.5 * np.sqrt(areas[those].sum() / number)))
    normal, size = torch.from_numpy(np.concatenate(axes)).float(), torch.from_numpy(np.concatenate(scales)).float()
    # The half turn that takes z to the normal.
    half = torch.nn.functional.normalize(normal + torch.tensor([1e-4, 0, 1.0]), dim=1)
    return Splats(
        means=torch.from_numpy(np.concatenate(means)).float(),
        quats=torch.cat([torch.zeros(len(half), 1), half], dim=1),
        scales=torch.stack([size, size, 0.05 * size], dim=1).log(),
        opacities=torch.full((count,), 3.0),
        sh=torch.zeros(count, 1, 3),
    )


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
            Annotated[Room, tyro.conf.subcommand("room")],
        ]
    ]

    def main(self) -> None:
        """Run the one that was asked for."""
        self.command.main()


if __name__ == "__main__":
    tyro.cli(Benchmark).main()
