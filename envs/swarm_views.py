"""What each robot of a swarm sees: one shared policy in these views is equivariant under S_n x O(2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from equirl.arguments import whole_number
from equirl.envs.forces import float_array

__all__ = ["forces_in_world", "robot_views"]

Numbers = NDArray[np.floating[Any]]

_ALIKE = 1e-5  # what counts as one distance, or as no side


def robot_views(observations: Numbers, neighbours: int = 2) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return what each robot sees from where it is, and the directions of its axes.

    A robot's own axes are its frame: the x axis points to the goal, and the y axis to the side on which its nearest
    neighbours mostly lie. It sees its own vectors (to the goal, velocity) and, for each neighbour, the nearest first,
    its place and its velocity. If the swarm is turned, mirrored or moved no view changes; if robots change places the
    views change places along. So ``forces_in_world(pi(views), frames)`` is equivariant for any ``pi``, to rounding
    (frames: Puny et al. 2022, arXiv:2110.03336).

    A robot on the goal has no direction, and one whose neighbours lie on both sides alike has no left: the missing axis
    is zero, in the view and in the force. There, and where neighbours are equally far, a view jumps. Neighbours that
    are as far, as far ahead and as fast ahead as each other (to 1e-5) keep the order of their numbers; this alone is
    not equivariant.

    Args:
        observations: What ``SwarmEnv`` returned, ``[4 n]`` for one swarm, or ``[B, 4 n]`` for ``B`` of them.
        neighbours: How many others each robot sees; less than ``n``.

    Returns:
        The views, float32 ``[B, n, 4 + 4 neighbours]``, and for each robot the matrix that turns a vector of the world
        into its frame, ``[B, n, 2, 2]``.

    Raises:
        TypeError: ``neighbours`` is no whole number, or the observations hold no numbers.
        ValueError: There are not so many other robots, or the observations have another shape.
    """
    k = whole_number(neighbours, "neighbours", 0)
    wanted = "a swarm's observations are [B, 4 n] numbers"
    seen = np.atleast_2d(float_array(observations, wanted))
    if seen.ndim != 2 or seen.shape[1] % 4 or not seen.shape[1]:
        raise ValueError(f"{wanted}; got {list(np.shape(observations))}")
    n = seen.shape[1] // 4
    if k >= n:
        raise ValueError(
            f"with neighbours={k} a robot sees {k} others, which takes {k + 1} robots or more; got {n}. Give fewer "
            "neighbours (and train with them), or more robots"
        )
    own = seen.reshape(len(seen), n, 2, 2)
    to_goal, velocities = own[:, :, 0], own[:, :, 1]
    distance = np.linalg.norm(to_goal, axis=2, keepdims=True)
    ahead = np.where(distance > 0, to_goal / np.where(distance > 0, distance, 1.0), 0.0)
    others = _nearest(to_goal, velocities, ahead, k)
    frames = _frames(ahead, velocities + others.sum(axis=(2, 3)))
    vectors = np.concatenate([own, others.reshape(len(seen), n, 2 * k, 2)], axis=2)
    return np.einsum("bnij,bnvj->bnvi", frames, vectors).reshape(len(seen), n, 4 + 4 * k).astype(np.float32), frames


def forces_in_world(forces: Numbers, frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the forces of each robot in its own frame, ``[B, n, 2]``, as an action of the world, ``[B, 2 n]``.

    Args:
        forces: What the shared policy answers to the views.
        frames: As ``robot_views`` returns them.

    Raises:
        TypeError: The forces are no numbers.
        ValueError: There is not one for each frame.
    """
    wanted = f"forces in their frames are {[*frames.shape[:2], 2]} numbers"
    given = float_array(forces, wanted)
    if given.shape != (*frames.shape[:2], 2):
        raise ValueError(f"{wanted}; got {list(given.shape)}")
    turned = np.einsum("bnij,bni->bnj", frames, given)
    return np.asarray(turned.reshape(len(turned), 2 * turned.shape[1]))


def _nearest(to_goal: Numbers, velocities: Numbers, ahead: Numbers, k: int) -> NDArray[np.float64]:
    """Return places and velocities of each robot's ``k`` nearest others, ``[B, n, k, 2, 2]``.

    Of those that are equally far the one farther ahead comes first, and then the one that is faster ahead.
    """
    n = to_goal.shape[1]
    apart = to_goal[:, :, None] - to_goal[:, None]  # from robot i to robot j
    distances = np.linalg.norm(apart, axis=3)
    distances[:, np.arange(n), np.arange(n)] = np.inf
    places_ahead = np.einsum("bijx,bix->bij", apart, ahead)
    speeds_ahead = np.einsum("bjx,bix->bij", velocities, ahead)
    digits = round(-np.log10(_ALIKE))
    keys = [np.round(key, digits) for key in (-speeds_ahead, -places_ahead, distances)]  # the last one counts first
    order = np.lexsort(keys, axis=2)[:, :, :k]
    rows, robots = np.arange(len(to_goal))[:, None, None], np.arange(n)[None, :, None]
    return np.stack([apart[rows, robots, order], velocities[rows, order]], axis=3)


def _frames(ahead: NDArray[np.float64], aside: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the matrices that turn ``ahead`` onto the x axis, and mirror ``aside`` to the left of it."""
    left = np.stack([-ahead[..., 1], ahead[..., 0]], axis=2)
    side = (left * aside).sum(axis=2)
    sign = np.where(np.abs(side) > _ALIKE, np.sign(side), 0.0)
    return np.stack([ahead, sign[..., None] * left], axis=2)
