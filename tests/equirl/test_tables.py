"""Tables of a group: copied, whole, and the same after every way a module can be moved."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from equirl import (
    Canonical,
    Equitune,
    Equizero,
    FiniteGroup,
    LambdaEquitune,
    MappingRepresentation,
    MonomialRepresentation,
    Symmetrized,
    TokenRepresentation,
    build_symmetry,
    cyclic_group,
    dihedral_group,
    image_representation,
    permutation_representation,
    representation_from_generators,
    signed_permutation_representation,
    symmetric_group,
)
from equirl.aggregators import weight_network
from equirl.envs.symmetries import grid_symmetry
from equirl.groups import group_from_generators
from equirl.symmetry import stack_frames

C2, D4 = cyclic_group(2), dihedral_group(4)
REP = permutation_representation(C2)
SWAP = [[0, 1, 2, 3], [1, 0, 3, 2]]

# What a user may fill and use again, and the object that is made of it.
MAKERS: dict[str, Callable[[Any], Any]] = {
    "cayley table": lambda t: FiniteGroup("C2", ["e", "r"], t).cayley,
    "index": lambda t: MonomialRepresentation(C2, (2,), t).index,
    "action": lambda t: permutation_representation(C2, t).index,
    "tokens": lambda t: TokenRepresentation(C2, t).table,
}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("kind", [np.array, torch.tensor, np.asfortranarray], ids=["numpy", "torch", "columns first"])
def test_a_table_is_a_copy_of_what_was_given(maker: str, kind: Callable[[Any], Any]) -> None:
    buffer = kind([[0, 1], [1, 0]])
    kept = MAKERS[maker](buffer)
    buffer[:] = 0
    assert kept.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(
    ("nonsense", "error", "message"),
    [
        ([[0.9, 1.2], [1.7, 0.4]], ValueError, "holds whole numbers; got 0.9"),
        (np.array([[0, 1], [1, np.nan]]), ValueError, "holds whole numbers; got nan"),
        (torch.tensor([[0, 1], [1, float("inf")]]), ValueError, "holds whole numbers; got inf"),
        ([[False, True], [True, False]], TypeError, "holds whole numbers"),
        ([["0", "1"], ["1", "0"]], TypeError, "holds whole numbers"),
        ([[0, 1], [1]], ValueError, "rows of different lengths"),
    ],
)
def test_a_table_that_holds_no_whole_numbers_is_refused(
    maker: str, nonsense: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        MAKERS[maker](nonsense)


@pytest.mark.parametrize("maker", MAKERS)
def test_whole_numbers_in_floats_pass(maker: str) -> None:
    assert MAKERS[maker](np.array([[0.0, 1.0], [1.0, 0.0]])).tolist() == [[0, 1], [1, 0]]


def _modules() -> dict[str, Symmetrized]:
    torch.manual_seed(0)
    images, moves = image_representation(D4, (1, 4, 4)), permutation_representation(D4)
    signed = signed_permutation_representation(C2, [[0, 1]] * 2, [[1, 1], [-1, -1]])
    both = MappingRepresentation({"signed": signed, "token": TokenRepresentation(C2, [[0, 1, 2], [2, 1, 0]], (1,))})

    def net() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 4))

    return {
        "equitune": Equitune(net(), images, moves),
        "lambda_equitune": LambdaEquitune(net(), images, moves, reads="inputs"),
        "equizero": Equizero(net(), images, moves),
        "canonical": Canonical(net(), images, moves),
        "dict": Canonical(_FromDict(), both, permutation_representation(C2)),
    }


class _FromDict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x: dict[str, torch.Tensor]) -> torch.Tensor:
        out: torch.Tensor = self.linear(torch.cat([x["signed"], x["token"].to(x["signed"])], dim=1))
        return out


def _inputs(name: str) -> Any:
    torch.manual_seed(1)
    if name == "dict":
        return {"signed": torch.randn(3, 2), "token": torch.tensor([[0], [1], [2]])}
    return torch.randn(3, 1, 4, 4)


WAYS: dict[str, Callable[[Symmetrized], Symmetrized]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "meta and to_empty": lambda module: module.to("meta").to_empty(device="cpu"),
    "double and float": lambda module: module.double().float(),
    "share_memory": lambda module: module.share_memory(),
}


@pytest.mark.parametrize("name", ["equitune", "lambda_equitune", "equizero", "canonical", "dict"])
@pytest.mark.parametrize("way", WAYS)
def test_the_tables_come_through(name: str, way: str) -> None:
    module, x = _modules()[name].eval(), _inputs(name)
    expected, weights = module(x), copy.deepcopy(module.state_dict())
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)  # fills memory that is not initialised, so that garbage shows
    try:
        moved = WAYS[way](module)
    finally:
        torch.use_deterministic_algorithms(deterministic)
    moved.load_state_dict(weights)
    assert torch.allclose(moved(x), expected, atol=1e-6)
    assert torch.allclose(moved(x), WAYS["pickle"](moved)(x))


def test_a_group_is_its_own_copy() -> None:
    assert copy.copy(D4) is D4
    assert copy.deepcopy({"group": D4})["group"] is D4
    assert copy.deepcopy(image_representation(D4, (1, 2, 2))).group is D4


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: D4.generated_by("rs"), TypeError, "got the one string 'rs'"),
        (lambda: D4.subgroup("rs"), TypeError, "got the one string 'rs'"),
        (lambda: D4.is_subgroup("e"), TypeError, "got the one string 'e'"),
        (lambda: FiniteGroup("C2", "er", [[0, 1], [1, 0]]), TypeError, "element_names is a list of names"),
        (lambda: FiniteGroup("C2", ["e", "r"], [[0, 1], [1, 0]], generators="r"), TypeError, "generators is a list"),
        (lambda: D4.index(1.7), TypeError, r"an element of D4 must be a whole number from 0; got 1\.7"),
        (lambda: D4.index(True), TypeError, "whole number"),
        (lambda: D4.index(-1), ValueError, "whole number from 0; got -1"),
        (lambda: cyclic_group(2.5), TypeError, r"n of cyclic_group must be a whole number from 1; got 2\.5"),
        (lambda: symmetric_group(True), TypeError, "n of symmetric_group"),
        (lambda: group_from_generators({"a": [0.2, 1.9]}), ValueError, "generator 'a' holds whole numbers; got 0.2"),
        (lambda: image_representation(D4, (1, 2.0, 2.0)), TypeError, "a side of the shape"),
        (lambda: MonomialRepresentation(C2, (2.5,), [[0, 1], [1, 0]]), TypeError, "a side of the shape"),
        (
            lambda: representation_from_generators(C2, (4,), {"r": (None, None)}),
            ValueError,
            r"the image of 'r' is a pair \(index, sign\)",
        ),
        (lambda: representation_from_generators(C2, (4,), {"r": ([0, 1], None)}), ValueError, "permutation of 0 .. 3"),
        (
            lambda: stack_frames(grid_symmetry("g", D4, (3, 4, 4), 4), 0),
            ValueError,
            "n_frames must be a whole number from 1",
        ),
        (lambda: MonomialRepresentation(C2, (0,), [[], []]), ValueError, "a side of the shape"),
        (lambda: permutation_representation(C2, [[], []]), ValueError, "acts on nothing"),
        (lambda: FiniteGroup("C2", ["e", None], [[0, 1], [1, 0]]), TypeError, "the name of an element must be a str"),
        (lambda: cyclic_group(3).subgroup(["e", "r4"]), ValueError, "C3 has no element 'r4'"),
        (
            lambda: FiniteGroup("C2", ["e", "r"], [[0, 1], [1, 0]], natural_action=[[0, 1], [1, 2]]),
            ValueError,
            "r does not permute the points",
        ),
        (lambda: image_representation("C4", (1, 2, 2)), TypeError, "group must be a FiniteGroup; got 'C4'"),
        (lambda: Equitune(3, REP, REP), TypeError, "backbone must be a Module; got 3"),
        (lambda: Equitune(nn.Identity(), REP, "none"), TypeError, "output_rep must be a Representation; got 'none'"),
        (lambda: Symmetrized(nn.Identity(), REP, REP, {}), TypeError, "aggregator must be a Aggregator"),
        (lambda: Equitune(nn.Identity(), REP, REP)(None), ValueError, "expected a tensor"),
        (lambda: Equizero(nn.Identity(), REP, REP)(np.zeros((2, 2))), ValueError, "expected a tensor"),
        (lambda: Canonical(nn.Identity(), REP, REP)(torch.tensor(1.0)), ValueError, "acts on"),
        (lambda: build_symmetry("cartpole-z2", (4,), 0), ValueError, "n_actions must be a whole number from 1"),
        (lambda: weight_network(0), ValueError, "inputs of the λ-network must be a whole number from 1; got 0"),
        (lambda: weight_network(4, [8, -1]), ValueError, "a width in hidden must be a whole number from 1; got -1"),
    ],
)
def test_what_means_nothing_is_refused(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_table_of_another_length() -> None:
    with pytest.raises(ValueError, match="needs an index table"):
        MonomialRepresentation(C2, (3,), SWAP)
    with pytest.raises(ValueError, match="the table of values has 1 rows; C2 has 2 elements"):
        TokenRepresentation(C2, [[0, 1]])
