"""Discovery finds the whole group of small worlds, and nothing in worlds that have none."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from found_worlds import Line, Torus, WalledCartPole
from gymnasium import spaces

import equirl.envs  # noqa: F401
from equirl.envs import check_symmetry, make_environment
from equirl.envs.discovery import collect_transitions, discover_symmetry
from equirl.groups import dihedral_group
from equirl.symmetry import build_symmetry


@pytest.mark.parametrize(
    ("name", "steps", "observation", "action"),
    [
        ("CartPole-v1", 8000, [(0, -1), (1, -1), (2, -1), (3, -1)], [(1, 1), (0, 1)]),
        ("Acrobot-v1", 10_000, [(0, 1), (1, -1), (2, 1), (3, -1), (4, -1), (5, -1)], [(2, 1), (1, 1), (0, 1)]),
        ("Pendulum-v1", 8000, [(0, 1), (1, -1), (2, -1)], [(0, -1)]),
    ],
)
def test_control_worlds_have_exactly_their_mirror(name: str, steps: int, observation: Any, action: Any) -> None:
    report = discover_symmetry(gym.make(name), steps=steps)
    assert report.outcome == "exact", report
    assert report.symmetry is not None
    assert report.symmetry.group.order == 2
    (mirror,) = report.generators
    assert list(zip(mirror.observation.to, mirror.observation.signs or (), strict=True)) == observation
    signs = mirror.action.signs or (1,) * len(mirror.action.to)
    assert list(zip(mirror.action.to, signs, strict=True)) == action


@pytest.mark.parametrize(
    ("name", "steps"), [("MountainCar-v0", 4000), ("FrozenLake-v1", 20_000), ("CliffWalking-v1", 15_000)]
)
def test_worlds_without_a_symmetry_have_none(name: str, steps: int) -> None:
    report = discover_symmetry(gym.make(name), steps=steps)
    assert report.outcome == "none found", report
    assert report.symmetry is None


class _Corridor(gym.Env[Any, int]):
    """Cells in a row, from the first one on; ``reward`` is that of a step in the fourth cell."""

    def __init__(self, length: int = 40, reward: float = 0.0, steps: int = 12) -> None:
        self.observation_space, self.action_space = spaces.Discrete(length), spaces.Discrete(2)
        self.length, self.reward, self.steps = length, reward, steps

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.cell, self.time = 0, 0
        return self.cell, {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = self.reward if self.cell == 3 else 0.0
        self.cell = min(max(self.cell + (1 if action else -1), 0), self.length - 1)
        self.time += 1
        return self.cell, reward, False, self.time == self.steps, {}


def test_values_that_no_step_reached_may_be_the_images_of_others() -> None:
    for reward in (0.0, 1.0):  # its mirror carries the cells seen to cells that were not, whatever is in them
        report = discover_symmetry(_Corridor(reward=reward), steps=1500)
        assert report.outcome == "not enough data", report
        assert any("take " in note and " steps" in note for note in report.notes)
    assert discover_symmetry(_Corridor(8, steps=200), steps=1000).outcome in ("exact", "not enough data")
    assert discover_symmetry(_Corridor(8, 1.0, 200), steps=1000).outcome == "none found"


def test_pairs_that_were_hardly_seen_do_not_stop_a_refutation() -> None:
    lake = gym.make("FrozenLake-v1")
    data = collect_transitions(lake, 12_000, seed=1)
    visits = np.bincount((4 * data.states[:, 0] + data.actions).astype(int), minlength=64)
    assert 0 < visits[visits > 0].min() < 30  # fewer than confirm a symmetry
    assert discover_symmetry(lake, steps=12_000, seed=1).outcome == "none found"


def test_a_wall_that_random_actions_do_not_reach_is_found_by_the_checker() -> None:
    report = check_symmetry(WalledCartPole(), "cartpole-z2", n_transitions=200, check_starts=False)
    assert report.verdict == "violated"
    assert "at coordinate (1,)" in report.violations[0].detail
    assert discover_symmetry(WalledCartPole(), steps=8000).outcome == "none found"
    assert check_symmetry(gym.make("CartPole-v1"), "cartpole-z2", n_transitions=200, check_starts=False).ok


def test_few_steps_are_not_enough_data() -> None:
    assert discover_symmetry(gym.make("CartPole-v1"), steps=200).outcome == "not enough data"
    assert discover_symmetry(gym.make("equirl/GridWorld-v0"), steps=100).outcome == "not enough data"
    assert discover_symmetry(gym.make("FrozenLake-v1"), steps=100).outcome == "not enough data"


def test_grid_world_has_d4_from_pixels_as_declared() -> None:
    report = discover_symmetry(gym.make("equirl/GridWorld-v0", size=5), steps=10_000)
    assert report.outcome == "exact", report
    assert report.symmetry is not None
    declared = build_symmetry("grid-d4", (3, 5, 5), 4)
    assert report.symmetry.group == dihedral_group(4)
    assert report.symmetry.fingerprint() == declared.fingerprint()
    assert torch.equal(report.symmetry.action.index, declared.action.index)
    assert torch.equal(report.symmetry.observation.index, declared.observation.index)  # type: ignore[attr-defined]


def test_a_room_of_minigrid_has_d4_though_its_rewards_tell_the_time() -> None:
    room = make_environment("equirl/EmptyRoom-v0", "minigrid-d4", size=4)
    report = discover_symmetry(room, steps=2000)
    assert report.outcome == "exact", report
    assert report.symmetry is not None
    declared = build_symmetry("minigrid-d4", room.observation_space.shape, int(room.action_space.n))  # type: ignore[attr-defined]
    assert report.symmetry.group.order == 8
    assert any("rewards change by" in note for note in report.notes)
    here, there = report.symmetry.observation.index, declared.observation.index  # type: ignore[attr-defined]
    data = torch.from_numpy(collect_transitions(room, 200).states)
    assert torch.equal(data[:, here[1]], data[:, there[1]])  # planes that are always equal may change places


def test_a_torus_has_shifts_turns_and_mirrors() -> None:
    report = discover_symmetry(Torus(), steps=10_000)
    assert report.outcome == "exact", report
    assert report.symmetry is not None
    assert report.symmetry.group.order == 25 * 8
    assert all(element.action.to[0] == 0 for element in report.generators)
    assert check_symmetry(Torus(), report.symmetry, n_resets=300).verdict == "holds"


def test_one_marked_cell_leaves_the_turns_and_mirrors_around_it() -> None:
    report = discover_symmetry(Torus(marked=True), steps=10_000)
    assert report.outcome == "exact", report
    assert report.symmetry is not None
    assert report.symmetry.group.order == 8
    marked = torch.zeros(2, 5, 5)
    marked[0, 1, 0] = 1
    assert torch.equal(report.symmetry.observation.orbit(marked[None])[0], marked.expand(8, 2, 5, 5))


def test_chance_is_compared_by_frequencies() -> None:
    report = discover_symmetry(Torus(3, ice=0.3), steps=6000)
    assert report.outcome == "nearly", report
    assert report.symmetry is not None
    assert report.symmetry.group.order == 9 * 8
    assert 0 < report.error < 0.15


def test_three_particles_can_be_exchanged() -> None:
    report = discover_symmetry(Line(), steps=20_000)
    assert report.outcome == "nearly", report
    assert report.symmetry is not None
    assert report.symmetry.group.order == 6
    for element in report.generators:
        particles = [to // 2 for to in element.observation.to[::2]]
        assert list(element.action.to) == [*particles, 3]


def test_a_heavier_particle_is_no_symmetry() -> None:
    report = discover_symmetry(Line(heavy=2.0), steps=10_000)
    if report.symmetry is not None:  # the other two
        assert report.symmetry.group.order == 2
        assert report.generators[0].action.to == (0, 2, 1, 3)


@pytest.mark.parametrize("slippery", [False, True])
def test_an_empty_frozen_lake_has_its_diagonal(slippery: bool) -> None:
    lake = gym.make("FrozenLake-v1", desc=["SFFF", "FFFF", "FFFF", "FFFG"], is_slippery=slippery)
    report = discover_symmetry(lake, steps=15_000)
    assert report.outcome == "exact", report
    (diagonal,) = report.generators
    assert diagonal.action.to == (3, 2, 1, 0)
    assert diagonal.observation.to == tuple(4 * (v % 4) + v // 4 for v in range(16))


def test_an_agent_takes_half_of_the_actions() -> None:
    data = collect_transitions(gym.make("CartPole-v1"), 2000, agent=lambda observation: 1)
    assert 0.7 < data.actions.mean() < 0.8


def test_what_cannot_be_searched_is_said() -> None:
    with pytest.raises(TypeError, match="Discrete or Box actions"):
        collect_transitions(gym.make("Blackjack-v1"), 10)

    class Broken(gym.Env[Any, int]):
        observation_space = spaces.Box(-1, 1, (2,), np.float64)
        action_space = spaces.Discrete(2)

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
            return np.zeros(2), {}

        def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            return np.zeros(2), float("nan"), False, False, {}

    with pytest.raises(ValueError, match="rewards that are NaN"):
        discover_symmetry(Broken(), steps=10)


class _Walk(gym.Env[Any, int]):
    """A walk between two ends; the reward at the right end is 1, at the left end ``left``."""

    observation_space = spaces.Box(-2, 2, (2,), np.float64)
    action_space = spaces.Discrete(2)

    def __init__(self, left: float = 1.0, noise: float = 0.0) -> None:
        self.left, self.noise = left, noise

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.state = np.array([self.np_random.uniform(-0.5, 0.5), 0.0])
        return self.state.copy(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        x, v = self.state
        v = 0.9 * v + (0.1 if action else -0.1)
        self.state = np.array([x + 0.2 * v, v])
        done = abs(self.state[0]) > 1
        reward = (1.0 if self.state[0] > 0 else self.left) * float(done) + self.noise * self.np_random.normal()
        return self.state.copy(), reward, bool(done), False, {}


@pytest.mark.parametrize(("left", "found"), [(1.0, True), (-1.0, False), (3.0, False), (0.0, False)])
def test_rare_rewards_count_with_their_values(left: float, found: bool) -> None:
    assert discover_symmetry(_Walk(left), steps=10_000).found is found


def test_what_never_changes_or_is_there_twice_makes_no_symmetry() -> None:
    class Padded(Line):
        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
            return self._padded(super().reset(seed=seed)[0]), {}

        def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            seen, *rest = super().step(action)
            return self._padded(seen), *rest  # type: ignore[return-value]

        def _padded(self, seen: np.ndarray) -> np.ndarray:
            return np.concatenate([seen, [0.0, 3.0]])

    padded = Padded(heavy=2.0)
    padded.observation_space = spaces.Box(-np.inf, np.inf, (8,), np.float64)
    padded.masses = np.array([1.0, 2.0, 4.0])
    assert discover_symmetry(padded, steps=8000).symmetry is None


def test_noise_in_the_rewards_does_not_hide_other_dynamics() -> None:
    class Noisy(Torus):
        """A wind to the right in the top row, and rewards with noise."""

        def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            if self.agent[0] == 0:
                self.agent = (self.agent + np.array([0, 1])) % self.size
            seen, reward, *rest = super().step(action)
            return seen, reward + float(self.np_random.normal()), *rest  # type: ignore[return-value]

    report = discover_symmetry(Noisy(), steps=10_000)
    assert report.symmetry is None or report.symmetry.group.order == 5, report  # shifts along the wind


def test_actions_without_an_effect_do_not_stop_the_search() -> None:
    class Idle(gym.Wrapper[Any, Any, Any, Any]):
        action_space = spaces.Discrete(14)

        def step(self, action: Any) -> Any:
            return self.env.step(action if action < 5 else 0)

    report = discover_symmetry(Idle(Torus(3)), steps=6000)
    assert report.found
    assert all(element.action.to[5:] == tuple(range(5, 14)) for element in report.generators)
