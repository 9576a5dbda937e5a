import csv
import dataclasses
import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from small_worlds import KINDS, World, mirror, policy_name
from specialist import SIZE, specialist, states
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from equirl import build_symmetry
from equirl.agents import LambdaFit, fit_lambda, symmetrize_agent
from equirl.agents.audit import (
    AUDIT_COLUMNS,
    audit_agent,
    disagreement_share,
    draw_audit,
)
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
    elsewhere = audit_agent(specialist(), environments, "grid-d4", n_episodes=20, n_states=60)
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


def test_greedy_actions_differ_by_the_spread_of_the_scores_not_by_their_size() -> None:
    symmetry, states = mirror("box"), torch.tensor([[0.5, 0.0], [0.0, 0.0]])

    def always_left_by_a_hair(rows: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[1e5 + 1, 1e5]]).expand(len(rows), 2)

    assert disagreement_share(always_left_by_a_hair, symmetry, states) == 1.0
    round_off = torch.tensor([[1e5, 1e5 * (1 + 1e-7)]])
    assert disagreement_share(lambda rows: round_off.expand(len(rows), 2), symmetry, states) == 0.0
    for scores in (torch.full((2, 2), torch.nan), torch.full((2, 2), torch.inf)):
        with pytest.raises(ValueError, match="scores are not finite"):
            disagreement_share(lambda rows, scores=scores: scores, symmetry, states)  # type: ignore[misc]
    with pytest.raises(ValueError, match="share of some states; got none"):
        disagreement_share(always_left_by_a_hair, symmetry, states[:0])


class Watched(gym.Wrapper[Any, Any, Any, Any]):
    """Counts steps, and says how an episode went as it is told to."""

    steps = 0

    def __init__(self, env: gym.Env[Any, Any], success: bool | None = None) -> None:
        super().__init__(env)
        self.success = success

    def step(self, action: Any) -> Any:
        Watched.steps += 1
        *transition, info = self.env.step(action)
        return *transition, info if self.success is None else {**info, "is_success": self.success}


def test_what_can_be_known_at_the_start_is_said_before_any_step() -> None:
    Watched.steps = 0
    venv = make_vec_env(lambda: Watched(World("box")), 2)
    plain = DQN("MlpPolicy", World("box"), buffer_size=10, device="cpu", seed=0)
    equivariant = symmetrize_agent(plain, mirror("box"))
    continuous = SAC("MlpPolicy", "Pendulum-v1", buffer_size=10, device="cpu")
    for model, settings, error, message in (
        (equivariant, {}, ValueError, "this agent is equivariant already"),
        (continuous, {}, ValueError, "acts on observations"),
        (plain, {"n_episodes": 0}, ValueError, "n_episodes must be a whole number from 1; got 0"),
        (plain, {"n_episodes": -5}, ValueError, "n_episodes must be a whole number from 1; got -5"),
        (plain, {"n_episodes": math.nan}, TypeError, "n_episodes must be a whole number from 1; got nan"),
        (plain, {"n_states": 0}, ValueError, "n_states must be a whole number from 10; got 0"),
        (plain, {"seed": -1}, ValueError, "seed must be a whole number from 0; got -1"),
        (plain, {"method_kwargs": {"lamda": {}}}, ValueError, "method 'lamda' is unknown.*Did you mean 'lambda_equ"),
        (plain, {"method_kwargs": {"equitune": {"reads": 1}}}, ValueError, "takes no method_kwargs"),
        (plain, {"method_kwargs": {"lambda_equitune": {"reads": "pixels"}}}, ValueError, "reads 'pixels' is unknown"),
        (plain, {"method_kwargs": {"equizero": {"proxy_loss": "values"}}}, ValueError, "'values' is unknown"),
        (plain, {"method_kwargs": {"equizero": {"proxy_loss": "bellman_residual"}}}, ValueError, "replay buffer"),
        (plain, {"method_kwargs": {"canonical": {"sed": 1}}}, ValueError, "'sed' is unknown"),
    ):
        with pytest.raises(error, match=message):
            audit_agent(model, venv, mirror("box"), **settings)
    with pytest.raises(ValueError, match=r"the agent sees Box.*but the environment gives Discrete"):
        audit_agent(plain, make_vec_env(lambda: Watched(World("discrete")), 1), mirror("box"))
    assert Watched.steps == 0


