from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gseg_ns.errors import GsegError
from gseg_ns.models.trained_geometry import camera_corrections, load_geometry, run_setting
from gseg_ns.splats import Splats
from gseg_ns.splats.ply import write_ply
from gseg_ns.splats.transform import to_original_frame


def splats(count: int = 7) -> Splats:
    generator = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    return Splats(
        means=rand(count, 3),
        quats=torch.nn.functional.normalize(rand(count, 4), dim=1),
        scales=rand(count, 3) - 4,
        opacities=rand(count),
        sh=rand(count, 16, 3),
    )


def frame(angle: float = 0.4, scale: float = 0.5) -> dict[str, object]:
    c, s = torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))
    matrix = torch.tensor([[c, -s, 0, 0.3], [s, c, 0, -0.2], [0, 0, 1, 0.1]])
    return {"dataparser_transform": matrix, "dataparser_scale": scale}


def write_run(folder: Path, content: Splats, with_frame: dict[str, object] | None = None) -> Path:
    (folder / "nerfstudio_models").mkdir(parents=True)
    parameters = {
        "means": content.means, "quats": content.quats, "scales": content.scales,
        "features_dc": content.sh[:, 0], "features_rest": content.sh[:, 1:], "opacities": content.opacities[:, None],
    }  # fmt: skip
    state = {f"_model.gauss_params.{name}": value for name, value in parameters.items()}
    torch.save({"step": 9, "pipeline": state}, folder / "nerfstudio_models/step-000000009.ckpt")
    if with_frame:
        matrix = with_frame["dataparser_transform"]
        assert isinstance(matrix, torch.Tensor)
        saved = {"transform": matrix.tolist(), "scale": with_frame["dataparser_scale"]}
        (folder / "dataparser_transforms.json").write_text(json.dumps(saved))
    return folder


def test_a_ply_and_a_run_give_the_same_gaussians(tmp_path: Path) -> None:
    content = splats()
    write_ply(tmp_path / "a.ply", content)
    from_ply = load_geometry(tmp_path / "a.ply", "nerfstudio", {})
    from_run = load_geometry(write_run(tmp_path / "run", content), "nerfstudio", {})
    for loaded in (from_ply, from_run):
        torch.testing.assert_close(loaded.means, content.means)
        torch.testing.assert_close(loaded.sh, content.sh)
        torch.testing.assert_close(loaded.opacities, content.opacities)


def test_a_ply_in_original_coordinates_is_brought_into_the_scene(tmp_path: Path) -> None:
    content, metadata = splats(), frame()
    outside = to_original_frame(content, metadata["dataparser_transform"], metadata["dataparser_scale"])  # type: ignore
    write_ply(tmp_path / "a.ply", outside)
    loaded = load_geometry(tmp_path / "a.ply", "original", metadata)
    torch.testing.assert_close(loaded.means, content.means, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loaded.scales, content.scales, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loaded.sh, content.sh, atol=1e-4, rtol=1e-4)


def test_a_run_with_another_normalisation_is_brought_into_the_scene(tmp_path: Path) -> None:
    content, ours, theirs = splats(), frame(), frame(angle=-0.7, scale=2.0)
    same = load_geometry(write_run(tmp_path / "same", content, ours), "nerfstudio", ours)
    torch.testing.assert_close(same.means, content.means)
    other = load_geometry(write_run(tmp_path / "other", content, theirs), "nerfstudio", ours)
    back = to_original_frame(other, ours["dataparser_transform"], ours["dataparser_scale"])  # type: ignore[arg-type]
    truth = to_original_frame(content, theirs["dataparser_transform"], theirs["dataparser_scale"])  # type: ignore
    torch.testing.assert_close(back.means, truth.means, atol=1e-4, rtol=1e-4)


