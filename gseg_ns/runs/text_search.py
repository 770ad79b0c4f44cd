"""Texts to Gaussians for a run: loads CLIP, encodes the masks of all views once, and keeps them beside the run."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from nerfstudio.utils.rich_utils import CONSOLE
from rich.markup import escape
from torch import Tensor

from gseg_ns.data.datamanager import MaskDatamanager
from gseg_ns.errors import GsegError
from gseg_ns.lifting.text import CANONICAL, CLIP, ClipEncoder, VoteGraph, VoteOptions, text_feature
from gseg_ns.models.affinity import STALE, AffinityModel
from gseg_ns.models.base import SegmentationModel
from gseg_ns.models.text_votes import group_votes, meant_groups, text_scales

Progress = Callable[[str], None]
"""Is told what goes on."""


class Proposal(NamedTuple):
    """A name for a group."""

    word: str
    margin: float
    """By how much its masks' mean cosine with the word is above that of the next best word; near 0: a guess."""


def can_search(model: SegmentationModel) -> bool:
    """Whether texts can be asked for: the run has features or groups, and the extra `text` is installed."""
    return bool(model.main_feature) and find_spec("transformers") is not None


def _keep(graph: VoteGraph, path: Path) -> None:
    """Keep it for later; where that cannot be, the text is answered all the same."""
    try:
        graph.save(path)
    except GsegError as error:
        CONSOLE.log(f"[yellow]{escape(str(error))} The masks will be encoded again in another session.")


