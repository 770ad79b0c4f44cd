"""A selection as a further object of what was opened."""

from __future__ import annotations

import torch
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.masks.words import clean_word
from gseg_ns.models.gaga import GagaModel
from gseg_ns.runs.run import Run


def check_takes_objects(run: Run) -> GagaModel:
    """The model of a run that a group can be added to.

    Raises:
        GsegError: the run answers by features.
    """
    model = run.model
    if not isinstance(model, GagaModel) or model.config.labels != "vote":
        raise GsegError(
            f"{run.source} answers by its features, to which no object can be added: write the selection as .npz or "
            ".ply"
        )
    return model


@torch.no_grad()
def keep_as_object(run: Run, selected: Tensor, name: str) -> int:
    """Make a group of a selection; what it takes from other groups is theirs no more.

    The run's files stay as they are: `pack_run` writes what has become of it.

    Args:
        run: that answers by labels: of `gseg lift`, a result of it, or a PLY.
        selected: bool [N], not empty.
        name: of the object.

    Returns:
        its group.

    Raises:
        GsegError: nothing is selected, or the run answers by features, which a group cannot be added to.
    """
    model = check_takes_objects(run)
    if not bool(selected.any()):
        raise GsegError("Nothing is selected: there is no object to keep")
    labels = model.gaussian_groups().clone()
    group = int(labels.max()) + 1
    labels[selected.to(labels.device)] = group
    sure = model.group_confidence()
    words = dict(model.group_words)
    model.take_labels(labels, sure)
    model.group_words = {**words, group: (clean_word(name) or f"object {group}", 1.0)}
    return group