def test_what_is_no_geometry_is_named(tmp_path: Path) -> None:
    with pytest.raises(GsegError, match="nothing does not exist"):
        load_geometry(tmp_path / "nothing", "nerfstudio", {})
    (tmp_path / "cloud.ply").write_text("ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n")
    with pytest.raises(GsegError, match=r"cloud\.ply"):
        load_geometry(tmp_path / "cloud.ply", "nerfstudio", {})
    (tmp_path / "empty").mkdir()
    with pytest.raises(GsegError, match="not a Nerfstudio run"):
        load_geometry(tmp_path / "empty", "nerfstudio", {})


def test_a_checkpoint_cut_in_half_and_one_of_another_model_are_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", splats())
    checkpoint = run / "nerfstudio_models/step-000000009.ckpt"
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: len(content) // 2])
    with pytest.raises(GsegError, match=r"step-000000009\.ckpt is damaged"):
        load_geometry(run, "nerfstudio", {})
    torch.save({"pipeline": {"_model.field.weight": torch.ones(1)}}, checkpoint)
    with pytest.raises(GsegError, match="not a checkpoint"):
        load_geometry(run, "nerfstudio", {})


CONFIG = """!!python/object:nerfstudio.engine.trainer.TrainerConfig
pipeline: !!python/object:nerfstudio.pipelines.base_pipeline.VanillaPipelineConfig
  model: !!python/object:nerfstudio.models.splatfacto.SplatfactoModelConfig
    background_color: white
    rasterize_mode: {mode}
"""


@pytest.mark.parametrize("mode", ["classic", "antialiased"])
def test_a_run_says_how_it_is_drawn(tmp_path: Path, mode: str) -> None:
    run = write_run(tmp_path / "run", splats(), frame())
    assert run_setting(run, "rasterize_mode") is None
    (run / "config.yml").write_text(CONFIG.format(mode=mode))
    assert run_setting(run, "background_color") == "white"
    assert load_geometry(run, "nerfstudio", {}).rasterize_mode == mode
    assert load_geometry(run / "config.yml", "nerfstudio", frame(0.9)).rasterize_mode == mode


def test_what_cannot_be_drawn_is_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = splats()
    content.opacities[:3] = torch.tensor([torch.inf, -torch.inf, torch.nan])
    content.scales[3, 1] = -torch.inf
    content.scales[4, 1] = 60.0
    for path in (tmp_path / "a.ply", tmp_path / "run"):
        write_ply(path, content) if path.suffix else write_run(path, content)
        loaded = load_geometry(path, "nerfstudio", {})
        assert len(loaded) == 4
        assert bool(loaded.opacities.isfinite().all() & loaded.scales.isfinite().all())
        assert "3 of 7 splats are left out: 2 with numbers" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("spoil", ["opacities", "means", "scales"])
def test_a_file_with_nothing_left_is_one_message(tmp_path: Path, spoil: str) -> None:
    content = splats()
    getattr(content, spoil).fill_(torch.nan)
    write_ply(tmp_path / "a.ply", content)
    with pytest.raises(GsegError, match=r"a\.ply has no splat that can be drawn"):
        load_geometry(tmp_path / "a.ply", "nerfstudio", {})


