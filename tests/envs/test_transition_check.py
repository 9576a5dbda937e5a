"""Without setting states: transitions of rollouts are compared with each other, and no more is said than they tell."""

from typing import Any

import gymnasium as gym
import pytest
from found_worlds import MOVES, Line, Torus
from gymnasium.envs.classic_control import CartPoleEnv

from equirl import MDPSymmetry, dihedral_group, image_representation, permutation_representation
from equirl.constructions import signed_permutation_representation
from equirl.displacements import displacement_representation
from equirl.envs import check_symmetry
from equirl.groups import cyclic_group

D4 = dihedral_group(4)
COUNTER_CLOCKWISE = [(0, 0), (-1, 0), (0, -1), (1, 0), (0, 1)]


def _square(moves: list[tuple[int, int]]) -> MDPSymmetry:
    return MDPSymmetry("square", image_representation(D4, (2, 5, 5)), displacement_representation(D4, moves))


def _exchange(actions: list[int]) -> MDPSymmetry:
    group = cyclic_group(2)
    places = [[0, 1, 2, 3, 4, 5], [2, 3, 0, 1, 4, 5]]
    on_states = signed_permutation_representation(group, places, [[1] * 6, [1] * 6])
    return MDPSymmetry("exchange", on_states, permutation_representation(group, [[0, 1, 2, 3], actions]))


def test_recurring_states_tell_right_from_wrong() -> None:
    right = check_symmetry(Torus(), _square(MOVES), check_starts=False)
    assert right.verdict == "holds", right
    assert "compared with their images; none differs" in right.passed[1]
    wrong = check_symmetry(Torus(), _square(COUNTER_CLOCKWISE), check_starts=False)
    assert wrong.verdict == "violated"
    assert wrong.violations[0].observation.shape == (2, 5, 5)
    assert check_symmetry(Torus(marked=True), _square(MOVES), check_starts=False).verdict == "violated"


def test_few_transitions_are_not_enough() -> None:
    report = check_symmetry(Torus(), _square(MOVES), n_transitions=40, check_starts=False)
    assert report.verdict == "not checked"
    assert "take more transitions" in report.skipped[0]


def test_chance_is_not_called_violated() -> None:
    for moves, told in ((MOVES, "agrees with"), (COUNTER_CLOCKWISE, "differs from")):
        report = check_symmetry(Torus(4, ice=0.3), _square_of_four(moves), n_transitions=200, check_starts=False)
        assert report.verdict == "not checked"
        assert told in report.skipped[0]


def _square_of_four(moves: list[tuple[int, int]]) -> MDPSymmetry:
    return MDPSymmetry("square", image_representation(D4, (2, 4, 4)), displacement_representation(D4, moves))


def test_what_is_hidden_is_not_called_violated() -> None:
    class Counting(Torus):
        """The reward is the time that is left, which no observation shows."""

        def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            view, reward, done, cut, info = super().step(action)
            return view, reward * (self.time**0.5), done, cut, info

    assert check_symmetry(Counting(), _square(MOVES), check_starts=False).verdict != "violated"


@pytest.mark.parametrize(("heavy", "actions", "verdict"), [
    (1.0, [1, 0, 2, 3], "not checked"),
    (1.0, [0, 1, 2, 3], "violated"),
    (3.0, [1, 0, 2, 3], "violated"),
])  # fmt: skip
def test_a_model_sees_large_violations(heavy: float, actions: list[int], verdict: str) -> None:
    world: gym.Env[Any, Any] = Line(heavy)
    assert check_symmetry(world, _exchange(actions), n_transitions=500, check_starts=False).verdict == verdict


def test_drawn_states_that_the_environment_refuses_are_counted() -> None:
    class Narrow(CartPoleEnv):
        """A cart whose step raises where random actions never bring it."""

        def step(self, action: int) -> Any:
            if abs(self.state[0]) > 1.5:
                raise RuntimeError("off the rails")
            return super().step(action)

    report = check_symmetry(Narrow(), "cartpole-z2", n_transitions=100, check_starts=False)
    assert report.verdict == "holds", report
    assert "more that were drawn are no states of it" in report.passed[1]
