"""Masks of all photographs of a scene: resumable, safe to kill, shared by processes and machines."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from gseg_ns.captures.photographs import image_size
from gseg_ns.cluster import Cluster
from gseg_ns.errors import GsegError
from gseg_ns.files import atomic_path
from gseg_ns.files import sweep as sweep_folder
from gseg_ns.masks.folder import MASK_SUFFIXES, scan_masks
from gseg_ns.masks.images import SceneImage, read_image
from gseg_ns.masks.io import read_mask_set, write_mask_set
from gseg_ns.masks.mask_set import PIXEL_MEMORY, MaskSet
from gseg_ns.masks.orientation import exif_orientation
from gseg_ns.masks.sources.base import MaskSource, Photo, SourceConfig, SourceResult, is_in_sequence, torch_device
from gseg_ns.reading import FREE_MEMORY, read_json, shown

SETTINGS_FILE = ".settings.json"
"""In the mask folder: what the masks were made with. Hidden, so that no reader takes it for masks."""


@dataclass(frozen=True)
class Job:
    """What every image of a run has in common; sent to the workers."""

    source: SourceConfig
    output: Path
    """Folder of the mask files."""
    max_side: int = 0
    """Photographs are shrunk so that their longer side has at most this many pixels; 0 = as they are."""
    embeddings: Path | None = None
    """Folder of the image embeddings; None = not wanted."""
    device: str = "auto"

    def settings(self) -> dict[str, Any]:
        """What the bytes of a mask file depend on, besides the photograph."""
        return {"source": self.source.name, "max_side": self.max_side, **self.source.settings()}

    def mask_path(self, image: SceneImage) -> Path:
        """Where the masks of an image are written."""
        return self.output / f"{image.key}.json"

    def embedding_path(self, image: SceneImage) -> Path | None:
        """Where the embedding of an image is written."""
        return self.embeddings / f"{image.key}.npz" if self.embeddings else None

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """Size of the masks of a photograph of this size."""
        longest = max(height, width)
        if self.max_side <= 0 or longest <= self.max_side:
            return height, width
        return max(1, round(height * self.max_side / longest)), max(1, round(width * self.max_side / longest))


@dataclass(frozen=True)
class ImageResult:
    """What became of one image."""

    image: SceneImage
    masks: int = 0
    coverage: float = 0.0
    """Fraction of its pixels that some mask covers."""
    seconds: float | None = None
    """Time it took; None where it was done already."""
    error: str | None = None
    """Why it has no masks."""


class _WriteError(Exception):
    """A result could not be written: the next would not be either, so that the run ends."""


def coverage(masks: MaskSet) -> float:
    """Fraction of the pixels that some mask covers."""
    starts, region, _ = masks.partition
    pixels = masks.height * masks.width
    return int(np.diff(starts, append=pixels)[region != 0].sum()) / pixels


def parse_shard(text: str) -> tuple[int, int]:
    """`2/4` -> (2, 4): the second of four.

    Raises:
        GsegError: it is none of 1/n ... n/n.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if match and 1 <= int(match[1]) <= int(match[2]):
        return int(match[1]), int(match[2])
    raise GsegError(f"--shard {text} is no share of the images. Use 1/4, 2/4, 3/4 and 4/4 for four processes.")


