"""Command lines of every subcommand, with budgets so small that one takes about a second."""

from __future__ import annotations

import pickle
from pathlib import Path

from stable_baselines3.common.vec_env import VecNormalize

from equirl.agents.cli import main
from fuzz.agents_at_hand import GRID, agent, environments
from fuzz.command_lines import CommandTarget, Option, inside
from fuzz.study_commands import study_commands
from fuzz.wrong_texts import COUNTS, DEVICES, FROM_ZERO, METHODS, OUTPUTS, REALS, THREADS

__all__ = ["command_targets", "make_folder"]

_NAMES = ("", " ", "grid", "None", "0", "λ", "x" * 300, "grid-d4 ", "GRID-D4", "grid_d4", "grid-d4,grid-c4")
_AGENTS = ("missing.zip", "empty.zip", "text.txt", "folder", "random.bin", "", "a" * 300, "picture.png", "stats.pkl")
_TRAINED = tuple(text for text in _AGENTS if text)  # rl_zoo3 takes none for "from the start"
_PICKLES = ("missing.pkl", "empty.zip", "text.txt", "folder", "random.bin", "agent.zip", "number.pkl", "cut.pkl", "")
_ENVIRONMENTS = (
    "",
    "equirl/GridWrld-v0",
    "GridWorld",
    "CartPole-v99",
    "nothing:Env-v0",
    "CartPole",
    "-v0",
    "a b",
    "Nothing-v3",
)
_GRID_SETTINGS = (
    *("size", "size:", ":3", "", "sizes:3", "size:0", "size:-3", "size:1.5", "size:'3'", "size:None", "size:nothing"),
    *("slip:2", "slip:nan", "slip:float('nan')", "goal:north-wst", "goal:(0,0)", "goal:(0,0,9,9)", "wall_density:0.9"),
    *("size:1/0", "size:[", "size:x y", "max_steps:0", "render_mode:rgb", "size:lambda:3", "size:[3]", "self:3", "3:3"),
)
_ZOO_THREADS = tuple(text for text in THREADS if text != "-1")  # rl_zoo3 takes -1 for "as it is"
_VIEW_SETTINGS = (
    "n_actions:1",
    "n_actions:99",
    "plane:['wall']",
    "planes:['wal']",
    "planes:3",
    "mission",
    "n_actions:x",
)


def make_folder(folder: Path) -> None:
    """Make what the command lines name: agents, statistics, a buffer, a run, and files that are none of these."""
    for kind in ("dqn", "ppo", "equivariant"):
        agent(kind).save(folder / f"{kind}.zip")
    (folder / "agent.zip").write_bytes((folder / "dqn.zip").read_bytes())
    agent("dqn").save_replay_buffer(folder / "buffer.pkl")  # type: ignore[attr-defined]
    statistics = VecNormalize(environments(), norm_obs=False)
    statistics.save(str(folder / "stats.pkl"))
    (folder / "number.pkl").write_bytes(pickle.dumps(3))
    (folder / "cut.pkl").write_bytes((folder / "buffer.pkl").read_bytes()[:200])
    (folder / "empty.zip").write_bytes(b"")
    (folder / "random.bin").write_bytes(bytes(range(256)))
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "text.txt").write_text("nothing\n")
    (folder / "folder").mkdir()
    (folder / "broken.yml").write_text("a: [1, 2\nb: :\n")
    (folder / "utf16.yml").write_bytes("a: 1\n".encode("utf-16"))
    (folder / "list.yml").write_text("- 1\n")
    with inside(folder):
        if main(list(_TRAIN)) != 0:
            raise RuntimeError("the command that trains for the others failed")


_TRAIN = (
    *("train", "--env-kwargs", "size:3", "--eval-freq", "-1", "--summary-episodes", "0", "--seed", "0", "-n", "24"),
    *("-params", "learning_starts:8", "buffer_size:100", "policy_kwargs:dict(net_arch=[8])"),
)


