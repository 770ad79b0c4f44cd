"""Fixtures that every test folder shares."""

from __future__ import annotations

import copy
import gc
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ball_room import write_ball_room
from constructed_run import build_run, copy_run

# One thread each: the suite shares its machine, and torch's spinning workers make every small test slower.
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Results on disk are those of this session, also in the processes that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GSEG_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """What `gseg` froze, for a process that ends with the command, is collected after a test that called it here."""
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def ball_room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Balls on a floor, see `ball_room` in `support`. Copy it before changing it."""
    return write_ball_room(tmp_path_factory.mktemp("scenes") / "ball_room")


@pytest.fixture(scope="session")
def small_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo scene of five objects in 16 small views. Copy it before changing it."""
    from gseg_ns.demo import write_demo_scene

    folder = tmp_path_factory.mktemp("demo") / "small"
    write_demo_scene(folder, num_objects=5, num_views=16, width=96, height=72)
    return folder


def run(command: str, *arguments: str | Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment as a user would, with its output captured."""
    path = Path(sys.executable).parent / command
    environment = {**os.environ, "COLUMNS": "200", "TERM": "dumb"}
    return subprocess.run(
        [str(path), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="session")
def run_command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run(command, *arguments)`: a command of this environment in a process of its own."""
    return run


@pytest.fixture(scope="session")
def gaga_run(small_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """config.yml of a short run of `ns-train gaga` on `small_scene`. Copy the run before changing it."""
    output = tmp_path_factory.mktemp("runs")
    arguments = (
        "gaga --max-num-iterations 250 --pipeline.model.max-gaussians 6000 --pipeline.model.num-downscales 0 "
        "--vis tensorboard --viewer.quit-on-train-completion True --experiment-name small --timestamp run"
    )
    done = run("ns-train", *arguments.split(), "--data", small_scene, "--output-dir", output)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (output / "terminal.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    return output / "small/gaga/run/config.yml"


@pytest.fixture(scope="session")
def built_run(ball_room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """config.yml of a run of `gaga` on the balls, 13 000 Gaussians with the right groups; not to be written to."""
    return build_run(ball_room, tmp_path_factory.mktemp("constructed"))


@pytest.fixture(scope="session")
def built_saga_run(ball_room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """config.yml of a run of `saga` on the balls, 13 000 Gaussians with the right features; not to be written to."""
    return build_run(ball_room, tmp_path_factory.mktemp("constructed"), "saga")


@pytest.fixture(scope="module")
def constructed_run(built_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `built_run` for the tests of one file, which may write into its folder."""
    return copy_run(built_run, tmp_path_factory.mktemp("constructed"))


@pytest.fixture(scope="module")
def constructed_saga_run(built_saga_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `built_saga_run` for the tests of one file, which may write into its folder."""
    return copy_run(built_saga_run, tmp_path_factory.mktemp("constructed"))


MakeTrainer = Callable[..., Any]
"""(method specification, data, load=None, steps=40, **options of model or datamanager) -> a trainer, set up."""


@pytest.fixture
def make_trainer(tmp_path: Path) -> MakeTrainer:
    """Build a trainer in this process, small and seeded."""

    def make(method: Any, data: Path, load: Path | None = None, steps: int = 40, **options: Any) -> Any:
        config = copy.deepcopy(method.config)
        config.data = config.pipeline.datamanager.data = data
        config.output_dir = tmp_path / "outputs"
        config.timestamp = f"run{len(list(tmp_path.rglob('config.yml')))}"
        config.max_num_iterations = steps
        config.vis = "tensorboard"
        config.viewer.quit_on_train_completion = True
        config.logging.local_writer.enable = False
        config.load_dir = load
        for name in ("eval_batch", "eval_image", "eval_all_images", "save"):
            setattr(config, f"steps_per_{name}", options.pop(f"steps_per_{name}", 10**9))
        config.save_only_latest_checkpoint = False
        model = config.pipeline.model
        model.background_color = "black"
        model.max_gaussians = 4000
        model.num_downscales = 0
        for name, value in options.items():
            setattr(config.pipeline.datamanager if name.startswith("mask") else model, name, value)
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002  what Nerfstudio draws its views from
        random.seed(0)
        trainer = config.setup(local_rank=0, world_size=1)
        config.save_config()
        trainer.setup()
        return trainer

    return make


def train_step(trainer: Any, number: int) -> dict[str, torch.Tensor]:
    """One training step with its callbacks, without the loop around it; returns the losses."""
    from nerfstudio.engine.callbacks import TrainingCallbackLocation as Location

    trainer.step = number
    trainer.pipeline.train()
    for callback in trainer.callbacks:
        callback.run_callback_at_location(number, location=Location.BEFORE_TRAIN_ITERATION)
    losses = trainer.train_iteration(number)[1]
    for callback in trainer.callbacks:
        callback.run_callback_at_location(number, location=Location.AFTER_TRAIN_ITERATION)
    return losses


@pytest.fixture(scope="session")
def step() -> Callable[[Any, int], dict[str, torch.Tensor]]:
    """`step(trainer, number)`: one training step with its callbacks."""
    return train_step


@pytest.fixture(scope="session")
def tiny_clip() -> Any:
    """A CLIP of one layer with random weights, as the encoder that text prompts use."""
    transformers: Any = pytest.importorskip("transformers")
    from gseg_ns.lifting.text import ClipEncoder

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={**sizes, "vocab_size": 64, "max_position_embeddings": 16, "eos_token_id": 1, "bos_token_id": 0},
        vision_config={**sizes, "image_size": 16, "patch_size": 8},
        projection_dim=12,
    )

    def tokenizer(texts: list[str], **_: Any) -> dict[str, torch.Tensor]:
        rows = [[0, *(ord(letter) % 60 + 2 for letter in text[:10]), 1] for text in texts]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [1] * (longest - len(row)) for row in rows])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    torch.manual_seed(0)
    return ClipEncoder(transformers.CLIPModel(config), tokenizer)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip CUDA tests, with the reason, where there is no GPU."""
    if torch.cuda.is_available():
        return
    for item in items:
        if "cuda" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU on this machine"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=1, help="how often each writer is killed (1; 10 in a long run)")
    parser.addoption("--fuzz-inputs", type=int, default=2500, help="damaged files that readers are given, in all")
    parser.addoption("--fuzz-seed", type=int, default=0, help="other damage with another number")
