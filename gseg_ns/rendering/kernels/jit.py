"""How every kernel is compiled, and the exponential they share."""

from __future__ import annotations

import functools
import glob
import hashlib
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.typing import signature as signature_of
from numba.extending import intrinsic, overload

# NaN and infinity keep their meaning (no nnan, ninf): a bad Gaussian must fail its comparisons, not spread.
FASTMATH = {"reassoc", "contract", "arcp", "nsz", "afn"}


def _compiler(fastmath: set[str] | bool, inlined: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """A decorator that compiles without the GIL and caches on disk, for this state of all kernel sources.

    Numba's cache looks only at the file of a function, yet kernels inline others across files: an edited helper would
    leave stale callers behind. So the cache's stamp is replaced by one of the whole folder, and of the function's own
    file where that is elsewhere. Where the folder cannot be written, Numba itself falls back to the user's cache
    folder, or to NUMBA_CACHE_DIR. Where sources have changed since this process loaded the first of them, what it
    compiles is of none of the two states, and is not kept.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        stamp = _sources_stamp(Path(function.__code__.co_filename))
        decorated = njit(
            cache=stamp is not None, nogil=True, fastmath=fastmath, error_model="numpy", forceinline=inlined
        )
        compiled = decorated(function)
        index = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
        if index is not None and hasattr(index, "_source_stamp"):
            index._source_stamp = stamp
            # Numba writes what is in the cache before the thing itself: after a kill in between, an index of this state
            # would name a file of a former one, were both called alike.
            name = index._index_name.removesuffix(".nbi")
            index._data_name_pattern = f"{name}.{_short(stamp)}.{{number:d}}.nbc"
            index.save = functools.partial(_save, index.save, Path(index._cache_path), name, _short(stamp))
        return compiled

    return decorate


def _save(save: Callable[[Any, Any], None], folder: Path, name: str, stamp: str, key: Any, data: Any) -> None:
    """Keep a kernel, and no longer those of former states of the sources, also of other lines of its file."""
    save(key, data)
    function, _, place = name.rpartition("-")  # module.function-line.pyXY
    anywhere = f"{glob.escape(function)}-*.{place.partition('.')[2]}"
    for former in [*folder.glob(f"{anywhere}.nbi"), *folder.glob(f"{anywhere}.*.nbc")]:
        if former.name != f"{name}.nbi" and not former.name.startswith(f"{name}.{stamp}."):
            former.unlink(missing_ok=True)


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.read_bytes())
    return digest.hexdigest()


_FOLDER = Path(__file__).parent
_LOADED = _digest(_FOLDER.glob("*.py"))


@functools.cache
def _sources_stamp(own: Path) -> str | None:
    """What the cache of a file's kernels is valid for; None where the sources are no longer what was loaded."""
    folder = set(_FOLDER.glob("*.py"))
    return _LOADED + _digest({own} - folder) if _digest(folder) == _LOADED else None


def _short(stamp: str | None) -> str:
    return hashlib.sha256(str(stamp).encode()).hexdigest()[:12]


kernel = _compiler(FASTMATH)

# For what a kernel does with each splat: a call would load all constants of its loop anew.
part = _compiler(FASTMATH, inlined=True)

# For arithmetic that several kernels must repeat to the last bit: no reordering, and fused only where written.
# `False` must be said: left out, the flags would be the caller's.
exact = _compiler(False)

_LOG2E = 1.4426950408889634


@intrinsic
def _round_negative(typingctx, value):  # type: ignore[no-untyped-def]
    """Nearest whole number of a float32 <= 0, as float32."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        shifted = builder.fsub(args[0], ir.Constant(ir.FloatType(), 0.5))
        return builder.sitofp(builder.fptosi(shifted, ir.IntType(32)), ir.FloatType())

    return types.float32(types.float32), codegen


@intrinsic
def _power_of_two(typingctx, value):  # type: ignore[no-untyped-def]
    """2**value of a whole float32 in -126..127, by writing its exponent bits."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        i32 = ir.IntType(32)
        biased = builder.add(builder.fptosi(args[0], i32), ir.Constant(i32, 127))
        return builder.bitcast(builder.shl(biased, ir.Constant(i32, 23)), ir.FloatType())

    return types.float32(types.float32), codegen


@intrinsic
def multiply_add(typingctx, x, y, z):  # type: ignore[no-untyped-def]
    """Product and sum x * y + z, in one rounding where the processor has the instruction."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        real = args[0].type
        function = builder.module.declare_intrinsic("llvm.fmuladd", [real], ir.FunctionType(real, [real] * 3))
        return builder.call(function, args)

    return signature_of(x, x, x, x), codegen


def exp_negative(value: float) -> float:
    """exp(value) for value <= 0; in float32 a polynomial that vectorises, in float64 the library's.

    The polynomial's relative error is below 1.2e-7 (2 + |value|); results below 2**-126 become 2**-126.
    """
    return math.exp(value)


@overload(exp_negative, jit_options={"fastmath": False, "error_model": "numpy"})
def _exp_negative(value):  # type: ignore[no-untyped-def]
    if value != types.float32:
        return lambda value: math.exp(value)

    low = np.float32  # Numba's literals are float64

    def impl(value):  # type: ignore[no-untyped-def]
        t = max(low(-126.0), value * low(_LOG2E))
        n = _round_negative(t)  # type: ignore
        f = t - n
        # Taylor coefficients of 2**f; |f| <= 1/2 leaves a relative error below 2e-8 at degree 7.
        p = low(1.5252733804059841e-05)
        p = multiply_add(p, f, low(1.540353039338161e-04))
        p = multiply_add(p, f, low(1.3333558146428443e-03))
        p = multiply_add(p, f, low(9.618129107628477e-03))
        p = multiply_add(p, f, low(5.550410866482158e-02))
        p = multiply_add(p, f, low(2.402265069591007e-01))
        p = multiply_add(p, f, low(6.931471805599453e-01))
        p = multiply_add(p, f, low(1.0))
        return p * _power_of_two(n)

    return impl