def command_targets() -> list[CommandTarget]:
    """Return the command lines."""
    return [*_top(), *_training(), *_runs(), *_checks(), *_agents(), *study_commands()]


def _top() -> list[CommandTarget]:
    commands = ("trian", "", " ", "Train", "--trian", "-x", "train ", "envs,check", "0", "\u202e", "x" * 500)
    return [
        CommandTarget("equirl", ("envs",), {0: Option(commands, (), ("command",))}),
        CommandTarget("envs", ("envs",), {1: Option(("zzzz", "--all", "-Z", "--symmetry"))}),
    ]


def _training() -> list[CommandTarget]:
    params = (
        *(
            "n_timesteps:x",
            "learning_rat:1",
            "batch_size:0",
            "batch_size:-1",
            "gamma:2",
            "gamma:nan",
            "n_envs:0",
            "buffer_size",
        ),
        *(
            "policy_kwargs:dict(",
            "policy_kwargs:3",
            "policy_kwargs:dict(symmetry='grid-d5')",
            "learning_starts:x y",
            "",
        ),
        *(
            "policy:Nothing",
            "policy:'a.b.C'",
            "policy_kwargs:dict(method='nothing')",
            "callback:nothing",
            "buffer_size:-5",
        ),
        *(
            "learning_rate:-1",
            "learning_rate:nan",
            "exploration_fraction:9",
            "train_freq:0",
            "target_update_interval:0",
        ),
    )
    folders = ("missing.yml", "broken.yml", "utf16.yml", "list.yml", "folder", "random.bin", "", "text.txt")
    options: dict[str | int, Option] = {
        "--env": Option(_ENVIRONMENTS, (), ("environment", "module")),
        "--algo": Option(("", "dqm", "DQN", "0", "trpo ", "sac"), (), ("algorithm", "action")),
        "--symmetry": Option(_NAMES, (), ("symmetry",)),
        "--method": Option(METHODS, (), ("method",)),
        "-n": Option(COUNTS, (), ("n-timesteps", "n_timesteps", "steps")),
        "--seed": Option(("x", "", "1.5", "nan", "-7"), ("3",)),
        "--eval-freq": Option(("x", "", "1.5", "nan")),
        "--eval-episodes": Option(COUNTS),
        "--summary-episodes": Option(("x", "", "1.5", "-3", "nan")),
        "--require-success": Option(("x", "", "nan", "-1")),
        "--save-freq": Option(("x", "", "1.5")),
        "--num-threads": Option(_ZOO_THREADS, ("-1",), ("threads",)),
        "--vec-env": Option(("", "vector", "Dummy", "subprocs")),
        "--env-kwargs": Option(_GRID_SETTINGS, ("size:3", "goal:north-west"), ("KEY:VALUE", "size", "slip", "setting")),
        "-params": Option(
            params, ("gamma:0.9",), ("KEY:VALUE", "hyperparameter", *(text.split(":")[0] for text in params if text))
        ),
        "-i": Option(_TRAINED, (), ("trained",)),
        "--trained-agent": Option(_TRAINED),
        "--device": Option(DEVICES),
        "-conf": Option(folders, (), ("yaml", "hyperparameter", "config")),
        "-tb": Option(("text.txt",), (), ("tensorboard",)),
        "-f": Option(("text.txt", "text.txt/x"), (), ("folder",)),
        "--log-interval": Option(("x", "", "1.5")),
        "--gym-packages": Option(("nothing", "", "no.such.module"), (), ("module", "package")),
        "--n-trials": Option(("x", "")),
        "--verbose": Option(("x", "")),
    }
    misspell = ("--symmetry", "--method", "--eval-freq", "--env-kwargs", "--summary-episodes")
    return [CommandTarget("train", _TRAIN, options, (), misspell)]


