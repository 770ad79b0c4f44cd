from __future__ import annotations

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gseg_ns.errors import GsegError
from gseg_ns.files import atomic_path, is_below, is_full, slug, sweep, temporary_name, unique_slugs


def test_a_name_becomes_part_of_a_file_name() -> None:
    assert slug("red mug: the 2nd") == "red-mug-the-2nd"
    assert slug("!!") == ""
    assert slug("椅子" * 30) == "椅子" * 13
    assert len(slug("ab " * 40).encode()) <= 80


def test_no_two_names_become_the_same() -> None:
    names = ["a b", "a-b", "!!", "??", "A b", "object"]
    slugs = unique_slugs(names, "object")
    assert slugs == {
        "a b": "a-b",
        "a-b": "a-b-2",
        "!!": "object",
        "??": "object-2",
        "A b": "A-b-3",
        "object": "object-3",
    }


def test_what_stays_below_a_folder() -> None:
    for name in ("a", "a/b", "./a", "", "..a", "a..b", "nerfstudio_models/", "2024-01-01_120000"):
        assert is_below(name), name
    for name in ("..", "a/../b", "/a", "//a", "a\\..\\b", "C:\\a", "C:a", "\\a", "\\\\host\\share\\a"):
        assert not is_below(name), name


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "scene.ply"
    with atomic_path(path) as one, atomic_path(path) as other:
        assert one != other
        assert one.suffix == other.suffix == ".ply"
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"  # the first to begin is the last to end
    assert list(tmp_path.iterdir()) == [path]


def test_readers_never_see_half_a_file_while_threads_write_it(tmp_path: Path) -> None:
    path, content = tmp_path / "edits.json", "x" * 200_000

    def write(number: int) -> None:
        for _ in range(20):
            with atomic_path(path) as temporary:
                temporary.write_text(f"{number}{content}")

    write(0)
    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(write, number) for number in range(3)]
        while not all(task.done() for task in writing):
            assert len(path.read_text()) == 200_001
    for task in writing:
        task.result()
    assert list(tmp_path.iterdir()) == [path]


def test_a_long_name_is_written(tmp_path: Path) -> None:
    path = tmp_path / f"{'ü' * 125}.json"
    with atomic_path(path) as temporary:
        temporary.write_text("{}")
    assert path.read_text() == "{}"


def test_what_the_dead_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()

    def of(process: int) -> Path:
        return tmp_path / temporary_name(kept).name.replace(f"-{os.getpid()}-", f"-{process}-")

    theirs, strangers = of(os.getppid()), tmp_path / ".0.deadbeef-1-deadbeef.tmp.json"
    others = [tmp_path / name for name in (".hidden.json", ".mine.tmp", "a.1.tmp.json", ".settings.tmp.json")]
    former = tmp_path / ".000.999999.tmp.json"  # as earlier versions named them
    for path in (of(dead.pid), of(os.getpid()), former, theirs, strangers, *others):
        path.write_text("half")
    folder = of(dead.pid).with_suffix("")
    folder.mkdir()
    (folder / "scene.ply").write_text("half")
    os.utime(former, (0, 0))
    with atomic_path(kept) as temporary:  # the first write into a folder sweeps it
        temporary.write_text("{}")
    assert set(tmp_path.iterdir()) == {kept, theirs, strangers, *others}
    os.utime(strangers, (0, 0))
    sweep(tmp_path)
    assert set(tmp_path.iterdir()) == {kept, theirs, *others}


def test_a_failure_leaves_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "edits.json"
    path.write_text("former")

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("ha")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(GsegError, match=r"edits\.json: No space left"):
        write()
    assert path.read_text() == "former"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_grow_is_told_and_stays(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size, full in ((5, True), (6, False)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            assert is_full(path) == full
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"12345"
