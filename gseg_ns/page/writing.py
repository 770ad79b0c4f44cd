"""Writing a page: what of a scene goes into it, and where it lies there."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.files import atomic_path
from gseg_ns.objects import Evidence, ObjectRecord, object_records
from gseg_ns.page.document import document
from gseg_ns.page.placing import View, first_view, page_placement, short
from gseg_ns.palette import colors
from gseg_ns.splats import Placement, Splats, write_ply
from gseg_ns.splats.spz import write_spz

LARGEST = 10_000_000
"""Bytes above which a page keeps less of how colors change with the view, unless it is asked to keep it."""

_MOST_OBJECTS = 65_535
"""Rows are 16-bit numbers, and 0 is none."""

_LEVEL = 6
"""Of gzip: the highest takes several times as long, for one hundredth of the size."""

_SAMPLE = 20_000
"""Gaussians by which it is guessed which degrees of SH are too large by far: in base64 a file is a third larger yet."""


@dataclass(frozen=True)
class Words:
    """What a page says beside the picture, as plain text."""

    title: str = "Objects"
    description: str = ""
    attribution: str = ""
    """Who captured it, and under which licence it may be used."""


@dataclass(frozen=True)
class PageReport:
    """What became of a scene in a page."""

    size: int
    """Bytes."""
    splats: int
    all_splats: int
    """Before thinning."""
    given_up: float
    """Share of what all splats together show that those left out by thinning did, 0..1."""
    objects: int
    sh_degree: int
    """Of the view-dependent colors in the page."""
    full_sh_degree: int
    """Of the scene's."""


@torch.no_grad()
def write_page(
    path: Path,
    splats: Splats,
    groups: Tensor,
    names: Mapping[int, str] | None = None,
    *,
    words: Words | None = None,
    placement: Placement | None = None,
    view: View | None = None,
    evidence: Evidence | None = None,
    units: str = "scene",
    min_gaussians: int = 1,
    max_splats: int | None = None,
    sh_degree: int | None = None,
    exact: bool = False,
) -> PageReport:
    """Write a scene and its objects as one HTML file.

    Nothing of the machine is in it: no path, no name of a file, no time.

    Args:
        path: the file, written whole or not at all.
        splats: N Gaussians; those that `Splats.exportable` rejects are left out.
        groups: int [N]; 0 and below mean none.
        names: what some groups are called; anything.
        words: see `Words`.
        placement: from the coordinates of `splats` to those that lengths are said in. The page turns them so that y is
            up, and moves the scene to the origin.
        view: where it opens; before all objects unless given.
        evidence: what views say of these Gaussians; it says what is seen least.
        units: see `ObjectRecord.units`.
        min_gaussians: smaller groups are not in the list.
        max_splats: more than these are thinned by what is seen least: by `evidence`, else by opacity and size.
        sh_degree: of the view-dependent colors that is kept; unless given, the highest with which the page stays below
            `LARGEST`, and with `exact` all of it.
        exact: PLY, the numbers as they are, in place of SPZ's 8 to 24 bits: four to six times the size.

    Raises:
        GsegError: nothing can be written, there are too many objects, or as `write_spz` and `write_ply`.
        ValueError: `max_splats` is below 1.
    """
    if max_splats is not None and max_splats < 1:
        raise ValueError(f"max_splats is {max_splats}; a page shows at least one")
    words = words or Words()
    fit = splats.exportable()
    evidence = None if evidence is None else evidence.to("cpu").rows(fit.cpu().nonzero()[:, 0])
    groups = groups.to("cpu", torch.int64)[fit.cpu()]
    if len(groups) == 0:
        raise GsegError(f"There is no Gaussian to write to {path}.")
    # Large scenes are in memory as few times as can be: what would be cut off anyway is not copied.
    full = splats.sh_degree
    splats = replace(splats, extra={})
    count = len(groups) if max_splats is None else min(max_splats, len(groups))
    splats = splats.with_sh_degree(_hopeful(splats, fit, count, sh_degree, exact))
    splats = (splats if bool(fit.all()) else splats.subset(fit)).to("cpu")
    where = page_placement(splats, placement or Placement())
    placed = where.of(splats)

    small = torch.bincount(groups.clamp_min(0)) < max(min_gaussians, 1)
    groups = torch.where((groups > 0) & ~small[groups.clamp_min(0)], groups, 0)
    upright = where.up_vector().numpy()
    unfloating = torch.zeros(len(splats), dtype=torch.bool)
    records = object_records(placed, groups, evidence, names, unfloating, units, up=upright)
    if len(records) > _MOST_OBJECTS:
        raise GsegError(
            f"Cannot write {path}: a page lists at most {_MOST_OBJECTS} objects, these are {len(records)}. "
            "Leave out the small ones with --min-gaussians."
        )
    records.sort(key=lambda record: -record.count)

    weights = _seen(placed, evidence)
    kept = _thinned(weights, max_splats)
    meta: dict[str, Any] = {
        "title": words.title,
        "description": words.description,
        "attribution": words.attribution,
        "format": "ply" if exact else "spz",
        "mode": splats.rasterize_mode,
        "units": units,
        "view": first_view(placed, records, where, view),
        "splats": len(kept),
        "all": len(splats),
        "objects": [_item(record) for record in records],
    }
    rows = _rows(groups[kept], records)
    if len(kept) < len(placed):
        placed = placed.subset(kept)
    degree, file = _fitting(placed, rows, sh_degree, exact)
    page = document(meta, rows, file, "deflate" if exact else "none")
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(page)
    given_up = 1 - float(weights[kept].sum() / weights.sum().clamp_min(1e-30))
    return PageReport(len(page), len(kept), len(splats), max(given_up, 0.0), len(records), degree, full)


