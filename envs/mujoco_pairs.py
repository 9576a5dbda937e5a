"""Mirrors of a MuJoCo model: which bodies, joints and actuators change places in a reflection, and with which signs.

A reflection ``R`` maps a slide's axis as a vector, ``Ra``, and a hinge's as a pseudo-vector, ``-Ra``. A joint whose
image is its partner's axis keeps its sign, one whose image is the opposite changes it. Partners are found by going down
the two trees of bodies at the same time: same joints, mirrored places, mirrored shapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equirl.envs.mujoco_pose import BALL, FREE, HINGE, SLIDE, Reflection, ZeroPose, part_name, shown

__all__ = ["Mirror", "SignedMap", "find_mirrors"]

_NEAR = 0.05  # of the robot's size: what is further from its place is no counterpart
_ALONG = 0.1  # between two directions that are one
_RANGE = 0.5  # of a joint's range: limits further apart belong to another joint
_MOST = 64  # pairings looked at for one plane

Pairs = dict[int, int]


@dataclass(frozen=True)
class SignedMap:
    """A signed permutation, ``(Mx)[i] = sign[i] x[source[i]]``.

    Attributes:
        source: Where each number comes from, shape ``[n]``.
        sign: +1 or -1 for each, shape ``[n]``.
    """

    source: NDArray[np.intp]
    sign: NDArray[np.float64]

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return ``Mx`` for ``x`` of shape ``[..., n]``."""
        moved: NDArray[Any] = np.asarray(x)[..., self.source] * self.sign
        return moved

    def after(self, first: SignedMap) -> SignedMap:
        """Return the map that does ``first``, then this one."""
        return SignedMap(first.source[self.source], self.sign * first.sign[self.source])

    @property
    def trivial(self) -> bool:
        """Whether it leaves everything as it is."""
        return bool((self.source == np.arange(len(self.source))).all() and (self.sign == 1).all())


@dataclass(frozen=True)
class Mirror:
    """A mirror of a model: a reflection of the world with the partner of each part.

    Attributes:
        reflection: The reflection.
        bodies: Partner of each body.
        joints: Partner of each joint.
        geoms: Partner of each geom; -1 for those that touch nothing.
        actuators: Partner of each actuator.
        joint_sign: +1 or -1 for each joint: that of its coordinate.
        actuator_sign: +1 or -1 for each actuator: that of its control.
        qpos: How it moves the positions of the joints.
        qvel: How it moves their velocities and forces.
        ctrl: How it moves the controls.
        act: How it moves the activations of actuators that have one.
    """

    reflection: Reflection
    bodies: NDArray[np.intp]
    joints: NDArray[np.intp]
    geoms: NDArray[np.intp]
    actuators: NDArray[np.intp]
    joint_sign: NDArray[np.float64]
    actuator_sign: NDArray[np.float64]
    qpos: SignedMap
    qvel: SignedMap
    ctrl: SignedMap
    act: SignedMap

    @property
    def trivial(self) -> bool:
        """Whether it moves no joint and no control."""
        return self.qpos.trivial and self.qvel.trivial and self.ctrl.trivial


def find_mirrors(model: Any) -> tuple[list[Mirror], list[str]]:
    """Return the mirrors of a model in planes across x, y and z, and why there are no others.

    Parts count as partners where they nearly are; ``mujoco_parameters`` compares them exactly.

    Args:
        model: MuJoCo's model.
    """
    pose = ZeroPose(model)
    found: list[Mirror] = []
    reasons: list[str] = []
    roots = pose.position[1:][model.body_parentid[1:] == 0]
    for axis in range(3):
        reason, reach = "", -1  # of the plane that the most parts fit
        some = False
        offsets = [0.0, *(float(place) for place in roots[:, axis])]
        for offset in [value for k, value in enumerate(offsets) if value not in offsets[:k]]:
            matcher = _Matcher(pose, Reflection(axis, offset))
            for bodies in matcher.pairings():
                try:
                    mirror = matcher.mirror(bodies)
                except ValueError as error:
                    matcher.reasons.append(str(error))
                    continue
                some = True
                if not mirror.trivial:
                    found.append(mirror)
            if matcher.fits > reach and matcher.reasons:
                reason, reach = matcher.reasons[0], matcher.fits
        if not some:
            reasons.append(f"{Reflection(axis, 0.0)}: {reason}")
        elif not any(mirror.reflection.axis == axis for mirror in found):
            reasons.append(f"{Reflection(axis, 0.0)}: it moves no joint and no actuator")
    return found, reasons


