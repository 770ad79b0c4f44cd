from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gseg_ns.cli.select import Select
from gseg_ns.data.cameras import to_camera
from gseg_ns.data.photographs import Photograph
from gseg_ns.errors import GsegError
from gseg_ns.lifting.affinity_training import AffinityOptions
from gseg_ns.lifting.similarity import similarity
from gseg_ns.method_configs.gaga import gaga
from gseg_ns.method_configs.saga import saga
from gseg_ns.runs import run as runs
from gseg_ns.runs.prompting import Prompter
from gseg_ns.runs.run import Run
from gseg_ns.selection import prompts_sam
from gseg_ns.selection.neighbourhood import largest_component, middle_extents
from gseg_ns.selection.postprocess import clean_up
from gseg_ns.selection.shapes import rectangle
from gseg_ns.selection.store import Fingerprint, load_selections
from gseg_ns.splats.ply import read_ply

STEPS = 40
CENTRE = (48.0, 36.0)
_RUNS: dict[str, Run] = {}


@pytest.fixture
def open_run(
    make_trainer: Callable[..., Any], small_scene: Path, step: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Any], Run]:
    """A trained model as `load_run` would give it; trained once for all tests of this file."""

    def make(method: Any) -> Run:
        name = method.config.method_name
        if name not in _RUNS:
            _RUNS[name] = train(method)
        monkeypatch.setattr(runs, "load_run", lambda *_, **__: _RUNS[name])
        return _RUNS[name]

    def train(method: Any) -> Run:
        features = {"affinity": AffinityOptions(num_pixels=400, num_scales=3), "tree": False}
        # One level, so that there are no scales.
        options = features if method is saga else {"association": "consensus"} if method is gaga else {}
        trainer = make_trainer(method, small_scene, **options)
        for number in range(STEPS):
            step(trainer, number)
        trainer.pipeline.eval()
        config_path = trainer.config.get_base_dir() / "config.yml"
        return Run(config_path, trainer.config, trainer.pipeline.model, trainer.pipeline.datamanager, STEPS)

    return make


@pytest.mark.parametrize("orientation", [3, 6])
def test_marks_on_a_turned_copy_are_turned_back(
    tmp_path: Path, orientation: int, capsys: pytest.CaptureFixture[str]
) -> None:
    there = np.zeros((30, 30), dtype=bool)
    there[4:12, 6:20] = True
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.where(there, 200, 40).astype(np.uint8)).convert("RGB").save(tmp_path / "p.png", exif=exif)
    photograph = Photograph(tmp_path / "p.png", (30, 30), (30, 30))
    for name, frame, turn in (("a", "photograph", orientation), ("b", "photograph", 1), ("c", "view", 1)):
        drawn = there if turn == 1 else drawn_upright(there, turn)
        Image.fromarray(drawn).save(tmp_path / f"{name}.png")
        select = Select(Path("config.yml"), Path("o.npz"), mask=tmp_path / f"{name}.png", frame=frame)  # type: ignore[arg-type]
        mask = select._prompt(photograph).mask
        assert mask is not None
        assert torch.equal(mask, torch.from_numpy(there)), name
    select = Select(Path("config.yml"), Path("o.npz"), scribble=tmp_path / "a.png")
    capsys.readouterr()
    scribble = select._prompt(photograph).scribble
    assert scribble is not None
    assert torch.equal(scribble.bool(), torch.from_numpy(drawn_upright(there, orientation)))
    assert "taken to lie on the pixels as stored" in " ".join(capsys.readouterr().out.split())


def drawn_upright(there: np.ndarray, orientation: int) -> np.ndarray:
    """What a viewer that turns photographs shows."""
    return np.ascontiguousarray(there[::-1, ::-1] if orientation == 3 else np.rot90(there, -1))


