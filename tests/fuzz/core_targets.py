"""Targets in the core: groups, representations, symmetries."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

import equirl
from equirl import (
    FiniteGroup,
    MappingRepresentation,
    MDPSymmetry,
    MonomialRepresentation,
    Representation,
    TokenRepresentation,
)
from equirl.constructions import channel_representation, direct_sum, regular_representation
from equirl.displacements import displacement_representation
from equirl.groups import direct_product, group_from_generators
from equirl.named_parts import block_representation, flat_representation, space_representations
from equirl.plane_groups import torus_group, torus_symmetries
from equirl.products import semidirect_product
from equirl.symmetry import registered_symmetries, stack_frames
from fuzz.nonsense import Argument, batch, count, instance, name, shape, table, vector
from fuzz.target import Target, target

__all__ = ["C4", "CORNERS", "core_targets"]

C4 = equirl.cyclic_group(4)
C2 = equirl.cyclic_group(2)
TURN = [[(i + g) % 4 for i in range(4)] for g in range(4)]
IMAGE = equirl.image_representation(C4, (2, 3, 3))
CORNERS = equirl.permutation_representation(C4)


def core_targets() -> list[Target]:
    """Return the targets of the core."""
    return [*_groups(), *_plane(), *_representations(), *_symmetries()]


def _groups() -> list[Target]:
    generators = {"a": [1, 0, 2], "b": [1, 2, 0]}
    cayley = C4.cayley.tolist()
    element = name(C4.element_names, "element", "elements", numbers=False)
    return [
        target("cyclic_group", equirl.cyclic_group, {"n": 4}, {"n": count()}, _is_group),
        target("dihedral_group", equirl.dihedral_group, {"n": 3}, {"n": count()}, _is_group),
        target("symmetric_group", equirl.symmetric_group, {"n": 3}, {"n": count(most=6)}, _is_group),
        target(
            "group_from_generators",
            lambda a, b: group_from_generators({"a": a, "b": b}),
            dict(generators),
            {key: vector(value, "generator", "permutation") for key, value in generators.items()},
            _is_group,
        ),
        target(
            "group_from_generators, mapping",
            group_from_generators,
            {"generators": generators},
            {"generators": instance("generators")},
        ),
        target(
            "FiniteGroup",
            FiniteGroup,
            {
                "name": "C4",
                "element_names": ["e", "r", "r2", "r3"],
                "cayley": cayley,
                "generators": ["r"],
                "natural_action": TURN,
            },
            {
                "element_names": vector(["e", "r", "r2", "r3"], "names", "elements", numbers=False),
                "cayley": table(cayley, "table", "C4"),
                "generators": vector(["r"], "generate", numbers=False, nullable=True),
                "natural_action": table(TURN, "action", "points", nullable=True),
            },
            _is_group,
        ),
        target("FiniteGroup.index", C4.index, {"element": "r"}, {"element": element}),
        target("FiniteGroup.multiply", C4.multiply, {"g": "r", "h": 2}, {"g": element, "h": _element()}),
        target("FiniteGroup.inverse", C4.inverse, {"g": 1}, {"g": _element()}),
        target("FiniteGroup.element_order", C4.element_order, {"g": 1}, {"g": _element()}),
        *(
            target(f"FiniteGroup.{method}", getattr(C4, method), {"elements": [0, 2]}, {"elements": _elements()})
            for method in ("generated_by", "is_subgroup", "subgroup")
        ),
        target(
            "direct_product",
            direct_product,
            {"first": C4, "second": C2},
            {"first": instance(), "second": instance()},
            _is_group,
        ),
    ]


def _plane() -> list[Target]:
    inverse = [[0, 1, 2, 3], [0, 3, 2, 1]]
    moves = [[-1, 0], [0, -1], [1, 0], [0, 1]]
    sides = {"height": count(1, "torus"), "width": count(1, "torus")}
    return [
        target("torus_group", torus_group, {"height": 2, "width": 3}, sides, _is_group),
        target(
            "torus_symmetries",
            torus_symmetries,
            {"height": 2, "width": 3, "point_group": C2},
            {**sides, "point_group": instance()},
            _is_group,
        ),
        target(
            "semidirect_product",
            semidirect_product,
            {"normal": C4, "acting": C2, "action": inverse},
            {"normal": instance(), "acting": instance(), "action": table(inverse, "action", "row of", "C4")},
            _is_group,
        ),
        target(
            "displacement_representation",
            displacement_representation,
            {"group": C4, "displacements": moves},
            {"group": instance(), "displacements": table(moves, "displacement")},
            _represents,
        ),
        target(
            "flat_representation",
            lambda group, kind: flat_representation(group, {"position": kind}),
            {"group": C4, "kind": "vector"},
            {"group": instance(), "kind": name(["scalar", "vector"], "kind", "part", numbers=False)},
            _represents,
        ),
        target(
            "block_representation",
            block_representation,
            {"group": C4, "action": TURN, "inside": "vector"},
            {"group": instance(), "action": table(TURN, "row of", "representation", "action", nullable=True)},
            _represents,
        ),
        target(
            "space_representations",
            lambda group, plane: space_representations(group, {"r": plane})[0],
            {"group": C2, "plane": "xz"},
            {"group": instance(), "plane": name(["xy", "xz", "yz"], "plane")},
            _represents,
        ),
    ]


def _representations() -> list[Target]:
    signs = [[1, 1, 1, 1], [-1] * 4, [1] * 4, [-1] * 4]
    shift = C4.cayley.T.tolist()
    x = {"x": batch(lambda: torch.rand(3, 2, 3, 3), "tensor", "acts on")}
    return [
        target(
            "trivial_representation",
            equirl.trivial_representation,
            {"group": C4, "shape": (2, 3)},
            {"group": instance(), "shape": shape((2, 3), "side")},
            _represents,
        ),
        target(
            "permutation_representation",
            equirl.permutation_representation,
            {"group": C4, "action": TURN},
            {"group": instance(), "action": table(TURN, "row of", "representation", nullable=True)},
            _represents,
        ),
        target(
            "signed_permutation_representation",
            equirl.signed_permutation_representation,
            {"group": C4, "action": TURN, "sign": signs},
            {
                "action": table(TURN, "row of", "representation", nullable=True),
                "sign": table(signs, "representation", "homomorphism", nullable=True, signs=True),
            },
            _represents,
        ),
        target("regular_representation", regular_representation, {"group": C4}, {"group": instance()}, _represents),
        target(
            "image_representation",
            equirl.image_representation,
            {"group": C4, "shape": (2, 3, 3)},
            {"group": instance(), "shape": shape((2, 3, 3), "side", "image")},
            _represents,
        ),
        target(
            "channel_representation",
            channel_representation,
            {"group": C4, "shape": (4, 2), "action": TURN},
            {"shape": shape((4, 2), "side"), "action": table(TURN, "row of", "representation", nullable=True)},
            _represents,
        ),
        target(
            "representation_from_generators",
            lambda index, sign, shape: equirl.representation_from_generators(C4, shape, {"r": (index, sign)}),
            {"index": [1, 2, 3, 0], "sign": [1, 1, 1, 1], "shape": (4,)},
            {
                "index": vector([1, 2, 3, 0], "image of 'r'", "'r'"),
                "sign": vector([1, 1, 1, 1], "signs of 'r'", "'r'", nullable=True),
                "shape": shape((4,), "side", "image of"),
            },
            _represents,
        ),
        target(
            "MonomialRepresentation",
            MonomialRepresentation,
            {"group": C4, "shape": (4,), "index": shift, "sign": None},
            {
                "group": instance(),
                "shape": shape((4,), "side", "coordinates"),
                "index": table(shift, "row of", "representation", "homomorphism"),
                "sign": table(signs, "homomorphism", nullable=True, signs=True),
            },
            _represents,
        ),
        target(
            "TokenRepresentation",
            TokenRepresentation,
            {"group": C4, "table": TURN, "shape": (-1,)},
            {
                "group": instance(),
                "table": table(TURN, "row of", "representation", "homomorphism"),
                "shape": shape((2,), "side", least=-1),
            },
        ),
        target("MappingRepresentation", MappingRepresentation, {"parts": {"a": IMAGE}}, {"parts": instance("part")}),
        target(
            "tensor_product",
            equirl.tensor_product,
            {"first": CORNERS, "second": CORNERS},
            {"first": instance(), "second": instance()},
        ),
        target("direct_sum", lambda part: direct_sum(CORNERS, part), {"part": CORNERS}, {"part": instance()}),
        target("Representation.orbit", IMAGE.orbit, {"x": torch.rand(3, 2, 3, 3)}, x),
        target(
            "Representation.transform", IMAGE.transform, {"g": "r", "x": torch.rand(3, 2, 3, 3)}, {"g": _element(), **x}
        ),
        target(
            "TokenRepresentation.orbit",
            TokenRepresentation(C4, TURN, (2,)).orbit,
            {"x": torch.zeros(3, 2).long()},
            {"x": batch(lambda: torch.zeros(3, 2).long(), "tensor", "integers", "tokens")},
        ),
        target(
            "MonomialRepresentation.pull_back",
            CORNERS.pull_back,
            {"y": torch.rand(3, 4, 4)},
            {"y": batch(lambda: torch.rand(3, 4, 4), "tensor", "acts on")},
        ),
    ]


def _symmetries() -> list[Target]:
    one = MDPSymmetry("turn", IMAGE, CORNERS)
    return [
        target(
            "MDPSymmetry",
            MDPSymmetry,
            {"name": "turn", "observation": IMAGE, "action": CORNERS},
            {"observation": instance(), "action": instance()},
        ),
        target(
            "MDPSymmetry.check_fits",
            one.check_fits,
            {"observation_shape": (2, 3, 3), "n_actions": 4},
            {"observation_shape": shape((2, 3, 3), "observation"), "n_actions": count(1, "actions")},
            _fits,
        ),
        target(
            "build_symmetry",
            equirl.build_symmetry,
            {"name": "grid-d4", "observation_shape": (3, 5, 5), "n_actions": 4},
            {
                "name": name(registered_symmetries(), "symmetry"),
                "observation_shape": shape((3, 5, 5), "observation", "image", "grid-d4"),
                "n_actions": count(1, "actions"),
            },
            _fits_built,
        ),
        target(
            "register_symmetry",
            _registered_anew,
            {"name": "fuzz", "builder": lambda shape, n: one},
            {"name": name(["fuzz"], others=True), "builder": instance("builder")},
        ),
        target(
            "stack_frames",
            stack_frames,
            {"symmetry": one, "n_frames": 2, "axis": 0},
            {"symmetry": instance(), "n_frames": count(), "axis": _axis()},
            lambda result, _: _represents(result.observation, {}),
        ),
    ]


def _element() -> Argument:
    return count(0, "element", "C4", most=3)


def _elements() -> Argument:
    return vector([0, 2], "element", "subgroup")


def _axis() -> Argument:
    return count(-3, "axis", most=2)


def _is_group(group: FiniteGroup, _: dict[str, Any]) -> str | None:
    table = group.cayley
    left, right = table[table], table[:, table]
    return None if torch.equal(left, right) else "the result is no group: it is not associative"


def _represents(representation: Representation, given: dict[str, Any]) -> str | None:
    if not isinstance(representation, MonomialRepresentation):
        return f"the result is a {type(representation).__name__}"
    matrices, group = representation.matrices(), representation.group
    for g in range(group.order):
        for h in range(group.order):
            if not torch.equal(matrices[g] @ matrices[h], matrices[group.multiply(g, h)]):
                return f"rho({g}) rho({h}) is not rho({g} {h})"
    return _shares_memory(representation, given)


def _shares_memory(representation: MonomialRepresentation, given: dict[str, Any]) -> str | None:
    """Complain of a representation that changes with the arrays that it was made from."""
    matrices = representation.matrices()
    for name_, array in given.items():
        if isinstance(array, np.ndarray) or (isinstance(array, Tensor) and not array.requires_grad):
            before: Any = copy.deepcopy(array)
            array[...] = 0
            same = torch.equal(matrices, representation.matrices())
            array[...] = before
            if not same:
                return f"it shares memory with {name_}"
    return None


def _fits(_: Any, given: dict[str, Any]) -> str | None:
    sides = [int(side) for side in given["observation_shape"]]
    fits = sides == [2, 3, 3] and given["n_actions"] == 4
    return None if fits else f"{given['observation_shape']} and {given['n_actions']} do not fit"


def _fits_built(symmetry: MDPSymmetry, given: dict[str, Any]) -> str | None:
    n = math.prod(int(side) for side in given["observation_shape"])
    fits = math.prod(symmetry.observation.shape) == n and symmetry.n_actions == given["n_actions"]
    return None if fits else "the symmetry built does not fit what was asked for"


def _registered_anew(name: Any, builder: Any) -> None:
    from equirl import symmetry

    before = dict(symmetry._REGISTRY)
    try:
        equirl.register_symmetry(name, builder)
    finally:
        symmetry._REGISTRY.clear()
        symmetry._REGISTRY.update(before)
