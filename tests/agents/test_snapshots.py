"""A training that was stopped and goes on from its snapshot is the training that was never stopped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils import EzPickle
from sb3_contrib import QRDQN, RecurrentPPO
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.vec_env import VecEnv

from equirl.agents import EquivariantDQNPolicy, EquivariantSACPolicy, SymmetricVecNormalize, SymmetryReplayBuffer
from equirl.agents.environment_state import environment_state, restore_environments
from equirl.agents.gate_training import GateTraining, gate_callbacks
from equirl.agents.policies import POLICY_CLASSES
from equirl.agents.snapshots import Snapshots, read_snapshot
from equirl.agents.vector_env import make_vectorized_env

CARTPOLE = {"symmetry": "cartpole-z2", "net_arch": [8]}
PENDULUM = {"symmetry": "pendulum-z2", "net_arch": [8]}


class _StopError(Exception):
    """What a kill is in these tests."""


class _StopAt(BaseCallback):
    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.steps:
            raise _StopError
        return True


def _dqn() -> BaseAlgorithm:
    grid = make_vectorized_env("equirl/GridWorld-v0", 4, seed=1, env_kwargs={"size": 4})
    kwargs = {"symmetry": "grid-d4", "net_arch": [8], "method": "canonical"}
    return DQN(EquivariantDQNPolicy, grid, learning_starts=20, batch_size=8, policy_kwargs=kwargs, seed=1)


def _partial() -> BaseAlgorithm:
    grid = make_vectorized_env("equirl/GridWorld-v0", 4, seed=1, env_kwargs={"size": 3, "broken_cells": 0.3})
    kwargs = {"symmetry": "grid-d4", "net_arch": [8], "method": "partial"}
    return DQN(EquivariantDQNPolicy, grid, learning_starts=20, batch_size=8, policy_kwargs=kwargs, seed=1)


def _qrdqn_with_augmentation() -> BaseAlgorithm:
    more = {"replay_buffer_class": SymmetryReplayBuffer, "replay_buffer_kwargs": {"symmetry": "cartpole-z2"}}
    return QRDQN("MlpPolicy", "CartPole-v1", learning_starts=20, buffer_size=100, batch_size=8, seed=1, **more)


def _ppo_normalized() -> BaseAlgorithm:
    envs: VecEnv = SymmetricVecNormalize(make_vec_env("CartPole-v1", 2, seed=1), "cartpole-z2")
    return PPO(POLICY_CLASSES["ppo"], envs, n_steps=16, batch_size=8, policy_kwargs=dict(CARTPOLE), seed=1)


def _sac_with_noise_that_depends_on_states() -> BaseAlgorithm:
    how = {"use_sde": True, "train_freq": 8, "gradient_steps": 4, "learning_starts": 20, "batch_size": 8}
    return SAC(EquivariantSACPolicy, "Pendulum-v1", policy_kwargs=dict(PENDULUM), seed=1, **how)


def _td3_with_noise_that_remembers() -> BaseAlgorithm:
    noise = OrnsteinUhlenbeckActionNoise(np.zeros(1), 0.3 * np.ones(1))
    how = {"action_noise": noise, "learning_starts": 20, "batch_size": 8}
    return TD3(POLICY_CLASSES["td3"], "Pendulum-v1", policy_kwargs=dict(PENDULUM), seed=1, **how)


def _recurrent() -> BaseAlgorithm:
    kwargs = {**CARTPOLE, "lstm_hidden_size": 8}
    return RecurrentPPO(
        POLICY_CLASSES["ppo_lstm"], "CartPole-v1", n_steps=16, batch_size=8, policy_kwargs=kwargs, seed=1
    )


AGENTS = [
    *(_dqn, _partial, _qrdqn_with_augmentation, _ppo_normalized, _sac_with_noise_that_depends_on_states),
    *(_td3_with_noise_that_remembers, _recurrent),
]


def _callbacks(model: BaseAlgorithm, folder: Path) -> list[BaseCallback]:
    if isinstance(model.get_vec_normalize_env(), SymmetricVecNormalize):
        return []  # evaluation wants the same wrappers, which is not what this is about
    if gate_callbacks(model):
        return [GateTraining(every=16, gradient_steps=2, batch_size=8)]
    world = make_vectorized_env("equirl/GridWorld-v0", 1, seed=9, env_kwargs={"size": 4})
    envs = world if isinstance(model.policy, EquivariantDQNPolicy) else make_vec_env(model.env.envs[0].spec.id, seed=9)  # type: ignore[union-attr]
    return [EvalCallback(envs, eval_freq=25, n_eval_episodes=2, log_path=str(folder), verbose=0)]


@pytest.mark.parametrize("make", AGENTS, ids=lambda make: make.__name__.strip("_"))
def test_going_on_gives_the_same_weights_and_evaluations(
    make: Callable[[], BaseAlgorithm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr("equirl.agents.gate_evidence._LEAST_SHOWN", 3)  # so short a run shows little
    whole = make()
    whole_evaluation = _callbacks(whole, tmp_path / "whole")
    whole.learn(120, callback=whole_evaluation)

    stopped, file = make(), tmp_path / "snapshot.pkl"
    beside = _callbacks(stopped, tmp_path / "stopped")
    with pytest.raises(_StopError):
        stopped.learn(120, callback=[Snapshots(file, 0.0, beside), *beside, _StopAt(80)])

    again = make()
    beside = _callbacks(again, tmp_path / "stopped")
    state = read_snapshot(file)
    again.learn(120, callback=[Snapshots(file, 1e9, beside, state), *beside])

    assert again.num_timesteps == whole.num_timesteps
    _assert_same(whole.get_parameters(), again.get_parameters())
    for one, other in zip(whole_evaluation, beside, strict=True):
        if isinstance(one, GateTraining):
            assert isinstance(other, GateTraining)
            assert one.evidence.draw(8, np.random.default_rng(0)) is not None  # type: ignore[union-attr]
            assert one.evidence._differ == other.evidence._differ  # type: ignore[union-attr]
            continue
        assert isinstance(one, EvalCallback)
        assert isinstance(other, EvalCallback)
        assert one.evaluations_timesteps == other.evaluations_timesteps
        assert np.array_equal(one.evaluations_results, other.evaluations_results)
    buffers = [getattr(model, "replay_buffer", None) for model in (whole, again)]
    if buffers[0] is not None:
        assert np.array_equal(buffers[0].rewards, buffers[1].rewards)


def test_environments_that_cannot_be_pickled_begin_anew_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def make() -> DQN:
        environment = gym.make("CartPole-v1")
        environment.unwrapped.held = (_ for _ in ())  # type: ignore[attr-defined]
        return DQN("MlpPolicy", environment, learning_starts=20, batch_size=8, seed=1)

    file = tmp_path / "snapshot.pkl"
    with pytest.raises(_StopError):
        make().learn(100, callback=[Snapshots(file, 0.0, []), _StopAt(50)])
    again = make()
    again.learn(100, callback=Snapshots(file, 1e9, [], read_snapshot(file)))
    assert again.num_timesteps == 100
    said = capsys.readouterr().out
    assert "episodes that were under way begin anew" in said
    assert "generator" in said


class _Counting(gym.Env[Any, Any], EzPickle):
    """A world whose ordinary pickle holds its arguments alone, as that of MuJoCo's robots does."""

    observation_space = gym.spaces.Box(0, 1000, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self) -> None:
        EzPickle.__init__(self)
        self.count = 0

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        return np.full(1, self.count, np.float32), 0.0, False, False, {}


