"""Places, directions and inertias of a MuJoCo model's parts, and their images in a mirror.

Each is read in the world's frame at the zero configuration, where a reflection has a plain form, and written back into
the frame of the body that holds it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equirl.envs.mujoco_pairs import Mirror
from equirl.envs.mujoco_pose import CAPSULE, CYLINDER, HINGE, MUJOCO, PLANE, SLIDE, SPHERE, ZeroPose
from equirl.optional import needed

__all__ = ["GEOMETRY", "Parameter", "Values", "partners"]

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Parameter:
    """A parameter of parts of one kind.

    Attributes:
        label: What it is called.
        kind: Kind of the parts.
        read: Returns its values, shape ``[n, k]``.
        image: Returns their images, in the places of the partners.
        write: Writes the values of the parts that are given.
    """

    label: str
    kind: str
    read: Callable[[ZeroPose], Values]
    image: Callable[[Values, Mirror], Values]
    write: Callable[[ZeroPose, Values, NDArray[np.bool_]], None]


def partners(kind: str, mirror: Mirror) -> NDArray[Any]:
    """Return the partner of each part of a kind; those without one stand for themselves."""
    if kind == "world":
        return np.zeros(1, dtype=int)
    by_kind = {"body": mirror.bodies, "joint": mirror.joints, "geom": mirror.geoms, "actuator": mirror.actuators}
    found = mirror.qvel.source if kind == "dof" else by_kind[kind]
    return np.asarray(np.where(found < 0, np.arange(len(found)), found))


def _points(values: Values, mirror: Mirror, kind: str) -> Values:
    return mirror.reflection.point(values[partners(kind, mirror)])


def _body_points(values: Values, mirror: Mirror) -> Values:
    """Return the images of points of bodies; the world stays where it is."""
    image = _points(values, mirror, "body")
    image[0] = values[0]
    return image


def _write_bodies(pose: ZeroPose, values: Values, where: NDArray[np.bool_]) -> None:
    model, parent = pose.model, pose.model.body_parentid
    local = np.einsum("bji,bj->bi", pose.frame[parent], values - values[parent])
    # A child of a body that moves stays where it was: its place is told from its parent's.
    moved = where | where[parent]
    moved[0] = False
    model.body_pos[moved] = local[moved]


def _write_geoms(pose: ZeroPose, values: Values, where: NDArray[np.bool_]) -> None:
    model, body = pose.model, pose.model.geom_bodyid
    model.geom_pos[where] = np.einsum("gji,gj->gi", pose.frame[body], values - pose.position[body])[where]
    model.geom_sameframe[where] = 0


def _read_geoms(pose: ZeroPose) -> Values:
    """Return the places of geoms; a plane's is its height, and what touches nothing is nowhere."""
    places = pose.geom_position.copy()
    planes = pose.model.geom_type == 0
    normal = pose.geom_frame[planes][:, :, 2]
    places[planes] = normal * (normal * places[planes]).sum(axis=1, keepdims=True)
    return np.array(np.where(pose.collides[:, None], places, 0.0))


def _geom_points(values: Values, mirror: Mirror) -> Values:
    return np.array(np.where((mirror.geoms < 0)[:, None], values, _points(values, mirror, "geom")))


def _read_directions(pose: ZeroPose) -> Values:
    """Return the directions of geoms as ``sum_k w_k f_k f_k^T`` over their axes, blind to the axes' signs.

    The weights tell apart what the shape does: nothing for a sphere, the axis of a capsule, cylinder or plane.
    """
    weights = np.tile([1.0, 2.0, 3.0], (pose.model.ngeom, 1))
    kinds = pose.model.geom_type
    weights[np.isin(kinds, (PLANE, CAPSULE, CYLINDER))] = (0, 0, 1)
    weights[(kinds == SPHERE) | ~pose.collides] = 0
    frames = pose.geom_frame
    return np.asarray(np.einsum("gij,gj,gkj->gik", frames, weights, frames).reshape(-1, 9))


def _write_directions(pose: ZeroPose, values: Values, where: NDArray[np.bool_]) -> None:
    mujoco = needed("mujoco", MUJOCO)
    for geom in np.flatnonzero(where):
        _, axes = np.linalg.eigh(values[geom].reshape(3, 3))
        axes *= np.where((axes * pose.geom_frame[geom]).sum(axis=0) < 0, -1, 1)
        axes[:, 0] *= np.sign(np.linalg.det(axes))
        local = pose.frame[pose.model.geom_bodyid[geom]].T @ axes
        mujoco.mju_mat2Quat(pose.model.geom_quat[geom], local.ravel())
    pose.model.geom_sameframe[where] = 0


def _turns(pose: ZeroPose) -> NDArray[np.bool_]:
    return np.asarray((pose.model.jnt_type == HINGE) | (pose.model.jnt_type == SLIDE))


