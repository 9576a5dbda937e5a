"""Exported agents answer as the agents do, are equivariant, and a file that is not is never left."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import done, here
from exported_agents import Still, agent
from gymnasium import spaces
from small_worlds import World, mirror
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor

from equirl.agents import EquivariantDQNPolicy
from equirl.agents.export import export_onnx, export_program
from equirl.agents.export_check import check_export, random_observations, symmetric_observations
from equirl.agents.exported_policy import exported_policy
from equirl.testing import evaluation_mode

CASES = {
    ("dqn", "mlp"): "lambda_equitune",
    ("qrdqn", "cnn"): "equizero",
    ("ppo", "cnn"): "canonical",
    ("ppo_box", "mlp"): "equizero",
    ("sac", "mlp"): "canonical",
    ("td3", "cnn"): "equitune",
}
"""A part of the grid that tests/figures/exports.py goes through: each algorithm, network and method."""


def states(model: Any, n: int = 36) -> Any:
    """Return observations of an agent, a third of which some turn leaves as they are."""
    numbers = np.random.default_rng(3)
    symmetry = exported_policy(model).acting[0].symmetry
    seen: Any = random_observations(model.observation_space, n, numbers)
    seen[: n // 3] = symmetric_observations(symmetry.observation, seen[: n // 3], [1, 2, 3] * (n // 9), numbers)
    return seen


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[Any, Any, Any]]:
    """Agents, their files in onnxruntime, and the reports of export."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("onnx")
    made = {}
    for (name, network), method in CASES.items():
        path = folder / f"{name}-{network}.onnx"
        model = agent(name, network, method)
        report = export_onnx(model, path)
        made[name, network] = model, runtime.InferenceSession(path, providers=["CPUExecutionProvider"]), report
    assert {path.name for path in folder.iterdir()} == {f"{name}-{network}.onnx" for name, network in CASES}
    return made


def run(session: Any, observations: Any, batch: int) -> Tensor:
    parts = [session.run(None, {"observation": part.numpy()})[0] for part in observations.split(batch)]
    return torch.from_numpy(np.concatenate(parts))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("batch", [1, 7])
def test_the_file_answers_as_sb3_does(case: Any, batch: int, sessions: Any) -> None:
    model, session, _ = sessions[case]
    seen = states(model)
    found = run(session, seen, batch)
    with torch.no_grad():
        if case[0] in ("dqn", "qrdqn"):
            network = model.q_net if case[0] == "dqn" else model.policy.quantile_net
            expected = network(seen) if case[0] == "dqn" else network(seen).mean(dim=1)
        elif case[0] == "ppo":
            found = found.log_softmax(dim=1)
            expected = model.policy.get_distribution(seen).distribution.logits
        else:
            expected = torch.as_tensor(model.predict(seen.numpy(), deterministic=True)[0])
            assert expected.abs().max() > 0.05
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("batch", [1, 7])
def test_the_file_is_equivariant(case: Any, batch: int, sessions: Any) -> None:
    model, session, report = sessions[case]
    symmetry = exported_policy(model).acting[0].symmetry
    seen = states(model)
    found = run(session, seen, batch)
    for g in range(symmetry.group.order):
        moved = run(session, symmetry.observation.transform(g, seen), batch)
        assert torch.allclose(moved, symmetry.action.transform(g, found), atol=1e-5)
    assert report.check.equivariance_error < 1e-5
    assert report.check.answer_error < 1e-5
    assert report.check.n_symmetric == 16


def test_names_dtypes_and_shapes_are_those_of_the_environment(sessions: Any) -> None:
    shown = {case: str(report).splitlines()[0] for case, (_, _, report) in sessions.items()}
    assert shown["dqn", "mlp"] == "observation float32 [batch, 4] -> q_values float32 [batch, 4]"
    assert shown["qrdqn", "cnn"] == "observation uint8 [batch, 2, 5, 5] -> q_values float32 [batch, 4]"
    assert shown["ppo", "cnn"] == "observation uint8 [batch, 2, 5, 5] -> action_logits float32 [batch, 4]"
    assert shown["sac", "mlp"] == "observation float32 [batch, 4] -> action float32 [batch, 2]"
    for _, session, report in sessions.values():
        (given,), (output,) = session.get_inputs(), session.get_outputs()
        assert (given.name, given.shape[0], output.shape[0]) == ("observation", "batch", "batch")
        assert report.output.startswith(f"{output.name} ")
    about = sessions["sac", "mlp"][1].get_modelmeta().custom_metadata_map
    assert (about["equirl.symmetry"], about["equirl.method"]) == ("quarter-turns", "canonical")


