"""Prompts of NVOS and SPIn-NeRF answered by constructed runs, whose groups and features are right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from PIL import Image

from gseg_ns.cli.protocol import ProtocolCommand
from gseg_ns.errors import GsegError
from gseg_ns.evaluation.protocols import PROTOCOLS
from gseg_ns.masks import read_label_map
from gseg_ns.runs.answering import agreement, answer_prompt, selection_in_view
from gseg_ns.runs.prompting import Prompter
from gseg_ns.runs.run import load_run
from gseg_ns.runs.text_search import TextSearch
from gseg_ns.selection.prompts import Prompt


def truth(scene: Path, image: str) -> torch.Tensor:
    return read_label_map(scene / "gt" / "object" / f"{Path(image).stem}.png").long()


def largest(labels: torch.Tensor) -> int:
    return int(torch.bincount(labels.flatten())[1:].argmax()) + 1


def test_what_agrees_with_a_mask_and_with_a_scribble() -> None:
    seen = torch.tensor([[True, True, False, False]])
    assert agreement(Prompt(mask=torch.tensor([[True, False, True, False]])), seen) == pytest.approx(1 / 3)
    assert agreement(Prompt(scribble=torch.tensor([[1, 1, 1, 2]])), seen) == pytest.approx((2 / 3 + 1) / 2)
    assert agreement(Prompt(scribble=torch.tensor([[1, 0, 1, 0]])), seen) == pytest.approx(0.5)


def test_the_scale_is_the_one_at_which_the_prompted_view_agrees(constructed_saga_run: Path, ball_room: Path) -> None:
    run = load_run(constructed_saga_run)
    view = next(iter(run.views("train")))
    labels = truth(ball_room, view.name)
    one = answer_prompt(run.model, view.camera, Prompt(mask=labels == largest(labels)))
    together = answer_prompt(run.model, view.camera, Prompt(mask=labels > 0))
    assert one.scale is not None
    assert together.scale is not None
    assert one.scale < together.scale
    assert min(one.agreement, together.agreement) > 0.75
    assert int(one.selected.sum()) < int(together.selected.sum())


def test_a_view_of_features_is_rendered_once_and_answers_as_a_selection_does(
    constructed_saga_run: Path, ball_room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load_run(constructed_saga_run)
    view = next(iter(run.views("train")))
    labels = truth(ball_room, view.name)
    prompt, render = Prompt(mask=labels == largest(labels)), run.model.render
    rendered: list[Cameras] = []

    def counted(camera: Cameras) -> Any:
        rendered.append(camera)
        return render(camera)

    monkeypatch.setattr(run.model, "render", counted)
    found = answer_prompt(run.model, view.camera, prompt)
    assert len(rendered) == 1
    assert found.threshold is not None
    assert torch.equal(found.selected, Prompter(run.model).select(view.camera, prompt, found.scale, found.threshold))
    assert prompt.mask is not None
    seen = selection_in_view(run.model, view.camera, found.selected)
    assert agreement(prompt, seen) == pytest.approx(found.agreement)


def test_a_prompt_that_fits_no_view_is_told(constructed_saga_run: Path) -> None:
    run = load_run(constructed_saga_run)
    with pytest.raises(GsegError, match=r"mask has \(2, 3\) pixels"):
        answer_prompt(run.model, next(iter(run.views("train"))).camera, Prompt(mask=torch.ones(2, 3) > 0))


def spin_nerf(root: Path, scene: Path, images: list[str], number: int) -> None:
    (root / "SPIn-NeRF_data/balls/images").mkdir(parents=True)
    (root / "SPIn-NeRF_masks/balls").mkdir(parents=True)
    for name in images:
        Image.open(scene / "images" / name).save(root / "SPIn-NeRF_data/balls/images" / name)
        mask = (truth(scene, name) == number).numpy()
        Image.fromarray(mask.astype(np.uint8)).save(root / f"SPIn-NeRF_masks/balls/{Path(name).stem}.png")


@pytest.mark.parametrize("method", ["gaga", "saga"])
def test_spin_nerf_is_answered_and_scored(
    method: str, constructed_run: Path, constructed_saga_run: Path, ball_room: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    config = constructed_run if method == "gaga" else constructed_saga_run
    images = sorted(path.name for path in (ball_room / "images").iterdir())[:3]
    spin_nerf(tmp_path / "data", ball_room, images, largest(truth(ball_room, images[0])))
    command = ProtocolCommand(
        "spin-nerf", data=tmp_path / "data", load_config=config, predictions=tmp_path / "out", scene="balls"
    )
    command.main()
    said = capsys.readouterr().out
    assert "of the prompt met" in said
    assert ("scale" in said) == ("threshold" in said) == (method == "saga")
    report = PROTOCOLS["spin-nerf"].evaluate(tmp_path / "data", tmp_path / "out")
    assert report.mean["mIoU"] > 70
    assert sorted(path.name for path in (tmp_path / "out/balls").iterdir()) == [f"{Path(n).stem}.png" for n in images]
    command.scale = 0.5
    with pytest.raises(GsegError, match="chosen on the view"):
        command.main()
    command.scale, command.level = None, "part"
    with pytest.raises(GsegError, match="chosen on the view"):
        command.main()


def test_nvos_is_answered_by_scribbles(constructed_saga_run: Path, ball_room: Path, tmp_path: Path) -> None:
    first, second = sorted(path.name for path in (ball_room / "images").iterdir())[:2]
    number = largest(truth(ball_room, first))
    wanted = truth(ball_room, first) == number
    other = truth(ball_room, first) == 0
    root = tmp_path / "data"
    files: dict[str, dict[str, torch.Tensor | None]] = {
        "llff_data/balls/images": {first: None, second: None},
        "llff_masks/reference_image/balls": {first: None},
        "llff_masks/masks/balls": {second: None, f"{Path(second).stem}_mask.png": truth(ball_room, second) == number},
        # Every third row of the object, and of all that is not an object.
        "llff_masks/scribbles/balls": {"pos_0.png": stripes(wanted), "neg_0.png": stripes(other)},
    }
    for folder, contents in files.items():
        (root / folder).mkdir(parents=True)
        for name, mask in contents.items():
            if mask is None:
                Image.open(ball_room / "images" / name).save(root / folder / name)
            else:
                Image.fromarray((mask.numpy() * 255).astype(np.uint8)).save(root / folder / name)
    ProtocolCommand(
        "nvos", data=root, load_config=constructed_saga_run, predictions=tmp_path / "out", scene="balls"
    ).main()
    assert PROTOCOLS["nvos"].evaluate(root, tmp_path / "out").mean["mIoU"] > 60


def stripes(mask: torch.Tensor) -> torch.Tensor:
    return mask & (torch.arange(len(mask))[:, None] % 3 == 0)


def test_classes_of_3d_ovs_are_what_fits_best(
    constructed_run: Path, ball_room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = tmp_path / "balls"
    (scene / "images").mkdir(parents=True)
    images = sorted(path.name for path in (ball_room / "images").iterdir())[:2]
    for name in images:
        Image.open(ball_room / "images" / name).save(scene / "images" / name)
    labels = truth(ball_room, images[1])
    number = largest(labels)
    (scene / "segmentations/01").mkdir(parents=True)
    (scene / "segmentations/classes.txt").write_text("the rest\na ball\n")
    for name, mask in (("a ball", labels == number), ("the rest", labels != number)):
        Image.fromarray((mask.numpy() * 255).astype(np.uint8)).save(scene / f"segmentations/01/{name}.png")

    def categorize(search: TextSearch, texts: list[str], clip: str) -> torch.Tensor:
        assert (texts, clip) == (["a ball", "the rest"], "a model")
        groups = load_run(constructed_run).model.gaussian_groups()
        return torch.where(groups == number, 1, 2)

    monkeypatch.setattr(TextSearch, "categorize", categorize)
    command = ProtocolCommand(
        "3d-ovs", data=scene, load_config=constructed_run, predictions=tmp_path / "out", clip="a model"
    )
    command.main()
    with pytest.raises(GsegError, match="at whatever scale they are: leave --level out"):
        replace(command, level="part").main()
    with pytest.raises(GsegError, match="classes of 3d-ovs"):
        replace(command, load_config=None).main()
    report = PROTOCOLS["3d-ovs"].evaluate(scene, tmp_path / "out")
    assert report.mean["mIoU"] > 65
    written = np.asarray(Image.open(tmp_path / "out/balls/01/a ball.png")) > 0
    run = load_run(constructed_run)
    shown = run.model.label_image(run.view(images[1]).camera) == number
    assert (written == shown.numpy()).mean() > 0.99
