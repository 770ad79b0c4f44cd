"""Reading files that may be damaged or made to do harm: one message whatever is wrong, and sizes before memory."""

from __future__ import annotations

import json
import math
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from gseg_ns.errors import GsegError

if TYPE_CHECKING:
    import numpy as np

FREE_MEMORY = 400 * 2**20
"""Bytes of memory that any file may ask for, however small it is."""

_MEMORY_A_BYTE = 64
"""Bytes of memory that a large file may ask for, a byte of its own: photographs and masks of sense stay below."""

_JSON_MEMORY_A_BYTE = 16
"""Bytes of memory that a large JSON may ask for, a byte of its own."""
_JSON_LIST, _JSON_OBJECT, _JSON_VALUE = 88, 288, 48
"""Bytes that a list takes in Python, an object with a key, and a number with its place in a list."""

_LONGEST_PLY_HEADER = 2**18

_LONGEST_MESSAGE = 1500

_ARRAY_KINDS = "biufU"
"""Types of arrays that are read from .npy and .npz: numbers and text."""


@contextmanager
def reading(path: Path, what: str, remedy: str = "", missing: str | None = None) -> Iterator[None]:
    """Within this block a file is read, and whatever goes wrong is a GsegError that names it.

    Every reader of files has its decoding in such a block, since libraries raise nearly every type there is for damaged
    bytes: a list of types is never complete.

    Args:
        path: the file.
        what: what it is meant to be, as in "... is damaged or not a label map".
        remedy: what a user does about it, a sentence.
        missing: the message where there is no such file.

    Raises:
        GsegError: anything was raised within; one that does not name the file is given its name.
    """
    try:
        yield
    except GsegError as error:
        text = str(error)
        said = text if str(path) in text else f"{path}: {text}"
        if said == text and len(text) <= _LONGEST_MESSAGE and is_one_line(text):
            raise
        # What a file holds may be part of a message, and be anything.
        said = said if len(said) <= _LONGEST_MESSAGE else f"{said[: _LONGEST_MESSAGE - 300]} ... {said[-250:]}"
        raise GsegError("".join(c if is_one_line(c) else "?" for c in said)) from error
    except FileNotFoundError as error:
        other = error.filename is not None and Path(str(error.filename)) != path
        absent = f"{error.filename} does not exist." if other else missing or f"{path} does not exist."
        raise GsegError(absent) from error
    except RecursionError as error:
        raise GsegError(f"{path} is damaged or not {what} (nested too deeply). {remedy}".rstrip()) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise GsegError(f"Cannot read {path}: {error.strerror or error}.") from error
        raise GsegError(f"{path} is damaged or not {what} ({reason(error)}). {remedy}".rstrip()) from error


def reason(error: BaseException) -> str:
    """What an exception says, as part of a message: one line of printable text, its type where it says nothing."""
    lines = str(error).strip().splitlines()
    text = "".join(c if c.isprintable() else "?" for c in lines[0][:200]) if lines else ""
    if isinstance(error, KeyError):
        return f"it has no {text}"
    speaks = text and isinstance(error, ValueError | OSError | RuntimeError)
    return text if speaks else f"{type(error).__name__} {text}".strip()


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a file.

    Raises:
        GsegError: it has more than `most` bytes.
        OSError: it cannot be read; see `reading`.
    """
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise GsegError(f"{path} is larger than {most / 2**20:g} MiB, which no such file is.")
    return data


def read_text(path: Path, what: str, remedy: str = "", most: int = 2**26) -> str:
    """The content of a text file in UTF-8.

    Raises:
        GsegError: as `reading`, or it has more than `most` bytes.
    """
    with reading(path, what, remedy):
        return read_bytes(path, most).decode("utf-8")


def read_json(path: Path, what: str, remedy: str = "", missing: str | None = None, most: int = 2**26) -> Any:
    """The content of a JSON file, in which all numbers are finite and all text can be written again.

    Python reads `NaN`, `1e999` and halves of characters, none of which JSON has.

    Args:
        path: the file.
        what: see `reading`.
        remedy: see `reading`.
        missing: see `reading`.
        most: bytes of the largest file that is read.

    Raises:
        GsegError: as `reading`, it has more than `most` bytes, or its values would fill memory.
    """
    with reading(path, what, remedy, missing):
        raw = read_bytes(path, most)
        check_json_memory(raw)
        text = raw.decode("utf-8")
        del raw
        data = json.loads(text, parse_constant=_constant, parse_float=_finite)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(data, ensure_ascii=False).encode("utf-8")
        return data


def check_json_memory(raw: bytes) -> None:
    """Refuse JSON whose values would take much more memory than its text: empty lists take thirty times as much.

    Raises:
        ValueError: it would.
    """
    if len(raw) < FREE_MEMORY // _JSON_OBJECT:
        return
    text = len(raw) * (2 if raw.isascii() else 9)
    lists, objects, others = (raw.count(letter) for letter in (b"[", b"{", b","))
    wanted = text + _JSON_LIST * lists + _JSON_OBJECT * objects + _JSON_VALUE * others
    if wanted > max(FREE_MEMORY, _JSON_MEMORY_A_BYTE * len(raw)):
        raise ValueError(f"its {lists + objects + others:,} values would take {wanted / 2**20:,.0f} MiB of memory")


def _constant(text: str) -> float:
    raise ValueError(f"it has the number {text}")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it has the number {text[:20]}")
    return value


def is_one_line(value: str) -> bool:
    """Whether a text has nothing in it that breaks lines, steers a terminal, or is half of a character."""
    return not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in value)


def integer(value: Any, least: int = 0, most: int = 2**31 - 1, what: str = "a number") -> int:
    """A value of JSON that must be an integer within bounds: no text, no fraction, no truth value.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{what} is {shown(value)}, needed an integer from {least} to {most}")
    return value


