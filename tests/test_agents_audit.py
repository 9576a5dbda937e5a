import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from specialist import SIZE, specialist, states
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env

from equirl import build_symmetry
from equirl.agents.audit import audit_agent, disagreement_share
from equirl.agents.cli import main
from equirl.agents.scores import action_scores

GRID = {"size": SIZE}


def test_an_audit_tells_plain_from_symmetrized() -> None:
    environments = make_vec_env("equirl/GridWorld-v0", 10, env_kwargs={**GRID, "goal": "not-north-west"})
    known = make_vec_env("equirl/GridWorld-v0", 10, env_kwargs={**GRID, "goal": "north-west"})
    rows = audit_agent(specialist(), known, "grid-d4", n_episodes=40, n_states=500)
    assert [row.agent for row in rows] == ["plain", "equitune", "equizero", "lambda_equitune", "canonical"]
    plain, equitune, _, fitted, _ = rows
    assert plain.equivariance_error > 0.1
    assert plain.disagreement_share > 0.5
    for row in rows[1:]:
        assert row.equivariance_error < 1e-5
        assert row.disagreement_share < 0.01
    assert fitted.mean_return > 0.9 > equitune.mean_return
    assert all(row.low <= row.mean_return <= row.high for row in rows)
    assert all(row.success_rate == row.mean_return and row.n_episodes == 40 for row in rows)
    elsewhere = audit_agent(specialist(), environments, "grid-d4", n_episodes=40, n_states=500)
    assert elsewhere[0].mean_return < 0.4


def test_the_disagreement_share_counts_states() -> None:
    symmetry = build_symmetry("grid-c4", (3, SIZE, SIZE), 4)
    every, _ = states()
    observations = torch.as_tensor(every.observations)

    def always_up(rows: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(len(rows), 4)

    def up_if_the_agent_is_in_the_top_row(rows: torch.Tensor) -> torch.Tensor:
        scores = torch.ones(len(rows), 4)  # anything goes elsewhere
        scores[:, 0] += rows[:, 0, 0].sum(dim=1)
        return scores

    assert disagreement_share(always_up, symmetry, observations) == 1.0
    on_the_edge = observations[:, 0].clone()
    on_the_edge[:, 1:-1, 1:-1] = 0
    share = float(on_the_edge.flatten(1).sum(dim=1).clamp_max(1).float().mean())
    assert disagreement_share(up_if_the_agent_is_in_the_top_row, symmetry, observations) == pytest.approx(share)


def test_scores_are_what_the_agent_acts_on() -> None:
    observations = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    for model in (
        DQN("MlpPolicy", "CartPole-v1", device="cpu", buffer_size=10),
        PPO("MlpPolicy", "CartPole-v1", device="cpu"),
    ):
        greedy, _ = model.predict(observations, deterministic=True)
        assert np.array_equal(action_scores(model)(torch.as_tensor(observations)).argmax(dim=1).numpy(), greedy)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = specialist()
    agent, buffer = tmp_path / "agent.zip", tmp_path / "buffer.pkl"
    model.save(agent)
    model.save_replay_buffer(buffer)
    grid = [
        "--env",
        "equirl/GridWorld-v0",
        "--env-kwargs",
        f"size:{SIZE}",
        "goal:'north-west'",
        "--symmetry",
        "grid-c4",
    ]
    table = tmp_path / "audit.csv"
    assert main(["audit", str(agent), *grid, "--episodes", "20", "--states", "300", "--csv", str(table)]) == 0
    printed = capsys.readouterr().out
    assert "plain" in printed
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["agent"] for row in rows] == ["plain", "equitune", "equizero", "lambda_equitune", "canonical"]
    assert float(rows[0]["equivariance_error"]) > 0.1 > float(rows[1]["equivariance_error"])
    assert (tmp_path / "agent-audit.png").stat().st_size > 10_000

    out = tmp_path / "deep" / "out.zip"
    fitted = ["symmetrize", str(agent), *grid, "--method", "lambda_equitune", "-o", str(out)]
    assert (
        main([*fitted, "--replay-buffer", str(buffer), "--method-kwargs", "reads:'inputs'", "--fit-steps", "400"]) == 0
    )
    assert "λ fitted on" in capsys.readouterr().out
    every, _ = states()
    assert every.success_rate(DQN.load(out, device="cpu")) > 0.95
    bare = ["symmetrize", str(agent), *grid, "--method", "canonical", "-o", str(tmp_path / "bare")]
    assert main(bare) == 0
    assert every.success_rate(DQN.load(tmp_path / "bare.zip", device="cpu")) > 0
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]  # nothing half-written is left
    capsys.readouterr()
    assert main([*bare, "--method-kwargs", "seed:five"]) != 0
    assert "NameError" in capsys.readouterr().err
    assert main([*fitted, "--states", "200", "--fit-steps", "5"]) == 0
    assert "Collecting 200 states from the agent's own rollouts" in capsys.readouterr().out
    novelty = ["--method", "equizero", "--method-kwargs", "proxy_loss:'novelty'", "--replay-buffer", str(buffer)]
    assert main(["symmetrize", str(agent), *grid, *novelty, "-o", str(out)]) == 0
    assert every.success_rate(DQN.load(out, device="cpu")) > 0.85


def test_mistakes_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agent = tmp_path / "agent.zip"
    PPO("MlpPolicy", "CartPole-v1", device="cpu", n_steps=8).save(agent)
    cartpole = ["--env", "CartPole-v1", "--symmetry", "cartpole-z2"]
    out = ["-o", str(tmp_path / "out.zip")]
    for arguments, message in (
        (["symmetrize", str(tmp_path / "none.zip"), *cartpole, *out], "there is no agent at"),
        (["symmetrize", str(agent), "--env", "Acrobot-v1", "--symmetry", "acrobot-z2", *out], "spaces do not match"),
        (
            ["symmetrize", str(agent), "--env", "CartPole-v1", "--symmetry", "acrobot-z2", *out],
            "acts on observations [6]",
        ),
        (["symmetrize", str(agent), *cartpole, *out, "--replay-buffer", "b.pkl"], "PPO has no replay buffer"),
        (["audit", str(agent), "--env", "CartPole-v9", "--symmetry", "cartpole-z2"], "CartPole-v9: "),
        (["audit", str(agent), *cartpole, "--vecnormalize", "none.pkl"], "there is no VecNormalize at none.pkl"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out.zip").exists()
