"""Mask making under load: memory against the number of images, and runs that are killed or shared.

python benchmarks/masks.py memory            200 images of 1920x1080 beside 20
python benchmarks/masks.py kill --data SCENE ten SIGKILLs at random moments, then the folder is compared
python benchmarks/masks.py shards --data SCENE  two shards at once, then the folder is compared
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image
from rich.console import Console
from rich.table import Table

_RUN = "import sys, tyro; from gseg_ns.cli.masks import Masks; tyro.cli(Masks, args=sys.argv[1:]).main()"
_PEAK = "; import resource; print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"


def command(*arguments: object, measure: bool = False) -> list[str]:
    """`gseg masks` as a process of its own."""
    return [sys.executable, "-c", _RUN + (_PEAK if measure else ""), *map(str, arguments)]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def masks_of(folder: Path) -> list[Path]:
    """The finished mask files of a folder, which need not exist yet."""
    return list(folder.rglob("[!.]*.json"))


@dataclass
class Memory:
    """Peak memory and time an image against the number of images."""

    counts: tuple[int, ...] = (20, 200)
    """Numbers of images to compare."""
    work_side: int = 160
    """Of the classical source: small, since the reading, encoding and writing of large images is what is measured."""

    def main(self, console: Console) -> None:
        """Print a table."""
        table = Table("images", "peak MB", "s", title="gseg masks, 1920x1080, classical")
        for count in self.counts:
            with tempfile.TemporaryDirectory() as folder:
                root = Path(folder)
                (root / "images").mkdir()
                for index in range(count):
                    path = root / "images" / f"{index:04}.jpg"
                    if index < 10:
                        _photograph(index).save(path, quality=90)
                    else:
                        shutil.copy(root / "images" / f"{index % 10:04}.jpg", path)
                start = time.perf_counter()
                arguments = ("--data", root, "--classical.work-side", self.work_side, "--classical.min-area", 0.002)
                done = subprocess.run(command(*arguments, measure=True), capture_output=True, text=True, check=True)
                peak = int(done.stdout.rsplit("peak ", 1)[1]) / 1024
                table.add_row(str(count), f"{peak:.0f}", f"{time.perf_counter() - start:.0f}")
        console.print(table)


def _photograph(seed: int) -> Image.Image:
    """1920x1080 of overlapping colored ellipses with noise."""
    from PIL import ImageDraw

    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (1920, 1080), tuple(rng.integers(0, 256, 3).tolist()))
    pen = ImageDraw.Draw(image)
    for _ in range(40):
        x, y, width, height = rng.integers([0, 0, 40, 40], [1900, 1060, 500, 400]).tolist()
        pen.ellipse((x, y, x + width, y + height), fill=tuple(rng.integers(0, 256, 3).tolist()))
    noise = rng.normal(0, 5, (1080, 1920, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


@dataclass
class Kill:
    """SIGKILL a run at random moments and let it finish; compare with an undisturbed run."""

    data: Path
    """The scene; it is copied."""
    times: int = 10
    """How often to kill."""
    seed: int = 0
    """Of the moments."""
    max_side: int = 0
    """As of `gseg masks`: shrink the photographs, to be done sooner."""

    def main(self, console: Console) -> None:
        """Print how far each run came and whether the folders are the same.

        Raises:
            SystemExit: they differ.
        """
        rng = random.Random(self.seed)
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "scene"
            shutil.copytree(self.data, root)
            arguments = ("--data", root, "--max-side", self.max_side, "--output-dir")
            start = time.perf_counter()
            subprocess.run(command(*arguments, "calm"), stdout=subprocess.DEVNULL, check=True)
            duration = time.perf_counter() - start
            done = []
            for _ in range(self.times):
                process = subprocess.Popen(
                    command(*arguments, "killed"),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                # Most of a short run is starting up: the moments are counted from the first image that this run makes.
                before = len(masks_of(root / "killed"))
                while process.poll() is None and len(masks_of(root / "killed")) == before:
                    time.sleep(0.02)
                time.sleep(rng.uniform(0, 1 / self.times) * duration)
                process.send_signal(signal.SIGKILL)
                process.wait()
                done.append(len(masks_of(root / "killed")))
            subprocess.run(command(*arguments, "killed"), stdout=subprocess.DEVNULL, check=True)
            same = contents(root / "calm") == contents(root / "killed")
            console.print(f"undisturbed: {duration:.0f} s; images done after each kill: {done}; same folder: {same}")
            if not same:
                sys.exit(1)


@dataclass
class Shards:
    """Two shards at once; compare with one process."""

    data: Path
    """The scene; it is copied."""
    max_side: int = 0
    """As of `gseg masks`: shrink the photographs, to be done sooner."""

    def main(self, console: Console) -> None:
        """Print times and whether the folders are the same.

        Raises:
            SystemExit: they differ.
        """
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "scene"
            shutil.copytree(self.data, root)
            arguments = ("--data", root, "--max-side", self.max_side, "--output-dir")
            start = time.perf_counter()
            subprocess.run(command(*arguments, "one"), stdout=subprocess.DEVNULL, check=True)
            alone = time.perf_counter() - start
            start = time.perf_counter()
            processes = [
                subprocess.Popen(command(*arguments, "two", "--shard", shard), stdout=subprocess.DEVNULL)
                for shard in ("1/2", "2/2")
            ]
            statuses = [process.wait() for process in processes]
            together = time.perf_counter() - start
            same = statuses == [0, 0] and contents(root / "one") == contents(root / "two")
            console.print(f"one process: {alone:.0f} s; two shards at once: {together:.0f} s; same folder: {same}")
            if not same:
                sys.exit(1)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"memory": Memory, "kill": Kill, "shards": Shards}).main(Console())
