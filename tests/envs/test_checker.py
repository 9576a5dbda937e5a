import re
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from equirl import MDPSymmetry, cyclic_group, permutation_representation, signed_permutation_representation
from equirl.agents.cli import main
from equirl.envs import (
    DECLARED_SYMMETRIES,
    DeclaredSymmetry,
    GridWorldEnv,
    check_symmetry,
    make_environment,
    register_placer,
)


@pytest.mark.parametrize("declared", DECLARED_SYMMETRIES, ids=lambda d: f"{d.environment_id}-{d.symmetry}")
def test_every_declared_symmetry_holds(declared: DeclaredSymmetry) -> None:
    environment = make_environment(declared.environment_id, declared.symmetry, view_kwargs=declared.view_kwargs)
    minigrid = "minigrid" in declared.symmetry
    chance = "Dynamic" in declared.environment_id  # each transition is repeated hundreds of times
    report = check_symmetry(
        environment,
        declared.symmetry,
        n_transitions=3 if chance else 40 if minigrid else 300,
        n_resets=200 if minigrid else 400,
        check_starts=declared.symmetric_starts,
    )
    assert report.ok, str(report)
    hides = "egocentric" in declared.symmetry
    assert len(report.passed) == 2 + declared.symmetric_starts * (1 + hides)
    assert not report.skipped


@pytest.mark.parametrize("settings", [{"slip": 0.3}, {"wall_density": 0.2}, {"size": 4, "slip": 1.0}], ids=str)
def test_the_settings_of_gridworld_keep_its_symmetry(settings: dict) -> None:
    report = check_symmetry(gym.make("equirl/GridWorld-v0", **settings), "grid-d4")
    assert report.ok, str(report)


class _HiddenWall(GridWorldEnv):
    """One cell cannot be entered, and no channel shows it."""

    def step(self, action: Any) -> Any:
        before = self.agent
        observation, *rest = super().step(action)
        if self.agent == (1, 2):
            self.agent = before
            observation = self._observe()
        return observation, *rest


class _RewardOnOneSide(GridWorldEnv):
    def step(self, action: Any) -> Any:
        observation, reward, *rest = super().step(action)
        return observation, reward + 0.1 * (self.agent == (0, 3)), *rest


class _SwappedAction(GridWorldEnv):
    def step(self, action: Any) -> Any:
        return super().step({0: 1, 1: 0}.get(int(action), int(action)))


class _BiasedStart(GridWorldEnv):
    def reset(self, **kwargs: Any) -> Any:
        observation, info = super().reset(**kwargs)
        if not kwargs.get("options") and self.np_random.random() < 0.3:
            return super().reset(options={"agent": (0, 0)})
        return observation, info


class _SlipsToOneSide(GridWorldEnv):
    def step(self, action: Any) -> Any:
        return super().step((int(action) + (self.np_random.random() < 0.3)) % 4)


class _EndsInACorner(GridWorldEnv):
    def step(self, action: Any) -> Any:
        observation, reward, terminated, *rest = super().step(action)
        return observation, reward, terminated or self.agent == (0, 0), *rest


@pytest.mark.parametrize(
    ("make", "check", "detail", "symmetry"),
    [
        (_HiddenWall, "dynamics", "next observation: g step.* at coordinate", "grid-d4"),
        (_RewardOnOneSide, "dynamics", r"reward: r\(s, a\) = ", "grid-d4"),
        (_SwappedAction, "dynamics", "next observation: g step.* at coordinate", "grid-d4"),
        (_EndsInACorner, "dynamics", "end of the episode: (True|False) after", "grid-d4"),
        (_SlipsToOneSide, "dynamics", "outcomes of the step .* differ, p = ", "grid-d4"),
        (_BiasedStart, "start distribution", "differ, p = ", "grid-c4"),
        (lambda: GridWorldEnv(goal="north-west"), "start distribution", "differ, p = ", "grid-c4"),
    ],
)
def test_a_broken_environment_is_caught(make: Callable[[], gym.Env], check: str, detail: str, symmetry: str) -> None:
    report = check_symmetry(make(), symmetry, n_transitions=300)
    assert not report.ok
    (violation,) = report.violations
    assert violation.check == check
    assert re.search(detail, violation.detail), violation.detail
    assert violation.element in ("r", "r2", "r3", "s", "rs", "r2s", "r3s")
    if check == "dynamics":
        assert violation.observation is not None
        assert violation.action in range(4)
        assert f"action {violation.action}, in the state" in str(report)


def test_slips_to_one_side_keep_the_rotations() -> None:
    # The control: a drift to the left of every move is symmetric under turns, and under turns alone.
    assert check_symmetry(_SlipsToOneSide(), "grid-c4").ok


def test_mountain_car_is_symmetric_only_roughly() -> None:
    report = check_symmetry(gym.make("MountainCar-v0"), "mountaincar-z2")
    assert {violation.check for violation in report.violations} == {"spaces", "dynamics", "start distribution"}


