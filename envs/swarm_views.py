"""What each robot of a swarm sees: one shared policy in these views is equivariant under S_n x O(2), for any ``n``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from equirl.arguments import whole_number
from equirl.envs.forces import float_array

__all__ = ["forces_in_world", "robot_views"]

Numbers = NDArray[np.floating[Any]]


def robot_views(observations: Numbers, neighbours: int = 2) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return what the robots of ``SwarmEnv`` see, each in its own frame, and these frames.

    A robot's x axis points to the goal, and its nearest neighbours lie to its left rather than to its right. It sees
    its own vectors (to the goal, velocity) and, for each neighbour, the nearest first, its place and its velocity. If
    the swarm is turned, mirrored or moved no view changes; if robots change places the views change places along. So
    ``forces_in_world(pi(views), frames)`` is equivariant for any ``pi``, to rounding (frames: Puny et al. 2022,
    arXiv:2110.03336). Where the goal is reached, or the neighbours lie to both sides alike, a frame turns suddenly.

    Args:
        observations: Of one swarm ``[4 n]`` or of many ``[B, 4 n]``.
        neighbours: How many others each robot sees; less than ``n``.

    Returns:
        Views, float32 ``[B, n, 4 + 4 neighbours]``, and orthogonal matrices from the world into each frame
        ``[B, n, 2, 2]``.

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
        raise ValueError(f"each of {n} robots has {n - 1} others to see; got neighbours={k}")
    own = seen.reshape(len(seen), n, 2, 2)
    to_goal, velocities = own[:, :, 0], own[:, :, 1]
    apart = to_goal[:, :, None] - to_goal[:, None]  # from robot i to robot j
    distances = np.linalg.norm(apart, axis=3)
    distances[:, np.arange(n), np.arange(n)] = np.inf
    nearest = np.argsort(distances, axis=2, kind="stable")[:, :, :k]
    rows = np.arange(len(seen))[:, None, None]
    others = np.stack([apart[rows, np.arange(n)[None, :, None], nearest], velocities[rows, nearest]], axis=3)
    frames = _frames(to_goal, velocities + others.sum(axis=(2, 3)))
    vectors = np.concatenate([own, others.reshape(len(seen), n, 2 * k, 2)], axis=2)
    return np.einsum("bnij,bnvj->bnvi", frames, vectors).reshape(len(seen), n, 4 + 4 * k).astype(np.float32), frames


def forces_in_world(forces: Numbers, frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the forces of each robot in its own frame, ``[B, n, 2]``, as an action of the world, ``[B, 2 n]``.

    Args:
        forces: What the shared policy answers to the views.
        frames: As ``robot_views`` returns them.
    """
    turned = np.einsum("bnij,bni->bnj", frames, np.asarray(forces, dtype=np.float64))
    return np.asarray(turned.reshape(len(turned), 2 * turned.shape[1]))


def _frames(ahead: NDArray[np.float64], aside: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the matrices that turn ``ahead`` onto the x axis, and mirror ``aside`` to the left of it."""
    length = np.linalg.norm(ahead, axis=2)
    x = np.where((length > 0)[..., None], ahead / np.where(length > 0, length, 1.0)[..., None], [1.0, 0.0])
    left = np.stack([-x[..., 1], x[..., 0]], axis=2)
    side = np.where((left * aside).sum(axis=2) < 0, -1.0, 1.0)
    return np.stack([x, side[..., None] * left], axis=2)
