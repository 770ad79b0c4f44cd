"""The papers' ablation tables: published numbers, and each row as options of this package."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from gseg_ns.benchmarking.closed_form import Association
from gseg_ns.lifting.memory_bank import MemoryBankOptions

MODEL = "--pipeline.model."


@dataclass(frozen=True)
class Row:
    """One row of an ablation table."""

    name: str
    published: tuple[float, ...] | None = None
    """In the order of the table's metrics; None for rows of ours, and for papers that show pictures only."""
    options: tuple[str, ...] | None = None
    """Further options of `ns-train`; None for a row that cannot be rerun here, or that has an association."""
    association: Association | None = None
    """For rows that need no training."""


@dataclass(frozen=True)
class Table:
    """One ablation table."""

    title: str
    source: str
    """Paper, table, data."""
    metrics: tuple[str, ...]
    """Our names (`scoring.score_labels`) of what the columns are compared with."""
    rows: tuple[Row, ...]
    claims: tuple[tuple[str, str], ...] = ()
    """(better, worse) rows that the paper states without numbers."""


def option(name: str, value: object) -> tuple[str, str]:
    """An option of the model in `ns-train`."""
    return MODEL + name, str(value)


PAPER = option("recipe", "paper")
"""The method as its paper has it; rows without are of the default."""


def association_options(association: Association) -> tuple[str, ...]:
    """An association as options of `ns-train gaga`."""
    bank = association.memory_bank
    changed = {
        spec.name: getattr(bank, spec.name)
        for spec in dataclasses.fields(bank)
        if getattr(bank, spec.name) != getattr(MemoryBankOptions(), spec.name)
    }
    words = [option(f"memory-bank.{name.replace('_', '-')}", value) for name, value in changed.items()]
    return (*option("association", association.kind), *(word for pair in words for word in pair))


def _bank(**options: float | str) -> Association:
    return Association("memory-bank", MemoryBankOptions(**options))  # type: ignore[arg-type]


_GAGA = ("iou", "precision", "recall")

GAGA = (
    Table(
        "association",
        "Gaga (arXiv 2404.07977), Table 4, Replica",
        _GAGA,
        (
            Row("w/o mask association", (8.81, 3.19, 2.16), association=Association("none")),
            Row("video object tracker", (21.76, 25.00, 19.72)),
            Row("memory bank, all Gaussians", (42.26, 40.19, 45.95), association=_bank(front=1.0)),
            Row("memory bank, w/o partition", (46.08, 27.88, 50.67), association=_bank(grid=1)),
            Row("memory bank", (46.50, 41.52, 52.50), association=_bank()),
            Row("memory bank (official code)", association=_bank(similarity="official", exclusive=False)),
            Row("consensus (ours)", association=Association("consensus")),
        ),
    ),
    Table(
        "share of front Gaussians",
        "Gaga (arXiv 2404.07977), Table 6, Replica",
        _GAGA,
        (
            Row("10 %", (46.42, 39.57, 51.54), association=_bank(front=0.1)),
            Row("20 %", (46.50, 41.52, 52.50), association=_bank()),
            Row("30 %", (45.73, 42.31, 50.88), association=_bank(front=0.3)),
            Row("100 %", (42.26, 40.19, 45.95), association=_bank(front=1.0)),
        ),
    ),
    Table(
        "image partition",
        "Gaga (arXiv 2404.07977), Table 7, Replica",
        _GAGA,
        (
            Row("1 x 1", (46.08, 27.88, 50.67), association=_bank(grid=1)),
            Row("16 x 16", (46.11, 38.22, 51.62), association=_bank(grid=16)),
            Row("32 x 32", (46.50, 41.52, 52.50), association=_bank()),
            Row("64 x 64", (44.72, 40.65, 49.14), association=_bank(grid=64)),
        ),
    ),
    Table(
        "overlap threshold",
        "Gaga (arXiv 2404.07977), Table 8, Replica",
        _GAGA,
        (
            Row("0.01", (43.86, 44.99, 48.98), association=_bank(overlap=0.01)),
            Row("0.1", (46.50, 41.52, 52.50), association=_bank()),
            Row("0.2", (47.57, 34.77, 52.40), association=_bank(overlap=0.2)),
        ),
    ),
)

_NO_SMOOTHING = option("affinity.neighbours", 1)
_NO_NORM = option("affinity.norm-weight", 0)

_CLICKS = ("click_iou", "click_near", "click_clean_iou", "click_clean_near")
"""What the papers' pictures show: a click selects the object, and nothing far from it."""

SAGA = (
    Table(
        "smoothing and feature norm",
        "SAGA (AAAI 2025), section 4.4: pictures (Figure 5), no numbers",
        _CLICKS,
        (
            Row("full", options=PAPER),
            Row("w/o smoothing", options=(*PAPER, *_NO_SMOOTHING)),
            Row("w/o feature norm", options=(*PAPER, *_NO_NORM)),
            Row("w/o both", options=(*PAPER, *_NO_SMOOTHING, *_NO_NORM)),
        ),
        claims=(("full", "w/o smoothing"), ("full", "w/o feature norm"), ("full", "w/o both")),
    ),
    Table(
        "loss terms and gate",
        "SAGA (AAAI 2025), section 3.4 and appendix A.1: no ablation published",
        _CLICKS,
        (
            Row("full", options=PAPER),
            Row("w/o scale gate", options=(*PAPER, *option("scale-gate", False))),
            Row("w/o resampling of pairs", options=(*PAPER, *option("affinity.pairs.resample", False))),
            Row("w/o weights by mask size", options=(*PAPER, *option("affinity.pairs.reweight", False))),
        ),
    ),
    Table(
        "where paper and official code differ, and ours",
        "SAGA (AAAI 2025) and its code: nothing published",
        _CLICKS,
        (
            Row("defaults", options=()),
            Row("all cosines clipped (paper)", options=option("affinity.pairs.clip-positive", True)),
            Row("norm squared (code)", options=option("affinity.norm-squared", True)),
            Row("all 16 ranks each step (paper)", options=option("affinity.rank-share", 1.0)),
            Row("pixels uniform (both)", options=option("affinity.balanced", 0.0)),
            Row("smoothing across borders (both)", options=option("affinity.neighbour-agreement", 0.0)),
        ),
    ),
)

