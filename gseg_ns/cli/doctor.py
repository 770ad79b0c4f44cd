"""`gseg doctor`: what this machine has, what it lacks, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from gseg_ns.cli.console import CONSOLE
from gseg_ns.errors import GsegError

NEWER = "pip install 'torch>=2.7' torchvision && pip install --no-deps gsplat==1.5.3"
"""What owners of a card newer than gsplat 1.4 run; pip does not look at Nerfstudio's pin without dependencies."""


class Finding(NamedTuple):
    """What was found of one thing."""

    name: str
    state: Literal["ok", "note", "wrong"]
    """A note is something that is not there and need not be."""
    said: str
    remedy: str = ""


@dataclass
class Doctor:
    """Look at device, driver, compiler, gsplat's kernels, Nerfstudio, viewer port and weights; say what to do."""

    build: bool = False
    """Build gsplat's kernels now if they are not built, with the compiler's own messages. Takes minutes, once."""
    port: int = 7007
    """Port of the viewer (--viewer.websocket-port of ns-train and ns-viewer)"""

    def main(self) -> None:
        """Print a line a finding; exit with status 1 if anything is wrong."""
        found = [finding for check in CHECKS for finding in check(self)]
        width = max(len(finding.name) for finding in found)
        marks = {"ok": "[green]ok   [/]", "note": "[cyan]note [/]", "wrong": "[red]wrong[/]"}
        for finding in found:
            CONSOLE.print(f"{marks[finding.state]} {finding.name:{width}}  ", end="")
            CONSOLE.print(finding.said, markup=False)
            if finding.remedy:
                CONSOLE.print(f"      {'':{width}}  -> {finding.remedy}", markup=False)
        if any(finding.state == "wrong" for finding in found):
            raise GsegError("Something is wrong: what to do stands behind the arrows.")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _packages(_: Doctor) -> Iterator[Finding]:
    import torch

    built_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU only"
    yield Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")
    yield Finding("torch", "ok", f"{torch.__version__}, built for {built_for}")
    version = _version("nerfstudio")
    if version is None:
        yield Finding("nerfstudio", "wrong", "not installed", "pip install gseg-ns")
    else:
        yield Finding("nerfstudio", "ok", version)


def _driver() -> str | None:
    """The version of NVIDIA's driver, or None."""
    path = Path("/proc/driver/nvidia/version")
    if not path.is_file():
        return None
    return next((word for word in path.read_text().split() if word[0].isdigit() and "." in word), "unknown")


def _device(_: Doctor) -> Iterator[Finding]:
    import torch

    from gseg_ns import gpu
    from gseg_ns.models.budget import gpu_budget

    driver = _driver()
    if not torch.cuda.is_available():
        if torch.version.cuda is None:
            remedy = "with an NVIDIA card: install torch's CUDA build, see https://pytorch.org/get-started/locally"
            yield Finding("device", "note", "the CPU: this torch is built without CUDA", remedy)
        elif driver is None:
            remedy = "with an NVIDIA card: install its driver, https://www.nvidia.com/drivers"
            yield Finding("device", "note", "the CPU: no driver of an NVIDIA GPU", remedy)
        else:
            said = f"driver {driver} is there, but torch for CUDA {torch.version.cuda} cannot use the GPU"
            remedy = "update the driver (https://www.nvidia.com/drivers), or install a torch for an older CUDA"
            yield Finding("device", "wrong", said, remedy)
        return
    yield Finding("driver", "ok", driver or "found by torch")
    gsplat = _version("gsplat") or ""
    for index in range(torch.cuda.device_count()):
        capability = torch.cuda.get_device_capability(index)
        free, total = torch.cuda.mem_get_info(index)
        name = f"{torch.cuda.get_device_name(index)}, compute capability {capability[0]}.{capability[1]}"
        room = (
            f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free, room for {gpu_budget(free, 16) / 1e6:.1f}M Gaussians"
        )
        if gpu.newer_gsplat_needed(capability, gsplat):
            yield Finding("device", "wrong", f"{name}: newer than gsplat {gsplat}", NEWER)
        else:
            yield Finding("device", "ok", f"{name}; {room}")


def _kernels(doctor: Doctor) -> Iterator[Finding]:
    import torch

    from gseg_ns import gpu

    version = _version("gsplat")
    if version is None:
        yield Finding("gsplat", "wrong", "not installed", "pip install gseg-ns")
        return
    if not torch.cuda.is_available():
        yield Finding("gsplat", "ok", f"{version}; its CUDA kernels are not needed: the CPU has its own")
        return
    nvcc = gpu.compiler()
    if nvcc is not None:
        yield Finding("compiler", "ok", f"{nvcc}, CUDA {gpu.compiler_version(nvcc) or 'unknown'}")
    elif gpu.built_kernels() is not None:
        yield Finding("compiler", "note", "no CUDA compiler, and none needed: gsplat's kernels are built")
    lacking = gpu.fault() if doctor.build else gpu.missing()
    built = gpu.built_kernels()
    if lacking is not None:
        said, _, remedy = lacking.partition(": ")
        yield Finding("gsplat", "wrong", f"{version}; {said}", remedy)
    elif built is not None:
        yield Finding("gsplat", "ok", f"{version}; kernels built: {built}")
    else:
        said = f"{version}; its kernels are built at the first use: 3 to 15 minutes, once for each torch"
        yield Finding("gsplat", "note", said, "gseg doctor --build does it now")


def _viewer(doctor: Doctor) -> Iterator[Finding]:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            connection.bind(("", doctor.port))
        except OSError as error:
            remedy = "end the other viewer, or give another port: --viewer.websocket-port 7008"
            yield Finding("viewer port", "wrong", f"{doctor.port} cannot be had ({error.strerror})", remedy)
            return
    yield Finding("viewer port", "ok", f"{doctor.port} is free")


def _weights(_: Doctor) -> Iterator[Finding]:
    import torch

    hub = Path(torch.hub.get_dir(), "checkpoints")
    found = [path for folder in (Path(), hub) for path in sorted(folder.glob("sam_*.pth"))]
    if found:
        yield Finding("SAM", "ok", ", ".join(map(str, found)))
    else:
        remedy = "for masks of photographs: a checkpoint of https://github.com/facebookresearch/segment-anything"
        yield Finding("SAM", "note", f"no sam_*.pth here or in {hub}", remedy)
    home = os.environ.get("HF_HOME", "~/.cache/huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE", f"{home}/hub")).expanduser()
    clips = sorted(path.name for path in cache.glob("models--*clip*"))
    if clips:
        yield Finding("CLIP", "ok", f"{', '.join(clips)} in {cache}")
    else:
        remedy = "for text prompts: pip install 'gseg-ns[text]'; the weights are fetched at first use"
        yield Finding("CLIP", "note", f"none in {cache}", remedy)
    alexnet = sorted(hub.glob("alexnet-*.pth"))
    if alexnet:
        yield Finding("LPIPS", "ok", str(alexnet[0]))
    else:
        yield Finding("LPIPS", "note", f"no AlexNet in {hub}: fetched when first asked for, left out without a network")


CHECKS: tuple[Callable[[Doctor], Iterator[Finding]], ...] = (_packages, _device, _kernels, _viewer, _weights)
