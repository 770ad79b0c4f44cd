"""A phantom GPU: code runs as if on CUDA, while every number is computed on the CPU.

It finds what breaks the first time code meets a GPU, on a machine that has none:

- tensors on different devices that meet in one operation, indices and generators on the wrong device, `.numpy()` and
  `np.asarray` of a CUDA tensor, a custom kernel that is handed a CPU tensor, or one of another type or not contiguous;
- factories that forget `device=`;
- reads of memory that CUDA leaves uninitialised: `torch.empty` on the phantom, and the projections of Gaussians that
  gsplat culls, are filled with NaN (or absurd integers);
- where the program waits for the GPU or copies to and from it (`.item()`, `nonzero`, boolean masks, `.cpu()`, ...),
  counted a source line.

How it works. A tensor is a plain CPU tensor whose *storage* carries a mark; so views, `.data =`, `Parameter`,
optimizers, autograd and threads work as ever. `Tensor.device` and its kin answer `cuda:0` for marked storages. A
`TorchFunctionMode` (in every thread) turns `device="cuda"` and `.to("cuda")` into marks, a `TorchDispatchMode` carries
marks from inputs to outputs and refuses mixtures by the rules of PyTorch: 0-dim CPU tensors may meet CUDA ones in
element-wise operations, CPU indices may index CUDA tensors, `copy_` crosses devices. gsplat keeps its own Python code
with all of its checks; only its compiled module (`gsplat.csrc`) is replaced by CPU functions that follow the `.cu`
files of version 1.4.0: types, contiguity, tile lists, order of pairs, what is left uninitialised.

Use, with this file's folder on PYTHONPATH:

    python phantom_cuda.py [--record] [--report FILE] SCRIPT ARG ...   # e.g. .venv/bin/ns-train gaga --data scene ...
    python -m pytest -p phantom_cuda                                   # tests marked `cuda` run, on the phantom
    python -m pytest -p phantom_cuda --phantom-default                 # and factories called by test files make CUDA
                                                                       # tensors: CPU tests become CUDA tests
    import phantom_cuda; phantom_cuda.install(record=True)             # in any program, before the code is imported

`--record` (or PHANTOM_CUDA=record; in pytest `--phantom-record`) notes every fault with its place and goes on as if the
tensor had been moved, so that one run finds many; without it the first one raises what PyTorch would raise. The report
(`--report`, `--phantom-report`) lists faults, then waits and copies by the innermost line below PHANTOM_PROJECT.
`--sitecustomize` prints how to make child processes phantom too. To see what users without a CUDA compiler see, delete
`sys.modules["gsplat.csrc"]` after `install`.

With `--phantom-default` test files themselves are treated leniently: they may compare CUDA with CPU tensors and call
`.numpy()`. A test fails for the wrong reason where it hands a CUDA tensor to what is documented to be for the CPU.

What it cannot see: numerical differences of the real kernels, races, asynchronous errors, memory and speed, streams,
device placement inside TorchScript, and operations that PyTorch lacks on CUDA (or has for other types only).
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import runpy
import signal
import sys
import threading
import traceback
import types
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

CUDA = torch.device("cuda", 0)
CPU = torch.device("cpu")
HERE = str(Path(__file__).resolve())
_SKIPPED = (str(Path(torch.__file__).parent), HERE, "<", str(Path(np.__file__).parent))


class Settings:
    """What `install` was told."""

    installed = False
    record = False
    default_in: tuple[str, ...] = ()
    """Files below these folders make CUDA tensors where they name no device, and are treated leniently."""
    lenient: tuple[str, ...] = ()
    poison = True
    project = ""
    """Frames below this folder are named in the report, if there are any."""


class _Local(threading.local):
    region: str | None = None
    """Where factories inside the present call of a torch function put their results: cuda, cpu or as usual."""
    raw = 0


_local = _Local()
faults: Counter[str] = Counter()
examples: dict[str, str] = {}
traffic: Counter[tuple[str, str]] = Counter()
volume: Counter[tuple[str, str]] = Counter()
poisoned = 0

# ---------------------------------------------------------------------------------------------------------- marks

_untyped_storage = torch._C.TensorBase.untyped_storage
_layout = torch._C.TensorBase.layout.__get__  # type: ignore[attr-defined]
_raw_numpy = torch._C.TensorBase.numpy


def _storages(tensor: torch.Tensor) -> list[Any]:
    if _layout(tensor) is torch.strided:
        try:
            return [_untyped_storage(tensor)]
        except (RuntimeError, NotImplementedError):
            return []
    if _layout(tensor) is torch.sparse_coo:
        return [_untyped_storage(tensor._values()), _untyped_storage(tensor._indices())]
    return [_untyped_storage(tensor.values())]


def is_phantom(tensor: torch.Tensor) -> bool:
    """Whether a tensor is on the phantom GPU."""
    with torch._C.DisableTorchFunction():
        if _layout(tensor) is torch.strided:
            try:
                return "phantom" in _untyped_storage(tensor).__dict__
            except (RuntimeError, NotImplementedError):
                return False
        with _disable_current_modes():
            return any("phantom" in storage.__dict__ for storage in _storages(tensor))


def mark(tensor: torch.Tensor) -> torch.Tensor:
    """Put the memory of a tensor onto the phantom GPU."""
    with torch._C.DisableTorchFunction(), _disable_current_modes():
        for storage in _storages(tensor):
            storage.phantom = True
    return tensor


@contextlib.contextmanager
def raw():
    """Within this block nothing is marked or checked."""
    with torch._C.DisableTorchFunction(), _disable_current_modes():
        _local.raw += 1
        try:
            yield
        finally:
            _local.raw -= 1


def _tensors(*values: Any):
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(*value)
        elif isinstance(value, dict):
            yield from _tensors(*value.values())


def _any_phantom(*values: Any) -> bool:
    return any(is_phantom(tensor) for tensor in _tensors(*values))


# ------------------------------------------------------------------------------------------------- places, faults


def _place() -> tuple[str, str]:
    """File of the innermost frame that is neither torch's nor ours, and a description of where we are."""
    frame = sys._getframe(1)
    inner, project = None, None
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(_SKIPPED):
            if inner is None:
                inner = (name, frame.f_lineno, frame.f_code.co_name)
            if Settings.project and name.startswith(Settings.project):
                project = (name, frame.f_lineno, frame.f_code.co_name)
                break
            if not Settings.project:
                break
        frame = frame.f_back
    if inner is None:
        return "", "?"

    def said(place: tuple[str, int, str]) -> str:
        name = place[0]
        if Settings.project and name.startswith(Settings.project):
            name = os.path.relpath(name, Settings.project)
        elif "site-packages/" in name:
            name = name.split("site-packages/")[1]
        return f"{name}:{place[1]} ({place[2]})"

    text = said(inner)
    return inner[0], text if project is None or project == inner else f"{text} from {said(project)}"