def _runs() -> list[CommandTarget]:
    shared: dict[str | int, Option] = {
        "--algo": Option(("", "dqm", "DQN", "a2c"), (), ("algorithm", "runs")),
        "--env": Option(_ENVIRONMENTS, (), ("environment", "runs", "module")),
        "-f": Option(("missing", "text.txt", "", "folder"), (), ("folder", "runs")),
        "--exp-id": Option(("x", "", "99", "-5"), ("1", "0"), ("exp", "run", "experiment")),
        "-n": Option(("x", "", "1.5", "-5"), (), ("n-timesteps", "n_timesteps", "steps")),
        "--seed": Option(("x", "", "1.5")),
        "--env-kwargs": Option(_GRID_SETTINGS[:12], ("size:3",), ("KEY:VALUE", "size", "slip", "setting")),
    }
    enjoy = ("enjoy", "--no-render", "-n", "12", "-f", "logs", "--env-kwargs", "size:3")
    plot: dict[str | int, Option] = {
        "-f": Option(("missing", "text.txt", "folder"), (), ("runs", "folder")),
        "-a": Option(("", "dqm", "ppo"), (), ("algo", "runs")),
        "-e": Option(("", "Nothing-v0"), ("GridWorld",), ("env", "runs")),
        "-w": Option(COUNTS, ("2",), ("window",)),
        "-x": Option(("", "step", "time ", "0"), ("time",), ("axis",)),
        "-y": Option(("", "rewards", "0"), ("length",), ("axis",)),
        "-o": Option(OUTPUTS, (), ("output",)),
        "-max": Option(("x", "", "-1"), (), ("max",)),
        "-fontsize": Option(("x", ""), (), ("font",)),
    }
    return [
        CommandTarget(
            "enjoy",
            enjoy,
            {**shared, "--device": Option(DEVICES), "--num-threads": Option(_ZOO_THREADS, ("-1",))},
            (),
            ("--no-render", "--exp-id"),
        ),
        CommandTarget(
            "record",
            ("record", "-n", "5", "-f", "missing"),
            {option: Option(spec.wrong, (), ("runs", *spec.words)) for option, spec in shared.items()},
        ),
        CommandTarget("plot", ("plot", "-w", "1", "-f", "logs", "-o", "curves.png"), plot, (), ("--max-timesteps",)),
    ]


def _checks() -> list[CommandTarget]:
    line = ("check", GRID, "--symmetry", "grid-c4", "--transitions", "5", "--resets", "20", "--env-kwargs", "size:3")
    options: dict[str | int, Option] = {
        1: Option(_ENVIRONMENTS, (), ("environment", "module", "required")),
        "--symmetry": Option(_NAMES, (), ("symmetry",)),
        "--transitions": Option(COUNTS, (), ("transition",)),
        "--resets": Option((*COUNTS, "5"), ("21",), ("resets",)),
        "--significance": Option((*REALS, "2", "0"), ("0.01",)),
        "--seed": Option(FROM_ZERO[1:], ("3",)),
        "--env-kwargs": Option(_GRID_SETTINGS, ("size:4",), ("KEY:VALUE", "size", "slip", "setting")),
        "--view-kwargs": Option(_VIEW_SETTINGS, (), ("KEY:VALUE", "view", "setting")),
    }
    room = ("check", "equirl/EmptyRoom-v0", "--symmetry", "minigrid-d4", "--transitions", "5", "--resets", "20")
    views: dict[str | int, Option] = {
        "--view-kwargs": Option(_VIEW_SETTINGS, ("n_actions:3",), ("KEY:VALUE", "plane", "n_actions", "setting"))
    }
    return [
        CommandTarget("check", line, options, ("--symmetry",), ("--transitions", "--no-starts", "--significance")),
        CommandTarget(
            "check, a view", room, {**views, "--symmetry": Option(("grid-d4", "minigrid-d5"), (), ("symmetry",))}
        ),
    ]


