"""What every benchmark protocol has in common: which files are what, and the score of a folder of predictions."""

from __future__ import annotations

import math
import random
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from gseg_ns.errors import GsegError
from gseg_ns.files import atomic_path
from gseg_ns.reading import check_memory, read_bytes, read_text, reading

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")

_PIXEL_MEMORY = 11
"""Bytes a pixel while an image is read: Pillow has four, twice where it converts, and we have three."""

_LARGEST_MODEL = 2**31


@dataclass(frozen=True)
class ProtocolOptions:
    """Choices that protocols leave open. Each protocol says which it looks at."""

    train_percent: float = 100.0
    """Share of the training views to keep, drawn at random: Gaga's sparse subsets are 30, 20, 10 and 5."""
    seed: int = 0
    """Of that draw. The published subsets are not known."""
    images: str | None = None
    """Image folder, where a scene has several resolutions. None: the protocol's own."""
    lpips: bool = False
    """Also LPIPS, whose weights are downloaded."""


@dataclass(frozen=True)
class Prompt:
    """What the method is given for one object."""

    name: str
    """The text, or the object's name."""
    kind: Literal["text", "mask", "scribble"]
    image: str | None = None
    """Image file that the mask or scribble belongs to; None for text."""
    positive: tuple[Path, ...] = ()
    """Mask or scribble images of the object."""
    negative: tuple[Path, ...] = ()
    """Scribbles on what is not the object."""


@dataclass(frozen=True)
class Target:
    """One file that a method has to predict."""

    image: str
    """Image file (in `ProtocolScene.images`) of the view to render."""
    truth: Path
    """Ground truth, or the photograph where the render itself is scored."""
    prompt: str | None = None
    """The prompt that the prediction answers; None for whole label maps and renders."""


@dataclass(frozen=True)
class ProtocolScene:
    """One scene of a benchmark, checked to be complete."""

    name: str
    root: Path
    """Folder to train on (`--data`)."""
    images: Path
    """Folder of the images."""
    train: tuple[str, ...]
    """Image file names to train on."""
    test: tuple[str, ...]
    """Image file names to render."""
    targets: dict[str, Target]
    """Prediction file, relative to the scene's folder of predictions, -> what it is compared to."""
    prompts: tuple[Prompt, ...] = ()
    """What the method is given besides the images."""
    options: ProtocolOptions = field(default_factory=ProtocolOptions)


@dataclass(frozen=True)
class ProtocolScores:
    """Score of one scene."""

    values: dict[str, float]
    """Metric -> number: percent, or dB and 0..1 for image quality."""
    details: dict[str, dict[str, float]] = field(default_factory=dict)
    """Prompt, class or view -> its numbers."""
    missing: tuple[str, ...] = ()
    """Targets without a prediction."""
    notes: tuple[str, ...] = ()
    """What was chosen on the way, e.g. the ids picked for a prompt."""


@dataclass(frozen=True)
class ProtocolReport:
    """Scores of all scenes that were predicted."""

    protocol: str
    scenes: dict[str, ProtocolScores]
    mean: dict[str, float]
    """Plain mean over scenes of each metric, without undefined values."""
    not_predicted: tuple[str, ...]
    """Scenes in the data for which there is no folder of predictions."""


