"""Drop a ball on the convex hull of an object, in MuJoCo (`pip install mujoco`)."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import torch
import tyro

from gseg_ns.proxies import make_proxy
from gseg_ns.runs import load_run


def main(config: Path, group: int = 1, seconds: float = 3.0) -> float:
    """Print where the ball comes to rest. It slides down a vertical rail, so that it does not roll off.

    Args:
        config: `config.yml` of a run.
        group: the object.
        seconds: of the simulation.

    Returns:
        How far the ball's lowest point then is above the hull's highest one, for a hull one metre high.
    """
    run = load_run(config)
    part = run.model.splats().subset(run.model.gaussian_groups() == group)
    [hull] = make_proxy(part, torch.tensor([0.0, 0, 1]), False, "hull").meshes
    height = float(np.ptp(hull.vertices[:, 2]))
    vertices = (hull.vertices - hull.vertices.min(axis=0)) / height
    x, y, top = vertices[vertices[:, 2].argmax()]

    spec = mujoco.MjSpec()
    spec.add_mesh(name="hull", uservert=vertices.ravel(), userface=hull.faces.ravel().astype(np.int32))
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname="hull")
    ball = spec.worldbody.add_body(pos=[x, y, top + 0.5])
    ball.add_joint(type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[0, 0, 1])
    ball.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.1, 0, 0], mass=0.1)
    model = spec.compile()
    data = mujoco.MjData(model)
    while data.time < seconds:
        mujoco.mj_step(model, data)
    gap = float(data.qpos[0]) + 0.5 - 0.1
    print(f"The ball rests {gap:+.4f} from the top, at {abs(data.qvel[0]):.4f} m/s, with {data.ncon} contacts")
    return gap


if __name__ == "__main__":
    tyro.cli(main)
