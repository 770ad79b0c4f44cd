"""Promptable segmentation of one object in a capture: a click and a mask as prompts, scored on the test views.

What is trained on is little: the masks of a few views, as somebody would draw them, or those of any mask folder. The
prompt is then given on one training view, answered as `gseg select` answers it, and the selection is rendered into the
test views (composited to more than one half), on the pixels of their photographs.
"""

from __future__ import annotations

import hashlib
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gseg_ns.benchmarking.cells import digest_files
from gseg_ns.benchmarking.quality import Runner, device_name, digest_geometry
from gseg_ns.benchmarking.settings import PromptableSettings
from gseg_ns.benchmarking.training import TrainSettings, check_scale
from gseg_ns.data.cameras import to_camera
from gseg_ns.errors import GsegError
from gseg_ns.evaluation.folders import read_ids
from gseg_ns.evaluation.overlap import resize_nearest
from gseg_ns.evaluation.promptable import evaluate_masks
from gseg_ns.files import atomic_path
from gseg_ns.lifting.votes import lift_truth
from gseg_ns.masks.io import write_label_map
from gseg_ns.pictures import contact_sheet, overlay
from gseg_ns.selection.neighbourhood import largest_component, middle_extents
from gseg_ns.selection.prompts import Prompt

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from rich.table import Table

    from gseg_ns.runs.run import Run

OBJECT, BACKGROUND = 1, 2
"""Labels of the masks made from the ground truth. The background has one too: 0 is unlabelled and trains nothing."""

CEILING = "ceiling"
"""The row of the ground truth of all training views, lifted onto the same Gaussians."""

COLUMNS = 5
"""Test views in a row of the picture."""


def spread_views(positions: Tensor, count: int) -> list[int]:
    """Choose views such that every view has a chosen one near: what somebody would do who draws the fewest masks.

    The sum of the distances of all cameras to the nearest chosen one is lowered by exchanging one view at a time, from
    views that are far apart (k-medoids; no chance in it).

    Args:
        positions: [V, 3] of the cameras.
        count: how many; all where there are fewer.

    Returns:
        sorted indices.
    """
    distance = torch.cdist(positions.double(), positions.double())
    chosen = [int(distance.sum(dim=1).argmin())]
    while len(chosen) < min(count, len(positions)):
        chosen.append(int(distance[chosen].amin(dim=0).argmax()))
    for _ in range(100):
        before = list(chosen)
        for place in range(len(chosen)):
            others = [*chosen[:place], *chosen[place + 1 :]]
            nearest = distance[others].amin(dim=0) if others else torch.full((len(positions),), torch.inf)
            chosen[place] = int(torch.minimum(distance, nearest).sum(dim=1).argmin())
        if chosen == before:
            break
    return sorted(chosen)


