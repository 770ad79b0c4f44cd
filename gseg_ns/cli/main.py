"""The `gseg` command."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Union

import tyro
from rich.markup import escape

from gseg_ns import __version__
from gseg_ns.cli.bench import Bench
from gseg_ns.cli.console import CONSOLE, ERRORS
from gseg_ns.cli.demo import Demo
from gseg_ns.cli.doctor import Doctor
from gseg_ns.cli.edit import Edit
from gseg_ns.cli.evaluate import Eval
from gseg_ns.cli.export import Export
from gseg_ns.cli.info import Info, List
from gseg_ns.cli.isolate import Isolate
from gseg_ns.cli.lift import Lift
from gseg_ns.cli.masks import Masks
from gseg_ns.cli.merge import Merge
from gseg_ns.cli.pack import Pack
from gseg_ns.cli.protocol import ProtocolCommand
from gseg_ns.cli.render import Render
from gseg_ns.cli.segment import Segment
from gseg_ns.cli.select import Select
from gseg_ns.cli.view import ViewRun
from gseg_ns.cli.views import Views
from gseg_ns.errors import GsegError
from gseg_ns.mistyped import understand
from gseg_ns.terminal import VERBOSE, hide_deprecations

Command = Union[  # noqa: UP007  tyro reads the members' annotations
    Annotated[Demo, tyro.conf.subcommand("demo")],
    Annotated[Views, tyro.conf.subcommand("views")],
    Annotated[Segment, tyro.conf.subcommand("segment")],
    Annotated[Masks, tyro.conf.subcommand("masks")],
    Annotated[Lift, tyro.conf.subcommand("lift")],
    Annotated[Render, tyro.conf.subcommand("render")],
    Annotated[Select, tyro.conf.subcommand("select")],
    Annotated[Edit, tyro.conf.subcommand("edit")],
    Annotated[Isolate, tyro.conf.subcommand("isolate")],
    Annotated[Export, tyro.conf.subcommand("export")],
    Annotated[Merge, tyro.conf.subcommand("merge")],
    Annotated[Pack, tyro.conf.subcommand("pack")],
    Annotated[ViewRun, tyro.conf.subcommand("view")],
    Annotated[Eval, tyro.conf.subcommand("eval")],
    Annotated[Info, tyro.conf.subcommand("info")],
    Annotated[List, tyro.conf.subcommand("list")],
    Annotated[ProtocolCommand, tyro.conf.subcommand("protocol")],
    Annotated[Bench, tyro.conf.subcommand("bench")],
    Annotated[Doctor, tyro.conf.subcommand("doctor")],
]


def entrypoint() -> None:
    """Run `gseg`; bad input is one message on stderr and exit status 1."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--verbose"]
    if len(arguments) < len(sys.argv) - 1:
        os.environ[VERBOSE] = "1"  # of the commands that are started from here, too
    hide_deprecations("")
    if arguments == ["--version"]:
        CONSOLE.print(f"gseg-ns {__version__}", highlight=False)
        return
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
