"""The state of chance: what a resumed run must have as it was, so that it goes on as if it had never stopped."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from gseg_ns.data.datamanager import MaskDatamanager
from gseg_ns.data.python_random import from_python_state, python_state


def chance_state(datamanager: MaskDatamanager | None) -> dict[str, Any]:
    """The generators of Python, NumPy and torch and the order of views, as tensors and plain values.

    Args:
        datamanager: of the run in training; None outside of it.
    """
    _, words, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002  what Nerfstudio draws from
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": python_state(random.getstate()),
        "numpy": [torch.from_numpy(np.asarray(words, np.int64)), int(position), int(has_gauss), float(gauss)],
        "views": None if datamanager is None else datamanager.order_state(),
    }


def restore_chance(state: dict[str, Any], datamanager: MaskDatamanager | None) -> None:
    """Take back what `chance_state` told; what a checkpoint does not know, or of other GPUs, stays as it is."""
    torch.set_rng_state(state["torch"].cpu())
    if state.get("cuda") and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([device.cpu() for device in state["cuda"]])
    if "python" in state:
        random.setstate(from_python_state(state["python"]))
    if "numpy" in state:
        words, *rest = state["numpy"]
        np.random.set_state(("MT19937", words.cpu().numpy().astype(np.uint32), *rest))  # noqa: NPY002
    if state.get("views") and datamanager is not None:
        datamanager.set_order_state(state["views"])
