"""One way to name a world of one's own, in every command: MODULE:ID, or --gym-packages MODULE."""

import itertools
import re
from pathlib import Path

import pytest
from command_line import SHORT, Outcome, done, here, next_command
from own_torus import write_torus
from stable_baselines3 import DQN
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from equirl.envs.making import render_problem

_COUNT = itertools.count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the current folder that no process has imported; it registers Torus-v0 and a symmetry of its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"torus_{next(_COUNT)}"
    write_torus(tmp_path, name)
    return name


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain agent of the torus, in no run's folder."""
    folder = tmp_path_factory.mktemp("agent")
    world = write_torus(folder, "torus_of_agent")()
    DQN("MlpPolicy", world, buffer_size=100, device="cpu", seed=0).save(folder / "agent.zip")
    return folder / "agent.zip"


def _commands(module: str, agent: Path) -> dict[str, list[str]]:
    """Return every command that takes an environment; ENV stands for it."""
    of_agent = [str(agent), "--env", "ENV", "--symmetry", module]
    learned = ["--env", "ENV", "-f", "runs"]
    return {
        "check": ["ENV", "--symmetry", module, "--transitions", "20", "--resets", "40"],
        "train": [*learned, "--symmetry", module, "-n", "60", *SHORT, "-params", "learning_starts:20"],
        "enjoy": [*learned, "--no-render", "-n", "5"],
        "record": [*learned, "-n", "3", "-o", "videos"],
        "plot": ["-e", "ENV", "-f", "runs", "-o", "curves.png"],
        "audit": [*of_agent, "--episodes", "1", "--states", "10", "--n-envs", "1"],
        "symmetrize": [*of_agent, "-o", "symmetric.zip"],
    }


@pytest.mark.parametrize("way", ["MODULE:ID", "--gym-packages"])
def test_every_command_takes_a_world_of_ones_own(way: str, module: str, agent: Path) -> None:
    status = {"check": 3}  # its dynamics cannot be checked, for nothing places it in a state
    for command, words in _commands(module, agent).items():
        named = f"{module}:{module}-v0" if way == "MODULE:ID" else f"{module}-v0"
        packages = [] if way == "MODULE:ID" else ["--gym-packages", module]
        outcome = here(command, *[named if word == "ENV" else word for word in words], *packages)
        assert outcome.status == status.get(command, 0), (command, outcome.err[-3:])
    done("enjoy", "--env", f"{module}-v0", "-f", "runs", "--no-render", "-n", "5")  # the run knows its module


_MISTAKES = {
    "torsu:T-v0": "'torsu:T-v0': no module of the name torsu is in this folder .* that holds torsu.py",
    "broken:T-v0": r"the module broken fails when it is imported \(RuntimeError: no display\)",
    "empty:T-v0": "the module empty registers no environment; gym.register",
    "MODULE:MODULE-v1": "the module MODULE registers MODULE-v0. Did you mean 'MODULE-v0'",
    "MODULE:": "the module MODULE registers MODULE-v0",
    "MODULE.py:MODULE-v0": "a module is named without .py: MODULE",
    ":MODULE-v0": "no module is named",
}


@pytest.mark.parametrize("command", ["check", "train", "enjoy", "record", "plot", "audit", "symmetrize"])
def test_a_wrong_name_is_one_line_with_the_mend(command: str, module: str, agent: Path) -> None:
    Path("broken.py").write_text("raise RuntimeError('no display')\n")
    Path("empty.py").write_text("")
    words = _commands(module, agent)[command]
    for name, told in _MISTAKES.items():
        given = name.replace("MODULE", module)
        outcome = here(command, *[given if word == "ENV" else word for word in words])
        _one_line(outcome, told.replace("MODULE", module))
    if "--symmetry" in words:
        unknown = [*words[: words.index("--symmetry")], "--symmetry", "nothere.toml"]
        named = [f"{module}:{module}-v0" if word == "ENV" else word for word in unknown]
        extra = ["-o", "s.zip"] if command == "symmetrize" else []
        _one_line(here(command, *named, *extra), "there is no symmetry file nothere.toml")


def _one_line(outcome: Outcome, told: str) -> None:
    assert outcome.status == 2
    assert len(outcome.err) == 1
    assert re.search(told, outcome.err[0]), outcome.err[0]