def _fault(error: type[Exception], message: str) -> None:
    """Raise what PyTorch would, or note it and go on."""
    file, where = _place()
    if Settings.lenient and file.startswith(Settings.lenient):
        return
    key = f"{where}: {error.__name__}: {message}"
    faults[key] += 1
    if key not in examples:
        examples[key] = "".join(traceback.format_stack(limit=14)[:-2])
    if not Settings.record:
        raise error(message)


def _note(kind: str, size: int = 0) -> None:
    file, where = _place()
    if Settings.lenient and file.startswith(Settings.lenient):
        return
    traffic[kind, where] += 1
    volume[kind, where] += size


def _bytes(tensor: torch.Tensor) -> int:
    with torch._C.DisableTorchFunction():
        return tensor.numel() * tensor.element_size() if tensor.layout is torch.strided else 0


# ------------------------------------------------------------------------------------------------- dispatch mode

_SYNCS = {
    "aten::_local_scalar_dense": "wait: item",
    "aten::nonzero": "wait: nonzero",
    "aten::masked_select": "wait: masked_select",
    "aten::_unique2": "wait: unique",
    "aten::unique_dim": "wait: unique",
    "aten::unique_consecutive": "wait: unique",
    "aten::bincount": "wait: bincount",
    "aten::repeat_interleave": "wait: repeat_interleave",
    "aten::equal": "wait: equal",
    "aten::is_nonzero": "wait: item",
}
_INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index"}
_CROSSING = {"aten::copy_", "aten::fill_", "aten::set_", "aten::_foreach_copy_", "aten::is_same_size", "aten::copy"}
_SCALAR_VALUE = {"aten::masked_fill", "aten::masked_fill_"}
_EMPTY = {
    "aten::empty",
    "aten::empty_like",
    "aten::empty_strided",
    "aten::new_empty",
    "aten::new_empty_strided",
    "aten::empty_permuted",
}
_POINTWISE_TOO = {
    "aten::where",
    "aten::lerp",
    "aten::lerp_",
    "aten::clamp",
    "aten::clamp_",
    "aten::clamp_min",
    "aten::clamp_max",
    "aten::addcmul",
    "aten::addcdiv",
    "aten::_foreach_add_",
    "aten::_foreach_mul_",
}


def _mixed(name: str) -> None:
    _fault(
        RuntimeError,
        f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! ({name})",
    )


