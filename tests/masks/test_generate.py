"""Long work: resumed, killed, shared, failing."""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gseg_ns.errors import GsegError
from gseg_ns.masks import MaskFolder, MaskSet, read_mask_set
from gseg_ns.masks.generate import (
    SETTINGS_FILE,
    Job,
    coverage,
    finished,
    parse_shard,
    prepare,
    recorded_source,
    run,
    sweep,
)
from gseg_ns.masks.images import SceneImage, read_image, scene_images
from gseg_ns.masks.sources.base import SourceResult, torch_device
from gseg_ns.masks.sources.classical import ClassicalConfig

# By its own name, under which the worker processes can import it too.
sys.path.insert(0, str(Path(__file__).parent))
BandsConfig = importlib.import_module("bands_source").BandsConfig


def write_scene(root: Path, reds: list[int]) -> list[SceneImage]:
    (root / "images").mkdir(parents=True)
    for i, red in enumerate(reds):
        pixels = np.full((16, 24, 3), 9, np.uint8)
        pixels[..., 0] = red
        Image.fromarray(pixels).save(root / "images" / f"{i:03}.png")
    return scene_images(root)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def run_all(job: Job, images: list[SceneImage], workers: int = 1) -> list[Any]:
    prepare(job, images, overwrite=False)
    return list(run(job, [image for image in images if finished(job, image) is None], workers))


def test_masks_match_their_images(tmp_path: Path) -> None:
    images = write_scene(tmp_path, [1, 2, 0, 3])
    job = Job(BandsConfig(), tmp_path / "masks", embeddings=tmp_path / "masks_embeddings")
    results = run_all(job, images)
    assert [result.masks for result in results] == [1, 2, 0, 3]
    assert results[1].coverage == pytest.approx(2 / 16)
    matched = MaskFolder(job.output).match([image.name for image in images])
    assert [len(read_mask_set(file.path)) for file in matched if file] == [1, 2, 0, 3]
    with np.load(tmp_path / "masks_embeddings" / "001.npz", allow_pickle=False) as stored:
        assert stored["embedding"].shape == (16, 24, 3)
    assert run_all(job, images) == []
    again = Job(BandsConfig(), tmp_path / "again", embeddings=tmp_path / "again_embeddings")
    run_all(again, images)
    assert contents(job.output) == contents(again.output)
    assert contents(tmp_path / "masks_embeddings") == contents(tmp_path / "again_embeddings")


def test_done_again_when_damaged_or_of_another_size(tmp_path: Path) -> None:
    images = write_scene(tmp_path, [1, 2, 3])
    job = Job(BandsConfig(), tmp_path / "masks")
    run_all(job, images)
    whole = contents(job.output)
    damaged = job.output / "001.json"
    damaged.write_bytes(damaged.read_bytes()[:-5])
    assert [result.image.key for result in run_all(job, images)] == ["001"]
    assert contents(job.output) == whole
    Image.fromarray(np.full((10, 24, 3), 2, np.uint8)).save(images[0].path)
    assert [result.image.key for result in run_all(job, images)] == ["000"]


def test_embeddings_added_later(tmp_path: Path) -> None:
    images = write_scene(tmp_path, [1, 2])
    run_all(Job(BandsConfig(), tmp_path / "masks"), images)
    job = Job(BandsConfig(), tmp_path / "masks", embeddings=tmp_path / "embeddings")
    assert len(run_all(job, images)) == 2
    assert len(list((tmp_path / "embeddings").iterdir())) == 2


def test_change_of_settings_is_noticed(tmp_path: Path) -> None:
    images = write_scene(tmp_path, [1, 2])
    output = tmp_path / "masks"
    prepare(Job(BandsConfig(), output), images, overwrite=False)
    prepare(Job(BandsConfig(), output), images, overwrite=False)
    changed = Job(BandsConfig(values={"points": (3, 4)}), output)
    with pytest.raises(GsegError, match=r"values was \{\} and is now \{'points': \[3, 4\]\}"):
        prepare(changed, images, overwrite=False)
    with pytest.raises(GsegError, match="max_side was 0 and is now 9"):
        prepare(Job(BandsConfig(), output, max_side=9), images, overwrite=False)
    run_all(Job(BandsConfig(), output), images)
    prepare(changed, images, overwrite=True)
    assert list(contents(output)) == [SETTINGS_FILE]
    prepare(changed, images, overwrite=False)


