"""Which sides of the questions "is this on the GPU?" a test run has seen.

An import hook rewrites the modules of a package as they are imported: each `x.is_cuda` and each comparison of a
device's type with "cuda" or "cpu" reports its answer. Line coverage would not tell the two sides of
`a if x.is_cuda else b` apart.
"""

from __future__ import annotations

import ast
import builtins
import importlib.machinery
import sys
from collections.abc import Iterable, Iterator
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

seen: set[tuple[str, bool]] = set()
"""Place of a question, and whether the answer was the GPU's."""


def _question(node: ast.AST) -> bool | None:
    """Whether a node asks for the device: the answer that means the GPU, or None for other nodes."""
    if isinstance(node, ast.Attribute) and node.attr == "is_cuda":
        return True
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], (ast.Eq, ast.NotEq)):
        left, right = node.left, node.comparators[0]
        if isinstance(left, ast.Attribute) and left.attr == "type" and isinstance(right, ast.Constant):
            if right.value in ("cuda", "cpu"):
                return (right.value == "cuda") == isinstance(node.ops[0], ast.Eq)
    return None


class _Rewrite(ast.NodeTransformer):
    def __init__(self, path: str) -> None:
        self.path = path

    def visit(self, node: ast.AST) -> Any:
        """Wrap questions."""
        gpu = _question(node)
        node = self.generic_visit(node)
        if gpu is None or not isinstance(node, ast.expr):
            return node
        place = ast.Constant(f"{self.path}:{node.lineno}")
        call = ast.Call(ast.Name("__device_branch__", ast.Load()), [place, ast.Constant(gpu), node], [])
        return ast.fix_missing_locations(ast.copy_location(call, node))


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> Any:
        tree = ast.parse(self.get_data(self.path))
        return compile(_Rewrite(_short(self.path)).visit(tree), self.path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        """As the other finders say, with a loader that rewrites."""
        if fullname.split(".")[0] != self.package:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                if isinstance(spec.loader, importlib.machinery.SourceFileLoader):
                    spec.loader = _Loader(fullname, spec.loader.path)
                return spec
        return None


_root = ""


def _short(path: str) -> str:
    return path.removeprefix(_root).lstrip("/")


def install(package: str, root: Path) -> None:
    """Watch a package whose modules are not imported yet; places are named relative to `root`."""
    global _root
    _root = str(root)

    def note(place: str, gpu: bool, answer: Any) -> Any:
        seen.add((place, bool(answer) == gpu))
        return answer

    builtins.__device_branch__ = note  # type: ignore[attr-defined]
    sys.meta_path.insert(0, _Finder(package))


def questions(root: Path, folders: Iterable[str]) -> Iterator[str]:
    """All places that ask, whether they were imported or not."""
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if _question(node) is not None:
                    assert isinstance(node, ast.expr)
                    yield f"{path.relative_to(root).as_posix()}:{node.lineno}"