def _check_mixture(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuse what PyTorch refuses. Called where CUDA and CPU tensors meet."""
    name = func._schema.name
    if name in _INDEXING:
        this = args[0]
        here = is_phantom(this)
        for index in _tensors(args[1]):
            if is_phantom(index) and not here:
                _fault(
                    RuntimeError, "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
                )
            elif here and not is_phantom(index):
                _note("to GPU: index", _bytes(index))
        if len(args) > 2:
            value = args[2]
            if is_phantom(value) != here and not (here and value.dim() == 0):
                _mixed(name)
        return
    if name in _CROSSING:
        this, other = args[0], args[1] if len(args) > 1 else None
        if name == "aten::copy_" and isinstance(other, torch.Tensor):
            if is_phantom(this):
                _note("to GPU: copy_", _bytes(this))
            else:
                _note("from GPU: copy_", _bytes(this))
        return
    if name in _SCALAR_VALUE:
        if is_phantom(args[0]) and is_phantom(args[1]) and args[2].dim() == 0:
            return
        _mixed(name)
        return
    pointwise = torch.Tag.pointwise in func.tags or name in _POINTWISE_TOO
    loose = [tensor for tensor in _tensors(args, kwargs) if not is_phantom(tensor)]
    if pointwise:
        written = [
            value
            for value, argument in zip(args, func._schema.arguments, strict=False)
            if argument.alias_info is not None and argument.alias_info.is_write and isinstance(value, torch.Tensor)
        ]
        if all(tensor.dim() == 0 and not any(tensor is w for w in written) for tensor in loose):
            return
    _mixed(name)


class PhantomDispatch(TorchDispatchMode):
    """Carries marks from inputs to outputs, and refuses mixtures."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _local.raw:
            return func(*args, **kwargs)
        named = kwargs.get("device")
        if named is not None and named.type == "cuda":  # Python code inside of torch, which the other mode does not see
            with _region("cuda"):
                return self.__torch_dispatch__(func, types, args, {**kwargs, "device": CPU})
        inputs = list(_tensors(args, kwargs))
        flags = [is_phantom(tensor) for tensor in inputs]
        some = any(flags)
        name = func._schema.name
        if some:
            if not all(flags):
                _check_mixture(func, args, kwargs)
            if name in _SYNCS and not (name == "aten::repeat_interleave" and kwargs.get("output_size") is not None):
                _note(_SYNCS[name])
            elif name in _INDEXING and any(
                index.dtype in (torch.bool, torch.uint8) for index in _tensors(args[1]) if is_phantom(index)
            ):
                _note("wait: boolean mask")
        elif not inputs and _local.region == "cuda":
            some = True
        out = func(*args, **kwargs)
        if some and _local.region != "cpu":
            known = {id(storage) for tensor in inputs for storage in _quiet_storages(tensor)}
            for tensor in _tensors(out):
                for storage in _quiet_storages(tensor):
                    if id(storage) not in known:
                        storage.phantom = True
            if name in _EMPTY and Settings.poison:
                _fill(out)
        return out


def _quiet_storages(tensor: torch.Tensor) -> list[Any]:
    with torch._C.DisableTorchFunction(), _disable_current_modes():
        return _storages(tensor)


def _fill(tensor: torch.Tensor) -> None:
    """What CUDA memory may hold: NaN, absurd integers."""
    global poisoned
    with raw(), torch.no_grad():
        if tensor.numel() == 0 or tensor.layout is not torch.strided:
            return
        poisoned += 1
        if tensor.dtype.is_floating_point or tensor.dtype.is_complex:
            tensor.fill_(float("nan"))
        elif tensor.dtype is not torch.bool:
            tensor.fill_(torch.iinfo(tensor.dtype).max - 7)


# ------------------------------------------------------------------------------------------------- function mode


@contextlib.contextmanager
def _region(where: str | None):
    before = _local.region
    _local.region = where
    try:
        yield
    finally:
        _local.region = before


def _as_device(device: Any) -> torch.device:
    if isinstance(device, int):
        return torch.device("cuda", device)
    return torch.device(device)


def _moved(
    tensor: torch.Tensor, device: torch.device | None, copy: bool = False, what: str = "to", waits: bool = True
) -> torch.Tensor:
    """A tensor on another device: the same where it is there already."""
    if device is not None and device.type not in ("cpu", "cuda"):
        return torch.Tensor.to(tensor, device)
    here = is_phantom(tensor)
    there = here if device is None else device.type == "cuda"
    if device is not None and device.type == "cuda" and (device.index or 0) != 0:
        raise RuntimeError("CUDA error: invalid device ordinal")
    if here == there and not copy:
        return tensor
    if here != there:
        _note(f"{'to' if there else 'from'} GPU{'' if waits else ' without waiting'}: {what}", _bytes(tensor))
    with _region("cpu"):
        moved = tensor.clone()
    return mark(moved) if there else moved


def _to(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    copy = bool(kwargs.pop("copy", False))
    if (args and isinstance(args[0], torch.Tensor)) or isinstance(kwargs.get("other"), torch.Tensor):
        other, waits = args[0] if args else kwargs["other"], True
        device: torch.device | None = CUDA if is_phantom(other) else CPU
        dtype, memory_format = other.dtype, kwargs.get("memory_format")
    else:
        if len(args) == 4:
            *args, copy = args  # type: ignore[assignment]
        if args and isinstance(args[0], int) and not isinstance(args[0], bool):
            args = (torch.device("cuda", args[0]), *args[1:])
        device, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*args, **kwargs)
        # What PyTorch copies without waiting: to the GPU, and from it only into pinned memory, which is not modelled.
        waits = not (non_blocking and device is not None and device.type == "cuda")
    moved = _moved(tensor, device, copy, waits=waits)
    options = {} if memory_format is None else {"memory_format": memory_format}
    if (dtype is None or dtype == moved.dtype) and not options:
        return moved
    return moved.to(moved.dtype if dtype is None else dtype, **options)


def _numpy(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    if is_phantom(tensor) and (kwargs.get("force") or (args and args[0])):
        _note("from GPU: numpy(force=True)", _bytes(tensor))
    elif is_phantom(tensor):
        _fault(
            TypeError,
            "can't convert cuda:0 device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first.",
        )
    return torch.Tensor.numpy(tensor, *args, **kwargs)


def _array(tensor: torch.Tensor, dtype: Any = None, *_: Any, **__: Any) -> Any:
    array = _numpy(tensor.detach() if Settings.lenient else tensor)
    return array if dtype is None else array.astype(dtype, copy=False)


def _tensor(data: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    device = kwargs.pop("device", None)
    there = _as_device(device).type == "cuda" if device is not None else None
    if there is None:
        there = is_phantom(data) if isinstance(data, torch.Tensor) else _by_default()
    with _region("cpu"):
        made = torch.tensor(data, *args, **kwargs)
    if there and device is not None:
        _note("to GPU: torch.tensor", _bytes(made))
    return mark(made) if there else made


def _as_tensor(data: Any, dtype: Any = None, device: Any = None, **kwargs: Any) -> torch.Tensor:
    if isinstance(data, torch.Tensor):
        moved = _moved(data, None if device is None else _as_device(device), what="as_tensor")
        return moved if dtype is None else moved.to(dtype)
    there = _by_default() if device is None else _as_device(device).type == "cuda"
    with _region("cpu"):
        made = torch.as_tensor(data, dtype=dtype, **kwargs)
        if there:
            made = made.clone()
    if there and device is not None:
        _note("to GPU: as_tensor", _bytes(made))
    return mark(made) if there else made


def _new_tensor(tensor: torch.Tensor, data: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    device = kwargs.pop("device", None)
    there = is_phantom(tensor) if device is None else _as_device(device).type == "cuda"
    with _region("cpu"):
        made = tensor.new_tensor(data, *args, **kwargs)
    if there:
        _note("to GPU: new_tensor", _bytes(made))
    return mark(made) if there else made


def _deepcopy(tensor: torch.Tensor, memo: Any) -> torch.Tensor:
    here = is_phantom(tensor)
    with _region("cpu"):
        copied = torch.Tensor.__deepcopy__(tensor, memo)
    return mark(copied) if here else copied


def _backward(tensor: torch.Tensor, gradient: Any = None, retain_graph: Any = None, create_graph: Any = False,
              inputs: Any = None) -> None:  # fmt: skip
    with _region("cuda" if is_phantom(tensor) else None):
        torch.Tensor.backward(tensor, gradient, retain_graph, create_graph, inputs)


_HANDLERS: dict[Any, Any] = {
    torch.Tensor.to: _to,
    torch.Tensor.cpu: lambda tensor, **_: _moved(tensor, CPU, what="cpu"),
    torch.Tensor.cuda: lambda tensor, device=None, *_, **__: _moved(
        tensor, CUDA if device is None else _as_device(device), what="cuda"
    ),
    torch.Tensor.type_as: lambda tensor, other: _to(tensor, other),
    torch.Tensor.numpy: _numpy,
    torch.Tensor.__array__: _array,
    torch.Tensor.pin_memory: lambda tensor, *_: tensor.clone(),
    torch.Tensor.is_pinned: lambda tensor, *_: False,
    torch.Tensor.get_device: lambda tensor: 0 if is_phantom(tensor) else -1,
    torch.Tensor.new_tensor: _new_tensor,
    torch.Tensor.__deepcopy__: _deepcopy,
    torch.Tensor.backward: _backward,
    torch.tensor: _tensor,
    torch.as_tensor: _as_tensor,
    torch.asarray: _as_tensor,
}
_FACTORIES = {
    torch.zeros, torch.ones, torch.full, torch.empty, torch.rand, torch.randn, torch.randint, torch.randperm,
    torch.arange, torch.linspace, torch.logspace, torch.eye, torch.normal, torch.empty_strided, torch.tril_indices,
    torch.triu_indices, torch.range,
}  # fmt: skip


def _by_default() -> bool:
    """Whether a factory that names no device is called by a file whose default device is the GPU."""
    return bool(Settings.default_in) and _place()[0].startswith(Settings.default_in)


class PhantomFunctions(TorchFunctionMode):
    """Turns CUDA devices in calls into marks."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _local.raw or getattr(func, "__name__", "") == "__get__":
            return func(*args, **kwargs)
        handler = _HANDLERS.get(func)
        if handler is not None:
            return handler(*args, **kwargs)
        device = kwargs.get("device")
        if device is not None and _as_device(device).type not in ("cpu", "cuda"):  # meta
            return func(*args, **kwargs)
        if device is not None:
            there = _as_device(device)
            if there.type == "cuda" and (there.index or 0) != 0:
                raise RuntimeError("CUDA error: invalid device ordinal")
            where = "cuda" if there.type == "cuda" else "cpu"
            kwargs = {**kwargs, "device": CPU}
        elif _any_phantom(args, kwargs):
            where = "cuda"
        elif func in _FACTORIES and _by_default():
            where = "cuda"
        else:
            where = None
        generator = kwargs.get("generator")
        if where == "cuda" and generator is not None and not getattr(generator, "on_gpu", False):
            _fault(RuntimeError, "Expected a 'cuda' device type for generator but found 'cpu'")
        with _region(where):
            return func(*args, **kwargs)


# ------------------------------------------------------------------------------------------------ torch, patched


def _patch_torch() -> None:
    tensor = torch.Tensor

    def device(self: torch.Tensor) -> torch.device:
        with torch._C.DisableTorchFunction():
            real = torch._C.TensorBase.device.__get__(self)  # type: ignore[attr-defined]
        return CUDA if real.type == "cpu" and not _local.raw and is_phantom(self) else real

    tensor.device = property(device)  # type: ignore[assignment,method-assign]
    tensor.is_cuda = property(lambda self: device(self).type == "cuda")  # type: ignore[assignment,method-assign]
    tensor.is_cpu = property(lambda self: device(self).type == "cpu")  # type: ignore[assignment,method-assign]

    from_numpy = torch.from_numpy
    torch.from_numpy = lambda array: mark(from_numpy(array)) if _by_default() else from_numpy(array)  # type: ignore

    class Generator(torch.Generator):
        """Remembers the device that it was made for."""

        def __new__(cls, device: Any = None) -> Any:
            made = super().__new__(cls)
            made.on_gpu = _by_default() if device is None else _as_device(device).type == "cuda"
            return made

        device = property(lambda self: CUDA if self.on_gpu else CPU)  # type: ignore[assignment]

    torch.Generator = Generator  # type: ignore[misc]

    cuda = torch.cuda
    answers: dict[str, Any] = {
        "is_available": True, "device_count": 1, "current_device": 0, "get_device_name": "phantom",
        "memory_allocated": 0, "max_memory_allocated": 0, "memory_reserved": 0, "max_memory_reserved": 0,
        "reset_peak_memory_stats": None, "synchronize": None, "empty_cache": None, "manual_seed": None,
        "manual_seed_all": None, "_lazy_init": None, "init": None, "is_initialized": True, "set_device": None,
        "is_bf16_supported": True, "get_device_capability": (8, 9), "mem_get_info": (8 << 30, 8 << 30),
        "ipc_collect": None, "set_rng_state": None, "set_rng_state_all": None,
    }  # fmt: skip
    for name, answer in answers.items():
        setattr(cuda, name, functools.partial(lambda answer, *_, **__: answer, answer))
    cuda.get_rng_state = lambda *_: torch.zeros(16, dtype=torch.uint8)  # type: ignore[assignment]
    cuda.get_rng_state_all = lambda: [torch.zeros(16, dtype=torch.uint8)]  # type: ignore[assignment]
    cuda.get_device_properties = lambda *_: types.SimpleNamespace(  # type: ignore[assignment]
        name="phantom", total_memory=8 << 30, major=8, minor=9, multi_processor_count=1
    )
    torch._C._cuda_getDeviceCount = lambda: 1  # type: ignore[attr-defined,assignment]
    cuda.is_current_stream_capturing = lambda: False  # type: ignore[assignment]
    for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):
        if hasattr(torch.optim.Optimizer, name):
            setattr(torch.optim.Optimizer, name, lambda self: None)

    # Checkpoints remember where tensors were, and `torch.load` without map_location brings them back there.
    def tagged(storage: Any) -> str | None:
        return "cuda:0" if "phantom" in getattr(storage, "__dict__", {}) else None

    def restored(storage: Any, location: str) -> Any:
        if not str(location).startswith("cuda"):
            return None
        storage.phantom = True
        return storage

    torch.serialization.register_package(0, tagged, restored)

    # Custom backward functions run inside `Tensor.backward`: their own factories are theirs again.
    from torch.autograd.function import BackwardCFunction

    apply = BackwardCFunction.apply

    def apply_with_modes(self: Any, *args: Any) -> Any:
        if _local.raw:
            return apply(self, *args)
        with _region(None), PhantomFunctions():
            return apply(self, *args)

    BackwardCFunction.apply = apply_with_modes  # type: ignore[method-assign]

    bootstrap = threading.Thread._bootstrap_inner  # type: ignore[attr-defined]

    def with_modes(self: threading.Thread) -> None:
        _enter()
        bootstrap(self)

    threading.Thread._bootstrap_inner = with_modes  # type: ignore[attr-defined]

    assert_close = torch.testing.assert_close

    def lenient_assert_close(*args: Any, **kwargs: Any) -> None:
        if Settings.lenient:
            kwargs.setdefault("check_device", False)
        assert_close(*args, **kwargs)

    torch.testing.assert_close = lenient_assert_close


def _enter() -> None:
    PhantomDispatch().__enter__()
    PhantomFunctions().__enter__()


def install(
    record: bool | None = None, project: str = "", default_in: tuple[str, ...] = (), lenient: tuple[str, ...] = ()
) -> None:
    """Make this process believe that it has a GPU.

    Args:
        record: note faults and go on; None: as the variable PHANTOM_CUDA says.
        project: folder of the code under test; the report names the innermost line below it.
        default_in: folders whose files make CUDA tensors where they name no device.
        lenient: folders whose files may mix devices.
    """
    Settings.record = os.environ.get("PHANTOM_CUDA") == "record" if record is None else record
    Settings.project = project or os.environ.get("PHANTOM_PROJECT", "")
    Settings.default_in, Settings.lenient = default_in, (*lenient, *default_in)
    if Settings.installed:
        return
    Settings.installed = True

    _patch_torch()
    sys.modules["gsplat.csrc"] = _gsplat_module()
    _enter()


def waits() -> Counter[str]:
    """How often the program has waited for the GPU, by source line: everything that `torch.cuda.set_sync_debug_mode`
    would report, and what gsplat's own module waits for.
    """
    found: Counter[str] = Counter()
    for (kind, where), count in traffic.items():
        if "without waiting" not in kind:
            found[f"{kind} at {where}"] += count
    return found


def report() -> str:
    """Faults and traffic, as text."""
    lines = [f"== phantom GPU: {len(faults)} different faults, {poisoned} uninitialised tensors poisoned"]
    for key, count in faults.most_common():
        lines.append(f"{count:7d} x {key}")
    for key in faults:
        lines.append(f"\n-- {key}\n{examples[key]}")
    lines.append("\n== waits and copies, by line")
    for (kind, where), count in traffic.most_common(200):
        lines.append(f"{count:7d} x {volume[kind, where] / 1e6:10.3f} MB  {kind:28s} {where}")
    return "\n".join(lines)


# ---------------------------------------------------------------------------------- gsplat 1.4.0's compiled module


def _kernels() -> types.SimpleNamespace:
    """The loops of the .cu files, compiled on first use."""
    from numba import njit

    f4 = np.float32

    @njit(cache=True, error_model="numpy")
    def tiles(means2d, radii, depths, count, tile_size, tile_width, tile_height, bits, fill, per, keys, ids):  # type: ignore[no-untyped-def]
        at = 0
        for idx in range(radii.shape[0]):
            radius = f4(radii[idx])
            if radius <= 0:
                if not fill:
                    per[idx] = 0
                continue
            r, x, y = radius / f4(tile_size), means2d[idx, 0] / f4(tile_size), means2d[idx, 1] / f4(tile_size)
            x0 = min(max(0, np.int64(np.floor(x - r))), tile_width)
            y0 = min(max(0, np.int64(np.floor(y - r))), tile_height)
            x1 = min(max(0, np.int64(np.ceil(x + r))), tile_width)
            y1 = min(max(0, np.int64(np.ceil(y + r))), tile_height)
            if not fill:
                per[idx] = (y1 - y0) * (x1 - x0)
                continue
            camera = np.int64(idx // count)
            for i in range(y0, y1):
                for j in range(x0, x1):
                    keys[at] = (
                        (camera << (32 + bits)) | (np.int64(i * tile_width + j) << 32) | (depths[idx] & 0xFFFFFFFF)
                    )
                    ids[at] = idx
                    at += 1
        return at

    @njit(cache=True, error_model="numpy")
    def weigh(px, py, g, means2d, conics, opacities):  # type: ignore[no-untyped-def]
        dx, dy = means2d[g, 0] - px, means2d[g, 1] - py
        sigma = f4(0.5) * (conics[g, 0] * dx * dx + conics[g, 2] * dy * dy) + conics[g, 1] * dx * dy
        vis = np.exp(-sigma)
        alpha = min(f4(0.999), opacities[g] * vis)
        return dx, dy, sigma, vis, alpha, not (sigma < 0 or alpha < f4(1.0 / 255.0))

    @njit(cache=True, error_model="numpy")
    def ends(offsets, tile, total):  # type: ignore[no-untyped-def]
        return offsets[tile], offsets[tile + 1] if tile + 1 < offsets.shape[0] else total

    @njit(cache=True, error_model="numpy")
    def forward(means2d, conics, colors, opacities, backgrounds, masks, width, height, size, tw, th, offsets, ids,
                image, alphas, last):  # type: ignore[no-untyped-def]  # fmt: skip
        channels = colors.shape[1]
        for c in range(image.shape[0]):
            for y in range(height):
                for x in range(width):
                    tile = c * tw * th + (y // size) * tw + x // size
                    if masks.shape[0] and not masks[tile]:
                        for k in range(channels):
                            image[c, y, x, k] = backgrounds[c, k] if backgrounds.shape[0] else 0
                        continue  # alphas and last stay as they are: uninitialised
                    begin, end = ends(offsets, tile, ids.shape[0])
                    T, cur = f4(1), 0
                    for k in range(channels):
                        image[c, y, x, k] = 0
                    for n in range(begin, end):
                        g = ids[n]
                        _, _, _, _, alpha, drawn = weigh(
                            f4(x) + f4(0.5), f4(y) + f4(0.5), g, means2d, conics, opacities
                        )
                        if not drawn:
                            continue
                        after = T * (f4(1) - alpha)
                        if after <= 1e-4:
                            break
                        for k in range(channels):
                            image[c, y, x, k] += colors[g, k] * alpha * T
                        cur, T = n, after
                    alphas[c, y, x, 0] = f4(1) - T
                    if backgrounds.shape[0]:
                        for k in range(channels):
                            image[c, y, x, k] += T * backgrounds[c, k]
                    last[c, y, x] = cur

    @njit(cache=True, error_model="numpy")
    def backward(means2d, conics, colors, opacities, backgrounds, masks, width, height, size, tw, th, offsets, ids,
                 alphas, last, v_image, v_alphas, v_abs, v_means, v_conics, v_colors, v_opacities):  # type: ignore[no-untyped-def]  # fmt: skip
        channels = colors.shape[1]
        buffer = np.zeros(channels, np.float32)
        for c in range(v_image.shape[0]):
            for y in range(height):
                for x in range(width):
                    tile = c * tw * th + (y // size) * tw + x // size
                    if masks.shape[0] and not masks[tile]:
                        continue
                    begin, end = ends(offsets, tile, ids.shape[0])
                    final = f4(1) - alphas[c, y, x, 0]
                    T = final
                    buffer[:] = 0
                    for n in range(min(last[c, y, x], end - 1), begin - 1, -1):
                        g = ids[n]
                        dx, dy, _, vis, alpha, drawn = weigh(
                            f4(x) + f4(0.5), f4(y) + f4(0.5), g, means2d, conics, opacities
                        )
                        if not drawn:
                            continue
                        ra = f4(1) / (f4(1) - alpha)
                        T *= ra
                        fac = alpha * T
                        v_alpha = f4(0)
                        for k in range(channels):
                            v_colors[g, k] += fac * v_image[c, y, x, k]
                            v_alpha += (colors[g, k] * T - buffer[k] * ra) * v_image[c, y, x, k]
                        v_alpha += final * ra * v_alphas[c, y, x, 0]
                        if backgrounds.shape[0]:
                            for k in range(channels):
                                v_alpha -= final * ra * backgrounds[c, k] * v_image[c, y, x, k]
                        if opacities[g] * vis <= f4(0.999):
                            v_sigma = -opacities[g] * vis * v_alpha
                            v_conics[g, 0] += f4(0.5) * v_sigma * dx * dx
                            v_conics[g, 1] += v_sigma * dx * dy
                            v_conics[g, 2] += f4(0.5) * v_sigma * dy * dy
                            vx = v_sigma * (conics[g, 0] * dx + conics[g, 1] * dy)
                            vy = v_sigma * (conics[g, 1] * dx + conics[g, 2] * dy)
                            v_means[g, 0] += vx
                            v_means[g, 1] += vy
                            if v_abs.shape[0]:
                                v_abs[g, 0] += abs(vx)
                                v_abs[g, 1] += abs(vy)
                            v_opacities[g] += vis * v_alpha
                        for k in range(channels):
                            buffer[k] += colors[g, k] * fac

    @njit(cache=True, error_model="numpy")
    def indices(start, stop, trans, means2d, conics, opacities, width, height, size, tw, th, offsets, ids, count,
                fill, out_gaussians, out_pixels):  # type: ignore[no-untyped-def]  # fmt: skip
        found = 0
        for c in range(trans.shape[0]):
            for y in range(height):
                for x in range(width):
                    tile = c * tw * th + (y // size) * tw + x // size
                    begin, end = ends(offsets, tile, ids.shape[0])
                    batch = size * size
                    T = trans[c, y, x]
                    for n in range(begin + batch * start, min(end, begin + batch * stop)):
                        g = ids[n]
                        _, _, _, _, alpha, drawn = weigh(
                            f4(x) + f4(0.5), f4(y) + f4(0.5), g, means2d, conics, opacities
                        )
                        if not drawn:
                            continue
                        after = T * (f4(1) - alpha)
                        if after <= 1e-4:
                            break
                        if fill:
                            out_gaussians[found] = g % count
                            out_pixels[found] = y * width + x + c * width * height
                        found += 1
                        T = after
        return found

    return types.SimpleNamespace(tiles=tiles, forward=forward, backward=backward, indices=indices)


def _gsplat_module() -> types.ModuleType:
    """What `from gsplat import csrc` finds: the functions that gsplat's Python code calls."""
    module = types.ModuleType("gsplat.csrc")
    cache: list[types.SimpleNamespace] = []

    def kernels() -> types.SimpleNamespace:
        if not cache:
            cache.append(_kernels())
        return cache[0]

    class CameraModelType:
        PINHOLE, ORTHO, FISHEYE = "pinhole", "ortho", "fisheye"

    def check(dtype: torch.dtype = torch.float32, **tensors: torch.Tensor | None) -> None:
        for name, tensor in tensors.items():
            if tensor is None:
                continue
            if not is_phantom(tensor):
                _fault(RuntimeError, f"{name} must be a CUDA tensor")
            if not tensor.is_contiguous():
                _fault(RuntimeError, f"{name} must be contiguous")
            if tensor.dtype != dtype:
                _fault(RuntimeError, f"expected scalar type {dtype} but found {tensor.dtype} ({name})")

    def array(tensor: torch.Tensor | None, *shape: int, dtype: Any = np.float32) -> np.ndarray:
        if tensor is None:
            return np.empty((0,) * max(len(shape), 1), dtype)
        return np.ascontiguousarray(_raw_numpy(tensor.detach())).reshape(shape)

    def made(value: Any) -> torch.Tensor:
        return mark(value if isinstance(value, torch.Tensor) else torch.from_numpy(value))

    def project(means: Any, covars: Any, quats: Any, scales: Any, viewmats: Any, Ks: Any, width: int, height: int,
                eps2d: float, model: str) -> tuple[torch.Tensor, ...]:  # fmt: skip
        """Everything before the tests of near, far, radius and screen: differentiable."""
        from gsplat.cuda import _torch_impl as reference

        if covars is None:
            covariances, _ = reference._quat_scale_to_covar_preci(quats, scales, compute_preci=False)
        else:
            place = torch.tensor([[0, 1, 2], [1, 3, 4], [2, 4, 5]])
            covariances = covars[:, place]
        means_c, covars_c = reference._world_to_cam(means, covariances, viewmats)
        kinds = {"pinhole": reference._persp_proj, "ortho": reference._ortho_proj, "fisheye": reference._fisheye_proj}
        means2d, covars2d = kinds[model](means_c, covars_c, Ks, width, height)
        before = covars2d[..., 0, 0] * covars2d[..., 1, 1] - covars2d[..., 0, 1] * covars2d[..., 1, 0]
        covars2d = covars2d + torch.eye(2) * eps2d
        det = covars2d[..., 0, 0] * covars2d[..., 1, 1] - covars2d[..., 0, 1] * covars2d[..., 1, 0]
        compensations = torch.sqrt(torch.clamp(before / det, min=0.0))
        conics = torch.stack([covars2d[..., 1, 1] / det, -covars2d[..., 0, 1] / det, covars2d[..., 0, 0] / det], dim=-1)
        middle = (covars2d[..., 0, 0] + covars2d[..., 1, 1]) / 2
        radius = torch.ceil(3 * torch.sqrt(middle + torch.sqrt(torch.clamp(middle**2 - det, min=0.01))))
        return means2d, means_c[..., 2], conics, compensations, radius, det

    def copied(*tensors: torch.Tensor | None) -> list[torch.Tensor | None]:
        return [None if tensor is None else tensor.detach().clone() for tensor in tensors]

    def fully_fused_projection_fwd(means, covars, quats, scales, viewmats, Ks, width, height, eps2d, near_plane,
                                   far_plane, radius_clip, calc_compensations, camera_model):  # type: ignore[no-untyped-def]  # fmt: skip
        check(means=means, covars=covars, quats=quats, scales=scales, viewmats=viewmats, Ks=Ks)
        with raw(), torch.no_grad():
            means2d, depths, conics, compensations, radius, det = project(
                *copied(means, covars, quats, scales, viewmats, Ks), width, height, eps2d, camera_model
            )
            out = (depths < near_plane) | (depths > far_plane) | ~(det > 0) | (radius <= radius_clip)
            x, y = means2d.unbind(-1)
            out |= (x + radius <= 0) | (x - radius >= width) | (y + radius <= 0) | (y - radius >= height)
            radii = torch.where(out, 0, radius.nan_to_num(0, 0, 0)).to(torch.int32)
            # The kernel returns before it writes: what is there is what was in memory.
            nothing = float("nan") if Settings.poison else 0.0
            means2d[out], depths[out], conics[out] = nothing, nothing, nothing
            compensations = torch.where(out, 0.0, compensations)
        results = (radii, means2d.contiguous(), depths.contiguous(), conics.contiguous())
        return (*map(made, results), made(compensations) if calc_compensations else None)

    def fully_fused_projection_bwd(means, covars, quats, scales, viewmats, Ks, width, height, eps2d, camera_model,
                                   radii, conics, compensations, v_means2d, v_depths, v_conics, v_compensations,
                                   viewmats_requires_grad):  # type: ignore[no-untyped-def]  # fmt: skip
        check(means=means, covars=covars, quats=quats, scales=scales, viewmats=viewmats, Ks=Ks, conics=conics,
              v_means2d=v_means2d, v_depths=v_depths, v_conics=v_conics, compensations=compensations,
              v_compensations=v_compensations)  # fmt: skip
        check(torch.int32, radii=radii)
        with raw(), torch.enable_grad():
            inputs = copied(means, covars, quats, scales, viewmats)
            leaves = [x.requires_grad_() for x in inputs if x is not None]
            results = project(*inputs, Ks.detach().clone(), width, height, eps2d, camera_model)[:4]
            shown = radii.detach().clone() > 0
            upstream = copied(v_means2d, v_depths, v_conics, v_compensations)
            total = torch.zeros(())
            for value, gradient in zip(results, upstream, strict=True):
                if gradient is not None:
                    total = total + (value[shown] * gradient[shown]).sum()
            found = iter(torch.autograd.grad(total, leaves, allow_unused=True) if total.requires_grad else [None] * 9)
            grads = [None if x is None else next(found) for x in inputs]
            grads = [
                torch.zeros_like(x) if g is None and x is not None else g for x, g in zip(inputs, grads, strict=True)
            ]
        return tuple(None if g is None else made(g.contiguous()) for g in grads)

    def isect_tiles(means2d, radii, depths, camera_ids, gaussian_ids, C, tile_size, tile_width, tile_height, sort,
                    double_buffer):  # type: ignore[no-untyped-def]  # fmt: skip
        check(means2d=means2d, depths=depths)
        check(torch.int32, radii=radii)
        assert means2d.dim() == 3, "the phantom has no packed projection"
        with raw():
            count = means2d.shape[1]
            n_tiles = tile_width * tile_height
            bits = int(np.floor(np.log2(n_tiles))) + 1
            assert bits + int(np.floor(np.log2(C))) + 1 <= 32
            per = np.zeros(C * count, np.int32)
            fixed = (array(means2d, C * count, 2), array(radii, C * count, dtype=np.int32))
            z = array(depths, C * count).view(np.int32).astype(np.int64)
            grid = (max(count, 1), tile_size, tile_width, tile_height, bits)
            none = (np.empty(0, np.int64), np.empty(0, np.int32))
            kernels().tiles(*fixed, z, *grid, False, per, *none)
            _note("wait: isect_tiles")  # for the number of pairs
            total = int(per.sum(dtype=np.int64))
            keys, ids = np.empty(total, np.int64), np.empty(total, np.int32)
            kernels().tiles(*fixed, z, *grid, True, per, keys, ids)
            if sort:
                order = np.argsort(keys, kind="stable")
                keys, ids = keys[order], ids[order]
        return made(per.reshape(C, count)), made(keys), made(ids)

    def isect_offset_encode(isect_ids, C, tile_width, tile_height):  # type: ignore[no-untyped-def]
        check(torch.int64, isect_ids=isect_ids)
        with raw():
            n_tiles = tile_width * tile_height
            bits = int(np.floor(np.log2(n_tiles))) + 1
            high = array(isect_ids, -1, dtype=np.int64) >> 32
            tile = (high >> bits) * n_tiles + (high & ((1 << bits) - 1))
            offsets = np.searchsorted(tile, np.arange(C * n_tiles)).astype(np.int32)
        return made(offsets.reshape(C, tile_height, tile_width))

    def layout(means2d, conics, colors, opacities, backgrounds, masks, width, height, tile_size, offsets, flatten_ids):  # type: ignore[no-untyped-def]
        supported = (1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 64, 65, 128, 129, 256, 257, 512, 513)
        if colors.shape[-1] not in supported:
            raise RuntimeError(f"Unsupported number of channels: {colors.shape[-1]}")
        check(means2d=means2d, conics=conics, colors=colors, opacities=opacities, backgrounds=backgrounds)
        check(torch.int32, tile_offsets=offsets, flatten_ids=flatten_ids)
        check(torch.bool, masks=masks)
        total = opacities.numel()
        C, th, tw = offsets.shape
        return (
            array(means2d, total, 2), array(conics, total, 3), array(colors, total, colors.shape[-1]),
            array(opacities, total), array(backgrounds, C, -1), array(masks, -1, dtype=np.bool_), width, height,
            tile_size, tw, th, array(offsets, -1, dtype=np.int32), array(flatten_ids, -1, dtype=np.int32),
        )  # fmt: skip

    def rasterize_to_pixels_fwd(*arguments):  # type: ignore[no-untyped-def]
        colors, width, height, offsets = arguments[2], arguments[6], arguments[7], arguments[9]
        with raw():
            arrays = layout(*arguments)
            C = offsets.shape[0]
            image = np.full((C, height, width, colors.shape[-1]), np.nan, np.float32)
            alphas = np.full((C, height, width, 1), np.nan, np.float32)
            last = np.full((C, height, width), 2**31 - 9, np.int32)
            kernels().forward(*arrays, image, alphas, last)
        return made(image), made(alphas), made(last)

    def rasterize_to_pixels_bwd(means2d, conics, colors, opacities, backgrounds, masks, width, height, tile_size,
                                offsets, flatten_ids, alphas, last, v_colors, v_alphas, absgrad):  # type: ignore[no-untyped-def]  # fmt: skip
        check(v_render_colors=v_colors, v_render_alphas=v_alphas, render_alphas=alphas)
        check(torch.int32, last_ids=last)
        shared = tile_size * tile_size * (4 + 12 + 12 + 4 * colors.shape[-1])
        if shared > 99 * 1024:
            _fault(RuntimeError, f"Failed to set maximum shared memory size (requested {shared} bytes): RTX 30 and 40")
        with raw():
            arrays = layout(means2d, conics, colors, opacities, backgrounds, masks, width, height, tile_size, offsets,
                            flatten_ids)  # fmt: skip
            results = [np.zeros_like(a) for a in (arrays[0] if absgrad else np.empty((0, 2), np.float32), *arrays[:4])]
            v_abs, v_means, v_conics, v_values, v_opacities = results
            kernels().backward(
                *arrays, array(alphas, *alphas.shape), array(last, *last.shape, dtype=np.int32),
                array(v_colors, *v_colors.shape), array(v_alphas, *v_alphas.shape), v_abs, v_means, v_conics,
                v_values, v_opacities,
            )  # fmt: skip
        return (
            made(v_abs.reshape(means2d.shape)) if absgrad else None, made(v_means.reshape(means2d.shape)),
            made(v_conics.reshape(conics.shape)), made(v_values.reshape(colors.shape)),
            made(v_opacities.reshape(opacities.shape)),
        )  # fmt: skip

    def rasterize_to_indices_in_range(start, stop, transmittances, means2d, conics, opacities, width, height,
                                      tile_size, offsets, flatten_ids):  # type: ignore[no-untyped-def]  # fmt: skip
        check(means2d=means2d, conics=conics, opacities=opacities, transmittances=transmittances)
        check(torch.int32, tile_offsets=offsets, flatten_ids=flatten_ids)
        if not (0 <= start < 2**32 and 0 <= stop < 2**32):
            raise TypeError("incompatible function arguments: uint32")
        with raw():
            total, (C, th, tw) = opacities.numel(), offsets.shape
            fixed = (
                start, stop, array(transmittances, C, height, width), array(means2d, total, 2),
                array(conics, total, 3), array(opacities, total), width, height, tile_size, tw, th,
                array(offsets, -1, dtype=np.int32), array(flatten_ids, -1, dtype=np.int32), max(means2d.shape[1], 1),
            )  # fmt: skip
            none = np.empty(0, np.int64)
            _note("wait: rasterize_to_indices_in_range")  # for the number of pairs
            found = kernels().indices(*fixed, False, none, none)
            gaussians, pixels = np.empty(found, np.int64), np.empty(found, np.int64)
            kernels().indices(*fixed, True, gaussians, pixels)
        return made(gaussians), made(pixels)

    def harmonics(degree: int, dirs: torch.Tensor, coeffs: torch.Tensor) -> torch.Tensor:
        from gsplat.cuda import _torch_impl as reference

        return reference._spherical_harmonics(degree, dirs, coeffs)

    def compute_sh_fwd(degree, dirs, coeffs, masks):  # type: ignore[no-untyped-def]
        check(dirs=dirs, coeffs=coeffs)
        check(torch.bool, masks=masks)
        with raw(), torch.no_grad():
            colors = harmonics(degree, *copied(dirs, coeffs))
            if masks is not None and Settings.poison:
                colors[~masks.detach().clone()] = float("nan")
        return made(colors.contiguous())

    def compute_sh_bwd(num_bases, degree, dirs, coeffs, masks, v_colors, compute_v_dirs):  # type: ignore[no-untyped-def]
        check(dirs=dirs, coeffs=coeffs, v_colors=v_colors)
        with raw(), torch.enable_grad():
            d, c, v = copied(dirs, coeffs, v_colors)
            shown = torch.ones(d.shape[:-1], dtype=torch.bool) if masks is None else masks.detach().clone()
            d.requires_grad_(), c.requires_grad_()
            v_d, v_c = torch.autograd.grad((harmonics(degree, d, c)[shown] * v[shown]).sum(), (d, c), allow_unused=True)
            v_d, v_c = (torch.zeros_like(x) if g is None else g for x, g in ((d, v_d), (c, v_c)))
        return made(v_c.contiguous()), made(v_d.contiguous()) if compute_v_dirs else None

    def quat_scale_to_covar_preci_fwd(quats, scales, compute_covar, compute_preci, triu):  # type: ignore[no-untyped-def]
        from gsplat.cuda import _torch_impl as reference

        check(quats=quats, scales=scales)
        with raw(), torch.no_grad():
            results = reference._quat_scale_to_covar_preci(
                *copied(quats, scales), compute_covar=compute_covar, compute_preci=compute_preci, triu=triu
            )
        return tuple(None if r is None else made(r.contiguous()) for r in results)

    for value in (
        fully_fused_projection_fwd, fully_fused_projection_bwd, isect_tiles, isect_offset_encode,
        rasterize_to_pixels_fwd, rasterize_to_pixels_bwd, rasterize_to_indices_in_range, compute_sh_fwd,
        compute_sh_bwd, quat_scale_to_covar_preci_fwd, CameraModelType,
    ):  # fmt: skip
        setattr(module, value.__name__, value)
    module.PINHOLE, module.ORTHO, module.FISHEYE = "pinhole", "ortho", "fisheye"  # type: ignore[attr-defined]
    return module


# ---------------------------------------------------------------------------------------------------- pytest plugin


def pytest_addoption(parser: Any) -> None:
    """Options of the plugin."""
    group = parser.getgroup("phantom GPU")
    group.addoption("--phantom-default", action="store_true", help="test files make CUDA tensors by default")
    group.addoption("--phantom-record", action="store_true", help="note faults and go on")
    group.addoption("--phantom-report", default=None, help="file for faults, waits and copies")
    group.addoption("--phantom-branches", default=None, help="file for what `device_branches` has seen")


def pytest_configure(config: Any) -> None:
    """Install before test files are imported."""
    tests = (str(config.rootpath / "tests"),)
    default = config.getoption("--phantom-default")
    install(
        record=config.getoption("--phantom-record") or None,
        project=os.environ.get("PHANTOM_PROJECT", str(config.rootpath)),
        default_in=tests if default else (),
        lenient=tests,
    )
    _write_at_exit(config.getoption("--phantom-report"))
    branches = config.getoption("--phantom-branches")
    if branches:
        import device_branches

        device_branches.install("gseg_ns", config.rootpath)
        atexit.register(lambda: Path(branches).write_text(json.dumps(sorted(device_branches.seen)), encoding="utf-8"))


def _write_at_exit(path: str | None) -> None:
    def write() -> None:
        with raw():
            text = report()
        if path:
            Path(path).write_text(text, encoding="utf-8")
        else:
            sys.stderr.write(text + "\n")

    atexit.register(write)


def main() -> None:
    """Run a script on the phantom GPU."""
    arguments = sys.argv[1:]
    options: dict[str, Any] = {"record": None, "report": None}
    while arguments and arguments[0].startswith("--"):
        name = arguments.pop(0)
        if name == "--record":
            options["record"] = True
        elif name == "--report":
            options["report"] = arguments.pop(0)
        elif name == "--project":
            options["project"] = arguments.pop(0)
        elif name == "--sitecustomize":
            sys.stdout.write("import phantom_cuda; phantom_cuda.install()   # as sitecustomize.py on PYTHONPATH\n")
            return
        else:
            raise SystemExit(__doc__)
    if not arguments:
        raise SystemExit(__doc__)
    # As `phantom_cuda`, not as `__main__`: there must be one copy of the state.
    import phantom_cuda

    phantom_cuda.install(options["record"], options.get("project", ""))
    phantom_cuda._write_at_exit(options["report"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers are ended this way, and shall report as well
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    main()
