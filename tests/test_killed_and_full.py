"""Whatever writes is killed at seeded moments, and runs into a full disk: nothing is lost, and nothing half is left.

`--kills 10` for a long run; few by default.
"""

from __future__ import annotations

import copy
import io
import json
import os
import random
import re
import shutil
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from nerfstudio.scripts.train import train_loop
from nerfstudio.utils import rich_utils, writer
from PIL import Image
from rich.console import Console

from gseg_ns.benchmarking import training
from gseg_ns.editing.edit_list import save_edits
from gseg_ns.editing.operations import Recolor
from gseg_ns.editing.session import Session
from gseg_ns.errors import GsegError
from gseg_ns.folders import settle, sole_use
from gseg_ns.method_configs.gaga import gaga
from gseg_ns.models.checkpoints import checkpoints, read_checkpoint
from gseg_ns.pictures import write_mp4
from gseg_ns.runs.run import Run, load_run
from gseg_ns.selection.packed import PackedMask
from gseg_ns.selection.store import Fingerprint
from random_splats import make

if not hasattr(os, "fork"):
    pytest.skip("needs fork", allow_module_level=True)

from forked import Ended, content, in_child, same

FEW = 1


@dataclass
class Command:
    """A command of `gseg`, or one of Nerfstudio's with its name, that writes below a folder."""

    arguments: str
    """With {run} for config.yml, {out} for the folder and {scene} for a scene's folder."""
    before: str = ""
    """What wrote the folder's former content; nothing was there unless given."""
    at_once: bool = True
    """All that it writes is there in one step; else each of its files is."""
    often: bool = False
    """Killed in the short run, too."""
    seldom: bool = False
    """In the long run alone."""
    killed: bool = True
    """Else it is not killed here."""
    tables: tuple[str, ...] = ()
    """Files that say what there is where some of it failed: whole, and other than before and after."""


COMMANDS = {
    "export": Command(
        "export --load-config {run} --output-dir {out}/e --overwrite --min-gaussians 50",
        "export --load-config {run} --output-dir {out}/e --groups 1 2",
        often=True,
    ),
    "export of glb": Command(
        "export --load-config {run} --output-dir {out}/e --overwrite --format glb",
        "export --load-config {run} --output-dir {out}/e --groups 1 2",
    ),
    "render": Command(
        "render --load-config {run} --output-dir {out}/r --outputs groups rgb",
        "render --load-config {run} --output-dir {out}/r --outputs rgb --edits {edits}",
        often=True,
    ),
    "turntable": Command(
        "render --load-config {run} --output-dir {out} --turntable 1 --frames 3 --size 64",
        "render --load-config {run} --output-dir {out} --turntable 1 --frames 5 --size 32",
    ),
    "sheet": Command("render --load-config {run} --output-dir {out} --sheet --size 32"),
    "select": Command("select --load-config {run} --view {view} --point {x} {y} --output {out}/s.npz"),
    "edit": Command(
        "edit --load-config {run} --groups 1 --do remove --edits {out}/edits.json --output {out}/s.ply --overwrite",
        at_once=False,
    ),
    "isolate": Command("isolate --load-config {run} --groups 1 2 --output-dir {out}/i --name two", often=True),
    "eval": Command(
        "eval --load-config {run} --ground-truth {scene}/gt/object --output {out}/scores.json --pictures {out}/p",
        at_once=False,
    ),
    "masks": Command("masks --data {scene} --output-dir {out}/m --max-side 64", at_once=False),
    "demo": Command(
        "demo {out}/d --objects 2 --views 8 --width 32 --height 32 --overwrite",
        "demo {out}/d --objects 1 --views 8 --width 32 --height 32",
    ),
    "export of spz": Command(
        "export --load-config {run} --output-dir {out}/e --overwrite --format spz",
        "export --load-config {run} --output-dir {out}/e --groups 1 2",
        seldom=True,
    ),
    "export of usd": Command(
        "export --load-config {run} --output-dir {out}/e --overwrite --format usd",
        "export --load-config {run} --output-dir {out}/e --groups 1 2",
        seldom=True,
    ),
    "export of usdz": Command(
        "export --load-config {run} --output-dir {out}/e --overwrite --format usdz",
        "export --load-config {run} --output-dir {out}/e --groups 1 2",
        seldom=True,
    ),
    "export of tiles with proxies": Command(
        "export --load-config {run} --output-dir {out}/e --overwrite --format glb --tileset --proxy box",
        "export --load-config {run} --output-dir {out}/e --groups 1 2",
        seldom=True,
    ),
    "sheet of masks": Command(
        "masks --data {scene} --output-dir {out}/m --max-side 64 --preview", at_once=False, seldom=True
    ),
    "lift": Command(
        "lift --data {scene} --geometry {run} --output-dir {out}/l --experiment-name e", at_once=False, seldom=True
    ),
    "pack": Command("pack {run} --output {out}/r.gseg --overwrite", seldom=True),
    "views": Command(
        "views {run} --output-dir {out}/v --count 3 --width 48 --height 36 --overwrite",
        "views {run} --output-dir {out}/v --count 2 --width 32 --height 24",
        seldom=True,
    ),
    "bench": Command(
        "bench quality --scenes {scene} --methods gaga --iterations 30 --ground-truth gt/object --output {out}/b",
        at_once=False,
        seldom=True,
        killed=False,  # in test_killed_processes.py
        tables=("b/quality.json", "b/quality.png"),
    ),
    "protocol": Command(
        "protocol replica-gaga --data {out}/room_0 --prepare --predictions {out}/p --output {out}/scores.json",
        at_once=False,
    ),
    "ns-export": Command(
        "ns-export gaussian-splat --load-config {run} --output-dir {out}/e",
        "export --load-config {run} --output-dir {out}/e --groups 1",
        at_once=False,
        seldom=True,
    ),
    "ns-export of cameras": Command(
        "ns-export cameras --load-config {run} --output-dir {out}/e", at_once=False, seldom=True
    ),
    "ns-render": Command(
        "ns-render dataset --load-config {run} --output-path {out}/r --rendered-output-names rgb --image-format png",
        at_once=False,
        seldom=True,
    ),
    "ns-eval": Command(
        "ns-eval --load-config {run} --output-path {out}/scores.json --render-output-path {out}/p",
        at_once=False,
        seldom=True,
    ),
}