class Protocol(ABC):
    """A published evaluation: which views train and test, what is given, what is compared, how it is counted."""

    name: ClassVar[str]
    """Name on the command line."""
    source: ClassVar[str]
    """Paper, and where its data comes from."""
    layout: ClassVar[str]
    """The folder layout, for people and error messages."""
    predictions: ClassVar[str]
    """What a method has to write."""
    counted: ClassVar[str]
    """What the score counts: background, missing views, sizes."""
    metrics: ClassVar[tuple[str, ...]]
    """Keys of `ProtocolScores.values`, the main one first."""
    known_scenes: ClassVar[tuple[str, ...]] = ()
    """Scenes of the published table."""
    renders: ClassVar[Literal["labels", "rgb"] | None] = "labels"
    """What a trained model can render by itself to answer: label maps, images; None: only answers to prompts count."""

    @abstractmethod
    def is_scene(self, folder: Path) -> bool:
        """Whether `folder` looks like one scene of this benchmark."""

    @abstractmethod
    def load(self, root: Path, scene: str, options: ProtocolOptions | None = None) -> ProtocolScene:
        """Find and check the files of one scene.

        Args:
            root: the benchmark's folder, or the scene's own.
            scene: one of `scenes(root)`.
            options: see `ProtocolOptions`.

        Raises:
            GsegError: a file or folder is missing (the message says which) or does not fit.
        """

    @abstractmethod
    def score(self, scene: ProtocolScene, predictions: Path) -> ProtocolScores:
        """Score the predictions of one scene.

        Raises:
            GsegError: predictions are missing that the protocol does not forgive, or are not what it expects.
        """

    def scenes(self, root: Path) -> tuple[str, ...]:
        """Names of the scenes in `root`, which may be a single scene.

        Raises:
            GsegError: there is none.
        """
        require(root, self)
        if self.is_scene(root):
            return (root.resolve().name,)
        found = tuple(sorted(child.name for child in root.iterdir() if child.is_dir() and self.is_scene(child)))
        if not found:
            raise GsegError(f"{root} holds no scene of {self.name}. It expects:\n{self.layout}")
        return found

    def scene_folder(self, root: Path, scene: str) -> Path:
        """Folder of a scene in `root`, which may be that scene itself."""
        if self.is_scene(root) and root.resolve().name == scene:
            return root
        return require(root / scene, self)

    def evaluate(self, root: Path, predictions: Path, options: ProtocolOptions | None = None) -> ProtocolReport:
        """Score all scenes of `root` that were predicted.

        Args:
            root: the benchmark's folder, or one scene.
            predictions: one folder for each scene; with a single scene, its predictions may lie here directly.
            options: see `ProtocolOptions`.

        Raises:
            GsegError: no scene, no predictions, or as `load` and `score`.
        """
        names = self.scenes(root)
        if not predictions.is_dir():
            raise GsegError(f"{predictions} is not a folder of predictions.")
        scores, skipped = {}, []
        for name in names:
            folder = predictions / name
            if not folder.is_dir():
                if len(names) > 1:
                    skipped.append(name)
                    continue
                folder = predictions
            scores[name] = self.score(self.load(root, name, options), folder)
        if not scores:
            raise GsegError(f"{predictions} has no folder for any of the scenes {', '.join(names)}.")
        return ProtocolReport(
            protocol=self.name,
            scenes=scores,
            mean={
                key: mean(s.values[key] for s in scores.values() if key in s.values)
                for key in self.metrics
                if any(key in s.values for s in scores.values())
            },
            not_predicted=tuple(skipped),
        )

    def renderings(self, scene: ProtocolScene) -> dict[str, str]:
        """Files to render, relative to the scene's folder of predictions, and the image file of the view of each."""
        return {name: target.image for name, target in scene.targets.items()}

    def prepare(self, root: Path, scene: str, options: ProtocolOptions | None = None) -> tuple[Path, ...]:
        """Write the split where Nerfstudio's COLMAP reader looks for it: train_list, test_list, validation_list.

        Images that COLMAP did not register are left out, as they have no camera.

        Returns:
            The files written, in the scene's folder.

        Raises:
            GsegError: as `load`, or the folder cannot be written.
        """
        loaded = self.load(root, scene, options)
        known = registered_images(loaded.root)
        written = []
        for split, names in (("train", loaded.train), ("test", loaded.test), ("validation", loaded.test)):
            kept = [name for name in names if known is None or name in known]
            if not kept:
                raise GsegError(f"{loaded.root}: COLMAP registered none of the {split} images of {self.name}.")
            path = loaded.root / f"{split}_list.txt"
            with atomic_path(path) as temporary:
                temporary.write_text("\n".join(kept) + "\n", encoding="utf8")
            written.append(path)
        return tuple(written)


def require(path: Path, protocol: Protocol) -> Path:
    """`path`, which must exist.

    Raises:
        GsegError: it does not; the message has the layout.
    """
    if not path.exists():
        raise GsegError(f"{path} is missing. {protocol.name} expects:\n{protocol.layout}")
    return path


