import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from equirl.envs import MOVES, REGION_NAMES, GridWorldEnv, region_cells

SETTINGS = [{}, {"size": 4, "wall_density": 0.2}, {"slip": 0.3}, {"start": "north-west", "goal": "not-north-west"}]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_passes_both_checkers(settings: dict) -> None:
    environment = gym.make("equirl/GridWorld-v0", **settings)
    with warnings.catch_warnings():
        # SB3 takes any [C, H, W] for a camera image of 0..255 and at least 36 pixels; ours is a grid of 0 and 1.
        warnings.filterwarnings("ignore", message="It seems that your observation space|The minimal resolution")
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", message="It seems that your observation space|The minimal resolution")
        sb3_check_env(environment)
    gymnasium_check_env(environment.unwrapped)


def test_equal_seeds_give_equal_rollouts() -> None:
    def rollout(seed: int) -> list[bytes]:
        environment = gym.make("equirl/GridWorld-v0", wall_density=0.2, slip=0.2)
        seen = [environment.reset(seed=seed)[0].tobytes()]
        for action in np.random.default_rng(0).integers(4, size=60):
            observation, _, terminated, truncated, _ = environment.step(action)
            seen.append(observation.tobytes())
            if terminated or truncated:
                seen.append(environment.reset()[0].tobytes())
        return seen

    assert rollout(3) == rollout(3)
    assert rollout(3) != rollout(4)


def _state_of(observation: np.ndarray) -> dict:
    agent, goal = (tuple(int(i) for i in np.argwhere(observation[c])[0]) for c in (0, 1))
    return {"agent": agent, "goal": goal, "walls": observation[2].astype(bool)}


@given(st.integers(0, 10_000), st.integers(0, 3), st.integers(0, 7))
def test_a_transformed_state_and_action_give_the_transformed_step(seed: int, action: int, g: int) -> None:
    first, second = (GridWorldEnv(size=5, wall_density=0.2) for _ in range(2))
    symmetry = first.symmetry

    def turned(observation: np.ndarray) -> np.ndarray:
        return symmetry.observation.transform(g, torch.from_numpy(observation)[None])[0].numpy()

    observation, _ = first.reset(seed=seed)
    second.reset(seed=0, options=_state_of(turned(observation)))
    turned_action = int(symmetry.action.transform(g, torch.eye(4)[action : action + 1]).argmax())

    expected, *outcome, info = first.step(action)
    actual, *other_outcome, other_info = second.step(turned_action)

    assert np.array_equal(actual, turned(expected))
    assert outcome == other_outcome
    assert info == other_info


def test_slips_go_to_both_sides_equally_often() -> None:
    environment = GridWorldEnv(size=3, slip=0.5)
    environment.reset(seed=0)
    counts = dict.fromkeys(range(4), 0)
    n = 4000
    for _ in range(n):
        environment.reset(options={"agent": (1, 1), "goal": (0, 0)})
        environment.step(0)
        step = (environment.agent[0] - 1, environment.agent[1] - 1)
        counts[next(i for i in range(4) if tuple(MOVES[i]) == step)] += 1
    expected = {0: 0.5, 1: 0.25, 2: 0.0, 3: 0.25}  # up; left and right by a slip; never back
    for move, share in expected.items():
        assert abs(counts[move] / n - share) <= 4 * (share * (1 - share) / n) ** 0.5


def test_starts_are_uniform_over_the_orbit() -> None:
    environment = GridWorldEnv(size=3)
    environment.reset(seed=1)
    n, counts = 4000, np.zeros(9)
    for _ in range(n):
        environment.reset()
        counts[environment.agent[0] * 3 + environment.agent[1]] += 1
        assert environment.agent != environment.goal
    chi_square = ((counts - n / 9) ** 2 / (n / 9)).sum()
    assert chi_square < 26.1  # the 0.1 % point of chi-square with 8 degrees of freedom


def test_episodes_end_at_the_goal_or_after_max_steps() -> None:
    environment = GridWorldEnv(size=4, max_steps=3)
    environment.reset(seed=0, options={"agent": (0, 0), "goal": (0, 1)})
    assert environment.step(3)[1:] == (1.0, True, False, {"is_success": True})
    environment.reset(options={"agent": (3, 0), "goal": (0, 3)})
    ends = [environment.step(0)[1:] for _ in range(3)]
    assert ends[-1] == (0.0, False, True, {"is_success": False})
    assert ends[-2] == (0.0, False, False, {"is_success": False})


def test_walls_and_borders_stop_moves_and_every_goal_can_be_reached() -> None:
    environment = GridWorldEnv(size=3)
    walls = np.zeros((3, 3), dtype=bool)
    walls[0, 1] = True
    environment.reset(seed=0, options={"agent": (0, 0), "goal": (2, 2), "walls": walls})
    for action in (0, 1, 3):  # border, border, wall
        environment.step(action)
        assert environment.agent == (0, 0)
    environment.step(2)
    assert environment.agent == (1, 0)
    enclosed = np.array([[0, 1, 0], [1, 1, 0], [0, 0, 0]], dtype=bool)
    with pytest.raises(ValueError, match="no start and goal with a way between them"):
        environment.reset(options={"agent": (0, 0), "goal": (2, 2), "walls": enclosed})


