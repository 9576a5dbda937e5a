"""Each example program is short and runs, with fewer training steps."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch
from documents import shorten

import equirl.envs  # noqa: F401  (registers its symmetries before a test forgets what is registered)
from equirl import symmetry

ALL = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))
OTHER_ENGINES = {"rllib_cartpole", "rllib_grid", "tianshou_grid", "torchrl_grid"}  # in tests/engines
EXAMPLES = [path for path in ALL if path.stem not in OTHER_ENGINES]
NEEDS = {"language_model": "transformers", "images": "sklearn"}
SAYS = {
    "any_network": "LambdaEquitune: error",
    "cleanrl_grid": "equivariance error",
    "images": "turned by 90 degrees",
    "language_model": "gap of the symmetrized model",
    "own_environment": "symmetry 'corridor-mirror' holds as far as checked",
    "own_group": "tetrahedron has 12 elements",
    "own_symmetry": "symmetry 'my-cartpole' holds as far as checked",
    "quick_start": "equivariance error",
    "trained_agent": "lambda_equitune: mean return",
}


def test_every_example_is_known_here() -> None:
    assert {path.stem for path in ALL} == set(SAYS) | OTHER_ENGINES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 40
    if path.stem in NEEDS:
        pytest.importorskip(NEEDS[path.stem])
    if path.stem == "language_model":
        from tiny_lm import save_tiny

        monkeypatch.setenv("EQUIRL_EXAMPLE_MODEL", str(save_tiny(tmp_path / "tiny-model")))
    monkeypatch.setenv("EQUIRL_EXAMPLE_STEPS", "250" if path.stem != "images" else "100")
    monkeypatch.chdir(tmp_path)
    shorten(monkeypatch)
    monkeypatch.setattr(symmetry, "_REGISTRY", dict(symmetry._REGISTRY))
    torch.manual_seed(0)
    runpy.run_path(str(path), run_name="__main__")
    said = capsys.readouterr().out
    assert SAYS[path.stem] in said
    assert all(float(error) < 1e-5 for error in re.findall(r"equivariance error: (\S+)", said))
