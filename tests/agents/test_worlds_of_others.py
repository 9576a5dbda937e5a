"""Spaces that sb3-contrib takes by another policy, with a conversion, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml
from command_line import done, here
from gymnasium import spaces
from sb3_contrib import CrossQ, RecurrentPPO
from stable_baselines3.common.envs import BitFlippingEnv

from equirl import MappingRepresentation, MDPSymmetry, cyclic_group, permutation_representation
from equirl.agents import EquivariantCrossQPolicy, EquivariantRecurrentPolicy

_RING = permutation_representation(cyclic_group(4))


class Lamps(gym.Env[Any, Any]):
    """Four lamps in a ring, each of which is switched or not; the more of them are lit, the better."""

    observation_space = spaces.MultiBinary(4)
    action_space = spaces.MultiBinary(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._lit, self._steps = self.np_random.integers(0, 2, 4).astype(np.int8), 0
        return self._lit.copy(), {}

    def step(self, action: Any) -> Any:
        self._lit, self._steps = self._lit ^ np.asarray(action).astype(np.int8), self._steps + 1
        return self._lit.copy(), float(self._lit.sum()), False, self._steps == 8, {}


def test_recurrent_agents_learn_with_bits_for_actions() -> None:
    settings = {"symmetry": MDPSymmetry("ring", _RING, _RING), "method": "equitune", "lstm_hidden_size": 8}
    agent: Any = RecurrentPPO(
        EquivariantRecurrentPolicy, Lamps(), n_steps=16, batch_size=8, policy_kwargs=settings, device="cpu", seed=0
    )
    before = agent.policy.action_net.weight.clone()
    agent.learn(32)
    assert not torch.equal(agent.policy.action_net.weight, before)
    lit = np.array([1, 0, 0, 0], np.int8)
    odds = [agent.policy.symmetrized(torch.tensor(np.roll(lit, k)[None]))[0, :4].detach() for k in range(4)]
    assert float(odds[0].std()) > 1e-5
    assert all(torch.allclose(odds[k], odds[0].roll(k), atol=1e-5) for k in range(4))


def test_crossq_says_that_it_takes_no_dict_observations() -> None:
    keys = ("observation", "achieved_goal", "desired_goal")
    symmetry = MDPSymmetry("ring", MappingRepresentation(dict.fromkeys(keys, _RING)), _RING)
    world = BitFlippingEnv(n_bits=4, continuous=True)
    with pytest.raises(TypeError, match=r"CrossQ joins observations.*FlattenObservation"):
        CrossQ(EquivariantCrossQPolicy, world, policy_kwargs={"symmetry": symmetry}, device="cpu")


def test_the_plain_crossq_says_so_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "bits_for_crossq.py").write_text(
        "import gymnasium as gym\nfrom stable_baselines3.common.envs import BitFlippingEnv\n"
        "gym.register('CrossQBits-v0', lambda: BitFlippingEnv(n_bits=4, continuous=True, max_steps=4))\n"
    )
    world = ["--algo", "crossq", "--env", "CrossQBits-v0", "--gym-packages", "bits_for_crossq"]
    outcome = here("train", *world, "--method", "plain", "-n", "40", "--eval-freq", "-1")
    assert outcome.status == 2
    assert "crossq takes no Dict observations: flatten them" in outcome.err[-1]


@pytest.mark.parametrize(
    ("algorithm", "world", "policy", "settings"),
    [
        ("ppo_lstm", "Lamps-v0", "MlpLstmPolicy", ["n_steps:20"]),
        ("sac", "FlippedBits-v0", "MultiInputPolicy", ["learning_starts:20"]),
    ],
)
def test_the_plain_baseline_has_the_policy_that_a_world_needs(
    algorithm: str, world: str, policy: str, settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / f"world_of_{algorithm}.py").write_text(
        "import gymnasium as gym\nfrom gymnasium.envs.classic_control import CartPoleEnv\n"
        "from stable_baselines3.common.envs import BitFlippingEnv\n"
        "gym.register('Lamps-v0', CartPoleEnv, max_episode_steps=20)\n"
        "gym.register('FlippedBits-v0', lambda: BitFlippingEnv(n_bits=4, continuous=True, max_steps=4))\n"
    )
    chosen = ["--algo", algorithm, "--env", world, "--gym-packages", f"world_of_{algorithm}", "--method", "plain"]
    out = done("train", *chosen, "-n", "40", "--eval-freq", "-1", "-params", *settings).out
    assert f"Policy: {policy}, which {algorithm} needs" in out
    assert "Final agent over" in out
    kept = Path(f"logs/{algorithm}/{world}_1/{world}/config.yml").read_text()
    assert dict(yaml.unsafe_load(kept))["policy"] == policy
    trained = f"logs/{algorithm}/{world}_1/{world}.zip"
    out = done("train", *chosen[:-2], "-i", trained, "-n", "40", "--eval-freq", "-1", "-params", *settings).out
    assert "needs for observations" not in out  # it keeps its own policy
