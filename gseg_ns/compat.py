"""What Nerfstudio 1.1.5 lacks to run on a machine without CUDA, without network, or with a current torch.

Each function states the fault it works around; nothing here changes the state of torch or Nerfstudio for longer than a
block, except `allow_checkpoint_scalars`, which widens what torch may read from a checkpoint by four harmless types, and
`quick_shapes`, by which cameras have the shapes that they had.
"""

from __future__ import annotations

import errno
import functools
import importlib
import os
import sys
import types
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.markup import escape
from torch import Tensor, nn

from gseg_ns import terminal
from gseg_ns.errors import GsegError
from gseg_ns.mistyped import understand
from gseg_ns.transfer import upload

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras

_NAMED_ONLY = ("torchvision.models", "torchvision.datasets", "matplotlib", "tensorly", "requests")
"""Modules that Nerfstudio and torchvision import beside others and use in few functions: a fifth of a start."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS}
"""Of errors of the system that users can mend: a full disk, no permission."""


def allow_checkpoint_scalars() -> None:
    """Let `torch.load` read Nerfstudio's checkpoints under torch >= 2.6.

    Nerfstudio calls `torch.load` without `weights_only`, whose default became True; its scheduler state holds a numpy
    float. Upstream: https://github.com/nerfstudio-project/nerfstudio/issues/3683
    """
    if not hasattr(torch.serialization, "add_safe_globals"):
        return
    try:
        from numpy._core import multiarray
    except ImportError:  # numpy 1
        from numpy.core import multiarray  # type: ignore[no-redef]
    # A checkpoint written under the other major version of numpy names `scalar` by the other path.
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    allowed: list[Any] = [(multiarray.scalar, name) for name in names]
    torch.serialization.add_safe_globals([*allowed, np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType])


def _import_upstream() -> None:
    """Import what all of Nerfstudio imports, without what hardly a command uses: half of the time of its start.

    torchvision asks torch's compiler one question, and Nerfstudio's writer names TensorBoard's class; both get a
    stand-in that imports the real thing when it is called. Modules that are only named get one that is imported when
    something of it is asked for. This module is the first that our packages import which bring Nerfstudio.
    """

    def is_compile_supported(*args: Any) -> bool:
        from torch._dynamo.utils import is_compile_supported

        return bool(is_compile_supported(*args))

    def summary_writer(*args: Any, **kwargs: Any) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(*args, **kwargs)

    contents: dict[str, dict[str, Any]] = {
        "torch._dynamo": {"__path__": []},
        "torch._dynamo.utils": {"is_compile_supported": is_compile_supported},
        "torch.utils.tensorboard": {"SummaryWriter": summary_writer},
    }
    stand_ins = {name: types.ModuleType(name) for name in contents}
    if any(name in sys.modules for name in contents):
        stand_ins.clear()
    for name in stand_ins:
        vars(stand_ins[name]).update(contents[name])
    stand_ins |= {name: _Later(name) for name in _NAMED_ONLY if name not in sys.modules}
    if "tensorly" in stand_ins:
        # What it is told where it is imported, it reads here when it is.
        stand_ins["tensorly"].set_backend = functools.partial(os.environ.setdefault, "TENSORLY_BACKEND")  # type: ignore[attr-defined]
    with _in_their_place(stand_ins):
        import nerfstudio.configs.base_config
        import nerfstudio.model_components.lib_bilagrid
        import nerfstudio.process_data.colmap_utils
        import nerfstudio.utils.colormaps  # noqa: F401
        import torchvision  # noqa: F401


class _Later(types.ModuleType):
    """A module that is imported when something of it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or sys.modules.get(self.__name__) is self:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(self.__name__), name)


