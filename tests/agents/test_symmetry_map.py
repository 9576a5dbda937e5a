"""Maps of where a grid and an agent break a symmetry."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env

from equirl.agents import EquivariantDQNPolicy, make_vectorized_env
from equirl.agents.cli.audit import main as audit
from equirl.agents.symmetry_map import map_symmetry
from equirl.envs.broken_grid import Breaks, broken_moves
from equirl.symmetry import build_symmetry

GRID = "equirl/GridWorld-v0"


def agent(share: float, method: str | None) -> Any:
    env = make_vectorized_env(GRID, 16, 0, {"size": 5, "broken_cells": share, "broken_seed": 3})
    if method is None:
        return DQN("MlpPolicy", env, seed=0, device="cpu", buffer_size=1_000)
    kwargs = {"symmetry": "grid-d4", "method": method}
    return DQN(EquivariantDQNPolicy, env, policy_kwargs=kwargs, seed=0, device="cpu", buffer_size=1_000)


def test_the_map_of_the_world_is_the_truth_about_it() -> None:
    model = agent(0.1, None)
    found = map_symmetry(model, model.get_env(), "grid-d4", n_steps=30_000)
    truth = broken_moves(5, Breaks(0.1, seed=3), build_symmetry("grid-d4", (3, 5, 5), 4)).any(axis=1).reshape(5, 5)
    assert np.isfinite(found.world).all()
    assert ((found.world > 0) == truth).all()
    assert 0 < truth.sum() < 25
    assert found.agent.min() > 0.1  # it has learned nothing, and is plain
    assert found.gate is None


def test_an_exact_agent_breaks_it_nowhere_and_a_shut_gate_is_seen() -> None:
    exact, partial = agent(0.1, "equitune"), agent(0.1, "partial")
    assert map_symmetry(exact, exact.get_env(), "grid-d4", n_steps=2_000).agent.max() < 1e-5
    found = map_symmetry(partial, partial.get_env(), "grid-d4", n_steps=2_000)
    assert found.gate is not None
    assert np.nanmax(found.gate) == 0


def test_the_command_draws_it_and_says_where_it_cannot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = agent(0.1, "partial")
    model.save(tmp_path / "agent.zip")
    world = ["--env", GRID, "--env-kwargs", "size:5", "broken_cells:0.1", "--symmetry", "grid-d4"]
    options = [str(tmp_path / "agent.zip"), *world, "--episodes", "5", "--states", "50", "--map"]
    assert audit([*options, str(tmp_path / "map.png")]) == 0
    assert (tmp_path / "map.png").stat().st_size > 10_000
    shown = capsys.readouterr().out
    assert "Map written to" in shown
    assert "\npartial " in shown
    pole = DQN("MlpPolicy", "CartPole-v1", buffer_size=100)
    with pytest.raises(ValueError, match="leave --map out"):
        map_symmetry(pole, make_vec_env("CartPole-v1", 2), "cartpole-z2", n_steps=200)
