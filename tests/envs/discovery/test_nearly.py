"""Worlds whose symmetry is broken in a few places, or everywhere by a little: nearly, with how often and how far."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from found_worlds import MarkedGridWorld, WalledCartPole, WindyCartPole

from equirl import MDPSymmetry, dihedral_group
from equirl.constructions import permutation_representation
from equirl.envs import check_symmetry
from equirl.envs.deviation import measure_deviation
from equirl.envs.discovery import discover_symmetry
from equirl.envs.observations import fit_symmetry
from equirl.tokens import TokenRepresentation

_HOLE = ["SFFFF", "FFFFF", "FFFFF", "FFFFH", "FFFFG"]  # one on one side of the diagonal


def _diagonal(size: int) -> MDPSymmetry:
    """Return the mirror in the diagonal of a lake of ``size x size`` cells."""
    values = [size * (v % size) + v // size for v in range(size**2)]
    mirror = dihedral_group(1)
    return MDPSymmetry(
        "diagonal",
        TokenRepresentation(mirror, torch.tensor([list(range(size**2)), values]), shape=()),
        permutation_representation(mirror, [[0, 1, 2, 3], [3, 2, 1, 0]]),
    )


def test_a_weak_wind_is_measured_in_units_of_what_a_step_changes() -> None:
    report = discover_symmetry(WindyCartPole(), steps=8000)
    assert report.outcome == "nearly", report
    (mirror,) = report.generators
    assert mirror.action.to == (1, 0)
    assert mirror.observation.signs == (-1, -1, -1, -1)
    found = report.deviation
    assert found is not None
    assert found.unequal == 1.0  # it blows everywhere,
    assert found.broken == 0.0  # and weakly:
    assert found.largest == pytest.approx(2 * WindyCartPole.wind, rel=0.1)  # a push is one deviation of the speed
    assert report.error == pytest.approx(found.mean)
    assert "coordinate (1,) of the next observation" in str(report)


def test_a_stronger_wind_is_none() -> None:
    class Storm(WindyCartPole):
        wind = 0.2

    assert discover_symmetry(Storm(), steps=6000).outcome == "none found"


def test_a_marked_cell_leaves_d4_nearly() -> None:
    report = discover_symmetry(MarkedGridWorld(size=6), steps=8000)
    assert report.outcome == "nearly", report
    assert report.symmetry is not None
    assert report.symmetry.group.order == 8
    found = report.deviation
    assert found is not None
    # Four of 144 moves lead to the marked cell, and as many to where the element carries it from: 6 in 100.
    assert found.broken == pytest.approx(8 / 144, abs=0.03)
    assert found.broken == found.unequal == found.mean
    assert "the reward" in found.where
    assert check_symmetry(MarkedGridWorld(size=6), report.symmetry, check_starts=False).verdict == "violated"
    assert report.to_dict()["deviation"]["broken"] == found.broken


@pytest.mark.parametrize("slippery", [False, True])
def test_one_hole_on_one_side_is_counted(slippery: bool) -> None:
    lake = gym.make("FrozenLake-v1", desc=_HOLE, is_slippery=slippery)
    found = measure_deviation(lake, _diagonal(5), 200)
    assert found is not None
    # 3 moves into the hole and 3 into its image, where the game goes on, from which 4 moves have no counterpart: and
    # these are compared from both sides. Under chance each happens with some probability only.
    assert found.chance is slippery
    assert found.broken == pytest.approx(8 / 92, abs=0.02)


def test_a_few_unlike_states_in_many_are_more_than_nearly() -> None:
    lake = gym.make("FrozenLake-v1", is_slippery=False)
    found = measure_deviation(lake, _diagonal(4))
    assert found is not None
    assert found.broken == pytest.approx(18 / 44)  # counted by hand in its table
    assert not found.nearly
    assert discover_symmetry(lake, steps=15_000).outcome == "none found"


def test_what_only_unreached_states_break_is_not_nearly() -> None:
    fitted, _ = fit_symmetry("cartpole-z2", WalledCartPole())
    found = measure_deviation(WalledCartPole(), fitted)
    assert found is not None
    assert found.unequal == 0
    assert found.far is not None
    assert found.far > 0
    assert not found.nearly


def test_true_symmetries_do_not_deviate() -> None:
    for name, symmetry in (
        ("CartPole-v1", "cartpole-z2"),
        ("Acrobot-v1", "acrobot-z2"),
        ("Pendulum-v1", "pendulum-z2"),
    ):
        world = gym.make(name)
        found = measure_deviation(world, fit_symmetry(symmetry, world)[0], 100)
        assert found is not None
        assert found.largest < 1e-3, (name, found)


def test_a_robot_is_told_from_another_by_how_much_its_parts_differ() -> None:
    pytest.importorskip("mujoco")
    near = discover_symmetry(gym.make("InvertedPendulum-v5"))  # its pole leans by 0.001
    assert near.outcome == "nearly", near
    assert near.deviation is not None
    assert near.deviation.largest < 0.01
    assert any("centre of mass" in note for note in near.notes)
    other = discover_symmetry(gym.make("Walker2d-v4"))
    assert other.outcome == "none found"
    share = next(note for note in other.notes if note.startswith("not even nearly"))
    assert "by more than 5% of the spread" in share


def test_worlds_of_continuous_chance_are_not_measured() -> None:
    class Shaken(WindyCartPole):
        def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            _, *rest = super().step(action)
            self.state = tuple(np.array(self.state) + self.np_random.normal(size=4) * 0.01)
            return np.array(self.state, dtype=np.float32), *rest  # type: ignore[return-value]

    fitted, _ = fit_symmetry("cartpole-z2", Shaken())
    assert measure_deviation(Shaken(), fitted, 50) is None
