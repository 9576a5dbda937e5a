"""Worlds, symmetries and hyperparameters of a user's own module, from the command line to the saved agent."""

from pathlib import Path

import pytest
from command_line import SHORT, done, here, in_process, next_command
from warm_process import run_python

_MODULE = """
import gymnasium as gym
import numpy as np
from equirl import MDPSymmetry, cyclic_group, permutation_representation, register_symmetry
from equirl import signed_permutation_representation


class World(gym.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, render_mode=None, reward=1.0, end=0.2):
        self.render_mode, self.reward, self.end = render_mode, reward, end

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        ended = bool(self.np_random.random() < self.end)
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), self.reward, ended, False, {}

    def render(self):
        return np.zeros((32, 32, 3), np.uint8)


def mirror(shape, n_actions):
    group = cyclic_group(2)
    signs = signed_permutation_representation(group, [[0, 1]] * 2, [[1, 1], [-1, -1]])
    return MDPSymmetry("own-mirror", signs, permutation_representation(group))


register_symmetry("own-mirror", mirror)
gym.register("OwnWorld-v0", World)
"""

_FILE = """
default:
  n_timesteps: 100
  policy: MlpPolicy
  learning_starts: 20
"""

_LOAD = """
import sys, numpy
from stable_baselines3 import DQN
for file in sys.argv[1:]:
    agent = DQN.load(file, device="cpu")
    agent.predict(numpy.zeros(2, "float32"))
    print(agent.q_net.symmetry.name, agent.q_net.method)
"""