@pytest.fixture
def short_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let audits fit λ for 20 steps: these tests look at everything but how well it fits."""
    monkeypatch.setattr(
        "equirl.agents.symmetrization.fit_lambda",
        lambda model, observations, fit: fit_lambda(model, observations, LambdaFit(steps=20)),
    )


@pytest.mark.usefixtures("short_fits")
def test_equal_seeds_give_equal_audits_and_nothing_moves() -> None:
    venv = VecNormalize(make_vec_env(lambda: World("box"), 3), norm_obs=False)
    agent = PPO("MlpPolicy", venv, n_steps=8, batch_size=8, device="cpu", seed=0).learn(24)
    count, mean = venv.ret_rms.count, float(venv.ret_rms.mean)
    short = {"n_episodes": 4, "n_states": 30, "deterministic": False}
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    first, again = (audit_agent(agent, venv, mirror("box"), seed=3, **short) for _ in range(2))  # type: ignore[arg-type]
    assert first == again
    assert (venv.ret_rms.count, float(venv.ret_rms.mean), venv.training, venv.norm_reward) == (count, mean, True, True)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]
    assert all(float(4 * row.mean_return).is_integer() for row in first)  # rewards of the world, not normalised


@pytest.mark.usefixtures("short_fits")
def test_rows_say_what_is_not_known(tmp_path: Path) -> None:
    agent = DQN("MlpPolicy", World("box"), buffer_size=10, device="cpu", seed=0)
    for successes, expected in (((True, True), 1.0), ((True, None), None)):
        makers = [lambda success=success: Monitor(Watched(World("box"), success)) for success in successes]
        rows = audit_agent(agent, DummyVecEnv(makers), mirror("box"), n_episodes=4, n_states=10)
        assert [row.success_rate for row in rows] == [expected] * 5
        low = {None if row.success_low is None else round(row.success_low, 4) for row in rows}
        assert low == ({None} if expected is None else {0.4729})  # 0.05 ** (1 / 4)
    unknown = dataclasses.replace(rows[0], low=math.nan, high=math.nan)
    assert unknown.cells()[2:7] == ("", "", "", "", "")
    assert len(unknown.cells()) == len(AUDIT_COLUMNS)
    draw_audit([unknown, *rows[1:]], "some", tmp_path / "some.png")
    draw_audit([unknown], "none", tmp_path / "none.png")
    assert (tmp_path / "none.png").stat().st_size > 5_000
    with pytest.raises(ValueError, match="nothing to draw"):
        draw_audit([], "nothing", tmp_path / "nothing.png")


@pytest.mark.usefixtures("short_fits")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "box"])
def test_all_kinds_of_observations_are_audited(kind: str) -> None:
    agent = DQN(policy_name(kind), World(kind), buffer_size=10, device="cpu", seed=0, policy_kwargs={"net_arch": [8]})
    settings = {"equizero": {"proxy_loss": "novelty"}}
    venv = make_vec_env(lambda: World(kind), 2)
    rows = audit_agent(agent, venv, mirror(kind), n_episodes=2, n_states=20, method_kwargs=settings)
    assert rows[0].equivariance_error > 1e-3
    assert all(row.equivariance_error < 1e-5 for row in rows[1:])


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
    assert "seed of the canonical choice must be a whole number from 0; got 'five'" in capsys.readouterr().err
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
        (["symmetrize", str(tmp_path / "none.zip"), *cartpole, *out], "none.zip"),
        (["symmetrize", str(agent), "--env", "Acrobot-v1", "--symmetry", "acrobot-z2", *out], "spaces do not match"),
        (
            ["symmetrize", str(agent), "--env", "CartPole-v1", "--symmetry", "acrobot-z2", *out],
            "acts on observations [6]",
        ),
        (
            ["symmetrize", str(agent), *cartpole, *out, "--replay-buffer", "b.pkl"],
            "there is no file 'b.pkl'",
        ),
        (["audit", str(agent), "--env", "CartPole-v9", "--symmetry", "cartpole-z2"], "'CartPole-v9' is not registered"),
        (["audit", str(agent), *cartpole, "--vecnormalize", "none.pkl"], "--vecnormalize: there is no file 'none.pkl'"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out.zip").exists()
