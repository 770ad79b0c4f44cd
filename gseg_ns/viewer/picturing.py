"""Small pictures of the objects, for the list."""

from __future__ import annotations

import base64
import io
from collections.abc import Hashable, Iterator, Sequence

import torch
from nerfstudio.cameras.cameras import Cameras
from PIL import Image

from gseg_ns.runs.edited_model import with_gaussians
from gseg_ns.runs.object_pictures import best_views, camera_towards, object_picture, upwards
from gseg_ns.viewer.held import Held

_SIZE = 52  # pixels
_VIEWS = 24  # photographs from which objects are looked at
_MOST = 200  # objects


class Picturing(Held):
    """Pictures of objects."""

    def pictured(self) -> Hashable:
        """Differs where the pictures of objects do."""
        with self._held():
            return self._pictured()

    def _pictured(self) -> Hashable:
        return self.model.geometry_version(), self.model.step, self._group_scale

    def pictures(self, cameras: Cameras) -> Iterator[tuple[int, str]]:
        """A picture of each group, the largest first: its id, and a JPEG as an address of the kind `data:`.

        The lock is held for one picture at a time. Ends early where groups change meanwhile.

        Args:
            cameras: of photographs.
        """
        key = self.pictured()
        step = max(len(cameras) // _VIEWS, 1)
        views: Sequence[Cameras] = [cameras[view : view + 1] for view in range(0, len(cameras), step)]
        up = upwards(torch.cat([view.camera_to_worlds for view in views]))
        with self._held() as session, torch.no_grad():
            splats = session.splats
            groups = self._prompter.groups(self._group_scale)
        best = best_views(splats, groups, views, width=96)
        sizes = torch.bincount(groups)
        for group in sorted(best, key=lambda one: -int(sizes[one]))[:_MOST]:
            with self._held(), torch.no_grad():
                if self._pictured() != key:
                    return
                rows = torch.nonzero(groups == group)[:, 0]
                own = splats.subset(rows)
                view = camera_towards(own, views[best[group]], up, _SIZE)
                model = with_gaussians(self.model, own, rows).eval()
                picture = (object_picture(model, view) * 255).round().byte().numpy()
            stream = io.BytesIO()
            Image.fromarray(picture).save(stream, "JPEG", quality=75)
            yield group, f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
