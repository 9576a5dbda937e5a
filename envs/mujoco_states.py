"""States of Gymnasium's MuJoCo robots: saved, restored and mirrored through ``qpos`` and ``qvel``.

A step leaves what MuJoCo derives from the state (places of bodies, forces) one substep behind it. Wherever a state is
saved or set, the derived quantities are brought up to date, so that observations depend on the state alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import permutations
from typing import Any, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from equirl.envs.mujoco_cause import listed, name_cause
from equirl.envs.mujoco_pairs import Mirror, SignedMap, find_mirrors
from equirl.envs.mujoco_parameters import differences, equalized
from equirl.envs.mujoco_pose import BALL, FREE, MUJOCO
from equirl.mdp_symmetry import MDPSymmetry
from equirl.optional import needed
from equirl.representations import MonomialRepresentation, Representation

__all__ = ["MirrorMap", "MujocoStates", "mujoco_states", "signed_permutation"]

_SAMPLES = 40
_ALIKE = 1e-6  # relative to the size of a coordinate over the samples
_ZERO = 1e-10
_MOST = 0.5  # of the coordinates of an observation that an element moves otherwise than a mirror of the model


@dataclass(frozen=True)
class MirrorMap:
    """Mirrors of a model, one after the other, with what they do to an observation.

    Attributes:
        name: What it is called in messages, such as ``"y -> -y"``.
        mirrors: The mirrors; none for the identity.
        observation: How they move an observation.
        ctrl: How they move an action.
    """

    name: str
    mirrors: tuple[Mirror, ...]
    observation: SignedMap
    ctrl: SignedMap


@dataclass(frozen=True)
class _Derived:
    """What was found of a model: its mirrors, why there are no others, and observations of random states."""

    maps: tuple[MirrorMap, ...]
    reasons: tuple[str, ...]
    samples: NDArray[np.float64]


_DERIVED: WeakKeyDictionary[Any, _Derived] = WeakKeyDictionary()


def mujoco_states(environment: Any) -> MujocoStates | None:
    """Return what sets the states of an environment; ``None`` for one whose mirrors cannot be derived.

    They can for a ``MujocoEnv`` of Gymnasium's that shows one array and takes the controls of its model as actions.
    """
    module = sys.modules.get("gymnasium.envs.mujoco.mujoco_env")  # not imported: no environment can be one
    if module is None or not isinstance(environment, module.MujocoEnv) or not hasattr(environment, "_get_obs"):
        return None
    seen, taken = environment.observation_space, environment.action_space
    if not isinstance(seen, spaces.Box) or not isinstance(taken, spaces.Box) or taken.shape != (environment.model.nu,):
        return None
    return MujocoStates(environment)


class MujocoStates:
    """Saves, restores and mirrors the states of an environment.

    Args:
        environment: A ``MujocoEnv``, without wrappers.
    """

    def __init__(self, environment: Any) -> None:
        self.environment = environment
        self._mujoco = needed("mujoco", MUJOCO)
        self._chosen: dict[int, tuple[MDPSymmetry, MirrorMap]] = {}

    def save_state(self) -> NDArray[np.float64]:
        """Return all that a step depends on, and bring the derived quantities up to date."""
        kind = self._mujoco.mjtState.mjSTATE_INTEGRATION
        model, data = self.environment.model, self.environment.data
        state = np.empty(self._mujoco.mj_stateSize(model, kind))
        self._mujoco.mj_getState(model, data, state, kind)
        self._refresh()
        self._mujoco.mj_setState(model, data, state, kind)
        return state

    def restore_state(self, state: NDArray[np.float64]) -> None:
        """Put the environment into a saved state."""
        kind = self._mujoco.mjtState.mjSTATE_INTEGRATION
        model, data = self.environment.model, self.environment.data
        self._mujoco.mj_setState(model, data, state, kind)
        self._refresh()
        self._mujoco.mj_setState(model, data, state, kind)  # a new start of the solver is part of the state

    def observe(self) -> Any:
        """Return the observation of the state that was saved or restored."""
        return self.environment._get_obs()

    def transform_state(self, symmetry: MDPSymmetry, element: int) -> Any:
        """Carry the state to its mirror image and return the observation there.

        The mirror is the one of the model that moves observations and actions as the element does, or most nearly.

        Raises:
            ValueError: There is none.
        """
        for mirror in self._nearest(symmetry, element).mirrors:
            self.mirror_state(mirror)
            self.save_state()  # brings what is shown up to date
        return self.observe()

    def mirror_state(self, mirror: Mirror) -> None:
        """Carry the state to its mirror image, with the forces that are applied from outside."""
        data, flip = self.environment.data, mirror.reflection.flip
        data.qpos[:] = mirror.qpos(data.qpos)
        for dofs in (data.qvel, data.qacc_warmstart, data.qfrc_applied):
            dofs[:] = mirror.qvel(dofs)
        data.ctrl[:] = mirror.ctrl(data.ctrl)
        if self.environment.model.na:
            data.act[:] = mirror.act(data.act)
        data.xfrc_applied[:] = data.xfrc_applied[mirror.bodies] * np.concatenate([flip, -flip])

    def derived(self) -> _Derived:
        """Return the mirrors of the model, and why there are no others."""
        if self.environment not in _DERIVED:
            kept = self.save_state()
            found: list[MirrorMap] = []
            mirrors, reasons = find_mirrors(self.environment.model)
            samples = self._samples(self.environment.model, None)[0]
            for mirror in mirrors:
                try:
                    observation = signed_permutation(*self._samples(equalized(self.environment.model, mirror), mirror))
                except ValueError as error:
                    reasons.append(f"{mirror.reflection}: {error}")
                else:
                    found.append(MirrorMap(str(mirror.reflection), (mirror,), observation, mirror.ctrl))
            self.restore_state(kept)
            _DERIVED[self.environment] = _Derived(tuple(found), tuple(reasons), samples)
        return _DERIVED[self.environment]

    def explain(self, symmetry: MDPSymmetry, element: int, agree: Callable[[], bool]) -> str:
        """Say why steps from the mirror image differ: a wrong table, or a parameter of the model.

        Args:
            symmetry: The symmetry.
            element: The element.
            agree: Takes the steps that differed once more, and says whether they agree now.
        """
        chosen = self._nearest(symmetry, element)
        ours = f"the model's mirror, {chosen.name},"
        for i in np.flatnonzero(_off(self._actions(), chosen.ctrl, symmetry.action, element)):
            moved = _moved("action", symmetry.action, element, int(i))
            expected = f"{_signed(chosen.ctrl.sign[i])}action[{chosen.ctrl.source[i]}]"
            return f"the symmetry gives action[{i}] {moved}where {ours} gives it {expected}"
        for i in np.flatnonzero(_off(self.derived().samples, chosen.observation, symmetry.observation, element)):
            moved = _moved("observation", symmetry.observation, element, int(i))
            expected = f"{_signed(chosen.observation.sign[i])}observation[{chosen.observation.source[i]}]"
            return f"the symmetry gives observation[{i}] {moved}where {ours} gives it {expected}"
        return name_cause(self.environment.model, chosen.mirrors, lambda model: self._with(model, agree))

    def remark(self, symmetry: MDPSymmetry) -> str:
        """Say what differs between the model and its mirror image, though no step shows it; empty for nothing."""
        mirrors = [mirror for g in symmetry.group.generators for mirror in self._nearest(symmetry, g).mirrors]
        found = [each for mirror in mirrors for each in differences(self.environment.model, mirror)]
        return f"no step shows what differs in the model: {listed(found)}" if found else ""

    def _with(self, model: Any, agree: Callable[[], bool]) -> bool:
        with self.model_changed(model):
            return agree()

    @contextmanager
    def model_changed(self, model: Any) -> Iterator[None]:
        """Let the environment have another model of the same parts for a while."""
        own = self.environment.model
        self.environment.model = model
        try:
            yield
        finally:
            self.environment.model = own

    def _nearest(self, symmetry: MDPSymmetry, element: int) -> MirrorMap:
        if element in self._chosen and self._chosen[element][0] is symmetry:
            return self._chosen[element][1]
        derived, name = self.derived(), symmetry.group.element_names[element]
        identity = _identity(derived.samples.shape[1], self.environment.model.nu)
        if element == symmetry.group.identity:
            return identity
        candidates = [identity, *derived.maps, *_composed(derived.maps)]
        if len(candidates) == 1:
            raise ValueError(f"the model has no mirror: {'; '.join(derived.reasons)}")
        wrong = [
            (
                int(_off(derived.samples, each.observation, symmetry.observation, element).sum()),
                int(_off(self._actions(), each.ctrl, symmetry.action, element).sum()),
            )
            for each in candidates
        ]
        best = min(range(len(candidates)), key=lambda k: wrong[k])
        chosen = candidates[best]
        if wrong[best][0] > _MOST * derived.samples.shape[1]:
            raise ValueError(
                f"no mirror of the model moves observations as {name} does: the nearest, {chosen.name}, moves "
                f"{wrong[best][0]} of {derived.samples.shape[1]} coordinates otherwise"
            )
        self._chosen[element] = symmetry, chosen
        return chosen

    def _refresh(self) -> None:
        self._mujoco.mj_forward(self.environment.model, self.environment.data)
        self._mujoco.mj_rnePostConstraint(self.environment.model, self.environment.data)

    def _actions(self) -> NDArray[np.float64]:
        return np.random.default_rng(0).uniform(-1, 1, (_SAMPLES, self.environment.model.nu))

    def _samples(self, model: Any, mirror: Mirror | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the observations of random states and those of their images, each of shape ``[samples, n]``.

        The states come with random forces on all bodies, so that contact forces are seen; nothing touches.

        Args:
            model: The model with which they are observed.
            mirror: The mirror; ``None`` for the identity.
        """
        mujoco, random = self._mujoco, np.random.default_rng(0)
        own = model.opt.disableflags, model.opt.solver, model.opt.iterations, model.opt.tolerance
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT.value
        model.opt.solver, model.opt.iterations, model.opt.tolerance = mujoco.mjtSolver.mjSOL_NEWTON.value, 200, 1e-14
        seen, moved = [], []
        with self.model_changed(model):
            for _ in range(_SAMPLES):
                self._draw_state(random)
                self._refresh()
                seen.append(np.array(self.observe(), dtype=np.float64).ravel())
                if mirror is not None:
                    self.mirror_state(mirror)
                    self.environment.data.qacc_warmstart[:] = 0
                    self._refresh()
                moved.append(np.array(self.observe(), dtype=np.float64).ravel())
        model.opt.disableflags, model.opt.solver, model.opt.iterations, model.opt.tolerance = own
        return np.stack(seen), np.stack(moved)

    def _draw_state(self, random: np.random.Generator) -> None:
        """Set a random state: joints about their ranges, random velocities, controls and forces."""
        model, data = self.environment.model, self.environment.data
        self._mujoco.mj_resetData(model, data)
        data.qpos[:] = model.qpos0 + random.uniform(-1, 1, model.nq)
        for j in range(model.njnt):
            start = int(model.jnt_qposadr[j])
            if model.jnt_type[j] in (FREE, BALL):
                start += 3 if model.jnt_type[j] == FREE else 0
                turn = random.normal(size=4)
                data.qpos[start : start + 4] = turn / np.linalg.norm(turn)
            elif model.jnt_limited[j]:
                low, high = model.jnt_range[j]
                data.qpos[start] = random.uniform(1.05 * low - 0.05 * high, 1.05 * high - 0.05 * low)
        data.qvel[:] = random.uniform(-1, 1, model.nv)
        data.ctrl[:] = random.uniform(-1, 1, model.nu)
        if model.na:
            data.act[:] = random.uniform(-1, 1, model.na)
        data.xfrc_applied[1:] = random.uniform(-0.2, 0.2, (model.nbody - 1, 6))


