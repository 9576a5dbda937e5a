"""The declared symmetries, registered by name: grids, boards, MiniGrid, classic control, and robots on the plane."""

from __future__ import annotations

from functools import partial

import torch

from equirl.constructions import (
    channel_representation,
    direct_sum,
    image_representation,
    lift_representation,
    permutation_representation,
    signed_permutation_representation,
    tensor_product,
)
from equirl.displacements import displacement_representation
from equirl.envs.grid_planes import FACING_PLANES
from equirl.envs.gridworld import MOVES
from equirl.envs.minigrid_state import facing_action
from equirl.groups import FiniteGroup, cyclic_group, dihedral_group, direct_product, symmetric_group
from equirl.matrices import beside, plane_representation, simplest_form
from equirl.plane_groups import torus_symmetries
from equirl.representations import MonomialRepresentation
from equirl.symmetry import MDPSymmetry, ObservationShape, register_symmetry

__all__ = [
    "board_symmetry",
    "egocentric_symmetry",
    "full_view_symmetry",
    "grid_symmetry",
    "mirror_symmetry",
    "plane_symmetry",
    "signed_symmetry",
    "swarm_symmetry",
    "torus_symmetry",
]


def grid_symmetry(name: str, group: FiniteGroup, observation_shape: ObservationShape, n_actions: int) -> MDPSymmetry:
    """Return the symmetry of an image ``[C, H, W]`` with the moves up, left, down, right.

    The image turns and flips. The moves are numbered counter-clockwise, so a quarter turn carries move ``i`` to
    ``i + 1`` and the left-right mirror carries ``i`` to ``-i`` (mod 4): the natural action of C4 and D4.

    Args:
        name: Its name.
        group: ``cyclic_group(4)`` or ``dihedral_group(4)``.
        observation_shape: ``(C, H, W)``, square.
        n_actions: 4.

    Raises:
        ValueError: The observation is no square image, or there are not four moves.
    """
    if not isinstance(observation_shape, tuple) or len(observation_shape) != 3:
        raise ValueError(
            f"symmetry {name!r} acts on images [C, H, W]; the observation space has {observation_shape!r}. "
            "Do not flatten the observation: the features extractor does that after the group has acted"
        )
    if n_actions != 4:
        raise ValueError(f"symmetry {name!r} permutes the 4 moves up, left, down, right; there are {n_actions} actions")
    return MDPSymmetry(name, image_representation(group, observation_shape), permutation_representation(group))


def torus_symmetry(
    name: str, point_group: FiniteGroup, observation_shape: ObservationShape, n_actions: int
) -> MDPSymmetry:
    """Return the symmetry of an image ``[C, H, W]`` of a torus with the moves up, left, down, right.

    The image turns, flips, and shifts: what leaves it on one side comes in again on the other. Shifts leave the moves
    as they are. The order of the group is ``H * W`` times that of ``point_group``.

    Args:
        name: Its name.
        point_group: Turns and mirrors, such as ``dihedral_group(4)``; ``cyclic_group(1)`` for shifts alone.
        observation_shape: ``(C, H, W)``; square where ``point_group`` holds a quarter turn.
        n_actions: 4, or 5 with "stay" as the last one.

    Raises:
        ValueError: The observation is no image, or there are not four or five moves.
    """
    if not isinstance(observation_shape, tuple) or len(observation_shape) != 3:
        raise ValueError(
            f"symmetry {name!r} acts on images [C, H, W] of a torus; the observation space has {observation_shape!r}"
        )
    if n_actions not in (4, 5):
        raise ValueError(
            f"symmetry {name!r} permutes the moves up, left, down, right, and perhaps stay as the fifth; there are "
            f"{n_actions} actions. For others: `equirl discover`, or displacement_representation"
        )
    group = torus_symmetries(*observation_shape[1:], point_group)
    moves = [*MOVES.tolist(), [0, 0]][:n_actions]
    return MDPSymmetry(name, image_representation(group, observation_shape), displacement_representation(group, moves))


