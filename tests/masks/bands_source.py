"""A source of masks for tests, importable by worker processes."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from gseg_ns.errors import GsegError
from gseg_ns.masks import MaskSet
from gseg_ns.masks.sources.base import Photo, SourceResult


@dataclass
class BandsConfig:
    """A source for tests: masks are bands of rows, as many as the first pixel's red value says."""

    name: ClassVar[str] = "bands"
    embeds: ClassVar[bool] = True
    values: dict[str, Any] = field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        return {"values": self.values}

    def setup(self, device: str) -> BandsConfig:
        if "broken" in self.values:
            raise GsegError("the model is broken")
        return self

    def generate(self, photo: Photo, embed: bool) -> SourceResult:
        height, width = photo.pixels.shape[:2]
        count = int(photo.pixels[0, 0, 0])
        if count == 66:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        if count == 77:
            raise ZeroDivisionError("odd image")
        if count == 88:
            os.kill(os.getpid(), signal.SIGKILL)
        masks = np.zeros((count, height, width), bool)
        for i in range(count):
            masks[i, i % height] = True
        embedding = {"embedding": photo.pixels.astype(np.float16)} if embed else {}
        return SourceResult(MaskSet.from_arrays(masks, np.linspace(1, 0.5, count)), embedding)