@pytest.mark.parametrize("name", ["dqn", "ppo", "sac"])
@pytest.mark.parametrize("method", ["lambda_equitune", "equizero", "canonical"])
def test_the_older_exporter_keeps_no_choice_of_its_one_sample(name: str, method: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    model = agent(name, "mlp", method)
    policy = exported_policy(model)
    seen = states(model, 54)
    path = tmp_path / "policy.onnx"
    with warnings.catch_warnings(), evaluation_mode(policy):
        warnings.simplefilter("ignore")
        axes = {"observation": {0: "batch"}}
        torch.onnx.export(
            policy,
            (seen[:1],),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["observation"],
            dynamic_axes=axes,
        )
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = policy(seen)
    for batch in (1, 54):
        wrong = ((run(session, seen, batch) - expected).abs() > 1e-5).any(dim=1)
        assert int(wrong.sum()) == 0


@pytest.mark.parametrize("kind", ["dict", "multidiscrete"])
def test_a_program_takes_observations_of_every_kind(kind: str, tmp_path: Path) -> None:
    settings = {"symmetry": mirror(kind), "method": "canonical"}
    model = DQN(EquivariantDQNPolicy, World(kind), policy_kwargs=settings, buffer_size=10, device="cpu", seed=0)
    report = export_program(model, tmp_path / "policy.pt2")
    assert report.check.answer_error < 1e-5
    loaded = torch.export.load(tmp_path / "policy.pt2").module()
    seen: Any = random_observations(model.observation_space, 5, np.random.default_rng(4))
    single = {key: part[2] for key, part in seen.items()} if kind == "dict" else seen[2]
    with torch.no_grad():
        best = loaded(seen).argmax(dim=1)
    given = {key: part.numpy() for key, part in single.items()} if kind == "dict" else single.numpy()
    assert int(model.predict(given, deterministic=True)[0]) == int(best[2])
    assert len(report.inputs) == (2 if kind == "dict" else 1)


def test_logits_of_several_components_are_one_row(tmp_path: Path) -> None:
    world = Still(spaces.Box(-1, 1, (2,), np.float32), spaces.MultiDiscrete([2, 3]))
    model = PPO("MlpPolicy", world, n_steps=16, batch_size=16, device="cpu")
    report = export_program(model, tmp_path / "policy.pt2")
    assert report.output == "action_logits float32 [batch, 5]"
    assert report.check.equivariance_error is None
    assert "plain agent" in str(report)


def test_the_check_tells_wrong_answers_from_lost_symmetry() -> None:
    policy = exported_policy(agent("dqn", "mlp", "equizero")).eval()
    space = policy.acting[0].observation_space
    plain = exported_policy(agent("dqn", "mlp", None)).eval()
    right = check_export(policy, policy, space)
    assert (right.answer_error, right.n_symmetric) == (0, 16)
    assert right.equivariance_error is not None
    assert right.equivariance_error < 1e-6
    off = check_export(lambda rows: policy(rows) * 1.001, policy, space)
    assert off.answer_error > 1e-4
    unsymmetric = check_export(plain, policy, space)
    assert unsymmetric.equivariance_error is not None
    assert unsymmetric.equivariance_error > 1e-2
    of_batch = check_export(lambda rows: policy(rows)[:1].expand(len(rows), -1), policy, space)
    assert of_batch.answer_error > 1e-2


class Forgetful(FlattenExtractor):
    """Computes something else while it is exported."""

    def forward(self, observations: Tensor) -> Tensor:
        return super().forward(observations) * (1.001 if torch.compiler.is_exporting() else 1)


class Branching(FlattenExtractor):
    """Looks at numbers to decide."""

    def forward(self, observations: Tensor) -> Tensor:
        return super().forward(observations) * (2 if float(observations.sum()) > 0 else 1)


def test_a_network_that_cannot_be_recorded_is_refused_in_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = agent("ppo", "mlp", "equitune", features_extractor_class=Branching)
    with pytest.raises(ValueError, match=r"torch.export cannot record .* look for branches on the values of tensors"):
        export_program(model, tmp_path / "policy.pt2")
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr().err == ""


def test_a_file_that_answers_otherwise_is_not_left(tmp_path: Path) -> None:
    model = agent("dqn", "mlp", "equitune", features_extractor_class=Forgetful)
    path = tmp_path / "policy.pt2"
    path.write_text("an older file")
    with pytest.raises(ValueError, match=r"answers otherwise than the agent, by .*policy.pt2 was not written"):
        export_program(model, path)
    assert [each.name for each in tmp_path.iterdir()] == ["policy.pt2"]
    assert path.read_text() == "an older file"


def test_the_command_writes_both_kinds_and_says_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    agent("dqn", "mlp", "canonical").save("agent.zip")
    told = done("export", "agent.zip", "-o", "policy.pt2").out
    assert "observation float32 [batch, 4] -> q_values float32 [batch, 4]" in told
    assert "largest equivariance error" in told
    assert Path("policy.pt2").is_file()
    for output, message in {
        "policy.xyz": "ending of an output '.xyz' is unknown; known: .onnx, .pt2",
        "agent.zip/policy.onnx": "agent.zip is not a folder",
    }.items():
        wrong = here("export", "agent.zip", "-o", output)
        assert wrong.status == 2
        (line,) = wrong.err
        assert message in line


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_without_the_extra_the_command_says_what_to_install(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    agent("dqn", "mlp", "equitune").save("agent.zip")
    for name in ("onnx", "onnxscript", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None if name == missing else sys)
    told = here("export", "agent.zip", "-o", "policy.onnx")
    assert told.status == 2
    (line,) = told.err
    assert f"this needs {missing}, which is not installed: pip install 'equirl[export]'" in line
    assert not Path("policy.onnx").exists()
