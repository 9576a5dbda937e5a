import csv
import math
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from sb3_contrib import QRDQN
from small_worlds import KINDS, World, mirror
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from equirl.agents import (
    EquivariantActorCriticPolicy,
    EquivariantDQNPolicy,
    EquivariantQRDQNPolicy,
    SymmetryCallback,
)

SETTINGS = {"learning_starts": 10, "buffer_size": 500, "device": "cpu", "seed": 0}


def _train(method: str, folder: Path) -> tuple[DQN, EventAccumulator]:
    policy_kwargs = {"symmetry": "grid-d4", "method": method, "net_arch": [16]}
    model = DQN(EquivariantDQNPolicy, gym.make("equirl/GridWorld-v0"), policy_kwargs=policy_kwargs, **SETTINGS)
    model.set_logger(configure(str(folder), ["tensorboard"]))
    model.learn(200, callback=SymmetryCallback(log_freq=50, n_states=64), log_interval=1)
    model.logger.close()
    events = EventAccumulator(str(folder))
    events.Reload()
    return model, events


@pytest.mark.parametrize(
    ("method", "entropy"), [("equitune", math.log(8)), ("lambda_equitune", None), ("equizero", None)]
)
def test_curves_in_tensorboard(method: str, entropy: float | None, tmp_path: Path) -> None:
    model, events = _train(method, tmp_path)
    tags = set(events.Tags()["scalars"])
    elements = model.q_net.symmetry.group.element_names
    assert {f"symmetry/share_{element}" for element in elements} <= tags
    assert "rollout/ep_rew_mean" in tags  # beside SB3's own
    shares = [events.Scalars(f"symmetry/share_{element}")[-1].value for element in elements]
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    assert events.Scalars("symmetry/equivariance_error")[-1].value < 1e-5
    measured = events.Scalars("symmetry/lambda_entropy")[-1].value
    assert 0 <= measured <= math.log(8) + 1e-5
    if entropy is not None:
        assert measured == pytest.approx(entropy, abs=1e-5)


def test_the_run_is_the_same_without_it() -> None:
    parameters = []
    for callback in (None, SymmetryCallback(log_freq=20)):
        policy_kwargs = {"symmetry": "grid-c4", "net_arch": [8]}
        model = DQN(EquivariantDQNPolicy, gym.make("equirl/GridWorld-v0"), policy_kwargs=policy_kwargs, **SETTINGS)
        model.learn(100, callback=callback)
        parameters.append(model.policy.parameters_to_vector())
    assert np.array_equal(*parameters)


@pytest.mark.parametrize("name", ["ppo", "qrdqn"])
def test_other_algorithms_are_logged_too(name: str, tmp_path: Path) -> None:
    environment, policy_kwargs = gym.make("equirl/GridWorld-v0", size=4), {"symmetry": "grid-d4", "net_arch": [8]}
    if name == "ppo":
        model = PPO(EquivariantActorCriticPolicy, environment, policy_kwargs=policy_kwargs, n_steps=32, device="cpu")
    else:
        model = QRDQN(EquivariantQRDQNPolicy, environment, policy_kwargs=policy_kwargs, **SETTINGS)
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    model.learn(96, callback=SymmetryCallback(log_freq=20), log_interval=1)
    model.logger.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Scalars("symmetry/equivariance_error")[-1].value < 1e-5
    assert 0 <= events.Scalars("symmetry/lambda_entropy")[-1].value <= math.log(8) + 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["dqn", "ppo"])
def test_all_kinds_of_observations_are_logged(kind: str, name: str, tmp_path: Path) -> None:
    policy_kwargs = {"symmetry": mirror(kind), "net_arch": [8]}
    if name == "ppo":
        settings = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "policy_kwargs": policy_kwargs, "device": "cpu"}
        model = PPO(EquivariantActorCriticPolicy, make_vec_env(lambda: World(kind), 2), **settings)
    else:
        venv = make_vec_env(lambda: World(kind), 2)
        model = DQN(EquivariantDQNPolicy, venv, policy_kwargs=policy_kwargs, **SETTINGS)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(64, callback=SymmetryCallback(log_freq=10, n_states=8), log_interval=1)
    model.logger.dump(0)
    model.logger.close()
    with (tmp_path / "progress.csv").open(newline="") as file:
        logged = [float(row["symmetry/equivariance_error"] or 0) for row in csv.DictReader(file)]
    assert 0 <= max(logged) < 1e-4


def test_states_are_those_that_the_agent_saw() -> None:
    """Replay buffers keep what the environment gave, rollout buffers what the agent saw."""
    for name in ("dqn", "ppo"):
        normalize = VecNormalize(make_vec_env(lambda: World("box"), 2), training=False)
        normalize.obs_rms.mean, normalize.obs_rms.var = np.zeros(2), np.full(2, 0.01)
        policy_kwargs = {"symmetry": mirror("box"), "net_arch": [8]}
        if name == "ppo":
            settings = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "device": "cpu"}
            model = PPO(EquivariantActorCriticPolicy, normalize, policy_kwargs=policy_kwargs, **settings)
        else:
            model = DQN(EquivariantDQNPolicy, normalize, policy_kwargs=policy_kwargs, **SETTINGS)
        callback = SymmetryCallback(log_freq=10, n_states=100)
        model.learn(32, callback=callback)
        if name == "ppo":
            model.rollout_buffer.generator_ready = False
            model.rollout_buffer.observations = model.rollout_buffer.observations.reshape(16, 2, 2)
        states = callback._draw_observations()
        assert 2 < float(states.abs().max()) <= 10.01  # within [-1, 1] in the world, divided by 0.1


def test_other_agents_are_refused() -> None:
    with pytest.raises(
        TypeError,
        match=r"SymmetryCallback logs equivariant agents; ActorCriticPolicy is not equivariant.*leave the callback out",
    ):
        PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu").learn(8, callback=SymmetryCallback())
    with pytest.raises(ValueError, match="log_freq must be a whole number from 1; got 0"):
        SymmetryCallback(log_freq=0, n_states=5)
