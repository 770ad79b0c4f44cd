"""Fixtures that every test folder shares."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

# One thread each: the suite shares its machine, and torch's spinning workers make every small test slower.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def scenes() -> Path:
    """The optional folder of development scenes, beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "scenes"
    if not folder.is_dir():
        pytest.skip("the development scenes are not on this machine")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip CUDA tests, with the reason, where there is no GPU."""
    if torch.cuda.is_available():
        return
    for item in items:
        if "cuda" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU on this machine"))
