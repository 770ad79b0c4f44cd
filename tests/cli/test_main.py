"""Start of the `gseg` command."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest

from gseg_ns.cli.main import uncollected


@pytest.fixture(params=[True, False])
def collects(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether garbage is looked for before."""
    before = gc.isenabled()
    (gc.enable if request.param else gc.disable)()
    yield request.param
    (gc.enable if before else gc.disable)()


def test_modules_are_not_looked_at(collects: bool) -> None:
    inside: list[bool] = []

    def leave() -> None:
        with uncollected():
            inside.append(gc.isenabled())
            sys.exit()

    with pytest.raises(SystemExit):
        leave()
    assert inside == [False]
    assert gc.isenabled() == collects
    assert gc.get_freeze_count() > 1000


def test_what_a_command_froze_is_collected_after_its_test() -> None:
    assert gc.get_freeze_count() < 1000