def prepare(job: Job, images: Sequence[SceneImage], overwrite: bool) -> None:
    """Record the settings in the mask folder, or see that those recorded are the same.

    Args:
        job: the run.
        images: all images of the scene.
        overwrite: remove the masks of these images first.

    Raises:
        GsegError: the folder holds masks of other settings or of unknown origin, or cannot be written.
    """
    path = job.output / SETTINGS_FILE
    wanted = job.settings()
    if overwrite:
        path.unlink(missing_ok=True)
        keys = {image.key for image in images}
        for key, files in scan_masks(job.output, MASK_SUFFIXES).items():
            for file in files if key in keys else []:
                file.unlink()
    try:
        recorded = read_json(path, "the settings of masks", "Use --overwrite to make all masks again.")
        if not isinstance(recorded, dict):
            raise GsegError(f"{path} is damaged. Use --overwrite to make all masks again.")
    except GsegError:
        if path.exists():
            raise
        strangers = {} if overwrite else scan_masks(job.output, MASK_SUFFIXES)
        if strangers:
            raise GsegError(
                f"{job.output} has mask files that `gseg masks` did not make (such as {next(iter(strangers))}). "
                "Choose another --output-dir, or let --overwrite replace them."
            ) from None
        try:
            job.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise GsegError(f"Cannot write into {job.output}: {error.strerror or error}.") from error
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(wanted, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return
    # Through JSON, which turns tuples into lists.
    wanted = json.loads(json.dumps(wanted))
    if recorded != wanted:
        changed = sorted(k for k in {*recorded, *wanted} if recorded.get(k) != wanted.get(k))
        pairs = [(key, shown(recorded.get(key)), shown(wanted.get(key))) for key in changed]
        changes = ", ".join(f"{key:.40} was {old} and is now {new}" for key, old, new in pairs[:10])
        raise GsegError(
            f"{job.output} was made with other settings: {changes}. Repeat those to go on, choose another "
            "--output-dir, or make all masks again with --overwrite."
        )


def recorded_source(folder: Path) -> str:
    """The source that made the masks of a folder, as `prepare` recorded it; empty where that is not known."""
    try:
        recorded = read_json(folder / SETTINGS_FILE, "the settings of masks")
    except GsegError:
        return ""
    return str(recorded.get("source", "")) if isinstance(recorded, dict) else ""


def sweep(job: Job, images: Iterable[SceneImage]) -> None:
    """Remove half-written files that killed runs and workers left in the folders of these images' results."""
    targets = [path for image in images for path in (job.mask_path(image), job.embedding_path(image)) if path]
    for folder in {path.parent for path in (*targets, job.output / SETTINGS_FILE)}:
        sweep_folder(folder)


def finished(job: Job, image: SceneImage) -> ImageResult | None:
    """The result of an image that is done: its file is whole and of the photograph's size. Else None."""
    path = job.mask_path(image)
    embedding = job.embedding_path(image)
    if not path.is_file() or (embedding is not None and not embedding.is_file()):
        return None
    try:
        masks = read_mask_set(path)
        if (masks.height, masks.width) != job.size_of(*image_size(image.path)):
            return None
    except GsegError:
        return None
    return ImageResult(image, len(masks), coverage(masks))


def make(job: Job, source: MaskSource, image: SceneImage) -> ImageResult:
    """Make and write the masks of one image.

    Whatever goes wrong with this image is told in the result, so that the others are still done; a result that cannot
    be written ends the run.
    """
    start = time.perf_counter()
    try:
        photo = read_photo(job, image)
        result = source.generate(photo, embed=job.embeddings is not None)
        _check_size(result, photo.pixels.shape[:2])
    except GsegError as error:
        return ImageResult(image, error=str(error))
    except MemoryError:
        return ImageResult(image, error="out of memory; use a smaller --max-side")
    except Exception as error:
        if "out of memory" in str(error).lower():
            hint = "out of GPU memory; use fewer points per batch, a smaller --max-side or --device cpu"
            return ImageResult(image, error=hint)
        # A source is foreign code: one image that it trips over must not cost the hours of the others.
        return ImageResult(image, error=f"{type(error).__name__}: {error}")
    return _written(job, image, result, start)


def read_photo(job: Job, image: SceneImage) -> Photo:
    """A photograph as a source is given it.

    Raises:
        GsegError: it cannot be read, or is too large.
    """
    pixels = read_image(image.path)
    height, width = job.size_of(*pixels.shape[:2])
    if height * width * PIXEL_MEMORY > FREE_MEMORY:
        longest = int((FREE_MEMORY / PIXEL_MEMORY * max(height, width) / min(height, width)) ** 0.5)
        raise GsegError(f"masks of {width}x{height} pixels are too large to be read; use --max-side {longest}")
    if (height, width) != pixels.shape[:2]:
        from PIL import Image

        pixels = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
    return Photo(image.name, pixels, exif_orientation(image.path))


def _check_size(result: SourceResult, size: tuple[int, ...]) -> None:
    height, width = size
    if (result.masks.height, result.masks.width) != (height, width):
        raise GsegError(f"masks of {result.masks.height}x{result.masks.width} for an image of {height}x{width}")


def _written(job: Job, image: SceneImage, result: SourceResult, start: float) -> ImageResult:
    """Write the masks of one image, which were begun at a time."""
    try:
        embedding = job.embedding_path(image)
        if embedding is not None:
            with atomic_path(embedding) as temporary:
                arrays: dict[str, Any] = dict(result.embedding)
                np.savez(temporary, **arrays)
        # Last, since an image counts as done when its masks are there.
        write_mask_set(job.mask_path(image), result.masks)
    except GsegError as error:
        raise _WriteError(str(error)) from error
    return ImageResult(image, len(result.masks), coverage(result.masks), time.perf_counter() - start)


def run(
    job: Job, images: Sequence[SceneImage], workers: int = 1, cluster: Cluster | None = None
) -> Iterator[ImageResult]:
    """Make the masks of images, in any order, with one process or several, or on a cluster that sees the same files.

    Memory does not grow with the number of images.

    Raises:
        GsegError: the source cannot be loaded, or results cannot be written.
    """
    try:
        if not images:
            return
        if is_in_sequence(job.source):
            yield from _run_in_sequence(job, images)
        elif cluster is not None:
            yield from cluster.in_order(make_there, ((image,) for image in images), job)
        elif workers == 1:
            source: MaskSource = job.source.setup(torch_device(job.device))
            for image in images:
                yield make(job, source, image)
        else:
            yield from _run_in_workers(job, images, min(workers, len(images)))
    except _WriteError as error:
        raise GsegError(f"{error} What is done stays; run the same command again to go on.") from error


class _Photos(Sequence[Photo]):
    """Photographs that are read when they are asked for."""

    def __init__(self, job: Job, images: Sequence[SceneImage]) -> None:
        self._job, self._images = job, images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, number: int) -> Photo:  # type: ignore[override]
        return read_photo(self._job, self._images[number])


