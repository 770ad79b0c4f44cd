"""Damage for files: what disks, editors, other programs and ill will do to them."""

from __future__ import annotations

import io
import json
import random
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

Mutate = Callable[[bytes, random.Random], bytes]

_NUMBERS = (
    *(0, -1, 1, 2, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, 10**30, 10**400),
    *(0.5, -0.0, 1e-300, 1e38, 1e39, 1e300, -1e300, float("nan"), float("inf"), -float("inf")),
)
_TEXTS = ("", "..", "a\0b", "a\n<script>", "\ud800", "../../../etc/passwd", "x" * 5000)
_VALUES = (*_TEXTS, None, True, False, [], {}, [[]])
_WORDS = (b"", b"x", b"!!python/object/apply:os.system", b"*a", b"&a", b"%", b"-1", b"0", b"1e999", b"nan", b"9" * 5000)
_ARRAYS: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda a: a[:-1] if a.ndim else a.reshape(1),
    lambda a: a[None],
    lambda a: a.T,
    lambda a: a.astype(np.float64, copy=True) if a.dtype.kind in "biuf" else np.zeros(3),
    lambda a: a.astype("U5"),
    lambda a: a.astype(np.float64) * np.nan if a.dtype.kind in "biuf" else a,
    lambda a: (a.astype(np.float64) + 1e300) if a.dtype.kind in "biuf" else a,
    lambda a: a.view(np.int64) if a.dtype == np.float64 else a.astype(np.int64) if a.dtype.kind in "biuf" else a,
    lambda a: -a if a.dtype.kind in "if" else a,
    lambda a: a + 1 if a.dtype.kind in "iuf" else a,
    lambda a: np.concatenate([a, a]) if a.ndim else a,
    lambda a: np.zeros((0, *a.shape[1:]), a.dtype),
    lambda a: np.array(0),
    lambda a: np.array(["\ud800\n\x00"]),
)


