"""Measuring an agent changes nothing that it or its training depends on, and equal seeds give equal measurements."""

import random
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import QRDQN
from small_worlds import World, policy_name
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from equirl.agents import make_vectorized_env, rollout_observations
from equirl.agents.measuring import measurement
from equirl.representations import Tree

SMALL = {"dqn": (DQN, {"buffer_size": 10}), "qrdqn": (QRDQN, {"buffer_size": 10}), "ppo": (PPO, {"n_steps": 8})}


class Dice(gym.Env[Any, int]):
    """Draws from everything an environment may draw from, its own generator and the global ones included."""

    observation_space, action_space = spaces.Box(-np.inf, np.inf, (5,), np.float64), spaces.Discrete(3)

    def __init__(self) -> None:
        self.own = np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._throw(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._throw(), 0.0, bool(self.np_random.random() < 0.2), False, {}

    def _throw(self) -> Any:
        drawn = (self.own.random(), np.random.rand(), random.random(), self.action_space.sample())
        return np.array([self.np_random.random(), *drawn])


def _agent(name: str, env: Any, policy: str = "MlpPolicy") -> Any:
    algorithm, settings = SMALL[name]
    model = algorithm(policy, env, device="cpu", policy_kwargs={"net_arch": [8]}, **settings)  # type: ignore[operator]
    model.exploration_rate = 0.5  # DQN's half-way through its training
    return model


def _equal(one: Tree, other: Tree) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_equal(one[key], other[key]) for key in one)
    return torch.equal(one, other)  # type: ignore[arg-type]


def _random_states() -> list[Any]:
    return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]  # type: ignore[index]


@pytest.mark.parametrize("name", SMALL)
def test_equal_seeds_give_equal_rollouts(name: str) -> None:
    venv = DummyVecEnv([Dice, Dice, Dice])
    agent = _agent(name, Dice())
    first, again, other = (rollout_observations(agent, venv, 100, seed=seed) for seed in (3, 3, 4))
    assert len(first) == 100
    assert _equal(first, again)
    assert not _equal(first, other)


@pytest.mark.parametrize("kind", ["discrete", "multidiscrete", "multibinary", "dict"])
def test_all_kinds_of_observations_are_collected(kind: str) -> None:
    agent = _agent("ppo", World(kind), policy_name(kind))
    first, again = (rollout_observations(agent, World(kind), 30, seed=1) for _ in range(2))
    assert _equal(first, again)


def test_the_vectorised_gridworld_is_measured_reproducibly() -> None:
    venv = make_vectorized_env(n_envs=3, env_kwargs={"size": 4, "slip": 0.2})
    agent = _agent("dqn", gym.make("equirl/GridWorld-v0", size=4))
    venv.reset()
    first, again = (rollout_observations(agent, venv, 60, seed=1) for _ in range(2))
    assert _equal(first, again)
    starts = venv.reset()  # of the random numbers of before, which were not seeded
    venv.seed(1)
    assert not np.array_equal(starts, venv.reset())


@pytest.mark.parametrize("fails", [False, True])
def test_random_numbers_modes_and_statistics_are_put_back(fails: bool) -> None:
    venv = VecNormalize(make_vec_env("CartPole-v1", 2, seed=0))
    agent = PPO("MlpPolicy", venv, n_steps=16, batch_size=16, device="cpu", seed=0).learn(32)
    agent.policy.train()
    agent.policy.action_net.eval()  # a mode that a part has of its own
    venv.reset()
    venv.step(np.array([0, 1]))
    venv.seed(77)  # for the next reset
    environment = venv.unwrapped.envs[0].unwrapped  # type: ignore[attr-defined]

    def state() -> list[Any]:
        return [
            _random_states(),
            environment.np_random.bit_generator.state,
            environment.np_random_seed,
            environment.action_space.np_random.bit_generator.state,
            venv.unwrapped._seeds,
            [part.training for part in agent.policy.modules()],
            [venv.training, venv.norm_reward, venv.obs_rms.count, venv.ret_rms.count],
            [array.tolist() for array in (venv.obs_rms.mean, venv.obs_rms.var, venv.returns)],
        ]

    before = state()
    if fails:

        def broken() -> None:
            with measurement(agent, venv, 5):
                venv.reset()
                agent.predict(np.zeros((2, 4)))
                raise RuntimeError("the environment broke")

        with pytest.raises(RuntimeError, match="the environment broke"):
            broken()
    else:
        rollout_observations(agent, venv, 50, seed=5)
    assert state() == before