UPSTREAM = {
    "ns-export": "nerfstudio.scripts.exporter",
    "ns-render": "nerfstudio.scripts.render",
    "ns-eval": "nerfstudio.scripts.eval",
}
"""Modules of Nerfstudio's commands."""


@pytest.fixture(scope="module")
def loaded(constructed_run: Path) -> Run:
    """Loaded once: what is killed is the writing."""
    return load_run(constructed_run)


@dataclass
class Work:
    """A command, and what it works on."""

    command: Command
    out: Path
    names: dict[str, Any]
    run: Run

    def __call__(self, arguments: str = "", **options: Any) -> Ended:
        """Run it, or another, in a child."""
        words = [word.format(**self.names, out=self.out) for word in (arguments or self.command.arguments).split()]

        def work() -> None:
            from gseg_ns.cli import console, main
            from gseg_ns.runs import run as runs

            runs.load_run = lambda *_, **__: self.run
            training.ns_train = lambda *_: training.TrainedRun(self.run.config_path, 1.0, 1.0)
            console.CONSOLE, console.ERRORS = Console(width=10_000), Console(stderr=True, width=10_000)
            main.ERRORS = console.ERRORS
            if words[0] in UPSTREAM:
                upstream(words)
            sys.argv = ["gseg", *words]
            main.entrypoint()

        return in_child(work, **options)

    def begin(self) -> None:
        """The folder as it is before the command."""
        shutil.rmtree(self.out, ignore_errors=True)
        if self.former.exists():
            shutil.copytree(self.former, self.out)
        else:
            self.out.mkdir()

    @property
    def former(self) -> Path:
        """What was there before, kept aside."""
        return self.out.with_name("former")

    def content(self) -> dict[str, bytes]:
        """What is in the folder now, but for temporary files; times are not told apart."""
        time_of_run = re.compile(r"\d{4}-\d\d-\d\d_\d{6}")
        found = {}
        for name, value in content(self.out).items():
            if ".tmp" in name:
                continue
            if name.endswith(".ckpt"):  # it knows what chance was, which differs between calls
                state = read_checkpoint(self.out / name)["pipeline"]
                tensors = {key: tensor for key, tensor in state.items() if isinstance(tensor, torch.Tensor)}
                value = b"".join(key.encode() + tensor.numpy().tobytes() for key, tensor in tensors.items())
            if name.endswith(".spz"):  # a gzip file
                value = value[:4] + value[8:]
            if name.endswith(".usdz"):
                with zipfile.ZipFile(io.BytesIO(value)) as archive:
                    value = b"".join(member.encode() + archive.read(member) for member in archive.namelist())
            if name.endswith(".json"):
                value = re.sub(rb"\d+\.\d+(e-\d+)?", b"N", value)  # seconds differ
            if name.endswith(".yml"):
                value = time_of_run.sub("T", value.decode()).encode()
            found[time_of_run.sub("T", name)] = value
        return found


