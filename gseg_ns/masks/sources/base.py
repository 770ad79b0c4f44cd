"""What a source of masks is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, ClassVar, Protocol

import numpy as np

from gseg_ns.errors import GsegError
from gseg_ns.masks.mask_set import MaskSet
from gseg_ns.masks.orientation import AS_STORED


@dataclass(frozen=True)
class Photo:
    """What a source is given."""

    name: PurePosixPath
    """Path relative to the scene."""
    pixels: np.ndarray
    """uint8 [H, W, 3], RGB."""
    orientation: int = AS_STORED
    """How the pixels, which are as they are stored, would have to be turned (see `gseg_ns.masks.orientation`)."""


@dataclass(frozen=True)
class SourceResult:
    """What a source gives back."""

    masks: MaskSet
    """Scored masks, of the photo's size."""
    embedding: dict[str, np.ndarray] = field(default_factory=dict)
    """Arrays that describe the image for later prompts; empty where none was asked for."""


class MaskSource(Protocol):
    """Finds masks in one photograph after another, the same for the same photograph whatever came before."""

    def generate(self, photo: Photo, embed: bool) -> SourceResult:
        """Find the masks of one photograph.

        Args:
            photo: the photograph.
            embed: also give the image embedding. Sources without one are never asked.

        Raises:
            GsegError: this photograph cannot be done; the next may.
        """
        ...


class SequenceSource(Protocol):
    """Finds masks in all photographs of a scene together, in the order of a path that leads from one to the next."""

    def generate_all(self, photos: Sequence[Photo]) -> Iterator[SourceResult]:
        """Find the masks of all photographs, one after the other.

        Args:
            photos: in their order; each is read when it is asked for.

        Raises:
            GsegError: they cannot be done.
        """
        ...


class SourceConfig(Protocol):
    """Options of a source, light to import and to send to another process.

    One whose attribute `in_sequence` is true makes a `SequenceSource`.
    """

    name: ClassVar[str]
    embeds: ClassVar[bool]
    """Whether the source can give image embeddings."""

    @property
    def is_asked(self) -> bool:
        """Whether its own options speak for it, where no source is named."""
        ...

    def settings(self) -> dict[str, Any]:
        """Everything that the masks depend on, as JSON can hold it."""
        ...

    def setup(self, device: str) -> Any:
        """Load what is needed, on a torch device such as `cpu` or `cuda:1`: a `MaskSource` or `SequenceSource`.

        Raises:
            GsegError: a file or package is missing or wrong.
        """
        ...


def is_in_sequence(config: SourceConfig | type[SourceConfig] | None) -> bool:
    """Whether a source, by its options or their class, asks for all photographs together; none does not."""
    return bool(getattr(config, "in_sequence", False))


def torch_device(name: str, worker: int = 0) -> str:
    """`auto` is CUDA where there is a GPU (workers take turns on several), else the CPU.

    Raises:
        GsegError: torch cannot use the device.
    """
    import torch

    if name == "auto":
        return f"cuda:{worker % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise GsegError(f"There is no device {name!r}. Use auto, cpu, cuda or cuda:1.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise GsegError(f"The device {name} is not on this machine, which has {torch.cuda.device_count()} GPUs.")
    return name
