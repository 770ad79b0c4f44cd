"""SAGA measured: click IoU at three granularities, ablations, seconds a step, prompt-to-selection time.

    python benchmarks/saga.py quality --scene SCENE --geometry SPLAT.ply
    python benchmarks/saga.py ablations --scene SCENE --geometry SPLAT.ply
    python benchmarks/saga.py speed --scene SCENE --geometry SPLAT.ply

`--geometry` is a trained splat of the scene in Nerfstudio's frame (`gseg export`, or a PLY of any Splatfacto run). The
feature phase is the one that `ns-train saga` and `ns-train saga-v1` run, without Nerfstudio's trainer around it.

Protocol of `quality` and `ablations`: for each ground-truth object one training view (seeded, of those that show it at
half of its largest size or more), three single positive clicks from its interior there (seeded), the best of three
fixed scales by the IoU on that view alone; IoU on the test views, pixels of all views pooled; mean over clicks, then
objects. The ceiling is the same IoU for the objects' own labels, voted onto the same Gaussians from the training views.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Union

import numpy as np
import torch
import tyro
from scipy.ndimage import binary_erosion
from torch import Tensor

from gseg_ns.data.cameras import to_camera
from gseg_ns.dataparsers.gseg_data import GsegDataParserConfig
from gseg_ns.lifting.affinity import ScaleGate, smooth
from gseg_ns.lifting.affinity_training import AffinityOptions, AffinityViews
from gseg_ns.lifting.correspondence import mask_set_overlap, overlap_loss
from gseg_ns.lifting.pixel_pool import PixelPool, make_pool
from gseg_ns.lifting.sam_guidance import SamProjection, clutter_loss, guidance_loss, prototypes, read_embedding
from gseg_ns.lifting.scales import ScaleQuantiles
from gseg_ns.lifting.similarity import similarity
from gseg_ns.masks import MaskFolder, load_masks, read_label_map
from gseg_ns.rendering import project, rasterize_to_pixels, vote
from gseg_ns.rendering.camera import Camera
from gseg_ns.selection.postprocess import ball_query, statistical_filter
from gseg_ns.selection.prompts import pixel_index, select
from gseg_ns.splats.ply import read_ply

LEVELS = ("part", "object", "group")
LEAST_PIXELS = 40
"""Objects smaller than this in their best view are left out: there is no interior to click."""


@dataclass
class Scene:
    """A scene with ground truth, on a trained splat."""

    scene: Path
    """Folder with transforms.json and gt/"""
    geometry: Path
    """Trained splat of the scene, PLY in Nerfstudio's frame"""
    masks: str = "sam_mild/amg"
    """Mask folder within the scene"""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to run"""

    @cached_property
    def splats(self) -> Any:
        """The Gaussians."""
        return read_ply(self.geometry, drop_invalid=True).to(self.device)

    def views(self, split: str) -> list[tuple[Path, Camera]]:
        """Image and camera of each view of a split."""
        outputs = GsegDataParserConfig(data=self.scene).setup().get_dataparser_outputs(split)
        return [
            (path, to_camera(outputs.cameras[index : index + 1]).to(self.device))
            for index, path in enumerate(outputs.image_filenames)
        ]

    @cached_property
    def train(self) -> list[tuple[Path, Camera]]:
        """Training views."""
        return self.views("train")

    @cached_property
    def test(self) -> list[tuple[Path, Camera]]:
        """Test views."""
        return self.views("test")

    def project(self, camera: Camera) -> dict[str, Any]:
        """Projection of the splat."""
        splats = self.splats
        return project(
            splats.means,
            splats.quats,
            splats.scales.exp(),
            splats.opacities.sigmoid(),
            camera.viewmat[None],
            camera.K[None],
            camera.width,
            camera.height,
        )

    def render(self, meta: dict[str, Any], values: Tensor) -> tuple[Tensor, Tensor]:
        """Composite [N, D] values: image [H, W, D] and alpha [H, W]."""
        image, alpha = rasterize_to_pixels(
            meta["means2d"],
            meta["conics"],
            values[None].contiguous(),
            meta["opacities"],
            meta["width"],
            meta["height"],
            meta["tile_size"],
            meta["isect_offsets"],
            meta["flatten_ids"],
        )
        return image[0], alpha[0, ..., 0]

    def truth(self, level: str, image: Path) -> Tensor:
        """Ground-truth ids [H, W] of a view."""
        return read_label_map(self.scene / "gt" / level / f"{image.stem}.png").to(self.device)

    @cached_property
    def background_parts(self) -> set[int]:
        """Parts of floor, walls and ceiling."""
        import json

        parts = json.loads((self.scene / "gt" / "scene.json").read_text())["parts"]
        return {int(part["part_id"]) for part in parts if part["object_id"] == 0}

    def ids(self, level: str, maps: list[Tensor]) -> list[int]:
        """Ids of the objects of a level that occur."""
        found = {int(i) for image in maps for i in image.unique()} - {0}
        return sorted(found - self.background_parts if level == "part" else found)

    def mask_views(self) -> Iterator[tuple[int, dict[str, Any], Tensor, Any]]:
        """What `AffinityViews` takes."""
        files = MaskFolder(self.scene / self.masks).match([path for path, _ in self.train])
        for view, ((_, camera), file) in enumerate(zip(self.train, files, strict=True)):
            if file is not None:
                yield view, self.project(camera), camera.K, load_masks(file, (camera.height, camera.width))


@dataclass
class Trained:
    """Features of a scene and how to ask them."""

    features: Tensor
    """[N, D] smoothed."""
    gate: ScaleGate
    quantiles: ScaleQuantiles
    seconds_setup: float
    seconds_step: float


def train(scene: Scene, options: AffinityOptions, steps: int, gated: bool = True, seed: int = 0) -> Trained:
    """The feature phase of `saga`."""
    torch.manual_seed(seed)
    quantiles = ScaleQuantiles().to(scene.device)
    gate = ScaleGate(32, enabled=gated).to(scene.device)
    started = time.perf_counter()
    views = AffinityViews(scene.splats.means, scene.mask_views(), len(scene.train), quantiles, options, seed)
    setup = time.perf_counter() - started
    features = torch.nn.Parameter(1e-2 * torch.randn(len(scene.splats), 32, device=scene.device))
    optimizer = torch.optim.Adam([features, *gate.parameters()], lr=2.5e-3, eps=1e-15)
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    started = time.perf_counter()
    for _ in range(steps):
        if not order:
            order = torch.randperm(len(scene.train), generator=generator).tolist()
        losses = views.losses(order.pop(), features, gate)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    if scene.device == "cuda":
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - started) / max(steps, 1)
    return Trained(smooth(features.detach(), views.neighbours), gate.eval(), quantiles, setup, seconds)


def stand_in_embedding(image: Path) -> Tensor:
    """[48, 64, 256] random Fourier features of colour and position, for scenes whose masks came without embeddings.

    It says what SAM's encoder says only in the crudest way: near and alike pixels have near features.
    """
    from PIL import Image

    small = np.asarray(Image.open(image).convert("RGB").resize((64, 48)), np.float32) / 255
    y, x = np.meshgrid(np.linspace(0, 1, 48), np.linspace(0, 1, 64), indexing="ij")
    values = torch.from_numpy(np.concatenate([small, np.stack([x, y], axis=-1)], axis=-1)).float()
    directions = 4 * torch.randn(5, 256, generator=torch.Generator().manual_seed(0))
    return torch.cos(values @ directions)


def train_v1(scene: Scene, steps: int, guidance: bool = True, correspondence: bool = True, seed: int = 0) -> Trained:
    """The feature phase of `saga-v1`, with stored embeddings (`embeddings/` beside the masks) or stand-ins for them."""
    torch.manual_seed(seed)
    started = time.perf_counter()
    views: dict[int, tuple[PixelPool, Tensor, Tensor]] = {}
    for view, meta, _, masks in scene.mask_views():
        image = scene.train[view][0]
        stored = (scene.scene / scene.masks).parent / "embeddings" / f"{image.stem}.npz"
        embedding = read_embedding(stored) if stored.exists() else stand_in_embedding(image)
        bound = 2**31 / len(scene.train)
        pool = make_pool(meta, masks, torch.zeros(len(masks)), bound, torch.Generator().manual_seed(view))
        small = masks.resize(*embedding.shape[:2]).decode()
        views[view] = pool, embedding.to(scene.device), small.to(scene.device)
    setup = time.perf_counter() - started
    features = torch.nn.Parameter(torch.randn(len(scene.splats), 32, device=scene.device))
    projection = SamProjection().to(scene.device)
    optimizer = torch.optim.Adam([features, *projection.parameters()], lr=2.5e-3, eps=1e-15)
    generator = torch.Generator().manual_seed(seed)
    names = list(views)
    started = time.perf_counter()
    for _ in range(steps):
        pool, embedding, small = views[names[int(torch.randint(len(names), (1,), generator=generator))]]
        weights, regions = pool.draw(1000, generator)
        rendered = weights.matmul(features)
        loss = features.sum() * 0.0
        if correspondence:
            present, kinds = regions.unique(return_inverse=True)
            loss = loss + overlap_loss(rendered, kinds, mask_set_overlap(pool.members[present]))
        if guidance:
            queries, kept = prototypes(projection(embedding), small)
            loss = loss + guidance_loss(rendered, queries, pool.members[regions][:, kept])
            drawn = torch.randint(len(features), (len(features) // 10,), generator=generator).to(scene.device)
            loss = loss + 0.1 * clutter_loss(features[drawn], queries)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    seconds = (time.perf_counter() - started) / max(steps, 1)
    return Trained(features.detach(), ScaleGate(32, enabled=False).to(scene.device), ScaleQuantiles(), setup, seconds)


def iou(pred: Tensor, truth: Tensor) -> float:
    """Intersection over union of bool images, in percent."""
    union = int((pred | truth).sum())
    return 100 * int((pred & truth).sum()) / union if union else 0.0


@dataclass
class Clicks:
    """Click IoU of trained features, level by level."""

    scene: Scene
    scales: tuple[float, float, float] = (0.0, 0.5, 1.0)
    threshold: float = 0.75
    clean: bool = False
    """Filter statistically and grow by ball query after the threshold."""
    seed: int = 0
    clicks: int = 3

    @cached_property
    def _test(self) -> list[tuple[Path, dict[str, Any]]]:
        return [(path, self.scene.project(camera)) for path, camera in self.scene.test]

    def prompts(self, level: str) -> list[tuple[int, int, Tensor]]:
        """Object, training view and [clicks, 2] points of each object."""
        maps = [self.scene.truth(level, path).cpu() for path, _ in self.scene.train]
        rng = np.random.default_rng(self.seed)
        found = []
        for name in self.scene.ids(level, maps):
            areas = np.array([int((image == name).sum()) for image in maps])
            if areas.max() < LEAST_PIXELS:
                continue
            view = int(rng.choice(np.flatnonzero(areas >= areas.max() / 2)))
            inside = (maps[view] == name).numpy()
            interior = (
                next(region for region in (binary_erosion(inside, iterations=n) for n in (3, 2, 1)) if region.any())
                if binary_erosion(inside).any()
                else inside
            )
            y, x = np.nonzero(interior)
            picked = rng.choice(len(y), self.clicks)
            found.append((name, view, torch.from_numpy(np.stack([x[picked], y[picked]], axis=1)).float() + 0.5))
        return found

    def masks_on_test(self, chosen: Tensor) -> list[Tensor]:
        """Selections [N, K] as bool images [H, W, K] of the test views."""
        values = chosen.float()
        result = []
        for _, meta in self._test:
            image = torch.cat([self.scene.render(meta, part)[0] for part in values.split(32, dim=1)], dim=-1)
            result.append(image > 0.5)
        return result

    def pooled(self, chosen: Tensor, truth: list[Tensor], names: list[int]) -> list[float]:
        """IoU of selections [N, K] with objects [K] over the test views."""
        images = self.masks_on_test(chosen)
        flat = torch.cat([image.reshape(-1, image.shape[-1]) for image in images])
        labels = torch.cat([image.reshape(-1) for image in truth])
        return [iou(flat[:, k], labels == name) for k, name in enumerate(names)]

    def ceiling(self, level: str) -> float:
        """IoU of the ground-truth labels on this splat."""
        maps = [self.scene.truth(level, path) for path, _ in self.scene.train]
        count = max(int(image.max()) for image in maps) + 1
        total = torch.zeros(len(self.scene.splats), count, device=self.scene.device)
        for (_, camera), labels in zip(self.scene.train, maps, strict=True):
            vote(self.scene.project(camera), labels, count, out=total)
        groups = torch.where(total.sum(dim=1) > 0, total.argmax(dim=1), -1)
        truth = [self.scene.truth(level, path) for path, _ in self._test]
        names = [name for name, _, _ in self.prompts(level) if any(bool((image == name).any()) for image in truth)]
        chosen = torch.stack([groups == name for name in names], dim=1)
        return float(np.mean(self.pooled(chosen, truth, names)))

    def evaluate(self, trained: Trained, level: str) -> dict[int, tuple[float, float, float]]:
        """Object -> mean IoU on the test views, the chosen scale's mean, and outlier share of what is selected."""
        truth = [self.scene.truth(level, path) for path, _ in self._test]
        selections: list[Tensor] = []
        owners: list[int] = []
        chosen_scales: list[float] = []
        for name, view, points in self.prompts(level):
            if not any(bool((image == name).any()) for image in truth):
                continue
            path, camera = self.scene.train[view]
            meta = self.scene.project(camera)
            image, _ = self.scene.render(meta, trained.features)
            here = self.scene.truth(level, path) == name
            queries = image.reshape(-1, image.shape[-1])[pixel_index(points, camera.width, camera.height)]
            for query in queries:
                candidates = []
                for scale in self.scales:
                    mask, _ = select(
                        trained.features, query[None], gate=trained.gate.at(scale), threshold=self.threshold
                    )
                    candidates.append(self._cleaned(mask))
                drawn = self.scene.render(meta, torch.stack(candidates, dim=1).float())[0] > 0.5
                best = int(np.argmax([iou(drawn[..., k], here) for k in range(len(candidates))]))
                selections.append(candidates[best])
                owners.append(name)
                chosen_scales.append(self.scales[best])
        scores = self.pooled(torch.stack(selections, dim=1), truth, owners)
        result = {}
        for name in dict.fromkeys(owners):
            rows = [k for k, owner in enumerate(owners) if owner == name]
            far = np.mean([self._far(selections[k]) for k in rows])
            result[name] = (
                float(np.mean([scores[k] for k in rows])),
                float(np.mean([chosen_scales[k] for k in rows])),
                float(far),
            )
        return result

    def _cleaned(self, mask: Tensor) -> Tensor:
        if not self.clean:
            return mask
        means = self.scene.splats.means
        return ball_query(means, statistical_filter(means, mask), quantile=0.99)

    def _far(self, mask: Tensor) -> float:
        """Percent of a selection that lies farther from its median point than four median distances."""
        points = self.scene.splats.means[mask]
        if len(points) == 0:
            return 0.0
        distance = (points - points.median(dim=0).values).norm(dim=1)
        return 100 * float((distance > 4 * distance.median()).float().mean())