def _seen(splats: Splats, evidence: Evidence | None) -> Tensor:
    """How much is seen of each Gaussian: [N] float64, at least 0."""
    if evidence is not None and bool((evidence.total > 0).any()):
        return evidence.total.double()
    # The larger two of its three axes are what it shows to most directions.
    area = splats.scales.double().sort(dim=1).values[:, 1:].sum(dim=1).exp()
    return splats.opacities.double().sigmoid() * area


def _thinned(weights: Tensor, most: int | None) -> Tensor:
    """The rows that are kept, int64 in ascending order."""
    if most is None or len(weights) <= most:
        return torch.arange(len(weights))
    return weights.argsort(descending=True, stable=True)[:most].sort().values


def _rows(groups: Tensor, records: Sequence[ObjectRecord]) -> bytes:
    table = np.zeros(int(groups.max()) + 1, "<u2")
    for row, record in enumerate(records, start=1):
        if record.id < len(table):
            table[record.id] = row
    return table[groups.numpy()].tobytes()


def _item(record: ObjectRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "color": colors(torch.tensor(record.id)).tolist(),
        "count": record.count,
        "centre": short(record.box.centre),
        "edges": short(2 * half for half in record.box.half_sizes),
    }


def _hopeful(splats: Splats, fit: Tensor, count: int, wanted: int | None, exact: bool) -> int:
    """The degree of SH from which on downwards one is looked for with which `count` Gaussians fit."""
    most = splats.sh_degree if wanted is None else min(wanted, splats.sh_degree)
    if exact or wanted is not None or count <= 2 * _SAMPLE:
        return most
    rows = fit.nonzero()[:, 0]
    sample = splats.subset(rows[:: len(rows) // _SAMPLE]).to("cpu")
    sizes = (len(_file(sample.with_sh_degree(degree), "spz")) for degree in range(most, 0, -1))
    room = LARGEST * len(sample) / count
    return next((most - at for at, size in enumerate(sizes) if size < room), 0)


def _fitting(splats: Splats, rows: bytes, wanted: int | None, exact: bool) -> tuple[int, bytes]:
    """The degree of SH that a page keeps, and the file in it."""
    if exact:
        degree = splats.sh_degree if wanted is None else min(wanted, splats.sh_degree)
        return degree, _file(splats.with_sh_degree(degree), "ply")
    empty = len(document({"title": ""}, rows, b""))
    for degree in range(splats.sh_degree if wanted is None else min(wanted, splats.sh_degree), -1, -1):
        file = _file(splats.with_sh_degree(degree), "spz")
        if wanted is not None or empty + 4 * len(file) / 3 <= LARGEST:
            break
    # Packed again: the writer's header says when it was.
    return degree, gzip.compress(gzip.decompress(file), _LEVEL, mtime=0)


def _file(splats: Splats, form: Literal["ply", "spz"]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"scene.{form}"
        if form == "ply":
            write_ply(path, splats)
        else:
            write_spz(path, splats, Placement(up="y"))
        return path.read_bytes()