def number(value: Any, least: float = -math.inf, most: float = math.inf, what: str = "a number") -> float:
    """A value of JSON that must be a finite number within bounds.

    Raises:
        ValueError: it is something else.
    """
    bounds = f" from {least:g} to {most:g}" if math.isfinite(least) or math.isfinite(most) else ""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    if not plain or abs(value) > 1e300 or not least <= value <= most:
        raise ValueError(f"{what} is {shown(value)}, needed a number{bounds}")
    return float(value)


def text(value: Any, what: str = "a text") -> str:
    """A value of JSON that must be a text.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, str):
        raise ValueError(f"{what} is {shown(value)}, needed a text")
    return value


def file_path(value: Any, what: str = "a path") -> str:
    """A value of JSON that must be the path of a file: text that names something and that a file system can have.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, str) or not is_one_line(value) or Path(value).name in ("", "..") or len(value) > 1024:
        raise ValueError(f"{what} is {shown(value)}, needed the path of a file")
    return value


def shown(value: Any) -> str:
    """A value of JSON in few letters, for messages: whole documents stand where a number should."""
    if isinstance(value, list | dict) and len(str(value)) > 40:
        return f"a {type(value).__name__}"
    # Digits of an integer beyond a certain length are refused by Python itself.
    text = "an integer of many digits" if isinstance(value, int) and abs(value) > 2**64 else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def check_memory(path: Path, wanted: int, what: str) -> None:
    """Refuse what a file would need by its own word, where that is much and the file is too small for it to be true.

    Args:
        path: the file, which exists.
        wanted: bytes.
        what: what claims it, as in "5000x400000 pixels".

    Raises:
        GsegError: it is more than `FREE_MEMORY`, and more than a file of that size is worth.
    """
    size = path.stat().st_size
    if wanted > max(FREE_MEMORY, _MEMORY_A_BYTE * size):
        raise GsegError(
            f"{path} claims {what}, which would take {wanted / 2**20:,.0f} MiB of memory, in a file of {size:,} bytes: "
            "it is damaged, or too large for what it shows. Make it smaller."
        )


def inflate(data: bytes, size: int) -> bytes:
    """What `zlib.compress` was given, when that was `size` bytes.

    Raises:
        ValueError: it was more or less than that.
        zlib.error: the data are damaged.
    """
    stream = zlib.decompressobj()
    out = stream.decompress(data, size + 1)
    if len(out) != size or not stream.eof or stream.unused_data:
        raise ValueError(f"compressed data that are not {size} bytes")
    return out


def check_stored(archive: zipfile.ZipFile) -> None:
    """Refuse an archive whose members are compressed: torch writes them as they are, and reads them whole.

    Raises:
        ValueError: there is one.
    """
    parts = archive.infolist()
    if any(part.compress_type != zipfile.ZIP_STORED or part.file_size != part.compress_size for part in parts):
        raise ValueError("its parts are compressed, which those of a checkpoint are not")


