"""The built wheel in an environment of its own; `make wheel` makes both and names the Python in EQUIRL_WHEEL_PYTHON."""

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

WHEEL_PYTHON = os.environ.get("EQUIRL_WHEEL_PYTHON", "")
pytestmark = pytest.mark.skipif(not WHEEL_PYTHON, reason="EQUIRL_WHEEL_PYTHON is not set; run `make test`")


def _run(*arguments: str, cwd: Path) -> str:
    environment = {**os.environ, "MPLBACKEND": "Agg", "SDL_VIDEODRIVER": "dummy"}
    run = subprocess.run(arguments, cwd=cwd, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return run.stdout


def test_one_importable_name(checkout: Path) -> None:
    (wheel,) = (checkout / "dist").glob("equirl-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"equirl"}
    assert "equirl/py.typed" in names
    assert "equirl/agents/hyperparams/dqn.yml" in names
    assert {"equirl/models/data/gender.toml", "equirl/experiments/nlg/data/prompts.toml"} <= set(names)


def test_every_module_of_the_checkout_is_in_the_wheel(checkout: Path, tmp_path: Path) -> None:
    modules = []
    for folder, package in (("equirl", "equirl"), *((f, f"equirl.{f}") for f in ("envs", "agents", "experiments"))):
        for path in (checkout / folder).rglob("*.py"):
            parts = path.relative_to(checkout / folder).with_suffix("").parts
            modules.append(".".join([package, *(part for part in parts if part not in ("__init__", "__main__"))]))
    assert len(modules) > 20
    script = f"""
import importlib, importlib.util, pathlib, site
for name in {sorted(set(modules))}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:  # of an extra that is not installed here
        optional = name.startswith(("equirl.experiments.nlg.", "equirl.models.")) and error.name == "transformers"
        engine = name.startswith("equirl.integrations.") and error.name in ("ray", "tensordict", "torchrl")
        assert optional or engine, (name, error)
    file = importlib.util.find_spec(name).origin
    assert pathlib.Path(file).is_relative_to(site.getsitepackages()[0]), file
print("all imported")
"""
    assert "all imported" in _run(WHEEL_PYTHON, "-c", script, cwd=tmp_path)


def test_a_short_training_run_outside_the_checkout(tmp_path: Path) -> None:
    equirl = str(Path(WHEEL_PYTHON).with_name("equirl"))
    options = ["--eval-freq", "100", "--eval-episodes", "2", "--summary-episodes", "3", "-P", "--seed", "0"]
    output = _run(equirl, "train", *options, "-params", "learning_starts:20", "n_timesteps:200", cwd=tmp_path)
    assert "Success rate:" in output.strip().splitlines()[-1]
    assert (tmp_path / "logs/dqn/equirl-GridWorld-v0_1/learning_curve.png").exists()
    assert "Success rate" in _run(equirl, "enjoy", "--no-render", "-n", "100", cwd=tmp_path)
