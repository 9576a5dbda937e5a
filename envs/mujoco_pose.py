"""A MuJoCo model at its zero configuration, as a mirror sees it: places, axes and shapes in the world's frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equirl.optional import needed

__all__ = [
    *("BALL", "CAPSULE", "CYLINDER", "FREE", "HINGE", "MUJOCO", "PLANE", "SLIDE", "SPHERE", "Reflection"),
    *("ZeroPose", "part_name", "shown", "zero_qpos"),
]

MUJOCO = "'equirl[mujoco]'"

FREE, BALL, SLIDE, HINGE = range(4)  # mjtJoint
PLANE, SPHERE, CAPSULE, CYLINDER = 0, 2, 3, 5  # mjtGeom


@dataclass(frozen=True)
class Reflection:
    """The reflection of the world in a plane, ``Rp = p - 2 (p[axis] - offset) e_axis``.

    Attributes:
        axis: 0, 1 or 2: the plane's normal is x, y or z.
        offset: Where the plane cuts that axis.
    """

    axis: int
    offset: float

    @property
    def flip(self) -> NDArray[np.float64]:
        """The signs of a vector's coordinates, shape ``[3]``. A pseudo-vector has the opposite ones."""
        signs = np.ones(3)
        signs[self.axis] = -1
        return signs

    def point(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the images of points, shape ``[..., 3]``."""
        images: NDArray[np.float64] = points * self.flip
        images[..., self.axis] += 2 * self.offset
        return images

    def __str__(self) -> str:
        letter = "xyz"[self.axis]
        return f"{letter} -> -{letter}" if self.offset == 0 else f"{letter} -> {2 * self.offset:g} - {letter}"


class ZeroPose:
    """Where the parts of a model are when all joints are at zero, and free bodies at the origin.

    A linear map of the joints has this configuration as its fixed point, whatever ``qpos0`` is.

    Args:
        model: MuJoCo's model.

    Attributes:
        model: The same.
        position: Positions of the bodies, shape ``[n, 3]``.
        frame: Their frames, the axes in columns, shape ``[n, 3, 3]``.
        center: Their centres of mass, shape ``[n, 3]``.
        inertia: Their inertia tensors about these, in the world's frame, shape ``[n, 3, 3]``.
        anchor: Anchors of the joints, shape ``[n, 3]``.
        axis: Axes of the joints, shape ``[n, 3]``.
        geom_position: Positions of the geoms, shape ``[n, 3]``.
        geom_frame: Their frames, shape ``[n, 3, 3]``.
        collides: Whether a geom can touch another one, shape ``[n]``.
        size: Length of the moving parts, to say what is near.
    """

    def __init__(self, model: Any) -> None:
        mujoco = needed("mujoco", MUJOCO)
        data = mujoco.MjData(model)
        data.qpos[:] = zero_qpos(model)
        mujoco.mj_kinematics(model, data)
        self.model = model
        self.position = data.xpos.copy()
        self.frame = data.xmat.reshape(-1, 3, 3).copy()
        self.center = data.xipos.copy()
        principal = data.ximat.reshape(-1, 3, 3)
        self.inertia = np.einsum("bij,bj,bkj->bik", principal, model.body_inertia, principal)
        self.anchor, self.axis = data.xanchor.copy(), data.xaxis.copy()
        self.geom_position = data.geom_xpos.copy()
        self.geom_frame = data.geom_xmat.reshape(-1, 3, 3).copy()
        kind, against = model.geom_contype, model.geom_conaffinity
        meets = (kind[:, None] & against[None]) != 0
        elsewhere = model.geom_bodyid[:, None] != model.geom_bodyid[None]
        self.collides = ((meets | meets.T) & elsewhere).any(axis=1)
        moving = model.body_weldid != 0
        reach = self.position[moving]
        bulk = model.geom_rbound[moving[model.geom_bodyid]]
        self.size = float(np.ptp(reach, axis=0).max(initial=0) + 2 * bulk.max(initial=0)) or 1.0

    def geom_gap(self, reflection: Reflection, first: int, second: int) -> float:
        """Return how far a geom is from the image of another: a distance in position, direction and size.

        Infinite for different shapes. Every shape but a mesh is its own image in its own planes, so axes count up to
        their sign; a sphere has none, and a capsule or cylinder one.
        """
        model = self.model
        kind = int(model.geom_type[first])
        if kind != model.geom_type[second] or model.geom_dataid[first] != model.geom_dataid[second]:
            return float("inf")
        image = reflection.point(self.geom_position[first])
        turned = reflection.flip[:, None] * self.geom_frame[first]
        other = self.geom_frame[second]
        if kind == PLANE:  # without end, whatever its size
            normal = other[:, 2]
            return float(np.linalg.norm(turned[:, 2] - normal) * self.size) + abs(
                float(normal @ (image - self.geom_position[second]))
            )
        columns = {SPHERE: [], CAPSULE: [2], CYLINDER: [2]}.get(kind, [0, 1, 2])
        signs = np.sign((turned * other).sum(axis=0))
        turn = max((float(np.linalg.norm(turned[:, k] - signs[k] * other[:, k])) for k in columns), default=0.0)
        size = float(np.abs(model.geom_size[first] - model.geom_size[second]).max())
        bulk = float(model.geom_rbound[first])
        return float(np.linalg.norm(image - self.geom_position[second])) + turn * bulk + size


def zero_qpos(model: Any) -> NDArray[np.float64]:
    """Return the configuration in which all joints are at zero: quaternions are ``(1, 0, 0, 0)``."""
    qpos = np.zeros(model.nq)
    for kind, start in zip(model.jnt_type, model.jnt_qposadr, strict=True):
        if kind in (FREE, BALL):
            qpos[start + (3 if kind == FREE else 0)] = 1
    return qpos


def part_name(model: Any, kind: str, i: int) -> str:
    """Return how a part is named in messages: ``"joint hip_1"``, or by its number where the model gives no name."""
    mujoco = needed("mujoco", MUJOCO)
    name = mujoco.mj_id2name(model, getattr(mujoco.mjtObj, f"mjOBJ_{kind.upper()}"), i)
    if not name and kind == "geom":
        return f"geom {i} of {part_name(model, 'body', int(model.geom_bodyid[i]))}"
    if not name and kind == "actuator":
        return f"actuator of {part_name(model, 'joint', int(model.actuator_trnid[i, 0]))}"
    if not name and kind == "body":
        return f"body {i} on {part_name(model, 'body', int(model.body_parentid[i]))}"
    return f"{kind} {name}" if name else f"{kind} {i}"


def shown(values: Any) -> str:
    """Return numbers as messages show them: ``0.9`` or ``(0.9, 0.1, 0.1)``."""
    numbers = [f"{number + 0.0:.4g}" for number in np.round(np.atleast_1d(np.asarray(values, dtype=float)), 12).ravel()]
    return numbers[0] if len(numbers) == 1 else f"({', '.join(numbers)})"
