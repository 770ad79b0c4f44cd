"""saga and saga-v1 through Nerfstudio's trainer, on a small scene and a few dozen steps."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plyfile import PlyData
from torch import Tensor

from gseg_ns.data.cameras import to_camera
from gseg_ns.editing.session import Session
from gseg_ns.errors import GsegError
from gseg_ns.lifting.affinity import smooth
from gseg_ns.lifting.affinity_training import AffinityOptions
from gseg_ns.lifting.clustering import ClusterOptions
from gseg_ns.lifting.text import VoteOptions
from gseg_ns.method_configs.saga import saga
from gseg_ns.method_configs.saga_v1 import saga_v1
from gseg_ns.models.checkpoints import read_checkpoint
from gseg_ns.models.saga import joined
from gseg_ns.neighbours import PointTree, nearest
from gseg_ns.runs.prompting import Prompter
from gseg_ns.selection.prompts import Prompt
from gseg_ns.selection.prompts_sam import guided_queries
from gseg_ns.splats import Splats
from gseg_ns.splats.ply import write_ply
from gseg_ns.viewer.drawing import Drawing

STEPS = 40
START = 30
OPTIONS = {"affinity": AffinityOptions(num_pixels=400, num_scales=4), "tree": False}

Step = Callable[[Any, int], dict[str, Tensor]]
Make = Callable[..., Any]


def train(trainer: Any, step: Step, first: int, last: int) -> None:
    for number in range(first, last):
        losses = step(trainer, number)
        assert all(bool(torch.isfinite(value)) for value in losses.values())


def room_of_points(scene: Path) -> Splats:
    """The scene's points as opaque balls."""
    vertices = PlyData.read(str(scene / "points3D.ply"))["vertex"]
    means = torch.from_numpy(np.stack([vertices[axis] for axis in "xyz"], axis=1).astype(np.float32))[::3]
    distance, _ = PointTree(means).others(1)
    return Splats(
        means=means,
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(len(means), 1),
        scales=distance.median().log().expand(len(means), 3).contiguous(),
        opacities=torch.full((len(means),), 3.0),
        sh=torch.zeros(len(means), 1, 3),
    )


@pytest.fixture
def trained(make_trainer: Make, small_scene: Path, step: Step) -> Any:
    trainer = make_trainer(saga, small_scene, **OPTIONS)
    train(trainer, step, 0, STEPS)
    return trainer


def embeddings(scene: Path, folder: Path) -> None:
    """Stand-ins for SAM's embeddings: the image itself at 16 x 16, in random directions of 256 channels."""
    from PIL import Image

    basis = np.random.default_rng(0).normal(size=(256, 3)).astype(np.float32)
    for path in sorted((scene / "images").iterdir()):
        small = np.asarray(Image.open(path).convert("RGB").resize((16, 16)), np.float32) / 255
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / f"{path.stem}.npz", embedding=np.einsum("cd,hwd->chw", basis, small).astype(np.float16))


def test_phases(make_trainer: Make, small_scene: Path, step: Step) -> None:
    trainer = make_trainer(saga, small_scene, **OPTIONS)
    model = trainer.pipeline.model
    assert "main_loss" in step(trainer, 0)
    assert not model.gaussian_groups().any()
    train(trainer, step, 1, START)
    model.step_cb(trainer.optimizers, START)  # what no picture shows goes
    before = {name: value.detach().clone() for name, value in model.gauss_params.items()}
    gate = model.scale_gate.linear.weight.detach().clone()
    assert set(step(trainer, START)) == {"correspondence", "norm"}
    train(trainer, step, START + 1, STEPS - 1)
    for name, value in model.gauss_params.items():
        assert torch.equal(value, before[name]) == (name != "affinity"), name
    assert not torch.equal(model.scale_gate.linear.weight, gate)
    assert not model.finished
    step(trainer, STEPS - 1)
    assert model.finished
    lengths = model.gauss_params["affinity"].detach().norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_answers_of_a_trained_model(trained: Any) -> None:
    model = trained.pipeline.model.eval()
    model.config.clusters = ClusterOptions(at_least=1000)
    camera = trained.pipeline.datamanager.camera(0)
    groups = model.gaussian_groups(0.3)
    assert groups.shape == (model.num_points,)
    labels = model.label_image(camera, 0.3)
    assert set(labels.unique().tolist()) <= set(range(int(groups.max()) + 1))
    with pytest.raises(GsegError, match="outside"):
        model.gaussian_groups(1.5)
    outputs = model.get_outputs_for_camera(camera)
    assert outputs["groups"].shape == outputs["rgb"].shape
    height, width, _ = model.feature_image(camera).shape
    prompt = Prompt(positive=torch.tensor([[width / 2, height / 2]]))
    assert Prompter(model).select(camera, prompt, 0.5).any()


