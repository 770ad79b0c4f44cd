"""What readers of files share."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from gseg_ns.errors import GsegError
from gseg_ns.reading import (
    check_memory,
    check_ply_counts,
    file_path,
    inflate,
    integer,
    number,
    read_json,
    read_npy,
    read_npz,
    reading,
)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a\nb"),
        RecursionError(),
        MemoryError(),
        KeyError("x"),
        OverflowError("big"),
        EOFError(),
        SystemError(),
    ],
)
def test_whatever_is_raised_becomes_a_message_that_names_the_file(error: Exception) -> None:
    with pytest.raises(GsegError, match=r"^/a/b\.bin is damaged or not a thing \(.+\)\. Do it again\.$") as caught:
        with reading(Path("/a/b.bin"), "a thing", "Do it again."):
            raise error
    assert "\n" not in str(caught.value)


def test_a_message_of_ours_is_kept_and_names_the_file() -> None:
    for message in ("wrong", "/a/b.bin: wrong"):
        with pytest.raises(GsegError, match=r"^/a/b\.bin: wrong$"), reading(Path("/a/b.bin"), "a thing"):
            raise GsegError(message)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(GsegError, match=r"x does not exist"):
        read_json(tmp_path / "x", "a thing")
    with pytest.raises(GsegError, match="save one first"):
        read_json(tmp_path / "x", "a thing", missing="save one first")
    with pytest.raises(GsegError, match=r"Cannot read .*: Is a directory"):
        read_json(tmp_path, "a thing")


@pytest.mark.parametrize(
    "text", ["NaN", "[1e999]", "-Infinity", '"\\ud800"', "[" * 100_000, "1" * 5000, "{", b"\xff", "", '{"a": \x00}']
)
def test_json_that_is_none(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(GsegError, match=r"a\.json is damaged or not a thing"):
        read_json(path, "a thing")


def test_json_that_is_good_or_too_long(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a": [1, 2.5, None, "\U0001f600 \\ud83d"]}))
    assert read_json(path, "a thing") == {"a": [1, 2.5, None, "\U0001f600 \\ud83d"]}
    with pytest.raises(GsegError, match="larger than"):
        read_json(path, "a thing", most=10)


def test_values_of_json() -> None:
    assert integer(3) == 3
    assert number(3) == 3.0
    assert number(-0.5, -1, 1) == -0.5
    for value in (True, 1.0, "1", None, -1, 10**30, [1], float("nan")):
        with pytest.raises(ValueError, match="needed an integer from 0"):
            integer(value)
    for value in (True, "1", None, float("nan"), float("inf"), 10**400, 2):
        with pytest.raises(ValueError, match="needed a number"):
            number(value, -1, 1)
    assert file_path("../photos/été 1.jpg") == "../photos/été 1.jpg"
    for value in ("", "..", "a/..", ".", "a\0b", "a\nb", "\ud800", 3, None, "a" * 5000):
        with pytest.raises(ValueError, match="needed the path of a file"):
            file_path(value)


def test_arrays_come_back_as_they_were_written(tmp_path: Path) -> None:
    arrays = {
        "a": np.arange(6.0).reshape(2, 3).T,
        "b": np.array("text"),
        "c": np.zeros(0, "U1"),
        "d": np.zeros((0, 7), np.uint8),
        "e": np.arange(3, dtype=">i4"),
        "f": np.array([True, False]),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)  # type: ignore[operator]
        read = read_npz(tmp_path / "a.npz", arrays, "arrays", optional=["g"])
        assert read.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(read[name], array)
            assert read[name].dtype.isnative
    np.save(tmp_path / "a.npy", arrays["a"])
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy", "an array"), arrays["a"])


def test_arrays_that_claim_more_than_they_hold_take_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        header = {"descr": "|u1", "fortran_order": False, "shape": (2**34,)}
        np.lib.format.write_array_header_1_0(member, header)
        for _ in range(32):
            member.write(bytes(2**20))
    with pytest.raises(
        GsegError, match=r"a\.npz is damaged or not arrays \(an array of shape \(17179869184,\), which is"
    ):
        read_npz(path, ["a"], "arrays")
    np.save(tmp_path / "b.npy", np.zeros(10))
    data = (tmp_path / "b.npy").read_bytes()
    (tmp_path / "b.npy").write_bytes(data.replace(b"(10,), }         ", b"(999999999999,), }"[:17].ljust(17)))
    with pytest.raises(GsegError, match=r"b\.npy"):
        read_npy(tmp_path / "b.npy", "an array")


@pytest.mark.parametrize("array", [np.array([None]), np.zeros(2, "V3"), np.zeros(2, complex)])
def test_arrays_of_other_things(tmp_path: Path, array: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", a=array)
    with pytest.raises(GsegError, match="is damaged or not arrays"):
        read_npz(tmp_path / "a.npz", ["a"], "arrays")


def test_one_flipped_bit_is_noticed(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.zeros(100, np.uint8))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[200] ^= 1
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(GsegError, match="Bad CRC"):
        read_npz(tmp_path / "a.npz", ["a"], "arrays")


def test_compressed_bytes_are_as_many_as_announced() -> None:
    assert inflate(zlib.compress(b"abc"), 3) == b"abc"
    bomb = zlib.compress(bytes(10**8))
    for data, size in ((bomb, 1000), (zlib.compress(b"abc"), 4), (zlib.compress(b"abc")[:-1], 3), (bomb + b"x", 10**8)):
        with pytest.raises(ValueError, match=r"not \d+ bytes"):
            inflate(data, size)


def test_large_files_may_ask_for_more_memory(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(100))
    check_memory(path, 2**20, "much")
    with pytest.raises(GsegError, match=r"a claims very much, which would take 1,024 MiB"):
        check_memory(path, 2**30, "very much")
    with path.open("wb") as file:
        file.truncate(2**25)
    check_memory(path, 2**30, "very much")


@pytest.mark.parametrize("line", ["\n", "\r\n", "\r"])
def test_headers_of_plys_are_read_as_others_read_them(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.ply"

    def write(*lines: str) -> None:
        path.write_bytes(line.join(["ply", "format ascii 1.0", *lines, ""]).encode() + b"1")

    many, last = "element vertex 99999999", ("property float x", "end_header")
    write("comment element of surprise", "element vertex 1", *last)
    check_ply_counts(path)
    other = "\n" if line == "\r" else "\r"
    for lines in (
        (many, *last),
        (many.replace(" ", "\t"), *last),
        (f"  {many}", *last),
        ("comment end_header", many, *last),
        (f"comment x{other}end_header{other}" if line != "\r\n" else "comment x\nend_header\ny", many, *last),
        ("element vertex -1", *last),
    ):
        write(*lines)
        with pytest.raises(ValueError, match="announced"):
            check_ply_counts(path)
    for lines in ((), ("comment end_header",), ("comment " + "x" * 2**18, "element vertex 1", *last)):
        write(*lines)
        with pytest.raises(ValueError, match="no PLY header"):
            check_ply_counts(path)