def _axis_images(values: Values, mirror: Mirror) -> Values:
    """Return the images of axes: vectors or pseudo-vectors, with the sign of the joint."""
    image = values[mirror.joints] * mirror.reflection.flip
    opposite = (image * values).sum(axis=1) < 0  # up to the sign of the joint, which the mirror has
    return np.asarray(np.where(opposite[:, None], -image, image))


def _write_axes(pose: ZeroPose, values: Values, where: NDArray[np.bool_]) -> None:
    model, body = pose.model, pose.model.jnt_bodyid
    local = np.einsum("jba,jb->ja", pose.frame[body], values)
    model.jnt_axis[where] = (local / np.maximum(np.linalg.norm(local, axis=1, keepdims=True), 1e-12))[where]


def _read_anchors(pose: ZeroPose) -> Values:
    """Return the points nearest to the origin on the axes of hinges; other joints have no anchor that matters."""
    along = (pose.anchor * pose.axis).sum(axis=1, keepdims=True)
    hinges = (pose.model.jnt_type == HINGE)[:, None]
    return np.asarray(np.where(hinges, pose.anchor - along * pose.axis, 0.0))


def _anchor_images(values: Values, mirror: Mirror) -> Values:
    given = values[mirror.joints]
    hinges = (values != 0).any(axis=1) | (given != 0).any(axis=1)
    return np.asarray(
        np.where(hinges[:, None] & (mirror.reflection.offset == 0), given * mirror.reflection.flip, values)
    )


def _write_anchors(pose: ZeroPose, values: Values, where: NDArray[np.bool_]) -> None:
    model, body = pose.model, pose.model.jnt_bodyid
    along = (pose.anchor * pose.axis).sum(axis=1, keepdims=True)
    places = values + along * pose.axis - pose.position[body]
    model.jnt_pos[where] = np.einsum("jba,jb->ja", pose.frame[body], places)[where]


def _tensor_images(values: Values, mirror: Mirror, kind: str) -> Values:
    flip = np.outer(mirror.reflection.flip, mirror.reflection.flip).ravel()
    return np.array(values[partners(kind, mirror)] * flip)


def _inertia_images(values: Values, mirror: Mirror) -> Values:
    return _tensor_images(values, mirror, "body")


def _write_centers(pose: ZeroPose, values: Values, where: NDArray[np.bool_]) -> None:
    model = pose.model
    model.body_ipos[where] = np.einsum("bji,bj->bi", pose.frame, values - pose.position)[where]
    _unsimplify(model, where)


def _write_inertias(pose: ZeroPose, values: Values, where: NDArray[np.bool_]) -> None:
    mujoco = needed("mujoco", MUJOCO)
    for body in np.flatnonzero(where):
        frame = pose.frame[body]
        moments, axes = np.linalg.eigh(frame.T @ values[body].reshape(3, 3) @ frame)
        axes[:, 0] *= np.sign(np.linalg.det(axes))
        pose.model.body_inertia[body] = moments
        mujoco.mju_mat2Quat(pose.model.body_iquat[body], axes.ravel())
    _unsimplify(pose.model, where)


def _unsimplify(model: Any, where: NDArray[np.bool_]) -> None:
    """Take back the compiler's notes that a frame is that of the inertia, which MuJoCo would go by."""
    model.body_sameframe[where] = 0
    model.body_simple[where] = 0
    model.geom_sameframe[where[model.geom_bodyid]] = 0
    model.site_sameframe[where[model.site_bodyid]] = 0
    model.dof_simplenum[where[model.dof_bodyid]] = 0


GEOMETRY: tuple[Parameter, ...] = (
    Parameter(
        "position",
        "body",
        lambda pose: pose.position.copy(),
        _body_points,
        _write_bodies,
    ),
    Parameter(
        "axis",
        "joint",
        lambda pose: np.asarray(np.where(_turns(pose)[:, None], pose.axis, 0.0)),
        _axis_images,
        _write_axes,
    ),
    Parameter("anchor", "joint", _read_anchors, _anchor_images, _write_anchors),
    Parameter("position", "geom", _read_geoms, _geom_points, _write_geoms),
    Parameter(
        "direction",
        "geom",
        _read_directions,
        lambda values, mirror: np.where((mirror.geoms < 0)[:, None], values, _tensor_images(values, mirror, "geom")),
        _write_directions,
    ),
    Parameter(
        "centre of mass",
        "body",
        lambda pose: np.where(pose.model.body_mass[:, None] > 0, pose.center, pose.position),
        _body_points,
        _write_centers,
    ),
    Parameter("inertia", "body", lambda pose: pose.inertia.reshape(-1, 9).copy(), _inertia_images, _write_inertias),
)
"""The parameters that have a place or a direction."""
