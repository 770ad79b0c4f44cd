"""What users wait for before and between steps: reading masks at the start, saga's set-up, the viewer's first frame.

    python benchmarks/preparing.py scene --scene SCENE --geometry SPLAT.ply --output LARGE
    python benchmarks/preparing.py start --scene LARGE            # twice: the second start finds the first's work
    python benchmarks/preparing.py saga --scene LARGE
    python benchmarks/preparing.py select --scene LARGE

`scene` makes a large scene out of a small one: photographs and masks enlarged, masks cut into parts until there are
enough, each Gaussian replaced by several beside each other. The other commands print seconds of processor time.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Union

import numpy as np
import torch
import tyro
from PIL import Image

from gseg_ns.masks import MaskFolder, MaskSet, load_masks, write_mask_set

SPLAT = "splat.ply"


@contextmanager
def clock(what: str, parts: int = 1) -> Iterator[None]:
    """Print the processor time of a block, all threads together, and its seconds."""
    started, processor = time.perf_counter(), time.process_time()
    yield
    seconds, processor = time.perf_counter() - started, time.process_time() - processor
    each = f", {processor / parts:.3f} s each of {parts}" if parts > 1 else ""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{what}: {processor:.2f} s of processor time{each}; {seconds:.2f} s passed; peak {peak:.2f} GiB", flush=True)


@dataclass
class Scene:
    """Make a large scene."""

    scene: Path
    """A scene in Nerfstudio's format"""
    geometry: Path
    """Splat of it, PLY in Nerfstudio's frame"""
    output: Path
    """Folder of the large scene"""
    masks: str = "sam_mild/amg"
    """Mask folder within the scene"""
    views: int = 22
    """Views; those of the small scene again and again, with other scores of their masks"""
    scale: int = 3
    """How many times as wide and high"""
    count: int = 130
    """Masks a view"""
    gaussians: int = 1_000_000
    """Gaussians; 0: no splat"""

    def main(self) -> None:
        """Write the scene."""
        from gseg_ns.splats.ply import read_ply, write_ply

        meta = json.loads((self.scene / "transforms.json").read_text(encoding="utf-8"))
        for name in ("w", "h", "fl_x", "fl_y", "cx", "cy"):
            meta[name] *= self.scale
        frames = meta["frames"]
        files = MaskFolder(self.scene / self.masks).match([Path(frame["file_path"]) for frame in frames])
        usable = [(frame, file) for frame, file in zip(frames, files, strict=True) if file is not None]
        (self.output / "images").mkdir(parents=True, exist_ok=True)
        (self.output / "masks").mkdir(exist_ok=True)
        made = []
        for view in range(self.views):
            frame, file = usable[view * len(usable) // self.views if self.views < len(usable) else view % len(usable)]
            size = (meta["w"], meta["h"])
            if not (self.output / f"images/{view:05d}.jpg").exists():
                with Image.open(self.scene / frame["file_path"]) as image:
                    image.convert("RGB").resize(size).save(self.output / f"images/{view:05d}.jpg")
            masks = self._parts(load_masks(file)).resize(size[1], size[0])
            shifted = masks.scores + 1e-5 * (view // len(usable))
            write_mask_set(self.output / f"masks/{view:05d}.json", replace(masks, scores=shifted))
            made.append({**frame, "file_path": f"images/{view:05d}.jpg"})
        for name in ("train_filenames", "test_filenames", "val_filenames", "ply_file_path"):
            meta.pop(name, None)
        images = [frame["file_path"] for frame in made]
        meta |= {"frames": made, "train_filenames": images, "test_filenames": images[:1]}
        (self.output / "transforms.json").write_text(json.dumps(meta), encoding="utf-8")
        if self.gaussians:
            splats = read_ply(self.geometry, drop_invalid=True)
            times = -(-self.gaussians // len(splats))
            generator = torch.Generator().manual_seed(0)
            rows = torch.arange(len(splats)).repeat_interleave(times)[: self.gaussians]
            many = splats.subset(rows)
            noise = torch.randn(many.means.shape, generator=generator)
            means = many.means + 0.6 * many.scales.exp() * noise
            smaller = many.scales - float(np.log(times)) / 3
            write_ply(self.output / SPLAT, replace(many, means=means, scales=smaller))

    def _parts(self, masks: MaskSet) -> MaskSet:
        """As many masks as are wanted: the largest are halved until there are."""
        arrays = [mask.numpy() for mask in masks.decode()]
        scores, areas = masks.scores.tolist(), masks.areas.tolist()
        whole = list(range(len(arrays)))
        while len(arrays) < self.count and whole:
            index = max(whole, key=areas.__getitem__)
            whole.remove(index)
            rows, columns = np.nonzero(arrays[index])
            if len(rows) < 200:
                continue
            lower = rows > np.median(rows) if np.ptp(rows) > np.ptp(columns) else columns > np.median(columns)
            for half in (lower, ~lower):
                part = np.zeros_like(arrays[index])
                part[rows[half], columns[half]] = True
                whole.append(len(arrays))
                arrays.append(part)
                areas.append(int(half.sum()))
                scores.append(scores[index] - 0.01)
        return MaskSet.from_arrays(np.stack(arrays[: self.count]), scores[: self.count])


def manager(scene: Path) -> Any:
    """The datamanager of a training."""
    from gseg_ns.data.datamanager import MaskDatamanagerConfig
    from gseg_ns.dataparsers.gseg_data import GsegDataParserConfig

    return MaskDatamanagerConfig(data=scene, dataparser=GsegDataParserConfig(data=scene)).setup(device="cpu")


@dataclass
class Start:
    """Read and paint all masks, as every training and lift does first."""

    scene: Path
    """A large scene"""

    def main(self) -> None:
        """Print the time."""
        data = manager(self.scene)
        with clock("masks of all photographs", len(data.train_dataset)):
            data.require_masks()
        with clock("label maps of all views", len(data.train_dataset)):
            total = sum(int(data.labels(view).long().sum()) for view in range(len(data.train_dataset)))
        print(f"sum of all labels {total}")


@dataclass
class Saga:
    """The set-up of saga's feature phase."""

    scene: Path
    """A large scene"""
    views: int = 0
    """Views to prepare; 0: all"""
    profile: bool = False
    """Also print where the time goes"""

    def main(self) -> None:
        """Print the time."""
        from gseg_ns.data.cameras import to_camera
        from gseg_ns.lifting.affinity_training import AffinityOptions, AffinityViews
        from gseg_ns.lifting.scales import ScaleQuantiles
        from gseg_ns.rendering import threads
        from gseg_ns.splats.ply import read_ply
        from gseg_ns.splats.projection import project_splats

        threads.configure()
        splats = read_ply(self.scene / SPLAT)
        data = manager(self.scene)
        data.require_masks()
        count = self.views or len(data.train_dataset)

        def views(numbers: range) -> Iterator[tuple[int, dict[str, Any], Any, MaskSet]]:
            for view in numbers:
                camera = to_camera(data.camera(view))
                yield view, project_splats(splats, camera), camera.K, data.mask_set(view)

        options, few = AffinityOptions(), splats.subset(torch.arange(len(splats)) % 100 == 0)
        camera = to_camera(data.camera(0))
        warm = [(0, project_splats(few, camera), camera.K, data.mask_set(0))]
        AffinityViews(few.means, warm, 1, ScaleQuantiles(), options)
        quantiles = ScaleQuantiles()
        profiler = None
        if self.profile:
            import cProfile

            profiler = cProfile.Profile()
            profiler.enable()
        with clock(f"saga's set-up, {len(splats)} Gaussians", count):
            AffinityViews(splats.means, views(range(count)), count, quantiles, options)
        if profiler is not None:
            import pstats

            profiler.disable()
            pstats.Stats(profiler).sort_stats("tottime").print_stats(28)
        print(f"scales from {float(quantiles.quantiles[0]):.6f} to {float(quantiles.quantiles[-1]):.6f}")


@dataclass
class Select:
    """Clean, and grow before and after an edit."""

    scene: Path
    """A large scene"""
    selected: int = 224_000
    """Gaussians that are cleaned"""

    def main(self) -> None:
        """Print the times."""
        from gseg_ns.editing.operations import Duplicate, Operation, Remove, begin
        from gseg_ns.rendering import threads
        from gseg_ns.selection.neighbourhood import Neighbourhood
        from gseg_ns.selection.packed import PackedMask
        from gseg_ns.selection.postprocess import clean_up
        from gseg_ns.splats.ply import read_ply

        threads.configure()
        splats = read_ply(self.scene / SPLAT)
        near = (splats.means - splats.means.median(dim=0).values).norm(dim=1)
        mask = near <= near.sort().values[min(self.selected, len(near)) - 1]
        for again in range(2):
            with clock(f"clean of {int(mask.sum())}, {'again' if again else 'first'}"):
                kept = clean_up(splats.means, mask)
        print(f"{int(kept.sum())} kept")
        part = near <= near.sort().values[20_000]
        graph = Neighbourhood(splats.means)
        with clock("first grow"):
            grown = graph.grow(part)
        with clock("second grow"):
            graph.grow(grown)
        packed = PackedMask.pack(part)
        edits: dict[str, Operation] = {
            "removal": Remove(packed),
            "copy": Duplicate(packed, translation=(0.5, 0.0, 0.0)),
        }
        for name, edit in edits.items():
            means = edit(begin(splats)).splats.means
            chosen = torch.cat([part, torch.zeros(len(means) - len(part), dtype=torch.bool)])
            with clock(f"grow after a {name}"):
                after = graph.edited(means) if hasattr(graph, "edited") else Neighbourhood(means)
                grown = after.grow(chosen)
            print(f"{int(grown.sum())} of {len(means)}")


Command = Union[  # noqa: UP007  tyro reads the members' annotations
    Annotated[Scene, tyro.conf.subcommand("scene")],
    Annotated[Start, tyro.conf.subcommand("start")],
    Annotated[Saga, tyro.conf.subcommand("saga")],
    Annotated[Select, tyro.conf.subcommand("select")],
]

if __name__ == "__main__":
    tyro.cli(Command).main()