def test_masks_of_others_are_not_mixed_with(tmp_path: Path) -> None:
    images = write_scene(tmp_path, [1])
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "000.png").touch()
    (tmp_path / "masks" / "kept.png").touch()
    job = Job(BandsConfig(), tmp_path / "masks")
    with pytest.raises(GsegError, match="did not make"):
        prepare(job, images, overwrite=False)
    prepare(job, images, overwrite=True)
    assert sorted(contents(job.output)) == [SETTINGS_FILE, "kept.png"]


def test_shards_give_the_same_folder(tmp_path: Path) -> None:
    images = write_scene(tmp_path, list(range(1, 12)))
    single, shared = (Job(ClassicalConfig(), tmp_path / name) for name in ("single", "shared"))
    run_all(single, images)
    for share in (2, 0, 1):
        run_all(shared, images[share::3])
    assert contents(shared.output) == contents(single.output)


def test_parse_shard() -> None:
    assert parse_shard("2/4") == (2, 4)
    for wrong in ("0/4", "5/4", "1", "a/b", "-1/2", "1/0"):
        with pytest.raises(GsegError, match="--shard"):
            parse_shard(wrong)


def test_one_bad_image_does_not_stop_the_others(tmp_path: Path) -> None:
    images = write_scene(tmp_path, [1, 66, 77, 4, 5])
    images[3].path.write_bytes(images[3].path.read_bytes()[:60])
    results = run_all(Job(BandsConfig(), tmp_path / "masks"), images)
    errors = {result.image.key: result.error for result in results if result.error}
    assert set(errors) == {"001", "002", "003"}
    assert "GPU memory" in errors["001"]
    assert "ZeroDivisionError: odd image" in errors["002"]
    assert "003.png" in errors["003"]
    assert sorted(contents(tmp_path / "masks")) == [SETTINGS_FILE, "000.json", "004.json"]


def test_workers(tmp_path: Path) -> None:
    """The same files as one process makes; a worker that dies costs one image."""
    images = write_scene(tmp_path, [1, 88, 3, 4])
    job = Job(BandsConfig(), tmp_path / "masks")
    errors = {result.image.key: result.error for result in run_all(job, images, workers=2)}
    assert "status -9" in errors.pop("001")
    assert errors == {"000": None, "002": None, "003": None}
    alone = Job(BandsConfig(), tmp_path / "alone")
    run_all(alone, [images[0], images[2], images[3]])
    assert contents(job.output) == contents(alone.output)


def test_a_broken_source_is_told_once(tmp_path: Path) -> None:
    images = write_scene(tmp_path, [1, 2, 3])
    for workers in (1, 2):
        with pytest.raises(GsegError, match="the model is broken"):
            run_all(Job(BandsConfig(values={"broken": 1}), tmp_path / "masks"), images, workers)


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    images = write_scene(tmp_path, [1, 2])
    (tmp_path / "file").touch()
    with pytest.raises(GsegError, match="Cannot write"):
        prepare(Job(BandsConfig(), tmp_path / "file" / "masks"), images, overwrite=False)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_full_disk(tmp_path: Path) -> None:
    """A limit on the size of files fails a write half-way, as a full disk does."""
    import resource

    images = write_scene(tmp_path, [1, 200, 2])
    job = Job(BandsConfig(), tmp_path / "masks")
    prepare(job, images, overwrite=False)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(GsegError, match=r"Cannot write .*001\.json.*go on"):
            list(run(job, images))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert sorted(contents(job.output)) == [SETTINGS_FILE, "000.json"]
    assert len(run_all(job, images)) == 2


