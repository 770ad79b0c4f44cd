"""What users wait for, stage by stage, on one of `large_scenes`: each takes the scene and a clock."""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from clock import Clock, Row, in_process  # type: ignore[import-not-found]
from large_scenes import GROUPS, SPLAT, write_groups  # type: ignore[import-not-found]

from gseg_ns.errors import GsegError
from gseg_ns.masks import MaskSet

Stage = Literal["masks", "lift", "command", "export", "decode", "viewer", "edits", "saga"]
STAGES: tuple[Stage, ...] = ("masks", "lift", "command", "export", "decode", "viewer", "edits", "saga")

PASS_VIEWS = 24
"""Views, evenly chosen, of which a pass over all is timed."""


def manager(scene: Path) -> Any:
    """The datamanager of a training, with its settings of threads: others spin, and processor time counts it."""
    from gseg_ns.data.datamanager import MaskDatamanagerConfig
    from gseg_ns.dataparsers.gseg_data import GsegDataParserConfig
    from gseg_ns.rendering import threads

    threads.configure()
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
    """Read and paint all masks, as every training and lift does first; and their label maps, as these ask for them.

    At a first start nothing is known of the files; at a second one what came out is on the disk, as for a new process.
    """
    from gseg_ns import disk_cache

    count = len(manager(scene).train_dataset)

    def start(cache: str) -> Any:
        os.environ[disk_cache.LOCATION] = cache
        disk_cache._file_digest.cache_clear()
        return manager(scene)

    def started(cache: str) -> Any:
        data = start(cache)
        data.require_masks()
        return data

    def label_maps(data: Any) -> None:
        for view in range(count):
            data.labels(view)

    before = os.environ.get(disk_cache.LOCATION)
    with tempfile.TemporaryDirectory() as caches:
        empty = (str(Path(caches) / str(number)) for number in itertools.count())
        try:
            work = lambda data: data.require_masks()  # noqa: E731
            what = "masks of all photographs"
            clock.least_with(lambda: start(next(empty)), f"{what}, first start", work, count)
            kept = os.environ[disk_cache.LOCATION]
            clock.least_with(lambda: start(kept), f"{what}, second start", work, count)
            clock.least_with(lambda: started(kept), "label maps of all photographs", label_maps, count)
        finally:
            os.environ.pop(disk_cache.LOCATION)
            if before is not None:
                os.environ[disk_cache.LOCATION] = before


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
    some = [views[number * count // min(count, PASS_VIEWS)] for number in range(min(count, PASS_VIEWS))]

    def one_pass() -> None:
        for view in some:
            composite(project_splats(splats, view.camera), colors)

    def ask(votes: Any) -> Any:
        for view in views:
            votes.append(view_votes(project_splats(splats, view.camera), view.labels))
        return votes

    def group() -> Any:
        return associate(AssociationOptions(), splats.means, views, votes, range(count))

    def label() -> Any:
        return lift(votes, found.lookups, found.num_groups, len(splats))

    clock.least("a pass: project, composite RGB", one_pass, len(some))
    votes = clock.least_with(VoteStore, "votes", ask, count)
    found = clock.least("association", group, count)
    lifted = clock.least("labels of Gaussians", label, count)
    one, *all_of_it = clock.rows
    seconds = sum(row.seconds for row in all_of_it)
    passes = seconds / (one.seconds / one.parts * count)
    clock.note(f"  = {passes:.2f} passes, {found.num_groups} groups", seconds, count)
    write_groups(scene, lifted.labels, lifted.confidence)


def lifted_groups(scene: Path) -> torch.Tensor:
    """The groups that the stage `lift` found, or the pieces that a scene was made of: [N] int64.

    Raises:
        GsegError: there are none.
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

    def table() -> list[Any]:
        return object_records(splats, groups, None, {}, removed, "scene")

    records = clock.least("table of objects", table)
    with tempfile.TemporaryDirectory() as folder:
        places = (Path(folder) / str(number) for number in itertools.count())
        clock.least(f"files of {len(records)} objects", lambda: write_objects(next(places), splats, groups))


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
        size = f"{camera.width}x{camera.height}"
        clock.least(f"label image of labels, {size}", lambda: dominant_labels(meta, groups))
        image = clock.least("composite encodings", lambda: composite(meta, encodings))
        clock.least(f"decode them, {int(groups.max())} groups", lambda: classifier.predict(image))
        clock.least("decode all Gaussians", lambda: classifier.predict(encodings))


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
    """Frames of the viewer, the first, of another camera and again, its list of groups, clicks; of gaga and saga."""
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
            other = pipeline.datamanager.camera(len(pipeline.datamanager.train_dataset) // 2)
            for what, asked in (("first frame", camera), ("frame of another camera", other), ("that again", other)):
                with clock(f"{name}: {what}"):
                    controller.outputs(asked, None, {"rgb"})
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
    mask = near <= ordered[min(selected, len(near) // 8)]
    part = near <= ordered[min(selected, len(near) // 8) // 10]
    clean_up(splats.means, part)
    clock.least(f"clean of {int(mask.sum())}", lambda: clean_up(splats.means, mask))
    clock.least("first grow (finds neighbours of all)", lambda: Neighbourhood(splats.means).grow(part))
    graph = Neighbourhood(splats.means)
    grown = graph.grow(part)
    clock.least("second grow", lambda: graph.grow(grown))
    packed = PackedMask.pack(part)
    edits: dict[str, Operation] = {
        "removal": Remove(packed),
        "copy": Duplicate(packed, translation=(0.5, 0.0, 0.0)),
    }
    for name, edit in edits.items():
        means = edit(begin(splats)).splats.means
        chosen = torch.cat([part, torch.zeros(len(means) - len(part), dtype=torch.bool)])
        clock.least(f"grow after a {name}", lambda: graph.edited(means).grow(chosen))  # noqa: B023


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

    def set_up() -> None:
        AffinityViews(splats.means, asked(splats, range(count)), count, ScaleQuantiles(), options)

    clock.least("set-up, with all neighbours", set_up, count)


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