class TextSearch:
    """Answers texts by the votes of masks (`gseg_ns.lifting.text`). May be called from any thread, one at a time."""

    def __init__(
        self,
        model: SegmentationModel,
        datamanager: MaskDatamanager,
        folder: Path,
        lock: AbstractContextManager[Any] | None = None,
        options: VoteOptions | None = None,
    ) -> None:
        """Prepare; nothing is loaded yet.

        Args:
            model: its features find what masks select (saga), or its groups what masks show.
            datamanager: of the run, with its masks.
            folder: where encoded masks are kept, beside `config.yml`.
            lock: held whenever the model is read, view by view, and never while CLIP works.
            options: how masks vote.
        """
        self._model = model
        self._datamanager = datamanager
        self._folder = folder
        self._lock: AbstractContextManager[Any] = nullcontext() if lock is None else lock
        self._options = options or VoteOptions()
        self._encoder: tuple[str, ClipEncoder] | None = None
        self._graph: tuple[str, VoteGraph] | None = None
        self._hashed: tuple[Any, str] | None = None
        self._busy = threading.Lock()

    def find(self, text: str, clip: str = CLIP, tell: Progress | None = None) -> Tensor:
        """The Gaussians that a text means.

        The first call for a CLIP model encodes the masks of all views, which takes minutes on a CPU; later ones take
        milliseconds.

        Args:
            text: in words.
            clip: name or folder of the CLIP model.
            tell: is told what goes on; without it, progress is shown on the terminal.

        Returns:
            bool [N] on the model's device.

        Raises:
            GsegError: no text, no CLIP, no masks, features or groups that there are not yet, or another text is being
                answered.
        """
        if not text.strip():
            raise GsegError("The text prompt is empty. Name what you want, e.g. 'a red mug'.")
        with self._asked([text], clip, tell) as (graph, (positive,), encoder):
            negatives = encoder.texts(CANONICAL)
            with self._lock, torch.no_grad():
                if not isinstance(self._model, AffinityModel):
                    return meant_groups(self._model, graph.wanted(positive, negatives, self._options))
                return graph.select(self._features, positive, negatives, self._options)

    def categorize(self, texts: Sequence[str], clip: str = CLIP, tell: Progress | None = None) -> Tensor:
        """Which of some texts fits each Gaussian best: [N] int64, counted from 1; 0 = what no mask says anything of.

        Args:
            texts: in words, at least one.
            clip, tell: see `find`.

        Raises:
            GsegError: see `find`.
        """
        with self._asked(texts, clip, tell) as (graph, features, _), self._lock, torch.no_grad():
            if isinstance(self._model, AffinityModel):
                return graph.categorize(self._features, features, self._options)
            chosen = torch.zeros(self._model.num_points, dtype=torch.long, device=self._model.device)
            for group, (text, _) in graph.best_texts(features).items():
                chosen[meant_groups(self._model, [group])] = text + 1
            return chosen

    def propose(self, words: Sequence[str], clip: str = CLIP, tell: Progress | None = None) -> dict[int, Proposal]:
        """Names for groups, out of a list of words: what their masks look most like.

        Args:
            words: at least one.
            clip, tell: see `find`.

        Raises:
            GsegError: see `find`; or the run has clusters of features in place of groups.
        """
        if self._model.prompts_by_feature:
            raise GsegError("Groups of this run are clusters at a scale: words find objects in it, and name none")
        with self._asked(words, clip, tell, by_feature=False) as (graph, features, _):
            best = graph.best_texts(features)
        tree = self._model.tree()
        # Beyond the nodes of saga's tree are clusters, whose numbers mean others at another scale.
        last = max(best, default=0) if tree is None else len(tree)
        return {group: Proposal(words[text], margin) for group, (text, margin) in best.items() if group <= last}

    @contextmanager
    def _asked(
        self, texts: Sequence[str], clip: str, tell: Progress | None, by_feature: bool = True
    ) -> Iterator[tuple[VoteGraph, list[Tensor], ClipEncoder]]:
        """What masks say, and encodings of texts; nobody else asks meanwhile.

        Args:
            texts, clip, tell: see `find`.
            by_feature: of features, where the method has such; else of groups.
        """
        if not self._busy.acquire(blocking=False):
            raise GsegError("Another text is being answered. Wait until it is.")
        try:
            encoder = self._load(clip, tell)
            graph = self._votes(clip, encoder, tell, by_feature and isinstance(self._model, AffinityModel))
            yield graph, [text_feature(encoder, text, self._options.templates) for text in texts], encoder
        finally:
            self._busy.release()

    @property
    def _features(self) -> Tensor:
        return self._model.gauss_params[self._model.main_feature].detach()

    def _load(self, clip: str, tell: Progress | None) -> ClipEncoder:
        if self._encoder is None or self._encoder[0] != clip:
            if tell is not None:
                tell(f"Loading the CLIP model {clip} …")
            self._encoder = clip, ClipEncoder.load(clip, self._model.device)
        return self._encoder[1]

    def _votes(self, clip: str, encoder: ClipEncoder, tell: Progress | None, by_feature: bool) -> VoteGraph:
        model = self._model
        with self._lock:
            if isinstance(model, AffinityModel):
                ready, settled = model.in_feature_phase, bool(model.finished)
            else:
                ready, settled = bool((model.gaussian_groups() > 0).any()), not model.training
            if not ready:
                raise GsegError("There are no trained features and no groups yet: ask again later in the training.")
            # While the features train they change with every step, and what they say of the masks is kept for a while.
            key = self._key(clip, by_feature) if settled else f"{clip} {by_feature} {model.step // STALE}"
        if self._graph is not None and self._graph[0] == key:
            return self._graph[1]
        path = self._folder / f"text_{key[:16]}.npz"
        graph = self._kept(path, by_feature) if settled else None
        if graph is None:
            if by_feature and isinstance(model, AffinityModel):
                graph = model.vote_graph(self._datamanager, encoder, self._options, self._lock, tell)
            else:
                graph = group_votes(model, self._datamanager, encoder, self._lock, tell)
            if settled:
                _keep(graph, path)
        self._graph = key, graph
        return graph

    def _kept(self, path: Path, by_feature: bool) -> VoteGraph | None:
        """What was kept of earlier texts; None where nothing was, or it is damaged: it is made anew, and told."""
        if not path.exists():
            return None
        try:
            graph = VoteGraph.read(path)
            feature = self._model.gauss_params[self._model.main_feature]
            if graph.features.shape[1] != (feature.shape[1] if by_feature else 0):
                raise GsegError(f"{path} is of other features than those of this run.")
        except GsegError as error:
            CONSOLE.log(f"[yellow]{escape(str(error))} The masks are encoded again.")
            return None
        return graph

    def _key(self, clip: str, by_feature: bool) -> str:
        """Changes with the Gaussians, with their features, with the CLIP model, and with how targets are found."""
        # These are for what is asked of targets.
        found_by = replace(self._options, relevant=0.0, similarity=0.0, templates="imagenet")
        return hashlib.blake2b(f"{clip} {found_by} {self._digest(by_feature)}".encode(), digest_size=16).hexdigest()

    def _digest(self, by_feature: bool) -> str:
        """Of the Gaussians and their features or groups, read again only after training went on: they are large."""
        tensors = (self._model.means, self._model.gauss_params[self._model.main_feature])
        state = (by_feature, self._model.step, *((tensor.data_ptr(), tensor._version) for tensor in tensors))
        if self._hashed is None or self._hashed[0] != state:
            digest = hashlib.blake2b(digest_size=16)
            if not by_feature:
                tensors = (self._model.means, *(self._model.gaussian_groups(s) for s in text_scales(self._model)))
            for tensor in tensors:
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
            self._hashed = state, digest.hexdigest()
        return self._hashed[1]