def test_a_click_to_all_formats(open_run: Callable[[Any], Run], tmp_path: Path) -> None:
    run = open_run(saga)
    name = run.datamanager.train_dataset.image_filenames[0].name
    common: dict[str, Any] = {"load_config": run.config_path, "view": name, "point": (CENTRE,), "scale": 0.5}
    for suffix in (".npz", ".ply", ".png"):
        Select(output=tmp_path / f"out{suffix}", **common).main()
    [(saved, packed)] = load_selections(tmp_path / "out.npz", Fingerprint.of(run.model.means)).items()
    mask = packed.unpack()
    assert saved == "selection"
    assert 0 < int(mask.sum()) < len(mask)
    assert len(read_ply(tmp_path / "out.ply")) == int(mask.sum())
    seen = np.asarray(Image.open(tmp_path / "out.png"))
    assert seen.shape == (72, 96)
    assert set(np.unique(seen)) <= {0, 255}
    Select(output=tmp_path / "no.npz", threshold=1.0, **common).main()
    assert not load_selections(tmp_path / "no.npz", Fingerprint.of(run.model.means))["selection"].unpack().any()


def test_pieces_and_outliers(open_run: Callable[[Any], Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_run(saga)
    model = run.model
    view = run.datamanager.train_dataset.image_filenames[0].name

    def selected(**options: bool) -> torch.Tensor:
        file = tmp_path / "out.npz"
        Select(load_config=run.config_path, output=file, view=view, point=(CENTRE,), **options).main()
        return load_selections(file, Fingerprint.of(model.means))["selection"].unpack()

    away = torch.nonzero(selected())[:50, 0]
    means = model.means.detach().clone()
    means[away] += 100
    monkeypatch.setattr(model.gauss_params["means"], "data", means)
    everything, largest = selected(), selected(largest=True)
    assert everything[away].any()
    assert not largest[away].any()
    assert 0 < int(largest.sum()) < int(everything.sum())
    assert torch.equal(largest, largest_component(model.means, everything, middle_extents(model.scales)))
    assert not torch.equal(selected(clean=True), everything)
    assert torch.equal(selected(clean=True), clean_up(model.means, everything))
    assert torch.equal(selected(largest=True, clean=True), clean_up(model.means, largest))


def test_scribbles_masks_and_sam(
    open_run: Callable[[Any], Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(saga)
    marks = np.zeros((72, 96), np.uint8)
    marks[30:40, 40:60] = 1
    marks[60:, :20] = 2
    Image.fromarray(marks).save(tmp_path / "marks.png")
    view = run.datamanager.train_dataset.image_filenames[0].stem
    Select(load_config=run.config_path, output=tmp_path / "a.npz", view=view, scribble=tmp_path / "marks.png").main()
    Select(load_config=run.config_path, output=tmp_path / "b.npz", view=view, mask=tmp_path / "marks.png").main()

    class Predictor:
        """Answers every point with a square around it."""

        def set_image(self, picture: np.ndarray) -> None:
            self.shape = picture.shape[:2]

        def predict(self, points: np.ndarray, labels: np.ndarray, multimask_output: bool) -> tuple[Any, ...]:
            mask = np.zeros((3 if multimask_output else 1, *self.shape), bool)
            x, y = points[0].astype(int)
            mask[0, y - 5 : y + 5, x - 5 : x + 5] = True
            return mask, np.arange(len(mask))[::-1], None

    monkeypatch.setattr(prompts_sam, "load_predictor", lambda *_: Predictor())
    Select(
        load_config=run.config_path, output=tmp_path / "c.npz", view=view, point=(CENTRE,), sam=tmp_path / "sam.pth"
    ).main()
    Select(
        load_config=run.config_path, output=tmp_path / "d.npz", view=view, point=(CENTRE,), threshold="adaptive"
    ).main()
    fingerprint = Fingerprint.of(run.model.means)
    for name in "abcd":
        assert load_selections(tmp_path / f"{name}.npz", fingerprint)["selection"].unpack().any()
    # The mean of all cosines with the pixel's feature is the threshold.
    clicked = Prompter(run.model).point(to_camera(run.view(view).camera), *CENTRE)
    cosines = similarity(
        run.model.gauss_params["affinity"].detach(), clicked.feature[None], run.model.gate(run.model.default_scale)
    )
    adaptive = load_selections(tmp_path / "d.npz", fingerprint)["selection"].unpack()
    assert torch.equal(adaptive, cosines > cosines.mean())


def test_methods_with_groups_answer_by_them(
    open_run: Callable[[Any], Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = open_run(gaga)
    view = run.datamanager.train_dataset.image_filenames[0].stem
    Select(load_config=run.config_path, output=tmp_path / "a.npz", view=view, point=(CENTRE,)).main()
    mask = load_selections(tmp_path / "a.npz", Fingerprint.of(run.model.means))["selection"].unpack()
    labels = run.model.label_image(run.view(view).camera)
    group = int(labels[36, 48])
    assert torch.equal(mask, (run.model.gaussian_groups() == group) & (group > 0))
    with pytest.raises(GsegError, match="no scales"):
        Select(load_config=run.config_path, output=tmp_path / "b.npz", view=view, point=(CENTRE,), scale=0.2).main()
    with pytest.raises(GsegError, match="groups answer here"):
        Select(
            load_config=run.config_path, output=tmp_path / "b.npz", view=view, point=(CENTRE,), threshold="adaptive"
        ).main()
    Select(load_config=run.config_path, output=tmp_path / "b.npz", view=view, point=(CENTRE,), threshold=0.9).main()
    assert "--threshold changes nothing" in " ".join(capsys.readouterr().out.split())
    same = load_selections(tmp_path / "b.npz", Fingerprint.of(run.model.means))["selection"].unpack()
    assert torch.equal(same, mask)


def test_shapes_colors_and_ranges(open_run: Callable[[Any], Run], tmp_path: Path) -> None:
    run = open_run(gaga)
    splats, fingerprint = run.model.splats(), Fingerprint.of(run.model.means)
    view = run.datamanager.train_dataset.image_filenames[0].stem
    file = tmp_path / "out.npz"

    def selected(output: Path = file, **options: Any) -> torch.Tensor:
        Select(load_config=run.config_path, output=output, **{"view": view, **options}).main()
        return load_selections(output, fingerprint)["selection"].unpack()

    square = (30.0, 20.0, 70.0, 20.0, 70.0, 60.0, 30.0, 60.0)
    outline = list(zip(square[::2], square[1::2], strict=True))
    (tmp_path / "line.json").write_text(json.dumps(outline))
    camera = to_camera(run.model.corrected(run.view(view).camera))
    seen = selected(polygon=(square,))
    assert torch.equal(seen, rectangle(splats, camera, outline[0], outline[2]))
    assert torch.equal(seen, selected(lasso=tmp_path / "line.json"))
    through = selected(polygon=(square,), through=True)
    assert 0 < int(seen.sum()) < int(through.sum())
    assert bool((seen <= through).all())
    everything = {"size": (0.0, 1e6)}
    in_view = selected(in_front=True, **everything)
    assert 0 < int(in_view.sum()) < len(in_view)
    assert torch.equal(selected(polygon=(square,), in_front=True), seen)
    assert torch.equal(selected(box=((0.0, 0.0, 0.0, 1e3, 1e3, 1e3),), in_front=True), in_view)
    assert torch.equal(through & in_view, seen)
    for options, message in (({"view": None}, "--view"), ({"through": True}, "--through")):
        with pytest.raises(GsegError, match=message):
            selected(in_front=True, **everything, **options)
    dab = selected(brush=(CENTRE,), brush_radius=8.0)
    assert dab.any()
    assert bool((dab <= seen).all())

    middle = tuple(splats.means.median(dim=0).values.tolist())
    ball, box = selected(sphere=((*middle, 0.5),)), selected(box=((*middle, 1.0, 1.0, 1.0, 0.9, 0.1, 0.0, 0.4),))
    assert torch.equal(ball, (splats.means - torch.tensor(middle)).norm(dim=1) <= 0.5)
    assert bool((ball <= box).all())
    loose = selected(opacity=(0.0, 0.5))
    assert torch.equal(loose, splats.opacities.sigmoid() <= 0.5)
    assert torch.equal(selected(sphere=((*middle, 0.5),), opacity=(0.0, 0.5)), ball & loose)
    assert torch.equal(
        selected(point=(CENTRE,), size=(0.0, 0.01)), selected(point=(CENTRE,)) & selected(size=(0, 0.01))
    )
    alike = selected(color_at=(CENTRE,))
    assert bool((selected(flood=(CENTRE,)) <= alike).all())
    assert bool((alike <= selected(color_at=(CENTRE,), tolerance=200.0)).all())
    assert torch.equal(selected(color=(0.5, 0.5, 0.5), tolerance=0.0), torch.zeros(len(splats), dtype=torch.bool))

    selected(tmp_path / "ball.npz", sphere=((*middle, 0.5),))
    for mode, expected in (("add", ball | seen), ("remove", ball & ~seen), ("intersect", ball & seen)):
        assert torch.equal(selected(polygon=(square,), start=str(tmp_path / "ball.npz"), mode=mode), expected)
    assert torch.equal(selected(polygon=(square,), start=f"{tmp_path / 'ball.npz'}#selection"), ball | seen)
    with pytest.raises(GsegError, match="it has selection"):
        selected(size=(0, 1), start=f"{tmp_path / 'ball.npz'}#other")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": Path("a.txt")}, "suffix"),
        ({"point": ()}, "Say what to select"),
        ({"polygon": ((1.0, 2.0, 3.0),)}, "no pairs"),
        ({"polygon": ((1.0, 2.0, 3.0, 4.0),)}, "3 at least"),
        ({"brush": (CENTRE,), "brush_radius": 0.0}, "above zero"),
        ({"box": ((1.0, 2.0, 3.0),)}, "6 numbers"),
        ({"box": ((0.0,) * 10,)}, "no rotation"),
        ({"color": (255.0, 0.0, 0.0)}, "from 0 to 1"),
        ({"size": (2.0, 1.0)}, "smaller number first"),
        ({"flood": ((500.0, 3.0),)}, "outside"),
        ({"point": (), "polygon": ((0.0, 0.0, 9.0, 0.0, 9.0, 9.0),), "view": None}, "--view"),
        ({"lasso": Path("nowhere.json")}, "no file"),
        ({"start": "nowhere.npz"}, "no selection file"),
        ({"text": "a mug"}, "either marks"),
        ({"view": None}, "--view"),
        ({"view": "nowhere"}, "no view nowhere"),
        ({"point": ((500.0, 3.0),)}, "outside"),
        ({"point": (), "negative": (CENTRE,)}, "nothing positive"),
        ({"scale": 2.0}, "lies between"),
        ({"threshold": 3.0}, "no cosine"),
        ({"threshold": "adaptive", "track": "a/model"}, "leave it out with --text and --track"),
        ({"threshold": "adaptive", "point": (), "text": "a mug"}, "leave it out with --text and --track"),
        ({"point": (), "mask": Path("a.png"), "sam": Path("sam.pth")}, "--point"),
        ({"mask": Path("a.png"), "sam": Path("sam.pth")}, "of its points itself"),
        ({"scribble": Path("a.png"), "sam": Path("sam.pth")}, "of its points itself"),
        ({"mask": Path("a.png"), "track": "a/model"}, "follows a --mask as it is"),
        ({"output": Path("a.gseg"), "track": "a/model"}, "answers by its features"),
    ],
)
def test_bad_input(open_run: Callable[[Any], Run], tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"load_config": Path("config.yml"), "output": tmp_path / "a.npz", "point": (CENTRE,)}
    good["view"] = open_run(saga).datamanager.train_dataset.image_filenames[0].stem
    with pytest.raises(GsegError, match=message):
        Select(**(good | changes)).main()