@pytest.mark.parametrize("world", ["counting", "InvertedPendulum-v5"])
def test_worlds_that_pickle_by_their_arguments_keep_their_state(world: str) -> None:
    if world != "counting":
        pytest.importorskip("mujoco")
    first, second = (make_vec_env(_Counting if world == "counting" else world, seed=0) for _ in range(2))
    actions = np.zeros((1, *first.action_space.shape), dtype=first.action_space.dtype)
    first.reset()
    for _ in range(3):
        first.step(actions)
    second.reset()
    assert restore_environments(second, environment_state(first))
    assert np.array_equal(first.step(actions)[0], second.step(actions)[0])


def test_a_snapshot_that_cannot_be_made_does_not_end_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = DQN("MlpPolicy", "CartPole-v1", learning_starts=20, seed=1)
    odd = _StopAt(1000)
    odd.held = {"of the user's": np.array([(_ for _ in ())], dtype=object)}  # type: ignore[attr-defined]
    model.learn(32, callback=[Snapshots(tmp_path / "snapshot.pkl", 0.0, [odd]), odd])
    assert model.num_timesteps == 32
    assert capsys.readouterr().out.count("training goes on without it") == 1


def test_a_snapshot_holds_the_filled_rows_of_the_buffer_alone(tmp_path: Path) -> None:
    model, file = DQN("MlpPolicy", "CartPole-v1", buffer_size=1_000_000, seed=1), tmp_path / "snapshot.pkl"
    with pytest.raises(_StopError):
        model.learn(100, callback=[Snapshots(file, 0.0, []), _StopAt(50)])
    assert file.stat().st_size < 1_000_000


def test_a_damaged_snapshot_is_named(tmp_path: Path) -> None:
    file = tmp_path / "snapshot.pkl"
    file.write_bytes(b"no pickle")
    with pytest.raises(ValueError, match=r"snapshot\.pkl cannot be read"):
        read_snapshot(file)


def _assert_same(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            _assert_same(one[key], other[key])
    elif torch.is_tensor(one):
        assert torch.equal(one, other)
    elif isinstance(one, list | tuple):
        for first, second in zip(one, other, strict=True):
            _assert_same(first, second)
    else:
        assert one == other
