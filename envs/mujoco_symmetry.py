"""The mirror symmetry of a MuJoCo robot, derived from its model: no index by hand."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from equirl.envs.mujoco_pairs import SignedMap
from equirl.envs.mujoco_parameters import differences, equalized
from equirl.envs.mujoco_states import MirrorMap, MujocoStates, mujoco_states, signed_permutation
from equirl.groups import FiniteGroup, dihedral_group
from equirl.mdp_symmetry import MDPSymmetry
from equirl.representations import MonomialRepresentation

__all__ = ["MIRROR", "mujoco_mirror"]

MIRROR = "mirror"
"""The name under which ``equirl check`` and ``check_symmetry`` derive it."""

_STEPS = 30


def mujoco_mirror(environment: gym.Env[Any, Any], axis: Literal["x", "y", "z"] | None = None) -> MDPSymmetry:
    r"""Return the mirror symmetry (Z2) of a MuJoCo robot of Gymnasium's, derived from its model.

    A reflection ``R`` of the world in a plane across x, y or z carries each body to a partner or to itself. A slide's
    axis is a vector, :math:`Ra`, a hinge's a pseudo-vector, :math:`-Ra`; a joint changes its sign where the image is
    the opposite of its partner's axis. So ``qpos``, ``qvel`` and the controls move by signed permutations. That of the
    observation is found from observations of random states and of their images.

    Parts count as partners where they nearly are, so that ``check_symmetry`` finds the parameter that breaks a mirror.

    Args:
        environment: A ``MujocoEnv``, whose actions are MuJoCo's controls, perhaps in wrappers that leave both as they
            are.
        axis: The normal of the plane; by default that of a plane under which rewards are symmetric, too.

    Raises:
        TypeError: Another environment, an observation that is not one array, or actions that are not the controls.
        ValueError: There is no such mirror; the message says for each plane what has no counterpart.
    """
    if axis not in (None, "x", "y", "z"):
        raise ValueError(f"axis is 'x', 'y', 'z' or None; got {axis!r}")
    inner: Any = environment.unwrapped
    name = type(inner).__name__
    states = mujoco_states(inner)
    if states is None:
        raise TypeError(
            "the mirror is derived from the model of a MujocoEnv of Gymnasium's that shows one array and takes the "
            f"model's controls; {name} is none ({inner.observation_space}, {inner.action_space}). Give a registered "
            "symmetry, a symmetry file or an MDPSymmetry"
        )
    if environment.observation_space != inner.observation_space or environment.action_space != inner.action_space:
        raise TypeError(f"a wrapper changes the observations or the actions of {name}; derive its mirror without it")
    derived = states.derived()
    found = [each for each in derived.maps if axis is None or each.mirrors[0].reflection.axis == "xyz".index(axis)]
    if not found:
        reasons = [reason for reason in derived.reasons if axis is None or reason.startswith(axis)]
        raise ValueError(f"{name} has no mirror: {'; '.join(reasons) or 'none in such a plane'}")
    kept = states.save_state()
    taken = [_steps(states, each) for each in found]
    states.restore_state(kept)
    uneven = [
        (steps.uneven, len(differences(inner.model, each.mirrors[0]))) for steps, each in zip(taken, found, strict=True)
    ]
    chosen = min(range(len(found)), key=lambda k: uneven[k])
    best, steps = found[chosen], taken[chosen]
    group = dihedral_group(1)
    moves = _with_what_steps_show(best.observation, derived.samples, steps, name)
    observation = _representation(group, moves, inner.observation_space.shape)
    return MDPSymmetry(MIRROR, observation, _representation(group, best.ctrl, (inner.model.nu,)))


def _representation(group: FiniteGroup, moves: SignedMap, shape: tuple[int, ...]) -> MonomialRepresentation:
    n = len(moves.source)
    index, sign = np.stack([np.arange(n), moves.source]), np.stack([np.ones(n), moves.sign])
    return MonomialRepresentation(group, shape, torch.from_numpy(index), torch.from_numpy(sign).long())


class _Steps(NamedTuple):
    """Random steps and those of their images, with the model made symmetric.

    Attributes:
        uneven: How many had another reward.
        seen: What was seen after each, ``[steps, n]``.
        moved: What was seen after its image, ``[steps, n]``.
    """

    uneven: int
    seen: NDArray[np.float64]
    moved: NDArray[np.float64]


def _steps(states: MujocoStates, moves: MirrorMap) -> _Steps:
    environment, random = states.environment, np.random.default_rng(0)
    space: Any = environment.action_space
    low, high = np.maximum(space.low, -1), np.minimum(space.high, 1)
    uneven, seen = 0, []
    with states.model_changed(equalized(environment.model, moves.mirrors[0])):
        states.restore_state(_start(states))
        for _ in range(_STEPS):
            state = states.save_state()
            action: NDArray[Any] = random.uniform(low, high).astype(space.dtype)
            after_it, reward = environment.step(action)[:2]
            after = states.save_state()
            states.restore_state(state)
            states.mirror_state(moves.mirrors[0])
            states.save_state()
            after_image, image = environment.step(moves.ctrl(action).astype(space.dtype))[:2]
            uneven += abs(float(reward) - float(image)) > 1e-4 * max(1.0, abs(float(reward)))
            seen.append([np.array(each, dtype=np.float64).ravel() for each in (after_it, after_image)])
            states.restore_state(after)
    return _Steps(uneven, *np.stack(seen, axis=1))


def _with_what_steps_show(moves: SignedMap, samples: NDArray[np.float64], steps: _Steps, name: str) -> SignedMap:
    """Return the map with the coordinates that no placed state changes, such as the last action, from steps.

    Raises:
        ValueError: They move by no signed permutation.
    """
    rows = np.flatnonzero((np.ptp(samples, axis=0) == 0) & (np.ptp(steps.seen, axis=0) > 0))
    if not len(rows):
        return moves
    try:
        shown = signed_permutation(steps.seen[:, rows], steps.moved[:, rows])
    except ValueError as error:
        raise ValueError(
            f"{name} shows numbers that its state does not tell, at coordinates {', '.join(map(str, rows))} (the last "
            f"action, say), and mirrored steps do not show how they move ({error} of these): give the symmetry as a "
            "file or an MDPSymmetry"
        ) from error
    source, sign = moves.source.copy(), moves.sign.copy()
    source[rows], sign[rows] = rows[shown.source], shown.sign
    return SignedMap(source, sign)


def _start(states: MujocoStates) -> NDArray[np.float64]:
    """Return a state near the model's own start, a little off so that nothing is even by chance."""
    environment, random = states.environment, np.random.default_rng(1)
    data, model = environment.data, environment.model
    data.qpos[:] = environment.init_qpos + random.uniform(-0.05, 0.05, model.nq)
    data.qvel[:] = environment.init_qvel + random.uniform(-0.05, 0.05, model.nv)
    return states.save_state()
