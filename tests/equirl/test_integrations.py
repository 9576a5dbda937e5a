"""What the engines share needs none of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gymnasium import spaces

import equirl.envs  # noqa: F401  (registers its symmetries)
from equirl import MappingRepresentation, MDPSymmetry, build_symmetry
from equirl.aggregators import Weighted
from equirl.integrations.symmetries import orbit_map_for, show_actions, symmetry_for, symmetry_of_shape
from equirl.methods import METHODS

GRID = build_symmetry("grid-c4", (3, 5, 5), 4)


def test_a_symmetry_is_taken_by_name_by_module_and_as_it_is() -> None:
    box, four = spaces.Box(0, 1, (3, 5, 5)), spaces.Discrete(4)
    assert symmetry_for("grid-c4", box, four) == GRID
    assert symmetry_for("equirl.envs:grid-c4", box, four) == GRID
    assert symmetry_for(GRID, box, four) is GRID
    both = MDPSymmetry("two", MappingRepresentation({"a": GRID.observation, "b": GRID.observation}), GRID.action)
    assert symmetry_for(both, spaces.Dict(a=box, b=box), four) is both


@pytest.mark.parametrize(
    ("given", "observations", "actions", "kind", "says"),
    [
        ("grid-c4", spaces.Box(0, 1, (3, 5, 5)), spaces.Box(0, 1, (4,)), TypeError, "Discrete"),
        ("grid-c4", spaces.Discrete(5), spaces.Discrete(4), TypeError, "Box"),
        (GRID, spaces.Box(0, 1, (3, 7, 7)), spaces.Discrete(4), ValueError, "acts on observations"),
        ("no_module_of_that_name:x", spaces.Box(0, 1, (3, 5, 5)), spaces.Discrete(4), ValueError, "cannot be imported"),
        (":x", spaces.Box(0, 1, (3, 5, 5)), spaces.Discrete(4), ValueError, "cannot be imported"),
        (4, spaces.Box(0, 1, (3, 5, 5)), spaces.Discrete(4), TypeError, "MODULE:NAME"),
    ],
)
def test_a_mistake_is_told(given: Any, observations: Any, actions: Any, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says):
        symmetry_for(given, observations, actions)


@pytest.mark.parametrize("method", METHODS)
def test_logits_move_and_a_value_beside_them_does_not(method: str) -> None:
    torch.manual_seed(0)
    orbit_map = orbit_map_for(GRID, method, values=1)
    for parameter in orbit_map.aggregator.parameters():
        torch.nn.init.normal_(parameter)
    layer = torch.nn.Linear(75, 5)
    x = torch.randn(6, 3, 5, 5)

    def both(states: torch.Tensor) -> torch.Tensor:
        return orbit_map(lambda rows: layer(rows.flatten(1)), states, shown=show_actions)

    for g in range(4):
        there = both(GRID.observation.transform(g, x))
        torch.testing.assert_close(there[:, :4], GRID.action.transform(g, both(x)[:, :4]))
        torch.testing.assert_close(there[:, 4], both(x)[:, 4])


def test_an_orbit_map_shares_nothing_with_the_symmetry() -> None:
    orbit_map = orbit_map_for(symmetry_of_shape(GRID, (3, 5, 5), 4), "lambda_equitune", {"reads": "features"}, 7)
    assert orbit_map.input_rep is not GRID.observation
    assert isinstance(orbit_map.aggregator, Weighted)
    assert next(orbit_map.aggregator.parameters()).shape[1] == 7