def peak_gib() -> float:
    """Peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def report(clicks: Clicks, trained: Trained, name: str, ceilings: dict[str, float] | None = None) -> None:
    """Print one row a level."""
    for level in LEVELS:
        scores = clicks.evaluate(trained, level)
        mean = np.mean([row[0] for row in scores.values()])
        far = np.mean([row[2] for row in scores.values()])
        scale = np.mean([row[1] for row in scores.values()])
        top = "" if ceilings is None else f" | {ceilings[level]:5.1f}"
        print(f"| {name} | {level} | {len(scores)} | {mean:5.1f}{top} | {scale:.2f} | {far:5.2f} |", flush=True)


@dataclass
class Quality:
    """Click IoU at three granularities, beside the ceiling."""

    scene: tyro.conf.OmitArgPrefixes[Scene]
    steps: int = 10_000
    """Steps of the feature phase"""
    options: AffinityOptions = field(default_factory=AffinityOptions)
    """Options of the feature phase"""
    scales: tuple[float, float, float] = (0.0, 0.5, 1.0)
    """The three scales that a click may choose from"""
    threshold: float = 0.75
    """Cosine"""
    clean: bool = False
    """Post-process the selections"""
    save: Path | None = None
    """Keep the trained features in this file"""
    load: Path | None = None
    """Evaluate the features of this file instead of training"""
    objects: bool = False
    """One line an object too"""

    def main(self) -> None:
        """Print the table."""
        if self.load is not None:
            state = torch.load(self.load, weights_only=True)
            gate, quantiles = ScaleGate(32), ScaleQuantiles()
            gate.load_state_dict(state["gate"])
            quantiles.load_state_dict(state["quantiles"])
            trained = Trained(state["features"], gate, quantiles, *state["seconds"])
        else:
            trained = train(self.scene, self.options, self.steps)
        if self.save is not None:
            torch.save(
                {
                    "features": trained.features,
                    "gate": trained.gate.state_dict(),
                    "quantiles": trained.quantiles.state_dict(),
                    "seconds": (trained.seconds_setup, trained.seconds_step),
                },
                self.save,
            )
        print(
            f"{len(self.scene.splats)} Gaussians; set-up {trained.seconds_setup:.1f} s, "
            f"{1000 * trained.seconds_step:.1f} ms a step, peak {peak_gib():.2f} GiB"
        )
        clicks = Clicks(self.scene, self.scales, self.threshold, self.clean)
        print(
            "| features | level | objects | click IoU | ceiling | mean scale | far % |\n|---|---|---|---|---|---|---|"
        )
        report(clicks, trained, "saga", {level: clicks.ceiling(level) for level in LEVELS})
        if self.objects:
            for level in LEVELS:
                for name, row in clicks.evaluate(trained, level).items():
                    print(f"{level} {name}: {row[0]:.1f} at {row[1]:.2f}")


@dataclass
class Ablations:
    """Each part left out in turn."""

    scene: tyro.conf.OmitArgPrefixes[Scene]
    steps: int = 2000
    """Steps of each run"""
    only: tuple[str, ...] = ()
    """Names of the rows to run; all where none are named"""

    def main(self) -> None:
        """Print the table."""
        base = AffinityOptions()
        rows: dict[str, Callable[[], Trained]] = {
            "full": lambda: train(self.scene, base, self.steps),
            "no smoothing": lambda: train(self.scene, replace(base, neighbours=1), self.steps),
            "no norm regularisation": lambda: train(self.scene, replace(base, norm_weight=0.0), self.steps),
            "no scale gate": lambda: train(self.scene, base, self.steps, gated=False),
            "no resampling": lambda: train(
                self.scene, replace(base, pairs=replace(base.pairs, resample=False)), self.steps
            ),
            "no re-weighting": lambda: train(
                self.scene, replace(base, pairs=replace(base.pairs, reweight=False)), self.steps
            ),
            "v1": lambda: train_v1(self.scene, self.steps),
            "v1, no SAM guidance": lambda: train_v1(self.scene, self.steps, guidance=False),
            "v1, no correspondence": lambda: train_v1(self.scene, self.steps, correspondence=False),
        }
        print("| features | level | objects | click IoU | mean scale | far % |\n|---|---|---|---|---|---|")
        for name, make in rows.items():
            if self.only and name not in self.only:
                continue
            trained = make()
            report(Clicks(self.scene), trained, name)
            if name in ("full", "v1"):
                report(Clicks(self.scene, clean=True), trained, f"{name}, post-processed")


@dataclass
class Speed:
    """Seconds a step of the feature phase, and prompt-to-selection time beside the memory's own speed."""

    scene: tyro.conf.OmitArgPrefixes[Scene]
    steps: int = 300
    """Steps to time"""
    gaussians: int = 1_000_000
    """Gaussians that a prompt is matched with"""

    def main(self) -> None:
        """Print the figures."""
        trained = train(self.scene, AffinityOptions(), self.steps)
        print(
            f"{len(self.scene.splats)} Gaussians, {len(self.scene.train)} views: set-up {trained.seconds_setup:.1f} s, "
            f"{1000 * trained.seconds_step:.1f} ms a step, 10000 steps {10000 * trained.seconds_step / 60:.1f} min, "
            f"peak {peak_gib():.2f} GiB"
        )
        prompt_speed(self.gaussians, self.scene.device)


