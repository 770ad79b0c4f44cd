from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.models.splatfacto import SplatfactoModel, get_viewmat

from gseg_ns import compat


def test_checkpoints_with_numpy_scalars_load_without_unpickling_code(tmp_path: Path) -> None:
    compat.allow_checkpoint_scalars()
    path = tmp_path / "step-000000001.ckpt"
    torch.save({"schedulers": {"means": {"_last_lr": [np.float64(0.5)]}}}, path)
    assert torch.load(path, weights_only=True)["schedulers"]["means"]["_last_lr"] == [0.5]


def test_modules_that_are_only_named_come_when_they_are_asked() -> None:
    code = (
        "import os, sys, gseg_ns.compat, torch, torchvision\n"
        "later = ('torchvision.models', 'torchvision.datasets', 'matplotlib', 'tensorly', 'requests')\n"
        "assert not any(name in sys.modules for name in later)\n"
        "from nerfstudio.utils.colormaps import apply_colormap\n"
        "assert apply_colormap(torch.rand(4, 4, 1)).shape == (4, 4, 3) and 'matplotlib' in sys.modules\n"
        "import tensorly\n"
        "assert tensorly.get_backend() == 'pytorch'\n"
        "assert torchvision.models.alexnet.__module__ == 'torchvision.models.alexnet'\n"
        "import torchvision.datasets\n"
        "assert torchvision.datasets.ImageFolder"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_copied_function_sees_other_globals_and_the_original_does_not() -> None:
    marker = object()
    copy = compat.with_globals(SplatfactoModel.get_outputs, rasterization=marker)
    assert copy.__globals__["rasterization"] is marker
    assert SplatfactoModel.get_outputs.__globals__["rasterization"] is not marker
    with pytest.raises(KeyError, match="no_such_name"):
        compat.with_globals(SplatfactoModel.get_outputs, no_such_name=1)


def test_the_view_matrix_needs_no_compiler() -> None:
    function = compat.eager(get_viewmat)
    pose = torch.eye(4)[None, :3]
    expected = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))[None]
    torch.testing.assert_close(function(pose), expected)


def test_intrinsics_of_one_camera_go_to_the_device_in_use() -> None:
    cameras = Cameras(torch.eye(4)[None, :3], fx=10.0, fy=10.0, cx=4.0, cy=4.0, width=8, height=8)
    patched = compat.intrinsics_on(cameras[:1], torch.device("cpu"))
    assert patched.get_intrinsics_matrices().cuda().device.type == "cpu"
    assert "cuda" not in torch.ones(1).__dict__, "only this camera's matrix, no other tensor"


def test_the_batch_of_a_camera_needs_none_of_torchs_symbolic_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    compat.quick_shapes()

    def refuse(*_: object) -> None:
        raise AssertionError("a second of imports")

    monkeypatch.setattr(torch, "broadcast_shapes", refuse)
    poses = torch.eye(4)[None, :3].expand(5, 3, 4)
    cameras = Cameras(poses, fx=10.0, fy=torch.full((5, 1), 9.0), cx=4.0, cy=4.0, width=8, height=8)
    assert cameras.shape == torch.Size([5])
    assert cameras.fx.shape == (5, 1)
    assert cameras[2].shape == torch.Size([])
    assert isinstance(cameras.shape, torch.Size)


def test_lpips_without_its_weights_is_nan_and_asked_for_once() -> None:
    calls = []

    def metric(**_: object) -> torch.nn.Module:
        calls.append(1)
        raise OSError("no network")

    lazy = compat.LazyLpips(metric, normalize=True)
    image = torch.zeros(1, 3, 8, 8)
    assert torch.isnan(lazy(image, image))
    assert torch.isnan(lazy(image, image))
    assert calls == [1]


def test_lpips_with_weights_is_used_and_left_out_of_checkpoints() -> None:
    class Metric(torch.nn.Module):
        def __init__(self, normalize: bool) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return (a - b).abs().mean() * self.weight

    lazy = compat.LazyLpips(Metric, normalize=True)
    assert lazy(torch.ones(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)).item() == 1
    assert lazy.state_dict() == {}


@pytest.mark.parametrize("kind", ["Confirm", "Prompt", "IntPrompt"])
def test_a_question_without_a_terminal_is_a_message(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from rich import prompt

    from gseg_ns.errors import GsegError

    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(GsegError, match="asks 'Make smaller copies"), compat.no_questions():
        getattr(prompt, kind).ask("Make smaller copies?")
    with pytest.raises(EOFError):  # outside of the block nothing has changed
        getattr(prompt, kind).ask("Make smaller copies?")


def test_a_users_error_at_the_end_of_a_process_is_its_message() -> None:
    import subprocess
    import sys

    code = (
        "from gseg_ns.compat import tell_user_errors\nfrom gseg_ns.errors import GsegError\n"
        "tell_user_errors(); tell_user_errors()\nraise GsegError('scene [0] is gone')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Error: scene [0] is gone" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_what_upstream_compiles_is_compiled_when_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    from nerfstudio.utils import misc

    compiled = []

    def torch_compile(**options: object) -> object:
        return lambda function: compiled.append((function, options)) or (lambda value: function(value) + 1)

    monkeypatch.setattr(misc, "torch_compile", torch_compile)
    with compat.compiled_when_called():
        double = misc.torch_compile(dynamic=True)(lambda value: 2 * value)
    assert misc.torch_compile is torch_compile
    assert compat.eager(double)(3) == 6
    assert not compiled
    assert [double(3), double(4)] == [7, 9]
    assert [options for _, options in compiled] == [{"dynamic": True}]


def test_splatfacto_is_built_without_torchmetrics(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "torchmetrics"]:
        monkeypatch.delitem(sys.modules, name)
    with compat.metrics_when_asked():
        from torchmetrics.image import PeakSignalNoiseRatio
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        assert isinstance(PeakSignalNoiseRatio(data_range=1.0), compat.Psnr)
        assert isinstance(LearnedPerceptualImagePatchSimilarity(normalize=True), compat.LazyLpips)
    assert not [name for name in sys.modules if name.split(".")[0] == "torchmetrics"]


def test_a_full_disk_at_the_end_of_a_process_is_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import errno
    import sys

    told: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda _, error, __: told.append(error))
    compat.tell_user_errors()
    sys.excepthook(OSError, OSError(errno.ENOSPC, "No space left on device", "a.ply"), None)
    assert "Cannot use a.ply: No space left on device" in capsys.readouterr().err
    other = OSError(errno.ENOENT, "No such file")
    sys.excepthook(OSError, other, None)
    assert told == [other]


def test_commands_start_without_what_they_do_not_use() -> None:
    import subprocess
    import sys

    code = (
        "import sys; import gseg_ns.method_configs.gaga, gseg_ns.runs.lifted\n"
        "heavy = [name for name in ('torch._dynamo', 'torch._inductor', 'tensorboard', 'torchmetrics', 'sklearn')"
        " if name in sys.modules]; assert not heavy, heavy\n"
        "import torch._dynamo.utils; assert torch._dynamo.utils.__file__\n"
        "from torch.utils.tensorboard import SummaryWriter; assert isinstance(SummaryWriter, type)\n"
        "from nerfstudio.utils import writer; import tempfile\n"
        "assert isinstance(writer.SummaryWriter(log_dir=tempfile.mkdtemp()), SummaryWriter)\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