def test_a_model_draws_its_geometry_as_it_was_trained(
    ball_room: Path, tmp_path: Path, make_trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    from gseg_ns.method_configs.gaga import gaga

    run = write_run(tmp_path / "run", splats(30))
    (run / "config.yml").write_text(CONFIG.format(mode="antialiased"))
    model = make_trainer(gaga, ball_room, geometry=run, sh_degree=1).pipeline.model
    assert model.config.rasterize_mode == model.splats().rasterize_mode == "antialiased"
    assert "colors of SH" in " ".join(capsys.readouterr().out.split())


CORRECTED = """pipeline:
  model:
    camera_optimizer:
      mode: {mode}
"""


def write_corrected_run(folder: Path, corrections: torch.Tensor, scale: float, mode: str = "SO3xR3") -> Path:
    """A run whose cameras were corrected, in a frame of its own."""
    run = write_run(folder, splats(30), {**frame(), "dataparser_scale": scale})
    path = run / "nerfstudio_models/step-000000009.ckpt"
    content = torch.load(path, weights_only=True)
    content["pipeline"]["_model.camera_optimizer.pose_adjustment"] = corrections
    torch.save(content, path)
    (run / "config.yml").write_text(CORRECTED.format(mode=mode))
    return run


def test_cameras_are_corrected_as_they_were_for_the_geometry(ball_room: Path, tmp_path: Path, make_trainer) -> None:
    from gseg_ns.method_configs.gaga import gaga

    ours = make_trainer(gaga, ball_room).pipeline.datamanager.train_dataset.metadata["dataparser_scale"]
    corrections = 0.01 * torch.randn((12, 6), generator=torch.Generator().manual_seed(1))
    run = write_corrected_run(tmp_path / "run", corrections, ours / 2)
    trainer = make_trainer(gaga, ball_room, geometry=run)
    model = trainer.pipeline.model
    assert model.config.camera_optimizer.mode == trainer.config.pipeline.model.camera_optimizer.mode == "SO3xR3"
    expected = torch.cat([2 * corrections[:, :3], corrections[:, 3:]], dim=1)
    torch.testing.assert_close(model.camera_optimizer.pose_adjustment.data, expected)
    assert "mode: SO3xR3" in (trainer.config.get_base_dir() / "config.yml").read_text()
    camera = trainer.pipeline.datamanager.camera(3)
    assert not torch.allclose(model.corrected(camera).camera_to_worlds, camera.camera_to_worlds)


@pytest.mark.parametrize(("views", "mode"), [(7, "SE3"), (12, "off")])
def test_corrections_of_other_cameras_are_not_taken(
    tmp_path: Path, views: int, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_corrected_run(tmp_path / "run", torch.zeros(views, 6), 1.0, mode)
    assert camera_corrections(run, 12, frame()) is None
    told = " ".join(capsys.readouterr().out.split())
    assert ("corrected poses of 7 views, and there are 12" in told) == (views == 7)


def test_corrections_of_the_other_kind(tmp_path: Path) -> None:
    run = write_corrected_run(tmp_path / "run", torch.ones(12, 6), 0.5, "SE3")
    found = camera_corrections(run, 12, frame())
    assert found is not None
    assert found[0] == "SE3"
    assert torch.equal(found[1], torch.ones(12, 6))
    write_ply(tmp_path / "a.ply", splats())
    assert camera_corrections(tmp_path / "a.ply", 12, frame()) is None


@pytest.mark.parametrize("suffix", [".splat", ".ksplat", ".sog", ".ply.gz"])
def test_splats_of_other_formats_are_one_message(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"PK")
    with pytest.raises(GsegError, match="convert it to a 3DGS PLY"):
        load_geometry(path, "nerfstudio", {})


def test_the_output_of_3dgs_is_told_from_its_ply(tmp_path: Path) -> None:
    for steps in (7000, 30000):
        (tmp_path / f"point_cloud/iteration_{steps}").mkdir(parents=True)
        write_ply(tmp_path / f"point_cloud/iteration_{steps}/point_cloud.ply", splats())
    with pytest.raises(GsegError, match=r"give .*iteration_30000/point_cloud.ply with --pipeline.model.geometry"):
        load_geometry(tmp_path, "nerfstudio", {})


def test_capital_suffixes_are_suffixes(tmp_path: Path) -> None:
    write_ply(tmp_path / "a.PLY", splats())
    assert len(load_geometry(tmp_path / "a.PLY", "nerfstudio", {})) == 7


def test_lengths_and_opacities_in_place_of_their_logarithms_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = splats(20)
    write_ply(tmp_path / "a.ply", replace(given, scales=given.scales.exp(), opacities=given.opacities))
    load_geometry(tmp_path / "a.ply", "nerfstudio", {})
    captured = capsys.readouterr()
    told = " ".join((captured.out + captured.err).split())
    assert "scales seem to be lengths" in told
    assert "they seem to be no logits" in told
    write_ply(tmp_path / "b.ply", replace(given, opacities=8 * given.opacities - 2))
    load_geometry(tmp_path / "b.ply", "nerfstudio", {})
    captured = capsys.readouterr()
    assert "seem" not in captured.out + captured.err