def test_gymnasiums_running_means_stay_too() -> None:
    environment = gym.wrappers.NormalizeObservation(gym.make("CartPole-v1"))
    environment.reset(seed=0)
    count = environment.obs_rms.count
    rollout_observations(_agent("ppo", environment), environment, 20)
    assert environment.obs_rms.count == count
    assert environment.update_running_mean


def test_training_goes_on_from_a_reset_after_a_measurement_in_its_own_environment() -> None:
    class Watched(gym.Wrapper[Any, Any, Any, Any]):
        steps = resets = 0

        def reset(self, **kwargs: Any) -> Any:
            Watched.resets += 1
            return super().reset(**kwargs)

    agent = _agent("ppo", Watched(gym.make("CartPole-v1"))).learn(8)
    rollout_observations(agent, agent.get_env(), 3)
    resets = Watched.resets
    agent.learn(8, reset_num_timesteps=False)
    assert Watched.resets > resets
    assert agent._last_obs is not None
    elsewhere = gym.make("CartPole-v1")
    rollout_observations(agent, elsewhere, 3)
    assert agent._last_obs is not None  # it was not its own


def test_what_makes_no_sense_is_refused_before_any_step() -> None:
    agent = _agent("ppo", gym.make("CartPole-v1"))
    for n_states in (0, -3):
        with pytest.raises(ValueError, match=f"n_states must be a whole number from 1; got {n_states}"):
            rollout_observations(agent, gym.make("CartPole-v1"), n_states)
    with pytest.raises(TypeError, match=r"n_states must be a whole number from 1; got 2\.5"):
        rollout_observations(agent, gym.make("CartPole-v1"), 2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seed must be a whole number from 0; got -1"):
        rollout_observations(agent, gym.make("CartPole-v1"), 5, seed=-1)
    with pytest.raises(ValueError, match=r"the agent sees Box.*\(4,\).*but the environment gives Box.*\(6,\)"):
        rollout_observations(agent, gym.make("Acrobot-v1"), 5)


def test_environments_that_normalise_otherwise_than_the_agents_own_are_refused(tmp_path: Any) -> None:
    def normalized(norm_obs: bool = True) -> VecEnv:
        return VecNormalize(make_vec_env("CartPole-v1", 2, seed=0), norm_obs=norm_obs)

    agent = PPO("MlpPolicy", normalized(), n_steps=16, batch_size=16, device="cpu").learn(32)
    with pytest.raises(ValueError, match="but the environment given does not normalise"):
        rollout_observations(agent, make_vec_env("CartPole-v1"), 5)
    with pytest.raises(ValueError, match=r"other statistics than the agent's own.*sync_envs_normalization"):
        rollout_observations(agent, normalized(), 5)
    plain = PPO("MlpPolicy", "CartPole-v1", n_steps=16, batch_size=16, device="cpu").learn(16)
    with pytest.raises(ValueError, match=r"normalises observations \(VecNormalize\), but the agent's own does not"):
        rollout_observations(plain, normalized(), 5)
    rollout_observations(plain, normalized(norm_obs=False), 5)
    agent.save(tmp_path / "agent.zip")
    alone = PPO.load(tmp_path / "agent.zip", device="cpu")
    with pytest.warns(UserWarning, match="was trained in a VecNormalize environment, and the one given is none"):
        rollout_observations(alone, make_vec_env("CartPole-v1"), 5)
