"""What becomes of a GPU without gsplat's kernels: a missing compiler, one of another CUDA, no driver."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gseg_ns import gpu
from gseg_ns.cli.doctor import Doctor, _device, _kernels, _viewer, _weights
from gseg_ns.errors import GsegError
from gseg_ns.method_configs.gaga import gaga
from gseg_ns.models.budget import CPU_MAX_GAUSSIANS, gpu_budget
from gseg_ns.models.schedule import AUTO
from gseg_ns.rendering import threads


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    for question in (gpu.missing, gpu.fault):
        question.cache_clear()
    yield
    for question in (gpu.missing, gpu.fault):
        question.cache_clear()


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A GPU with a driver and without anything else; the folder that a CUDA compiler would be in."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "a card")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 9))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (20 << 30, 24 << 30))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.delitem(sys.modules, "gsplat.csrc", raising=False)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gsplat.csrc" else find(name))
    monkeypatch.setattr(gpu.shutil, "which", lambda name: "/usr/bin/c++" if name == "c++" else None)
    monkeypatch.setattr(gpu, "SYSTEM_CUDA", tmp_path / "none")
    monkeypatch.setattr(gpu.site, "getsitepackages", lambda: [])
    monkeypatch.setattr(gpu.site, "getusersitepackages", lambda: str(tmp_path / "none"))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    return tmp_path / "cuda/bin"


def put_compiler(folder: Path, version: str) -> None:
    folder.mkdir(parents=True)
    (folder / "nvcc").write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {version}, V{version}.76'\n")
    (folder / "nvcc").chmod(0o755)


def test_without_a_compiler_all_runs_on_the_cpu_and_one_line_says_what_to_install(card: Path) -> None:
    assert gpu.best_device() == "cpu"
    told = gpu.unused()
    assert told is not None
    assert "no CUDA compiler" in told
    assert "pip install 'cuda-toolkit[nvcc,nvvm,crt,cccl]==13.0.*'" in told
    gpu.refuse_on_cpu(50_000)
    with pytest.raises(GsegError, match=r"3000000 Gaussians are too many for the CPU.*cuda-toolkit"):
        gpu.refuse_on_cpu(3_000_000)


def test_the_compiler_of_another_cuda_will_not_do(card: Path) -> None:
    put_compiler(card, "12.4")
    missing = gpu.missing()
    assert missing is not None
    assert "of CUDA 12.4, while torch is of CUDA 13.0" in missing
    assert gpu.best_device() == "cpu"


def test_with_its_compiler_the_gpu_is_used(card: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_compiler(card, "13.0")
    assert gpu.missing() is None
    assert gpu.best_device() == "cuda"
    assert [f.state for f in _kernels(Doctor())] == ["ok", "note"], "not built yet"
    monkeypatch.setattr(gpu.shutil, "which", lambda name: None)
    gpu.missing.cache_clear()
    assert "no C++ compiler" in (gpu.missing() or "")


def test_built_kernels_need_no_compiler(card: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = Path(gpu.os.environ["TORCH_EXTENSIONS_DIR"]) / "gsplat_cuda"
    built.mkdir(parents=True)
    (built / "gsplat_cuda.so").write_bytes(b"")
    assert gpu.missing() is None
    assert [finding.state for finding in _kernels(Doctor())] == ["note", "ok"]


def test_the_doctor_says_what_to_install(card: Path, capsys: pytest.CaptureFixture[str]) -> None:
    findings = [*_device(Doctor()), *_kernels(Doctor())]
    wrong = [finding for finding in findings if finding.state == "wrong"]
    assert [finding.name for finding in wrong] == ["gsplat"]
    assert "cuda-toolkit" in wrong[0].remedy
    with pytest.raises(GsegError, match="Something is wrong"):
        Doctor(port=0).main()
    assert "cuda-toolkit" in capsys.readouterr().out


def test_cards_that_gsplat_1_4_predates(card: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (12, 0))
    monkeypatch.setattr("gseg_ns.cli.doctor._version", lambda package: "1.4.0")
    (finding,) = (finding for finding in _device(Doctor()) if finding.name == "device")
    assert finding.state == "wrong"
    assert "pip install --no-deps gsplat==1.5.3" in finding.remedy
    monkeypatch.setattr("gseg_ns.cli.doctor._version", lambda package: "1.5.3")
    assert all(finding.state == "ok" for finding in _device(Doctor()))


@pytest.mark.parametrize(("driver", "state"), [(None, "note"), ("535.1", "wrong")])
def test_no_driver_and_one_that_torch_cannot_use(
    driver: str | None, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr("gseg_ns.cli.doctor._driver", lambda: driver)
    (finding,) = _device(Doctor())
    assert finding.state == state
    assert "nvidia.com/drivers" in finding.remedy
    assert gpu.unused() is None
    assert gpu.best_device() == "cpu"


def test_a_port_that_is_taken_and_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        (finding,) = _viewer(Doctor(port=other.getsockname()[1]))
        assert finding.state == "wrong"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sam_vit_b.pth").write_bytes(b"")
    assert next(iter(_weights(Doctor()))).said == "sam_vit_b.pth"


def test_the_budget_follows_free_memory() -> None:
    assert 4e6 < gpu_budget(20 << 30, 16) < 8e6
    assert gpu_budget(40 << 30, 16) == pytest.approx(2 * gpu_budget(20 << 30, 16), rel=1e-5)
    assert gpu_budget(20 << 30, 32) < gpu_budget(20 << 30, 16)
    assert gpu_budget(0, 16) == CPU_MAX_GAUSSIANS


def test_training_on_the_cpu_of_a_machine_with_a_gpu_keeps_the_budget_and_threads_of_the_cpu(
    ball_room: Path, make_trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured: list[None] = []
    monkeypatch.setattr(threads, "configure", lambda: configured.append(None))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    trainer = make_trainer(gaga, ball_room, max_gaussians=AUTO)  # --machine.device-type cpu, the default here
    assert trainer.pipeline.model.device.type == "cpu"
    assert trainer.pipeline.model.strategy.max_gaussians == CPU_MAX_GAUSSIANS
    assert configured
