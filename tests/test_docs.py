"""The documentation against the code: options, commands, messages, pages."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
METHODS = {
    entry.name: entry
    for entry in entry_points(group="nerfstudio.method_configs")
    if entry.value.startswith("gseg_ns.method_configs.")
}


@pytest.fixture(scope="module")
def hooks() -> Any:
    """What the build of the documentation runs."""
    spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(markdown: str) -> dict[str, str]:
    """Option -> default, as the tables of a page have them."""
    rows = re.findall(r"^\| `([^`]+)`.*? \| (?:`([^`]*)`|\*required\*) \| ", markdown, re.MULTILINE)
    return dict(rows)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_has_a_page_with_its_options_and_their_defaults(hooks: Any, method: str) -> None:
    config = METHODS[method].load().config.pipeline.model
    page = (DOCS / f"methods/{method}.md").read_text(encoding="utf-8")
    table = shown(hooks.on_page_markdown(page)) | shown(
        hooks.on_page_markdown((DOCS / "methods/index.md").read_text(encoding="utf-8"))
    )
    for field in dataclasses.fields(config):
        if field.name not in type(config).__annotations__ or field.name in ("_target", "num_iterations"):
            continue
        value, name = getattr(config, field.name), field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            assert any(option.startswith(f"{name}.") for option in table), name
        else:
            words = {"True": "on", "False": "off", "None": "none"}
            assert table[name] == words.get(str(value), str(value)), name


def test_commands_show_what_their_parsers_take(hooks: Any, capsys: pytest.CaptureFixture[str]) -> None:
    import tyro

    page = hooks.on_page_markdown((DOCS / "commands.md").read_text(encoding="utf-8"))
    commands = hooks.commands()
    assert {"demo", "masks", "export", "bench quality"} <= {name for name, _ in commands}
    for name, command in commands:
        assert f"# gseg {name}\n" in page
        with pytest.raises(SystemExit):
            tyro.cli(command, prog=f"gseg {name}", args=["--help"])
        taken = set(re.findall(r"(?<![\w-])--[a-z][\w.-]*", _options_of_help(capsys.readouterr().out)))
        # Switches are listed by what turns them on; a text speaks of an option of ns-train.
        taken = {option for option in taken if not re.match(r"--no-|.*\.no-|--pipeline\.|--viewer\.", option)}
        listed = {f"--{option.name}" for option in hooks.options(command) if not option.name.isupper()}
        if "bench" != name:
            assert listed == taken - {"--help"}, name


def _options_of_help(text: str) -> str:
    """The parts of a help text that name options, and not those that speak of them."""
    return "\n".join(re.findall(r"^\W*((?:-h, )?--[a-z].*)", text, re.MULTILINE))


def messages() -> Iterator[str]:
    """Every text in the code; what is filled in is an ellipsis."""
    for folder in ("gseg_ns", "method_configs", "dataparsers"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                    yield "".join(map(str, parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def test_messages_that_the_pages_quote_exist() -> None:
    known = "\n".join(messages())
    page = " ".join((DOCS / "troubleshooting.md").read_text(encoding="utf-8").split())
    quoted = re.findall(r"“([^”]+)”", page)
    assert len(quoted) > 15
    for quote in quoted:
        for part in filter(None, (part.strip(" .,:") for part in quote.split("…"))):
            assert part in known, quote


def test_the_public_names_of_every_package_are_described(hooks: Any) -> None:
    described = set()
    for page in (DOCS / "api").glob("*.md"):
        for package in re.findall(r"\{\{ api (\S+) \}\}", page.read_text(encoding="utf-8")):
            described.add(package)
            names = [path.rpartition(".")[2] for path in hooks.public_names(package)]
            assert sorted(names) == sorted(importlib.import_module(package).__all__), package
    packages = [f"gseg_ns.{path.parent.name}" for path in (ROOT / "gseg_ns").glob("*/__init__.py")]
    public = {name for name in packages if getattr(importlib.import_module(name), "__all__", None)}
    assert public <= described
