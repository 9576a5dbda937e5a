"""``equirl train``: what it writes, which policy it trains, searches, buffers, batches of environments, continuing."""

import re
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml
from command_line import FAST, QUICK, SHORT, config, done, here, in_process, next_command
from stable_baselines3 import A2C, DQN
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from warm_process import run_python

from equirl.agents.cli.hyperparameters import check_hyperparameters
from equirl.agents.experiment_manager import EquirlExperimentManager
from equirl.agents.orbit_statistics import OrbitStatistics


def _curves(folder: Path) -> set[str]:
    (events,) = folder.rglob("events.out.tfevents.*")
    accumulator = EventAccumulator(str(events))
    accumulator.Reload()
    return set(accumulator.Tags()["scalars"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("trained")
    output = in_process("train", *QUICK, "-P", "--summary-episodes", "5", "-params", *FAST, cwd=folder)
    return folder, output


def test_train_writes_what_it_says(trained: tuple[Path, str]) -> None:
    folder, output = trained
    run = folder / "logs/dqn/equirl-GridWorld-v0_1"
    for name in ("equirl-GridWorld-v0.zip", "best_model.zip", "evaluations.npz", "learning_curve.png"):
        assert (run / name).stat().st_size > 0
        assert f"logs/dqn/equirl-GridWorld-v0_1/{name}" in output
    with np.load(run / "evaluations.npz") as evaluations:
        assert evaluations["timesteps"].tolist() == [60, 120]
        assert evaluations["successes"].shape == (2, 4)
    assert "eval/success_rate" in _curves(folder / "logs/tensorboard")
    last = output.strip().splitlines()[-1]
    known = r"95 % interval [01]\.\d{3} to [01]\.\d{3}"
    assert re.fullmatch(rf"Success rate: [01]\.\d{{3}} \(\d of 5 evaluation episodes, {known}\)", last)
    assert "120/120" in output  # the progress bar came to its end
    assert "enjoy --algo dqn --env equirl/GridWorld-v0 -f logs --exp-id 1" in output


def test_the_default_is_lambda_equitune_under_d4(trained: tuple[Path, str]) -> None:
    assert config(trained[0])["policy"] == "equirl.agents.policies.GridD4LambdaEquitunePolicy"
    assert "equivariant under grid-d4, lambda_equitune" in trained[1]


def test_enjoy_plot_and_record_use_the_trained_agent(
    trained: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = trained
    monkeypatch.chdir(folder)
    assert "Mean reward" in in_process("enjoy", "-n", "20", cwd=folder)  # in a window, on a dummy display
    assert "Mean reward" in done("enjoy", "--no-render", "-n", "20").out
    assert "Plot written to curves.png" in done("plot", "-w", "2", "-o", "curves.png").out
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    done("record", "-n", "20", "-o", "videos")
    (video,) = (folder / "videos").glob("*.mp4")
    assert video.stat().st_size > 0
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    told = done("enjoy", "-n", "20").out
    assert "There is no display here" in told
    assert "Mean reward" in told


def test_symmetry_and_method_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    base = [*QUICK, "--summary-episodes", "0", "-params", *FAST]
    output = done("train", "--symmetry", "grid-c4", "--method", "equizero", *base).out
    assert config(tmp_path)["policy"] == "equirl.agents.policies.GridC4EquizeroPolicy"
    assert "net_arch" in config(tmp_path)["policy_kwargs"]
    assert "Success rate:" not in output.split("Saving to")[1]
    plain = done("train", "--method", "plain", *base).out
    assert config(tmp_path, 2)["policy"] == "MlpPolicy"
    assert "callback" not in config(tmp_path, 2)
    assert "MlpPolicy, {'net_arch': [128, 128]}: without a symmetry, not equivariant" in plain
    # Continuing keeps the policy and the size of the grid, whichever they were.
    for run, policy in ((1, "GridC4EquizeroPolicy, equivariant"), (2, "DQNPolicy, not equivariant")):
        agent = f"logs/dqn/equirl-GridWorld-v0_{run}/equirl-GridWorld-v0.zip"
        again = done("train", "-i", agent, "--seed", "3", *SHORT, "-params", *FAST).out
        assert f"Policy: that of {agent}: {policy}" in again
        assert f"Settings of equirl/GridWorld-v0, as in logs/dqn/equirl-GridWorld-v0_{run}: {{'size': 4}}" in again
    short = ["--summary-episodes", "2", "--eval-freq", "-1", "-params", "n_timesteps:60"]
    low = here("train", "--require-success", "1.1", "--env-kwargs", "size:4", *short)
    assert low.status == 1
    assert "below the required 1.1" in low.out


def test_agents_of_other_origin_are_trained_further_without_our_callback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    A2C("MlpPolicy", "CartPole-v1", device="cpu").save("plain.zip")
    outcome = done("train", "--algo", "a2c", "--env", "CartPole-v1", "-i", "plain.zip", "-n", "120", *SHORT)
    assert "Policy: that of plain.zip: ActorCriticPolicy, not equivariant" in outcome.out
    assert not any(curve.startswith("symmetry/") for curve in _curves(tmp_path))


@pytest.mark.parametrize(
    ("policy", "callback", "expected"),
    [
        ("equirl.agents.EquivariantDQNPolicy", None, True),
        ("equirl.agents.policies.GridC4EquizeroPolicy", ["equirl.agents.SymmetryCallback"], True),
        ("MlpPolicy", [{"equirl.agents.SymmetryCallback": {"log_freq": 20}}], False),
    ],
)
def test_tensorboard_has_our_curves_whenever_the_policy_is_equivariant(
    policy: str, callback: Any, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    entry: dict[str, Any] = {"n_timesteps": 1200, "policy": policy, "learning_starts": 100, "train_freq": 100}
    if policy.endswith("EquivariantDQNPolicy"):
        entry["policy_kwargs"] = "dict(symmetry='grid-c4', net_arch=[16])"
    if callback is not None:
        entry["callback"] = callback
    Path("own.yml").write_text(yaml.safe_dump({"equirl/GridWorld-v0": entry}))
    done("train", "-conf", "own.yml", *SHORT)
    assert ("symmetry/equivariance_error" in _curves(tmp_path)) is expected


SEARCH = ["-optimize", "--n-trials", "2", "-n", "60", "--n-evaluations", "1", "--no-optim-plots"]
STORAGE = ["--storage", "sqlite:///study.db", "--study-name", "s"]
PRINT_POLICY = """
import sys, torch, stable_baselines3
original = stable_baselines3.DQN.learn
def learn(self, *args, **kwargs):
    print("TRAINED", type(self.policy).__name__, self.q_net.symmetry.name, self.q_net.method, self.policy.net_arch)
    return original(self, *args, **kwargs)
stable_baselines3.DQN.learn = learn
"""


def test_the_search_keeps_the_symmetry_and_so_does_the_trial_it_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    original = DQN.learn
    trained: list[tuple[str, ...]] = []

    def learn(self: DQN, *args: Any, **kwargs: Any) -> DQN:
        net: Any = self.q_net
        trained.append((type(self.policy).__name__, net.symmetry.name, net.method, str(self.policy.net_arch)))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(DQN, "learn", learn)
    chosen = "policy_kwargs:dict(symmetry='grid-c4', method='equizero', method_kwargs=dict(proxy_loss='entropy'))"
    params = ["policy:equirl.agents.EquivariantDQNPolicy", chosen, "learning_starts:20"]
    done("train", *QUICK, *SEARCH, *STORAGE, "-params", *params)
    assert [found[:3] for found in trained] == [("EquivariantDQNPolicy", "grid-c4", "equizero")] * 2
    assert {found[3] for found in trained} <= {"[64, 64]", "[256, 256]", "[400, 300]"}  # from the search
    assert not list(tmp_path.glob("logs/dqn/equirl-GridWorld-v0_*"))  # a search leaves no run without an agent

    trial = ["--trial-id", "1", "-n", "60", "--summary-episodes", "0"]
    done("train", *QUICK, *trial, *STORAGE, "-params", *params[:2])
    assert trained[-1][:3] == ("EquivariantDQNPolicy", "grid-c4", "equizero")
    for options, told in (
        (["--trial-id", "7", *STORAGE], "--trial-id 7 of the study 's' in sqlite:///study.db: there are fewer trials"),
        (["--trial-id", "0", *STORAGE[:3], "other"], "--trial-id 0 of the study 'other' in sqlite:///study.db cannot"),
    ):
        wrong = here("train", *QUICK, *SHORT, *options)
        assert wrong.status == 2
        assert len(wrong.err) == 1
        assert told in wrong.err[0]


def test_plain_rl_zoo3_trains_searches_and_never_drops_a_symmetry_silently(tmp_path: Path, checkout: Path) -> None:
    base = ["--algo", "dqn", "--env", "equirl/GridWorld-v0", "--gym-packages", "equirl.envs", *QUICK]
    ours = ["-conf", str(checkout / "agents/hyperparams/dqn.yml")]
    own = ["policy:'equirl.agents.EquivariantDQNPolicy'", "policy_kwargs:dict(symmetry='grid-c4')"]
    commands = [
        [*base, *ours, "-params", *FAST],
        [*base, *ours, *SEARCH, "-params", "learning_starts:20"],
        [*base, *ours, *SEARCH, "-params", *own],
    ]
    script = f"{PRINT_POLICY}from rl_zoo3.train import train\nfor sys.argv[1:] in {commands}: train()"
    run = run_python("-c", script, cwd=tmp_path)
    assert run.returncode == 1, run.stderr[-3000:]
    output = run.stdout + run.stderr
    assert output.count("TRAINED GridD4LambdaEquitunePolicy grid-d4 lambda_equitune [128, 128]") >= 1
    assert output.count("TRAINED GridD4LambdaEquitunePolicy grid-d4 lambda_equitune") == 1 + 2
    assert "EquivariantDQNPolicy needs a symmetry" in output


def test_augmentation_of_buffers_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for algorithm, kind, cls, params in (
        ("dqn", "replay", "SymmetryReplayBuffer", FAST),
        ("ppo", "rollout", "SymmetryRolloutBuffer", ["n_timesteps:64", "n_envs:1", "n_steps:32"]),
    ):
        buffer = [f"{kind}_buffer_class:equirl.agents.{cls}", f"{kind}_buffer_kwargs:dict(symmetry='grid-d4')"]
        done("train", "--algo", algorithm, "--method", "plain", *SHORT, "-params", *params, *buffer)
    assert config(tmp_path)["replay_buffer_class"] == "equirl.agents.SymmetryReplayBuffer"


def test_workers_in_other_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["--vec-env", "subproc", *QUICK, "--summary-episodes", "0", "-params", *FAST[:2], "n_envs:2"]
    done("train", *arguments)


def test_a_batch_of_environments_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = done(
        "train", *QUICK, "--vec-env", "vectorized", "--method", "canonical", "--summary-episodes", "4",
        "-params", *FAST[:2], "n_envs:4",
    )  # fmt: skip
    assert "GridD4CanonicalPolicy" in outcome.out
    assert "Success rate:" in outcome.out
    with (tmp_path / "logs/dqn/equirl-GridWorld-v0_1/0.monitor.csv").open() as file:
        assert file.readline().startswith("#")
        assert file.readline().startswith("r,l,t,is_success")
        assert len(file.readlines()) >= 4
    wrong = here("train", "--env", "CartPole-v1", "--vec-env", "vectorized")
    assert wrong.status == 2
    assert "has no vectorised form" in wrong.err[-1]


@pytest.mark.parametrize(
    ("algorithm", "environment", "params", "policy"),
    [
        ("qrdqn", "equirl/GridWorld-v0", FAST, "GridD4LambdaEquituneQRDQNPolicy"),
        ("a2c", "CartPole-v1", ["n_timesteps:64", "n_envs:2"], "CartpoleZ2EquituneActorCriticPolicy"),
        (
            "ppo_lstm",
            "CartPole-v1",
            ["n_timesteps:64", "n_envs:2", "n_steps:32", "n_epochs:1"],
            "CartpoleZ2EquituneRecurrentPolicy",
        ),
    ],
)
def test_other_algorithms_train(
    algorithm: str, environment: str, params: list[str], policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = ["--algo", algorithm, "--env", environment, "--eval-freq", "-1", "--summary-episodes", "2", "--seed", "0"]
    output = done("train", *base, "-params", *params).out
    assert policy in output
    assert "Final agent over 2 episodes" in output
    assert ("Success rate:" in output) == (environment != "CartPole-v1")


def test_rl_zoo3s_own_file_normalises_observations_of_an_equivariant_policy_by_orbits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = ["--algo", "ppo", "--env", "Acrobot-v1", "-n", "40", "--summary-episodes", "1", "--verbose", "0"]
    small = ["-params", "n_steps:16", "n_envs:2"]
    plain = done("train", *base, *small)
    assert "Acrobot-v1 has the symmetry acrobot-z2: --symmetry acrobot-z2" in plain.out
    done(*next_command(plain), "--no-render", "-n", "10")
    symmetric = done("train", *base, "--symmetry", "acrobot-z2", *small)
    done(*next_command(symmetric), "--no-render", "-n", "10")
    (saved,) = tmp_path.glob("logs/ppo/Acrobot-v1_2/Acrobot-v1/vecnormalize.pkl")
    normalize = VecNormalize.load(str(saved), DummyVecEnv([lambda: gym.make("Acrobot-v1")]))
    assert isinstance(normalize.obs_rms, OrbitStatistics)
    assert normalize.obs_rms.count > 40
    assert normalize.obs_rms.mean[[1, 3, 4, 5]] == pytest.approx(0, abs=1e-12)  # they change their sign


def test_the_summary_normalises_as_training_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    original = EquirlExperimentManager.create_envs

    def create(self: EquirlExperimentManager, *args: Any, **kwargs: Any) -> Any:
        environments: Any = original(self, *args, **kwargs)
        if kwargs.get("eval_env") and kwargs.get("no_log"):
            made.append(environments)
        return environments

    made: list[Any] = []
    monkeypatch.setattr(EquirlExperimentManager, "create_envs", create)
    small = ["-params", "n_steps:16", "n_envs:2"]
    done("train", "--algo", "ppo", "--env", "Acrobot-v1", "-n", "40", "--summary-episodes", "1", *small)
    assert float(made[0].obs_rms.count) > 30  # the states of the training, not none


def test_evaluation_takes_less_than_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[tuple[int, int]] = []

    def stop(self: EquirlExperimentManager) -> None:
        asked.append((self.eval_freq, self.n_eval_episodes))
        raise ValueError("seen")

    monkeypatch.setattr(EquirlExperimentManager, "setup_experiment", stop)
    for options in (
        [],
        ["--env", "CartPole-v1"],
        ["--env", "MountainCar-v0"],
        ["--env", "MiniGrid-Empty-8x8-v0"],
        ["--env", "CartPole-v1", "--eval-freq", "100"],
        ["--env", "CartPole-v1", "--eval-episodes", "50"],
    ):
        assert here("train", *options).status == 2
    assert asked == [(1_000, 100), (25_000, 5), (25_000, 5), (25_000, 5), (100, 5), (25_000, 50)]


def test_a_short_run_has_the_curve_of_its_training_episodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = done("train", "--algo", "a2c", "--env", "CartPole-v1", "-n", "300", "--verbose", "0")
    run = tmp_path / "logs/a2c/CartPole-v1_1"
    assert not (run / "evaluations.npz").exists()
    assert (run / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert "Final agent over 5 episodes" in outcome.out


def test_every_file_of_hyperparameters_is_right(checkout: Path) -> None:
    for path in sorted((checkout / "agents/hyperparams").glob("*.yml")):
        algorithm = path.stem.removeprefix("minigrid_").removesuffix("_methods")
        for environment, entry in yaml.safe_load(path.read_text()).items():
            for settings in entry.values() if path.stem.endswith("_methods") else (entry,):
                check_hyperparameters(algorithm, settings, f"{path}: {environment}")
