"""Models of the Hugging Face hub, or in folders: which one it was, and what to say of one that cannot be had."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gseg_ns.errors import GsegError, missing_extra

if TYPE_CHECKING:
    import torch

UNGATED = "facebook/sam2.1-hiera-tiny"
"""A model that anybody may load."""

SHORT = {
    "large": "facebook/sam2.1-hiera-large",
    "small": "facebook/sam2.1-hiera-small",
    "tiny": UNGATED,
    "edgetam": "yonigozlan/EdgeTAM-hf",
    "sam3": "facebook/sam3",
}
"""Names for models of the hub, from the best to the quickest, and SAM 3's tracker."""

_REFUSALS = re.compile(r"\b40[13] (client error|unauthorized|forbidden)|\bgated repo", re.IGNORECASE)
"""What the hub's client says of a model that one may not have. Folders may have such numbers in their names."""


def full_name(model: str | Path) -> str:
    """The folder or name of a model, which may be given as one of `SHORT`; a folder of such a name is meant first."""
    name = str(model)
    return name if Path(name).is_dir() else SHORT.get(name, name)


def fingerprint(path: Path) -> dict[str, Any]:
    """Name, size and a digest of the first and last MiB of a file: enough to tell checkpoints apart at once."""
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(2**20))
        file.seek(max(0, size - 2**20))
        digest.update(file.read())
    return {"name": path.name, "bytes": size, "sha256": digest.hexdigest()[:16]}


def which_model(model: str) -> dict[str, Any]:
    """What tells models apart: the full name on the hub, or a folder's name and its weights."""
    folder = Path(model)
    weights = [fingerprint(path) for path in sorted(folder.glob("*.safetensors"))] if folder.is_dir() else []
    return {"model": folder.name if folder.is_dir() else full_name(model), "weights": weights}


def first_line(error: Exception) -> str:
    """The first line of an error's text, for a message of one line."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def refused(model: str, error: Exception) -> str | None:
    """What it means, in one line, that the hub refuses a model; None: it is something else that went wrong."""
    if not _REFUSALS.search(str(error)):
        return None
    return (
        f"The hub refuses {model!r}: its owner grants access by hand. Ask for it on its page and log in (hf auth "
        f"login), or name a folder with the weights, or take an open model: {UNGATED} for clicks and everything, "
        "--source grounded for words, or masks with words of another tool, given with --masks."
    )


def load_one_of(
    classes: Mapping[str, tuple[str, str]], model: str | Path, device: torch.device | str, use: str, lacks: str
) -> tuple[Any, Any]:
    """Load a model of one of several kinds, and what prepares its pictures. No code of the hub is run.

    Args:
        classes: transformers' classes of both, by how the model's type begins.
        model: a local folder, or a name, see `full_name`.
        device: of torch.
        use: what it is wanted for.
        lacks: what another kind of model does not do.

    Raises:
        GsegError: the extra is missing, or there is no such model, or it is another one.
    """
    name = full_name(model)
    try:
        import transformers
    except ImportError as error:
        raise missing_extra(f"The model {name!r} needs transformers", "sam2") from error
    try:
        kind = str(transformers.AutoConfig.from_pretrained(name, trust_remote_code=False).model_type)
        parts = next((pair for key, pair in classes.items() if kind.startswith(key)), None)
        if parts is None:
            raise GsegError(
                f"{name!r} is a {kind}, which {lacks}. Give SAM 2.1 ({UNGATED}), EdgeTAM ({SHORT['edgetam']}) or SAM 3 "
                f"({SHORT['sam3']})."
            )
        if not all(hasattr(transformers, part) for part in parts):
            raise missing_extra(f"The model {name!r} needs transformers 5", "sam3")
        processor = getattr(transformers, parts[1]).from_pretrained(name, trust_remote_code=False)
        # Weights are never unpickled.
        loaded = getattr(transformers, parts[0]).from_pretrained(name, use_safetensors=True, trust_remote_code=False)
        return loaded.to(device).eval(), processor
    except GsegError:
        raise
    except Exception as error:
        # transformers and its hub client raise many types.
        raise GsegError(refused(name, error) or f"Cannot load {name!r} {use} ({first_line(error)}).") from error