def test_regions_cover_and_exclude_what_they_say() -> None:
    quadrants = [set(region_cells(name, 7).tolist()) for name in REGION_NAMES if name[:3] in ("nor", "sou")]
    assert set().union(*quadrants) == set(range(49))
    for name in ("north-west", "south-east"):
        inside, outside = set(region_cells(name, 7).tolist()), set(region_cells(f"not-{name}", 7).tolist())
        assert inside | outside == set(range(49))
        assert not inside & outside
    assert region_cells("north-west", 3).tolist() == [0, 1, 3, 4]
    assert region_cells((1, 0, 2, 3), 3).tolist() == [3, 4, 5]


def test_rendering() -> None:
    environment = gym.make("equirl/GridWorld-v0", size=3, render_mode="ansi")
    environment.reset(seed=0, options={"agent": (0, 0), "goal": (2, 1), "walls": np.eye(3, k=2, dtype=bool)})
    assert environment.render() == "A . #\n. . .\n. G ."
    picture = GridWorldEnv(size=3, render_mode="rgb_array")
    picture.reset(seed=0, options={"agent": (0, 0), "goal": (2, 1)})
    array = picture.render()
    assert (array.shape, array.dtype) == ((96, 96, 3), np.uint8)
    assert not np.array_equal(array[16, 16], array[48, 48])  # the agent's disc differs from the floor
    human = gym.make("equirl/GridWorld-v0", render_mode="human")
    human.reset(seed=0)
    human.step(0)
    human.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 1}, "size must be at least 2, not 1"),
        ({"slip": 1.5}, r"slip is a probability in \[0, 1\], not 1.5"),
        ({"wall_density": 0.9}, r"wall_density must be in \[0, 0.5\], not 0.9"),
        ({"max_steps": 0}, "max_steps must be at least 1, not 0"),
        ({"goal": "northwest"}, "region 'northwest' is unknown; known: .* Did you mean '(not-)?north-west'"),
        ({"goal": (0, 0, 9, 9)}, r"\(0, 0, 9, 9\) is empty or leaves the 7 x 7 grid"),
        ({"goal": (0, 0, 1)}, r"a region is a name or \(top, left, bottom, right\); got \(0, 0, 1\)"),
        ({"start": (0, 0, 1, 1), "goal": (0, 0, 1, 1)}, "one and the same cell"),
        ({"render_mode": "svg"}, "render_mode 'svg' is unknown"),
    ],
)
def test_mistakes_in_settings_are_named(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GridWorldEnv(**settings)


def test_mistakes_in_use_are_named() -> None:
    environment = GridWorldEnv()
    with pytest.raises(ValueError, match=r"unknown reset options \['goals'\]"):
        environment.reset(options={"goals": (0, 0)})
    with pytest.raises(ValueError, match=r"agent = \(7, 0\) is off the 7 x 7 grid"):
        environment.reset(options={"agent": (7, 0)})
    environment.reset(seed=0)
    with pytest.raises(ValueError, match="action 4 is not one of 0 up, 1 left, 2 down, 3 right"):
        environment.step(4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 2.5}, "size must be a whole number .*; got 2.5"),
        ({"size": True}, "size must be a whole number .*; got True"),
        ({"size": "7"}, "size must be a whole number .*; got '7'"),
        ({"max_steps": 9.5}, "max_steps must be a whole number .*; got 9.5"),
        ({"slip": float("nan")}, r"slip is a probability in \[0, 1\], not nan"),
        ({"slip": True}, "slip is a number; got True"),
        ({"slip": "0.2"}, "slip is a number; got '0.2'"),
        ({"wall_density": float("nan")}, r"wall_density must be in \[0, 0.5\], not nan"),
        ({"goal": (0.5, 0, 2, 2)}, "an edge of the region .* must be a whole number .*; got 0.5"),
        ({"goal": 3}, "a region is a name or .*; got 3"),
        ({"start": None}, "a region is a name or .*; got None"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        GridWorldEnv(**settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"agent": (0.5, 1)}, r"'agent' is \(row, column\), two whole numbers; got \(0.5, 1\)"),
        ({"goal": (1, 2, 3)}, r"'goal' is \(row, column\)"),
        ({"goal": 3}, r"'goal' is \(row, column\)"),
        ({"walls": np.full((7, 7), 0.5)}, "walls are booleans, or 0 and 1"),
        ({"walls": [[0, 1], [0]]}, "rows of different lengths"),
        (["agent"], "reset options are a dict"),
    ],
)
def test_reset_options_that_mean_nothing_are_refused(options: dict, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        GridWorldEnv().reset(options=options)


def test_walls_given_to_reset_are_copied() -> None:
    walls = np.zeros((3, 3), dtype=bool)
    environment = GridWorldEnv(size=3)
    environment.reset(options={"agent": (0, 0), "goal": (2, 2), "walls": walls})
    walls[:] = True
    assert not environment.step(3)[0][2].any()
    assert environment.agent == (0, 1)


def test_nothing_happens_before_the_first_reset() -> None:
    environment = GridWorldEnv(render_mode="rgb_array")
    with pytest.raises(gym.error.ResetNeeded, match=r"Call reset\(\) first"):
        environment.step(0)
    with pytest.raises(gym.error.ResetNeeded, match=r"Call reset\(\) first"):
        environment.render()


def test_gymnasium_collects_its_frames_and_finds_no_fault() -> None:
    environment = gym.make("equirl/GridWorld-v0", render_mode="rgb_array_list", size=3)
    environment.reset(seed=0)
    environment.step(0)
    assert [frame.shape for frame in environment.render()] == [(96, 96, 3)] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gymnasium_check_env(gym.make("equirl/GridWorld-v0", render_mode="rgb_array").unwrapped)
