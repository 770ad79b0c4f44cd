"""Methods that may answer by the vote of their associated masks, whatever associated these."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from torch import Tensor

from gseg_ns import terminal
from gseg_ns.data.photographs import view_colors
from gseg_ns.lifting.strengths import StrengthOptions, fit_strengths
from gseg_ns.lifting.votes import Lift
from gseg_ns.models.base import SegmentationModelConfig
from gseg_ns.models.heaviest import HeaviestModel
from gseg_ns.models.projections import Projections

# A value of the class, not a factory: configurations of earlier runs, which lack the field, find it there.
_STRENGTHS = StrengthOptions()


@dataclass
class VotedModelConfig(SegmentationModelConfig):
    """Methods that may answer by a vote."""

    _target: type = field(default_factory=lambda: VotedModel)
    labels: str = "vote"
    """What says which group a Gaussian is in: the closed-form vote, or what the method trains"""
    use_strengths: bool = True
    """Fit after the vote how loud each Gaussian is in label images; what it is in does not change. False: all alike"""
    strengths: StrengthOptions = _STRENGTHS
    """Settings of that fit"""


class VotedModel(HeaviestModel):
    """A method whose masks are associated, in closed form or by training, and that may then let them vote."""

    config: VotedModelConfig
    gaussian_buffers = (*HeaviestModel.gaussian_buffers, "voted_labels", "strengths")

    voted_labels: Tensor
    strengths: Tensor
    _projections: Projections | None = None

    def populate_modules(self) -> None:
        """Build the model, without votes."""
        super().populate_modules()
        # [N], the closed-form label, once the masks are associated.
        self.register_buffer("voted_labels", torch.zeros(0, dtype=torch.int32))
        # [N], how loud each is in label images; none where they were not fitted.
        self.register_buffer("strengths", torch.zeros(0))

    # ---------------------------------------------------------------------------------------------------- voting

    @contextmanager
    def projected_once(self) -> Iterator[None]:
        """Within this block Gaussians stay where they are: a view that is asked again need not be projected again.

        Votes ask each view once, and strengths once more. Where none are fitted, or votes are asked on a cluster,
        nobody asks here again, and nothing is kept.
        """
        if self.config.use_strengths and self.cluster is None:
            self._projections = Projections(self.num_train_data)
        try:
            yield
        finally:
            self._projections = None

    def project_view(self, view: int) -> dict[str, Any]:
        """As in the base; within `projected_once` what is needed by votes, label images and weights of pixels."""
        if self._projections is None:
            return super().project_view(view)
        return self._projections.get(view, partial(super().project_view, view))

    def group_map(self, view: int) -> Tensor | None:
        """The associated label map of a training view: [H, W] int64 on the CPU, or None for a view without masks."""
        raise NotImplementedError(type(self).__name__)

    def final_vote(self) -> Lift | None:
        """Where Gaussians move as long as training goes on: what masks say in the end of each. None: nothing."""
        raise NotImplementedError(type(self).__name__)

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """The base's callbacks; with joint training, masks vote after all else that the last step does.

        Votes of a shorter run are forgotten whatever answers now: they are not of the Gaussians that go on.
        """
        callbacks = super().get_training_callbacks(training_callback_attributes)
        if not self.two_phases:
            # Not AFTER_TRAIN, which comes after the last checkpoint is written.
            callbacks.append(TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], self._vote_at_end))
        return callbacks

    def _vote_at_end(self, step: int) -> None:
        if self.has_findings:  # of a shorter run, which goes on
            self.forget_findings()
        if self.config.labels != "vote" or step < self.config.num_iterations - 1:
            return
        with self.projected_once():
            if (lifted := self.final_vote()) is not None:
                self.answer_by_vote(lifted)

    @torch.no_grad()
    def answer_by_vote(self, lifted: Lift) -> None:
        """Take what each Gaussian was voted to be, and fit how loud it is."""
        self._forget_vote()
        self.voted_labels = lifted.labels.int().to(self.device)
        self.voted_confidence = lifted.confidence.to(self.device)
        if self.config.use_strengths:
            self._fit_strengths()

    def _forget_vote(self) -> None:
        for name in VotedModel.gaussian_buffers:
            setattr(self, name, getattr(self, name)[:0])

    def _fit_strengths(self) -> None:
        """Fit how loud each Gaussian is, and tell what came of it."""
        started = time.perf_counter()
        data = self.masks()
        views = [view for view in range(self.num_train_data) if data.has_masks(view)]

        def ask(number: int) -> tuple[dict[str, Any], Tensor]:
            groups = self.group_map(views[number])
            assert groups is not None
            return self.project_view(views[number]), groups

        def photograph(number: int, height: int, width: int) -> Tensor | None:
            return view_colors(data, views[number], height, width)

        found = fit_strengths(
            self.voted_labels, len(views), ask, self.config.strengths,
            None if data.config.snap_masks else photograph,
        )  # fmt: skip
        self.strengths = found.values
        terminal.say(
            f"Strengths of Gaussians in label images: {found.steps} steps, followed to {found.followed:.0%}"
            f"{', of masks moved to borders of color' if found.snapped else ''}; what held-out views contradict of "
            f"mixed pixels went from {found.before:.1%} to {found.after:.1%} "
            f"({time.perf_counter() - started:.1f} s)."
        )

    # ------------------------------------------------------------------------------------------------- inference

    @property
    def by_vote(self) -> bool:
        """Whether the vote answers: it is asked for, and is of these Gaussians."""
        return self.config.labels == "vote" and 0 < len(self.voted_labels) == self.num_points

    @torch.no_grad()
    def gaussian_groups(self, scale: float | None = None) -> Tensor:
        """The group of each Gaussian: [N] int64, 0 = none."""
        return self.voted_labels.long() if self.by_vote else self.trained_groups()

    def trained_groups(self) -> Tensor:
        """What the method's trained features say of each Gaussian: [N] int64, 0 = none."""
        return self.decode(self.gauss_params[self.main_feature])

    def loudness(self, scale: float | None = None) -> Tensor | None:
        """As they were fitted."""
        return self.strengths if len(self.strengths) else None
