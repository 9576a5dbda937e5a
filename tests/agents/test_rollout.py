import pickle
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from command_line import done
from small_worlds import KINDS, World, mirror, policy_name
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from equirl import build_symmetry
from equirl.agents import SymmetricVecNormalize, SymmetryRolloutBuffer
from equirl.agents.observations import as_observations
from equirl.agents.orbit_statistics import OrbitStatistics
from equirl.orbit import flatten_rows

SYMMETRY: dict[str, Any] = {"symmetry": "grid-d4"}


def _buffer(n_steps: int = 40) -> SymmetryRolloutBuffer:
    environment = gym.make("equirl/GridWorld-v0", size=4)
    buffer = SymmetryRolloutBuffer(
        n_steps, environment.observation_space, environment.action_space, device="cpu", **SYMMETRY
    )
    for seed in range(n_steps):
        observation, _ = environment.reset(seed=seed)
        buffer.add(
            observation[None], np.array([[seed % 4]]), np.array([seed]), np.zeros(1), torch.zeros(1), torch.zeros(1)
        )
    return buffer


def test_samples_are_transforms_of_what_was_stored_and_cover_the_group() -> None:
    buffer, symmetry = _buffer(), build_symmetry("grid-d4", (3, 4, 4), 4)
    stored = torch.as_tensor(buffer.observations[:, 0])
    elements = set()
    for samples in buffer.get(8):
        assert samples.actions.dtype == torch.float32 or not samples.actions.is_floating_point()
        for observation, action in zip(samples.observations, samples.actions.flatten().long(), strict=True):
            found = [
                (k, g)
                for g in range(8)
                for k in (stored == symmetry.observation.transform(int(symmetry.group.inverses[g]), observation[None]))
                .all(-1)
                .all(-1)
                .all(-1)
                .nonzero()
                .flatten()
                .tolist()
                if int((symmetry.action.index[g] == k % 4).nonzero()) == int(action)
            ]
            assert found
            elements |= {g for _, g in found}
    assert elements == set(range(8))


def test_ppo_trains_with_it() -> None:
    model = PPO(
        "MlpPolicy",
        gym.make("equirl/GridWorld-v0", size=4),
        n_steps=32,
        batch_size=32,
        device="cpu",
        rollout_buffer_class=SymmetryRolloutBuffer,
        rollout_buffer_kwargs=SYMMETRY,
    )
    before = model.policy.parameters_to_vector()
    model.learn(64)
    assert not np.array_equal(before, model.policy.parameters_to_vector())


@pytest.mark.parametrize("algorithm", [PPO, A2C])
@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_of_observations_are_moved(kind: str, algorithm: Any) -> None:
    settings = {"rollout_buffer_class": SymmetryRolloutBuffer, "rollout_buffer_kwargs": {"symmetry": mirror(kind)}}
    venv = make_vec_env(lambda: World(kind), 2)
    model = algorithm(policy_name(kind), venv, n_steps=32, device="cpu", seed=0, **settings)
    model.learn(64)
    buffer, representation = model.rollout_buffer, mirror(kind).observation
    assert isinstance(buffer, SymmetryRolloutBuffer)
    states = as_observations(buffer.observations, buffer.observation_space, "cpu")
    rows = ((flatten_rows(representation.transform(g, states)), g) for g in (0, 1))
    known = {
        (*row, action)
        for moved, g in rows
        for row, action in zip(moved.tolist(), np.abs(buffer.actions.ravel() - g).tolist(), strict=True)
    }
    for samples in buffer.get(20):
        handed = flatten_rows(as_observations(samples.observations, buffer.observation_space, "cpu"))
        found = {(*row, float(a)) for row, a in zip(handed.tolist(), samples.actions, strict=True)}
        assert found <= known


def test_statistics_that_lose_the_symmetry_are_refused() -> None:
    settings: dict[str, Any] = {"n_steps": 32, "device": "cpu", "rollout_buffer_class": SymmetryRolloutBuffer}
    settings["rollout_buffer_kwargs"] = {"symmetry": mirror("box")}
    worlds = make_vec_env(lambda: World("box"), 2)
    refused = r"VecNormalize.*(would undo the symmetry).*SymmetricVecNormalize"
    with pytest.raises(ValueError, match=refused):
        A2C("MlpPolicy", VecNormalize(worlds), **settings)
    model = A2C("MlpPolicy", VecNormalize(worlds, norm_obs=False), **settings)
    model.learn(64)
    model.set_env(VecNormalize(worlds))
    with pytest.raises(ValueError, match=refused):
        model.learn(64)
    A2C("MlpPolicy", SymmetricVecNormalize(worlds, mirror("box")), **settings).learn(64)


def test_train_normalises_transformed_rollouts_by_orbits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ppo.yml").write_text(
        "CartPole-v1:\n  policy: MlpPolicy\n  n_timesteps: 64\n  n_envs: 2\n  n_steps: 32\n  batch_size: 64\n"
        "  normalize: true\n  rollout_buffer_class: equirl.agents.SymmetryRolloutBuffer\n"
        "  rollout_buffer_kwargs:\n    symmetry: cartpole-z2\n"
    )
    done("train", "--algo", "ppo", "--env", "CartPole-v1", "--method", "plain", "-conf", "ppo.yml", "--eval-freq", "-1")
    statistics = pickle.loads(Path("logs/ppo/CartPole-v1_1/CartPole-v1/vecnormalize.pkl").read_bytes()).obs_rms
    assert isinstance(statistics, OrbitStatistics)
    assert np.abs(statistics.mean).max() < 1e-9  # every coordinate changes its sign


def test_mistakes_are_told() -> None:
    spaces = gym.spaces
    with pytest.raises(ValueError, match="grid-d4"):
        SymmetryRolloutBuffer(4, spaces.Dict({"x": spaces.Discrete(2)}), spaces.Discrete(2), device="cpu", **SYMMETRY)
    with pytest.raises(TypeError, match="moves the actions of a Discrete space"):
        SymmetryRolloutBuffer(4, spaces.Box(0, 1, (3, 4, 4)), spaces.Box(0, 1, (2,)), device="cpu", **SYMMETRY)
