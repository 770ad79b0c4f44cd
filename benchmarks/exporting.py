"""How much memory exports take: a scene of many objects in every format, each in a process of its own.

python benchmarks/exporting.py
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any, get_args

import torch
import tyro
from rich.console import Console
from rich.table import Table

from gseg_ns.choices import SplatFormat
from gseg_ns.page import write_page
from gseg_ns.splats import Placement, Splats, write_objects


def main(gaussians: int = 2_000_000, objects: int = 500, formats: list[str] | None = None) -> None:
    """Print a table.

    Args:
        gaussians: of the scene, with SH of degree 3.
        objects: that they are evenly spread over, the Gaussians of each one after the other; as many again as one has
            belong to none.
        formats: all unless given.
    """
    table = Table("format", "peak, GB", "before writing, GB", "files, GB", "seconds")
    context = multiprocessing.get_context("spawn")
    for form in formats or get_args(SplatFormat):
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, context.Pool(1) as pool:
            peak, before, size, seconds = pool.apply(_export, (folder, form, gaussians, objects))
        table.add_row(form, f"{peak:.2f}", f"{before:.2f}", f"{size:.2f}", f"{seconds:.0f}")
    Console().print(table)


def _export(folder: str, form: Any, gaussians: int, objects: int) -> tuple[float, float, float, float]:
    """Peak of the process, its peak before it writes, size of the files (GB), and seconds."""
    generator = torch.Generator().manual_seed(0)
    groups = torch.arange(gaussians) * (objects + 1) // gaussians
    centres = 10 * torch.randn(objects + 1, 3, generator=generator)
    splats = Splats(
        means=centres[groups] + 0.2 * torch.randn(gaussians, 3, generator=generator),
        quats=torch.randn(gaussians, 4, generator=generator),
        scales=0.3 * torch.randn(gaussians, 3, generator=generator) - 5,
        opacities=torch.randn(gaussians, generator=generator),
        sh=0.1 * torch.randn(gaussians, 16, 3, generator=generator),
    )
    names = {group: f"object {group}" for group in range(1, objects + 1)}
    before, start = _peak(), perf_counter()
    out, placement = Path(folder) / "out", Placement(meters_per_unit=0.5)
    if form == "html":
        write_page(out / "page.html", splats, groups, names, placement=placement)
    else:
        write_objects(out, splats, groups, form, names=names, placement=placement)
    seconds = perf_counter() - start
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return _peak(), before, size / 1e9, seconds


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    tyro.cli(main)
