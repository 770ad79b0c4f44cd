"""Start of the `gseg` command."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from gseg_ns.cli.main import uncollected

MANY = """
import sys
from gseg_ns.cli.main import reader_may_leave
with reader_may_leave():
    print("first", flush=True)
    sys.stdin.read()
    {0}
"""


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


@pytest.mark.skipif(sys.platform == "win32", reason="pipes")
@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize(
    "rest",
    ["print('more')", "print('more', flush=True)", "print('more'); sys.exit()", "raise BrokenPipeError"],
    ids=["left in the buffer", "told at once", "help", "another pipe"],
)
def test_who_reads_may_leave(rest: str, buffered: bool) -> None:
    command = [sys.executable, "-c", MANY.format(rest)]
    pipes: dict[str, Any] = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    environment = {**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"}
    with subprocess.Popen(command, **pipes, env=environment, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "first\n"
        if rest.startswith("print"):
            process.stdout.close()
        process.stdin.close()
        said = process.stderr.read()
        status = process.wait(60)
    if rest.startswith("print"):
        # Who had said all before keeps the status that was asked for.
        assert (status, said) == (0 if "exit" in rest and buffered else 1, "")
    else:
        assert status == 1
        assert "BrokenPipeError" in said