def check_tensors(state: Any) -> None:
    """Refuse tensors that repeat a few stored values over any size: a copy of one would fill memory.

    Args:
        state: what torch has read, of dicts, lists and tuples.

    Raises:
        ValueError: there is one.
    """
    import torch

    values = [state]
    while values:
        value = values.pop()
        if isinstance(value, torch.Tensor):
            if value.layout != torch.strided or value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise ValueError(f"a tensor of shape {tuple(value.shape)} that is not all there")
        elif isinstance(value, dict):
            values += value.values()
        elif isinstance(value, list | tuple):
            values += value


def check_ply_counts(path: Path) -> None:
    """Refuse the header of a PLY that announces more than the file can hold, before memory is taken for it.

    Raises:
        ValueError: there is no header, or its counts are not true: a row takes a byte a property at least.
    """
    with path.open("rb") as file:
        header = file.read(_LONGEST_PLY_HEADER)
    size = path.stat().st_size
    begun = re.match(rb"ply(\r\n|\r|\n)", header)
    lines = [] if begun is None else header.split(begun[1])
    if b"end_header" not in lines:
        raise ValueError("it has no PLY header")
    rows = properties = 0
    # What a comment says is no element, and does not end the header.
    for words in (line.split() for line in lines[: lines.index(b"end_header")]):
        if words[:1] == [b"element"]:
            rows, properties = int(words[-1]), 0
        properties += words[:1] == [b"property"]
        if rows < 0 or rows * max(1, properties) > size:
            raise ValueError(f"{rows} rows are announced in {size} bytes")


def read_npy(path: Path, what: str, remedy: str = "") -> np.ndarray:
    """The array of a .npy file, of numbers; see `check_memory` for how large it may be.

    Raises:
        GsegError: as `reading`, or it holds something else.
    """
    with reading(path, what, remedy), path.open("rb") as file:
        return _read_array(file, path)


def read_npz(
    path: Path,
    names: Collection[str],
    what: str,
    remedy: str = "",
    optional: Collection[str] = (),
    missing: str | None = None,
    most: int = 2**28,
) -> dict[str, np.ndarray]:
    """Arrays of a .npz file, of numbers or text.

    What `numpy.load` does, but that sizes are known before memory is taken for them: compressed zeros of 10 GB are a
    file of 10 MB.

    Args:
        path: the file.
        names: of the arrays that must be there.
        what: see `reading`.
        remedy: see `reading`.
        optional: names of arrays that are read where they are there.
        missing: see `reading`.
        most: bytes of all of them together.

    Raises:
        GsegError: as `reading`, an array is missing, holds something else, or is too large.
    """
    with reading(path, what, remedy, missing), zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        arrays = {}
        for name in (*names, *optional):
            info = members.get(f"{name}.npy")
            if info is None:
                if name in names:
                    raise KeyError(name)
                continue
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{name} is compressed in an unusual way")
            with archive.open(info) as member:
                arrays[name] = _read_array(member, path, most)
            most -= arrays[name].nbytes
        return arrays


def _read_array(stream: IO[bytes], path: Path, most: int | None = None) -> np.ndarray:
    """One array in NumPy's format; `most` bytes, or as `check_memory` where that is None."""
    import numpy as np

    form = np.lib.format
    version = form.read_magic(stream)
    if version != (1, 0):  # others are for names of columns, and headers, that no array of ours has
        raise ValueError(f"version {version} of NumPy's format")
    shape, fortran, dtype = form.read_array_header_1_0(stream)
    if dtype.kind not in _ARRAY_KINDS or dtype.itemsize == 0 or any(n < 0 for n in shape):
        raise ValueError(f"an array of {dtype} of shape {shape}")
    size = math.prod(shape) * dtype.itemsize
    if most is None:
        check_memory(path, size, f"an array of shape {shape}")
    elif size > most:
        raise ValueError(f"an array of shape {shape}, which is too large")
    out = np.empty(shape[::-1] if fortran else shape, dtype)
    # Flat bytes; a truth value is any byte there, which NumPy relies on to be 0 or 1.
    into = out.reshape(-1).view(np.uint8)
    filled = 0
    while filled < size:
        count = stream.readinto(into[filled:])  # type: ignore[attr-defined]
        if not count:
            raise ValueError("an array that is cut short")
        filled += count
    if stream.read(1):  # also lets the archive compare its checksum
        raise ValueError("more than the array that it announces")
    if dtype.kind == "b":
        out = out.view(np.uint8) != 0
    out = out.T if fortran else out
    return out.astype(dtype.newbyteorder("="), copy=False)
