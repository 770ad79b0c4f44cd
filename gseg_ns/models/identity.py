"""Methods with identity encodings: association of masks, closed-form start, classifier."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import track
from torch import Tensor
from torch.nn import Parameter

from gseg_ns.errors import GsegError
from gseg_ns.lifting.consensus import ConsensusOptions, find_groups, group_lookup, view_labels
from gseg_ns.lifting.identity import IdentityClassifier, initialise_from_votes
from gseg_ns.lifting.memory_bank import MemoryBank, MemoryBankOptions, relabel
from gseg_ns.lifting.neighbourhood import NeighbourhoodLoss
from gseg_ns.lifting.votes import accumulate_votes
from gseg_ns.models.base import SegmentationModel, SegmentationModelConfig

IDENTITY_DIM = 16
"""Channels of an identity encoding in all papers."""


@dataclass
class IdentityModelConfig(SegmentationModelConfig):
    """Methods with identity encodings."""

    _target: type = field(default_factory=lambda: IdentityModel)
    association: Literal["consensus", "memory-bank"] = "consensus"
    """How masks of different views find together: by the agreement of all views (ours: nearer to the ceiling on every
    scene measured, independent of the order of views), or by the paper's 3D-aware memory bank"""
    consensus: ConsensusOptions = field(default_factory=ConsensusOptions)
    """Settings of the agreement of views"""
    memory_bank: MemoryBankOptions = field(default_factory=MemoryBankOptions)
    """Settings of the memory bank"""
    train_unlabelled: bool = False
    """Train pixels without a mask as a class of their own, as the official codes do, instead of leaving them out."""


class IdentityModel(SegmentationModel):
    """Gaussians with identity encodings (Gaussian Grouping), supervised by associated masks."""

    config: IdentityModelConfig
    feature_dims = {"identity": IDENTITY_DIM}  # noqa: RUF012
    main_feature = "identity"
    _neighbours: NeighbourhoodLoss
    """Each method's 3D loss."""

    def populate_modules(self) -> None:
        """Build the model; the classifier gets its classes after the association."""
        super().populate_modules()
        self.classifier = IdentityClassifier(IDENTITY_DIM)
        self.lookups: dict[str, Tensor] = {}
        """Training image name -> group of each of its labels, [labels + 1] int64."""
        self.num_groups = 0

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """Splatfacto's groups, the encodings and the classifier."""
        return {**super().get_param_groups(), "classifier": list(self.classifier.parameters())}

    # ----------------------------------------------------------------------------------------------- association

    @torch.no_grad()
    def associate(self) -> None:
        """Give the masks of all training views group ids that agree."""
        masks = self.masks()
        names = [path.as_posix() for path in masks.train_dataset.image_filenames]
        views = [view for view in range(len(names)) if masks.labels(view) is not None]
        started = time.perf_counter()
        if masks.config.masks_are_consistent:
            lookups = {view: torch.arange(self._num_labels(view)) for view in views}
            num_groups = max(len(lookup) for lookup in lookups.values()) - 1
        elif self.config.association == "memory-bank":
            lookups, num_groups = self._associate_by_memory_bank(sorted(views, key=names.__getitem__))
        else:
            lookups, num_groups = self._associate_by_consensus(views)
        seconds = time.perf_counter() - started
        self.num_groups = num_groups
        self.lookups = {names[view]: lookup.cpu() for view, lookup in lookups.items()}
        CONSOLE.log(
            f"Associated the masks of {len(lookups)} views with {num_groups} groups "
            f"({1000 * seconds / max(len(lookups), 1):.1f} ms a view)."
        )

    def _associate_by_memory_bank(self, views: list[int]) -> tuple[dict[int, Tensor], int]:
        """Gaga, section 3.2; the result depends on the order of the views."""
        bank = MemoryBank(self.num_points, self.config.memory_bank, self.device)
        lookups = {
            view: bank.add_view(self.means, self.view_camera(view), self._labels(view).to(self.device))
            for view in views
        }
        return lookups, bank.num_groups

    def _associate_by_consensus(self, views: list[int]) -> tuple[dict[int, Tensor], int]:
        """See `gseg_ns.lifting.consensus`."""
        options = self.config.consensus
        said = [
            view_labels(self.project_view(view), self._labels(view).to(self.device))
            for view in track(views, description="Asking views", console=CONSOLE, transient=True)
        ]
        groups = find_groups(self.means, said, options)
        num_groups = int(groups.max())
        return {
            view: group_lookup(answer, groups, num_groups, options) for view, answer in zip(views, said, strict=True)
        }, num_groups

    def _labels(self, view: int) -> Tensor:
        """The label map of a training view that has one."""
        labels = self.masks().labels(view)
        assert labels is not None
        return labels

    def _num_labels(self, view: int) -> int:
        return int(self._labels(view).max()) + 1

    def group_map(self, view: int) -> Tensor | None:
        """The associated label map of a training view: [H, W] int64 on the CPU, or None for a view without masks."""
        masks = self.masks()
        labels = masks.labels(view)
        if labels is None:
            return None
        name = masks.train_dataset.image_filenames[view].as_posix()
        if name not in self.lookups:
            raise GsegError(
                f"{name} was not there when the masks were associated: resume with the same images and masks"
            )
        return relabel(labels, self.lookups[name])

    @torch.no_grad()
    def vote(self) -> Tensor:
        """Sum the contributions of each Gaussian to each group over the training views: [N, groups + 1]."""
        views = range(len(self.masks().train_dataset))

        def projected() -> Any:
            for view in track(views, description="Lifting masks", console=CONSOLE, transient=True):
                groups = self.group_map(view)
                if groups is not None:
                    yield self.project_view(view), groups.to(self.device)

        return accumulate_votes(projected(), self.num_points, self.num_groups + 1, self.device)

    @torch.no_grad()
    def start_identities(self) -> None:
        """Start encodings and classifier at the closed-form lift of the associated masks."""
        encodings = initialise_from_votes(self.vote(), IDENTITY_DIM, self.classifier)
        self.gauss_params["identity"].data.copy_(encodings)

    # ------------------------------------------------------------------------------------------------- inference

    def decode(self, features: Tensor, scale: float | None = None) -> Tensor:
        """Classify composited encodings [..., 16] (Gaga Eq. 2): group ids [...] int64."""
        return self.classifier.predict(features, self.config.train_unlabelled)

    @torch.no_grad()
    def gaussian_groups(self, scale: float | None = None) -> Tensor:
        """Classify each Gaussian's own encoding: [N] int64, 0 = none."""
        return self.decode(self.gauss_params["identity"])

    # ----------------------------------------------------------------------------------------------- checkpoints

    def get_extra_state(self) -> dict[str, Any]:
        """The association, beside what every method saves."""
        return {
            **super().get_extra_state(),
            "lookups": dict(self.lookups),
            "num_groups": self.num_groups,
            "neighbours": self._neighbours.search.state(),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_extra_state` saved."""
        super().set_extra_state(state)
        self.lookups = dict(state["lookups"])
        self.num_groups = int(state["num_groups"])
        if state.get("neighbours") is not None:
            saved = state["neighbours"].items()
            self._neighbours.search.go_on({k: v.to(self.device) if isinstance(v, Tensor) else v for k, v in saved})

    def resize_for(self, state: dict[str, Tensor]) -> None:
        """Give the classifier the number of classes of the checkpoint."""
        super().resize_for(state)
        self.classifier.resize(state["classifier.weight"].shape[0])
