"""One policy for all robots: SB3 trains it, and it acts for swarms of any size, exactly as the symmetry asks."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from equirl.agents.shared_policy import RobotsVecEnv, SharedPolicy
from equirl.envs.swarm import SwarmEnv
from equirl.envs.swarm_views import forces_in_world, robot_views
from tests.helpers.swarms import moved_vectors, random_matrix


def small() -> dict[str, Any]:
    """Return settings of a small agent; SB3 writes into them."""
    return {"policy_kwargs": {"net_arch": [16]}, "seed": 0, "device": "cpu"}


def test_robots_step_as_their_swarms_do() -> None:
    robots = RobotsVecEnv(2, neighbours=1, n_robots=3, max_steps=5)
    robots.seed(7)
    views = robots.reset()
    alone = [SwarmEnv(3, max_steps=5) for _ in range(2)]
    seen = [swarm.reset(seed=7 + 3 * k)[0] for k, swarm in enumerate(alone)]
    random = np.random.default_rng(0)
    for step in range(1, 8):
        assert np.array_equal(views, np.concatenate([robot_views(each, 1)[0][0] for each in seen]))
        actions = random.uniform(-1, 1, (6, 2))
        views, rewards, dones, infos = robots.step(actions)
        expected = []
        for k, swarm in enumerate(alone):
            frames = robot_views(seen[k], 1)[1]
            observation, _, _, cut, info = swarm.step(forces_in_world(actions[None, 3 * k : 3 * k + 3], frames)[0])
            expected.append(info["rewards"])
            assert cut == (step == 5)
            if cut:
                last = robot_views(observation, 1)[0][0]
                assert np.array_equal([each["terminal_observation"] for each in infos[3 * k : 3 * k + 3]], last)
                assert all(each["TimeLimit.truncated"] for each in infos)
                observation, _ = swarm.reset()
            seen[k] = observation
        assert np.allclose(rewards, np.concatenate(expected))
        assert dones.all() == dones.any() == (step == 5)


@pytest.mark.parametrize("algorithm", [SAC, PPO])
def test_the_trained_policy_is_equivariant_for_any_number_of_robots(algorithm: type) -> None:
    settings = {"learning_starts": 12} if algorithm is SAC else {"n_steps": 16, "batch_size": 16}
    model = algorithm("MlpPolicy", VecMonitor(RobotsVecEnv(2)), **small(), **settings)
    model.learn(96)
    policy, random = SharedPolicy(model), np.random.default_rng(0)
    for n in (3, 5):
        seen = random.normal(size=(200, 4 * n)).astype(np.float32)
        forces, _ = policy.predict(seen, deterministic=True)
        assert forces.shape == (200, 2 * n)
        for row in range(200):
            matrix, order = random_matrix(random), random.permutation(n)
            moved = moved_vectors(seen[row], matrix, order).astype(np.float32)
            image, _ = policy.predict(moved, deterministic=True)
            assert np.abs(image - moved_vectors(forces[row], matrix, order)).max() < 1e-5
        mean, _ = evaluate_policy(policy, SwarmEnv(n, max_steps=5), 2, warn=False)  # type: ignore[arg-type]
        assert np.isfinite(mean)


def test_it_sees_what_the_agent_saw_behind_a_normalization(tmp_path: Path) -> None:
    robots = RobotsVecEnv(2)
    normalized = VecNormalize(robots, norm_reward=False)
    model = PPO("MlpPolicy", normalized, n_steps=16, batch_size=16, **small())
    model.learn(192)
    seen = normalized.reset()
    forces, _ = model.predict(seen, deterministic=True)
    for k, swarm in enumerate(robots.swarms):
        observation = np.concatenate([swarm.goal - swarm.places, swarm.velocities], axis=1).reshape(-1)
        _, frames = robot_views(observation, 2)
        expected = forces_in_world(forces[None, 3 * k : 3 * k + 3], frames)[0]
        assert np.allclose(SharedPolicy(model).predict(observation, deterministic=True)[0], expected, atol=1e-5)
    model.save(tmp_path / "agent")
    loaded = SharedPolicy(PPO.load(tmp_path / "agent"), normalization=normalized)
    again, _ = loaded.predict(observation, deterministic=True)
    assert np.allclose(again, expected, atol=1e-5)


def test_mistakes_are_named() -> None:
    model = SAC("MlpPolicy", RobotsVecEnv(1, neighbours=1), **small())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"sees 12 numbers.*takes \(8,\)"):
        SharedPolicy(model)
    with pytest.raises(TypeError, match="agent"):
        SharedPolicy("agent.zip")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="takes 4 robots"):
        RobotsVecEnv(1, neighbours=3)
    with pytest.raises(ValueError, match="takes 2 robots"):
        SharedPolicy(model, neighbours=1).predict(np.zeros(4, dtype=np.float32))
    robots = RobotsVecEnv(1)
    with pytest.raises(ValueError, match=r"take actions \[3, 2\]"):
        robots.step_async(np.zeros(6))
    with pytest.raises(ValueError, match="robot 1 is"):
        robots.step_async(np.array([[0, 0], [0, np.nan], [0, 0]]))
    with pytest.raises(TypeError, match="seed"):
        robots.seed("x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="whole RobotsVecEnv"):
        robots.env_method("reset")
    robots.set_options([{}, {"state": np.zeros((7, 2))}, {}])
    with pytest.raises(ValueError, match="one swarm"):
        robots.reset()
    robots.set_options()
    robots.step_async(np.zeros((3, 2)))
    robots.reset()
    with pytest.raises(RuntimeError, match="without actions"):  # the reset took them back
        robots.step_wait()
    robots = RobotsVecEnv(1)
    with pytest.raises(gym.error.ResetNeeded):
        robots.step(np.zeros((3, 2)))
    assert robots.get_attr("n_robots") == [3, 3, 3]
    assert robots.get_attr("max_steps", indices=[-1]) == [100]
    robots.set_attr("max_steps", 7)
    assert robots.swarms[0].max_steps == 7
    assert robots.env_method("state", indices=0)[0].shape == (7, 2)
    assert robots.env_is_wrapped(gym.Wrapper) == [False, False, False]