_NO_GUIDANCE = (*option("guidance-weight", 0), *option("clutter-weight", 0))
_NO_CORRESPONDENCE = option("correspondence-weight", 0)
_V1 = "SAGA, first version (arXiv 2312.00860v1)"

SAGA_V1 = (
    Table(
        "loss terms",
        f"{_V1}, Table 4, mean of NVOS",
        ("click_iou",),
        (
            Row("full", (90.93,), options=PAPER),
            Row("w/o correspondence", (87.63,), options=(*PAPER, *_NO_CORRESPONDENCE)),
            Row("w/o SAM guidance", (79.81,), options=(*PAPER, *_NO_GUIDANCE)),
        ),
    ),
    Table(
        "outliers, post-processing",
        f"{_V1}, section 4.4: pictures (Figures 5 and 6), no numbers",
        _CLICKS,
        (
            Row("full", options=PAPER),
            Row("w/o correspondence", options=(*PAPER, *_NO_CORRESPONDENCE)),
            Row("w/o SAM guidance", options=(*PAPER, *_NO_GUIDANCE)),
        ),
        claims=(("full", "w/o correspondence"),),
    ),
)

_NO_CONCENTRATION = option("concentration", False)
_NO_AREA = option("area-aware", False)
_NO_FILTER = option("filter-noise", False)
UNIFIED_LIFT = (
    Table(
        "components",
        "Unified-Lift (CVPR 2025), Table 4, Replica",
        ("pooled_iou", "f_score"),
        (
            Row("Panoptic-Lifting-GS", (25.3, 32.9)),
            Row("codebook baseline", (29.5, 39.2), options=(*PAPER, *_NO_CONCENTRATION, *_NO_AREA, *_NO_FILTER)),
            Row("+ concentration", (36.3, 41.3), options=(*PAPER, *_NO_AREA, *_NO_FILTER)),
            Row("+ area-aware mapping", (39.2, 41.0), options=(*PAPER, *_NO_FILTER)),
            Row("+ noise filter (full)", (41.6, 43.9), options=PAPER),
            Row("official code", options=option("recipe", "official")),
            Row("default (ours)", options=()),
        ),
    ),
)


def _mean(*values: float) -> float:
    return round(sum(values) / len(values), 2)


IGD_START = 0.4
"""The method's own: that row is the whole method, which the other table has trained already."""


def _igd_start(start: float) -> tuple[str, ...]:
    if start == IGD_START:
        return PAPER
    # The window moves as a whole, so that every row splits as many Gaussians.
    return (*PAPER, *option("igd-start", start), *option("igd-stop", round(start + 0.1, 3)))


_GRADISEG = "GradiSeg (arXiv 2412.00392)"
GRADISEG = (
    Table(
        "modules",
        f"{_GRADISEG}, Table 4, mean of LERF-Mask's figurines, ramen, teatime",
        ("iou", "mbiou"),
        (
            Row(
                "w/o IGD and LA-KNN",
                (_mean(69.7, 77.0, 71.7), _mean(67.9, 68.7, 66.1)),
                options=(*option("igd", False), *option("la-knn", False), *PAPER),
            ),
            Row(
                "w/o IGD",
                (_mean(72.3, 77.7, 73.3), _mean(69.5, 69.5, 68.6)),
                options=(*option("igd", False), *PAPER),
            ),
            Row(
                "w/o LA-KNN",
                (_mean(79.3, 77.4, 73.7), _mean(76.4, 69.0, 69.5)),
                options=(*option("la-knn", False), *PAPER),
            ),
            Row("full", (_mean(81.3, 78.5, 74.4), _mean(78.1, 72.9, 70.6)), options=PAPER),
            Row("default (ours)", options=()),
            Row("default, w/o IGD and LA-KNN (ours)", options=(*option("igd", False), *option("la-knn", False))),
        ),
    ),
    Table(
        "start of IGD",
        f"{_GRADISEG}, section 4.3: a curve (Figure 6) with its peak at 12 000 of 30 000 steps, no numbers",
        ("iou", "mbiou"),
        tuple(Row(f"{start:.0%} of the run", options=_igd_start(start)) for start in (0.25, IGD_START, 0.55, 0.7)),
        claims=tuple(("40% of the run", f"{start:.0%} of the run") for start in (0.25, 0.55, 0.7)),
    ),
)

TABLES: dict[str, tuple[Table, ...]] = {
    "gaga": GAGA,
    "saga": SAGA,
    "saga-v1": SAGA_V1,
    "unified-lift": UNIFIED_LIFT,
    "gradiseg": GRADISEG,
}
