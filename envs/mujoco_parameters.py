"""The parameters of a MuJoCo model under a mirror: which ones differ between partners, and a copy where none does.

A number stays in a reflection, limits follow the sign of their joint or actuator, and what has a place or a direction
is reflected (``mujoco_geometry``).
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equirl.envs.mujoco_geometry import GEOMETRY, Parameter, Values, partners
from equirl.envs.mujoco_pairs import Mirror
from equirl.envs.mujoco_pose import BALL, FREE, MUJOCO, ZeroPose, part_name, shown
from equirl.optional import needed

__all__ = ["Difference", "differences", "equalized"]

_EXACT = 1e-9  # relative to the size of the parameter


@dataclass(frozen=True)
class Difference:
    """A parameter that a part and the image of its partner have with different values.

    Attributes:
        parameter: What it is called.
        text: The parts and their values, for a message.
        size: The difference, relative to the values.
    """

    parameter: str
    text: str
    size: float


def differences(model: Any, mirror: Mirror) -> list[Difference]:
    """Return the parameters that differ between the parts of a model and the images of their partners."""
    pose = ZeroPose(model)
    found: list[Difference] = []
    for parameter in _PARAMETERS:
        values, image = parameter.read(pose), parameter.image(parameter.read(pose), mirror)
        partner = partners(parameter.kind, mirror)
        for i in np.flatnonzero(_differs(values, image)):
            j = int(partner[i])
            if j < i:
                continue  # told already
            name = _part(model, parameter.kind, int(i))
            other = "its image" if i == j else f"the image of {_part(model, parameter.kind, j)}"
            label, own, theirs = parameter.label, values[i], image[i]
            if len(own) == 9:  # a tensor: its largest difference is enough
                k = int(np.abs(own - theirs).argmax())
                label, own, theirs = f"{label} {'xyz'[k // 3]}{'xyz'[k % 3]}", own[[k]], theirs[[k]]
            number = label if parameter.kind == "world" else f"{name}: {label}"
            text = f"{number} {shown(own)}, {other} {shown(theirs)}"
            gap, size = np.abs(values[i] - image[i]).max(), np.abs([values[i], image[i]]).max()
            found.append(Difference(parameter.label, text, float(gap / size)))
    return found


def equalized(model: Any, mirror: Mirror, parameters: Collection[str] | None = None) -> Any:
    """Return a copy of a model in which partners have the mean of their values and images.

    Args:
        model: MuJoCo's model.
        mirror: A mirror of it.
        parameters: The parameters made equal; all by default.
    """
    mujoco = needed("mujoco", MUJOCO)
    made = copy.copy(model)
    changed = False
    for parameter in _PARAMETERS:
        if parameters is None or parameter.label in parameters:
            pose = ZeroPose(made)
            values = parameter.read(pose)
            image = parameter.image(values, mirror)
            where = _differs(values, image)
            if where.any():
                parameter.write(pose, (values + image) / 2, where)
                changed = True
    if changed:
        mujoco.mj_setConst(made, mujoco.MjData(made))
    return made


def _differs(values: Values, image: Values) -> NDArray[np.bool_]:
    if not values.size:
        return np.zeros(len(values), dtype=bool)
    size = np.maximum(np.abs(values), np.abs(image)).max(axis=1, keepdims=True)
    return np.asarray((np.abs(values - image) > _EXACT * size).any(axis=1))


def _part(model: Any, kind: str, i: int) -> str:
    if kind == "world":
        return "the world"
    if kind == "dof":
        return part_name(model, "joint", int(model.dof_jntid[i]))
    return part_name(model, kind, i)


def _number(label: str, kind: str, field: str, signed: bool = False) -> Parameter:
    """Return a parameter that a reflection leaves; a signed one follows the sign of its joint or actuator."""

    def read(pose: ZeroPose) -> Values:
        values = np.asarray(getattr(pose.model, field), dtype=np.float64)
        return np.array(values.reshape(len(values), -1))

    def image(values: Values, mirror: Mirror) -> Values:
        moved = values[partners(kind, mirror)]
        if signed:  # limits: the image of [low, high] under -1 is [-high, -low]
            signs = (mirror.joint_sign if kind == "joint" else mirror.actuator_sign)[:, None]
            moved = np.where(signs > 0, moved, -moved[:, ::-1])
        return np.asarray(moved)

    def write(pose: ZeroPose, values: Values, where: NDArray[np.bool_]) -> None:
        held = getattr(pose.model, field)
        held[where] = values.reshape(held.shape)[where].astype(held.dtype)

    return Parameter(label, kind, read, image, write)


def _read_gear(pose: ZeroPose) -> Values:
    return np.asarray(np.abs(pose.model.actuator_gear[:, :1]))


def _write_gear(pose: ZeroPose, values: Values, where: NDArray[np.bool_]) -> None:
    gear = pose.model.actuator_gear
    gear[where, 0] = (np.sign(gear[:, 0]) * values[:, 0])[where]


def _read_rest(pose: ZeroPose) -> Values:
    """Return where springs are at rest, one number for each joint; free and ball joints count as 0."""
    model = pose.model
    rest = model.qpos_spring[model.jnt_qposadr]
    return np.array(np.where(np.isin(model.jnt_type, (FREE, BALL)) | (model.jnt_stiffness == 0), 0, rest)[:, None])


def _write_rest(pose: ZeroPose, values: Values, where: NDArray[np.bool_]) -> None:
    pose.model.qpos_spring[pose.model.jnt_qposadr[where]] = values[where, 0]


_PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        "gravity",
        "world",
        lambda pose: np.array(pose.model.opt.gravity[None]),
        lambda values, mirror: values * mirror.reflection.flip,
        lambda pose, values, _: np.copyto(pose.model.opt.gravity, values[0]),
    ),
    Parameter(
        "wind",
        "world",
        lambda pose: np.array(pose.model.opt.wind[None]),
        lambda values, mirror: values * mirror.reflection.flip,
        lambda pose, values, _: np.copyto(pose.model.opt.wind, values[0]),
    ),
    *GEOMETRY,
    _number("size", "geom", "geom_size"),
    _number("mass", "body", "body_mass"),
    _number("gravity compensation", "body", "body_gravcomp"),
    _number("friction", "geom", "geom_friction"),
    _number("condim", "geom", "geom_condim"),
    _number("contype", "geom", "geom_contype"),
    _number("conaffinity", "geom", "geom_conaffinity"),
    _number("priority", "geom", "geom_priority"),
    _number("margin", "geom", "geom_margin"),
    _number("gap", "geom", "geom_gap"),
    _number("solmix", "geom", "geom_solmix"),
    _number("solref", "geom", "geom_solref"),
    _number("solimp", "geom", "geom_solimp"),
    _number("range", "joint", "jnt_range", signed=True),
    _number("margin of the limits", "joint", "jnt_margin"),
    _number("solref of the limits", "joint", "jnt_solref"),
    _number("solimp of the limits", "joint", "jnt_solimp"),
    _number("stiffness", "joint", "jnt_stiffness"),
    Parameter(
        "rest of the spring",
        "joint",
        _read_rest,
        lambda values, mirror: values[mirror.joints] * mirror.joint_sign[:, None],
        _write_rest,
    ),
    _number("armature", "dof", "dof_armature"),
    _number("damping", "dof", "dof_damping"),
    _number("frictionloss", "dof", "dof_frictionloss"),
    _number("solref of the friction", "dof", "dof_solref"),
    _number("solimp of the friction", "dof", "dof_solimp"),
    Parameter("gear", "actuator", _read_gear, lambda values, mirror: values[mirror.actuators], _write_gear),
    _number("ctrlrange", "actuator", "actuator_ctrlrange", signed=True),
    _number("forcerange", "actuator", "actuator_forcerange", signed=True),
    _number("gainprm", "actuator", "actuator_gainprm"),
    _number("biasprm", "actuator", "actuator_biasprm"),
    _number("dynprm", "actuator", "actuator_dynprm"),
)
