"""All commands of `gseg`."""

from __future__ import annotations

from typing import Annotated, Union

import tyro

from gseg_ns.cli.bench import Bench
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