@contextmanager
def _in_their_place(stand_ins: dict[str, types.ModuleType]) -> Iterator[None]:
    """Within this block, imports find other modules."""
    originals = {name: sys.modules.get(name) for name in stand_ins}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, module in originals.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def with_globals(function: Callable[..., Any], **replacements: Any) -> Callable[..., Any]:
    """Return a copy of `function` that sees other module globals; the original is untouched.

    This lets Splatfacto's own `get_outputs` run, unmodified and uncopied, with our `rasterization`.

    Raises:
        KeyError: `function` does not use one of the names, so that an upstream change is noticed and not ignored.
    """
    for name in replacements:
        if name not in function.__globals__:
            raise KeyError(f"{function.__qualname__} has no global {name!r}: unsupported version of its package")
    copy = types.FunctionType(
        function.__code__,
        {**function.__globals__, **replacements},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = getattr(function, "__kwdefaults__", None)
    return copy


def eager(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the Python function inside a `torch.compile`d one, which needs a C++ compiler at run time."""
    return getattr(function, "_torchdynamo_orig_callable", function)


@contextmanager
def compiled_when_called() -> Iterator[None]:
    """Within this block, a function that Nerfstudio decorates to be compiled is compiled at its first call.

    The decorator alone imports torch's compiler: a third of the start of a command that compiles nothing.
    """
    from nerfstudio.utils import misc

    original = misc.torch_compile

    def torch_compile(*args: Any, **kwargs: Any) -> Any:
        if args:
            return original(*args, **kwargs)

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(function)
            def compiled(*given: Any, **named: Any) -> Any:
                if not made:
                    made.append(original(**kwargs)(function))
                return made[0](*given, **named)

            made: list[Callable[..., Any]] = []
            compiled._torchdynamo_orig_callable = function  # type: ignore[attr-defined]
            return compiled

        return decorate

    misc.torch_compile = torch_compile
    try:
        yield
    finally:
        misc.torch_compile = original


def intrinsics_on(camera: Cameras, device: torch.device) -> Cameras:
    """Make `camera.get_intrinsics_matrices().cuda()`, which Splatfacto calls, a copy to `device`, whatever that is.

    Only this one camera object is touched: `Tensor.cuda` itself stays as it is.
    """

    def get_intrinsics_matrices() -> Tensor:
        intrinsics = type(camera).get_intrinsics_matrices(camera)
        intrinsics.cuda = lambda *_, **__: upload(intrinsics, device)  # type: ignore[method-assign]
        return intrinsics

    camera.get_intrinsics_matrices = get_intrinsics_matrices  # type: ignore[method-assign]
    return camera


class Torch:
    """torch, as a module's global, with some functions replaced."""

    def __init__(self, **replacements: Callable[..., Any]) -> None:
        """Replace functions of torch by name."""
        self.__dict__.update(replacements)

    def __getattr__(self, name: str) -> Any:
        """Everything else is torch's."""
        return getattr(torch, name)


def quick_shapes() -> None:
    """Let Nerfstudio's cameras ask NumPy for the shape of their batch.

    torch's own answer imports its symbolic shapes with all of SymPy, a second of every command that has a camera.
    Upstream: https://github.com/nerfstudio-project/nerfstudio/blob/v1.1.5/nerfstudio/utils/tensor_dataclass.py
    """
    from nerfstudio.utils.tensor_dataclass import TensorDataclass

    def broadcast_shapes(*shapes: Any) -> torch.Size:
        return torch.Size(np.broadcast_shapes(*shapes))

    quick = with_globals(TensorDataclass.__post_init__, torch=Torch(broadcast_shapes=broadcast_shapes))
    TensorDataclass.__post_init__ = quick  # type: ignore[method-assign]


class Psnr(nn.Module):
    """Peak signal-to-noise ratio of images in [0, 1].

    torchmetrics' object counts on the side, and sends a number to the GPU, in every step of training.
    """

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Return the ratio in decibels of two tensors of one shape."""
        return -10.0 * (predicted - target).square().mean().log10()


class LazyLpips(nn.Module):
    """LPIPS that fetches its AlexNet weights when first asked, not when the model is built.

    Splatfacto's constructor downloads them, so that offline even training fails. Where the weights cannot be had the
    metric is NaN, and one line says so where Nerfstudio's lines go.
    """

    def __init__(self, metric: Callable[..., nn.Module], **kwargs: Any) -> None:
        super().__init__()
        self._make = lambda: metric(**kwargs)
        self._metric: nn.Module | None = None
        self._failed = False

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Return the distance of two image batches [B, 3, H, W] in [0, 1], or NaN."""
        if self._metric is None and not self._failed:
            try:
                self._metric = self._make().to(predicted.device)
            except Exception as error:  # torchvision raises URLError, RuntimeError or OSError
                self._failed = True
                from nerfstudio.utils.rich_utils import CONSOLE

                CONSOLE.log(f"LPIPS is left out: its weights could not be loaded ({error}).", markup=False)
        if self._metric is None:
            return predicted.new_tensor(float("nan"))
        return self._metric(predicted, target)

    def __setattr__(self, name: str, value: Any) -> None:
        """Keep the metric out of the module tree, so that no checkpoint carries or expects AlexNet."""
        if name == "_metric":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)


@contextmanager
def metrics_when_asked() -> Iterator[None]:
    """Within this block, Splatfacto's constructor gets its metrics without torchmetrics.

    Importing that brings transformers and scikit-learn along: a quarter of the start of a command. LPIPS is built when
    it is first asked (see `LazyLpips`), and the other is `Psnr`.
    """

    def lpips(**kwargs: Any) -> nn.Module:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        return LearnedPerceptualImagePatchSimilarity(**kwargs)

    image, lpip = types.ModuleType("torchmetrics.image"), types.ModuleType("torchmetrics.image.lpip")
    image.PeakSignalNoiseRatio = lambda **_: Psnr()  # type: ignore[attr-defined]
    lpip.LearnedPerceptualImagePatchSimilarity = lambda **kwargs: LazyLpips(lpips, **kwargs)  # type: ignore[attr-defined]
    with _in_their_place({module.__name__: module for module in (image, lpip)}):
        yield


def tell_user_errors() -> None:
    """Let a `GsegError` that reaches the end of a process be its message, and no traceback. May be called again.

    Nerfstudio's own commands (`ns-viewer`, `ns-render`, `ns-export`, `ns-eval`) catch none. Neither do they where a
    disk is full or a folder may not be written to.
    """
    if getattr(sys.excepthook, "tells_user_errors", False):
        return
    before = sys.excepthook

    def tell(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            where = "Cannot write" if error.filename is None else f"Cannot use {error.filename}"
            text = f"{where}: {error.strerror}. Check free space and permissions; the last file written may be half."
        elif isinstance(error, GsegError):
            text = str(error)
        else:
            before(kind, error, trace)
            return
        terminal.ERRORS.print(f"[bold red]Error:[/] {escape(text)}")

    tell.tells_user_errors = True  # type: ignore[attr-defined]
    sys.excepthook = tell


def answer_mistyped_commands(ours: Callable[[], Collection[str]]) -> None:
    """Let `ns-train` answer a wrong method, or a wrong option of one of ours, in a few lines. May be called again.

    tyro says hundreds of them. It is left as it is for methods of others and for what is no `ns-train`.

    Args:
        ours: tells the names of our methods.
    """
    import tyro

    parse = tyro.cli
    if Path(sys.argv[0]).stem != "ns-train" or getattr(parse, "answers_briefly", False):
        return

    @functools.wraps(parse)
    def cli(kind: Any, *, args: Sequence[str] | None = None, **options: Any) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        from nerfstudio.configs.method_configs import all_methods

        if not given or (given[0] in all_methods and given[0] not in ours()):
            return parse(kind, args=args, **options)
        return understand(parse, kind, given, **options)

    cli.answers_briefly = True  # type: ignore[attr-defined]
    tyro.cli = cli  # type: ignore[assignment]


@contextmanager
def no_questions() -> Iterator[None]:
    """Within this block, a question on the terminal of a process without one is a message, and not a traceback.

    Nerfstudio's parsers ask with rich whether to make smaller photographs, or a point cloud.

    Raises:
        GsegError: a question was asked.
    """
    from rich.prompt import PromptBase

    if sys.stdin is not None and sys.stdin.isatty():
        yield
        return
    original = PromptBase.__call__

    def refuse(self: PromptBase[Any], **_: Any) -> Any:
        question = " ".join(str(self.prompt).split())
        raise GsegError(
            f"Nerfstudio asks {question!r}, and there is no terminal to answer on. Leave the dataparser out of the "
            "command (gseg-data reads the scene without questions), or answer once on a terminal."
        )

    PromptBase.__call__ = refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        PromptBase.__call__ = original  # type: ignore[method-assign]


_import_upstream()
