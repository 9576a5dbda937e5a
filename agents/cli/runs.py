"""Runs of rl_zoo3 on disk: where they are, with what they were trained, what to put on an environment for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from equirl.agents.cli.zoo import folder_name

__all__ = ["Run", "find_run", "run_of"]


@dataclass(frozen=True)
class Run:
    """The settings of a run, as its folder keeps them.

    Attributes:
        folder: The folder, such as ``logs/dqn/CartPole-v1_3``.
        arguments: The parsed command line.
        hyperparameters: What the agent was trained with.
        command: The command that trained it; empty if the run does not tell.
    """

    folder: Path
    arguments: dict[str, Any]
    hyperparameters: dict[str, Any]
    command: str = ""

    @property
    def environment_settings(self) -> dict[str, Any]:
        """The settings of the environment: of the hyperparameters, or of the command line where it gave some."""
        return dict(self.arguments.get("env_kwargs") or self.hyperparameters.get("env_kwargs") or {})

    @property
    def environment(self) -> str:
        """Id of the environment; empty if the run does not tell."""
        return str(self.arguments.get("env") or "")

    @property
    def packages(self) -> list[str]:
        """Modules that were imported to register the environment."""
        return list(self.arguments.get("gym_packages") or [])

    @property
    def wrappers(self) -> list[tuple[str, dict[str, Any]]]:
        """Wrappers of the environment, by dotted name with their settings, from the inside out."""
        entries = self.hyperparameters.get("env_wrapper") or []
        pairs = [
            next(iter(entry.items())) if isinstance(entry, dict) else (entry, None)
            for entry in (entries if isinstance(entries, list) else [entries])
        ]
        return [(str(name), dict(settings or {})) for name, settings in pairs]


def run_of(model: str | Path) -> Run | None:
    """Return the run that a saved agent belongs to; ``None`` if it does not lie in the folder of one.

    Raises:
        ValueError: The run's own files cannot be read; the message names the file.
    """
    folder = Path(model).parent
    found = sorted(folder.glob("*/args.yml"))
    return _read(folder, found[0].parent) if len(found) == 1 else None


def find_run(folder: str | Path, algorithm: str, environment: str, number: int = 0) -> Run:
    """Return a run in a folder of runs.

    Args:
        folder: The folder, such as ``logs``.
        algorithm: By rl_zoo3's name.
        environment: Id of the environment.
        number: The run's number; 0: the latest; -1: the folder of the algorithm itself is the run.

    Raises:
        ValueError: There is no such run; the message lists those that there are. Or its files cannot be read.
    """
    inside, name = Path(folder) / algorithm, folder_name(environment)
    if not inside.is_dir():
        others = sorted(path.name for path in Path(folder).glob("*") if path.is_dir() and path.name != "tensorboard")
        there = f" There are runs of {', '.join(others)}: --algo {others[0]}." if others else ""
        raise ValueError(
            f"there are no runs in {inside}: train one with `equirl train`, or name the folder: -f.{there}"
        )
    if number == -1:
        return _read(inside, inside / name)
    runs = {
        int(path.name.rpartition("_")[2]): path
        for path in inside.glob(f"{name}_*")
        if path.is_dir() and path.name.removeprefix(f"{name}_").isdigit()
    }
    if not runs:
        others = sorted({path.name.rpartition("_")[0] or path.name for path in inside.iterdir() if path.is_dir()})
        there = f"there are runs of: {', '.join(others)}" if others else "train one with `equirl train`, or name it: -f"
        raise ValueError(f"there are no runs of {environment} in {inside}; {there}")
    if number and number not in runs:
        numbers = ", ".join(str(known) for known in sorted(runs))
        raise ValueError(f"there is no run {number} of {environment} in {inside}: --exp-id is one of {numbers}")
    with_agents = [known for known, path in runs.items() if any(path.glob("*.zip"))]
    path = runs[number or max(with_agents or runs)]
    if not any(path.glob("*.zip")):
        raise ValueError(f"there is no agent in {path}: the training was stopped before it saved one")
    return _read(path, path / name)


def _read(folder: Path, settings: Path) -> Run:
    content: dict[str, dict[str, Any]] = {}
    for name in ("args.yml", "config.yml"):
        file = settings / name
        try:
            # rl_zoo3 writes Python objects into it, which only the unsafe loader reads; so do its own scripts.
            found = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.UnsafeLoader) if file.is_file() else None
            content[name] = dict(found or {})
        except Exception as error:  # the unsafe loader may raise anything
            reason = " ".join(str(error).split())
            raise ValueError(f"{file} cannot be read ({type(error).__name__}: {reason}); was it changed?") from error
    return Run(folder, content["args.yml"], content["config.yml"], _command(settings / "command.txt"))


def _command(file: Path) -> str:
    """Return the command in a file of rl_zoo3, without the paths of Python and of the script."""
    words = file.read_text(encoding="utf-8", errors="replace").split() if file.is_file() else []
    scripts = [at for at, word in enumerate(words) if Path(word).name in ("equirl", "__main__.py")]
    return " ".join(["equirl", *words[scripts[0] + 1 :]]) if scripts else " ".join(words)