def damage_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flipped bits, cut, inserted, doubled, zeroed, or replaced by something else altogether."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not out:
            break
        at = rng.randrange(len(out))
        span = rng.choice((1, 2, 4, 8, 64, max(1, len(out) // 4)))
        what = rng.randrange(9)
        if what <= 2:
            # Headers are where sizes are.
            at = at if rng.random() < 0.5 else at % 64
            out[at] ^= 1 << rng.randrange(8)
        elif what == 3:
            del out[at:]
        elif what == 4:
            out[at:at] = rng.randbytes(span) if rng.random() < 0.5 else bytes(span)
        elif what == 5:
            del out[at : at + span]
        elif what == 6:
            out[at : at + span] = rng.choice((b"\0", b"\xff", b"9", b"\x7f")) * span
        elif what == 7:
            out[at:at] = out[at : at + span]
        else:
            value = rng.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1))
            packed = value.to_bytes(8, rng.choice(("little", "big")))
            out[at : at + 4] = packed[:4] if rng.random() < 0.5 else packed[-4:]
    if rng.random() < 0.01:
        return rng.choice((b"", b"\0" * 1000, b"[" * 100_000, b"{}", b"\xff\xfe", rng.randbytes(200)))
    return bytes(out)


def damage_json(data: bytes, rng: random.Random) -> bytes:
    """Other values, types, keys and depths at one to four places; one time in four bytes are damaged instead."""
    if rng.random() < 0.25:
        return damage_bytes(data, rng)
    document = json.loads(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        document = _damage_value(document, rng)
    text = json.dumps(document, ensure_ascii=rng.random() < 0.9)
    if rng.random() < 0.02:
        text = text.replace("[", "[" * rng.choice((100, 100_000)), 1)
    if rng.random() < 0.02:
        text = text.replace("1", rng.choice(("1e999", "0x1", "1" * 5000, "01", "NaN")), 1)
    return text.encode("utf-8", "surrogatepass")


def _damage_value(document: Any, rng: random.Random) -> Any:
    places: list[tuple[Any, Any]] = []
    stack = [document]
    while stack:
        part = stack.pop()
        items = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
        for key, value in items:
            places.append((part, key))
            stack.append(value)
    if not places or rng.random() < 0.01:
        return rng.choice((*_NUMBERS, *_VALUES))
    # Of long lists of numbers one is as good as another: the few values at the top are to be met, too.
    parent, key = (
        places[min(len(places) - 1, int(rng.expovariate(1 / 20)))] if rng.random() < 0.5 else rng.choice(places)
    )
    what = rng.randrange(8)
    if what <= 2:
        parent[key] = rng.choice(_NUMBERS)
    elif what == 3:
        parent[key] = rng.choice(_VALUES)
    elif what == 4:
        del parent[key]
    elif what == 5 and isinstance(parent, dict):
        parent[rng.choice(("x", "", "file", "count", *parent))] = parent[key]
    elif what == 6:
        value: Any = parent[key]
        for _ in range(rng.choice((1, 2, 200))):
            value = [value] if rng.random() < 0.5 else {"a": value}
        parent[key] = value
    elif isinstance(parent[key], str):
        parent[key] = _damage_text(parent[key], rng)
    elif isinstance(parent[key], bool) or parent[key] is None:
        parent[key] = str(parent[key])
    elif isinstance(parent[key], int | float):
        value = parent[key] if abs(parent[key]) < 1e300 else 7
        parent[key] = rng.choice((str(value), -value, value * 1e9, value + 0.5, [value]))
    elif isinstance(parent[key], list):
        parent[key] = parent[key] * rng.choice((2, 0)) if rng.random() < 0.5 else dict(enumerate(map(str, parent[key])))
    else:
        parent[key] = list(parent[key].values())
    return document


def _damage_text(text: str, rng: random.Random) -> str:
    if not text:
        return "\0"
    at = rng.randrange(len(text))
    piece = rng.choice(("", "\n", "\0", "\ud800", "..", "/", "é", "\u2028", chr(rng.randrange(32, 127)), text[at:]))
    return text[:at] + piece + text[at + rng.choice((0, 1, 3)) :]


def damage_npz(data: bytes, rng: random.Random) -> bytes:
    """Arrays of other shapes, types and values, missing, or longer than their file; or damaged bytes."""
    if rng.random() < 0.4:
        return damage_bytes(data, rng)
    with np.load(io.BytesIO(data)) as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = rng.choice(list(arrays))
    what = rng.random()
    if what < 0.1:
        del arrays[name]
    elif what < 0.7:
        with np.errstate(all="ignore"):
            arrays[name] = rng.choice(_ARRAYS)(arrays[name])
    elif what < 0.9 and arrays[name].size:
        array = arrays[name] = arrays[name].copy()
        raw = array.reshape(-1).view(np.uint8) if array.dtype.kind in "biufU" else None
        if raw is not None:
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    out = io.BytesIO()
    (np.savez if rng.random() < 0.5 else np.savez_compressed)(out, **arrays)
    packed = out.getvalue()
    if what >= 0.9:  # a header that claims more than there is, with a checksum that is right
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(packed)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
            for member in old.namelist():
                content = old.read(member)
                if member == f"{name}.npy":
                    stream = io.BytesIO()
                    descr = rng.choice(("|u1", "<f8", "<i8", "<U9999", "|O"))
                    shape = (rng.choice((10**3, 10**9, 10**12)),) * rng.randrange(4)
                    np.lib.format.write_array_header_1_0(
                        stream, {"descr": descr, "fortran_order": False, "shape": shape}
                    )
                    content = stream.getvalue() + bytes(rng.choice((0, 10**3, 10**6)))
                new.writestr(member, content)
        packed = out.getvalue()
    return packed


def damage_png(data: bytes, rng: random.Random) -> bytes:
    """Chunks with other content and checksums that are right; or damaged bytes."""
    if rng.random() < 0.4:
        return damage_bytes(data, rng)
    chunks, at = [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    number = rng.randrange(len(chunks)) if rng.random() < 0.6 else 0
    kind, content = chunks[number]
    what = rng.random()
    if kind == b"IHDR" and what < 0.6:
        size = rng.choice((1, 2, 100, 4000, 20_000, 2**24, 2**31 - 1)).to_bytes(4, "big")
        depth = bytes((rng.choice((1, 2, 4, 8, 16, 3)), rng.choice((0, 2, 3, 4, 6, 1)), 0, 0, rng.randrange(2)))
        content = rng.choice((size + content[4:], size * 2 + content[8:], content[:8] + depth))
    elif kind == b"IDAT" and what < 0.5:
        content = zlib.compress(rng.choice((b"", bytes(10), bytes(10**6), bytes(5 * 10**7))))
    elif what < 0.8:
        content = damage_bytes(content, rng)
    else:
        kind = rng.choice((b"PLTE", b"tRNS", b"IDAT", b"IEND", b"iCCP", b"zTXt", b"acTL", b"eXIf", b"abcd"))
    chunks[number] = kind, content
    if rng.random() < 0.1:
        rng.shuffle(chunks)
    packed = [
        len(body).to_bytes(4, "big") + tag + body + zlib.crc32(tag + body).to_bytes(4, "big") for tag, body in chunks
    ]
    return data[:8] + b"".join(packed)


def damage_text(data: bytes, rng: random.Random) -> bytes:
    """Words of a text replaced by other words and numbers, lines lost and doubled; or damaged bytes."""
    if rng.random() < 0.3:
        return damage_bytes(data, rng)
    lines = data.split(b"\n")
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(lines))
        words = lines[at].split(b" ")
        what = rng.randrange(6)
        if what <= 3:
            words[rng.randrange(len(words))] = rng.choice(_WORDS)
            lines[at] = b" ".join(words)
        elif what == 4:
            del lines[at]
            lines = lines or [b""]
        else:
            lines[at:at] = [lines[rng.randrange(len(lines))]] * rng.choice((1, 3))
    return b"\n".join(lines)


def damage_ply(data: bytes, rng: random.Random) -> bytes:
    """Another header over the same body, NaN and infinity in the body; or damaged bytes."""
    if rng.random() < 0.3:
        return damage_bytes(data, rng)
    header, end, body = data.partition(b"end_header\n")
    if rng.random() < 0.5:
        header = (
            damage_text(header, rng)
            if rng.random() < 0.7
            else header.replace(b"element vertex ", b"element vertex " + rng.choice((b"9", b"99999999", b"-", b"0")))
        )
    if rng.random() < 0.6 and len(body) > 4:
        at = 4 * rng.randrange(len(body) // 4)
        value = np.float32(rng.choice((np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, 0)))
        body = body[:at] + value.tobytes() + body[at + 4 :]
    return header + end + body


def damage_zip(data: bytes, rng: random.Random) -> bytes:
    """Members of an archive damaged, with checksums that are right; or damaged bytes."""
    if rng.random() < 0.5:
        return damage_bytes(data, rng)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        names = old.namelist()
        # The small ones say what the large ones are.
        chosen = rng.choice([name for name in names if old.getinfo(name).file_size] if rng.random() < 0.5 else names)
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED if rng.random() < 0.8 else zipfile.ZIP_DEFLATED) as new:
            for name in names:
                content = old.read(name)
                if name == chosen or (name.endswith("data.pkl") and rng.random() < 0.5):
                    content = damage_bytes(content, rng)
                if rng.random() < 0.99:
                    new.writestr(name, content)
    return out.getvalue()