@dataclass
class Prompts:
    """Prompt-to-selection time alone."""

    gaussians: int = 1_000_000
    """Gaussians that a prompt is matched with"""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to run"""

    def main(self) -> None:
        """Print the figures."""
        prompt_speed(self.gaussians, self.device)


def prompt_speed(count: int, device: str) -> None:
    """Time a click's selection over `count` Gaussians, and reading as many bytes once."""
    features, query, gate = (torch.randn(*shape, device=device) for shape in ((count, 32), (1, 32), (32,)))
    chosen: Callable[[], object] = lambda: similarity(features, query, gate.sigmoid()) > 0.75  # noqa: E731
    limit: Callable[[], object] = features.sum
    for name, task in (("prompt to selection", chosen), ("reading the features once", limit)):
        task()
        times = []
        for _ in range(20):
            if device == "cuda":
                torch.cuda.synchronize()
            started = time.perf_counter()
            task()
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
        median = float(np.median(times))
        print(f"{name}, {count} x 32: {1000 * median:.2f} ms ({features.nbytes / median / 2**30:.1f} GiB/s)")


Command = Union[  # noqa: UP007  tyro reads the members' annotations
    Annotated[Quality, tyro.conf.subcommand("quality")],
    Annotated[Ablations, tyro.conf.subcommand("ablations")],
    Annotated[Speed, tyro.conf.subcommand("speed")],
    Annotated[Prompts, tyro.conf.subcommand("prompts")],
]

if __name__ == "__main__":
    tyro.cli(Command).main()
