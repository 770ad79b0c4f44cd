"""Real size: millions of Gaussians, hundreds of views, a thousand objects. What each stage costs, and how it grows.

    python benchmarks/scale.py scene --output LARGE --gaussians 2000000 --views 88 --objects 1000
    python benchmarks/scale.py stages --scene LARGE
    python benchmarks/scale.py growth

`scene` makes a large scene out of the demo's room, or of a small scene and its splat: photographs and masks enlarged,
masks cut into parts until there are enough, each Gaussian replaced by several beside each other. `stages` runs what
users wait for, each stage in a process of its own, and prints processor seconds (all threads together) and peak
resident memory. `growth` does so on scenes of several sizes and prints the exponents in Gaussians and in views. What a
GPU would need: `gpu_memory.py`.
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import numpy as np
import torch
import tyro
from PIL import Image

from gseg_ns.errors import GsegError
from gseg_ns.masks import MaskFolder, MaskSet, load_masks, write_mask_set

SPLAT = "splat.ply"
GROUPS = "groups.npz"

Stage = Literal["masks", "lift", "command", "export", "decode", "viewer", "edits", "saga"]
STAGES: tuple[Stage, ...] = ("masks", "lift", "command", "export", "decode", "viewer", "edits", "saga")


# ------------------------------------------------------------------------------------------------------- scenes


@dataclass
class Scene:
    """Make a large scene."""

    output: Path
    """Folder of the large scene"""
    scene: Path | None = None
    """A scene in Nerfstudio's format to enlarge; None: a demo room is made"""
    geometry: Path | None = None
    """Splat of that scene, PLY in Nerfstudio's frame; None: a Gaussian on each of its sparse points"""
    masks: str = "masks"
    """Mask folder within the scene"""
    views: int = 22
    """Views; those of the small scene again and again, with other scores of their masks"""
    scale: int = 3
    """How many times as wide and high"""
    count: int = 130
    """Masks a view, where there are large enough ones to be cut; 0: as they are"""
    gaussians: int = 1_000_000
    """Gaussians; 0: no splat"""
    objects: int = 12
    """Objects of the demo room"""
    width: int = 512
    """Width of the demo's photographs, before they are enlarged"""

    def main(self) -> None:
        """Write the scene."""
        if self.scene is not None:
            self._enlarge(self.scene)
            return
        from gseg_ns.demo import write_demo_scene

        with tempfile.TemporaryDirectory() as folder:
            room = Path(folder) / "room"
            # Every 8th view of a demo is held out.
            views = max(self.views * 8 // 7 + 2, 8)
            write_demo_scene(
                room, num_objects=self.objects, num_views=views, width=self.width, height=self.width * 3 // 4
            )
            self._enlarge(room)

    def _enlarge(self, scene: Path) -> None:
        meta = json.loads((scene / "transforms.json").read_text(encoding="utf-8"))
        for name in ("w", "h", "fl_x", "fl_y", "cx", "cy"):
            meta[name] *= self.scale
        frames = meta["frames"]
        files = MaskFolder(scene / self.masks).match([Path(frame["file_path"]) for frame in frames])
        usable = [(frame, file) for frame, file in zip(frames, files, strict=True) if file is not None]
        (self.output / "images").mkdir(parents=True, exist_ok=True)
        (self.output / "masks").mkdir(exist_ok=True)
        made = []
        for view in range(self.views):
            frame, file = usable[view * len(usable) // self.views if self.views < len(usable) else view % len(usable)]
            size = (meta["w"], meta["h"])
            if not (self.output / f"images/{view:05d}.jpg").exists():
                with Image.open(scene / frame["file_path"]) as image:
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
            self._write_splat(scene)

    def _write_splat(self, scene: Path) -> None:
        from gseg_ns.splats.ply import read_ply, write_ply

        splats = point_splats(scene) if self.geometry is None else read_ply(self.geometry, drop_invalid=True)
        times = -(-self.gaussians // len(splats))
        generator = torch.Generator().manual_seed(0)
        rows = torch.arange(len(splats)).repeat_interleave(times)
        if self.gaussians < len(rows):
            rows = rows[torch.randperm(len(rows), generator=generator)[: self.gaussians].sort().values]
        many = splats.subset(rows)
        noise = torch.randn(many.means.shape, generator=generator)
        means = many.means + 0.6 * many.scales.exp() * noise
        smaller = many.scales - math.log(times) / 3
        write_ply(self.output / SPLAT, replace(many, means=means, scales=smaller))

    def _parts(self, masks: MaskSet) -> MaskSet:
        """As many masks as are wanted: the largest are halved until there are."""
        if len(masks) >= self.count:
            return masks.select(torch.arange(len(masks)) < self.count) if self.count else masks
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


def point_splats(scene: Path) -> Any:
    """A Gaussian on each sparse point of a scene, so large that neighbours touch: `Splats`."""
    from gseg_ns.dataparsers.gseg_data import GsegDataParserConfig
    from gseg_ns.neighbours import PointTree
    from gseg_ns.splats import Splats
    from gseg_ns.splats.container import SH_C0

    parsed = GsegDataParserConfig(data=scene).setup().get_dataparser_outputs("train")
    means = parsed.metadata["points3D_xyz"].float()
    colors = parsed.metadata["points3D_rgb"].float() / 255
    distance = PointTree(means).nearest(means, 4)[0][:, 1:].mean(dim=1)
    size = distance.clamp_max(3 * float(distance.median())).clamp_min(1e-6)
    return Splats(
        means=means,
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(len(means), 1),
        scales=(0.7 * size).log()[:, None].repeat(1, 3),
        opacities=torch.full((len(means),), 2.0),
        sh=torch.nn.functional.pad(((colors - 0.5) / SH_C0)[:, None], (0, 0, 0, 15)),
    )


# ------------------------------------------------------------------------------------------------------- clocks


@dataclass
class Row:
    """One figure of a stage."""

    stage: str
    what: str
    seconds: float
    """Processor time of all threads."""
    parts: int = 1
    """What it is counted by: views, mostly."""
    gib: float = 0.0
    """Peak resident memory of the process so far."""

    def line(self) -> str:
        """The row of a table."""
        each = f"{self.seconds / self.parts:10.3f} each of {self.parts}" if self.parts > 1 else ""
        return f"{self.stage:8} {self.what:52} {self.seconds:9.2f} s {self.gib:6.2f} GiB {each}"


class Clock:
    """Gathers the figures of a stage."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.rows: list[Row] = []

    @contextmanager
    def __call__(self, what: str, parts: int = 1) -> Iterator[None]:
        """Note the processor time of a block."""
        before = time.process_time()
        yield
        self.note(what, time.process_time() - before, parts)

    def note(self, what: str, seconds: float, parts: int = 1) -> None:
        """Note a figure."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        self.rows.append(Row(self.stage, what, seconds, parts, peak))


def in_process(arguments: list[str], environment: dict[str, str] | None = None) -> tuple[str, float, float]:
    """Run a command: what it printed, its processor seconds with those of its children, its peak memory in GiB.

    Raises:
        GsegError: it failed.
    """
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            arguments, stdout=said, env={**os.environ, "PYTHONWARNINGS": "ignore", **(environment or {})}
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        output = said.read()
    if process.returncode:
        raise GsegError(f"{' '.join(arguments)} failed ({process.returncode}): {output[-2000:]}")
    return output, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20


# ------------------------------------------------------------------------------------------------------- stages


def manager(scene: Path) -> Any:
    """The datamanager of a training."""
    from gseg_ns.data.datamanager import MaskDatamanagerConfig
    from gseg_ns.dataparsers.gseg_data import GsegDataParserConfig

    return MaskDatamanagerConfig(data=scene, dataparser=GsegDataParserConfig(data=scene)).setup(device="cpu")


def large_splat(scene: Path) -> Any:
    """The Gaussians of a large scene."""
    from gseg_ns.rendering import threads
    from gseg_ns.splats.ply import read_ply

    threads.configure()
    return read_ply(scene / SPLAT)


def thinned(splats: Any) -> Any:
    """A hundredth of the Gaussians: kernels are compiled, or read from the disk, before the clock runs."""
    return splats.subset(torch.arange(len(splats)) % 100 == 0)


def masks_stage(scene: Path, clock: Clock) -> None:
    """Read and paint all masks, as every training and lift does first."""
    data = manager(scene)
    count = len(data.train_dataset)
    with clock("masks and label maps of all photographs", count):
        data.require_masks()
        for view in range(count):
            data.labels(view)


def lift_stage(scene: Path, clock: Clock) -> None:
    """Association and votes, beside a pass over the views that only draws them."""
    from gseg_ns.data.cameras import to_camera
    from gseg_ns.lifting.association import AssociationOptions, associate
    from gseg_ns.lifting.votes import VoteStore, lift, view_votes
    from gseg_ns.rendering import composite
    from gseg_ns.splats.projection import project_splats

    splats, data = large_splat(scene), manager(scene)
    data.require_masks()
    count = len(data.train_dataset)

    @dataclass
    class Seen:
        index: int

        @property
        def camera(self) -> Any:
            return to_camera(data.camera(self.index))

        @property
        def labels(self) -> torch.Tensor:
            return data.labels(self.index)

    views = [Seen(view) for view in range(count)]
    few = thinned(splats)
    warm, said = project_splats(few, views[0].camera), VoteStore()
    composite(warm, torch.zeros(len(few), 3))
    said.append(view_votes(warm, views[0].labels))
    found = associate(AssociationOptions(), few.means, views[:1], said, [0])
    lift(said, found.lookups, found.num_groups, len(few))

    colors = splats.sh[:, 0].contiguous()
    with clock("a pass: project, composite RGB", count):
        for view in views:
            composite(project_splats(splats, view.camera), colors)
    votes = VoteStore()
    with clock("votes", count):
        for view in views:
            votes.append(view_votes(project_splats(splats, view.camera), view.labels))
    with clock("association", count):
        found = associate(AssociationOptions(), splats.means, views, votes, range(count))
    with clock("labels of Gaussians", count):
        lifted = lift(votes, found.lookups, found.num_groups, len(splats))
    seconds = [row.seconds for row in clock.rows]
    clock.note(f"  = {sum(seconds[1:]) / seconds[0]:.2f} passes, {found.num_groups} groups", sum(seconds[1:]), count)
    np.savez(scene / GROUPS, labels=lifted.labels.int().numpy(), confidence=lifted.confidence.numpy())


def lifted_groups(scene: Path) -> torch.Tensor:
    """The groups that the stage `lift` found: [N] int64.

    Raises:
        GsegError: it has not run.
    """
    if not (scene / GROUPS).is_file():
        raise GsegError(f"{scene / GROUPS} is missing: run the stage lift first")
    with np.load(scene / GROUPS) as saved:
        return torch.from_numpy(saved["labels"]).long()


def command_stage(scene: Path, clock: Clock) -> None:
    """`gseg lift`, start-up included."""
    with tempfile.TemporaryDirectory() as folder:
        gseg = str(Path(sys.executable).parent / "gseg")
        options = ["--data", str(scene), "--geometry", str(scene / SPLAT), "--output-dir", folder]
        _, seconds, gib = in_process([gseg, "lift", *options])
    clock.rows.append(Row(clock.stage, "gseg lift, with its strengths and files", seconds, 1, gib))


def export_stage(scene: Path, clock: Clock) -> None:
    """A file for each object, and the table of all."""
    from gseg_ns.objects import object_records
    from gseg_ns.splats.objects import write_objects

    splats, groups = large_splat(scene), lifted_groups(scene)
    removed = torch.zeros(len(splats), dtype=torch.bool)
    with clock("table of objects"):
        records = object_records(splats, groups, None, {}, removed, "scene")
    with tempfile.TemporaryDirectory() as folder, clock(f"files of {len(records)} objects"):
        write_objects(Path(folder) / "objects", splats, groups)


def decode_stage(scene: Path, clock: Clock) -> None:
    """Label images of one frame: of labels, and of encodings."""
    from gseg_ns.data.cameras import to_camera
    from gseg_ns.lifting.identity import IdentityClassifier, initialise_from_labels
    from gseg_ns.rendering import composite, dominant_labels
    from gseg_ns.splats.projection import project_splats

    splats, groups = large_splat(scene), lifted_groups(scene)
    camera = to_camera(manager(scene).camera(0))
    classifier = IdentityClassifier(16)
    with torch.no_grad():
        encodings = initialise_from_labels(groups, int(groups.max()) + 1, 16, classifier)
        few = project_splats(thinned(splats), camera)
        dominant_labels(few, thinned(Numbers(groups)).values)
        classifier.predict(composite(few, encodings[torch.arange(len(splats)) % 100 == 0])[:8])
        meta = project_splats(splats, camera)
        with clock(f"label image of labels, {camera.width}x{camera.height}"):
            dominant_labels(meta, groups)
        with clock("composite encodings"):
            image = composite(meta, encodings)
        with clock(f"decode them, {int(groups.max())} groups"):
            classifier.predict(image)
        with clock("decode all Gaussians"):
            classifier.predict(encodings)


@dataclass
class Numbers:
    """Numbers of Gaussians, which `thinned` takes as it takes these."""

    values: torch.Tensor

    def __len__(self) -> int:
        return len(self.values)

    def subset(self, rows: torch.Tensor) -> Numbers:
        """The chosen ones."""
        return Numbers(self.values[rows])


def viewer_stage(scene: Path, clock: Clock) -> None:
    """First and later frames of the viewer, its list of groups, clicks; of gaga and saga."""
    import copy

    from gseg_ns.data.cameras import to_camera
    from gseg_ns.lifting.identity import initialise_from_labels
    from gseg_ns.method_configs.gaga import gaga
    from gseg_ns.method_configs.saga import saga
    from gseg_ns.viewer.controller import SegmentController

    groups = lifted_groups(scene)
    for method in (gaga, saga):
        config = copy.deepcopy(method.config)
        name = config.method_name
        config.data = config.pipeline.datamanager.data = scene
        config.pipeline.model.geometry = scene / SPLAT
        pipeline = config.pipeline.setup(device="cpu", test_mode="test")
        model = pipeline.model
        model.eval()
        model.step = config.max_num_iterations - 1
        with torch.no_grad():
            if name == "gaga":
                model.voted_labels, model.voted_confidence = groups.int(), torch.ones(len(groups))
                model.num_groups = int(groups.max())
                codes = initialise_from_labels(groups, model.num_groups + 1, 16, model.classifier)
                model.gauss_params["identity"].copy_(codes)
            else:
                generator = torch.Generator().manual_seed(0)
                codes = torch.randn(int(groups.max()) + 1, 32, generator=generator)
                model.gauss_params["affinity"].copy_(codes[groups])
                model.finished.fill_(True)
            camera = pipeline.datamanager.camera(0)
            controller = SegmentController(model)
            for number in ("first", "second"):
                with clock(f"{name}: {number} frame"):
                    controller.outputs(camera, None, {"rgb"})
            if name == "gaga":
                with clock(f"{name}: first picture of groups"):
                    controller.outputs(camera, None, {"groups"})
                with clock(f"{name}: list of groups"):
                    controller.groups()
            view = to_camera(camera)
            for number, share in (("first", 0.5), ("second", 0.45)):
                with clock(f"{name}: {number} click"):
                    controller.click(view, share * view.width, share * view.height, True)
            for number in ("first", "second"):
                with clock(f"{name}: {number} frame with a selection"):
                    controller.outputs(camera, None, {"rgb"})
        del pipeline, model, controller


def edits_stage(scene: Path, clock: Clock, selected: int = 224_000) -> None:
    """Clean, and grow before and after an edit."""
    from gseg_ns.editing.operations import Duplicate, Operation, Remove, begin
    from gseg_ns.selection.neighbourhood import Neighbourhood
    from gseg_ns.selection.packed import PackedMask
    from gseg_ns.selection.postprocess import clean_up

    splats = large_splat(scene)
    near = (splats.means - splats.means.median(dim=0).values).norm(dim=1)
    ordered = near.sort().values
    mask = near <= ordered[min(selected, len(near)) - 1]
    clean_up(splats.means, near <= ordered[min(1000, len(near)) - 1])
    with clock(f"clean of {int(mask.sum())}"):
        clean_up(splats.means, mask)
    part = near <= ordered[min(20_000, len(near) // 3)]
    with clock("first grow (finds neighbours of all)"):
        graph = Neighbourhood(splats.means)
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
            graph.edited(means).grow(chosen)


def saga_stage(scene: Path, clock: Clock, views: int = 0) -> None:
    """The set-up of saga's feature phase."""
    from gseg_ns.data.cameras import to_camera
    from gseg_ns.lifting.affinity_training import AffinityOptions, AffinityViews
    from gseg_ns.lifting.scales import ScaleQuantiles
    from gseg_ns.splats.projection import project_splats

    splats, data = large_splat(scene), manager(scene)
    data.require_masks()
    count = views or len(data.train_dataset)

    def asked(chosen: Any, numbers: range) -> Iterator[tuple[int, dict[str, Any], Any, MaskSet]]:
        for view in numbers:
            camera = to_camera(data.camera(view))
            yield view, project_splats(chosen, camera), camera.K, data.mask_set(view)

    options, few = AffinityOptions(), thinned(splats)
    AffinityViews(few.means, asked(few, range(1)), 1, ScaleQuantiles(), options)
    with clock("set-up, with all neighbours", count):
        AffinityViews(splats.means, asked(splats, range(count)), count, ScaleQuantiles(), options)


RUN: dict[Stage, Callable[[Path, Clock], None]] = {
    "masks": masks_stage,
    "lift": lift_stage,
    "command": command_stage,
    "export": export_stage,
    "decode": decode_stage,
    "viewer": viewer_stage,
    "edits": edits_stage,
    "saga": saga_stage,
}


@dataclass
class One:
    """A stage, in this process."""

    scene: Path
    """A large scene"""
    stage: Stage
    """Which"""
    profile: bool = False
    """Also print where the time goes"""

    def main(self) -> None:
        """Print its figures as JSON."""
        clock = Clock(self.stage)
        if self.profile:
            import cProfile
            import pstats

            with cProfile.Profile() as profiler:
                RUN[self.stage](self.scene, clock)
            pstats.Stats(profiler).sort_stats("tottime").print_stats(28)
        else:
            RUN[self.stage](self.scene, clock)
        print(json.dumps([asdict(row) for row in clock.rows]))


def measure(scene: Path, stages: tuple[Stage, ...], tell: Callable[[str], None] = print) -> list[Row]:
    """Run stages, each in a process of its own; the first start of all finds no work of an earlier one."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as cache:
        environment = {"GSEG_CACHE_DIR": cache}
        for stage in stages:
            for start in ("first", "second") if stage == "masks" else ("",):
                arguments = [sys.executable, __file__, "one", "--scene", str(scene), "--stage", stage]
                output, _, _ = in_process(arguments, environment)
                found = [Row(**row) for row in json.loads(output.splitlines()[-1])]
                for row in found:
                    row.what = f"{row.what}, {start} start" if start else row.what
                    tell(row.line())
                rows += found
    return rows


@dataclass
class Stages:
    """Run the stages on a large scene: processor seconds, and peak resident memory."""

    scene: Path
    """A large scene"""
    only: tuple[Stage, ...] = STAGES
    """Which, in this order; what comes after lift needs its groups"""

    def main(self) -> None:
        """Print the table."""
        measure(self.scene, self.only, lambda line: print(line, flush=True))


@dataclass
class Growth:
    """How the stages grow: exponents in Gaussians and in views, on scenes of the demo."""

    gaussians: tuple[int, int] = (150_000, 600_000)
    """Numbers of Gaussians, with the first number of views"""
    views: tuple[int, int] = (6, 24)
    """Numbers of views, with the first number of Gaussians"""
    scale: int = 2
    """How many times as wide and high as the demo's photographs"""
    only: tuple[Stage, ...] = ("masks", "lift", "export", "decode", "edits", "saga")
    """Which stages"""
    least: float = 0.05
    """Seconds from which on an exponent says something"""

    def main(self) -> None:
        """Print the exponents."""
        rows: dict[str, list[Row]] = {}
        sizes = {
            "base": (self.gaussians[0], self.views[0]),
            "Gaussians": (self.gaussians[1], self.views[0]),
            "views": (self.gaussians[0], self.views[1]),
        }
        with tempfile.TemporaryDirectory() as folder:
            for name, (gaussians, views) in sizes.items():
                scene = Path(folder) / name
                Scene(scene, gaussians=gaussians, views=views, scale=self.scale, width=384, count=60).main()
                rows[name] = measure(scene, self.only, lambda _: None)
        print(f"{'':61}{'seconds':>9}  exponent in Gaussians, in views")
        for row in rows["base"]:
            found = []
            for name, count in (("Gaussians", 0), ("views", 1)):
                # Counts within a name (of objects, of Gaussians that were cleaned) differ.
                other = next((r for r in rows[name] if _words(r.what) == _words(row.what)), None)
                if other is None or min(row.seconds, other.seconds) < self.least:
                    found.append("     -")
                    continue
                size = sizes[name][count] / sizes["base"][count]
                found.append(f"{math.log(other.seconds / row.seconds) / math.log(size):6.2f}")
            print(f"{row.stage:8} {row.what:52}{row.seconds:9.2f}  {'  '.join(found)}", flush=True)


def _words(what: str) -> str:
    return "".join(letter for letter in what if not letter.isdigit() and letter != ".")


Command = Union[  # noqa: UP007  tyro reads the members' annotations
    Annotated[Scene, tyro.conf.subcommand("scene")],
    Annotated[Stages, tyro.conf.subcommand("stages")],
    Annotated[Growth, tyro.conf.subcommand("growth")],
    Annotated[One, tyro.conf.subcommand("one")],
]

if __name__ == "__main__":
    tyro.cli(Command).main()
