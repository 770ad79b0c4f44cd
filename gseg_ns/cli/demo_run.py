"""The main job on the demo scene: train, render, evaluate, export, with the commands a user would type."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from shlex import quote

from gseg_ns.children import dependent
from gseg_ns.cli.console import CONSOLE
from gseg_ns.errors import GsegError
from gseg_ns.reading import read_json
from gseg_ns.terminal import is_verbose


def command_path(name: str) -> str:
    """Find a command of this Python environment, which need not be on PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else name


def run_command(name: str, *arguments: str) -> None:
    """Show and run a command of this environment.

    Raises:
        GsegError: it fails.
    """
    CONSOLE.print(f"[bold cyan]$ {name} {' '.join(arguments)}[/]", markup=True)
    # Deprecations that upstream's modules tell when they are imported, before anybody can route them.
    quiet = {} if is_verbose() else {"PYTHONWARNINGS": "ignore::FutureWarning,ignore::DeprecationWarning"}
    command = dependent([command_path(name), *arguments])
    status = subprocess.run(command, check=False, env={**quiet, **os.environ}).returncode
    if status != 0:
        raise GsegError(f"{name} failed with exit status {status}; its messages are above")


def run_demo(scene: Path, method: str, iterations: int) -> None:
    """Train on a demo scene and print how many objects were found, how well, and where the results are.

    Args:
        scene: folder that `gseg demo` wrote.
        method: a method of `ns-train`.
        iterations: length of the run.

    Raises:
        GsegError: one of the commands fails.
    """
    results = scene.parent / f"{scene.name}-results"
    run_command(
        "ns-train",
        method,
        "--data",
        str(scene),
        "--max-num-iterations",
        str(iterations),
        "--output-dir",
        str(results / "runs"),
        "--experiment-name",
        scene.name,
        "--timestamp",
        "latest",
        "--vis",
        "tensorboard",
        "--viewer.quit-on-train-completion",
        "True",
    )
    config = results / "runs" / scene.name / method / "latest" / "config.yml"
    load = ("--load-config", str(config))
    scores_path = results / "scores.json"
    ground_truth = str(scene / "gt" / "instance")
    views = str(results / "views")
    run_command("gseg", "eval", *load, "--ground-truth", ground_truth, "--output", str(scores_path))
    run_command("gseg", "render", *load, "--output-dir", views, "--outputs", "groups", "rgb", "overlay")
    run_command("gseg", "export", *load, "--output-dir", str(results / "objects"), "--overwrite")

    scores = read_json(scores_path, "scores of gseg eval")
    if scores["num_pred"] == 0:
        raise GsegError(
            f"The run found no object. Look at the masks ({scene / 'masks'}) and at the pictures ({views}): masks of "
            "other photographs, or turned, find nothing, nor does a geometry in another frame"
        )
    CONSOLE.print(
        f"\n[bold green]Found {scores['num_pred']} objects[/] (the scene has {scores['num_gt']}, floor and walls "
        f"included): IoU {scores['iou']:.1f}, precision {scores['precision']:.1f}, recall {scores['recall']:.1f} on "
        f"{scores['num_views']} views not trained on.\n"
        f"  pictures: {views}\n"
        f"  objects as PLY: {results / 'objects'}\n"
        f"  in the browser: gseg view {quote(str(config))}",
        markup=True,
    )