OWN = ["--env", "OwnWorld-v0", "--gym-packages", "own_world", "-conf", "own.yml"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder, with a space in its name, that holds the module and a file of hyperparameters."""
    folder = tmp_path_factory.mktemp("own worlds")
    (folder / "own_world.py").write_text(_MODULE)
    (folder / "own.yml").write_text(_FILE)
    return folder


@pytest.fixture(autouse=True)
def _in_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))


def test_a_module_in_the_current_folder_is_found(folder: Path) -> None:
    output = in_process("train", *OWN, "-f", "found", *SHORT, cwd=folder)
    assert "MlpPolicy, {}: without a symmetry, not equivariant; --symmetry NAME gives it one" in output


_KEPT: dict[str, list[str]] = {
    "lambda_equitune": ["--symmetry", "own-mirror"],
    "equizero": ["--symmetry", "own-mirror", "--method", "equizero"],
    "canonical": [
        *["-params", "policy:equirl.agents.EquivariantDQNPolicy"],
        "policy_kwargs:dict(symmetry='own-mirror', method='canonical')",
    ],
    "equitune": [
        *["--symmetry", "own-mirror", "--method", "equitune"],
        *["-params", "replay_buffer_class:equirl.agents.SymmetryReplayBuffer"],
        "replay_buffer_kwargs:dict(symmetry='own-mirror')",
    ],
}


def test_an_agent_keeps_a_symmetry_that_only_the_module_registers(tmp_path: Path) -> None:
    agents = []
    for method, options in _KEPT.items():
        done("train", *OWN, "-f", f"kept-{method}", *SHORT, *options)
        agents.append(str(Path(f"kept-{method}/dqn/OwnWorld-v0_1/OwnWorld-v0.zip").absolute()))
    run = run_python("-c", _LOAD, *agents, cwd=tmp_path)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.split() == [word for method in _KEPT for word in ("own-mirror", method)]


def test_a_search_keeps_it_too() -> None:
    search = ["-optimize", "--n-trials", "1", "--n-evaluations", "1", "--no-optim-plots", "-n", "60"]
    output = done("train", *OWN, "--symmetry", "own-mirror", "-f", "search", *search).out
    assert "equivariant under own-mirror" in output
    assert "Number of finished trials:  1" in output


@pytest.mark.parametrize(
    "options",
    [
        ["--gym-packages", "own_world", "--env", "OwnWorld-v0", "-f", "my logs"],
        ["--env", "own_world:OwnWorld-v0", "-f", "uuid", "-uuid"],
        ["--env", "own_world:OwnWorld-v0", "-f", "settings", "--env-kwargs", "reward:7", "end:1.0"],
    ],
    ids=["packages", "uuid", "settings"],
)
def test_the_printed_command_shows_the_agent(options: list[str]) -> None:
    trained = done("train", *options, "-conf", "own.yml", "--summary-episodes", "2", "--verbose", "0")
    words = next_command(trained)
    shown = done(*words, "--no-render", "-n", "20").out
    if "settings" in options:
        assert "mean return 7.000" in trained.out
        assert "Mean reward: 7.00" in shown
    if "my logs" in options:
        # The run itself knows its module; a video is made, too.
        done("enjoy", "--env", "OwnWorld-v0", "-f", "my logs", "--no-render", "-n", "20")
        done("record", "--env", "OwnWorld-v0", "-f", "my logs", "-n", "10")
        assert list(Path("my logs").rglob("*.mp4"))


def test_training_goes_on_in_the_world_of_the_run() -> None:
    done("train", *OWN, "-f", "first", *SHORT, "--env-kwargs", "reward:7", "end:1.0")
    agent = "first/dqn/OwnWorld-v0_1/OwnWorld-v0.zip"
    again = ["--env", "OwnWorld-v0", "-conf", "own.yml", "-i", agent, "-f", "second", "--summary-episodes", "2"]
    output = done("train", *again).out
    assert "as in first/dqn/OwnWorld-v0_1: {'end': 1.0, 'reward': 7}" in output
    assert "mean return 7.000" in output
    output = done("train", *again, "--env-kwargs", "reward:3", "end:1.0").out
    assert "mean return 3.000" in output


def test_a_time_limit_outside_counts_whole_episodes() -> None:
    limit = 'env_wrapper:[{"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 9}}]'
    evaluated = ["--eval-freq", "50", "--eval-episodes", "2", "--summary-episodes", "3", "--verbose", "0"]
    endless = ["--env-kwargs", "end:0.0", "-params", limit]
    trained = done("train", *OWN, "-f", "limited", *evaluated, *endless)
    assert "Final agent over 3 episodes: mean return 9.000, 95 % interval -" in trained.out
    rows = Path("limited/dqn/OwnWorld-v0_1/0.monitor.csv").read_text().splitlines()[2:]
    assert [row.split(",")[:2] for row in rows] == [["9.0", "9"]] * 11
    assert "Mean reward: 9.00 +/- 0.00" in done(*next_command(trained), "--no-render", "-n", "30").out
    reward = '{"gymnasium.wrappers.TransformReward": {"func": __import__("math").sqrt}}'
    wrapped = ["--env-kwargs", "reward:4", "end:1.0", "-params", f"env_wrapper:[{reward}]"]
    outcome = done("train", *OWN, "-f", "shaped", "--summary-episodes", "2", "--eval-freq", "-1", *wrapped)
    assert "mean return 4.000" in outcome.out  # the world's own reward, as SB3 reports it


def test_what_is_wrong_with_a_module_is_one_line(folder: Path) -> None:
    (folder / "broken_world.py").write_text("raise RuntimeError('no display')\n")
    for options, told in (
        (["--gym-packages", "no_such_world"], "no_such_world: no module of the name no_such_world is in this folder"),
        (["--env", "no_such_world:World-v0"], "holds no_such_world.py, or name that folder in PYTHONPATH"),
        (["--gym-packages", "broken_world"], "fails when it is imported (RuntimeError: no display)"),
        ([*OWN, "--env-kwargs", "size:3"], "environment OwnWorld-v0 with size:3 cannot be made"),
        ([*OWN, "--symmetry", "grid-d4"], "symmetry 'grid-d4'"),
        ([*OWN, "--symmetry", "own-miror"], "Did you mean 'own-mirror'?"),
    ):
        wrong = here("train", *options, "-f", "wrong", *SHORT)
        assert wrong.status == 2
        assert len(wrong.err) == 1
        assert told in wrong.err[0]
    assert not list(folder.glob("wrong/dqn/*"))  # what cannot start leaves no run behind