def _run_in_sequence(job: Job, images: Sequence[SceneImage]) -> Iterator[ImageResult]:
    """All images by a source that follows things from one to the next: they fail together.

    Raises:
        GsegError: a photograph cannot be read, or they differ in size, or the source fails.
    """
    photos = _Photos(job, images)
    sizes = {job.size_of(*image_size(image.path)) for image in images}
    if len(sizes) > 1:
        raise GsegError(
            f"{job.source.name} follows things through pictures of one size, and these have {len(sizes)}: take another "
            "source"
        )
    [size] = sizes
    results = iter(job.source.setup(torch_device(job.device)).generate_all(photos))
    for image in images:
        start = time.perf_counter()
        try:
            result = next(results)
            _check_size(result, size)
        except GsegError:
            raise
        except Exception as error:
            # A source is foreign code.
            raise GsegError(f"{job.source.name} failed at {image.name}: {type(error).__name__}: {error}") from error
        yield _written(job, image, result, start)


_sources: dict[str, MaskSource] = {}
"""Of a worker of a cluster: what it has loaded."""
_loading = threading.Lock()


def make_there(job: Job, image: SceneImage) -> ImageResult:
    """As `make`, in a worker of a cluster, which loads the source once."""
    # One image at a time: sources are not made for several threads.
    with _loading:
        key = repr(job)
        if key not in _sources:
            _sources.clear()
            _sources[key] = job.source.setup(torch_device(job.device))
        return make(job, _sources[key], image)


def _run_in_workers(job: Job, images: Sequence[SceneImage], workers: int) -> Iterator[ImageResult]:
    # No pool of the standard library: when its parent is killed, its processes wait forever. Here each worker has a
    # pipe of its own, which ends with the parent; and a worker that dies costs one image.
    context = multiprocessing.get_context("spawn")
    pending = list(reversed(images))
    running: dict[Connection, BaseProcess] = {}
    assigned: dict[Connection, SceneImage] = {}
    ready: set[Connection] = set()

    def start(index: int) -> None:
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, job, index, workers), daemon=True)
        process.start()
        theirs.close()
        running[ours] = process

    try:
        for index in range(workers):
            start(index)
        while pending or assigned:
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                try:
                    message = connection.recv()
                except (EOFError, ConnectionResetError):
                    process = running.pop(connection)
                    process.join()
                    if connection not in ready:
                        raise GsegError(
                            f"A worker ended while it loaded the masks' source (status {process.exitcode}). Out of "
                            "memory? Use fewer --workers."
                        ) from None
                    lost = assigned.pop(connection, None)
                    if lost is not None:
                        reason = f"its worker process ended (status {process.exitcode}); out of memory?"
                        yield ImageResult(lost, error=reason)
                    if pending:
                        start(len(running))
                    continue
                if isinstance(message, BaseException):
                    raise message
                ready.add(connection)
                if isinstance(message, ImageResult):
                    del assigned[connection]
                    yield message
                if pending:
                    assigned[connection] = pending.pop()
                    connection.send(assigned[connection])
    finally:
        for connection, process in running.items():
            connection.close()
            process.terminate()
            process.join()


def _work(connection: Connection, job: Job, index: int, workers: int) -> None:
    """A worker: loads the source, says so, then answers each image with its result until the pipe ends."""
    import torch

    # Ctrl-C reaches the whole group; the parent ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    try:
        source = job.source.setup(torch_device(job.device, index))
        connection.send(None)
        while True:
            connection.send(make(job, source, connection.recv()))
    except (EOFError, BrokenPipeError):
        return
    except (GsegError, _WriteError) as error:
        connection.send(error)