def test_settings_that_a_world_does_not_take_are_named_with_those_that_it_takes(module: str, agent: Path) -> None:
    world = f"{module}:{module}-v0"
    done("train", "--env", world, "-n", "60", *SHORT, "-params", "learning_starts:20")
    wrong = ["--env-kwargs", "mod:dense"]
    for words in (
        ["check", world, "--symmetry", module],
        ["train", "--env", world, *SHORT],
        ["enjoy", "--env", world, "--no-render"],
        ["audit", str(agent), "--env", world, "--symmetry", module],
    ):
        told = r"with mod:dense cannot be made: .*its settings are render_mode, mode, n"
        _one_line(here(*words, *wrong), told)
        _one_line(here(*words, "--env-kwargs", "mode:very dense"), "mode is sparse or dense, not very dense")


def test_envs_lists_what_a_module_registers(module: str) -> None:
    told = done("envs", f"{module}:").out
    assert re.search(rf"^{module}-v0 +{module}$", told, flags=re.MULTILINE)
    assert "CartPole" not in told
    assert re.search(rf"symmetries of your modules: .*{module}", told)
    everything = done("envs").out.splitlines()
    place = {row.split()[0]: number for number, row in enumerate(everything) if row.strip()}
    assert place["CartPole-v1"] < place[f"{module}-v0"] < place["FrozenLake-v1"] < place["BabyAI-GoToObj-v0"]
    some = done("envs", "cartpole").out
    assert "phys2d/CartPole-v1" in some
    assert "Acrobot" not in some
    assert "MiniGrid-Empty-5x5-v0" in done("envs", "MiniGrid-Empty-?x?-v0").out
    _one_line(here("envs", "no-such-world"), "no environment has 'no-such-world' in its name, .*MODULE:")
    _one_line(here("envs", "no_such_module:"), "no module of the name no_such_module")


def test_a_run_without_a_symmetry_says_so_at_its_end(module: str) -> None:
    short = ["-n", "60", "--verbose", "0", "--summary-episodes", "1", "-params", "learning_starts:20"]
    notice = "NOTE: this agent was trained without a symmetry; --symmetry NAME gives it one"
    told = done("train", "--env", f"{module}:{module}-v0", *short).out
    assert notice in told.split("Next")[1]
    assert f"your modules register {module}" in told or f", {module}" in told
    assert "NOTE" not in done("train", "--env", f"{module}-v0", "--method", "plain", *short).out
    assert "NOTE" not in done("train", "--env", f"{module}-v0", "--symmetry", module, *short).out


@pytest.mark.parametrize(
    ("algorithm", "hyperparameters"),
    [("dqn", "learning_starts: 20"), ("qrdqn", "learning_starts: 20"), ("ppo", "n_steps: 64"), ("a2c", "n_envs: 2")],
)
def test_short_runs_of_all_algorithms_have_our_curves(algorithm: str, hyperparameters: str, module: str) -> None:
    Path("own.yml").write_text(f"default:\n  n_timesteps: 120\n  policy: MlpPolicy\n  {hyperparameters}\n")
    world = ["--env", f"{module}:{module}-v0", "-conf", "own.yml", "--symmetry", module, "--method", "equitune"]
    done("train", "--algo", algorithm, *world, *SHORT)
    (events,) = Path("logs/tensorboard").rglob("events.out.tfevents.*")
    accumulator = EventAccumulator(str(events))
    accumulator.Reload()
    assert "symmetry/equivariance_error" in accumulator.Tags()["scalars"]


def test_a_world_without_pictures_is_not_shown_but_its_returns_are(module: str) -> None:
    text = Path(f"{module}.py").read_text()
    blind = text.replace("render_mode=None, ", "").replace("render_mode, self.mode", "time, self.mode")
    blind = blind.replace("= render_mode, mode", "= 0, mode").replace(module, f"blind_{module}")
    Path(f"blind_{module}.py").write_text(blind)
    world = ["--env", f"blind_{module}:blind_{module}-v0"]
    short = ["-n", "60", "--verbose", "0", "--summary-episodes", "1", "-params", "learning_starts:20"]
    trained = done("train", *world, *short)
    shown = done(*next_command(trained), "-n", "20").out  # just as it was printed
    assert f"blind_{module}-v0 cannot be shown (Torus.__init__ takes no render_mode)" in shown
    assert "Mean reward" in shown
    _one_line(here("record", *world, "-n", "5"), "gives no pictures for a video: Torus.__init__ takes no render_mode")
    assert "cannot be shown" not in done("enjoy", *world, "-n", "20", "--no-render").out
    assert render_problem("CartPole-v1", "human") is render_problem("equirl/EmptyRoom-v0", "rgb_array") is None
