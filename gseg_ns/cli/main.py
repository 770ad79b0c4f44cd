"""The `gseg` command."""

from __future__ import annotations

import gc
import os
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


def entrypoint() -> None:
    """Run `gseg`; bad input is one message on stderr and exit status 1."""
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
