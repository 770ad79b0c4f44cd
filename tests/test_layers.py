"""Which way imports may point (see the architecture section of README.md)."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PURE = tuple(
    "captures rendering splats masks lifting selection objects editing evaluation demo proxies page views".split()
)
"""Layers that know nothing of Nerfstudio."""

ALLOWED = {
    "rendering": {"rendering"},
    "splats": {"splats", "rendering"},
    "proxies": {"proxies", "objects", "rendering", "splats"},
    "views": {"views", "rendering", "splats", "captures"},
    "captures": {"captures"},
    "masks": {"masks", "captures"},
    "lifting": {"lifting", "rendering", "splats", "masks"},
    "selection": {"selection", "rendering", "splats", "masks", "lifting"},
    "objects": {"objects", "selection", "rendering", "splats"},
    "page": {"page", "objects", "splats"},
    "editing": {"editing", "selection", "rendering", "splats"},
    "evaluation": {"evaluation", "masks", "splats"},
    "demo": {"demo", "masks", "splats"},
    "data": {"data", "captures", "masks", "rendering"},
    "dataparsers": {"dataparsers", "captures", "evaluation", "data"},
    "models": {"models", "data", "splats", "rendering", "masks", "lifting"},
    "runs": {
        "runs",
        "captures",
        "views",
        "models",
        "data",
        "selection",
        "objects",
        "proxies",
        "editing",
        "splats",
        "rendering",
        "masks",
        "lifting",
    },
    "viewer": {
        "viewer",
        "runs",
        "models",
        "lifting",
        "selection",
        "objects",
        "editing",
        "splats",
        "rendering",
        "masks",
        "data",
        "page",
    },
    "serving": {
        "serving",
        "viewer",
        "page",
        "runs",
        "models",
        "data",
        "views",
        "selection",
        "editing",
        "splats",
        "rendering",
    },
}
"""Which packages of ours a layer may import. Modules at the top (errors, files, palette, ...) are open to all."""


def files(layer: str) -> list[Path]:
    folder = ROOT / layer if layer in ("dataparsers", "method_configs") else ROOT / "gseg_ns" / layer
    return sorted(folder.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Full names of what a file imports, at any depth of the code, but for type checking alone."""
    names: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            skipped |= {id(child) for child in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("layer", PURE)
def test_pure_layers_do_not_know_nerfstudio(layer: str) -> None:
    for path in files(layer):
        assert not [name for name in imports(path) if name.split(".")[0] in ("nerfstudio", "viser")], path


@pytest.mark.parametrize("layer", ALLOWED)
def test_imports_point_the_right_way(layer: str) -> None:
    for path in files(layer):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] != "gseg_ns" or len(parts) == 1 or not (ROOT / "gseg_ns" / parts[1]).is_dir():
                continue
            assert parts[1] in ALLOWED[layer], f"{path} imports {name}"


def test_what_front_ends_share_does_not_know_how_browsers_are_reached() -> None:
    """All of the tab but what builds it in Nerfstudio's viewer: a page of one's own stands on the same."""
    by_viser = {"panel", "widgets", "page", "tools", "handles", "clicks", "door", "inputs", "markdown"}
    shared = [path for path in files("viewer") if path.stem not in by_viser | {"__init__"}]
    assert {"acting", "answers", "controller", "commands"} <= {path.stem for path in shared}
    for path in shared:
        for name in imports(path):
            assert name.split(".")[0] != "viser", path
            assert not name.startswith("nerfstudio.viewer"), path
            assert not any(name.startswith(f"gseg_ns.viewer.{module}") for module in by_viser), path


def modules() -> dict[str, Path]:
    """Full name of each module of ours -> its file."""
    folders = {"gseg_ns": ROOT / "gseg_ns"}
    folders |= {f"gseg_ns.{name}": ROOT / name for name in ("method_configs", "dataparsers")}
    return {
        ".".join([package, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__"): path
        for package, folder in folders.items()
        for path in folder.rglob("*.py")
    }


def test_no_module_is_too_long_to_be_read_at_once() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules().values()}
    assert lengths
    assert {path.name: lines for path, lines in lengths.items() if lines >= 500} == {}


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Lazy imports count: who needs another's result must not be needed by it."""
    known = modules()
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        found = imports(path)
        # `from package import module` names the module, and so its package only where it takes something of that.
        graph[name] = {other for other in found if other in known and not any(f.startswith(f"{other}.") for f in found)}
        graph[name] -= {name}
    assert list(TopologicalSorter(graph).static_order())


def test_importing_the_entry_module_is_light() -> None:
    """Every ns-* command imports it: beyond Nerfstudio itself nothing slow may come along."""
    # Numba itself is not among them: 0.4 s, and every CPU render needs it.
    heavy = ("segment_anything", "transformers", "skimage", "sklearn", "open3d", "plyfile", "pycocotools", "hdbscan")

    def loaded_after(statement: str) -> set[str]:
        code = f"import sys, {statement}; print([name for name in {heavy} if name in sys.modules])"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return set(ast.literal_eval(run.stdout.strip().splitlines()[-1]))

    upstream = loaded_after("nerfstudio.models.splatfacto, nerfstudio.engine.trainer")
    modules = ", ".join(f"gseg_ns.method_configs.{path.stem}" for path in files("method_configs"))
    assert (
        loaded_after(modules.replace("gseg_ns.method_configs.__init__", "gseg_ns.method_configs")) - upstream == set()
    )


def test_every_package_is_installed_and_every_method_registered() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = set(project["tool"]["setuptools"]["packages"])
    folders = {path.parent for path in (ROOT / "gseg_ns").rglob("__init__.py")}
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert listed == names | {"gseg_ns.method_configs", "gseg_ns.dataparsers"}
    points = project["project"]["entry-points"]["nerfstudio.method_configs"]
    assert set(points) == {"gaga", "saga", "saga-v1", "unified-lift", "gradiseg"}
    for name, target in points.items():
        module, attribute = target.split(":")
        specification = getattr(importlib.import_module(module), attribute)
        assert specification.config.method_name == name
