"""Games: self-play against earlier agents, masks in audits and evaluations, and augmented rollouts with masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import done
from masked_world import MaskedWorld
from rl_zoo3.utils import ALGOS
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from equirl.agents import (
    EquivariantMaskablePolicy,
    PolicyOpponent,
    SelfPlayCallback,
    SymmetryMaskableRolloutBuffer,
    load_agent,
    symmetrize_agent,
)
from equirl.agents.audit import audit_agent
from equirl.agents.evaluation import evaluate_episodes
from equirl.envs import TicTacToeEnv


class _Strict(TicTacToeEnv):
    """An illegal move is an error."""

    def step(self, action: int) -> Any:
        if not self.action_masks()[int(action)]:
            raise ValueError(f"illegal: {action}")
        return super().step(action)


def _games(n: int = 4, **kwargs: Any) -> DummyVecEnv:
    return DummyVecEnv([lambda: _Strict(**kwargs)] * n)


def _agent(policy: Any = "MlpPolicy", seed: int = 0, **kwargs: Any) -> MaskablePPO:
    settings: dict[str, Any] = {"n_steps": 16, "batch_size": 32, "n_epochs": 2, "seed": seed, "device": "cpu"}
    return MaskablePPO(policy, _games(), **settings, **kwargs)


def _equivariant(method: str = "canonical") -> MaskablePPO:
    return _agent(EquivariantMaskablePolicy, policy_kwargs={"symmetry": "board-d4", "method": method})


def _moves(opponent: PolicyOpponent) -> list[int]:
    observations, masks = TicTacToeEnv.positions()
    random = np.random.default_rng(0)
    return [opponent(observations[k], masks[k], random) for k in range(0, 4520, 20)]


def test_opponents_are_earlier_versions_that_stay_as_they_were() -> None:
    agent, callback = _equivariant(), SelfPlayCallback(every=64, pool_size=3)
    agent.learn(64, callback=callback)
    first = callback.pool[0]
    before = _moves(first)
    assert len(callback.pool) == 2
    agent.learn(256, callback=callback, reset_num_timesteps=False)
    assert len(callback.pool) == 3
    assert first not in callback.pool  # the oldest go first
    assert _moves(first) == before
    assert _moves(PolicyOpponent(agent)) != before
    players = agent.get_env().get_attr("_opponents")  # type: ignore[union-attr]
    assert all(each == callback.pool for each in players)


def test_equal_seeds_give_equal_runs_and_a_saved_pool_goes_on(tmp_path: Path) -> None:
    agents, pools = [], []
    for _ in range(2):
        agents.append(_agent())
        pools.append(SelfPlayCallback(every=64))
        agents[-1].learn(128, callback=pools[-1])
    for name, value in agents[0].policy.state_dict().items():
        assert torch.equal(value, agents[1].policy.state_dict()[name])
    pools[0].save(tmp_path / "pool.pt")
    loaded = SelfPlayCallback(every=64).load(tmp_path / "pool.pt")
    agents[1].learn(64, callback=loaded, reset_num_timesteps=False)
    assert len(loaded.pool) == len(pools[0].pool) + 1
    for mine, theirs in zip(pools[0].pool, loaded.pool, strict=False):
        assert _moves(mine) == _moves(theirs)


def test_an_opponent_of_an_equivariant_agent_plays_equal_moves_with_equal_probability(tmp_path: Path) -> None:
    agent = _equivariant()
    agent.save(tmp_path / "agent")
    empty = np.zeros((2, 3, 3), np.uint8)
    random = np.random.default_rng(0)
    opponent = PolicyOpponent(tmp_path / "agent.zip")
    counts = np.bincount([opponent(empty, np.ones(9, bool), random) for _ in range(4000)], minlength=9) / 4000
    for cells in ([0, 2, 6, 8], [1, 3, 5, 7]):
        assert np.ptp(counts[cells]) < 0.05
    greedy = PolicyOpponent(agent, deterministic=True)
    assert len({greedy(empty, np.ones(9, bool), random) for _ in range(20)}) == 1


def test_opponents_make_legal_moves_alone() -> None:
    opponent = PolicyOpponent(_agent())
    observations, masks = TicTacToeEnv.positions()
    random = np.random.default_rng(0)
    opponent.prepare(observations, masks)
    assert all(mask[opponent(seen, mask, random)] for seen, mask in zip(observations, masks, strict=True))


def test_what_cannot_play_is_named() -> None:
    agent = MaskablePPO("MlpPolicy", DummyVecEnv([MaskedWorld]), n_steps=8, device="cpu")
    with pytest.raises(TypeError, match="environments with set_opponent"):
        agent.learn(8, callback=SelfPlayCallback(10))
    with pytest.raises(TypeError, match="does not take masks"):
        PolicyOpponent(PPO("MlpPolicy", _games(), device="cpu"))
    with pytest.raises(ValueError, match="every"):
        SelfPlayCallback(0)


def test_an_audit_and_evaluations_keep_to_the_masks() -> None:
    agent = _agent()
    agent.learn(64)
    rows = audit_agent(agent, VecMonitor(_games(opponent="perfect")), "board-d4", n_episodes=8, n_states=40)
    assert [row.agent for row in rows] == ["plain", "equitune", "equizero", "lambda_equitune", "canonical"]
    assert rows[0].equivariance_error > 1e-3
    assert max(row.equivariance_error for row in rows[1:]) < 1e-5
    assert len(evaluate_episodes(agent, VecMonitor(_games()), 6, deterministic=False).successes) == 6
    symmetrized = symmetrize_agent(agent, "board-d4", "equitune")
    assert isinstance(symmetrized.policy, EquivariantMaskablePolicy)
    symmetrized.learn(64)


def test_the_command_line_trains_with_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TicTacToeEnv, "step", _strict_step(TicTacToeEnv.step))
    short = ["-n", "128", "-f", str(tmp_path), "-params", "n_envs:2", "n_steps:32", "batch_size:32", "n_epochs:1"]
    told = done("train", "--algo", "ppo_mask", "--env", "equirl/TicTacToe-v0", *short, "--eval-freq", "64").out
    assert "BoardD4CanonicalMaskablePolicy" in told
    (file,) = tmp_path.glob("ppo_mask/*/equirl-TicTacToe-v0.zip")
    assert isinstance(load_agent(file).policy, EquivariantMaskablePolicy)
    words = ["--algo", "ppo_mask", "--env", "equirl/TicTacToe-v0", "-f", str(tmp_path), "--no-render", "-n", "60"]
    assert "Mean reward" in done("enjoy", *words, "--stochastic").out  # an illegal move would end it
    assert ALGOS["ppo_mask"] is MaskablePPO  # type: ignore[index]  # rl_zoo3 is as it was


def _strict_step(step: Any) -> Any:
    def strict(environment: TicTacToeEnv, action: int) -> Any:
        if not environment.action_masks()[int(action)]:
            raise ValueError(f"illegal: {action}")
        return step(environment, action)

    return strict


def test_masks_move_with_boards_and_actions_in_augmented_rollouts() -> None:
    buffer = {"rollout_buffer_class": SymmetryMaskableRolloutBuffer, "rollout_buffer_kwargs": {"symmetry": "board-d4"}}
    agent = _agent(**buffer)
    agent.learn(64)
    stored = agent.rollout_buffer.observations.copy()
    samples = next(iter(agent.rollout_buffer.get(None)))
    free = (samples.observations.sum(dim=1).flatten(1) == 0).float()
    assert torch.equal(free, samples.action_masks)
    assert bool((free.gather(1, samples.actions.long()) == 1).all())
    known = {np.asarray(row, dtype=np.float32).tobytes() for row in stored.reshape(-1, 2, 3, 3)}
    assert any(row.numpy().tobytes() not in known for row in samples.observations)  # some boards did move


def test_a_file_that_is_no_pool_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no pool")
    with pytest.raises(ValueError, match=r"text.pt holds no pool of opponents"):
        SelfPlayCallback(10).load(tmp_path / "text.pt")
    with pytest.raises(FileNotFoundError, match="there is no pool of opponents"):
        SelfPlayCallback(10).load(tmp_path / "nothing.pt")