def board_symmetry(name: str, group: FiniteGroup, observation_shape: ObservationShape, n_actions: int) -> MDPSymmetry:
    """Return the symmetry of a square board ``[C, n, n]`` whose actions are its cells, row by row.

    The planes turn and flip, and the actions move with the cells: an action is one more plane of the image.

    Args:
        name: Its name.
        group: ``cyclic_group(4)`` or ``dihedral_group(4)``.
        observation_shape: ``(C, n, n)``.
        n_actions: ``n * n``.

    Raises:
        ValueError: The observation is no square image, or there is not one action for each cell.
    """
    shape = observation_shape
    if not isinstance(shape, tuple) or len(shape) != 3 or shape[1] != shape[2] or n_actions != shape[1] * shape[2]:
        raise ValueError(
            f"symmetry {name!r} acts on square boards [C, n, n] with one action for each of the n * n cells; got "
            f"observations {shape!r} and {n_actions} actions"
        )
    cells = image_representation(group, (1, *shape[1:])).index
    return MDPSymmetry(
        name, image_representation(group, shape), MonomialRepresentation(group, (n_actions,), cells.flatten(1))
    )


def full_view_symmetry(
    name: str, group: FiniteGroup, observation_shape: ObservationShape, n_actions: int
) -> MDPSymmetry:
    """Return the symmetry of MiniGrid's world seen from above (``FullGridView``).

    The image turns and flips, and with it the first four planes change places: they say where the agent faces. The
    actions are relative to the agent, so a turn of the world leaves them; a mirror swaps turning left and right.

    Args:
        name: Its name.
        group: ``cyclic_group(4)`` or ``dihedral_group(4)``.
        observation_shape: ``(C, H, W)``, square, the facing planes first.
        n_actions: At least 2; 0 turns left, 1 turns right.

    Raises:
        ValueError: The observation is no square image of at least four planes, or there are fewer than two actions.
    """
    shape = _image_shape(name, observation_shape, n_actions, len(FACING_PLANES), "FullGridView")
    facing = facing_action(group)
    planes = torch.arange(shape[0]).repeat(group.order, 1)
    planes[:, : len(FACING_PLANES)] = facing
    cells = image_representation(group, shape).index
    exchanged = channel_representation(group, shape, planes).index
    return MDPSymmetry(
        name,
        MonomialRepresentation(group, shape, cells.gather(1, exchanged)),
        permutation_representation(group, _turning_actions(facing, n_actions)),
    )


def egocentric_symmetry(name: str, observation_shape: ObservationShape, n_actions: int) -> MDPSymmetry:
    """Return the mirror symmetry of MiniGrid seen through the agent's eyes (``EgocentricView``).

    The mirror flips the image left and right and swaps turning left and right.

    Args:
        name: Its name.
        observation_shape: ``(C, H, W)``, the agent looking up.
        n_actions: At least 2; 0 turns left, 1 turns right.

    Raises:
        ValueError: The observation is no square image, or there are fewer than two actions.
    """
    shape = _image_shape(name, observation_shape, n_actions, 1, "EgocentricView")
    mirror = dihedral_group(1)
    actions = _turning_actions(facing_action(mirror), n_actions)
    return MDPSymmetry(name, image_representation(mirror, shape), permutation_representation(mirror, actions))


