"""Folders that change as one, whatever stops the writer, and that one process works in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gseg_ns import folders
from gseg_ns.errors import GsegError
from gseg_ns.folders import PENDING, atomic_folder, newest, settle, sole_use


def write(folder: Path, content: str, *names: str) -> None:
    """An index `list` and the files that it lists, each of which holds `content`."""
    with atomic_folder(folder, lambda: former(folder), index="list") as staging:
        for name in names:
            (staging / name).parent.mkdir(exist_ok=True)
            (staging / name).write_text(content)
        (staging / "list").write_text("\n".join(names))


def former(folder: Path) -> list[Path]:
    listed = folder / "list"
    try:
        return [listed, *(folder / name for name in listed.read_text().splitlines())]
    except FileNotFoundError:
        return []


def content(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("stranger", [False, True])
@pytest.mark.parametrize("can_exchange", [False, True])
def test_a_folder_takes_the_place_of_a_former_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stranger: bool, can_exchange: bool
) -> None:
    if not can_exchange:
        monkeypatch.setattr(folders, "_exchange", lambda *_: False)
    folder = tmp_path / "export"
    write(folder, "one", "a", "parts/b", "parts/c")
    assert content(folder) == {"a": "one", "parts/b": "one", "parts/c": "one", "list": "a\nparts/b\nparts/c"}
    folder.chmod(0o770)
    mine = {"parts/mine": "kept"} if stranger else {}
    for name, text in mine.items():
        (folder / name).write_text(text)
    write(folder, "two", "a", "parts/d")
    assert content(folder) == {"a": "two", "parts/d": "two", "list": "a\nparts/d", **mine}
    assert folder.stat().st_mode & 0o777 == 0o770
    assert list(tmp_path.iterdir()) == [folder]


def test_a_failure_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "export", "one", "a")

    def fail(folder: Path) -> None:
        with atomic_folder(folder, lambda: former(folder)) as staging:
            (staging / "a").write_text("two")
            (staging / "missing" / "b").write_text("two")

    for folder in (tmp_path / "export", tmp_path / "other" / "new"):
        before = content(tmp_path)
        with pytest.raises(GsegError) as caught:
            fail(folder)
        assert str(caught.value).startswith(f"Cannot write into {folder}")
        assert content(tmp_path) == before


def test_the_folder_that_someone_stands_in_stays_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "export", "one", "a")
    monkeypatch.chdir(tmp_path / "export")
    write(Path(), "two", "a")
    assert Path("a").read_text() == "two"
    assert Path().samefile(tmp_path / "export")


@pytest.mark.parametrize("stranger", [False, True])
def test_killed_at_any_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stranger: bool) -> None:
    """Every call that changes a name is the last one once; what is read afterwards is all old or all new."""
    names = ("a", "parts/b")
    seen = set()
    for last in range(40):
        folder = tmp_path / str(last) / "export"
        write(folder, "one", *names)
        if stranger:
            (folder / "mine").write_text("kept")
        calls = iter(range(last))
        with monkeypatch.context() as patch:
            for name in ("rename", "replace", "unlink", "rmdir"):
                patch.setattr(Path, name, dying(getattr(Path, name), calls))
            patch.setattr(folders, "_exchange", dying(folders._exchange, calls))
            try:
                write(folder, "two", *names)
                finished = True
            except KeyboardInterrupt:
                finished = False
        if not stranger:
            assert {content(folder)[name] for name in names} in ({"one"}, {"two"})
            assert (folder / "list").exists()
        read = {newest(folder / name).read_text() for name in ("a",)}
        if (folder / "list").exists() and not (folder / PENDING).exists():
            assert {content(folder)[name] for name in names} == read  # an index never speaks of others' files
        settle(folder)
        assert {content(folder)[name] for name in names} == read
        assert not stranger or (folder / "mine").read_text() == "kept"
        seen |= read
        write(folder, "three", *names)
        assert {content(folder)[name] for name in names} == {"three"}
        if finished:
            break
    assert finished
    assert seen == {"one", "two"}


def dying(function: Callable[..., object], calls: object) -> Callable[..., object]:
    """The function, until `calls` are used up."""

    def call(*arguments: object, **options: object) -> object:
        if next(calls, None) is None:  # type: ignore[call-overload]
            raise KeyboardInterrupt
        return function(*arguments, **options)

    return call


def test_several_threads_write_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    write(folder, "0", "a", "parts/b")
    (folder / "mine").write_text("kept")

    def many(number: int) -> None:
        for _ in range(10):
            write(folder, str(number), "a", "parts/b")

    with ThreadPoolExecutor(3) as pool:
        for task in [pool.submit(many, number) for number in range(3)]:
            task.result()
    found = content(folder)
    assert found.pop("mine") == "kept"
    assert found.pop("list") == "a\nparts/b"
    assert len(set(found.values())) == 1
    assert list(found)
    assert not (folder / PENDING).exists()


@pytest.mark.skipif(folders.fcntl is None, reason="no locks for folders")
def test_a_folder_is_held_by_one_process_until_it_dies(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from gseg_ns.folders import sole_use\n"
        "with sole_use(Path(sys.argv[1]), 'works in'): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(GsegError, match="Another process works in"), sole_use(tmp_path, "works in"):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with sole_use(tmp_path, "works in"):
        pass


def test_links_of_a_foreign_folder_lead_nowhere(tmp_path: Path) -> None:
    """Whoever made the folder may have put links into it, and files that a killed process seems to have left."""
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    run.mkdir()
    elsewhere.mkdir()
    (elsewhere / "edits.json").write_text("mine")
    (run / PENDING).symlink_to(elsewhere)
    assert newest(run / "edits.json") == run / "edits.json"
    settle(run)
    assert content(elsewhere) == {"edits.json": "mine"}
    assert not (run / "edits.json").exists()
    (run / PENDING).unlink()
    (run / PENDING / "objects").mkdir(parents=True)
    (run / PENDING / "objects/keys").write_text("of others")
    (run / "objects").symlink_to(elsewhere)
    with pytest.raises(GsegError, match=r"objects is a link that leads out"):
        settle(run)
    (run / PENDING / "objects/keys").unlink()
    (run / PENDING / "objects").rmdir()
    (run / "config.yml").touch()
    with pytest.raises(GsegError, match=r"objects is a link that leads out"):
        write(run, "one", "objects/keys")
    assert content(elsewhere) == {"edits.json": "mine"}
    assert not list(run.glob(".*.tmp*"))
    # one that stays inside is a user's own
    (run / "objects").unlink()
    (run / "there").mkdir()
    (run / "objects").symlink_to("there")
    write(run, "one", "objects/keys")
    assert (run / "there/keys").read_text() == "one"