def test_a_frame_makes_no_clusters_unless_groups_are_looked_at(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained.pipeline.model.eval()
    camera, session, drawing = trained.pipeline.datamanager.camera(0), Session(model.splats()), Drawing(model)
    clustered: list[int] = []
    monkeypatch.setattr(model, "decode", lambda image, scale=None: clustered.append(1) or image[..., 0].long() * 0)
    for wanted in (("rgb",), ("features",)):
        outputs = drawing.outputs(session, 0, None, camera, None, wanted)
        assert outputs["groups"].shape == outputs["rgb"].shape == outputs["features"].shape
        assert not clustered
    assert bool(outputs["features"].any())
    drawing.outputs(session, 0, None, camera, None, ("groups",))
    assert clustered


def test_checkpoints_hold_no_moments_of_what_is_frozen(make_trainer: Make, small_scene: Path, step: Step) -> None:
    trainer = make_trainer(saga, small_scene, **OPTIONS)
    model = trainer.pipeline.model
    train(trainer, step, 0, STEPS)
    sizes = {}
    for number in (START - 2, START - 1, STEPS - 2, STEPS - 1):
        model.step = number
        trainer.save_checkpoint(number)
        state = read_checkpoint(trainer.checkpoint_dir / f"step-{number:09d}.ckpt")["optimizers"]
        sizes[number] = {name for name, saved in state.items() if saved["state"]}
    assert sizes[START - 1] == sizes[STEPS - 2] == {"affinity", "scale_gate"}
    assert sizes[STEPS - 1] == set()
    nbytes = (trainer.checkpoint_dir / f"step-{STEPS - 1:09d}.ckpt").stat().st_size
    assert nbytes < (4 * (59 + 32) + 20) * model.num_points + 100_000
    again = make_trainer(saga, small_scene, load=trainer.checkpoint_dir, steps=STEPS + 20, **OPTIONS)
    step(again, STEPS)


def test_a_checkpoint_brings_gate_quantiles_and_finished_features(
    make_trainer: Make, small_scene: Path, step: Step, trained: Any
) -> None:
    trained.save_checkpoint(STEPS - 1)
    model = trained.pipeline.model
    again = make_trainer(saga, small_scene, load=trained.checkpoint_dir, **OPTIONS).pipeline.model
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor):
            assert torch.equal(value, again.state_dict()[name]), name
    assert float(again.scale_quantiles.quantiles[-1]) != 1.0


def test_a_checkpoint_from_the_middle_is_finished_for_inference_only(
    make_trainer: Make, small_scene: Path, step: Step
) -> None:
    trainer = make_trainer(saga, small_scene, **OPTIONS)
    train(trainer, step, 0, START + 5)
    model = trainer.pipeline.model
    state = {name: value.clone() if isinstance(value, Tensor) else value for name, value in model.state_dict().items()}
    raw = model.gauss_params["affinity"].detach().clone()
    model.load_state_dict(state)
    assert torch.equal(model.gauss_params["affinity"], raw)
    model.eval()
    model.load_state_dict(state)
    assert model.finished
    finished = model.gauss_params["affinity"].detach().clone()
    assert not torch.equal(finished, raw)

    # the flags of the checkpoint say what is smoothed over, and not those that the model has
    assert len(state["kept_neighbours"]) == model.num_points
    model.kept_neighbours.fill_(1)
    model.load_state_dict(state)
    assert torch.equal(model.gauss_params["affinity"], finished)
    model.load_state_dict(state | {"kept_neighbours": torch.ones_like(state["kept_neighbours"])})
    torch.testing.assert_close(model.gauss_params["affinity"], F.normalize(raw, dim=-1))

    # checkpoints from before there were flags: nothing was left out in their training
    del state["kept_neighbours"]
    model.load_state_dict(state)
    everything = smooth(raw, nearest(model.means, model.smoothing))
    torch.testing.assert_close(model.gauss_params["affinity"].detach(), everything)
    assert not torch.allclose(everything, finished, atol=1e-3)


