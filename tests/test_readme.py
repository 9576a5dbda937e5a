"""The README's Python runs as it stands there, block after block, with fewer training steps."""

import re
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import DQN

from equirl import MDPSymmetry


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
