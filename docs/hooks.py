"""What the pages say about options, commands and the Python API, taken from the code whenever the pages are built.

A line of its own in a page is replaced:

- `{{ options CLASS }}`, `{{ options CLASS beyond BASE }}`: a table of the fields of a config dataclass with their
  defaults and docstrings, as `ns-train` names them; those of BASE are left out.
- `{{ commands }}`: the same for every `gseg` command, with a heading each.
- `{{ api PACKAGE }}`: the docstrings of the names that a package offers, for mkdocstrings.
- `{{ script FILE }}`: a script of the repository.

`options` and `commands` import the code; `api` reads files only, and mkdocstrings reads them too.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import textwrap
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import tyro

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "gseg_ns"
_MARK = re.compile(r"^\{\{ *(?P<what>\w+)(?P<rest>[^}]*)\}\}$", re.MULTILINE)
_WORDS = {Path: "PATH", str: "TEXT", int: "INT", float: "FLOAT"}


class Option(NamedTuple):
    """An option of a command line."""

    name: str
    """As it is typed, without the dashes; upper case where it is positional."""
    kind: str
    """What it takes; empty for a switch."""
    default: str
    """Empty where it has to be given."""
    text: str
    """The field's docstring."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the marks of a page. Called by MkDocs."""
    makers: dict[str, Callable[..., str]] = {
        "options": option_table,
        "commands": command_pages,
        "api": api_blocks,
        "script": script,
    }
    return _MARK.sub(lambda mark: makers[mark["what"]](*mark["rest"].split()), markdown)


# ------------------------------------------------------------------------------------------------------- options


def option_table(path: str, *beyond: str) -> str:
    """A table of what a config dataclass takes.

    Args:
        path: full name of the class.
        beyond: nothing, or `beyond` and the full name of a class whose fields are left out.
    """
    left_out = {field.name for field in dataclasses.fields(_load(beyond[1]))} if beyond else set()
    return _table(
        option for option in options(_load(path)) if option.name.split(".")[0].replace("-", "_") not in left_out
    )


def command_pages() -> str:
    """A heading, the description and a table of options for every `gseg` command, and for those of `gseg bench`."""
    parts = []
    for name, command in commands():
        kind = "##" if " " not in name else "###"
        about = inspect.cleandoc(command.__doc__ or "")
        parts += [f"{kind} gseg {name}", _escaped(about), _table(options(command), dashes="--")]
    return "\n\n".join(parts)


def commands() -> list[tuple[str, type]]:
    """The commands by name, in the order of `gseg --help`; those of a command follow it as `bench quality`."""
    from gseg_ns.cli.commands import Command

    return list(_subcommands(Command, ""))


def _subcommands(union: Any, prefix: str) -> Iterator[tuple[str, type]]:
    for member in get_args(union):
        command, *marks = get_args(member)
        name = prefix + next(mark.name for mark in marks if hasattr(mark, "name"))
        yield name, command
        for field in dataclasses.fields(command):
            inner = _bare(get_type_hints(command, include_extras=True)[field.name])
            if get_origin(inner) in (Union, types.UnionType) and any(
                get_origin(part) is Annotated for part in get_args(inner)
            ):
                yield from _subcommands(inner, f"{name} ")


def options(config: type, prefix: str = "") -> Iterator[Option]:
    """The options of a dataclass that have a docstring of ours; nested ones with their field's name before them."""
    texts, hints = field_texts(config), get_type_hints(config, include_extras=True)
    for field in dataclasses.fields(config):
        hint = hints[field.name]
        suppressed = get_origin(hint) is Annotated and tyro.conf.Suppress[int].__metadata__[0] in get_args(hint)[1:]
        if field.name.startswith("_") or field.name not in texts or suppressed or not field.init:
            continue
        bare = _bare(hint)
        name = prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(bare) and isinstance(bare, type):
            yield from options(bare, f"{name}.")
            continue
        positional = get_origin(hint) is Annotated and tyro.conf.Positional[int].__metadata__[0] in get_args(hint)[1:]
        yield Option(name.upper() if positional else name, _kind(bare), _default(field), texts[field.name])


def field_texts(config: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, its bases in our package included."""
    texts: dict[str, str] = {}
    for base in reversed(config.__mro__):
        if not base.__module__.startswith(PACKAGE):
            continue
        [tree] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        for field, text in zip(tree.body, tree.body[1:], strict=False):
            if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
                continue
            if (
                isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            ):
                texts[field.target.id] = inspect.cleandoc(text.value.value)
    return texts


def _bare(hint: Any) -> Any:
    """A type without what tyro is told about it."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    return hint


def _kind(hint: Any) -> str:
    hint, arguments = _bare(hint), get_args(_bare(hint))
    if hint is bool:
        return ""
    if get_origin(hint) is Literal:
        return " \\| ".join(f"`{value}`" for value in arguments)
    if get_origin(hint) in (Union, types.UnionType):
        return " \\| ".join(_kind(part) for part in arguments if part is not type(None))
    if get_origin(hint) is list or (get_origin(hint) is tuple and arguments[-1] is Ellipsis):
        return f"{_kind(arguments[0])} …"
    if get_origin(hint) is tuple:
        return " ".join(_kind(part) for part in arguments)
    return _WORDS.get(hint, getattr(hint, "__name__", str(hint)).upper())


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    elif field.default is not dataclasses.MISSING:
        value = field.default
    else:
        return ""
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None or value == "" else str(value)


def _table(rows: Iterator[Option], dashes: str = "") -> str:
    lines = ["| option | default | |", "|---|---|---|"]
    for name, kind, default, text in rows:
        shown = name if name.isupper() else f"{dashes}{name}"
        default = f"`{default}`" if default else "*required*"
        lines.append(
            f"| `{shown}` {kind} | {default} | {_escaped(text.replace(chr(10), ' ')).replace('|', chr(92) + '|')} |"
        )
    return "\n".join(lines) if len(lines) > 2 else ""


def _escaped(text: str) -> str:
    """Text of a docstring as Markdown: what looks like a tag outside of code is none."""
    parts = text.split("`")
    parts[::2] = [part.replace("<", "&lt;").replace("*", "\\*") for part in parts[::2]]
    return "`".join(parts)


def _load(path: str) -> type:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


# ----------------------------------------------------------------------------------------------------------- API


def api_blocks(package: str) -> str:
    """A block of mkdocstrings for each name that a package offers, in the order in which its `__init__` names them."""
    return "\n\n".join(f"::: {path}" for path in public_names(package))


def public_names(package: str) -> list[str]:
    """Full names, where they are defined, of what a package offers: its `__init__.pyi`, or its `__init__.py`."""
    folder = ROOT.joinpath(*package.split("."))
    stub = folder / "__init__.pyi"
    tree = ast.parse((stub if stub.exists() else folder / "__init__.py").read_text(encoding="utf-8"))
    found = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module != "__future__":
            module = f"{package}.{node.module}" if node.level else node.module
            found += [f"{module}.{alias.name}" for alias in node.names]
    return found


def script(path: str) -> str:
    """The text of a script, as code."""
    return f"```python\n{(ROOT / path).read_text(encoding='utf-8').strip()}\n```"
