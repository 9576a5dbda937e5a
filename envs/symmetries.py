"""The symmetries of grids with four absolute moves, registered by name: ``grid-c4``, ``grid-d4``."""

from __future__ import annotations

from functools import partial

from equirl.groups import FiniteGroup, cyclic_group, dihedral_group
from equirl.representations import image_representation, permutation_representation
from equirl.symmetry import MDPSymmetry, ObservationShape, register_symmetry

__all__ = ["grid_symmetry"]


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


register_symmetry("grid-c4", partial(grid_symmetry, "grid-c4", cyclic_group(4)))
register_symmetry("grid-d4", partial(grid_symmetry, "grid-d4", dihedral_group(4)))