@pytest.fixture
def work(request: pytest.FixtureRequest, loaded: Run, ball_room: Path, tmp_path: Path) -> Work:
    """The command that the parameter names, and its former content in place."""
    command = COMMANDS[request.param]
    if command.seldom and not is_long(request):
        pytest.skip("with --kills 10")
    edits = tmp_path / "edits.json"
    names = {"run": loaded.config_path, "scene": ball_room, "edits": edits}
    view = next(iter(loaded.views("train")))
    names["view"] = view.name
    pixels = (loaded.model.label_image(view.camera) == 1).nonzero()
    names["y"], names["x"] = pixels[len(pixels) // 2].tolist()
    save_edits(edits, [], Fingerprint.of(loaded.model.means))
    made = Work(command, tmp_path / "out", names, loaded)
    if command.before:
        done = made(command.before)
        assert done.status == 0, done.said
        made.out.rename(made.former)
    if request.param == "protocol":
        write_replica(made.former / "room_0")
    made.begin()
    return made


def upstream(words: list[str]) -> NoReturn:
    """Run a command of Nerfstudio as a process does, which it ends."""
    rich_utils.CONSOLE.width = 10_000
    sys.argv = words
    try:
        import_module(UPSTREAM[words[0]]).entrypoint()
    except Exception:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        raise SystemExit(1) from None
    raise SystemExit(0)


def write_replica(scene: Path) -> None:
    """A scene as the benchmark replica-gaga has them, and predictions in `p` beside it."""
    ids = np.repeat([[3, 3, 8, 8, 8, 8]], 4, axis=0).astype(np.uint8)
    for folder in ("images", "semantic_instance"):
        (scene / folder).mkdir(parents=True)
    (scene.parent / "p/room_0").mkdir(parents=True)
    Image.fromarray(ids).save(scene.parent / "p/room_0/test_rgb_0002.png")
    for view in ("train 0000", "train 0005", "test 0002"):
        split, number = view.split()
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(scene / f"images/{split}_rgb_{number}.png")
        Image.fromarray(ids).save(scene / f"semantic_instance/{split}_semantic_instance_{number}.png")


def is_allowed(work: Work, before: dict[str, bytes], after: dict[str, bytes]) -> bool:
    """Whether the folder is as before or as after, or each file is where they need not change at once."""
    now = work.content()
    if work.command.at_once:
        return now in (before, after)
    for name in set(work.command.tables) & now.keys():
        if name.endswith(".json"):
            json.loads(re.sub(rb"\bN\b", b"0", now.pop(name)))
        else:
            Image.open(io.BytesIO(now.pop(name))).load()
    return all(value in (before.get(k), after.get(k)) for k, value in now.items()) and before.keys() <= {
        *now, *work.command.tables
    }  # fmt: skip


@pytest.mark.parametrize("work", COMMANDS, indirect=True)
def test_a_killed_command(work: Work, request: pytest.FixtureRequest) -> None:
    kills = request.config.getoption("--kills")
    if (kills <= FEW and not work.command.often) or not work.command.killed:
        pytest.skip("killed with --kills 10, or elsewhere")
    before = work.content()
    done = work()
    assert done.status == 0, done.said
    after = work.content()
    chance = random.Random(kills)
    for number in range(kills):
        work.begin()
        # Stratified: every part of its time is met.
        work(kill_after=done.seconds * (number + chance.random()) / kills)
        for folder in work.out.iterdir():
            settle(folder)
        assert is_allowed(work, before, after)
        if work.content() != after and work.command is not COMMANDS["edit"]:
            time.sleep(1.0 if work.command is COMMANDS["isolate"] else 0.0)
            again = work()
            assert again.status == 0, again.said
            assert work.content() == after
            # What is left of a kill goes with the next write; after a kill in the last moment there was none yet.
            assert not [path for path in work.out.rglob(".*.tmp*") if work.command.at_once]


@pytest.mark.parametrize("work", COMMANDS, indirect=True)
def test_a_command_on_a_full_disk(work: Work, request: pytest.FixtureRequest) -> None:
    before = work.content()
    assert work().status == 0
    after = work.content()
    written = sorted({len(value) for name, value in after.items() if before.get(name) != value})
    sizes = [written[-1] - 1, *([written[0] - 1, written[len(written) // 2] - 1] if is_long(request) else [])]
    for size in sizes:
        work.begin()
        done = work(largest_file=size)
        assert done.status == 1, (size, done.said)
        assert done.said.count("Error:") == 1, done.said
        assert "Traceback" not in done.said
        assert "ignored in" not in done.said
        assert is_allowed(work, before, after), size
        assert not list(work.out.rglob("*.tmp*"))


@pytest.mark.skipif(sys.platform != "linux", reason="gives up capabilities of Linux")
@pytest.mark.parametrize("work", COMMANDS, indirect=True)
def test_a_command_that_may_not_write(work: Work) -> None:
    before = work.content()
    folders = [work.out, *(path for path in work.out.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        done = work(as_anyone=True)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert_one_message(done)
    assert str(work.out) in done.said
    assert work.content() == before
    assert not list(work.out.rglob("*.tmp*"))


@pytest.mark.skipif(sys.platform != "linux", reason="gives up capabilities of Linux")
@pytest.mark.parametrize(
    "arguments",
    [
        "masks --data {locked} --output-dir {out}/m",
        "masks --data {scene} --check {locked}",
        "lift --data {locked} --geometry {run} --output-dir {out}",
        "lift --data {scene} --geometry {locked} --output-dir {out}",
        "eval --load-config {run} --ground-truth {locked} --output {out}/scores.json",
        "render --load-config {run} --output-dir {out}/r --edits {locked}/edits.json",
        "export --load-config {run} --output-dir {out}/e --edits {locked}/edits.json",
        "isolate --load-config {run} --groups 1 --output-dir {locked}/i --name one",
        "protocol replica-gaga --data {locked}",
        "bench quality --scenes {locked} --methods gaga --output {out}/b",
        "demo {locked}/d --objects 1 --views 8 --width 32 --height 32",
    ],
)
def test_what_may_not_be_read(arguments: str, loaded: Run, ball_room: Path, tmp_path: Path) -> None:
    locked, out = tmp_path / "locked", tmp_path / "out"
    names = {"run": loaded.config_path, "scene": ball_room, "locked": locked}
    locked.mkdir()
    work = Work(Command(arguments), out, names, loaded)
    work.begin()
    locked.chmod(0)
    try:
        done = work(as_anyone=True)
    finally:
        locked.chmod(0o755)
    assert_one_message(done)
    assert str(locked) in done.said
    assert not work.content()


def assert_one_message(done: Ended) -> None:
    assert done.status == 1, done.said
    assert done.said.count("Error:") == 1, done.said
    assert "Traceback" not in done.said
    assert "ignored in" not in done.said


def is_long(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--kills") > FEW)


# ---- sessions


def session_of(number: int) -> Session:
    """A session whose selections, edits and names of groups are all of one number."""
    session = Session(make(60))
    mask = torch.arange(60) < number
    session.select(mask)
    session.keep(f"selection {number}")
    session.edit(Recolor(PackedMask.pack(mask), (number / 60, 0.0, 0.0)))
    session.label(1, f"name {number}")
    return session


def numbers_in(folder: Path) -> set[int]:
    """Which numbers the parts of a saved session are of."""
    session = Session(make(60))
    loaded = session.load(folder)
    assert loaded is not None
    assert not loaded.problems
    assert len(loaded.parts) == 3
    colors = {round(operation.color[0] * 60) for operation in session.state.operations}
    words = [*session.named, *session.labels().values()]
    return colors | {int(word.split()[1]) for word in words} | {session.selection.count}


def test_a_killed_saving_of_a_session(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    kills = 5 * request.config.getoption("--kills")
    (tmp_path / "config.yml").write_text("of the run")
    sessions = [session_of(number) for number in range(1, 40)]
    sessions[0].save(tmp_path)

    def work() -> None:
        for session in sessions:
            session.load(tmp_path)  # else the former files are kept aside
            session.save(tmp_path)

    chance = random.Random(kills)
    for _ in range(kills):
        in_child(work, kill_after=chance.uniform(0, 0.25))
        assert len(numbers_in(tmp_path)) == 1
    sessions[-1].load(tmp_path)
    sessions[-1].save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.yml", "selections.npz", "edits.json", "group_names.json"
    }  # fmt: skip


def test_a_session_saved_on_a_full_disk(tmp_path: Path) -> None:
    session_of(1).save(tmp_path)
    before = content(tmp_path)

    def work() -> None:
        session = Session(make(60))
        session.load(tmp_path)
        session.label(2, "long" * 10)
        session.save(tmp_path)

    for size in (0, 100, len(before["selections.npz"]) - 1):
        done = in_child(work, largest_file=size)
        assert done.status == 70
        assert "GsegError: Cannot write" in done.said
        assert content(tmp_path) == before
        assert numbers_in(tmp_path) == {1}


# ---- films


def test_a_film_on_a_full_disk(tmp_path: Path) -> None:
    noise = list(torch.rand(20, 64, 64, 3))
    write_mp4(tmp_path / "film.mp4", noise)
    before = content(tmp_path)
    for size in (0, 1000, len(before["film.mp4"]) - 100):
        done = in_child(lambda: write_mp4(tmp_path / "film.mp4", noise), largest_file=size)
        assert done.status == 70
        assert "GsegError: Cannot write" in done.said
        assert content(tmp_path) == before


# ---- training


def training_child(data: Path, output: Path, load: Path | None = None, **limits: Any) -> Ended:
    """Train 40 steps in a child, with a checkpoint every 5."""

    def work() -> None:
        torch.set_num_threads(1)
        # Those of trainings in this process have threads, which a fork leaves behind: their queues fill up for ever.
        writer.EVENT_WRITERS.clear()
        config = copy.deepcopy(gaga.config)
        config.data = config.pipeline.datamanager.data = data
        config.output_dir, config.experiment_name, config.timestamp = output, "e", "run"
        config.max_num_iterations, config.steps_per_save, config.load_dir = STEPS, 5, load
        config.vis = "tensorboard"
        config.viewer.quit_on_train_completion = True
        config.pipeline.model.max_gaussians, config.pipeline.model.num_downscales = 3000, 0
        config.pipeline.model.refine_every, config.pipeline.model.warmup_length = 5, 4
        for name in ("batch", "image", "all_images"):
            setattr(config, f"steps_per_eval_{name}", 10**9)
        config.save_config()
        train_loop(0, 1, config)

    return in_child(work, **limits)


STEPS = 40


def test_a_killed_training_goes_on_bit_for_bit(
    small_scene: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    done = training_child(small_scene, tmp_path / "undisturbed")
    assert done.status == 0, done.said
    (last,) = checkpoints(tmp_path / "undisturbed/e/gaga/run/nerfstudio_models")
    kills = request.config.getoption("--kills")
    chance = random.Random(kills)
    folder = tmp_path / "killed/e/gaga/run/nerfstudio_models"
    reached = 0
    for number in range(kills):
        load = folder if checkpoints(folder) else None
        training_child(small_scene, tmp_path / "killed", load, kill_after=chance.uniform(0.4, 0.8) * done.seconds)
        found = checkpoints(folder)
        for path in found:
            read_checkpoint(path)
        now = max((int(path.stem[5:]) for path in found), default=0)
        assert now >= reached, number
        reached = now
        if reached == STEPS - 1:
            shutil.rmtree(folder)
            reached = 0
    again = training_child(small_scene, tmp_path / "killed", folder if checkpoints(folder) else None)
    assert again.status == 0, again.said
    (finished,) = checkpoints(folder)
    assert same(read_checkpoint(finished), read_checkpoint(last))
    assert not list(folder.parent.glob(".*"))


def test_a_training_on_a_full_disk(small_scene: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    for size in (100_000, *((0, 100, 5000, 20_000, 30_000) if is_long(request) else ())):
        folder = tmp_path / str(size)
        done = training_child(small_scene, folder, largest_file=size)
        assert done.status == 1, done.said
        assert done.said.count("Error:") == 1, done.said
        assert "Traceback" not in done.said
        assert not list(folder.rglob("*.ckpt"))
        assert not list(folder.rglob("*.tmp*"))


# ---- benchmarks


def test_a_killed_benchmark_takes_its_training_along(small_scene: Path, tmp_path: Path) -> None:
    settings = training.TrainSettings("gaga", small_scene, "masks", 10, 0)
    folder = settings.config_path(tmp_path, "one").parent
    stand_in = tmp_path / "ns-train"
    stand_in.write_text(
        f"#!{sys.executable}\nimport time; from pathlib import Path; from gseg_ns.folders import sole_use\n"
        f"with sole_use(Path({str(folder)!r}), 'trains into'): print('training', flush=True); time.sleep(60)\n"
    )
    stand_in.chmod(0o755)

    def work() -> None:
        (tmp_path / "python").symlink_to(sys.executable)
        training.sys.executable = str(tmp_path / "python")  # type: ignore[attr-defined]
        training.ns_train(settings, tmp_path, "one")

    def look() -> None:
        while not (tmp_path / "one.log").exists() or "training" not in (tmp_path / "one.log").read_text():
            time.sleep(0.05)
        with pytest.raises(GsegError, match="Another process trains into"):
            training.ns_train(settings, tmp_path, "one")

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        in_child(work, kill_after=3.0)
        looking.result()
    if sys.platform == "linux":
        time.sleep(0.5)
        with sole_use(folder, "trains into"):
            pass
