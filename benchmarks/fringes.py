"""Objects of a run alone, and the run without them, against ground truth: as they are, and with `--clean-borders`.

python benchmarks/fringes.py --runs CONFIG.yml [CONFIG.yml ...]

The scene needs label maps of its views and their depth (`gseg demo` writes both), which says where something stands
before an object: such pixels are not asked.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from time import perf_counter, process_time
from typing import NamedTuple

import numpy as np
import torch
import tyro
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from gseg_ns.data.cameras import to_camera
from gseg_ns.objects import find_floaters
from gseg_ns.pictures import contact_sheet, write_png
from gseg_ns.rendering import Camera, rasterization, threads
from gseg_ns.runs.evidence import run_evidence
from gseg_ns.runs.fringes import find_fringes
from gseg_ns.runs.run import Run, load_run
from gseg_ns.splats import Splats
from gseg_ns.splats.projection import near_of

BAND = 3
"""Pixels on either side of an object's border."""

BEHIND = 1.01
"""What is drawn this many times as far away as what the view shows is behind it."""

FOUND = 0.5
"""IoU over all test views from which on a group is an object: errors of another thing's area are of no border."""

FEWEST = 20
"""Pixels of an object that count."""


@dataclass
class Settings:
    """Measure the test views of runs."""

    runs: list[Path]
    """config.yml of runs, of any scenes and methods"""
    ground_truth: str = "gt/instance"
    """Folder of label maps within each scene"""
    objects: str = "gt/object"
    """The same, 0 where there is no object: the others are measured"""
    every: int = 1
    """3: only every third object is measured, in the order of their numbers"""
    depth: str = "depth"
    """Folder of depth maps within each scene, 16-bit PNG in thousandths of its units"""
    pictures: Path | None = None
    """Folder for a picture of each run: objects in one test view over white, before and after"""


class TestView(NamedTuple):
    """A view that was not trained on."""

    camera: Camera
    truth: Tensor  # [H, W]
    depth: Tensor  # [H, W] in units of the run
    photograph: Tensor  # [H, W, 3] in 0..1


Alone = Callable[[int], Splats]
"""The Gaussians of an object of the ground truth."""


def main(settings: Settings) -> None:
    """Print a table."""
    threads.configure()
    print("| scene | Gaussians | objects | alpha error of the area | in the band | color error there | removal PSNR |")
    print("|---|---:|---|---:|---:|---:|---:|")
    for config in settings.runs:
        _measure(load_run(config), settings)


@torch.no_grad()
def _measure(run: Run, settings: Settings) -> None:
    data = run.config.data
    splats, groups = run.model.splats(), run.model.gaussian_groups()
    views, matches = _views(run, data, settings)
    evidence = run_evidence(run)
    assert evidence is not None
    floating = find_floaters(splats, groups, evidence)
    started, processor = perf_counter(), process_time()
    fringes = find_fringes(run)
    gathered, asked = perf_counter() - started, process_time() - processor
    started, processor = perf_counter(), process_time()
    cleaned = {name: fringes.clean(group) for name, group in matches.items()}
    fitted, processed = perf_counter() - started, process_time() - processor
    cost = f"{gathered:.1f} s and {fitted:.1f} s (processors: {asked:.1f} and {processed:.1f})"
    rows: dict[str, tuple[Alone, Tensor | None]] = {
        "as isolated": (lambda name: splats.subset(groups == matches[name]), groups),
        "as exported, without floaters": (
            lambda name: splats.subset((groups == matches[name]) & ~floating),
            torch.where(floating, 0, groups),
        ),
        "the same, borders cleaned": (
            lambda name: cleaned[name].subset(~floating[groups == matches[name]]).splats,
            None,  # a removal changes nothing else: the same as before
        ),
    }
    for title, (alone, of) in rows.items():
        alpha, band, color = _errors(splats, groups, matches, views, alone)
        removal = "" if of is None else f"{_removal(splats, of, matches, views):.2f}"
        print(
            f"| {data.name} | {len(splats)} | {title} | {100 * alpha:.2f} % | {100 * band:.2f} % | "
            f"{100 * color:.2f} % | {removal} |",
            flush=True,
        )
    print(f"{data.name}: views and {len(matches)} objects took {cost}", flush=True)
    if settings.pictures is not None:
        name = f"{data.name}-{len(splats)}.png"
        write_png(settings.pictures / name, _sheet(splats, views, [alone for alone, _ in rows.values()], list(matches)))


