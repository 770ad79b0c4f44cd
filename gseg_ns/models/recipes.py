"""Whose method is run: the paper's, its official code's, or what measures best here."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from gseg_ns.errors import GsegError
from gseg_ns.models.gaga import GagaModelConfig
from gseg_ns.models.gradiseg import GradiSegModelConfig
from gseg_ns.models.saga import SagaModelConfig
from gseg_ns.models.saga_v1 import SagaV1ModelConfig
from gseg_ns.models.unified_lift import UnifiedLiftModelConfig

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig
    from nerfstudio.models.base_model import ModelConfig

    from gseg_ns.models.base import SegmentationModelConfig

_MODEL = "pipeline.model."


@dataclasses.dataclass(frozen=True)
class Choice:
    """An option in which paper, official code and the default differ."""

    option: str
    """Its place in the config of `ns-train`, as `pipeline.model.labels`."""
    paper: Any
    official: Any
    best: Any
    """The default."""
    why: str
    """Why the default differs, or is that of one of the two."""

    def value(self, recipe: str) -> Any:
        """What it is in a recipe."""
        return getattr(self, recipe)


def _model(option: str, paper: Any, official: Any, best: Any, why: str) -> Choice:
    return Choice(_MODEL + option, paper, official, best, why)


_START = "The vote is nearly the answer, so training goes on from it."
_ALL_PIXELS = "Holes between masks are filled by what is around them, and not learned."

_ENCODINGS = _model(
    "labels",
    "encodings",
    "encodings",
    "vote",
    "With strengths it measures better; exact for any number of groups, no steps.",
)
_STRENGTHS = _model(
    "use_strengths", False, False, True, "Borders: Gaussians speak as loud in label images as the masks say."
)
_RATES = _model("scale_rates", False, False, True, "A short run gets farther: gaga's pictures by 1 dB at 1500 steps.")
_CULLING = _model(
    "cull_out_of_pictures", False, False, True, "Right before a new view's lens they hide up to three quarters of it."
)

_GAGA = (
    _model(
        "association",
        "memory-bank",
        "memory-bank",
        "auto",
        "Of masks within each other a tree; else the agreement of views, whose order does not matter, and finds more.",
    ),
    _model("memory_bank.similarity", "paper", "official", "paper", "The code's 0.1 is 0.111 of Eq. 3."),
    _model("memory_bank.exclusive", True, False, True, "The code's founder of a group keeps what others own."),
    _ENCODINGS,
    _STRENGTHS,
    _model("start_encodings", "zero", "zero", "lift", _START),
    _model("identity_pixels", 0, 0, 8192, "Gradients are the same in the mean, at a fraction of the time."),
    _model("train_unlabelled", True, True, False, _ALL_PIXELS),
    _RATES,
    _CULLING,
)

_SAGA = (
    _model("tree", False, False, True, "Overlapping masks say which parts, objects and groups there are."),
    _model("affinity.balanced", 0.0, 0.0, 0.5, "Small masks are met as often as large ones."),
    _model("affinity.num_scales", 8, 10, 8, "The code adds the two ends, which the default has among its eight."),
    _model("affinity.neighbour_agreement", 0.0, 0.0, 0.5, "Smoothing stops at the borders of masks."),
    _model("affinity.rank_share", 1.0, 0.5, 0.5, "A dropout on the neighbourhood, as in the code."),
    _model("affinity.norm_squared", False, True, False, "The paper's mean of what lengths lack of 1."),
    _model("affinity.pairs.clip_positive", True, False, False, "Pixels of one mask that point apart are pulled too."),
    _model("affinity.pairs.least_drawn", 0.0, 0.0, 0.05, "Masks without overlaps have no scale-sensitive pairs."),
    _model("clusters.share", 0.01, 0.02, 0.02, "As in the code."),
    _model("clusters.at_least", 0, 0, 4000, "A share of a small scene is few Gaussians."),
    Choice(
        "optimizers.scale_gate.optimizer.lr",
        2.5e-3,
        2.5e-3,
        2.5e-2,
        "Parts come out of objects thousands of steps sooner.",
    ),
    _RATES,
    _CULLING,
)

_SAGA_V1 = (
    _model("reduction", "sum", "mean", "mean", "Weights do not follow the size of the images."),
    _model("clip_correspondence", False, True, True, "As in the code."),
    _model("clutter_weight", 0.0, 0.1, 0.1, "Gaussians of no mask answer to none."),
    _model("feature_init", 1.0, 1.0, 0.01, "A shorter run forgets less of a large start."),
    _model("num_pixels", 4096, 4096, 1000, "As many as 64 x 64 pixels; fewer take less time."),
    _model("clusters.at_least", 0, 0, 4000, "A share of a small scene is few Gaussians."),
    _RATES,
    _CULLING,
)

_UNIFIED_LIFT = (
    _model("labels", "codebook", "codebook", "vote", "Codes say which masks are one object; masks, where it ends."),
    _STRENGTHS,
    _model("weights", "paper", "official", "official", "The paper's leave many codes near no object."),
    _model("similarity", "dot", "temperature", "temperature", "As the code; dot products were not compared."),
    _model("num_pixels", 32768, 32768, 2048, "Less time; the code draws from larger images."),
    _model("pixels_per_mask", 0, 0, 140, "Of hundreds of masks in a view, few would be met."),
    _model("min_pixels", 0, 20, 20, "Fragments of masks stay out of the contrast."),
    _model("feature_init", 1.0, 1.0, 0.03, "A small start is left sooner."),
    _model("feature_start", 0.0, 0.0, 0.25, "On geometry that has settled, features stay apart better."),
    _model("codebook_start", 0.0, 0.0, 0.9, "Codes start where features have come apart."),
    _model("start_codes", "random", "random", "masks", "From random codes several of many objects share one."),
    _model("least_won", 0.0, 0.0, 0.1, "Codes of slivers come out on top at borders."),
    _model("join_codes", None, None, 0.5, "A floor that no view shows whole is one object."),
    _model("train_unlabelled", False, True, False, _ALL_PIXELS),
    _model("scale_rates", False, False, True, "The codebook's rate: codes reach their objects in a shorter run."),
)

_GRADISEG = (
    _ENCODINGS,
    _STRENGTHS,
    _model("num_classes", 256, 256, 0, "Losses mean the same for any number of groups."),
    _model("start_encodings", "random", "random", "lift", _START),
    _model("identity_on_geometry", 1.0, 1.0, 0.1, "All of the gradient cost PSNR and borders."),
    _model("train_unlabelled", True, True, False, _ALL_PIXELS),
)

RECIPES: dict[type[SegmentationModelConfig], tuple[Choice, ...]] = {
    GagaModelConfig: _GAGA,
    SagaModelConfig: _SAGA,
    SagaV1ModelConfig: _SAGA_V1,
    UnifiedLiftModelConfig: _UNIFIED_LIFT,
    GradiSegModelConfig: _GRADISEG,
}
"""Of a method's model -> the options in which paper, code and default differ. GradiSeg has no public code: what its
paper leaves open is as in the code of Gaussian Grouping, on which it is built."""


def choices(model: ModelConfig) -> tuple[Choice, ...]:
    """The options in which the recipes of a model differ; none for methods that are not of a paper of ours."""
    return next((found for kind, found in RECIPES.items() if isinstance(model, kind)), ())


def get(config: Any, option: str) -> Any:
    """The value at a place of a config, as `pipeline.model.labels`."""
    for name in option.split("."):
        config = config[name] if isinstance(config, dict) else getattr(config, name)
    return config


def put(config: Any, option: str, value: Any) -> None:
    """Set the value at a place of a config. What lies between is replaced: it may be shared with other configs."""
    first, *rest = option.split(".")
    setattr(config, first, _with(getattr(config, first), rest, value))


def _with(node: Any, names: Sequence[str], value: Any) -> Any:
    if not names:
        return value
    first, *rest = names
    if isinstance(node, dict):
        return {**node, first: _with(node[first], rest, value)}
    return dataclasses.replace(node, **{first: _with(getattr(node, first), rest, value)})


def settle(config: TrainerConfig, arguments: Iterable[str] | None = None) -> dict[str, Any]:
    """Give the options of a run the values of its recipe, once; those that were given stay.

    An option was given if it is not at its default, or is among the arguments: also `--pipeline.model.labels vote`
    beside the recipe `paper` is an answer.

    Args:
        config: of the run, changed in place.
        arguments: of the command line; None: this process's.

    Returns:
        option -> the value that the recipe gave it; empty where there was nothing to do.

    Raises:
        GsegError: the method has no paper here.
    """
    model = config.pipeline.model
    recipe, settled = getattr(model, "recipe", "best"), getattr(model, "recipe_settled", True)
    if recipe == "best" or settled:
        return {}
    found = choices(model)
    if not found:
        raise GsegError(f"--pipeline.model.recipe is {recipe}, and this method has none but best")
    words = sys.argv[1:] if arguments is None else arguments
    given = {word.split("=")[0].lstrip("-").replace("-", "_") for word in words if word.startswith("--")}
    changed = {}
    for choice in found:
        wanted = choice.value(recipe)
        if choice.option not in given and get(config, choice.option) == choice.best and wanted != choice.best:
            put(config, choice.option, wanted)
            changed[choice.option] = wanted
    put(config, _MODEL + "recipe_settled", True)
    return changed


def table() -> str:
    """All recipes as Markdown: a table a method, which `docs/recipes.md` holds."""
    from gseg_ns.models.registry import segmentation_methods

    parts = []
    for name, config in segmentation_methods().items():
        if not (found := choices(config.pipeline.model)):
            continue
        rows = ["| option | paper | official | best | why the default |", "|---|---|---|---|---|"]
        for choice in found:
            values = " | ".join(f"`{choice.value(recipe)}`" for recipe in ("paper", "official", "best"))
            rows.append(f"| `--{choice.option.replace('_', '-')}` | {values} | {choice.why} |")
        parts.append("\n".join([f"## {name}", "", *rows]))
    return "\n\n".join(parts) + "\n"