def require_predictions(scene: ProtocolScene, predictions: Path) -> None:
    """Check that every target has a prediction.

    Raises:
        GsegError: some have none; the message says which.
    """
    absent = missing_predictions(scene, predictions)
    if absent:
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        raise GsegError(f"{predictions} lacks {', '.join(absent[:5])}{more} of the {len(scene.targets)} predictions.")


def missing_predictions(scene: ProtocolScene, predictions: Path) -> tuple[str, ...]:
    """Targets without a prediction file."""
    return tuple(name for name in scene.targets if not (predictions / name).is_file())


def image_names(folder: Path, protocol: Protocol) -> tuple[str, ...]:
    """Image file names of a folder, sorted.

    Raises:
        GsegError: the folder is missing or has no image.
    """
    require(folder, protocol)
    names = tuple(sorted(p.name for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != "."))
    if not names:
        raise GsegError(f"{folder} holds no image. {protocol.name} expects:\n{protocol.layout}")
    return names


def numeric(name: str) -> tuple[int, str]:
    """Sort key: files whose name is a number in the order of the number, then the others by name."""
    stem = Path(name).stem
    return (int(stem), "") if stem.isdigit() else (2**62, stem)


def subset(names: Sequence[str], options: ProtocolOptions) -> tuple[str, ...]:
    """A random share of the names, in their order: `train_percent` of them, rounded, at least one.

    Raises:
        GsegError: the share is not in (0, 100].
    """
    if not 0 < options.train_percent <= 100:
        raise GsegError(f"train_percent is {options.train_percent}. Give a share above 0 and up to 100.")
    count = max(1, round(len(names) * options.train_percent / 100))
    chosen = set(random.Random(options.seed).sample(range(len(names)), count))
    return tuple(name for i, name in enumerate(names) if i in chosen)


def mean(values: Iterable[float]) -> float:
    """Mean of the defined values; NaN where there is none."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else float("nan")


def read_mask(path: Path, above: int = 128, strict: bool = False) -> np.ndarray:
    """A mask image as bool [H, W]: grey value above `above` of 255.

    Args:
        path: the image.
        above: grey value that is still outside.
        strict: refuse an image whose values all lie between 1 and `above`, which would be read as empty: a mask of 0
            and 1 is no mask of 0 and 255.

    Raises:
        GsegError: not readable, or see `strict`.
    """
    grey = _read(path, "L")
    if strict and 0 < int(grey.max(initial=0)) <= above:
        raise GsegError(f"{path} has no pixel above {above}. Masks are images of 0 and 255; save yours so.")
    return grey > above


def read_rgb(path: Path) -> np.ndarray:
    """An image as uint8 [H, W, 3].

    Raises:
        GsegError: not readable.
    """
    return _read(path, "RGB")


def _read(path: Path, mode: str) -> np.ndarray:
    from PIL import Image

    with reading(path, "an image"), Image.open(path, formats=("PNG", "JPEG")) as image:
        check_memory(path, image.width * image.height * _PIXEL_MEMORY, f"{image.width}x{image.height} pixels")
        return np.array(image.convert(mode))


def registered_images(scene: Path) -> set[str] | None:
    """Image names of the COLMAP model in sparse/0 (binary or text); None where there is no model.

    Raises:
        GsegError: the model is damaged.
    """
    binary, text = scene / "sparse" / "0" / "images.bin", scene / "sparse" / "0" / "images.txt"
    if binary.exists():
        with reading(binary, "a COLMAP model", "Run COLMAP again."):
            data = read_bytes(binary, _LARGEST_MODEL)
            names, offset = set(), 8
            (count,) = struct.unpack_from("<Q", data, 0)
            for _ in range(count):
                start = offset + 4 + 7 * 8 + 4  # id, rotation and translation, camera id
                end = data.index(b"\0", start)
                names.add(data[start:end].decode())
                (points,) = struct.unpack_from("<Q", data, end + 1)
                offset = end + 9 + 24 * points
            return names
    if text.exists():
        about = ("a COLMAP model", "Run COLMAP again.")
        with reading(text, *about):
            content = read_text(text, *about, most=_LARGEST_MODEL)
            lines = [line for line in content.splitlines() if not line.startswith("#")]
            # Two lines an image: pose and name, then its points (which may be an empty line).
            return {line.split(maxsplit=9)[9] for line in lines[::2] if line.strip()}
    return None