def _identity(n: int, k: int) -> MirrorMap:
    return MirrorMap("identity", (), SignedMap(np.arange(n), np.ones(n)), SignedMap(np.arange(k), np.ones(k)))


def _composed(maps: Sequence[MirrorMap]) -> Iterator[MirrorMap]:
    for first, second in permutations(maps, 2):
        moves = second.observation.after(first.observation), second.ctrl.after(first.ctrl)
        yield MirrorMap(f"{first.name}, {second.name}", (*first.mirrors, *second.mirrors), *moves)


def signed_permutation(seen: NDArray[np.float64], moved: NDArray[np.float64]) -> SignedMap:
    """Return the signed permutation, its own inverse, with ``moved = M seen``; both ``[samples, n]``.

    Coordinates that are equal, or zero, in all samples cannot be told apart: they stay where they are if they can.
    """
    n = seen.shape[1]
    size = np.abs(moved).max(axis=0)
    allowed = _ALIKE * size + _ZERO
    fits = np.zeros((2, n, n), dtype=bool)  # by sign, coordinate of the image, coordinate it comes from
    for i in range(n):
        for k, sign in enumerate((1, -1)):
            fits[k, i] = (np.abs(moved[:, i, None] - sign * seen) <= allowed[i]).all(axis=0)
    both = fits & fits.transpose(0, 2, 1)
    source, signs = np.full(n, -1), np.ones(n)
    for i in range(n):
        if source[i] >= 0:
            continue
        options = [(j != i, k, j) for k in (0, 1) for j in np.flatnonzero(both[k, i]) if source[j] < 0]
        if not options:
            raise ValueError(
                f"coordinate {i} of the observation has no counterpart of either sign in the observation of the image"
            )
        _, k, j = min(options)
        source[i], source[j] = j, i
        signs[i] = signs[j] = 1 - 2 * k
    return SignedMap(source, signs)


def _off(samples: NDArray[np.float64], ours: SignedMap, theirs: Representation, element: int) -> NDArray[np.bool_]:
    """Return which coordinates of samples ``[samples, n]`` a representation moves otherwise than a map does."""
    flat = torch.from_numpy(samples.copy()).reshape(len(samples), *theirs.shape)
    moved = cast(torch.Tensor, theirs.transform(element, flat)).numpy().reshape(samples.shape)
    expected = ours(samples)
    return np.asarray((np.abs(moved - expected) > _ALIKE * np.abs(expected).max(axis=0) + _ZERO).any(axis=0))


def _moved(what: str, theirs: Representation, element: int, i: int) -> str:
    """Say what a representation puts into a coordinate of an image."""
    if not isinstance(theirs, MonomialRepresentation):
        return ""
    return f"{_signed(int(theirs.sign[element, i]))}{what}[{int(theirs.index[element, i])}], "


def _signed(sign: float) -> str:
    return "-" if sign < 0 else "+"