def _views(run: Run, data: Path, settings: Settings) -> tuple[list[TestView], dict[int, int]]:
    """The test views, and of each object that the run has found the group that most of its pixels show."""
    scale = json.loads((run.folder / "dataparser_transforms.json").read_text())["scale"]
    views, shown, things = [], defaultdict(list), set()
    sizes: Counter[int] = Counter()
    for view, truth in run.truth(data / settings.ground_truth, "test"):
        depth = np.asarray(Image.open((data / settings.depth / Path(view.name).name).with_suffix(".png")))
        depth = torch.from_numpy(depth.astype(np.float32)) / 1000 * scale
        photograph = view.image[..., :3].float() / 255
        views.append(TestView(to_camera(view.camera), truth, depth, photograph))
        labels = run.model.label_image(view.camera).cpu()
        sizes.update(dict(enumerate(torch.bincount(labels.flatten()).tolist())))
        for name in truth.unique().tolist():
            shown[name].append(labels[truth == name])
    for (_, objects), tested in zip(run.truth(data / settings.objects, "test"), views, strict=True):
        things |= set(tested.truth[objects > 0].unique().tolist())
    matches = {}
    for name in sorted(things)[:: settings.every]:
        pixels = torch.cat(shown[name])
        count = torch.bincount(pixels, minlength=2)[1:]
        group, both = int(count.argmax()) + 1, int(count.max())
        if both > FOUND * (len(pixels) + sizes[group] - both):
            matches[name] = group
        else:
            print(f"{data.name}: object {name} is left out, which the run has not found", flush=True)
    return views, matches


def _errors(
    splats: Splats, groups: Tensor, matches: dict[int, int], views: list[TestView], alone: Alone
) -> tuple[float, float, float]:
    """Means over objects and views: of alpha, as a part of the object's area, of alpha and of colors in the band."""
    near, found = near_of(splats.means), []
    for name in matches:
        before, now = splats.subset(groups == matches[name]), alone(name)
        for view in views:
            mask = view.truth == name
            if int(mask.sum()) < FEWEST:
                continue
            image, alpha = _draw(before, view.camera, near)
            asked = mask | (alpha < 0.01) | (image[..., 3] <= view.depth * BEHIND)
            image, alpha = _draw(now, view.camera, near)
            error = (alpha - mask.float()).abs()
            inside = distance_transform_edt(mask.numpy())
            outside = distance_transform_edt(~mask.numpy())
            band = asked & torch.from_numpy(np.where(mask.numpy(), inside, outside) <= BAND)
            colors = 0.0
            for background in (0.0, 1.0):
                drawn = (image[..., :3].clamp_min(0) + (1 - alpha[..., None]) * background).clamp(0, 1)
                wanted = torch.where(mask[..., None], view.photograph, background)
                colors += float((drawn - wanted).abs()[band].mean()) / 2
            found.append((float(error[asked].sum() / mask.sum()), float(error[band].mean()), colors))
    return tuple(mean(column) for column in zip(*found, strict=True))  # type: ignore[return-value]


def _removal(splats: Splats, groups: Tensor, matches: dict[int, int], views: list[TestView]) -> float:
    """PSNR of the scene without an object against the scene, outside of the object: mean over objects and views."""
    near, found = near_of(splats.means), []
    plain = [_draw(splats, view.camera, near)[0][..., :3] for view in views]
    for name, group in matches.items():
        rest = splats.subset(groups != group)
        for view, picture in zip(views, plain, strict=True):
            mask = view.truth == name
            if bool(mask.any()):
                change = _draw(rest, view.camera, near)[0][..., :3].clamp(0, 1) - picture.clamp(0, 1)
                error = float(change[~mask].square().mean())
                if error > 0:
                    found.append(-10 * math.log10(error))
    return mean(found)


def _sheet(splats: Splats, views: list[TestView], kinds: list[Alone], names: list[int]) -> Tensor:
    """Three objects of middle size over white: the photograph within its mask, and alone in each way."""
    near, rows = near_of(splats.means), []
    sizes = sorted(names, key=lambda name: max(int((view.truth == name).sum()) for view in views))
    for name in sizes[len(sizes) // 4 :: max(len(sizes) // 4, 1)][:3]:
        view = max(views, key=lambda view: int((view.truth == name).sum()))
        mask = view.truth == name
        pictures = [torch.where(mask[..., None], view.photograph, 1.0)]
        for alone in kinds:
            image, alpha = _draw(alone(name), view.camera, near)
            pictures.append((image[..., :3] + 1 - alpha[..., None]).clamp(0, 1))
        y, x = (int(place.float().mean()) for place in mask.nonzero(as_tuple=True))
        side = min(max(int(mask.any(0).sum()), int(mask.any(1).sum())) + 24, *mask.shape)
        top, left = (
            min(max(middle - side // 2, 0), size - side) for middle, size in zip((y, x), mask.shape, strict=True)
        )
        parts = [picture[top : top + side, left : left + side].permute(2, 0, 1)[None] for picture in pictures]
        large = [torch.nn.functional.interpolate(part, (240, 240))[0].permute(1, 2, 0) for part in parts]
        rows.append(large)
    return contact_sheet(rows)


def _draw(splats: Splats, camera: Camera, near: float) -> tuple[Tensor, Tensor]:
    """Colors and depth [H, W, 4], and alpha [H, W], without a background."""
    image, alpha, _ = rasterization(
        splats.means, splats.quats, splats.scales.exp(), splats.opacities.sigmoid(), splats.sh, camera.viewmat[None],
        camera.K[None], camera.width, camera.height, near_plane=near, sh_degree=splats.sh_degree, packed=False,
        render_mode="RGB+ED", rasterize_mode=splats.rasterize_mode,
    )  # fmt: skip
    return image[0], alpha[0, ..., 0]


if __name__ == "__main__":
    main(tyro.cli(Settings))
