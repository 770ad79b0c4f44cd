"""The `gseg` command."""

from __future__ import annotations

import gc
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import tyro
from rich.markup import escape

from gseg_ns import __version__
from gseg_ns.cli.console import CONSOLE, ERRORS
from gseg_ns.errors import GsegError
from gseg_ns.mistyped import understand
from gseg_ns.terminal import VERBOSE, hide_deprecations


@contextmanager
def uncollected() -> Iterator[None]:
    """Within this block nobody looks for garbage, and what it leaves is not looked at again.

    Three thousand modules are no garbage, and to look for some among them every few hundred objects takes longer than
    to import some of them.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Within this block who reads the output may stop, as `head` does: the command ends then, without a word.

    Ends with exit status 1 then, as Python does, unless the command had ended before with one of its own.
    """
    broken = False
    try:
        yield
    except BrokenPipeError:
        if not _stdout_is_closed():
            raise
        broken = True
    finally:
        broken = broken or _stdout_is_closed()
        if broken:
            # Python flushes once more at its end, and would say what came of it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if broken:
        sys.exit(1)


def _stdout_is_closed() -> bool:
    """Whether nobody reads the output any longer."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return True
    except OSError:  # a full disk, which is somebody else's to tell
        return False
    if not hasattr(select, "poll"):  # Windows
        return False
    # Of an output without a buffer there is nothing left to flush.
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except OSError:  # no file, as in a test
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def entrypoint() -> None:
    """Run `gseg`; bad input is one message on stderr and exit status 1."""
    with reader_may_leave():
        _run()


def _run() -> None:
    arguments = [argument for argument in sys.argv[1:] if argument != "--verbose"]
    if len(arguments) < len(sys.argv) - 1:
        os.environ[VERBOSE] = "1"  # of the commands that are started from here, too
    hide_deprecations("")
    if arguments == ["--version"]:
        CONSOLE.print(f"gseg-ns {__version__}", highlight=False)
        return
    with uncollected():
        from gseg_ns.cli.commands import Command

        command = understand(
            tyro.cli,
            Command,
            arguments,
            prog="gseg",
            description="Objects in 3D Gaussian splats. With --verbose, what Nerfstudio prints is shown, too.",
        )
    try:
        command.main()
    except GsegError as error:
        ERRORS.print(f"[bold red]Error:[/] {escape(str(error))}")
        sys.exit(1)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _stdout_is_closed():
            raise
        # Of a path that the user gave: no permission, too long a name, a folder where a file should be. Or of a file
        # that is being written, which has no name then: the disk is full.
        if error.errno is None:
            raise
        what = "write" if error.filename is None else f"use {error.filename}"
        ERRORS.print(f"[bold red]Error:[/] {escape(f'Cannot {what}: {error.strerror}.')} Check space and permissions.")
        sys.exit(1)
    except KeyboardInterrupt:
        ERRORS.print("Stopped.")
        sys.exit(130)