def _agents() -> list[CommandTarget]:
    shared: dict[str | int, Option] = {
        1: Option(_AGENTS, (), ("agent", "model")),
        "--env": Option(_ENVIRONMENTS, (), ("environment", "module")),
        "--symmetry": Option(_NAMES, (), ("symmetry",)),
        "--algo": Option(("", "dqm", "DQN", "ppo", "qrdqn"), ("dqn",), ("algorithm",)),
        "--env-kwargs": Option(
            (*_GRID_SETTINGS, "size:5"), ("size:3",), ("KEY:VALUE", "size", "slip", "setting", "spaces", "region")
        ),
        "--view-kwargs": Option(_VIEW_SETTINGS, (), ("KEY:VALUE", "view", "setting")),
        "--frame-stack": Option(COUNTS, ("1",), ("frame",)),
        "--vecnormalize": Option(_PICKLES, ("stats.pkl",), ("VecNormalize",)),
        "--replay-buffer": Option(_PICKLES, ("buffer.pkl",), ("replay buffer",)),
        "--seed": Option(FROM_ZERO, ("3",)),
        "--device": Option(DEVICES, ("cpu",)),
        "--num-threads": Option(THREADS, (), ("threads",)),
    }
    symmetrize = {
        **shared,
        "--method": Option(METHODS, ("equizero", "canonical")),
        "-o": Option(OUTPUTS, (), ("output",)),
        "--method-kwargs": Option(
            ("read:inputs", "temperature:0", "x", "hidden:0", "", "seed:-1"), (), ("KEY:VALUE", "equitune")
        ),
        "--states": Option(COUNTS),
        "--objective": Option(("", "reproduc", "0")),
        "--fit-steps": Option(COUNTS, (), ("steps",)),
    }
    audit = {
        **shared,
        "--episodes": Option(COUNTS),
        "--states": Option((*COUNTS, "3")),
        "--n-envs": Option(COUNTS),
        "--proxy-loss": Option(("", "max", "novelty ", "None"), (), ("proxy",)),
        "--reads": Option(("", "input", "0")),
        "--csv": Option(OUTPUTS),
        "--png": Option(OUTPUTS),
    }
    export = {
        1: shared[1],
        "-o": Option(("", "text.txt/x", "text.txt", "policy.onx"), ("folder",), ("output", "exists")),
        "--algo": shared["--algo"],
        "--env": shared["--env"],
        "--env-kwargs": shared["--env-kwargs"],
        "--view-kwargs": shared["--view-kwargs"],
        "--vecnormalize": shared["--vecnormalize"],
        "--episodes": Option(FROM_ZERO, ("0",)),
        "--seed": shared["--seed"],
        "--gym-packages": Option(("nothing", "", "no.such.module"), (), ("module", "package")),
    }
    base = ("agent.zip", "--env", GRID, "--symmetry", "grid-c4", "--env-kwargs", "size:3")
    required = ("--env", "--symmetry")
    misspell = ("--method", "--replay-buffer", "--states", "--vecnormalize")
    several = ("ppo.zip", "equivariant.zip")
    small = ("audit", *base, "--episodes", "1", "--states", "10", "--n-envs", "1")
    strict = {option: Option(spec.wrong, (), spec.words) for option, spec in audit.items()}
    return [
        CommandTarget("symmetrize", ("symmetrize", *base, "-o", "out.zip"), symmetrize, (*required, "-o"), misspell),
        CommandTarget(
            "symmetrize, kinds",
            ("symmetrize", *base, "-o", "out.zip", "--algo", "dqn"),
            {1: Option(several, (), ("equivariant", "PPO"))},
        ),
        CommandTarget(
            "export",
            ("export", "agent.zip", "-o", "exported", "--env", GRID, "--env-kwargs", "size:3", "--episodes", "1"),
            export,
            ("-o",),
            ("--episodes", "--vecnormalize", "--env-kwargs"),
        ),
        CommandTarget("audit", small, strict, required, ("--episodes", "--states", "--n-envs", "--symmetry")),
        CommandTarget("audit, kinds", small, {1: Option(("equivariant.zip",), (), ("equivariant",))}),
    ]
