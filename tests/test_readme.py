"""The README's Python runs as it stands there, block after block, with fewer training steps."""

import re
import shlex
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from command_line import here
from stable_baselines3 import DQN

from equirl import MDPSymmetry
from equirl.agents.experiment_manager import EquirlExperimentManager


def test_the_training_commands_of_the_readme_are_understood(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: EquirlExperimentManager) -> None:
        self.read_hyperparameters()
        raise ValueError("understood")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(EquirlExperimentManager, "setup_experiment", stop)
    blocks = re.findall(r"```bash\n(.*?)```", (checkout / "README.md").read_text(), flags=re.DOTALL)
    lines = [line.removeprefix(".venv/bin/") for block in blocks for line in block.splitlines()]
    commands = {entry.name for entry in entry_points(group="equirl.commands")}
    assert {line.split()[1] for line in lines if line.startswith("equirl ")} <= commands
    trainings = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("equirl train")]
    assert len(trainings) >= 5
    for words in trainings:
        assert here(*words).err == ["equirl train: ValueError: understood"], words


def test_the_python_of_the_readme_runs(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (checkout / "README.md").read_text(), flags=re.DOTALL)
    assert len(blocks) == 6
    namespace: dict[str, Any] = {}
    for block in blocks:
        exec(block.replace("10_000", "300").replace("2_000", "300"), namespace)
    error, *report = capsys.readouterr().out.splitlines()
    assert float(error) < 1e-5
    verdicts = [line for line in report if line.startswith("symmetry")]
    assert verdicts == [f"symmetry {name!r} holds as far as checked" for name in ("cartpole-mirror", "minigrid-d4")]
    assert isinstance(DQN.load("equivariant.zip").policy, namespace["EquivariantDQNPolicy"])
    assert isinstance(namespace["cartpole"], MDPSymmetry)
    policy_kwargs = {"symmetry": namespace["cartpole"]}
    DQN(namespace["EquivariantDQNPolicy"], "CartPole-v1", policy_kwargs=policy_kwargs, learning_starts=10).learn(30)
