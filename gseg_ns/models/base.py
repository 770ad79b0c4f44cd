"""What all segmentation methods share: Splatfacto on any device, features on Gaussians, phases, checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
import tyro
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.engine.optimizers import Optimizers
from torch import Tensor
from torch.nn import Parameter

from gseg_ns import gpu, terminal
from gseg_ns.data.cameras import to_camera
from gseg_ns.data.datamanager import MaskDatamanager
from gseg_ns.errors import GsegError
from gseg_ns.lifting.association import NO_GROUPS
from gseg_ns.lifting.feature_colors import color_basis
from gseg_ns.lifting.tree import Tree
from gseg_ns.models.budget import device_budget, draw_within
from gseg_ns.models.culling import cull_out_of_pictures
from gseg_ns.models.drawing import DrawnModel
from gseg_ns.models.panel import Panel
from gseg_ns.models.parameters import GEOMETRY, from_parameters, to_parameters
from gseg_ns.models.schedule import AUTO, SHORT_RUN_POWERS, resolve, steps_of_geometry
from gseg_ns.models.splatfacto import RGB2SH, SplatfactoModelConfig
from gseg_ns.models.starting_points import starting_points
from gseg_ns.models.strategy import BudgetedStrategy
from gseg_ns.models.trained_geometry import camera_corrections, load_geometry, take_over
from gseg_ns.palette import colors
from gseg_ns.rendering.camera import Camera
from gseg_ns.splats import Splats
from gseg_ns.splats.projection import project_splats


@dataclass
class SegmentationModelConfig(SplatfactoModelConfig):
    """Splatfacto with features on its Gaussians. Step counts left at -1 follow from the length of the run."""

    _target: type = field(default_factory=lambda: SegmentationModel)
    num_iterations: tyro.conf.Suppress[int] = 40_000
    """Length of the run in steps: --max-num-iterations, which is the option; milestones are parts of it."""
    recipe: Literal["best", "paper", "official"] = "best"
    """Whose method is run: what measures best here (the default), the paper as it is written, or its official code.
    It sets the options in which the three differ (docs/recipes.md) and no others; an option that is given stays."""
    recipe_settled: tyro.conf.Suppress[bool] = False
    """The options are those of the recipe already."""
    geometry_fraction: float = 0.75
    """Part of the run that trains the geometry before it is frozen (Gaga: 30k of 40k)."""
    scale_rates: bool = True
    """Raise the geometry's learning rates (harmonics: more) in a geometry phase shorter than the 30 000 steps that they
    are made for, and with unified-lift the codebook's in such a run; rates given by --optimizers stay. False: all stay.
    Where colors and groups train together, those of the geometry do."""
    cull_out_of_pictures: bool = True
    """Leave out, when the geometry freezes, Gaussians whose centers lie in no training picture: nothing says how far
    away they are, and right before the lens of a new view they hide up to three quarters of it. A given
    `geometry` stays whole."""
    geometry: Path | None = None
    """Start from a trained splat and skip the geometry phase: a 3DGS PLY in this scene's frame, or a Nerfstudio run of
    this scene (its folder or config.yml)."""
    geometry_frame: Literal["nerfstudio", "original"] = "nerfstudio"
    """Coordinates of a PLY given as `geometry`: Nerfstudio's normalised frame of this scene (what ns-export writes), or
    the frame of the capture's own poses (what other 3DGS trainers write)."""
    geometry_in_checkpoint: tyro.conf.Suppress[bool] = False
    """`geometry` is not read, since a checkpoint that holds it is loaded next: it may be large, and may have moved."""
    max_gaussians: int = AUTO
    """Densification stops at this many Gaussians; 0: no limit; -1: 60000 on the CPU, and what the free memory of a GPU
    has room for in training."""
    warmup_length: int = AUTO
    """period of steps where refinement is turned off; -1: 1/60 of the geometry phase"""
    refine_every: int = AUTO
    """period of steps where gaussians are culled and densified; -1: 1/300 of the geometry phase, but at least as many
    steps as there are views (up to 100)"""
    resolution_schedule: int = AUTO
    """training starts at 1/d resolution, every n steps this is doubled; -1: 1/10 of the geometry phase"""
    sh_degree_interval: int = AUTO
    """every n intervals turn on another sh degree; -1: 1/30 of the geometry phase"""
    stop_screen_size_at: int = AUTO
    """stop culling/splitting at this step WRT screen size of gaussians; -1: 2/15 of the geometry phase"""
    stop_split_at: int = AUTO
    """stop splitting at this step; -1: half of the geometry phase"""


