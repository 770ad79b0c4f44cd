"""What can be asked of the benchmarks, in a module light enough for the command line to import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gseg_ns.lifting.thresholds import SAME_THING


@dataclass(frozen=True)
class PromptableSettings:
    """What is trained and prompted; its fields are options of `gseg bench promptable`."""

    scene: Path
    """Scene folder, with images and ground truth"""
    ground_truth: str = "gt/object"
    """Folder of label maps within the scene"""
    object_id: int | None = None
    """Its id in the ground truth; every id but 0 unless given"""
    masks: str | None = None
    """Mask folder within the scene to train on, instead of the ground truth of a few views"""
    views: int = 3
    """Training views whose ground truth is the masks: far apart from each other"""
    view: str | None = None
    """Training view that is prompted; unless given, the one of those (with --masks: of all) that shows most"""
    method: str = "gaga"
    """Method of ns-train: gaga, saga, saga-v1, unified-lift, gradiseg"""
    iterations: int = 3000
    """Length of the run in steps"""
    geometry: Path | None = None
    """Trained Gaussians of this scene (a 3DGS PLY or a run): only features are trained, in --iterations steps"""
    seed: int = 0
    """Seed of the training run"""
    scale: float | None = None
    """Granularity in [0, 1], for methods that have scales"""
    threshold: float = SAME_THING
    """Least cosine, for methods that answer by features"""
    train_options: str = ""
    """Further options of ns-train, in one string"""
