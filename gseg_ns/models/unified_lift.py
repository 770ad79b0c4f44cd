"""Unified-Lift: End-to-End 2D to 3D Scene Segmentation with an object-level codebook (Zhu et al., CVPR 2025)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
import tyro
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes
from torch import Tensor
from torch.nn import Parameter

from gseg_ns import terminal
from gseg_ns.errors import GsegError
from gseg_ns.lifting.blocks import highest_score
from gseg_ns.lifting.codebook import (
    PRESETS,
    assign,
    associate,
    classification_loss,
    concentration_loss,
    distinct_directions,
    joined_codes,
    mask_answers,
    mask_directions,
    matched_and_won,
    shared_masks,
)
from gseg_ns.lifting.contrastive import contrastive_loss, norm_loss, uncertainty
from gseg_ns.lifting.drawing import draw_different
from gseg_ns.lifting.hidden import name_hidden, shown_share
from gseg_ns.lifting.identity import SILENT, random_colors
from gseg_ns.lifting.memory_bank import relabel
from gseg_ns.lifting.votes import Lift, VoteStore, lift, view_votes
from gseg_ns.masks import resize_labels
from gseg_ns.models.voted import VotedModel, VotedModelConfig
from gseg_ns.rendering import composite, pixel_weights

FEATURE_DIM = 16
"""Channels of a Gaussian-level feature and of a code in the paper."""

MEMORY_EPOCHS = 10
"""Passes over the training views after which what a code has won has faded to a third."""


@dataclass
class UnifiedLiftModelConfig(VotedModelConfig):
    """Unified-Lift: contrastive features and a codebook of objects, trained with the colors on inconsistent masks.

    The codebook baseline of the paper's Table 4: `--pipeline.model.concentration False --pipeline.model.area-aware
    False --pipeline.model.filter-noise False --pipeline.model.least-won 0 --pipeline.model.join-codes None
    --pipeline.model.labels codebook --pipeline.model.start-codes random --pipeline.model.codebook-start 0.25`; its
    other rows turn the first three on one by one. The last five are ours.
    """

    _target: type = field(default_factory=lambda: UnifiedLiftModel)
    num_iterations: tyro.conf.Suppress[int] = 30_000
    """Length of the run in steps: --max-num-iterations, which is the option; milestones are parts of it."""
    labels: Literal["codebook", "vote"] = "vote"  # type: ignore[assignment]
    """What says which object a Gaussian is: the code nearest to its feature (the paper), or in the end the vote of the
    masks, each for the code that most of its pixels decode to. The codebook then says which masks are one object, and
    masks where it ends."""
    num_codes: int = 256
    """Largest number of objects (L); no view may have more masks than that"""
    weights: Literal["official", "paper"] = "official"
    """Loss weights: of the official code (concentration to classification 10^4, l2 distances, classification over
    ln L, a term for the length of features), or of the paper's text (10^2, l1, none of these). The former measures
    better: the latter leaves many codes near no object."""
    similarity: Literal["temperature", "dot"] = "temperature"
    """How a pixel's feature is compared with the means of masks, in the contrast and where noise is filtered: unit
    vectors over each mask's temperature, a mean over masks (official code), or plain dot products, a mean over pixels
    (Eq. 1 and 7)"""
    num_pixels: int = 2048
    """Pixels drawn from each view (official code: 32768 with replacement, of larger images). Fewer pixels against the
    same `min_pixels` also keep fragments of masks out of the contrast."""
    pixels_per_mask: int = 140
    """Pixels drawn from each view for every mask that views have in the mean, where that is more than `num_pixels`: of
    views of a hundred objects hardly one would otherwise have more than `min_pixels`, and features would not tell the
    others apart. 0: `num_pixels` of all views, as in the paper"""
    min_pixels: int = 20
    """Masks with no more of the drawn pixels than this take no part in the contrast (official code: 20)"""
    feature_init: float = 0.03
    """Size of the random features at the start, 1 being that of random colors in SH, +-1.77 (official code). Features
    have to grow out of their start before they mean anything: 500 steps from 0.03 get further than 3000 from 1."""
    feature_start: float = 0.25
    """Part of the run after which features train. Official code: 0; on geometry that has settled a little, features
    stay apart better (IoU 92 instead of 84 in a short run, see docs/results.md)"""
    codebook_start: float = 0.9
    """Part of the run after which the codebook trains (official code: 0). Codes that start from masks need features
    that tell objects apart, and little training, in which those that no object needs are pulled to fragments"""
    start_codes: Literal["masks", "random"] = "masks"
    """Where codes are when they begin to train: one at each direction that the features of masks have in the mean,
    over all training views, as far as there are codes; or all where they are drawn at random (the paper), from where
    few reach an object of their own if there are hundreds"""
    concentration: bool = True
    """Pull codes towards the direction of their pixels' features (Eq. 6)"""
    area_aware: bool = True
    """Weigh masks by their area when they are matched to codes (Eq. 5); otherwise each counts once (Eq. 3)"""
    filter_noise: bool = True
    """Leave out pixels whose feature does not agree with their mask (Eq. 7 and 8)"""
    uncertainty_threshold: float = 0.8
    """Uncertainty above which a pixel is left out (tau)"""
    codebook_trains_features: bool = False
    """Let the terms of the codebook move features too. The official code does not; the paper does not say."""
    least_won: float = 0.1
    """A code is an answer if it wins: at least this part of the area that is matched to it in training has to lie in
    masks most of whose pixels decode to it. The one-to-one mapping hands codes to fragments and slivers too; these
    never win a mask, but come out on top where features mix at a border (13 of them, beside 15 objects, in the small
    scene). 0: every code is an answer, as in the paper."""
    join_codes: float | None = 0.5
    """Codes are one object if the masks say so: where both show in a view, at least this part of the pixels of the
    smaller has to lie in views that have both in one mask. A large object (a floor) that no view shows whole may win
    several codes, one in each of its parts, which no term of the losses brings together again. Half of that
    part is enough where both were met often, see `joined_codes`. Pairs that were met in less than `min_pixels` drawn
    pixels stay apart. None: every code is an object of its own, as in the paper."""
    train_unlabelled: bool = False
    """Train pixels without a mask as one more mask, as the official code does, instead of leaving them out."""
    grouping: Literal["codebook", "hdbscan"] = "codebook"
    """What names the objects: the codebook, or HDBSCAN over the features at the end of training, the contrastive
    baseline of the paper (the codebook's terms are then left out)."""
    hdbscan_min_size: int = 50
    """Smallest cluster of HDBSCAN, in Gaussians of a sample of 10000"""


class UnifiedLiftModel(VotedModel):
    """Gaussian-level features by contrast within views, and an object-level codebook over them."""

    config: UnifiedLiftModelConfig
    feature_dims = {"instance": FEATURE_DIM}  # noqa: RUF012
    main_feature = "instance"
    two_phases = False
    short_run_powers: ClassVar[Mapping[str, float]] = {"codebook": 1.0}
    named_codes: Tensor
    code_matched: Tensor
    code_won: Tensor
    code_joint: Tensor
    code_beside: Tensor

    def populate_modules(self) -> None:
        """Build the model; codes start as the rows of a fresh 1x1 convolution do, uniform in +-1/sqrt(16)."""
        super().populate_modules()
        self._answers: tuple[Any, Tensor] | None = None
        self._answers_of_masks: dict[int, Tensor] = {}
        """Training view -> what each of its masks is, once they have voted."""
        self._num_pixels = self.config.num_pixels
        """Drawn from each view; more where views have many masks."""
        self._codes_begun = False
        """Codes have been matched to masks in this run, or in that which it resumes."""
        if self.config.num_codes < 1:
            raise GsegError(f"--pipeline.model.num-codes is {self.config.num_codes}: give at least 1")
        bound = FEATURE_DIM**-0.5
        self.codebook = Parameter(torch.empty(self.config.num_codes, FEATURE_DIM).uniform_(-bound, bound))
        self.register_buffer("named_codes", torch.ones(self.config.num_codes, dtype=torch.bool))
        """Codes that can be answers: those that win (see `least_won`), or with HDBSCAN one a cluster."""
        self.register_buffer("code_matched", torch.zeros(self.config.num_codes))
        """Pixels of the masks matched to each code, fading."""
        self.register_buffer("code_won", torch.zeros(self.config.num_codes))
        """Those of masks that the code won, fading."""
        square = (self.config.num_codes, self.config.num_codes)
        self.register_buffer("code_joint", torch.zeros(square))
        """Pixels of the smaller of two codes in views that have both in one mask, fading."""
        self.register_buffer("code_beside", torch.zeros(square))
        """Those in all views that have both, fading."""

    def initial_feature(self, name: str, count: int, dim: int) -> Tensor:
        """Start features like random colors in SH, as Gaussian Grouping's code does, `feature_init` times the size."""
        return self.config.feature_init * random_colors(count, dim)

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """Splatfacto's groups, the features and the codebook."""
        return {**super().get_param_groups(), "codebook": [self.codebook]}

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """The base's callbacks, and a check of the masks."""
        callbacks = super().get_training_callbacks(training_callback_attributes)
        self._check_masks()
        return callbacks

    def step_post_backward(self, step: int) -> None:
        """As in the base; HDBSCAN in the last step where it is asked for, before masks vote."""
        if self.config.grouping == "hdbscan" and step >= self.config.num_iterations - 1:
            self.cluster_codes()
        super().step_post_backward(step)

    def _check_masks(self) -> None:
        """Refuse views with more masks than codes before any time is spent on training; note how many they have."""
        masks, total, views = self.masks(), 0, 0
        for view, path in enumerate(masks.train_dataset.image_filenames):
            labels = masks.labels(view)
            if labels is None:
                continue
            count = int((labels.unique() > 0).sum()) + int(self.config.train_unlabelled)
            total, views = total + count, views + 1
            if count > self.config.num_codes:
                raise GsegError(
                    f"{path.name} has {count} masks but the codebook has {self.config.num_codes} codes: "
                    "raise --pipeline.model.num-codes to at least the number of objects in the scene"
                )
        self._num_pixels = max(self.config.num_pixels, round(self.config.pixels_per_mask * total / max(views, 1)))

    # ---------------------------------------------------------------------------------------------------- losses

    @property
    def _scaled(self) -> bool:
        return self.config.similarity == "temperature"

    @property
    def groups_start(self) -> int:
        """When the codes begin to learn, or are found."""
        if self.config.grouping == "hdbscan":
            return self.config.num_iterations - 1
        if self._codes_begun:  # of a shorter run, too
            return 0
        start = max(self.config.feature_start, self.config.codebook_start)
        return math.ceil(start * self.config.num_iterations)

    def _started(self, fraction: float) -> bool:
        return self.step >= fraction * self.config.num_iterations

    def get_loss_dict(
        self, outputs: dict[str, Any], batch: dict[str, Any], metrics_dict: dict[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """Splatfacto's losses, and those of the features and the codebook on the masks of this view."""
        losses = super().get_loss_dict(outputs, batch, metrics_dict)
        labels = batch.get("labels")
        if self.training and labels is not None and self._started(self.config.feature_start):
            losses.update(self.mask_losses(labels))
        return losses

    def mask_losses(self, labels: Tensor) -> dict[str, Tensor]:
        """Losses of the view rendered last on its label map [H, W] (any size): contrast, and the codebook's terms."""
        features, labels = self._drawn(self.info, labels, self.step)
        preset = PRESETS[self.config.weights]
        losses = {
            "contrastive": preset.contrastive
            * contrastive_loss(
                features,
                labels,
                self.config.min_pixels,
                scaled=self._scaled,
                per_cluster=self._scaled,
                train_unlabelled=self.config.train_unlabelled,
            )
        }
        if preset.norm > 0:
            losses["feature_norm"] = preset.norm * norm_loss(features)
        # Codes of a run that goes on for longer follow their features as soon as these train.
        started = self._codes_begun or self._started(self.config.codebook_start)
        if self.config.grouping == "codebook" and started:
            losses.update(self._codebook_losses(features, labels))
        return losses

    def _drawn(self, meta: dict[str, Any], labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Features [P, D] of pixels drawn from a view, and their masks [P]."""
        labels = resize_labels(labels, meta["height"], meta["width"]).flatten()
        # A stream of its own: then geometry is that of a run without these losses, to the last bit.
        generator = torch.Generator().manual_seed(torch.initial_seed() + seed)
        usable = None if self.config.train_unlabelled else labels
        pixels = draw_different(len(labels), self._num_pixels, usable, generator)
        # Geometry gets no gradient from features, so what the drawn pixels see is a constant matrix.
        weights = pixel_weights(meta, pixels)
        # Labels stay on the CPU, where they say what is in which mask without a GPU being asked.
        return weights.matmul(self.gauss_params["instance"]), labels[pixels]

    def _believed(self, features: Tensor, labels: Tensor) -> Tensor | None:
        """Pixels whose feature agrees with their mask, [P] bool; None: all are taken."""
        if not self.config.filter_noise:
            return None
        return uncertainty(features, labels, self._scaled) <= self.config.uncertainty_threshold

    @torch.no_grad()
    def place_codes(self) -> None:
        """Put codes where the features of masks are, one a direction, and ask all views which win and which are one.

        Codes that are left over stay where they are.
        """
        directions = [
            mask_directions(features, labels, self.config.min_pixels, self._believed(features, labels))
            for features, labels in self._drawn_views("Placing codes")
        ]
        if not directions:
            return
        found = distinct_directions(torch.cat(directions), self.config.num_codes)
        self.codebook[: len(found)] = found
        said = []
        for features, labels in self._drawn_views("Asking which of them are one"):
            codes = self._matched(features, labels)
            self._note_wins(*self._wins(features, codes))
            said.append((features.half(), codes))
        # Only now is it known which of them win, and so which of them pixels decode to.
        for features, codes in said:
            self._note_joint(features.float(), codes)

    def _drawn_views(self, what: str) -> Iterator[tuple[Tensor, Tensor]]:
        """What `_drawn` gives of all training views that have masks, told as `what`."""
        for view in terminal.track(range(self.num_train_data), what, self.num_train_data):
            labels = self.masks().labels(view)
            if labels is not None:
                yield self._drawn(self.project_view(view), labels, view)

    def _matched(self, features: Tensor, labels: Tensor) -> Tensor:
        """The code of each pixel's mask, [P]."""
        return assign(associate(features, self.codebook, labels), self.config.area_aware)

    def _wins(self, features: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """See `matched_and_won`."""
        return matched_and_won(highest_score(features, self.codebook), codes, self.config.num_codes)

    def _codebook_losses(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Eq. 8: both terms on the pixels whose mask is believed, each with its mask's code."""
        preset = PRESETS[self.config.weights]
        if not self._codes_begun:
            self._codes_begun = True
            if self.config.start_codes == "masks":
                self.place_codes()
        believed = self._believed(features, labels)
        if not self.config.codebook_trains_features:
            features = features.detach()
        codes = self._matched(features, labels)
        self._note_wins(*self._wins(features, codes))
        self._note_joint(features, codes)
        classification = classification_loss(features, self.codebook, codes, preset.log_classes, believed)
        losses = {"classification": preset.classification * classification}
        if self.config.concentration:
            losses["concentration"] = preset.concentration * concentration_loss(
                features, self.codebook, codes, preset.concentration_norm, believed
            )
        return losses

    @torch.no_grad()
    def _note_wins(self, matched: Tensor, won: Tensor) -> None:
        """Remember which codes win the masks that they are matched to, and let those be the answers."""
        self.code_matched.mul_(self._fading).add_(matched)
        self.code_won.mul_(self._fading).add_(won)
        if self.config.least_won > 0:
            wins = self.code_won > self.config.least_won * self.code_matched
            self.named_codes.copy_(wins | ~wins.any())

    @torch.no_grad()
    def _note_joint(self, features: Tensor, codes: Tensor) -> None:
        """Remember which answers lie together in the masks of a view, and which beside each other."""
        if self.config.join_codes is None:
            return
        decoded = highest_score(features, self.codebook, torch.where(self.named_codes, 0.0, -torch.inf))
        for total, seen in zip(
            (self.code_joint, self.code_beside), shared_masks(decoded, codes, self.config.num_codes), strict=True
        ):
            total.mul_(self._fading).add_(seen)

    @property
    def _fading(self) -> float:
        return 1.0 - 1.0 / (MEMORY_EPOCHS * max(self.num_train_data, 1))

    # ------------------------------------------------------------------------------------------------- inference

    @torch.no_grad()
    def code_answers(self) -> Tensor:
        """The code that answers for each code, [L] int64: the first of those that are one object, itself for most."""
        evidence = (self.named_codes, self.code_joint, self.code_beside)
        version = (self.config.join_codes, *((id(table), table._version) for table in evidence))
        if self._answers is None or self._answers[0] != version:
            self._answers = version, self._join_codes()
        return self._answers[1]

    def _join_codes(self) -> Tensor:
        answers = torch.arange(self.config.num_codes)
        if self.config.join_codes is not None:
            # Codes that were never seen beside another stay themselves.
            rows = (self.named_codes & (self.code_beside > 0).any(dim=1)).nonzero().squeeze(1)
            joint, beside = (t[rows[:, None], rows[None]].cpu().numpy() for t in (self.code_joint, self.code_beside))
            rows = rows.cpu()
            joined = joined_codes(
                joint, beside, self.config.join_codes, self.config.min_pixels, self.config.pixels_per_mask
            )
            first = torch.full((len(rows),), self.config.num_codes).scatter_reduce(0, joined, rows, "amin")
            answers[rows] = first[joined]
        return answers.to(self.codebook.device)

    def decode(self, features: Tensor, scale: float | None = None) -> Tensor:
        """Pick the code with the highest similarity, counted from 1: ids [...] int64; 0 where there is no feature."""
        named = self.named_codes.nonzero().squeeze(1)
        answers = self.code_answers()[named]
        found = answers[highest_score(features, self.codebook[named])] + 1
        return torch.where(features.norm(dim=-1) < SILENT, 0, found)

    @torch.no_grad()
    def final_vote(self) -> Lift:
        """What the masks say of each Gaussian, each for the code that most of its pixels decode to."""
        masks, votes = self.masks(), VoteStore()
        views = [view for view in range(self.num_train_data) if masks.has_masks(view)]
        shown = torch.zeros(self.num_points) if len(views) < self.num_train_data else None
        for view in terminal.track(views, "Asking views", len(views)):
            labels = masks.labels(view)
            assert labels is not None
            meta = self.project_view(view)
            said = view_votes(meta, labels.to(self.device))
            votes.append(said)
            if shown is not None:
                torch.maximum(shown, shown_share(meta, said), out=shown)
            self._answers_of_masks[view] = mask_answers(labels, self.decode(composite(meta, self._features)))
        lifted = lift(votes, list(self._answers_of_masks.values()), self.config.num_codes, self.num_points)
        return name_hidden(lifted, shown, self.means)

    @property
    def _features(self) -> Tensor:
        return self.gauss_params["instance"].detach()

    def group_map(self, view: int) -> Tensor | None:
        """The map of a training view in the numbers of codes: [H, W] int64 on the CPU; None without masks."""
        labels = self.masks().labels(view)
        return None if labels is None else relabel(labels, self._answers_of_masks[view])

    @torch.no_grad()
    def cluster_codes(self) -> None:
        """Overwrite the codebook with the clusters that HDBSCAN finds among the features."""
        from sklearn.cluster import HDBSCAN

        features = torch.nn.functional.normalize(self.gauss_params["instance"].detach(), dim=-1)
        visible = (self.opacities.squeeze(-1).sigmoid() > 0.1).nonzero().squeeze(1)
        rows = visible[torch.randperm(len(visible), generator=torch.Generator().manual_seed(0))[:10_000]]
        sample = features[rows]
        names = torch.from_numpy(HDBSCAN(self.config.hdbscan_min_size).fit_predict(sample.double().cpu().numpy()))
        sizes = torch.bincount(names[names >= 0].long())
        chosen = sizes.argsort(descending=True)[: self.config.num_codes]
        self.codebook.zero_()
        for code, name in enumerate(chosen.tolist()):
            self.codebook[code] = torch.nn.functional.normalize(
                sample[(names == name).to(sample.device)].mean(0), dim=0
            )
        self.named_codes.copy_(torch.arange(self.config.num_codes) < max(len(chosen), 1))
        self.code_joint.zero_()
        self.code_beside.zero_()

    def view_channels(self) -> dict[str, int]:
        """The base's, and `uncertainty`."""
        return {**super().view_channels(), "uncertainty": 1}

    @torch.no_grad()
    def view_outputs(
        self, camera: Cameras, outputs: dict[str, Any], wanted: Collection[str] | None = None
    ) -> dict[str, Tensor]:
        """The base's pictures and `uncertainty` [H, W, 1] (Eq. 7, of the predicted segments: no mask is at hand)."""
        pictures = super().view_outputs(camera, outputs, wanted)
        rgb = outputs["rgb"]
        pictures["uncertainty"] = torch.zeros_like(rgb[..., :1])
        rows = self._cropped_rows()
        if rows is None or bool(rows.any()):
            values = self.gauss_params["instance"]
            image = self.composite(values if rows is None else values[rows]).flatten(0, 1)
            labels = self.decode(image)
            pictures["uncertainty"] = uncertainty(image, labels).view_as(pictures["uncertainty"])
        return pictures

    # ----------------------------------------------------------------------------------------------- checkpoints

    def load_state_dict(self, dict: dict[str, Any], **kwargs: Any) -> None:  # type: ignore[override]
        """Load a checkpoint; older ones have no evidence of which codes are one object."""
        none = {name: torch.zeros_like(getattr(self, name)) for name in ("code_joint", "code_beside")}
        super().load_state_dict({**none, **dict}, **kwargs)
        self._codes_begun = bool(self.code_matched.any())

    def resize_for(self, state: dict[str, Tensor]) -> None:
        """Refuse a checkpoint with another number of codes: its ids would mean something else."""
        super().resize_for(state)
        codes = state["codebook"].shape[0]
        if codes != self.config.num_codes:
            raise GsegError(
                f"The checkpoint has {codes} codes and --pipeline.model.num-codes is {self.config.num_codes}: "
                f"resume with --pipeline.model.num-codes {codes}"
            )
