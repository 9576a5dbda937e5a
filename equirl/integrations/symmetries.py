"""What the engines share: symmetries by name, and orbit maps for the spaces of an environment."""

from __future__ import annotations

import copy
import importlib
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from equirl.constructions import trivial_representation
from equirl.matrices import Linear, beside
from equirl.mdp_symmetry import MDPSymmetry, ObservationShape
from equirl.methods import make_aggregator
from equirl.orbit import Orbit
from equirl.orbit_map import OrbitMap
from equirl.symmetry import build_symmetry

__all__ = ["orbit_map_for", "show_actions", "symmetry_for", "symmetry_of_shape"]


def symmetry_for(symmetry: str | MDPSymmetry, observation_space: Any, action_space: Any) -> MDPSymmetry:
    """Return a symmetry for the spaces of a Gymnasium environment.

    Args:
        symmetry: As for ``symmetry_of_shape``.
        observation_space: ``Box``, or a ``Dict`` of such.
        action_space: ``Discrete``.

    Raises:
        TypeError: Other spaces; or as ``symmetry_of_shape``.
        ValueError: As ``symmetry_of_shape``.
    """
    if type(action_space).__name__ != "Discrete":
        raise TypeError(f"equivariant networks of other engines choose among Discrete actions; got {action_space}")
    return symmetry_of_shape(symmetry, _shape(observation_space), int(action_space.n))


def symmetry_of_shape(symmetry: str | MDPSymmetry, observation_shape: ObservationShape, n_actions: int) -> MDPSymmetry:
    """Return a symmetry for observations of a shape and a number of actions.

    Args:
        symmetry: An ``MDPSymmetry``, a registered name, a symmetry file, or ``"MODULE:NAME"``: the module is imported
            first, as Gymnasium does for environments. So the workers of a cluster know ``"equirl.envs:grid-d4"``.
        observation_shape: Shape of one observation; a mapping of shapes for dict observations.
        n_actions: Number of actions.

    Raises:
        TypeError: Neither a name nor an ``MDPSymmetry``.
        ValueError: An unknown name or module, or sizes that do not fit.
    """
    if isinstance(symmetry, MDPSymmetry):
        symmetry.check_fits(observation_shape, n_actions)
        return symmetry
    if not isinstance(symmetry, str):
        raise TypeError(f"symmetry must be an MDPSymmetry, a name or MODULE:NAME; got {symmetry!r}")
    module, colon, name = symmetry.partition(":")
    if colon and not symmetry.endswith(".toml"):
        try:
            importlib.import_module(module)
        except (ImportError, ValueError) as error:
            raise ValueError(f"symmetry {symmetry!r}: the module {module!r} cannot be imported ({error})") from error
        symmetry = name
    return build_symmetry(symmetry, observation_shape, n_actions)


def orbit_map_for(
    symmetry: MDPSymmetry,
    method: str = "lambda_equitune",
    method_kwargs: Mapping[str, Any] | None = None,
    features_dim: int | None = None,
    values: int = 0,
) -> OrbitMap:
    """Return the orbit map of a network from observations to one number for each action.

    Its parts are new: the tables of the given symmetry stay on their device.

    Args:
        symmetry: The symmetry.
        method: ``"equitune"``, ``"lambda_equitune"``, ``"equizero"`` or ``"canonical"``.
        method_kwargs: Its settings; see :func:`equirl.methods.make_aggregator`. Beside values, the proxy loss of
            equizero is by default the entropy of the logits.
        features_dim: Length of the features that λ may read; ``None`` if it can read the inputs alone.
        values: How many invariant numbers, such as a value, follow those of the actions.

    Raises:
        TypeError: A setting of another kind.
        ValueError: An unknown method or setting.
    """
    copied = copy.deepcopy(symmetry)
    sizes = {"inputs": _size(copied.observation.shape)}
    if features_dim is not None:
        sizes["features"] = features_dim
    output_rep: Linear = copied.action
    if values:
        if method == "equizero":
            method_kwargs = {"proxy_loss": "entropy", **(method_kwargs or {})}
        output_rep = beside(output_rep, trivial_representation(output_rep.group, (values,)))
    return OrbitMap(copied.observation, output_rep, make_aggregator(method, method_kwargs, sizes, copied.observation))


def show_actions(orbit: Orbit) -> Orbit:
    """Return an orbit of logits and a value, ``[B, |G|, A + 1]``, of which proxy losses see the logits alone."""
    return replace(orbit, outputs=orbit.outputs[..., :-1], combined=orbit.outputs)


def _shape(space: Any) -> ObservationShape:
    kind = type(space).__name__
    if kind == "Dict":
        return {key: _shape(part) for key, part in space.spaces.items()}
    if kind != "Box":
        raise TypeError(f"equivariant networks of other engines read Box observations, or a Dict of such; got {space}")
    return tuple(space.shape)


def _size(shape: Any) -> int:
    return sum(map(_size, shape.values())) if isinstance(shape, Mapping) else math.prod(shape)
