"""The command as a user types it, in a process of its own."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from equirl.agents.cli import main

EQUIRL = [sys.executable, "-m", "equirl"]
FAST = ["learning_starts:20", "n_timesteps:120"]
QUICK = ["--eval-freq", "60", "--eval-episodes", "4", "--env-kwargs", "size:4", "--seed", "3"]


def _run(*arguments: str, cwd: Path, status: int = 0, program: list[str] = EQUIRL) -> str:
    environment = {**os.environ, "MPLBACKEND": "Agg", "SDL_VIDEODRIVER": "dummy", "COLUMNS": "120"}
    run = subprocess.run(
        [*program, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == status, run.stdout[-3000:] + run.stderr[-3000:]
    return run.stdout + run.stderr


def _config(folder: Path, run: int = 1) -> dict:
    path = folder / f"logs/dqn/equirl-GridWorld-v0_{run}/equirl-GridWorld-v0/config.yml"
    return dict(yaml.unsafe_load(path.read_text()))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("trained")
    output = _run("train", *QUICK, "-P", "--summary-episodes", "5", "-params", *FAST, cwd=folder)
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
    (events,) = (folder / "logs/tensorboard/equirl-GridWorld-v0").glob("*/events*")
    accumulator = EventAccumulator(str(events))
    accumulator.Reload()
    assert "eval/success_rate" in accumulator.Tags()["scalars"]
    last = output.strip().splitlines()[-1]
    assert re.fullmatch(r"Success rate: [01]\.\d{3} \(\d of 5 evaluation episodes\)", last)
    assert "120/120" in output  # the progress bar came to its end
    assert "enjoy --algo dqn --env equirl/GridWorld-v0 -f logs" in output


def test_the_default_is_lambda_equitune_under_d4(trained: tuple[Path, str]) -> None:
    assert _config(trained[0])["policy"] == "equirl.agents.policies.GridD4LambdaEquitunePolicy"


def test_enjoy_plot_and_record_use_the_trained_agent(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    assert "Mean reward" in _run("enjoy", "--no-render", "-n", "60", cwd=folder)
    assert "Mean reward" in _run("enjoy", "-n", "40", cwd=folder)  # in a window, on a dummy display
    assert "Plot written to curves.png" in _run("plot", "-w", "2", "-o", "curves.png", cwd=folder)
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    _run("record", "-n", "20", "-o", "videos", cwd=folder)
    (video,) = (folder / "videos").glob("*.mp4")
    assert video.stat().st_size > 0


def test_symmetry_and_method_from_the_command_line(tmp_path: Path) -> None:
    base = [*QUICK, "--summary-episodes", "0", "-params", *FAST]
    output = _run("train", "--symmetry", "grid-c4", "--method", "equizero", *base, cwd=tmp_path)
    assert _config(tmp_path)["policy"] == "equirl.agents.policies.GridC4EquizeroPolicy"
    assert "net_arch" in _config(tmp_path)["policy_kwargs"]
    _run("train", "--method", "plain", *base, cwd=tmp_path)
    assert _config(tmp_path, 2)["policy"] == "MlpPolicy"
    assert "callback" not in _config(tmp_path, 2)
    assert "Success rate:" not in output.split("Saving to")[1]
    _run("train", "-i", "logs/dqn/equirl-GridWorld-v0_1/equirl-GridWorld-v0.zip", *base, cwd=tmp_path)
    short = [*base[:-1], "n_timesteps:60"]
    assert "below the required 1.1" in _run(
        "train", "--require-success", "1.1", *QUICK, "--summary-episodes", "2", "-params", *short[-2:],
        cwd=tmp_path, status=1,
    )  # fmt: skip


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


def test_the_search_keeps_the_symmetry_and_so_does_the_trial_it_finds(tmp_path: Path) -> None:
    program = [sys.executable, "-c", PRINT_POLICY + "from equirl.agents.cli import main; sys.exit(main())"]
    chosen = "policy_kwargs:dict(symmetry='grid-c4', method='equizero', method_kwargs=dict(proxy_loss='entropy'))"
    params = ["policy:'equirl.agents.EquivariantDQNPolicy'", chosen, "learning_starts:20"]
    output = _run("train", *QUICK, *SEARCH, *STORAGE, "-params", *params, cwd=tmp_path, program=program)
    trained = re.findall(r"TRAINED (\w+) (\S+) (\w+) (\[.*\])", output)
    assert [found[:3] for found in trained] == [("EquivariantDQNPolicy", "grid-c4", "equizero")] * 2
    assert {found[3] for found in trained} <= {"[64, 64]", "[256, 256]", "[400, 300]"}  # from the search

    trial = ["--trial-id", "1", "-n", "60", "--summary-episodes", "0"]
    output = _run("train", *QUICK, *trial, *STORAGE, "-params", *params[:2], cwd=tmp_path, program=program)
    assert "TRAINED EquivariantDQNPolicy grid-c4 equizero" in output


def test_plain_rl_zoo3_trains_searches_and_never_drops_a_symmetry_silently(tmp_path: Path, checkout: Path) -> None:
    program = [sys.executable, "-c", PRINT_POLICY + "from rl_zoo3.train import train; train()"]
    base = ["--algo", "dqn", "--env", "equirl/GridWorld-v0", "--gym-packages", "equirl.envs", *QUICK]
    ours = ["-conf", str(checkout / "agents/hyperparams/dqn.yml")]
    output = _run(*base, *ours, "-params", *FAST, cwd=tmp_path, program=program)
    assert "TRAINED GridD4LambdaEquitunePolicy grid-d4 lambda_equitune [128, 128]" in output
    output = _run(*base, *ours, *SEARCH, "-params", "learning_starts:20", cwd=tmp_path, program=program)
    assert output.count("TRAINED GridD4LambdaEquitunePolicy grid-d4 lambda_equitune") == 2
    params = ["policy:'equirl.agents.EquivariantDQNPolicy'", "policy_kwargs:dict(symmetry='grid-c4')"]
    output = _run(*base, *ours, *SEARCH, "-params", *params, cwd=tmp_path, program=program, status=1)
    assert "EquivariantDQNPolicy needs a symmetry" in output


def test_augmentation_of_the_replay_buffer_from_the_command_line(tmp_path: Path) -> None:
    buffer = [
        "replay_buffer_class:'equirl.agents.SymmetryReplayBuffer'",
        "replay_buffer_kwargs:dict(symmetry='grid-d4')",
    ]
    _run("train", "--method", "plain", *QUICK, "--summary-episodes", "0", "-params", *FAST, *buffer, cwd=tmp_path)
    assert _config(tmp_path)["replay_buffer_class"] == "equirl.agents.SymmetryReplayBuffer"


def test_augmentation_of_rollouts_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    buffer = [
        "rollout_buffer_class:'equirl.agents.SymmetryRolloutBuffer'",
        "rollout_buffer_kwargs:dict(symmetry='grid-d4')",
    ]
    base = ["--algo", "ppo", "--method", "plain", "--eval-freq", "-1", "--summary-episodes", "0"]
    assert main(["train", *base, "-params", "n_timesteps:64", "n_envs:1", "n_steps:32", *buffer]) == 0


def test_workers_in_other_processes(tmp_path: Path) -> None:
    arguments = ["--vec-env", "subproc", *QUICK, "--summary-episodes", "0", "-params", *FAST, "n_envs:2"]
    _run("train", *arguments, cwd=tmp_path)


def test_help_is_short_and_version_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def _in_process(*arguments: str) -> str:
        assert main(arguments) == 0
        return capsys.readouterr().out

    overview = _run(cwd=tmp_path)
    assert overview == _in_process("--help")
    commands = re.findall(r"^  (\w+)  +\S", overview, flags=re.MULTILINE)
    assert {"train", "enjoy", "plot", "record", "envs", "symmetrize", "audit", "benchmark"} <= set(commands)
    for command in ("train", "enjoy", "plot", "record", "benchmark"):
        text = _in_process(command, "--help")
        assert text.startswith("usage: equirl")
        assert len(text.splitlines()) < 45
        assert "example" in text
    assert re.fullmatch(r"equirl \d+\.\d+\.\d+\n", _in_process("--version"))
    assert "--n-startup-trials" in _run("train", "--help-all", cwd=tmp_path)


def test_envs_lists_groups(tmp_path: Path) -> None:
    output = _run("envs", cwd=tmp_path)
    assert re.search(r"equirl/GridWorld-v0 +grid-d4 +D4 +8 +\[3, 7, 7\] +4", output)
    assert re.search(r"equirl/GridWorld-v0 +grid-c4 +C4 +4", output)
    path = Path(output.strip().splitlines()[-1].split(": ")[1])
    assert "equirl/GridWorld-v0" in yaml.safe_load(path.read_text())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], r"equirl: command 'trian' is unknown; known: .* Did you mean 'train'\?"),
        (["train", "--method", "equitone"], r"method 'equitone' is unknown; .* Did you mean 'equitune'\?"),
        (["train", "--symmetry", "grid-d5"], r"symmetry 'grid-d5' is unknown; .* Did you mean 'grid-d4'\?"),
        (["train", "--env", "equirl/GridWrld-v0"], r"'equirl/GridWrld-v0' is not .* mean 'equirl/GridWorld-v0'\?"),
        (["train", "--env", "MountainCar-v0", "--method", "equitune"], r"pass --symmetry NAME"),
        (["train", "--env", "CartPole-v1", "--symmetry", "grid-d4"], r"acts on images \[C, H, W\]"),
        (
            ["train", "--algo", "trpo", "--env", "CartPole-v1", "--symmetry", "cartpole-z2"],
            r"are for --algo dqn, qrdqn, ppo, a2c; got --algo trpo",
        ),
        (["train", "--env", "CartPole-v1", "-params", "normalize:True"], r"`normalize` rescales each coordinate"),
        (["train", "--env", "CartPole-v1", "-params", "frame_stack:4"], r"`frame_stack` makes the observation"),
        (["train", "--env-kwargs", "slip:2.0"], r"slip is a probability in \[0, 1\], not 2.0"),
        (["train", "-i", "model.zip", "--method", "equizero"], r"model.zip keeps the policy it was trained with"),
        (["enjoy", "--no-render"], r"there are no runs in logs/dqn: train one with `equirl train`"),
        (["benchmark", "lr"], r"study 'lr' is unknown; known: control, minigrid, rl, zero-shot"),
        (["benchmark", "minigrid", "--tasks", "empty-rom"], r"task 'empty-rom' is unknown; .*'empty-room'"),
        (["benchmark", "zero-shot", "--variants", "equitun"], r"variant 'equitun' is unknown"),
        (["benchmark", "control", "--environments", "CartPole-v2"], r"task 'CartPole-v2' is unknown"),
        (["benchmark", "rl", "--agents", "grid-d4/equitone"], r"method 'equitone' is unknown"),
        (["benchmark", "rl", "--report-only", "--out", "nowhere"], r"nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, line)


def test_a_mistake_shows_no_traceback_in_a_process_either(tmp_path: Path) -> None:
    output = _run("train", "--method", "equitone", cwd=tmp_path, status=2)
    assert output.count("\n") == 1
    assert "Traceback" not in output


def test_a_small_study_resumes_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "benchmark", "rl", "--agents", "plain", "grid-c4/equizero+gradient=straight_through", "--n-seeds", "2",
        "--size", "3", "--total-timesteps", "700", "--eval-freq", "100", "--threshold", "0.2", "--out", "study",
        "--n-jobs", "1",
    ]  # fmt: skip
    output = _run(*arguments, cwd=tmp_path)
    assert "4 runs, 4 to do" in output
    with (tmp_path / "study/study.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["agent"] for row in rows} == {"plain", "grid-c4/equizero+gradient=straight_through"}
    assert {row["seed"] for row in rows} == {"0", "1"}
    assert all(0 <= float(row["success_rate"]) <= 1 for row in rows)
    assert (tmp_path / "study/learning_curves.png").read_bytes().startswith(b"\x89PNG")
    assert "| plain |" in (tmp_path / "study/summary.md").read_text()
    first = (tmp_path / "study/study.csv").read_bytes()

    lost = next((tmp_path / "study/runs").glob("plain-seed1-*.csv"))
    lost.unlink()
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 0
    assert "4 runs, 1 to do" in capsys.readouterr().out
    columns = [line.rsplit(b",", 1)[0] for line in first.splitlines()]  # without the seconds
    again = [line.rsplit(b",", 1)[0] for line in (tmp_path / "study/study.csv").read_bytes().splitlines()]
    assert columns == again  # equal seeds, equal runs
    other = ["--stop-after", "2", "--agents", "plain", "--n-seeds", "1"]
    assert main([*arguments, *other]) == 0
    assert "1 runs, 1 to do" in capsys.readouterr().out  # another setting, another run


@pytest.mark.parametrize(
    ("algorithm", "environment", "params", "policy"),
    [
        ("qrdqn", "equirl/GridWorld-v0", FAST, "GridD4LambdaEquituneQRDQNPolicy"),
        ("ppo", "MiniGrid-DoorKey-5x5-v0", ["n_timesteps:64", "n_steps:16", "n_envs:2"], "MinigridEgocentricZ2"),
        ("a2c", "CartPole-v1", ["n_timesteps:64", "n_envs:2"], "CartpoleZ2EquituneActorCriticPolicy"),
    ],
)
def test_other_algorithms_train(
    algorithm: str,
    environment: str,
    params: list[str],
    policy: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    base = ["--algo", algorithm, "--env", environment, "--eval-freq", "-1", "--summary-episodes", "2", "--seed", "0"]
    assert main(["train", *base, "-params", *params]) == 0
    output = capsys.readouterr().out
    assert policy in output
    assert "Final agent over 2 episodes" in output
    assert ("Success rate:" in output) == (algorithm != "a2c")


def test_a_world_behind_a_view_trains_and_is_enjoyed(tmp_path: Path) -> None:
    room = ["--env", "equirl/EmptyRoom-v0"]
    output = _run(
        "train", *room, "--eval-freq", "60", "--eval-episodes", "2", "--summary-episodes", "2", "-params", *FAST,
        cwd=tmp_path,
    )  # fmt: skip
    assert "MinigridD4LambdaEquitunePolicy" in output
    assert "Success rate:" in output
    assert "Mean reward" in _run("enjoy", *room, "--no-render", "-n", "60", cwd=tmp_path)


STUDIES = {
    "minigrid": [
        *["--tasks", "empty-room", "--n-seeds", "1", "--total-timesteps", "1000", "--n-eval-episodes", "2"],
        *["--agents", "plain", "equitune"],
    ],
    "control": [
        *["--environments", "CartPole-v1", "--n-seeds", "1", "--total-timesteps", "1500", "--n-episodes", "2"],
        *["--variants", "plain", "equizero, max_value"],
    ],
    "zero-shot": [
        *["--size", "3", "--n-seeds", "2", "--total-timesteps", "600", "--groups", "grid-c4", "--variants", "plain"],
        "equizero, novelty",
        "equizero, ensemble of the seeds",
        "λ-equitune, inputs, 300 states",
    ],
}


@pytest.mark.parametrize(
    ("study", "picture"),
    [("minigrid", "learning_curves.png"), ("zero-shot", "success.png"), ("control", "returns.png")],
)
def test_small_studies_write_what_they_say(
    study: str, picture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["benchmark", study, *STUDIES[study], "--n-jobs", "1", "--out", "study"]
    assert main(arguments) == 0
    output = capsys.readouterr().out
    for name in ("study.csv", "record.json", "summary.md", picture):
        assert (tmp_path / "study" / name).stat().st_size > 0
    assert (tmp_path / "study/summary.md").read_text().strip() in output
    assert main(arguments) == 0
    assert " 0 to do" in capsys.readouterr().out


def test_a_batch_of_environments_trains(tmp_path: Path) -> None:
    output = _run(
        "train", *QUICK, "--vec-env", "vectorized", "--method", "canonical", "--summary-episodes", "4",
        "-params", *FAST, "n_envs:4", cwd=tmp_path,
    )  # fmt: skip
    assert "GridD4CanonicalPolicy" in output
    assert "Success rate:" in output
    with (tmp_path / "logs/dqn/equirl-GridWorld-v0_1/0.monitor.csv").open() as file:
        assert file.readline().startswith("#")
        assert file.readline().startswith("r,l,t,is_success")
        assert len(file.readlines()) >= 4
    message = _run("train", "--env", "CartPole-v1", "--vec-env", "vectorized", cwd=tmp_path, status=2)
    assert "has no vectorised form" in message