def test_false_alarms_are_as_rare_as_stated() -> None:
    environment = GridWorldEnv(size=3)
    alarms = [
        not check_symmetry(environment, "grid-c4", n_transitions=1, n_resets=100, significance=0.1, seed=seed).ok
        for seed in range(60)
    ]
    assert sum(alarms) <= 14  # binomial(60, 0.1) exceeds it once in 1,400 times


class _Unknown(gym.Env):
    observation_space = spaces.Box(-1, 1, (4,), dtype=np.float32)
    action_space: spaces.Space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 4).astype(np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        return self.np_random.uniform(-1, 1, 4).astype(np.float32), 0.0, False, True, {}


def test_what_cannot_be_checked_is_said() -> None:
    report = check_symmetry(_Unknown(), "cartpole-z2")
    assert (report.verdict, report.ok) == ("not checked", False)
    assert str(report).endswith("symmetry 'cartpole-z2' is not checked: see what was skipped")
    assert "dynamics: _Unknown cannot be placed in a state; see register_placer" in str(report)
    continuous = _Unknown()
    continuous.action_space = spaces.Box(-1, 1, (1,))
    with pytest.raises(TypeError, match="moves the actions of a Discrete space; got Box"):
        check_symmetry(continuous, "cartpole-z2")
    with pytest.raises(ValueError, match=r"acts on images"):
        check_symmetry(_Unknown(), "grid-d4")


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "CartPole-v1", "--symmetry", "cartpole-z2", "--transitions", "50"]) == 0
    assert "symmetry 'cartpole-z2' holds as far as checked" in capsys.readouterr().out
    region = ["--env-kwargs", "goal:'north-west'", "--transitions", "20"]
    assert main(["check", "equirl/GridWorld-v0", "--symmetry", "grid-d4", *region]) == 1
    assert "VIOLATED start distribution, element r" in capsys.readouterr().out
    assert main(["check", "equirl/GridWorld-v0", "--symmetry", "grid-d4", *region, "--no-starts"]) == 0
    assert "left out start distribution" in capsys.readouterr().out
    assert main(["check", "CartPole-v1", "--symmetry", "cartpol-z2"]) == 2
    assert "Did you mean 'cartpole-z2'?" in capsys.readouterr().err
    for words, message in [
        (["CartPol-v1"], "environment 'CartPol-v1' is not registered with Gymnasium. Did you mean 'CartPole-v1'?"),
        (["nowhere:World-v0"], "'nowhere:World-v0': no module of the name nowhere is in this folder or installed"),
        (["a:b:c"], "'a:b:c': no module of the name a"),
        (["CartPole-v1", "--env-kwargs", "size:3"], "got an unexpected keyword argument 'size'"),
        (["FrozenLake-v1", "--env-kwargs", "map_name:junk"], "FrozenLake-v1 with map_name:junk cannot be made"),
        (["CartPole-v1", "--view-kwargs", "colour:3"], "view setting 'colour' is unknown; known: mission"),
        (["CartPole-v1", "--transitions", "-5"], "'-5' is not a whole number from 1"),
        (["CartPole-v1", "--tolerance", "nan"], "tolerance is a finite number at least 0; got nan"),
        (["CartPole-v1", "--significance", "nan"], "got nan"),
    ]:
        assert main(["check", *words, "--symmetry", "cartpole-z2"]) == 2
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1
        assert message in said[0]


@pytest.mark.parametrize("seed", range(2))
def test_rare_chance_is_no_violation(seed: int) -> None:
    report = check_symmetry(
        gym.make("equirl/GridWorld-v0", size=4, slip=0.005), "grid-d4", n_transitions=200, n_resets=40, seed=seed
    )
    assert report.ok, report


def test_a_small_significance_still_sees_a_gross_difference_or_is_refused() -> None:
    biased = gym.make("equirl/GridWorld-v0", goal="north-west")
    assert not check_symmetry(biased, "grid-d4", n_transitions=5, significance=0.0002).ok
    with pytest.raises(ValueError, match="Choose a larger significance"):
        check_symmetry(biased, "grid-d4", n_transitions=5, significance=1e-6)
    with pytest.raises(ValueError, match="n_resets must be a whole number from 20; got 1"):
        check_symmetry(biased, "grid-d4", n_resets=1)


def test_noise_that_begins_away_from_the_start_is_tested() -> None:
    class Wind(gym.Env):
        observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
        action_space = gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):  # noqa: ANN001, ANN202
            super().reset(seed=seed)
            self.x = 0.0
            return np.array([self.x]), {}

        def step(self, action):  # noqa: ANN001, ANN202
            self.x += 0.6 if action else -0.6
            if abs(self.x) > 1:
                self.x += self.np_random.normal(3)  # always to the right
            return np.array([self.x]), 0.0, abs(self.x) > 30, False, {}

    def place(environment, observation) -> None:  # noqa: ANN001
        environment.x = float(observation[0])

    register_placer(Wind, place)
    mirror = cyclic_group(2)
    symmetry = MDPSymmetry(
        "wind",
        signed_permutation_representation(mirror, [[0], [0]], [[1], [-1]]),
        permutation_representation(mirror, [[0, 1], [1, 0]]),
    )
    assert not check_symmetry(Wind(), symmetry, n_transitions=100, check_starts=False).ok
