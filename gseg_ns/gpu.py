"""Whether the GPU can be used, and what it takes: gsplat compiles its kernels on the user's machine.

gsplat's wheel on PyPI is source. With a driver but no CUDA compiler (most users of pip), or with the compiler of
another CUDA than torch's, its operations fail with an AttributeError of None. So the question is asked once, before
anything is computed, and the CPU's kernels take over where the answer is no.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import site
import subprocess
import sys
from pathlib import Path
from typing import Literal

import torch

from gseg_ns.errors import GsegError

COMPILER = "cuda-toolkit[nvcc,nvvm,crt,cccl]"
"""CUDA's compiler on PyPI, without the libraries that torch brings."""

SYSTEM_CUDA = Path("/usr/local/cuda")
"""Where NVIDIA's installer puts CUDA."""

TOO_MANY = 1_000_000
"""Gaussians that nobody wants to work with on the CPU where a GPU is at hand."""


def compiler() -> Path | None:
    """CUDA's compiler: where the environment says, on the path, or in this Python's packages."""
    places = [Path(os.environ[name]) / "bin" for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    on_path = shutil.which("nvcc")
    places += [Path(on_path).parent] if on_path else []
    places += [SYSTEM_CUDA / "bin"]
    for folder in (*site.getsitepackages(), site.getusersitepackages()):
        places += [path / "bin" for path in sorted(Path(folder, "nvidia").glob("cu*"), reverse=True)]
    name = "nvcc.exe" if os.name == "nt" else "nvcc"
    return next((place / name for place in places if (place / name).is_file()), None)


def compiler_version(nvcc: Path) -> str:
    """The CUDA that a compiler is of, such as 12.4; empty where it does not say."""
    try:
        said = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"release (\d+\.\d+)", said)
    return found[1] if found else ""


def host_compiler() -> str | None:
    """The C++ compiler that CUDA's compiler needs, by its path."""
    names = (os.environ.get("CXX"), "cl" if os.name == "nt" else "c++", "g++", "clang++")
    return next((path for name in names if name and (path := shutil.which(name))), None)


def compiler_package() -> str:
    """What pip installs for torch's CUDA."""
    return f"'{COMPILER}=={torch.version.cuda}.*'"


def built_kernels() -> str | None:
    """Where gsplat's compiled kernels are, or None: nothing is loaded or built."""
    if "gsplat.csrc" in sys.modules:
        return "gsplat.csrc"
    spec = importlib.util.find_spec("gsplat.csrc")
    if spec is not None:
        return str(spec.origin)
    root = os.environ.get("TORCH_EXTENSIONS_DIR")
    if root is None:
        from torch.utils.cpp_extension import get_default_build_root

        version = "".join(map(str, sys.version_info[:2])) + getattr(sys, "abiflags", "")
        root = str(Path(get_default_build_root(), f"py{version}_cu{(torch.version.cuda or '').replace('.', '')}"))
    return next((str(path) for path in sorted(Path(root, "gsplat_cuda").glob("gsplat_cuda.*[od]"))), None)


@functools.cache
def missing() -> str | None:
    """What keeps gsplat's kernels from being had, with the remedy, or None. Quick: nothing is built."""
    if built_kernels() is not None:
        return None
    nvcc = compiler()
    if nvcc is None:
        return f"gsplat's kernels have to be compiled, and there is no CUDA compiler: pip install {compiler_package()}"
    version = compiler_version(nvcc)
    if version.split(".")[0] != (torch.version.cuda or "").split(".")[0]:
        return (
            f"gsplat's kernels have to be compiled, and {nvcc} is of CUDA {version or 'unknown'}, while torch is of "
            f"CUDA {torch.version.cuda}: pip install {compiler_package()} and set CUDA_HOME to its folder"
        )
    if host_compiler() is None:
        return "gsplat's kernels have to be compiled, and there is no C++ compiler: apt-get install g++"
    return None


def best_device() -> Literal["cpu", "cuda"]:
    """`cuda` where there is a GPU and gsplat's kernels can be had for it, else `cpu`. Quick: nothing is built."""
    return "cuda" if torch.cuda.is_available() and missing() is None else "cpu"


@functools.cache
def fault() -> str | None:
    """What keeps gsplat's kernels from running, with the remedy, or None. Builds them, once, which takes minutes."""
    lacking = missing()
    if lacking is not None:
        return lacking
    nvcc = compiler()
    if nvcc is not None and "CUDA_HOME" not in os.environ:
        os.environ["CUDA_HOME"] = str(nvcc.parent.parent)
    if nvcc is not None and shutil.which("nvcc") is None:
        os.environ["PATH"] = os.pathsep.join([str(nvcc.parent), os.environ.get("PATH", "")])
    try:
        from gsplat.cuda._backend import _C
    except Exception as error:  # whatever a build can die of
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        return f"gsplat's kernels cannot be built or loaded ({reason}): `gseg doctor --build` shows all of it"
    return None if _C is not None else "gsplat found no CUDA compiler: `gseg doctor` says what to install"


def unused() -> str | None:
    """What to tell a user whose GPU lies idle because gsplat's kernels cannot be had; None where that is not so."""
    if not torch.cuda.is_available():
        return None
    reason = missing() or (fault.cache_info().currsize and fault()) or None
    return f"The GPU is not used, all runs on the CPU. {reason}" if reason else None


def refuse_on_cpu(count: int) -> None:
    """Refuse millions of Gaussians on the CPU where a GPU only lacks gsplat's kernels.

    Raises:
        GsegError: so it is.
    """
    told = unused()
    if told is not None and count > TOO_MANY:
        raise GsegError(f"{count} Gaussians are too many for the CPU. {told}")


def newer_gsplat_needed(capability: tuple[int, int], version: str) -> bool:
    """Whether a card is too new for the installed gsplat: 1.4 predates those of compute capability 12 (RTX 50)."""
    return capability >= (10, 0) and version.startswith("1.4.")
