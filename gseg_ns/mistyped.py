"""Command lines that cannot be understood, answered in a few lines with what was probably meant."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from gseg_ns.terminal import ERRORS, LINE

_MOST = 3
"""Mistakes that are told."""
_LONGEST = 240
"""Characters of what the parser says."""

_OPTION = re.compile(r"(?<![\w-])--[A-Za-z][\w.-]*")
_LISTED = re.compile(r"Available subcommands: (.*?)(?: Perhaps | For full helptext| Did you |$)")
_APPLIED = re.compile(r" \(applied to [^)]*\)")
_UNKNOWN = re.compile(
    r"Unrecognized (?:options|arguments): (.*?)(?: Available subcommands| Perhaps | Arguments | For full |$)"
)

Parse = Callable[..., Any]
"""`tyro.cli`, or what has its place."""


def understand(parse: Parse, kind: Any, arguments: Sequence[str], **options: Any) -> Any:
    """As `tyro.cli`, but what cannot be understood is answered in at most six lines. Ends with exit status 2 then.

    Args:
        parse: `tyro.cli`.
        kind: what it makes of the arguments.
        arguments: of the command line.
        options: of `tyro.cli`.
    """
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return parse(kind, args=list(arguments), **options)
    except SystemExit as end:
        if end.code in (0, None):
            raise
        LINE.clear()
        for line in explain(said.getvalue(), arguments, lambda words: _options(parse, kind, words, options)):
            ERRORS.print(line, markup=False)
        raise SystemExit(2) from None


def explain(
    said: str, arguments: Sequence[str], options_of: Callable[[list[str]], list[str]], program: str | None = None
) -> list[str]:
    """What to say of a command line.

    Args:
        said: by tyro, which draws a box around it.
        arguments: that it was said of.
        options_of: the options of a command, given by its words.
        program: what was started; this process's unless given.

    Returns:
        one to six lines.
    """
    program = program or Path(sys.argv[0]).name
    lines = [line.strip(" │|") for line in said.splitlines() if not re.match(r"\s*[╭╰+]", line)]
    lines = [line for line in lines if line.strip("─- ")]
    # With several of them, tyro says of each word where it looked for it.
    text = re.sub(_APPLIED, "", " ".join(lines)).replace(" or misplaced options:", " options:")
    match = _UNKNOWN.search(text)
    unknown = match.group(1).replace(",", " ").split() if match else []
    words = []
    for argument in arguments:
        if argument.startswith("-") or argument in unknown:
            break
        words.append(argument)
    command = " ".join([program, *words])
    told = []
    wrong = [word for word in unknown if word.startswith("--")]
    named = _LISTED.search(text)
    if (
        unknown
        and named is not None
        and list(arguments[len(words) : len(words) + 1]) == unknown[:1]
        and not (unknown[0].startswith("-"))
    ):  # the options of a command that is none are not known either
        names = named.group(1).replace(",", " ").split()
        told.append(f"{command} has no command {unknown[0]}{_meant(unknown[0], names) or ': ' + _few(names)}")
    elif wrong:
        known = options_of(words)
        if named is not None:  # a command within: a dataparser, of ns-train
            inner = [word for word in arguments[len(words) :] if word in named.group(1).replace(",", " ").split()]
            known += [option for word in inner[:1] for option in options_of([*words, word])]
        if not words:
            known += ["--version", "--verbose"]
        for word in list(dict.fromkeys(wrong))[:_MOST]:
            told.append(f"{command} has no option {word}{_meant(word, known)}")
    elif unknown and named is not None:
        told.append(f"{command} has no command {unknown[0]}: {_few(named.group(1).replace(',', ' ').split())}")
    elif unknown:
        told.append(f"{command} does not know what {' '.join(unknown[:_MOST])} is")
    missing = _missing(lines)
    missing = [name for name in missing if not any(line.endswith(f" {name}?") for line in told)]
    if missing:
        told.append(f"{command} needs {', '.join(missing)}")
    if not told:
        plain = re.sub(r"\s*(For full helptext|Argument helptext).*", "", text)
        told.append(plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]} ...")
    return [f"Error: {told[0]}", *told[1:], f"All of it: {command} --help"]


def _meant(word: str, known: Sequence[str]) -> str:
    """The nearest of some names, as the end of a sentence; "" where none is near."""
    plain = word.partition("=")[0].replace("_", "-")
    # The last part of a long option alone: --max-gaussians for --pipeline.model.max-gaussians. The shortest has it.
    parts = {name.lstrip("-").rpartition(".")[2]: name for name in sorted(known, key=len, reverse=True)}
    last = get_close_matches(plain.lstrip("-").rpartition(".")[2], parts, n=1, cutoff=0.8)
    bare = {name.lstrip("-"): name for name in known}  # dashes are alike in all: --up is not --groups
    near = (
        get_close_matches(plain, known, n=1, cutoff=0.85)
        or [parts[part] for part in last]
        or [bare[name] for name in get_close_matches(plain.lstrip("-"), bare, n=1, cutoff=0.6)]
    )
    return f": did you mean {near[0]}?" if near else ""


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")


def _missing(lines: Sequence[str]) -> list[str]:
    """The options that tyro lists as missing."""
    found: list[str] = []
    inside = False
    for line in lines:
        if line.startswith("Missing"):
            inside = True
        elif line.startswith(("Unrecognized", "For full")):
            inside = False
        elif inside and (match := _OPTION.match(line)) is not None:
            found.append(match.group())
        elif inside and re.match(r"[A-Z_]+(\s|$)", line) and not found:  # a place on the line, and no option
            found.append(line.split()[0])
    return list(dict.fromkeys(found))


def _options(parse: Parse, kind: Any, words: list[str], options: dict[str, Any]) -> list[str]:
    """The options that the help of a command names."""
    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(io.StringIO()):
            parse(kind, args=[*words, "--help"], **options)
    except SystemExit:
        pass
    return sorted(set(_OPTION.findall(said.getvalue())))