class _Matcher:
    """Finds partners under one reflection, and notes what has none."""

    def __init__(self, pose: ZeroPose, reflection: Reflection) -> None:
        self.pose, self.model, self.reflection = pose, pose.model, reflection
        self.near = _NEAR * pose.size
        self.reasons: list[str] = []
        self.fits = 0
        self._children: dict[int, list[int]] = {}
        for body in range(1, self.model.nbody):
            self._children.setdefault(int(self.model.body_parentid[body]), []).append(body)

    def pairings(self) -> list[Pairs]:
        """Return all pairings of the bodies that are their own inverse, at most ``_MOST``."""
        gravity = self.model.opt.gravity
        if abs(2 * gravity[self.reflection.axis]) > 0.01 * np.linalg.norm(gravity):
            self.reasons.append(f"gravity {shown(gravity)} would point the other way")
            return []
        return list(islice(self._subtrees(0, 0), _MOST))

    def _subtrees(self, body: int, other: int) -> Iterator[Pairs]:
        """Yield the pairings of the tree under ``body`` with that under ``other``."""
        if reason := self._misfit(body, other):
            self.reasons.append(reason)
            return
        self.fits += 1
        own, others = self._children.get(body, []), self._children.get(other, [])
        if len(own) != len(others):
            self.reasons.append(f"{self._name('body', body)} carries {len(own)} bodies, its counterpart {len(others)}")
            return
        for pairs in self._matched(own, others, body == other):
            yield {body: other, **pairs}

    def _matched(self, own: list[int], others: list[int], same: bool) -> Iterator[Pairs]:
        if not own:
            yield {}
            return
        first = own[0]
        nearest = sorted(others, key=lambda other: self._distance(first, other))
        for other in nearest:
            if other is not nearest[0] and self._distance(first, other) > self.near:
                break  # the reason is that of the nearest one
            for pairs in self._subtrees(first, other):
                back = {b: a for a, b in pairs.items()} if same and other != first else {}
                taken = {first, other} if same else {first}
                rest = [body for body in own if body not in taken]
                left = [body for body in others if body not in (taken if same else {other})]
                for more in self._matched(rest, left, same):
                    yield {**pairs, **back, **more}

    def _distance(self, body: int, other: int) -> float:
        image = self.reflection.point(self.pose.position[body])
        return float(np.linalg.norm(image - self.pose.position[other]))

    def _misfit(self, body: int, other: int) -> str:
        """Say why a body is not the image of another; empty where it is, nearly."""
        model, pose = self.model, self.pose
        name = self._name("body", body)
        if body > 0 and self._distance(body, other) > self.near:
            return f"{name} at {shown(pose.position[body])} has no counterpart at {self._image(pose.position[body])}"
        joints, partners = self._joints(body), self._joints(other)
        kinds = [[int(model.jnt_type[j]) for j in each] for each in (joints, partners)]
        if kinds[0] != kinds[1]:
            return f"{name} and its counterpart, {self._name('body', other)}, have different joints"
        for j, k in zip(joints, partners, strict=True):
            if reason := self._joint_misfit(j, k):
                return reason
        geoms, images = ([g for g in self._geoms(each) if pose.collides[g]] for each in (body, other))
        for g in geoms:
            if min((pose.geom_gap(self.reflection, g, h) for h in images), default=np.inf) > self.near:
                place = pose.geom_position[g]
                return f"{self._name('geom', g)} at {shown(place)} has no counterpart at {self._image(place)}"
        return "" if len(geoms) == len(images) else f"{name} and {self._name('body', other)} have different geoms"

    def _joint_misfit(self, j: int, k: int) -> str:
        model, pose = self.model, self.pose
        name, other = self._name("joint", j), self._name("joint", k)
        kind = int(model.jnt_type[j])
        if kind in (FREE, BALL):
            return ""
        image = self._image_axis(j)
        if np.linalg.norm(np.cross(image, pose.axis[k])) > _ALONG:
            return f"{name} has the axis {shown(pose.axis[j])}, whose image {shown(image)} is not that of {other}"
        away = self.reflection.point(pose.anchor[j]) - pose.anchor[k]
        if kind == HINGE and np.linalg.norm(np.cross(away, pose.axis[k])) > self.near:
            return f"{name} turns about {shown(pose.anchor[j])}; it has no counterpart there in the mirror"
        if model.jnt_limited[j] != model.jnt_limited[k]:
            return f"one of {name} and its counterpart {other} has limits, the other has none"
        if model.jnt_limited[j]:
            limits = np.sort(np.sign(image @ pose.axis[k]) * model.jnt_range[j])
            if np.abs(limits - model.jnt_range[k]).max() > _RANGE * np.ptp(limits):
                of = "itself" if j == k else other
                return (
                    f"{name} has the range {shown(model.jnt_range[j])}, whose image {shown(limits)} is not that of "
                    f"{of}: {shown(model.jnt_range[k])}"
                )
        return ""

    def mirror(self, bodies: Pairs) -> Mirror:
        """Return the mirror of a pairing.

        Raises:
            ValueError: A part that no signed permutation moves.
        """
        model, pose, flip = self.model, self.pose, self.reflection.flip
        joints, joint_sign = np.arange(model.njnt), np.ones(model.njnt)
        qpos, qvel = _Builder(model.nq), _Builder(model.nv)
        for body, other in bodies.items():
            for j, k in zip(self._joints(body), self._joints(other), strict=True):
                joints[k] = j
                at, to = (int(model.jnt_qposadr[i]) for i in (j, k))
                dof, to_dof = (int(model.jnt_dofadr[i]) for i in (j, k))
                kind = int(model.jnt_type[j])
                if kind in (SLIDE, HINGE):
                    joint_sign[k] = joint_sign[j] = 1.0 if self._image_axis(j) @ pose.axis[k] > 0 else -1.0
                    qpos.add(to, at, np.arange(1), joint_sign[j : j + 1])
                    qvel.add(to_dof, dof, np.arange(1), joint_sign[j : j + 1])
                    continue
                if kind == FREE:
                    if self.reflection.offset != 0:
                        raise ValueError(f"{self._name('joint', j)} is free: its plane goes through the origin")
                    qpos.add(to, at, np.arange(3), flip)
                    qvel.add(to_dof, dof, np.arange(3), flip)
                    at, to, dof, to_dof = at + 3, to + 3, dof + 3, to_dof + 3
                    turn = np.diag(flip)  # the frame of a free body is the world's where its quaternion is 1
                else:
                    turn = pose.frame[other].T @ np.diag(flip) @ pose.frame[body]
                if not np.isclose(np.abs(turn).max(axis=1), 1).all():
                    raise ValueError(f"the frame of {self._name('joint', j)} is askew to the mirror")
                source = np.abs(turn).argmax(axis=1)
                pseudo = -np.sign(turn[np.arange(3), source])
                qpos.add(to, at, np.concatenate([[0], source + 1]), np.concatenate([[1.0], pseudo]))
                qvel.add(to_dof, dof, source, pseudo)
        actuators, actuator_sign = self._actuators(joints, joint_sign)
        partner = np.array([bodies[body] for body in range(model.nbody)])
        geoms = self._geom_partners(bodies)
        act = _Builder(model.na)
        for a in np.flatnonzero(model.actuator_actadr >= 0):
            to, at = (int(model.actuator_actadr[i]) for i in (actuators[a], a))
            act.add(to, at, np.arange(1), actuator_sign[a : a + 1])
        parts = (partner, joints, geoms, actuators, joint_sign, actuator_sign)
        ctrl = SignedMap(actuators, actuator_sign)
        return Mirror(self.reflection, *parts, qpos.map(), qvel.map(), ctrl, act.map())

    def _actuators(
        self, joints: NDArray[np.intp], joint_sign: NDArray[np.float64]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return partner and sign of each actuator."""
        model = self.model
        if model.nu != len(model.actuator_trntype):
            raise ValueError("an actuator takes several controls at once")
        driven: dict[int, list[int]] = {}
        for a in range(len(model.actuator_trntype)):
            joint = int(model.actuator_trnid[a, 0])
            if model.actuator_trntype[a] > 1 or model.jnt_type[joint] not in (SLIDE, HINGE):
                raise ValueError(f"actuator {a} moves something else than one hinge or slide, which has no sign here")
            driven.setdefault(joint, []).append(a)
        partner, sign = np.arange(len(model.actuator_trntype)), np.ones(len(model.actuator_trntype))
        for joint, own in driven.items():
            others = driven.get(int(joints[joint]), [])
            if len(own) != len(others):
                raise ValueError(
                    f"{self._name('joint', joint)} has {len(own)} actuators, its counterpart "
                    f"{self._name('joint', int(joints[joint]))} {len(others)}"
                )
            for a, b in zip(own, others, strict=True):
                partner[a] = b
                sign[a] = joint_sign[joint] * (1 if model.actuator_gear[a, 0] * model.actuator_gear[b, 0] >= 0 else -1)
        return partner, sign

    def _geom_partners(self, bodies: Pairs) -> NDArray[np.intp]:
        partner = np.full(self.model.ngeom, -1)
        for body, other in bodies.items():
            free = [g for g in self._geoms(other) if self.pose.collides[g]]
            for g in self._geoms(body):
                left = [h for h in free if partner[h] < 0]
                if self.pose.collides[g] and partner[g] < 0 and left:
                    nearest = left[int(np.argmin([self.pose.geom_gap(self.reflection, g, h) for h in left]))]
                    partner[g], partner[nearest] = nearest, g
        return partner

    def _image_axis(self, j: int) -> NDArray[np.float64]:
        """Return the image of a joint's axis: a vector for a slide, a pseudo-vector for a hinge."""
        image: NDArray[np.float64] = self.pose.axis[j] * self.reflection.flip
        return -image if self.model.jnt_type[j] == HINGE else image

    def _joints(self, body: int) -> range:
        first = int(self.model.body_jntadr[body])
        return range(first, first + int(self.model.body_jntnum[body]))

    def _geoms(self, body: int) -> range:
        first = int(self.model.body_geomadr[body])
        return range(first, first + int(self.model.body_geomnum[body]))

    def _name(self, kind: str, i: int) -> str:
        return part_name(self.model, kind, i)

    def _image(self, place: NDArray[np.float64]) -> str:
        return shown(self.reflection.point(place))


class _Builder:
    """Puts a signed map together, block by block."""

    def __init__(self, n: int) -> None:
        self._source, self._sign = np.arange(n), np.ones(n)

    def add(self, to: int, at: int, order: NDArray[Any], sign: NDArray[np.float64]) -> None:
        """Let the numbers from ``to`` on come from those from ``at`` on."""
        self._source[to : to + len(order)] = at + order
        self._sign[to : to + len(order)] = sign

    def map(self) -> SignedMap:
        return SignedMap(self._source, self._sign)
