"""Nerfstudio's Splatfacto, without torch's compiler."""

from __future__ import annotations

from gseg_ns import compat

with compat.compiled_when_called():
    from nerfstudio.models import splatfacto
    from nerfstudio.models.splatfacto import RGB2SH, SH2RGB, SplatfactoModel, SplatfactoModelConfig

__all__ = ["RGB2SH", "SH2RGB", "SplatfactoModel", "SplatfactoModelConfig", "splatfacto"]