class SegmentationModel(DrawnModel):
    """Base of all methods.

    A trained model of any method answers the same questions: `gaussian_groups`, `label_image`, `feature_image`,
    `splats`. Viewer, selection, export and evaluation ask nothing else.

    A method names its per-Gaussian features in `feature_dims` and overrides `gaussian_groups`, `decode` and either
    `feature_losses` (two phases: geometry, then features on frozen geometry) or `get_loss_dict` (joint training).
    """

    config: SegmentationModelConfig
    main_feature: str = ""
    """The per-Gaussian parameter that `feature_image` composites."""
    two_phases: bool = True
    """Whether geometry is trained first and then frozen."""
    short_run_powers: ClassVar[Mapping[str, float]] = SHORT_RUN_POWERS
    has_scales: bool = False
    """Whether groups depend on a scale in [0, 1]."""
    prompts_by_feature: bool = False
    """Whether a prompt is answered by the likeness of `main_feature` (see `gate`) and not by groups."""
    origin: tuple[SegmentationModel, Tensor] | None = None
    """Of a copy with other Gaussians: the model, and which of its Gaussians each is [N] int64, -1 = none of them. What
    clusters are is found out there, so that they are the same in all copies."""
    metrics_are_read: bool = True
    """Whether anybody reads the metrics of the present step of training. Set by the trainer."""
    make_panel: ClassVar[Callable[[SegmentationModel], Panel] | None] = None
    """Makes the viewer's "Segment" tab of a model. Set by `gseg_ns.method_configs`: models do not know the viewer."""

    feature_mean: Tensor
    feature_basis: Tensor

    def __init__(self, config: SegmentationModelConfig, *args: Any, **kwargs: Any) -> None:
        if not 0 < config.geometry_fraction < 1:
            raise GsegError(
                f"--geometry-fraction is {config.geometry_fraction}: give a part of the run, between 0 and 1"
            )
        self._datamanager: MaskDatamanager | None = None
        self._phase_started = False
        super().__init__(config, *args, **kwargs)

    # ----------------------------------------------------------------------------------------------- construction

    @property
    def geometry_steps(self) -> int:
        """Steps in which the geometry trains."""
        return steps_of_geometry(self.config, self.two_phases)

    @property
    def groups_start(self) -> int:
        """The first step after which there are groups; before it, what answers is chance."""
        return self.geometry_steps if self.two_phases else 0

    def without_moments(self, step: int) -> set[str]:
        """Groups of parameters whose moments no step after this one needs: geometry, once it is frozen, and in the end
        all.
        """
        if not self.geometry_is_final(step):
            return set()
        return set(self.get_param_groups() if step + 1 >= self.config.num_iterations else GEOMETRY)

    def geometry_is_final(self, step: int) -> bool:
        """Whether no step after this one changes the geometry."""
        return self.two_phases and step + 1 >= self.geometry_steps

    @property
    def in_feature_phase(self) -> bool:
        """Whether the geometry is frozen at the current step."""
        return self.two_phases and self.step >= self.geometry_steps

    def populate_modules(self) -> None:
        """Build the parameters: Splatfacto's own, from points or from `geometry`, and the features."""
        self.config = resolve(self.config, self.geometry_steps, self.num_train_data)
        trained = poses = None
        if self.config.geometry is not None and not self.config.geometry_in_checkpoint:
            trained = load_geometry(self.config.geometry, self.config.geometry_frame, self.kwargs["metadata"])
            if self._on_cpu:
                gpu.refuse_on_cpu(len(trained.means))
            take_over(self.config, self.config.geometry, trained)
            poses = camera_corrections(self.config.geometry, self.num_train_data, self.kwargs["metadata"])
            if poses is not None:
                # A copy: the default's is everybody's.
                self.config.camera_optimizer = replace(self.config.camera_optimizer, mode=poses[0])
        color = None
        seed = self.seed_points
        if trained is not None:
            self.seed_points = (trained.means, torch.empty((0, 3)))
            self.config.random_init = False
        elif seed is not None and not self.config.random_init:
            wanted = min(self.config.num_random, self._budget) if self._budget else self.config.num_random
            # What is loaded next has Gaussians of its own: then there is nothing to tell.
            tell = (lambda text: None) if self.config.geometry_in_checkpoint else terminal.warn
            seed = starting_points(*seed, wanted, self.config.random_scale, tell)
            chosen = draw_within(self._budget, seed[0].shape[0], tell)
            color = seed[1][chosen] if seed[1].shape[0] else None
            # Splatfacto moves the colors of seed points to CUDA; without colors it does not, and we set them below.
            self.seed_points = (seed[0][chosen], torch.empty((0, 3)))
        elif self._budget:
            self.config.num_random = min(self.config.num_random, self._budget)
        self._is_given = trained is not None
        super().populate_modules()
        self.seed_points = seed
        if poses is not None:
            self.camera_optimizer.pose_adjustment.data.copy_(poses[1])

        if color is not None:
            fraction = color.float() / 255
            dc = RGB2SH(fraction) if self.config.sh_degree > 0 else torch.logit(fraction, eps=1e-10)
            self.gauss_params["features_dc"] = Parameter(dc)
        if trained is not None:
            for name, value in to_parameters(trained, self.config.sh_degree).items():
                self.gauss_params[name] = Parameter(value.contiguous())
        for name, dim in self.feature_dims.items():
            self.gauss_params[name] = Parameter(self.initial_feature(name, self.num_points, dim))

        old = self.strategy
        options = {name: getattr(old, name) for name in old.__dataclass_fields__}
        self.strategy = BudgetedStrategy(**(options | {"verbose": False}), max_gaussians=self._budget)
        dim = self.feature_dims.get(self.main_feature, 3)
        self.register_buffer("feature_mean", torch.zeros(dim))
        self.register_buffer("feature_basis", torch.zeros(dim, 3))
        make = type(self).make_panel
        self.panel: Panel | None = None if make is None else make(self)
        """Nerfstudio's viewer finds it here."""

    def k_nearest_sklearn(self, x: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Distances to neighbours and these, [N, k] each: sizes to start from, which given Gaussians have."""
        if self._is_given:
            return np.ones((len(x), k), np.float32), np.zeros((len(x), k), np.float32)
        return super().k_nearest_sklearn(x, k)

    @property
    def _budget(self) -> int:
        """Largest number of Gaussians, 0 = any."""
        if self.config.max_gaussians != AUTO:
            return self.config.max_gaussians
        return device_budget(self.kwargs.get("device", "cpu"), sum(self.feature_dims.values()))

    def initial_feature(self, name: str, count: int, dim: int) -> Tensor:
        """Start value of a per-Gaussian feature: [count, dim]."""
        return torch.zeros((count, dim))

    def get_gaussian_param_groups(self) -> dict[str, list[Parameter]]:
        """Splatfacto's groups and one a feature."""
        return {name: [cast(Parameter, self.gauss_params[name])] for name in (*GEOMETRY, *self.feature_dims)}

    # --------------------------------------------------------------------------------------------------- training

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """Splatfacto's callbacks, and the start of the feature phase."""
        pipeline = training_callback_attributes.pipeline
        assert pipeline is not None
        datamanager = pipeline.datamanager
        if not isinstance(datamanager, MaskDatamanager):
            raise GsegError("This method needs masks: its datamanager cannot be replaced")
        self.use_masks(datamanager)
        return [
            *super().get_training_callbacks(training_callback_attributes),
            TrainingCallback(
                [TrainingCallbackLocation.AFTER_TRAIN_ITERATION], self._refresh_projection, update_every_num_iters=100
            ),
        ]

    def use_masks(self, datamanager: MaskDatamanager) -> None:
        """Take the masks of the training views from here.

        Raises:
            GsegError: they are missing or damaged.
        """
        datamanager.require_masks()
        datamanager.labels_in_batches = not self.two_phases
        # Not as a submodule: the pipeline already holds the datamanager.
        object.__setattr__(self, "_datamanager", datamanager)

    def step_cb(self, optimizers: Optimizers, step: int) -> None:
        """Note the step; start the feature phase when its time has come."""
        super().step_cb(optimizers, step)
        if self.two_phases and not self.in_feature_phase and self.has_findings:
            self.forget_findings()
            for optimizer in optimizers.optimizers.values():
                optimizer.state.clear()  # there may be more groups, or fewer
            terminal.say("The geometry of a shorter run trains on: its objects are found anew when it freezes.")
        if self.in_feature_phase and not self._phase_started:
            self._phase_started = True
            # Not where a run goes on from within the phase: what was found by then has a row a Gaussian.
            if self.config.cull_out_of_pictures and step == self.geometry_steps > 0 and not self.has_findings:
                cameras = (self.view_camera(view) for view in range(self.num_train_data))
                cull_out_of_pictures(self.gauss_params, optimizers.optimizers, self.strategy_state, cameras)
            # What is frozen needs no moments, and photographs only say what it looks like.
            for name in GEOMETRY:
                if name in optimizers.optimizers:
                    optimizers.optimizers[name].state.clear()
            counts = self.strategy_state
            self.strategy_state = {k: None if isinstance(v, Tensor) else v for k, v in counts.items()}
            self.masks().release_photographs()
            self.start_feature_phase()

    def step_post_backward(self, step: int) -> None:
        """Densify, unless the geometry is frozen."""
        if not self.in_feature_phase:
            super().step_post_backward(step)

    def masks(self) -> MaskDatamanager:
        """The datamanager of the run in training. A method and not a property: the viewer evaluates every property.

        Raises:
            GsegError: outside of training.
        """
        if self._datamanager is None:
            raise GsegError("The masks are only at hand in training")
        return self._datamanager

    def start_feature_phase(self) -> None:
        """Prepare the training of features on the frozen geometry. Called again after a resume."""

    def feature_losses(self, view: int) -> dict[str, Tensor]:
        """Losses of a step of the feature phase on training image `view`."""
        raise NotImplementedError(type(self).__name__)

    def get_outputs(self, camera: Cameras) -> dict[str, Tensor | list[Any]]:  # type: ignore[override]
        """Render a view. In the feature phase of training nothing is rendered: losses use cached contributions."""
        if self.training and self.in_feature_phase:
            return {}
        outputs = self.render(camera)
        if not self.training:
            outputs.update(self.view_outputs(camera, outputs))
        return outputs

    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Tensor]:
        """Splatfacto's metrics; in the feature phase there is no picture to measure. None where nobody reads them."""
        if self.training and not self.metrics_are_read:
            return {}
        if self.training and self.in_feature_phase:
            return {"gaussian_count": torch.tensor(float(self.num_points))}
        return super().get_metrics_dict(outputs, batch)

    def get_loss_dict(
        self, outputs: dict[str, Any], batch: dict[str, Any], metrics_dict: dict[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """Splatfacto's losses, or those of the feature phase."""
        if self.training and self.in_feature_phase:
            return self.feature_losses(int(batch["image_idx"]))
        return self.losses(outputs, batch, metrics_dict)

    # ------------------------------------------------------------------------------------- what a trained model says

    def splats(self) -> Splats:
        """The Gaussians as plain data, detached."""
        return from_parameters(dict(self.gauss_params.items()), self.config.rasterize_mode)

    def geometry_version(self) -> tuple[int, ...]:
        """Changes whenever training may have changed the Gaussians. A method and not a property: see `masks`.

        The step counts while the geometry trains, since an optimizer that updates in one pass raises no version of a
        tensor.
        """
        means = cast(Tensor, self.gauss_params["means"])
        return self.num_points, id(means), means._version, min(self.step, self.geometry_steps)

    @property
    def found_nothing(self) -> bool:
        """Whether masks were associated, and not two of them found together."""
        return False

    def require_groups(self) -> None:
        """Refuse to call a run a success whose masks came to nothing.

        Raises:
            GsegError: no Gaussian is in any group, and what the likely causes are.
        """
        if not bool((self.gaussian_groups() > 0).any()):
            raise GsegError(NO_GROUPS)

    def gaussian_groups(self, scale: float | None = None) -> Tensor:
        """The group of each Gaussian: [N] int64, 0 = none. `scale` in [0, 1] for methods with `has_scales`."""
        raise NotImplementedError(type(self).__name__)

    def group_confidence(self, scale: float | None = None) -> Tensor | None:
        """How sure each Gaussian's group is: [N] in 0..1; None where the method does not say."""
        return None

    def group_names(self, scale: float | None = None) -> dict[int, str]:
        """What groups are called from the start, by the words of their masks; users' own names come before these."""
        return {}

    @property
    def default_scale(self) -> float:
        """The scale in [0, 1] where none is asked for; means nothing to methods without scales."""
        return 0.5

    def gate(self, scale: float) -> Tensor | None:
        """What features are multiplied with before they are compared at a scale: [D], or None for nothing."""
        return None

    def project_embedding(self, embedding: Tensor) -> Tensor | None:
        """What SAM's encoder says of a view [h, w, C], in the space of the features [h, w, D]; None: not learned."""
        return None

    def tree(self) -> Tree | None:
        """The tree of parts, objects and groups, where there is one."""
        return None

    def whole(self) -> SegmentationModel:
        """The model itself; what stands for one where labels answer alone loads it."""
        return self

    def group_under(
        self,
        feature: Tensor,
        rows: Tensor,
        weights: Tensor,
        scale: float | None = None,
        in_view: Callable[[Tensor], Tensor] | None = None,
    ) -> int:
        """The group that a pixel shows; 0 = none.

        Args:
            feature: the main feature composited there [D].
            rows: the Gaussians [K] that add to it, -1 for what is not of this model,
            weights: and how much [K].
            scale: see `gaussian_groups`.
            in_view: labels of all Gaussians [N] -> those that the whole view shows by their weights alone; None where
                there is no view.
        """
        return int(self.decode(feature[None], scale))

    def decode(self, features: Tensor, scale: float | None = None) -> Tensor:
        """Turn composited features [..., D] into group ids [...] int64, 0 = none."""
        raise NotImplementedError(type(self).__name__)

    @torch.no_grad()
    def feature_image(self, camera: Cameras) -> Tensor:
        """Composite the main feature: [H, W, D]."""
        with self._evaluating():
            self.render(camera.to(self.device))
            return self.composite(self.gauss_params[self.main_feature])

    @torch.no_grad()
    def label_image(self, camera: Cameras, scale: float | None = None) -> Tensor:
        """Segment a view: [H, W] int64 group ids, 0 = none."""
        return self.decode(self.feature_image(camera), scale)

    def view_channels(self) -> dict[str, int]:
        """Name -> channels of the pictures of `view_outputs`."""
        return {"groups": 3, "features": 3}

    @torch.no_grad()
    def view_outputs(
        self, camera: Cameras, outputs: dict[str, Any], wanted: Collection[str] | None = None
    ) -> dict[str, Tensor]:
        """Pictures beside Splatfacto's: `groups` in palette colors and `features` by a stored projection.

        Args:
            camera: of the view that was rendered last.
            outputs: of that.
            wanted: what is looked at; others may be empty, since groups are long in the making with some methods. None:
                all.
        """
        rgb = outputs["rgb"]
        pictures = {"groups": torch.zeros_like(rgb), "features": torch.zeros_like(rgb)}
        rows = self._cropped_rows()
        if not self.main_feature or (rows is not None and not bool(rows.any())):
            return pictures
        values = self.gauss_params[self.main_feature]
        image = self.composite(values if rows is None else values[rows])
        if wanted is None or "groups" in wanted:
            pictures["groups"] = colors(self.shown_labels(image, rows)).to(rgb) / 255
        projected = (image - self.feature_mean * outputs["accumulation"]) @ self.feature_basis + 0.5
        pictures["features"] = projected.clamp(0, 1)
        return pictures

    def shown_labels(self, image: Tensor, rows: Tensor | None) -> Tensor:
        """The labels of the view that was rendered last: [H, W] int64, 0 = none.

        Args:
            image: the composited main feature [H, W, D].
            rows: bool [N], the Gaussians in that view; None: all.
        """
        return self.decode(image)

    def get_outputs_for_camera(self, camera: Cameras, obb_box: OrientedBox | None = None) -> dict[str, Tensor]:
        """Render a view for the viewer, `ns-render` and `ns-eval`."""
        if self.panel is not None and self.panel.is_drawing():
            return self.panel.outputs(camera, obb_box)
        return super().get_outputs_for_camera(camera, obb_box)

    def view_camera(self, view: int) -> Camera:
        """The camera of a training image as it is trained on, its lens undistorted and its pose corrected."""
        return to_camera(self.corrected(self.masks().camera(view))).to(self.device)

    @torch.no_grad()
    def project_view(self, view: int) -> dict[str, Any]:
        """Project the Gaussians into a training view (see `gseg_ns.rendering.project`)."""
        # What is drawn is not asked for: to join the harmonics takes as long as half of a projection.
        bare = {**self.gauss_params, "features_rest": self.gauss_params["features_rest"][:, :0]}
        return project_splats(from_parameters(bare, self.config.rasterize_mode), self.view_camera(view))

    @torch.no_grad()
    def _refresh_projection(self, step: int) -> None:
        """Recompute the directions in which the features are shown."""
        if not self.main_feature:
            return
        found = color_basis(self.gauss_params[self.main_feature], self.feature_basis)
        if found is not None:
            self.feature_mean.copy_(found[0])
            self.feature_basis.copy_(found[1])