def test_training_goes_on_from_an_older_checkpoint(make_trainer: Make, small_scene: Path, step: Step) -> None:
    """What it lacks is left as it is, and the optimizers still have the parameters that are trained."""
    trainer = make_trainer(saga, small_scene, **OPTIONS)
    train(trainer, step, 0, START + 2)
    trainer.save_checkpoint(START + 1)
    (path,) = trainer.checkpoint_dir.glob("*.ckpt")
    checkpoint = torch.load(path)
    del checkpoint["pipeline"]["_model.kept_neighbours"], checkpoint["pipeline"]["_model.feature_mean"]
    torch.save(checkpoint, path)
    again = make_trainer(saga, small_scene, load=trainer.checkpoint_dir, **OPTIONS)
    model = again.pipeline.model
    features = model.gauss_params["affinity"]
    assert features is again.optimizers.optimizers["affinity"].param_groups[0]["params"][0]
    assert torch.equal(features, trainer.pipeline.model.gauss_params["affinity"])
    train(again, step, START + 2, STEPS)
    assert not torch.equal(features, trainer.pipeline.model.gauss_params["affinity"])
    assert len(model.kept_neighbours) == model.num_points


def test_views_without_masks_train(make_trainer: Make, small_scene: Path, step: Step, tmp_path: Path) -> None:
    scene = tmp_path / "scene"
    shutil.copytree(small_scene, scene)
    for path in sorted((scene / "masks").glob("*.json"))[::2]:
        path.unlink()
    trainer = make_trainer(saga, scene, **OPTIONS)
    train(trainer, step, 0, STEPS)


