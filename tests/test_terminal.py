"""What a process shows, and what it writes to a log."""

from __future__ import annotations

import copy
import os
import pty
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from gseg_ns import terminal
from gseg_ns.errors import GsegError
from gseg_ns.method_configs.gaga import gaga
from gseg_ns.models.trainer import user_errors

Capture = pytest.CaptureFixture[str]


def test_prints_go_to_the_log_and_what_matters_to_both(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "run" / "a.log"
    with terminal.quietly(path):
        print("of upstream")  # noqa: T201
        warnings.warn("old", UserWarning, stacklevel=1)
        terminal.say("3 masks [read]")
        terminal.ERRORS.print("Error: bad")
    print("after")  # noqa: T201
    seen = capsys.readouterr()
    assert seen.out == "3 masks [read]\nafter\n"
    assert "Error: bad" in seen.err
    assert "UserWarning" not in seen.err
    text = path.read_text()
    assert "of upstream" in text
    assert "old" in text
    assert "3 masks [read]" in text


def test_verbose_hides_nothing(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(terminal.VERBOSE, "1")
    with terminal.quietly(tmp_path / "a.log"):
        print("of upstream")  # noqa: T201
    assert "of upstream" in capsys.readouterr().out
    assert not (tmp_path / "a.log").exists()


def test_a_log_that_cannot_be_written_does_not_stop_anything(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("")
    with terminal.quietly(tmp_path / "file" / "a.log"):
        print("of upstream")  # noqa: T201
        terminal.say("seen")
    assert capsys.readouterr().out == "seen\n"


def test_an_error_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    before = sys.stdout, warnings.showwarning
    with pytest.raises(ZeroDivisionError), terminal.quietly(tmp_path / "a.log"), terminal.quietly(tmp_path / "b.log"):
        raise ZeroDivisionError
    assert (sys.stdout, warnings.showwarning) == before
    assert not terminal.is_quiet()


def test_without_a_terminal_progress_is_a_few_lines(capsys: Capture) -> None:
    told = terminal.Progress(1000, lines=10)
    for step in range(1, 1001):
        told.update("step", step, "loss 1")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[-1].startswith("  step 1000/1000   loss 1")
    assert list(terminal.track([1, 2], "Reading")) == [1, 2]
    assert capsys.readouterr().out == ""


def test_on_a_terminal_one_line_is_written_over(tmp_path: Path) -> None:
    program = (
        "from gseg_ns import terminal\n"
        "p = terminal.Progress(5)\n"
        "terminal._EVERY = 0\n"
        "for n in range(1, 6): p.update('step', n)\n"
        "terminal.say('done')\n"
    )
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=theirs, check=False, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    said = os.read(ours, 10_000).decode()
    os.close(ours)
    assert done.returncode == 0
    assert said.count("\n") == 1
    assert "\r\x1b[2K  step 5/5\r\x1b[2Kdone" in said


def test_the_time_left_is_that_of_steps_like_those_to_come(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step of a phase has kernels compiled or masks associated before it."""
    now = 0.0
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now)
    told = terminal.Progress(100, lines=10)
    for step in range(1, 101):
        now += 300 if step in (1, 51) else 1
        if step in (1, 51):
            told.time_from(step)
        told.update("step", step)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["  step 10/100   1 min 30 s left", "  step 20/100   1 min 20 s left"]
    assert lines[5:7] == ["  step 60/100   40 s left", "  step 70/100   30 s left"]


def test_a_training_that_ends_leaves_prints_to_the_process(tmp_path: Path) -> None:
    """Also one that is refused: a notebook, or a test, has other things to say."""
    config = copy.deepcopy(gaga.config)
    config.output_dir, config.data, config.timestamp = tmp_path, tmp_path / "none", "run"
    config.set_experiment_name()
    config.print_to_terminal()
    assert terminal.is_quiet()
    with pytest.raises(SystemExit), user_errors():
        raise GsegError("no")
    assert not terminal.is_quiet()


@pytest.mark.parametrize(
    ("module", "verbose", "seen"),
    [("nerfstudio.field_components.activations", "", 0), ("torch.jit._script", "", 0), ("a_plugin", "", 1),
     ("torches", "", 1), ("nerfstudio.cameras", "1", 1)],
)  # fmt: skip
def test_deprecations_of_upstream_are_hidden(
    module: str, verbose: str, seen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(terminal.VERBOSE, verbose)
    monkeypatch.setattr(sys, "warnoptions", [])
    with warnings.catch_warnings(record=True) as told:
        warnings.resetwarnings()
        terminal.hide_deprecations()
        warnings.warn_explicit("old", FutureWarning, "a.py", 1, module=module)
        warnings.warn_explicit("of the user's data", UserWarning, "a.py", 2, module=module)
    assert len(told) == seen + 1


@pytest.mark.parametrize(("seconds", "said"), [(7.6, "8 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations(seconds: float, said: str) -> None:
    assert terminal.duration(seconds) == said


def test_a_training_is_told_in_few_lines(gaga_run: Path) -> None:
    lines = (gaga_run.parents[3] / "terminal.txt").read_text().splitlines()
    text = "\n".join(lines)
    assert len(lines) <= 30, text
    for part in (
        "gaga on", "masks of 14 of 14 training views", "geometry: step", "features: step 250/250", "loss",
        "Put the masks of 14 views into a tree", f"gseg export --load-config {gaga_run}", f"gseg view {gaga_run}",
    ):  # fmt: skip
        assert part in text
    assert "alias" not in text
    log = (gaga_run.parent / "train.log").read_text()
    assert "Train Iter (time)" in log
    assert "\x1b[" not in log


def test_a_training_of_features_is_told_in_few_lines(
    small_scene: Path, run_command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """saga-v1, whose set-up says the most."""
    arguments = (
        "saga-v1 --max-num-iterations 60 --pipeline.model.max-gaussians 2000 --pipeline.model.guidance-weight 0 "
        "--vis tensorboard --viewer.quit-on-train-completion True --experiment-name small --timestamp run"
    )
    done = run_command("ns-train", *arguments.split(), "--data", small_scene, "--output-dir", tmp_path)
    lines = (done.stdout + done.stderr).splitlines()
    text = "\n".join(lines)
    assert done.returncode == 0, text
    assert 5 <= len(lines) <= 30, text
    for part in ("saga-v1 on", "features: step", f"gseg view {tmp_path / 'small/saga-v1/run/config.yml'}"):
        assert part in text


def test_timings_of_upstream_go_to_the_log(tmp_path: Path, capsys: Capture) -> None:
    """Nerfstudio prints them after the training, when the terminal is free again."""
    from nerfstudio.utils import profiler

    from gseg_ns.models import trainer

    config = copy.deepcopy(gaga.config)
    assert isinstance(config, trainer.SegmentationTrainerConfig)
    config.output_dir, config.experiment_name, config.timestamp = tmp_path, "scene", "run"
    assert trainer.be_quiet(config)
    profiler.setup_profiler(config.logging, tmp_path)
    profiler.PROFILER[0].update_time("step", 0.0, 1.0)
    trainer._quiet.close()
    profiler.flush_profiler(config.logging)
    assert "profiling stats" not in capsys.readouterr().out
    assert "profiling stats" in (config.get_base_dir() / trainer.LOG).read_text()
