"""How a splat is drawn: Splatfacto's own picture on any device, and values of Gaussians over its projection."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.models.base_model import ModelConfig
from torch import Tensor

from gseg_ns import compat
from gseg_ns.lifting.strengths import silhouettes
from gseg_ns.models.checkpoints import ResumableModel
from gseg_ns.models.splatfacto import SplatfactoModel, splatfacto
from gseg_ns.rendering import Coefficients, composite, rasterization, rasterization_with_features, threads
from gseg_ns.rendering.blend import Alphas, clamp
from gseg_ns.rendering.memory import keep_freed_memory
from gseg_ns.rendering.ssim import Photograph, Ssim, absolute
from gseg_ns.splats.projection import near_of
from gseg_ns.transfer import upload


class DrawnModel(ResumableModel):
    """Splatfacto that draws by `gseg_ns.rendering`, in training and after it."""

    def populate_modules(self) -> None:
        """Splatfacto's own, and what its losses and pictures are made with."""
        with compat.metrics_when_asked():
            super().populate_modules()
        if self._on_cpu:
            threads.configure()
            keep_freed_memory()
            self.ssim = Ssim(self.ssim)
        self._get_outputs = compat.with_globals(
            SplatfactoModel.get_outputs,
            rasterization=self._rasterize,
            get_viewmat=self._viewmat,
            torch=compat.Torch(cat=self._join, clamp=clamp),
        )
        self._get_loss_dict = compat.with_globals(
            SplatfactoModel.get_loss_dict, torch=compat.Torch(tensor=self._scalar, abs=absolute)
        )

    @property
    def _on_cpu(self) -> bool:
        """Whether the model is going to be on the CPU: there it is built, and a GPU may be there unused."""
        return torch.device(self.kwargs.get("device", "cpu")).type == "cpu"

    def render(self, camera: Cameras) -> dict[str, Tensor | list[Any]]:
        """Splatfacto's own outputs, on any device; leaves the projection in `self.info`."""
        if not self.training:  # in training Splatfacto does it
            camera = self.corrected(camera)
        # On the CPU, where its size can be read without waiting for a GPU.
        return self._get_outputs(self, compat.intrinsics_on(camera.to("cpu"), self.device))

    def rendered_features(self) -> Tensor | None:
        """Values [N, D] to render in one pass with the colors, into `self.info["features"]` [1, H, W, D], or None."""
        return None

    def _join(self, tensors: tuple[Tensor, Tensor], dim: int) -> Tensor | Coefficients:
        """What Splatfacto calls to put its harmonics into one tensor, which costs a CPU more than to evaluate them."""
        return Coefficients(*tensors) if self.config.sh_degree > 0 else torch.cat(tensors, dim=dim)

    def losses(
        self, outputs: dict[str, Any], batch: dict[str, Any], metrics_dict: dict[str, Any] | None
    ) -> dict[str, Tensor]:
        """Splatfacto's own losses of a picture."""
        # The window of SSIM is no buffer, and would be sent to a GPU in every step.
        self.ssim.win = self.ssim.win.to(self.device)
        image = batch["image"]
        if "mask" not in batch and self._get_downscale_factor() == 1 and Photograph.fits(image, self.ssim):
            batch = {**batch, "image": Photograph(image, self.ssim)}
        return cast(dict[str, Tensor], self._get_loss_dict(self, outputs, batch, metrics_dict))

    def _scalar(self, value: float) -> Tensor:
        """What Splatfacto's losses call to make a number; upstream sends it from the CPU, a wait in every step."""
        return torch.full((), value, device=self.device)

    def _viewmat(self, pose: Tensor) -> Tensor:
        """What Splatfacto calls for the world-to-camera matrix [1, 4, 4] of a pose [1, 3, 4] on the CPU."""
        return upload(compat.eager(splatfacto.get_viewmat)(pose), self.device)

    def _rasterize(self, **arguments: Any) -> tuple[Tensor, Tensor | Alphas, dict[str, Any]]:
        """What Splatfacto calls to render."""
        if not self.training:
            arguments["near_plane"] = near_of(arguments["means"])
        values = self.rendered_features()
        render = rasterization if values is None else partial(rasterization_with_features, values)
        image, alphas, info = render(**arguments)
        return image, Alphas(alphas), info

    def composite(self, values: Tensor) -> Tensor:
        """Composite per-Gaussian values over the projection, tiles and sort of the last `render`.

        Gradients reach the values, and not the geometry: for that see `rendered_features`.

        Args:
            values: [N, D], N the Gaussians of that render.

        Returns:
            [H, W, D], not divided by alpha.
        """
        return composite(self.info, values)

    def silhouettes(self, meta: dict[str, Any], selections: Tensor) -> Tensor:
        """Where each of some selections of Gaussians is most of what a view shows: bool [H, W, K].

        Args:
            meta: projection of the view: `info` of the last `render`, or `project_splats`.
            selections: bool [N, K].
        """
        return silhouettes(meta, selections)

    @torch.no_grad()
    def picture(self, camera: Cameras) -> Tensor:
        """The colors of a view as evaluation shows them: [H, W, 3] in [0, 1]."""
        with self._evaluating():
            return cast(Tensor, self.render(camera.to(self.device))["rgb"])

    def get_image_metrics_and_images(
        self, outputs: dict[str, Any], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Splatfacto's metrics and pictures; LPIPS is left out where its weights could not be had."""
        metrics, images = super().get_image_metrics_and_images(outputs, batch)
        return {name: value for name, value in metrics.items() if not math.isnan(value)}, images

    def _cropped_rows(self) -> Tensor | None:
        """Which Gaussians the viewer's crop box leaves, [N] bool, or None without a crop."""
        return None if self.crop_box is None or self.training else self.crop_box.within(self.means).squeeze(-1)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Render as in evaluation (full resolution, no crop), whatever the mode."""
        training, crop = self.training, self.crop_box
        self.eval()
        self.crop_box = None
        try:
            yield
        finally:
            self.train(training)
            self.crop_box = crop

    def corrected(self, camera: Cameras) -> Cameras:
        """A camera [1] as the camera optimizer has moved it, if it is a training view's (`cam_idx`); else itself."""
        view = (camera.metadata or {}).get("cam_idx")
        if view is None or self.config.camera_optimizer.mode == "off":
            return camera
        moved = camera.to(camera.device)
        with torch.no_grad():
            moved.camera_to_worlds = self.camera_optimizer.apply_to_camera(moved)
        moved.metadata = None  # what is moved is not moved again
        return moved


def keep_drawing(config: ModelConfig, model: DrawnModel) -> bool:
    """Note in a run's config how its Gaussians are drawn, and whether its cameras are corrected, which a given geometry
    may have decided.

    What is loaded later has the Gaussians from the checkpoint, and not the geometry that says it.

    Returns:
        whether the config changed.
    """
    changed = False
    for name in ("rasterize_mode", "background_color", "camera_optimizer"):
        if getattr(config, name) != getattr(model.config, name):
            setattr(config, name, getattr(model.config, name))
            changed = True
    return changed