def plane_symmetry(name: str, group: FiniteGroup, observation_shape: ObservationShape, n_actions: int) -> MDPSymmetry:
    """Return turns, and perhaps mirrors, of vectors ``(x, y)`` of the plane, in observation and action.

    Args:
        name: Its name.
        group: ``cyclic_group(n)`` or ``dihedral_group(n)``, ``n`` at least 3.
        observation_shape: ``(2 k,)``: ``k`` vectors one after another.
        n_actions: ``2 m``, the numbers of ``m`` vectors.

    Raises:
        ValueError: An odd number of numbers, or an observation that is no flat vector.
    """
    shape = observation_shape
    if not isinstance(shape, tuple) or len(shape) != 1 or shape[0] % 2 or n_actions % 2:
        raise ValueError(
            f"symmetry {name!r} turns vectors (x, y), two numbers each; got observations {shape!r} and {n_actions} "
            "numbers of an action"
        )
    turns = group.order // 2 if "s" in group.element_names else group.order
    vector = simplest_form(plane_representation(turns, mirrors=group.order > turns))
    return MDPSymmetry(name, beside(*[vector] * (shape[0] // 2)), beside(*[vector] * (n_actions // 2)))


def swarm_symmetry(name: str, observation_shape: ObservationShape, n_actions: int) -> MDPSymmetry:
    """Return the permutations of robots with the quarter turns and mirrors of the plane, S_n x D4.

    Args:
        name: Its name.
        observation_shape: ``(2 k n,)``: for each of ``n`` robots ``k`` vectors ``(x, y)``.
        n_actions: ``2 n``: for each robot a vector.

    Raises:
        ValueError: Other numbers, or more than five robots.
    """
    shape, n = observation_shape, n_actions // 2
    fits = isinstance(shape, tuple) and len(shape) == 1 and n_actions % 2 == 0 and shape[0] % n_actions == 0
    if not isinstance(shape, tuple) or not fits or n > 5:
        raise ValueError(
            f"symmetry {name!r} permutes up to five robots, each with vectors (x, y) in the observation and one in the "
            f"action; got observations {shape!r} and {n_actions} numbers of an action"
        )
    robots, turns = symmetric_group(n), dihedral_group(4)
    group = direct_product(robots, turns)
    elements = torch.arange(group.order)
    places = lift_representation(permutation_representation(robots), group, elements // turns.order)
    quarters = plane_representation(4, mirrors=True)
    assert isinstance(quarters, MonomialRepresentation)
    vector = lift_representation(quarters, group, elements % turns.order)
    seen = direct_sum(*[vector] * (shape[0] // n_actions))
    both = (tensor_product(places, seen), tensor_product(places, vector))
    flat = [MonomialRepresentation(group, (rep.index.shape[1],), rep.index, rep.sign.long()) for rep in both]
    return MDPSymmetry(name, flat[0], flat[1])


def mirror_symmetry(
    name: str, signs: tuple[int, ...], observation_shape: ObservationShape, n_actions: int
) -> MDPSymmetry:
    """Return the mirror symmetry (Z2) of an observation whose coordinates keep or change their sign.

    The mirror ``s`` multiplies coordinate ``i`` by ``signs[i]`` and reverses the order of the actions: 0 becomes the
    last, as "push left" and "push right" do.

    Args:
        name: Its name.
        signs: +1 or -1 for each coordinate of the observation.
        observation_shape: ``(len(signs),)``.
        n_actions: Number of actions.

    Raises:
        ValueError: ``signs`` holds something else than +1 and -1.
    """
    mirror = dihedral_group(1)
    unmoved = list(range(len(signs)))
    return MDPSymmetry(
        name,
        signed_permutation_representation(mirror, [unmoved, unmoved], [[1] * len(signs), list(signs)]),
        permutation_representation(mirror, [list(range(n_actions)), list(range(n_actions))[::-1]]),
    )


def signed_symmetry(
    name: str,
    signs: tuple[int, ...],
    action_signs: tuple[int, ...],
    observation_shape: ObservationShape,
    n_actions: int,
) -> MDPSymmetry:
    """Return the mirror symmetry (Z2) of an observation and of a ``Box`` action whose numbers may change their sign.

    Args:
        name: Its name.
        signs: +1 or -1 for each coordinate of the observation.
        action_signs: +1 or -1 for each number of an action.
        observation_shape: ``(len(signs),)``.
        n_actions: ``len(action_signs)``.

    Raises:
        ValueError: Something else than +1 and -1.
    """
    mirror = dihedral_group(1)

    def signed(given: tuple[int, ...]) -> MonomialRepresentation:
        unmoved = list(range(len(given)))
        return signed_permutation_representation(mirror, [unmoved, unmoved], [[1] * len(given), list(given)])

    return MDPSymmetry(name, signed(signs), signed(action_signs))


def _image_shape(name: str, shape: ObservationShape, n_actions: int, n_planes: int, view: str) -> tuple[int, ...]:
    """Return the shape, which is one of enough planes, or raise."""
    if not isinstance(shape, tuple) or len(shape) != 3 or shape[0] < n_planes or shape[1] != shape[2]:
        raise ValueError(
            f"symmetry {name!r} acts on the square planes [C, H, W] of equirl.envs.{view}; the observation space has "
            f"{shape!r}. Wrap the environment: {view}(gymnasium.make('MiniGrid-...'))"
        )
    if n_actions < 2:
        raise ValueError(f"symmetry {name!r} swaps turning left (0) and right (1); there are {n_actions} actions")
    return shape


def _turning_actions(facing: torch.Tensor, n_actions: int) -> torch.Tensor:
    """Return how MiniGrid's actions change places where the agent's direction does as ``facing`` says."""
    mirrored = (facing[:, 1] - facing[:, 0]) % 4 == 3  # counter-clockwise has become clockwise
    actions = torch.arange(n_actions).repeat(len(facing), 1)
    actions[mirrored, :2] = torch.tensor([1, 0])
    return actions


register_symmetry("grid-c4", partial(grid_symmetry, "grid-c4", cyclic_group(4)))
register_symmetry("grid-d4", partial(grid_symmetry, "grid-d4", dihedral_group(4)))
register_symmetry("torus-shifts", partial(torus_symmetry, "torus-shifts", cyclic_group(1)))
register_symmetry("torus-c4", partial(torus_symmetry, "torus-c4", cyclic_group(4)))
register_symmetry("torus-d4", partial(torus_symmetry, "torus-d4", dihedral_group(4)))
register_symmetry("plane-c4", partial(plane_symmetry, "plane-c4", cyclic_group(4)), "Box")
register_symmetry("plane-d4", partial(plane_symmetry, "plane-d4", dihedral_group(4)), "Box")
register_symmetry("plane-c8", partial(plane_symmetry, "plane-c8", cyclic_group(8)), "Box")
register_symmetry("plane-d8", partial(plane_symmetry, "plane-d8", dihedral_group(8)), "Box")
register_symmetry("plane-c16", partial(plane_symmetry, "plane-c16", cyclic_group(16)), "Box")
# One degree after the other: for augmentation by random angles.
register_symmetry("plane-c360", partial(plane_symmetry, "plane-c360", cyclic_group(360)), "Box")
register_symmetry("swarm-d4", partial(swarm_symmetry, "swarm-d4"), "Box")
register_symmetry("board-c4", partial(board_symmetry, "board-c4", cyclic_group(4)))
register_symmetry("board-d4", partial(board_symmetry, "board-d4", dihedral_group(4)))
register_symmetry("minigrid-c4", partial(full_view_symmetry, "minigrid-c4", cyclic_group(4)))
register_symmetry("minigrid-d4", partial(full_view_symmetry, "minigrid-d4", dihedral_group(4)))
register_symmetry("minigrid-egocentric-z2", partial(egocentric_symmetry, "minigrid-egocentric-z2"))
# Cart position, its velocity, pole angle, its velocity: all change sign; push left and push right swap.
register_symmetry("cartpole-z2", partial(mirror_symmetry, "cartpole-z2", (-1, -1, -1, -1)))
# [cos1, sin1, cos2, sin2, velocity1, velocity2]: sines and velocities change sign; torques -1 and +1 swap.
register_symmetry("acrobot-z2", partial(mirror_symmetry, "acrobot-z2", (1, -1, 1, -1, -1, -1)))
# Approximate only: the valley is symmetric about position -0.52, not 0, and the goal is on the right alone.
register_symmetry("mountaincar-z2", partial(mirror_symmetry, "mountaincar-z2", (-1, -1)))
# [cos, sin, velocity]: sine and velocity change sign, and with them the torque.
register_symmetry("pendulum-z2", partial(signed_symmetry, "pendulum-z2", (1, -1, -1), (-1,)), "Box")
# Approximate only, as for mountaincar-z2.
register_symmetry(
    "mountaincar-continuous-z2", partial(signed_symmetry, "mountaincar-continuous-z2", (-1, -1), (-1,)), "Box"
)
