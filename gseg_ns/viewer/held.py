"""What all that browsers do together stands on: one session on one model, under the viewer's lock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gseg_ns.editing.operations import Edited
from gseg_ns.editing.session import Session, State
from gseg_ns.errors import GsegError
from gseg_ns.lifting.thresholds import SAME_THING
from gseg_ns.runs.prompting import Prompter
from gseg_ns.selection.packed import PackedMask
from gseg_ns.selection.selection import Mode

if TYPE_CHECKING:
    from gseg_ns.models.base import SegmentationModel


class Held:
    """A session on a model; what is asked and done follows in subclasses, an idea each.

    All browsers share it. Every public method of it and of its subclasses may be called from any thread.
    """

    def __init__(self, model: SegmentationModel, lock: AbstractContextManager[Any] | None = None) -> None:
        """Start with nothing selected.

        Args:
            model: the model that is shown, possibly in training.
            lock: held while the model is read and while the session changes; the viewer's `train_lock`.
        """
        self.model = model
        self.scale = model.default_scale
        self.threshold = SAME_THING
        self.adaptive = False
        """Whether the threshold is what SAGA's first version takes, in place of a number."""
        self.notice = ""
        self._lock: AbstractContextManager[Any] = lock if lock is not None else threading.Lock()
        self._session = Session(model.splats())
        self._seen = model.geometry_version()
        self._prompter = Prompter(model)
        self._by_feature = model.prompts_by_feature

    @property
    def _least(self) -> float | None:
        return None if self.adaptive else self.threshold

    @contextmanager
    def _held(self) -> Iterator[Session]:
        """Hold the lock, with the session on the model's present Gaussians."""
        with self._lock:
            yield self._current()

    def _current(self) -> Session:
        if self.model.prompts_by_feature != self._by_feature:
            # A tree was grown: points that were clicked before are in no group.
            self._by_feature = self.model.prompts_by_feature
            self._end_prompt()
        version = self.model.geometry_version()
        if version != self._seen:
            self._seen = version
            had = self._session.state
            if not self._session.rebase(self.model.splats()):
                self._end_prompt()
                if had.operations or had.selection != PackedMask.empty(had.selection.length):
                    self.notice = "Training changed the number of Gaussians: selection and edits start anew."
        return self._session

    def state(self) -> State:
        """What there is: another object after every change."""
        with self._held() as session:
            return session.state

    def _end_prompt(self) -> None:
        """What is selected next has nothing to do with the clicks before."""

    def _select(self, session: Session, mask: Tensor, mode: Mode, did: str) -> int:
        """Select outside of a prompt, which ends with it."""
        self._end_prompt()
        return session.select(mask, mode, did)

    @property
    def _group_scale(self) -> float | None:
        """The scale that groups are meant at; None where the method has none."""
        return round(self.scale, 4) if self.model.has_scales else None

    def _row_groups(self, scene: Edited) -> Tensor:
        """The group of each row of the edited scene; 0 for what came from elsewhere."""
        groups = self._prompter.groups(self._group_scale)
        return torch.where(scene.source >= 0, groups[scene.source.clamp_min(0)], 0)

    @property
    def _knows_groups(self) -> bool:
        """Whether groups can be asked for at no cost: with methods of features they are clusters, which take long."""
        return not self.model.prompts_by_feature or self._prompter.knows(self._group_scale)

    def _pieces(self, session: Session) -> tuple[tuple[int, ...], bool]:
        """The objects that the selection is, and whether it is all of them.

        Objects of which it holds four fifths at least, or the only one that it is a part of; none where more than a
        tenth of it belongs to others: then it is a set of Gaussians.
        """
        scene = session.scene
        of, chosen = self._row_groups(scene), session.selection.mask & ~scene.removed
        groups, counts = of[chosen].unique(return_counts=True)
        whole = torch.bincount(of[~scene.removed])[groups]
        count = int(chosen.sum())
        for held, are_whole in (
            (5 * counts >= 4 * whole, True),
            (counts >= counts.max() if count else counts > 0, False),
        ):
            held = held & (groups > 0)
            if bool(held.any()) and 10 * int(counts[held].sum()) >= 9 * count and (are_whole or int(held.sum()) == 1):
                return tuple(groups[held].tolist()), are_whole
        return (), False

    def _called(self, session: Session) -> str:
        """What is selected, in a few words: a name, a group, how many objects, or how many Gaussians."""
        count = session.selection.count
        groups, are_whole = self._pieces(session) if self._knows_groups else ((), False)
        if len(groups) == 1:
            name = self._name(session, groups[0])
            return name if are_whole else f"part of {name}"
        return f"{len(groups)} objects" if groups else f"{count:,} Gaussian{'' if count == 1 else 's'}"

    def _name(self, session: Session, group: int) -> str:
        """What a group is called."""
        names = {**self.model.group_names(self._group_scale), **session.labels(self._group_scale)}
        return names.get(group) or f"group {group}"


def packed(mask: Tensor) -> PackedMask:
    """A mask for an operation; a GsegError when nothing is in it."""
    if not bool(mask.any()):
        raise GsegError("Nothing is selected. Click on an object first.")
    return PackedMask.pack(mask)


def named_mask(session: Session, name: str) -> PackedMask:
    """A named selection; a GsegError when there is none of that name."""
    if name not in session.named:
        raise GsegError(f"There is no selection {name!r}. Name one first, under “Selection”.")
    return session.named[name]


def drawn_rows(scene: Edited, found: Tensor) -> Tensor:
    """What is drawn of some of the model's Gaussians (bool [N]) and of their copies, bool [M]."""
    return found[scene.source.clamp_min(0)] & (scene.source >= 0) & scene.drawn