def test_sources_in_sequence_have_each_photograph_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_scene(tmp_path, [20, 20, 20])
    read: list[Path] = []

    def counted(path: Path) -> np.ndarray:
        read.append(path)
        return read_image(path)

    class InSequence:
        name, embeds, in_sequence, is_asked = "in-sequence", False, True, False

        def settings(self) -> dict[str, Any]:
            return {}

        def setup(self, device: str) -> Any:
            return self

        def generate_all(self, photos: Any) -> Iterator[SourceResult]:
            for photo in photos:
                yield SourceResult(MaskSet.from_arrays(np.ones((1, *photo.pixels.shape[:2]), bool), [1.0]))

    monkeypatch.setattr("gseg_ns.masks.generate.read_image", counted)
    job = Job(InSequence(), tmp_path / "masks", max_side=8)  # type: ignore[arg-type]
    assert [result.error for result in run_all(job, images)] == [None] * 3
    assert read == [image.path for image in images]
    assert recorded_source(tmp_path / "masks") == "in-sequence"
    assert recorded_source(tmp_path) == ""


def test_masks_of_shrunk_photographs(tmp_path: Path) -> None:
    images = write_scene(tmp_path, [3])
    job = Job(BandsConfig(), tmp_path / "masks", max_side=12)
    run_all(job, images)
    masks = read_mask_set(tmp_path / "masks" / "000.json")
    assert (masks.height, masks.width) == (8, 12)
    assert finished(job, images[0]) is not None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_ten_times(tmp_path: Path, ball_room: Path) -> None:
    """SIGKILL at random moments; the folder in the end is that of an undisturbed run."""
    root = tmp_path / "scene"
    (root / "images").mkdir(parents=True)
    for path in sorted((ball_room / "images").iterdir())[:10]:
        with Image.open(path) as image:
            image.resize((128, 96)).save(root / "images" / path.name)
    images = scene_images(root)
    config = ClassicalConfig()
    undisturbed = Job(config, tmp_path / "undisturbed")
    run_all(undisturbed, images)
    job = Job(config, tmp_path / "killed")
    rng = random.Random(3)
    progress = []
    for _ in range(10):
        pid = os.fork()
        if pid == 0:
            try:
                prepare(job, images, overwrite=False)
                sweep(job, images)
                for _result in run(job, [image for image in images if finished(job, image) is None]):
                    pass
            finally:
                os._exit(0)
        time.sleep(rng.uniform(0, 0.25))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for path in job.output.rglob("*.json"):
            if not path.name.startswith("."):
                read_mask_set(path)  # never half a file
        progress.append(len(contents(job.output)))
    run_all(job, images)
    sweep(job, images)
    assert contents(job.output) == contents(undisturbed.output)
    assert progress == sorted(progress)


def test_damaged_settings(tmp_path: Path) -> None:
    images = write_scene(tmp_path, [1])
    job = Job(BandsConfig(), tmp_path / "masks")
    run_all(job, images)
    (job.output / SETTINGS_FILE).write_text("{")
    with pytest.raises(GsegError, match="--overwrite"):
        prepare(job, images, overwrite=False)


def test_settings_are_readable(tmp_path: Path) -> None:
    job = Job(ClassicalConfig(), tmp_path / "masks")
    prepare(job, [], overwrite=False)
    assert json.loads((job.output / SETTINGS_FILE).read_text())["source"] == "classical"


def test_equal_stems_keep_their_suffix(tmp_path: Path) -> None:
    images = write_scene(tmp_path, [1])
    shutil.copy(images[0].path, images[0].path.with_suffix(".bmp"))
    images = scene_images(tmp_path)
    job = Job(BandsConfig(), tmp_path / "masks")
    run_all(job, images)
    matched = MaskFolder(job.output).match([image.name for image in images])
    assert [file.path.name for file in matched if file] == ["000.bmp.json", "000.png.json"]


def test_devices() -> None:
    assert torch_device("cpu") == "cpu"
    assert torch_device("auto") == ("cuda:0" if torch.cuda.is_available() else "cpu")
    with pytest.raises(GsegError, match="no device"):
        torch_device("gpu")
    with pytest.raises(GsegError, match="not on this machine"):
        torch_device("cuda:99")


def test_coverage() -> None:
    assert coverage(MaskSet(4, 4)) == 0
    assert coverage(MaskSet.from_arrays(torch.ones(2, 4, 4))) == 1