class Brightness:
    """An encoder that knows one thing."""

    size = 8

    def images(self, pictures: Tensor) -> Tensor:
        bright = pictures.mean(dim=(1, 2, 3))
        return F.normalize(torch.stack([bright, 1 - bright], dim=1), dim=-1)

    def texts(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([[1.0, 0.0] if "bright" in text else [0.0, 1.0] for text in texts])


def test_text_votes(trained: Any) -> None:
    model = trained.pipeline.model.eval()
    options = VoteOptions(min_cluster_size=4, anchors_at_least=300)
    graph = model.vote_graph(trained.pipeline.datamanager, Brightness(), options)
    assert len(graph.clip) == len(graph.targets) == len(graph.features) > 50
    assert ((graph.gates >= 0) & (graph.gates <= 1)).all()
    encoder = Brightness()
    features = model.gauss_params["affinity"].detach()
    chosen = graph.select(features, encoder.texts(["bright"])[0], encoder.texts(["object"]), options)
    assert chosen.shape == (model.num_points,)


def test_v1_trains_with_guidance(make_trainer: Make, small_scene: Path, step: Step, tmp_path: Path) -> None:
    scene = tmp_path / "scene"
    shutil.copytree(small_scene, scene)
    embeddings(scene, scene / "masks_embeddings")
    trainer = make_trainer(saga_v1, scene)
    train(trainer, step, 0, START)
    model = trainer.pipeline.model
    first = model.sam_projection.layers[0].weight.detach().clone()
    assert set(step(trainer, START)) == {"correspondence", "sam_guidance", "clutter"}
    train(trainer, step, START + 1, STEPS)
    assert not torch.equal(model.sam_projection.layers[0].weight, first)
    model.eval()
    model.config.clusters = ClusterOptions(at_least=1000)
    assert model.gaussian_groups().shape == (model.num_points,)
    assert model.gate(0.5) is None


def test_v1_is_asked_by_sams_own_features(make_trainer: Make, small_scene: Path) -> None:
    pipeline = make_trainer(saga_v1, small_scene, guidance_weight=0.0).pipeline
    model, camera = pipeline.model.eval(), pipeline.datamanager.camera(0)
    with torch.no_grad():
        model.gauss_params["affinity"].copy_(torch.randn(model.num_points, 32))
    image = model.feature_image(camera)
    solid = model.composite(torch.ones(model.num_points, 1))[..., 0] >= 0.5
    mask = torch.zeros_like(solid)
    mask[20:50, 30:60] = True
    embedding, prompter = torch.randn(8, 12, 256), Prompter(model)

    def ask(threshold: float | None, embedding: Tensor | None) -> Tensor:
        return prompter.select(camera, Prompt(mask=mask), None, threshold, mask_by_sam=True, embedding=embedding)

    # Nothing was learned of SAM: cosines, with the mean of all as their threshold.
    assert model.project_embedding(embedding) is None
    assert torch.equal(ask(None, embedding), ask(None, None))
    model.config.guidance_weight = 1.0
    queries = guided_queries(model.sam_projection(embedding), image, mask & solid)
    scores = (model.gauss_params["affinity"] @ queries.T).amax(dim=1)
    assert torch.equal(ask(None, embedding), scores > scores.mean() + scores.std(unbiased=False))
    assert torch.equal(ask(0.75, embedding), ask(0.75, None))
    assert not torch.equal(ask(None, embedding), ask(None, None))
    assert model.project_embedding(torch.randn(8, 12, 16)) is None


def test_v1_without_embeddings(
    make_trainer: Make, small_scene: Path, step: Step, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = make_trainer(saga_v1, small_scene, guidance_weight=0.0)
    train(trainer, step, 0, STEPS)
    with pytest.raises(SystemExit):  # before the geometry trains
        make_trainer(saga_v1, small_scene)
    assert "gseg masks --embeddings" in capsys.readouterr().err


def test_a_tree_answers_and_supervises(make_trainer: Make, small_scene: Path, step: Step, tmp_path: Path) -> None:
    splats = room_of_points(small_scene)
    write_ply(tmp_path / "cloud.ply", splats)
    options = {**OPTIONS, "tree": True, "geometry": tmp_path / "cloud.ply", "geometry_frame": "original"}
    trainer = make_trainer(saga, small_scene, steps=6, **options)
    model = trainer.pipeline.model
    assert model.prompts_by_feature
    train(trainer, step, 0, 6)
    tree = model.tree()
    assert tree.depth > 1
    assert not model.prompts_by_feature
    model.eval()
    model.config.clusters = ClusterOptions(at_least=1000)
    levels = [tree.labels(level) for level in ("part", "object", "group")]
    for scale, labels in zip((0.0, 0.5, 1.0), levels, strict=True):
        groups = model.gaussian_groups(scale)
        assert torch.equal(groups[labels > 0], labels[labels > 0])
        assert ((groups > len(tree)) | torch.isin(groups, labels.unique())).all()
    with pytest.raises(GsegError, match="outside"):
        model.gaussian_groups(1.5)
    camera = trainer.pipeline.datamanager.camera(0)
    shown = model.label_image(camera, 0.5)
    assert (shown > 0).float().mean() > 0.8
    alpha = model.composite(torch.ones(model.num_points, 1))[..., 0]
    y, x = divmod(int(torch.where(shown > 0, alpha, 0).argmax()), shown.shape[1])
    point = Prompter(model).point(to_camera(camera), x + 0.5, y + 0.5, scale=0.5)
    assert point.group == int(shown[y, x])
    assert point.group in point.path
    # What supervises is nested or apart, and the same things in all views.
    given = trainer.pipeline.datamanager.mask_set(0)
    masks = model.node_masks(model.project_view(0), given).decode()
    assert 1 < len(masks)
    trainer.save_checkpoint(5)
    again = make_trainer(saga, small_scene, load=trainer.checkpoint_dir, steps=8, **options)
    step(again, 6)
    assert torch.equal(again.pipeline.model.tree_nodes, model.tree_nodes)
    assert not again.pipeline.model.prompts_by_feature


def test_features_answer_where_the_tree_has_no_node() -> None:
    nodes = torch.tensor([3, 3, 3, 0, 0, 0, 0, 5])
    clusters = torch.tensor([1, 1, 1, 1, 2, 2, 0, 0])
    assert joined(nodes, clusters, 7).tolist() == [3, 3, 3, 3, 9, 9, 0, 5]
    assert joined(nodes, torch.zeros_like(nodes), 7).equal(nodes)