def deepest_pixel(mask: Tensor) -> tuple[float, float]:
    """The middle (x, y) of the pixel of a mask [H, W] farthest from its outline; the edge of the image is outline."""
    from scipy.ndimage import distance_transform_edt

    depth = distance_transform_edt(np.pad(mask.cpu().numpy(), 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(x) + 0.5, float(y) + 0.5


def run_promptable(runner: Runner, settings: PromptableSettings) -> dict[str, Any]:
    """Train, prompt and score; finished runs and scores are reused, each for itself.

    Args:
        runner: trains, and keeps cells.
        settings: see there.

    Returns:
        `rows`: name (click; mask; the largest piece of either; ceiling) -> `iou`, `accuracy`, `boundary_iou` (means
        over the test views, percent), `worst` and `view_iou`, and `gaussians`, how many are selected; `view` and
        `click` of the prompt; `trained_on`, the views with masks; `psnr`; `seconds` of the training; `config` of the
        run; `picture`, test views with what was hit, spilled and missed.

    Raises:
        GsegError: a setting that is out of range; no ground truth for a training or test view, or one that does not
            show the object; an unknown view; the training fails; the prompted pixel is on empty space.
    """
    if settings.views < 1:
        raise GsegError(f"--views is {settings.views}: give at least 1")
    if not -1 <= settings.threshold <= 1:
        raise GsegError(f"--threshold is {settings.threshold}: a cosine lies between -1 and 1")
    check_scale([settings.method], settings.scale)
    scene, truth = settings.scene, settings.scene / settings.ground_truth
    names, files, positions = _views(scene, truth)
    known = [index for index, file in enumerate(files) if file is not None]
    drawn = {index: _mask(read_ids(file), settings.object_id) for index, file in enumerate(files) if file is not None}
    shown = {index: int(mask.sum()) for index, mask in drawn.items()}
    known = [index for index in known if shown[index]]
    if not known:
        raise GsegError(f"{truth} shows the object in no training view: names must match the images, and --object-id")
    given = known
    if settings.masks is None:
        given = [known[index] for index in spread_views(positions[known], settings.views)]
    prompted = names[max(given, key=shown.__getitem__)]
    if settings.view is not None:
        wanted = Path(settings.view).with_suffix("").as_posix()
        called = [names[index] for index in known if f"/{names[index]}".endswith((f"/{wanted}", f"/{settings.view}"))]
        prompted = called[0] if len(called) == 1 else ""
    if not prompted:
        raise GsegError(
            f"{settings.view} is not a training view of {scene} with ground truth that shows the object: give another"
        )
    options = tuple(shlex.split(settings.train_options))
    if settings.geometry is not None:
        options = ("--pipeline.model.geometry", str(settings.geometry.resolve()), *options)
    if settings.masks is None:
        options = ("--pipeline.datamanager.masks-are-consistent", "True", *options)
        given_masks = {names[index]: drawn[index] for index in given}
        # Configs of runs name the folder: other masks never take its place.
        decides = repr((digest_files(truth), settings.object_id, sorted(given_masks)))
        named = f"{scene.resolve().name}-{hashlib.sha256(decides.encode()).hexdigest()[:16]}"
        masks = runner.output.parent / "prompt-masks" / named
        for name, mask in given_masks.items():
            write_label_map(masks / f"{name}.png", torch.where(mask, OBJECT, BACKGROUND))
    else:
        masks = scene / settings.masks
    train = TrainSettings(
        settings.method, scene.resolve(), str(masks.resolve()), settings.iterations, settings.seed, options
    )
    transforms = scene / "transforms.json"
    run_key = {
        "kind": "promptable-run",
        "name": scene.resolve().name,
        "method": settings.method,
        "seed": settings.seed,
        "train": repr(train),
        "digest": digest_files(masks, *([transforms] if transforms.is_file() else [])),
        "geometry": "" if settings.geometry is None else digest_geometry(settings.geometry),
        "device": device_name(),
    }
    key = {
        **run_key,
        "kind": "promptable",
        "truth": digest_files(truth),
        "view": prompted,
        "object": settings.object_id,
        "scale": settings.scale,
        "threshold": settings.threshold,
        "pixels": "photograph",
    }

    def trained() -> dict[str, Any]:
        found = runner.store.get(run_key)
        if found is None or not Path(found["config"]).is_file():
            runner.say(f"{key['name']}, {settings.method}: training {settings.iterations} steps")
            run = runner.train(train, runner.output, runner.store.path(run_key).stem)
            found = {"config": str(run.config_path), "seconds": run.seconds}
            runner.store.put(run_key, found)
        return found

    def compute() -> dict[str, Any]:
        from gseg_ns.runs.run import load_run

        run = trained()
        picture = runner.output.parent / f"{runner.store.path(key).stem}.png"
        return {
            **score_prompts(load_run(Path(run["config"])), truth, prompted, settings, picture),
            **run,
            "trained_on": [names[index] for index in given] if settings.masks is None else settings.masks,
            "picture": str(picture),
        }

    return runner.store.run(key, compute)


@torch.no_grad()
def score_prompts(run: Run, truth: Path, prompted: str, settings: PromptableSettings, picture: Path) -> dict[str, Any]:
    """Prompt a trained run and score it on its test views; see `run_promptable`.

    Args:
        run: the run.
        truth: folder of label maps named as the images.
        prompted: name of the training view.
        settings: `object_id`, `scale` and `threshold` are used.
        picture: PNG to write.
    """
    from gseg_ns.evaluation.quality import psnr
    from gseg_ns.runs.prompting import Prompter

    model = run.model
    trained = {view.name: (view.camera, labels) for view, labels in run.truth(truth, "train")}
    camera, labels = trained[prompted]
    height, width = int(camera.height.item()), int(camera.width.item())
    here = resize_nearest(_mask(labels, settings.object_id).long(), height, width) != 0
    click = deepest_pixel(here)
    prompts = {"click": Prompt(positive=torch.tensor([click])), "mask": Prompt(mask=here)}
    prompter = Prompter(model)
    selections = {
        name: prompter.select(camera, prompt, settings.scale, settings.threshold) for name, prompt in prompts.items()
    }

    splats = model.splats().to(model.device)
    for name in prompts:
        selections[f"{name}, largest piece"] = largest_component(
            splats.means, selections[name], middle_extents(splats.scales)
        )

    corrected = [(to_camera(model.corrected(view)), labels) for view, labels in trained.values()]
    shown = [(view, _mask(labels, settings.object_id)) for view, labels in corrected]
    sized = [(view, resize_nearest(mask.long(), view.height, view.width) != 0) for view, mask in shown]
    selections[CEILING] = lift_truth(splats, sized) != 0

    seen: dict[str, list[Tensor]] = {name: [] for name in selections}
    masks, photographs, ratios = [], [], []
    weights = torch.stack(list(selections.values()), dim=1).float()

    def covered(camera: Cameras) -> dict[str, Tensor]:
        model.get_outputs_for_camera(camera)
        return {"covered": model.composite(weights).cpu() > 0.5}

    for view, labels in run.truth(truth, "test", pixels="photograph"):
        masks.append(_mask(labels, settings.object_id))
        rgb = model.get_outputs_for_camera(view.camera)["rgb"].cpu()
        ratios.append(psnr(rgb, view.image[..., :3].cpu()))
        drawn = view.photograph.draw(view.camera, covered)["covered"]
        for channel, name in enumerate(selections):
            seen[name].append(drawn[..., channel])
        photographs.append(view.photograph.read().float() / 255)
    rows = {}
    for name, predicted in seen.items():
        scores = evaluate_masks(predicted, masks)
        defined = [value for value in scores.view_iou if not math.isnan(value)]
        rows[name] = {
            "iou": scores.iou,
            "accuracy": scores.accuracy,
            "boundary_iou": scores.boundary_iou,
            "worst": min(defined, default=math.nan),
            "view_iou": list(scores.view_iou),
            "gaussians": int(selections[name].sum()),
        }
    _write_picture(picture, photographs, seen["click, largest piece"], masks)
    return {"rows": rows, "view": prompted, "click": list(click), "psnr": math.fsum(ratios) / len(ratios)}


def promptable_table(result: dict[str, Any]) -> Table:
    """The table of `gseg bench promptable`."""
    from rich.table import Table

    table = Table(title=f"Prompted on {result['view']}; means over the test views, percent")
    table.add_column("prompt")
    for heading in ("IoU", "accuracy", "boundary IoU", "worst view", "Gaussians"):
        table.add_column(heading, justify="right")
    for name, row in result["rows"].items():
        values = (f"{row[key]:.1f}" for key in ("iou", "accuracy", "boundary_iou", "worst"))
        table.add_row(name, *values, f"{row['gaussians']}", style="dim" if name == CEILING else None)
    return table


def _views(scene: Path, truth: Path) -> tuple[list[str], list[Path | None], Tensor]:
    """Names, files of ground truth and positions [V, 3] of the training views.

    Raises:
        GsegError: the ground truth is missing, or no test view has one.
    """
    from gseg_ns.data.ground_truth import ground_truth_files
    from gseg_ns.data.photographs import view_names
    from gseg_ns.dataparsers.gseg_data import GsegDataParserConfig

    parser = GsegDataParserConfig(data=scene).setup()
    outputs = {split: parser.get_dataparser_outputs(split) for split in ("train", "test")}
    images = {split: outputs[split].image_filenames for split in outputs}
    files = ground_truth_files(truth, [*images["train"], *images["test"]])
    if not any(files[path] for path in images["test"]):
        raise GsegError(f"{truth} has no label map for any test view: names must match the images")
    names = view_names(scene, list(files))
    trained = images["train"]
    positions = outputs["train"].cameras.camera_to_worlds[:, :3, 3]
    return [names[path] for path in trained], [files[path] for path in trained], positions


def _mask(ids: Tensor, object_id: int | None) -> Tensor:
    """The object in a ground-truth label map: bool [H, W]."""
    return ids != 0 if object_id is None else ids == object_id


def _write_picture(path: Path, photographs: Sequence[Tensor], seen: Sequence[Tensor], truth: Sequence[Tensor]) -> None:
    """Draw hits, spill and misses, each in a color of its own, over the test views."""
    from PIL import Image

    pictures = []
    for photograph, predicted, mask in zip(photographs, seen, truth, strict=True):
        there = resize_nearest(mask.long(), *predicted.shape) != 0
        kinds = (predicted & there).int() + 2 * (predicted & ~there).int() + 3 * (~predicted & there).int()
        pictures.append(overlay(photograph, kinds))
    sheet = contact_sheet([pictures[start : start + COLUMNS] for start in range(0, len(pictures), COLUMNS)])
    with atomic_path(path) as temporary:
        Image.fromarray((sheet * 255).round().byte().numpy()).save(temporary, format="PNG")
