"""Real size: millions of Gaussians, hundreds of views, a thousand objects. What each stage costs, and how it grows.

    python benchmarks/scale.py scene --output LARGE --gaussians 2000000 --views 88 --pieces 1000
    python benchmarks/scale.py stages --scene LARGE
    python benchmarks/scale.py growth

`scene` makes a large scene out of the demo's room, or of a small scene and its splat: photographs and masks enlarged,
masks cut into parts until there are enough (or the splat itself is cut into pieces, whose outlines are the masks), each
Gaussian replaced by several beside each other. `stages` runs what
users wait for, each stage in a process of its own, and prints processor seconds (all threads together) and peak
resident memory. `growth` does so on scenes of several sizes and prints the exponents in Gaussians and in views. What a
GPU would need: `gpu_memory.py`.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Union

import tyro
from clock import Clock, Row, in_process  # type: ignore[import-not-found]
from large_scenes import Scene  # type: ignore[import-not-found]
from scale_stages import RUN, STAGES, Stage  # type: ignore[import-not-found]


@dataclass
class One:
    """A stage, in this process."""

    scene: Path
    """A large scene"""
    stage: Stage
    """Which"""
    profile: bool = False
    """Also print where the time goes"""

    def main(self) -> None:
        """Print its figures as JSON."""
        clock = Clock(self.stage)
        if self.profile:
            import cProfile
            import pstats

            with cProfile.Profile() as profiler:
                RUN[self.stage](self.scene, clock)
            pstats.Stats(profiler).sort_stats("tottime").print_stats(28)
        else:
            RUN[self.stage](self.scene, clock)
        print(json.dumps([asdict(row) for row in clock.rows]))


def measure(scene: Path, stages: tuple[Stage, ...], tell: Callable[[str], None] = print) -> list[Row]:
    """Run stages, each in a process of its own; the first of all finds no work of an earlier one."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as cache:
        environment = {"GSEG_CACHE_DIR": cache}
        for stage in stages:
            arguments = [sys.executable, __file__, "one", "--scene", str(scene), "--stage", stage]
            output, _, _ = in_process(arguments, environment)
            found = [Row(**row) for row in json.loads(output.splitlines()[-1])]
            for row in found:
                tell(row.line())
            rows += found
    return rows


def least(runs: list[list[Row]]) -> list[Row]:
    """Of each figure the smallest reading of several runs of the same stages."""
    return [min(readings, key=lambda row: row.seconds) for readings in zip(*runs, strict=True)]


@dataclass
class Stages:
    """Run the stages on a large scene: processor seconds, and peak resident memory."""

    scene: Path
    """A large scene"""
    only: tuple[Stage, ...] = STAGES
    """Which, in this order; what comes after lift needs its groups"""

    def main(self) -> None:
        """Print the table."""
        measure(self.scene, self.only, lambda line: print(line, flush=True))


@dataclass
class Growth:
    """How the stages grow: exponents in Gaussians and in views, on scenes of several sizes."""

    scene: Path | None = None
    """A scene in Nerfstudio's format to enlarge; None: demo rooms are made"""
    geometry: Path | None = None
    """Splat of that scene, PLY in Nerfstudio's frame; None: a Gaussian on each of its sparse points"""
    masks: str = "masks"
    """Mask folder within the scene"""
    gaussians: tuple[int, int] = (150_000, 600_000)
    """Numbers of Gaussians, with the first number of views"""
    views: tuple[int, int] = (6, 24)
    """Numbers of views, with the first number of Gaussians"""
    scale: int = 2
    """How many times as wide and high as the photographs"""
    count: int = 60
    """Masks a view, where there are large enough ones to be cut; 0: as they are, so that sizes find the same objects"""
    only: tuple[Stage, ...] = STAGES
    """Which stages"""
    times: int = 3
    """Runs of each stage, of whose readings the least count: what else the machine does only makes them longer"""
    least: float = 0.001
    """Seconds from which on an exponent says something"""

    def main(self) -> None:
        """Print the exponents."""
        sizes = {
            "base": (self.gaussians[0], self.views[0]),
            "Gaussians": (self.gaussians[1], self.views[0]),
            "views": (self.gaussians[0], self.views[1]),
        }
        with tempfile.TemporaryDirectory() as folder:
            for name, (gaussians, views) in sizes.items():
                scene = Path(folder) / name
                small = self.scene, self.geometry, self.masks
                Scene(
                    scene, *small, gaussians=gaussians, views=views, scale=self.scale, width=384, count=self.count
                ).main()
            # One size after the other in each round: what else the machine does meanwhile meets all of them.
            runs: dict[str, list[list[Row]]] = {name: [] for name in sizes}
            for _ in range(self.times):
                for name in sizes:
                    runs[name].append(measure(Path(folder) / name, self.only, progress(name)))
        rows = {name: least(found) for name, found in runs.items()}
        print(f"{'':61}{'seconds':>9}  exponent in Gaussians, in views")
        for row in rows["base"]:
            found = []
            for name, count in (("Gaussians", 0), ("views", 1)):
                # Counts within a name (of objects, of Gaussians that were cleaned) differ.
                other = next((r for r in rows[name] if _words(r.what) == _words(row.what)), None)
                if other is None or min(row.seconds, other.seconds) < self.least:
                    found.append("     -")
                    continue
                size = sizes[name][count] / sizes["base"][count]
                found.append(f"{math.log(other.seconds / row.seconds) / math.log(size):6.2f}")
            print(f"{row.stage:8} {row.what:52}{row.seconds:9.4f}  {'  '.join(found)}", flush=True)


def progress(name: str) -> Callable[[str], None]:
    """Tells the readings of a size as they come, beside the table."""
    return lambda line: print(f"{name:9} {line}", file=sys.stderr, flush=True)


def _words(what: str) -> str:
    return "".join(letter for letter in what if not letter.isdigit() and letter != ".")


Command = Union[  # noqa: UP007  tyro reads the members' annotations
    Annotated[Scene, tyro.conf.subcommand("scene")],
    Annotated[Stages, tyro.conf.subcommand("stages")],
    Annotated[Growth, tyro.conf.subcommand("growth")],
    Annotated[One, tyro.conf.subcommand("one")],
]

if __name__ == "__main__":
    tyro.cli(Command).main()
