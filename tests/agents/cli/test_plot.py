"""``equirl plot``: runs that differ by their seed make one curve; runs that are left out are named."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from command_line import done, here

from equirl.agents.cli.training_curves import TrainingRun, curve_of, group_runs, read_runs

_D4 = {"policy": "equirl.agents.policies.GridD4EquizeroPolicy", "learning_rate": 0.001}
_NAMED = {
    "policy": "equirl.agents.EquivariantDQNPolicy",
    "policy_kwargs": "dict(symmetry='grid-c4', method='equitune', net_arch=[8])",
}
_AUGMENTED = {
    "policy": "MlpPolicy",
    "replay_buffer_class": "equirl.agents.SymmetryReplayBuffer",
    "replay_buffer_kwargs": "dict(symmetry='grid-d4')",
}
_PLAIN = {"policy": "MlpPolicy"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _write(number: int, hyperparameters: dict[str, Any], seed: int, episodes: int = 20, **arguments: Any) -> None:
    folder = Path(f"logs/dqn/World-v0_{number}")
    settings = folder / "World-v0"
    settings.mkdir(parents=True)
    given = {"env": "World-v0", "seed": seed, "algo": "dqn", **arguments}
    (settings / "args.yml").write_text(yaml.safe_dump(given))
    (settings / "config.yml").write_text(yaml.safe_dump(hyperparameters))
    rows = [f"{seed + k / 100:.2f},10,{k}.0\n" for k in range(episodes)]
    (folder / "0.monitor.csv").write_text('#{"t_start": 0.0, "env_id": "World-v0"}\nr,l,t\n' + "".join(rows))


def test_runs_are_grouped_by_symmetry_method_and_seed() -> None:
    _write(1, _D4, seed=1)
    _write(2, _D4, seed=2)
    _write(3, _D4, seed=2)
    _write(4, {**_D4, "learning_rate": 0.01}, seed=1)
    _write(5, _NAMED, seed=1)
    _write(6, _AUGMENTED, seed=1)
    _write(7, _PLAIN, seed=1)
    _write(8, _PLAIN, seed=2, episodes=6)
    _write(9, _PLAIN, seed=3, env_kwargs={"size": 4})
    _write(10, _PLAIN, seed=4, trained_agent="agent.zip")
    told = done("plot", "-e", "World-v0", "-o", "curves.png", "-w", "2").out.splitlines()
    assert told == [
        "Left out: World-v0_2 has the seed 2, as the later World-v0_3 has",
        "Left out: World-v0_8 ends after 60 steps, others like it after 130; -max 60 draws it",
        "Drawn: grid-d4/equizero, learning_rate=0.001, n = 2: World-v0_1, World-v0_3",
        "Drawn: grid-d4/equizero, learning_rate=0.01, n = 1: World-v0_4",
        "Drawn: grid-c4/equitune, n = 1: World-v0_5",
        "Drawn: grid-d4/augmentation, n = 1: World-v0_6",
        "Drawn: plain, size=default, n = 1: World-v0_7",
        "Drawn: plain, size=4, n = 1: World-v0_9",
        "Drawn: World-v0_10, continued, n = 1: World-v0_10",
        "Plot written to curves.png",
    ]
    assert Path("curves.png").read_bytes().startswith(b"\x89PNG")
    assert "size=default, n = 2" in done("plot", "-e", "World-v0", "-o", "curves.png", "-w", "2", "-max", "60").out


def test_only_runs_of_the_environment_itself_are_taken() -> None:
    _write(1, _PLAIN, seed=1)
    Path("logs/dqn/MyWorld-v0_1").mkdir()
    Path("logs/dqn/World-v0_2_12ab-uuid").mkdir()
    assert [run.folder.name for run in read_runs(Path("logs/dqn"), ["World-v0"])] == [
        "World-v0_1",
        "World-v0_2_12ab-uuid",
    ]
    wrong = here("plot", "-e", "orld-v0", "-o", "curves.png")
    assert wrong.status == 2
    assert "there are runs of: MyWorld-v0, World-v0" in wrong.err[-1]
    assert here("plot", "-e", "World-v0", "-a", "ppo").status == 2


def _run(seed: int, values: list[float], lengths: int = 10) -> TrainingRun:
    frame = pd.DataFrame({"r": values, "l": lengths, "t": np.arange(1, len(values) + 1) * 3600.0})
    return TrainingRun(Path(f"w_{seed}"), "w", "plain", seed, {}, frame)


def test_a_curve_is_the_mean_over_seeds_as_far_as_all_go() -> None:
    runs = [_run(0, [0.0] * 10), _run(1, [1.0] * 12)]
    curve = curve_of(runs, "steps", "r", 2)
    assert (curve.x[0], curve.x[-1]) == (20, 100)
    np.testing.assert_allclose(curve.middle, 0.5)
    assert curve.low.min() == 0
    assert curve.high.max() == 1
    hours = curve_of(runs, "time", "r", 2)
    assert (hours.x[0], hours.x[-1]) == (2, 10)
    single = curve_of([_run(0, [0, 1, 2, 3])], "episodes", "r", 2)
    np.testing.assert_allclose(single.x, [2, 3, 4])
    np.testing.assert_allclose(single.middle, [0.5, 1.5, 2.5])
    groups, left_out = group_runs(runs)
    assert [len(group.runs) for group in groups] == [2]
    assert not left_out
