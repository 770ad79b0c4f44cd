"""Methods with identity encodings: association of masks, closed-form start, classifier."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn import Parameter

from gseg_ns import terminal
from gseg_ns.data.datamanager import MaskDatamanager
from gseg_ns.errors import GsegError
from gseg_ns.lifting.association import NO_GROUPS, AssociationOptions, associate
from gseg_ns.lifting.consensus import ConsensusOptions
from gseg_ns.lifting.hidden import name_hidden, shown_share
from gseg_ns.lifting.identity import IdentityClassifier, initialise_from_labels, random_colors
from gseg_ns.lifting.memory_bank import MemoryBankOptions, relabel
from gseg_ns.lifting.naming import group_words, numbered
from gseg_ns.lifting.neighbourhood import NeighbourhoodLoss
from gseg_ns.lifting.remote import ask_view
from gseg_ns.lifting.votes import Lift, ViewVotes, VoteStore, lift, view_votes
from gseg_ns.masks import LabelRuns, resize_labels
from gseg_ns.models.voted import VotedModel, VotedModelConfig
from gseg_ns.rendering import Camera
from gseg_ns.transfer import upload

IDENTITY_DIM = 16
"""Channels of an identity encoding in all papers."""


@dataclass
class IdentityModelConfig(VotedModelConfig):
    """Methods with identity encodings."""

    _target: type = field(default_factory=lambda: IdentityModel)
    association: Literal["consensus", "memory-bank", "given", "tracks"] = "consensus"
    """How masks of different views find together: by the agreement of all views (ours: independent of the order of
    views), by the paper's 3D-aware memory bank, not at all since their ids agree already (given), or by the agreement
    of views with ids as evidence that agree mostly (tracks)"""
    labels: Literal["encodings", "vote"] = "vote"  # type: ignore[assignment]
    """What says which group a Gaussian is in: the closed-form vote, or the encoding that is trained from there (the
    papers). By the vote, label images are exact for any number of groups: the label of the largest summed weight times
    strength at each pixel. It measures better, and needs no steps"""
    consensus: ConsensusOptions = field(default_factory=ConsensusOptions)
    """Settings of the agreement of views"""
    memory_bank: MemoryBankOptions = field(default_factory=MemoryBankOptions)
    """Settings of the memory bank"""
    start_encodings: Literal["lift", "zero", "random"] = "lift"
    """Where encodings start: at the labels that the masks give in closed form (ours), at zero (Gaga's code), or like
    random colors in SH (Gaussian Grouping's). The classifier reads the labels back, or is a fresh 1x1 convolution"""
    num_classes: int = 0
    """Least number of classes, "unlabelled" among them, over which scores are normalised and losses divided; 0: as many
    as there are groups (Gaga's code). Gaussian Grouping and GradiSeg: 256"""
    train_unlabelled: bool = False
    """Train pixels without a mask as a class of their own, as the official codes do, instead of leaving them out."""


class IdentityModel(VotedModel):
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
        self.group_words: dict[int, tuple[str, float]] = {}
        """Group -> the word of its masks, and how sure they are of it."""
        self._targets: dict[int, tuple[tuple[int, int], Tensor]] = {}
        """Training view -> size, and groups of its pixels at that size."""

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """Splatfacto's groups, the encodings and the classifier."""
        return {**super().get_param_groups(), "classifier": list(self.classifier.parameters())}

    # ----------------------------------------------------------------------------------------------- association

    def association(self) -> str:
        """How masks of different views find together. A method: see `masks`."""
        return self.config.association

    def use_masks(self, datamanager: MaskDatamanager) -> None:
        """As in the base; ids that are said to agree are numbered alike in all views."""
        if self.config.association == "given":
            datamanager.config.masks_are_consistent = True
        super().use_masks(datamanager)

    @torch.no_grad()
    def lift_masks(self) -> Lift:
        """Give the masks of all training views group ids that agree, and start encodings and classifier at their lift.

        The views are rendered once: what they say decides both which masks are one object and what each Gaussian is.

        Returns:
            The label of each Gaussian that encodings and classifier now say, and how sure it is.
        """
        masks, names, views = self.masks(), self._names(), self._masked_views()
        started = time.perf_counter()
        votes, shown = self._ask(views)
        kind = self.association()
        way = "none" if masks.config.masks_are_consistent or kind == "given" else kind
        options = AssociationOptions(cast(Any, way), self.config.memory_bank, self.config.consensus)
        order = sorted(range(len(views)), key=lambda place: names[views[place].index])
        tracks = [masks.ids(view.index) for view in views] if way == "tracks" else None
        if tracks is not None and not any(bool(track.any()) for track in tracks):
            raise GsegError(
                f"No mask in {masks.masks_path} is on a track: give label maps of a tracker or masks with a `track`, "
                "or associate them by consensus"
            )
        found = associate(options, self.means, views, votes, order, tracks)
        self.num_groups = found.num_groups
        self.lookups = {names[view.index]: lookup for view, lookup in zip(views, found.lookups, strict=True)}
        lifted = lift(votes, found.lookups, found.num_groups, self.num_points)
        lifted = name_hidden(lifted, shown, self.means)
        self._name_groups(votes, lifted.labels, views)
        self._start_encodings(lifted.labels)
        seconds = time.perf_counter() - started
        terminal.say(
            f"Associated the masks of {len(views)} views with {int((lifted.labels.unique() > 0).sum())} groups, and "
            "lifted them "
            f"({1000 * seconds / max(len(views), 1):.1f} ms a view)."
        )
        if self.num_groups == 0:
            terminal.warn(NO_GROUPS)
        return lifted

    def _name_groups(self, votes: VoteStore, labels: Tensor, views: Sequence[_TrainingView]) -> None:
        """Call groups what their masks do; groups whose number is not the id that it stands for, by that id.

        Args:
            votes: of the views.
            labels: [N], the group of each Gaussian.
            views: whose votes they are.
        """
        masks, names = self.masks(), self._names()
        said = [masks.said(view.index) for view in views]
        lookups = [self.lookups[names[view.index]] for view in views]
        self.group_words = group_words(votes, lookups, said, labels) if any(said) else {}
        if masks.config.masks_are_consistent:
            ids = masks.ids(views[0].index) if views else torch.zeros(1)
            moved = {group: str(int(i)) for group, i in enumerate(ids.tolist()) if group and i != group}
            self.group_words = {**{group: (name, 1.0) for group, name in moved.items()}, **self.group_words}

    def group_names(self, scale: float | None = None) -> dict[int, str]:
        """What masks call the groups; the words of several are numbered."""
        if not self.group_words:
            return {}
        sizes = dict(enumerate(torch.bincount(self.gaussian_groups(scale)).tolist()))
        words = {group: word for group, (word, _) in self.group_words.items() if sizes.get(group)}
        return numbered(words, sizes)

    def _names(self) -> list[str]:
        """Of all training images, as `lookups` has them."""
        return [path.as_posix() for path in self.masks().train_dataset.image_filenames]

    def _masked_views(self) -> list[_TrainingView]:
        """The training views with masks."""
        masks = self.masks()
        return [_TrainingView(self, v) for v in range(len(masks.train_dataset)) if masks.labels(v) is not None]

    def _start_encodings(self, labels: Tensor) -> None:
        """Start encodings and classifier as `start_encodings` says; `labels` of the Gaussians [N], 0..`num_groups`."""
        here = labels.to(self.device)
        classes = max(self.num_groups + 1, self.config.num_classes)
        if self.config.start_encodings == "lift":
            encodings = initialise_from_labels(here, classes, IDENTITY_DIM, self.classifier)
        else:
            self.classifier.start(classes)
            encodings = torch.zeros((len(here), IDENTITY_DIM))
            if self.config.start_encodings == "random":
                encodings = random_colors(len(here), IDENTITY_DIM)
        self.gauss_params["identity"].data.copy_(encodings)
        self._targets = {}

    @property
    def found_nothing(self) -> bool:
        """Whether masks were associated, and not two of them found together."""
        return bool(self.lookups) and self.num_groups == 0

    @torch.no_grad()
    def final_vote(self) -> Lift | None:
        """What the masks, as they were associated, say of the Gaussians as they are now."""
        if not self.lookups:
            return None
        names, views = self._names(), self._masked_views()
        votes, shown = self._ask(views)
        lookups = [self.lookups[names[view.index]] for view in views]
        lifted = lift(votes, lookups, self.num_groups, self.num_points)
        return name_hidden(lifted, shown, self.means)

    def _ask(self, views: Sequence[_TrainingView]) -> tuple[VoteStore, Tensor | None]:
        """Ask views, and tell how far it is.

        Returns:
            Votes; and how much the best of these views shows of each Gaussian, [N], None where there are no others.
        """
        votes = VoteStore()
        shown = torch.zeros(self.num_points) if len(views) < self.num_train_data else None
        for answer, share in terminal.track(self._answers(views), "Asking views", len(views)):
            votes.append(answer)
            if shown is not None and share is not None:
                torch.maximum(shown, share, out=shown)
        return votes, shown

    def _answers(self, views: Sequence[_TrainingView]) -> Iterator[tuple[ViewVotes, Tensor | None]]:
        """What each view says, in their order, and how much it shows, where there are others: here, or on a cluster."""
        if self.cluster is None:
            for view in views:
                meta = self.project_view(view.index)
                votes = view_votes(meta, view.labels.to(self.device))
                yield votes, shown_share(meta, votes) if len(views) < self.num_train_data else None
            return
        items = ((view.camera.to("cpu"), LabelRuns.of(view.labels)) for view in views)
        yield from self.cluster.in_order(ask_view, items, self.splats().to("cpu"))

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
    def targets(self, view: int, height: int, width: int) -> Tensor | None:
        """The groups of the pixels of a training view at a size: [H * W] int64 on the model's device, or None.

        Kept from one visit of the view to the next, in as few bytes a pixel as the groups need; where the images are.
        """
        kept = self._targets.get(view)
        if kept is None or kept[0] != (height, width):
            groups = self.group_map(view)
            if groups is None:
                return None
            small = next(t for t in (torch.uint8, torch.int16, torch.int32) if self.num_groups <= torch.iinfo(t).max)
            flat = resize_labels(groups, height, width).flatten().to(small)
            if self.masks().config.cache_images == "gpu":
                flat = upload(flat, self.device)
            kept = self._targets[view] = (height, width), flat
        return upload(kept[1], self.device).long()

    def forget_findings(self) -> None:
        """As in the base; with two phases, masks are associated anew."""
        super().forget_findings()
        if self.two_phases:
            self.lookups, self.num_groups, self.group_words, self._targets = {}, 0, {}, {}

    # ------------------------------------------------------------------------------------------------- inference

    def decode(self, features: Tensor, scale: float | None = None) -> Tensor:
        """Classify composited encodings [..., 16] (Gaga Eq. 2): group ids [...] int64."""
        return self.classifier.predict(features, self.config.train_unlabelled, self.num_groups)

    # ----------------------------------------------------------------------------------------------- checkpoints

    def get_extra_state(self) -> dict[str, Any]:
        """The association, beside what every method saves."""
        return {
            **super().get_extra_state(),
            "lookups": dict(self.lookups),
            "num_groups": self.num_groups,
            "words": dict(self.group_words),
            "neighbours": self._neighbours.search.state(),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_extra_state` saved."""
        super().set_extra_state(state)
        self._targets = {}
        self.lookups = dict(state["lookups"])
        self.num_groups = int(state["num_groups"])
        self.group_words = dict(state.get("words", {}))
        if state.get("neighbours") is not None:
            saved = state["neighbours"].items()
            self._neighbours.search.go_on({k: v.to(self.device) if isinstance(v, Tensor) else v for k, v in saved})

    def resize_for(self, state: dict[str, Tensor]) -> None:
        """Give the classifier the number of classes of the checkpoint."""
        super().resize_for(state)
        self.classifier.resize(state["classifier.weight"].shape[0])


class _TrainingView:
    """A training view with masks, read when it is asked for."""

    def __init__(self, model: IdentityModel, index: int) -> None:
        self._model = model
        self.index = index

    @property
    def camera(self) -> Camera:
        return self._model.view_camera(self.index)

    @property
    def labels(self) -> Tensor:
        labels = self._model.masks().labels(self.index)
        assert labels is not None
        return labels
