"""The swarm: symmetric under every turn, mirror and move, and under every exchange of robots; so are its views."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from equirl.envs.checker import check_symmetry
from equirl.envs.swarm import SwarmEnv
from equirl.envs.swarm_views import forces_in_world, robot_views
from equirl.symmetry import build_symmetry
from tests.helpers.swarms import moved_vectors, random_matrix


def test_it_is_an_environment() -> None:
    check_env(gym.make("equirl/Swarm-v0").unwrapped, skip_render_check=True)


@pytest.mark.parametrize("n", [1, 3, 5])
def test_turns_mirrors_moves_and_exchanges_are_symmetries(n: int) -> None:
    random, stops, arrivals = np.random.default_rng(n), 0, 0
    for episode in range(15):
        one, other = SwarmEnv(n), SwarmEnv(n)
        matrix, order, move = random_matrix(random), random.permutation(n), random.normal(size=2)
        observation, _ = one.reset(seed=episode)
        goal, places, velocities = np.split(one.state() @ matrix.T, [1, 1 + n])
        image, _ = other.reset(options={"state": np.concatenate([goal + move, places[order] + move, velocities])})
        for _ in range(60):
            assert np.allclose(image, moved_vectors(observation, matrix, order), atol=1e-5)
            forces = random.normal(size=2 * n) + np.tile(one.goal, n) - one.places.reshape(-1)
            before = one.places
            observation, reward, arrived, _, info = one.step(forces)
            stops += int((before == one.places).all(axis=1).sum())
            image, same, same_end, _, same_info = other.step(moved_vectors(forces, matrix, order))
            assert same == pytest.approx(reward, abs=1e-6)
            assert np.allclose(same_info["rewards"], info["rewards"][order], atol=1e-6)
            assert same_end == arrived
            if arrived:
                arrivals += 1
                break
    assert arrivals > 0
    assert (stops > 0) == (n > 1)


def test_two_robots_never_come_too_near() -> None:
    swarm, random = SwarmEnv(8), np.random.default_rng(0)
    for episode in range(5):
        swarm.reset(seed=episode)
        over = False
        while not over:
            _, _, arrived, cut, _ = swarm.step(random.normal(size=16) + (swarm.goal - swarm.places).reshape(-1))
            over = arrived or cut
            gaps = np.linalg.norm(swarm.places[:, None] - swarm.places[None], axis=2) + np.eye(8)
            assert gaps.min() >= 0.2


@pytest.mark.parametrize("n", [2, 5])
def test_no_robot_starts_farther_out_than_another(n: int) -> None:
    swarm = SwarmEnv(n)
    swarm.reset(seed=0)
    drawn = []
    for _ in range(4000):
        swarm.reset()
        drawn.append(np.linalg.norm(swarm.places, axis=1))
        assert (np.linalg.norm(swarm.goal - swarm.places, axis=1) >= 0.5).any()
    spread = np.std(drawn) / 4000**0.5
    assert np.ptp(np.mean(drawn, axis=0)) < 5 * spread


def test_robots_that_were_put_too_near_may_part() -> None:
    swarm = SwarmEnv(2)
    swarm.reset(options={"state": [[3, 0], [0, 0], [0.15, 0], [0, 0], [0, 0]]})
    for _ in range(10):
        swarm.step([-1, 0, 1, 0])
    assert np.linalg.norm(swarm.places[0] - swarm.places[1]) > 0.3


@pytest.mark.parametrize("n", [2, 3])
def test_the_checker_finds_exchanges_and_quarter_turns(n: int) -> None:
    environment = gym.make("equirl/Swarm-v0", n_robots=n)
    assert check_symmetry(environment, "swarm-d4").verdict == "holds"
    symmetry = build_symmetry("swarm-d4", (4 * n,), 2 * n)
    assert symmetry.group.order == {2: 2, 3: 6}[n] * 8


@pytest.mark.parametrize(("n", "neighbours"), [(3, 2), (5, 2), (5, 4), (1, 0)])
def test_views_stay_and_forces_move_along_at_a_thousand_random_elements(n: int, neighbours: int) -> None:
    random = np.random.default_rng(n)
    seen = random.normal(size=(1000, 4 * n))
    weights = random.normal(size=(4 + 4 * neighbours, 2))
    views, frames = robot_views(seen, neighbours)
    forces = forces_in_world(np.tanh(views @ weights), frames)
    assert np.allclose(frames @ frames.transpose(0, 1, 3, 2), np.eye(2), atol=1e-12)
    for row in range(1000):
        matrix, order = random_matrix(random), random.permutation(n)
        moved, moved_frames = robot_views(moved_vectors(seen[row], matrix, order), neighbours)
        assert np.abs(moved[0] - views[row][order]).max() < 1e-5
        image = forces_in_world(np.tanh(moved @ weights), moved_frames)[0]
        assert np.abs(image - moved_vectors(forces[row], matrix, order)).max() < 1e-5
    assert np.abs(views[:, :, 1]).max() < 1e-6  # the goal lies ahead
    assert views[:, :, 0].min() > 0


_CASES = [(what, k) for what in ("at rest", "on the goal", "triangle", "in line", "nowhere") for k in (0, 1, 2)]


@pytest.mark.parametrize(("what", "neighbours"), [*_CASES, ("cross", 1), ("cross", 4)])
def test_forces_move_along_where_a_frame_is_not_told(what: str, neighbours: int) -> None:
    random = np.random.default_rng(3)
    angles = 2 * np.pi * np.arange(3) / 3
    places = {
        "at rest": random.normal(size=(3, 2)),
        "on the goal": np.array([[0.0, 0], [1.3, 0.4], [-0.2, 0.9]]),
        "triangle": np.stack([3.0 + np.cos(angles), 1.0 + np.sin(angles)], axis=1),
        "cross": np.array([[2.0, 0], [3, 0], [1, 0], [2, 1], [2, -1]]),
        "in line": np.array([[1.0, 2], [2, 4], [3, 6]]),
        "nowhere": np.zeros((3, 2)),
    }[what]
    seen = np.stack([places, np.zeros_like(places)], axis=1).reshape(-1)
    weights = random.normal(size=(4 + 4 * neighbours, 2))
    views, frames = robot_views(seen, neighbours)
    forces = forces_in_world(np.tanh(views @ weights + 0.3), frames)[0]
    for _ in range(50):
        matrix, order = random_matrix(random), random.permutation(len(places))
        moved, moved_frames = robot_views(moved_vectors(seen, matrix, order), neighbours)
        image = forces_in_world(np.tanh(moved @ weights + 0.3), moved_frames)[0]
        assert np.abs(image - moved_vectors(forces, matrix, order)).max() < 1e-5


def test_mistakes_are_named() -> None:
    swarm = SwarmEnv(2)
    with pytest.raises(gym.error.ResetNeeded):
        swarm.step(np.zeros(4))
    swarm.reset(seed=0)
    with pytest.raises(ValueError, match="4 finite numbers"):
        swarm.step(np.array([np.nan, 0.0, 0.0, 0.0]))
    with pytest.raises(ValueError, match="4 finite numbers"):
        swarm.step(np.zeros(2))
    with pytest.raises(TypeError, match="4 finite numbers"):
        swarm.step({"forces": 0})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="4 n"):
        robot_views("north")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown reset options"):
        swarm.reset(options={"goal": 3})
    with pytest.raises(ValueError, match="a state is"):
        swarm.reset(options={"state": np.zeros((2, 2))})
    with pytest.raises(ValueError, match=r"\[5, 2\] finite numbers"):
        swarm.reset(options={"state": np.full((5, 2), np.nan)})
    with pytest.raises(TypeError, match=r"\[5, 2\] finite numbers"):
        swarm.reset(options={"state": "north"})
    with pytest.raises(TypeError, match="options"):
        swarm.reset(options=[1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at most 12"):
        SwarmEnv(13)
    with pytest.raises(TypeError, match="n_robots"):
        SwarmEnv(2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 others, which takes 3 robots"):
        robot_views(np.zeros(8), 2)
    with pytest.raises(ValueError, match="4 n"):
        robot_views(np.zeros(7), 1)
    with pytest.raises(ValueError, match="up to five robots"):
        build_symmetry("swarm-d4", (24,), 12)
    with pytest.raises(ValueError, match="up to five robots"):
        build_symmetry("swarm-d4", (7,), 4)
