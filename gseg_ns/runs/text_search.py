"""Texts to Gaussians for a run: loads CLIP, encodes the masks of all views once, and keeps them beside the run."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from nerfstudio.utils.rich_utils import CONSOLE
from rich.markup import escape
from torch import Tensor

from gseg_ns.data.datamanager import MaskDatamanager
from gseg_ns.errors import GsegError
from gseg_ns.lifting.text import CANONICAL, CLIP, ClipEncoder, VoteGraph, VoteOptions, text_feature
from gseg_ns.models.affinity import STALE
from gseg_ns.models.base import SegmentationModel

if TYPE_CHECKING:
    from gseg_ns.models.affinity import AffinityModel

Progress = Callable[[str], None]
"""Is told what goes on."""


def can_search(model: SegmentationModel) -> bool:
    """Whether texts can be asked for: the method answers them and the extra `text` is installed."""
    return model.answers_text and find_spec("transformers") is not None


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
            model: of a method that answers texts.
            datamanager: of the run, with its masks.
            folder: where encoded masks are kept, beside `config.yml`.
            lock: held whenever the model is read, view by view, and never while CLIP works.
            options: how masks vote.

        Raises:
            GsegError: the method has no features that texts can find.
        """
        if not model.answers_text:
            raise GsegError(f"{type(model).__name__} has no features that texts can find: train saga")
        self._model = cast("AffinityModel", model)
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
            GsegError: no text, no CLIP, no masks, features that are not trained yet, or another text is being answered.
        """
        if not text.strip():
            raise GsegError("The text prompt is empty. Name what you want, e.g. 'a red mug'.")
        if not self._busy.acquire(blocking=False):
            raise GsegError("Another text is being answered. Wait until it is.")
        try:
            encoder = self._load(clip, tell)
            graph = self._votes(clip, encoder, tell)
            positive, negatives = text_feature(encoder, text), encoder.texts(CANONICAL)
            with self._lock, torch.no_grad():
                features = self._model.gauss_params[self._model.main_feature].detach()
                return graph.select(features, positive, negatives, self._options)
        finally:
            self._busy.release()

    def _load(self, clip: str, tell: Progress | None) -> ClipEncoder:
        if self._encoder is None or self._encoder[0] != clip:
            if tell is not None:
                tell(f"Loading the CLIP model {clip} …")
            self._encoder = clip, ClipEncoder.load(clip, self._model.device)
        return self._encoder[1]

    def _votes(self, clip: str, encoder: ClipEncoder, tell: Progress | None) -> VoteGraph:
        model = self._model
        with self._lock:
            if not model.in_feature_phase:
                raise GsegError("The features are not trained yet: ask again when the geometry is done.")
            # While the features train they change with every step, and what they say of the masks is kept for a while.
            settled = bool(model.finished)
            key = self._key(clip) if settled else f"{clip} {model.step // STALE}"
        if self._graph is not None and self._graph[0] == key:
            return self._graph[1]
        path = self._folder / f"text_{key[:16]}.npz"
        graph = self._kept(path) if settled else None
        if graph is None:
            graph = model.vote_graph(self._datamanager, encoder, self._options, self._lock, tell)
            if settled:
                _keep(graph, path)
        self._graph = key, graph
        return graph

    def _kept(self, path: Path) -> VoteGraph | None:
        """What was kept of earlier texts; None where nothing was, or it is damaged: it is made anew, and told."""
        if not path.exists():
            return None
        try:
            graph = VoteGraph.read(path)
            if graph.features.shape[1] != self._model.gauss_params[self._model.main_feature].shape[1]:
                raise GsegError(f"{path} is of other features than those of this run.")
        except GsegError as error:
            CONSOLE.log(f"[yellow]{escape(str(error))} The masks are encoded again.")
            return None
        return graph

    def _key(self, clip: str) -> str:
        """Changes with the Gaussians, with their features, with the CLIP model, and with how targets are found."""
        found_by = replace(self._options, relevant=0.0, similarity=0.0)  # these two are for what is asked of targets
        return hashlib.blake2b(f"{clip} {found_by} {self._digest()}".encode(), digest_size=16).hexdigest()

    def _digest(self) -> str:
        """Of the Gaussians and their features, which are read again only after training went on: they are large."""
        tensors = (self._model.means, self._model.gauss_params[self._model.main_feature])
        state = (self._model.step, *((tensor.data_ptr(), tensor._version) for tensor in tensors))
        if self._hashed is None or self._hashed[0] != state:
            digest = hashlib.blake2b(digest_size=16)
            for tensor in tensors:
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
            self._hashed = state, digest.hexdigest()
        return self._hashed[1]
