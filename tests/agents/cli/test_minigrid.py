"""``equirl train`` with MiniGrid: the view of the symmetry, and the commands that follow."""

from pathlib import Path
from typing import Any

import pytest
from command_line import SHORT, done, here, next_command
from stable_baselines3.common.vec_env import VecEnv

from equirl.agents.cli.hyperparameters import hyperparameter_file, read_hyperparameters
from equirl.agents.experiment_manager import EquirlExperimentManager
from equirl.agents.minigrid_views import put_on_view
from equirl.agents.policies import POLICY_CLASSES
from equirl.agents.spaces import resolve_symmetry
from equirl.envs import DECLARED_SYMMETRIES, make_environment
from equirl.envs.catalog import declared_view_settings
from equirl.envs.making import SYMMETRY_VIEWS

_SMALL = ["learning_starts:10", "buffer_size:200"]
_ROLLOUT = ["n_steps:8", "n_envs:2"]
_DECLARED = [declared for declared in DECLARED_SYMMETRIES if declared.symmetry in SYMMETRY_VIEWS]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_declared_environment_is_made_as_its_check_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environments of a training have the spaces of `equirl check`, for every algorithm and symmetry."""
    seen: list[VecEnv] = []

    def stop(self: EquirlExperimentManager, hyperparams: Any, saved: Any, env: VecEnv) -> Any:
        seen.append(env)
        raise ValueError("seen")

    monkeypatch.setattr(EquirlExperimentManager, "_preprocess_action_noise", stop)
    for number, declared in enumerate(_DECLARED):
        algorithm = list(POLICY_CLASSES)[number % len(POLICY_CLASSES)]
        words = ["--algo", algorithm, "--env", declared.environment_id, "--symmetry", declared.symmetry]
        # Our own entries for these three show a few planes only.
        entries = ("equirl/EmptyRoom-v0", "MiniGrid-FourRooms-v0", "MiniGrid-DoorKey-5x5-v0")
        view = [f"env_wrapper:equirl.envs.{SYMMETRY_VIEWS[declared.symmetry].__name__}"]
        params = ["n_envs:1", *(view if declared.environment_id in entries else [])]
        outcome = here("train", *words, *SHORT, "-params", *params)
        assert "seen" in outcome.err[-1], outcome.err
        checked = make_environment(declared.environment_id, declared.symmetry, view_kwargs=declared.view_kwargs)
        assert seen[-1].observation_space == checked.observation_space, declared
        assert seen[-1].action_space == checked.action_space
        resolve_symmetry(declared.symmetry, seen[-1].observation_space, seen[-1].action_space)


def test_every_algorithm_has_hyperparameters_for_every_declared_environment() -> None:
    for algorithm in ("dqn", "qrdqn", "ppo", "a2c"):
        for environment in sorted({declared.environment_id for declared in _DECLARED}):
            file = hyperparameter_file(algorithm, environment)
            assert file is not None
            policy = read_hyperparameters(str(file), algorithm, environment)["policy"]
            assert policy.startswith("equirl.agents.policies.Minigrid")
        assert hyperparameter_file(algorithm, "MiniGrid-Unlock-v0") is None
        assert hyperparameter_file(algorithm, "MiniGrid-Unlock-v0", "minigrid-egocentric-z2") is not None
        assert "minigrid" not in str(hyperparameter_file(algorithm, "CartPole-v1", "minigrid-d4"))


@pytest.mark.parametrize(
    ("algorithm", "words", "params", "policy"),
    [
        ("dqn", ["--env", "MiniGrid-GoToDoor-5x5-v0"], _SMALL, "MinigridD4LambdaEquitunePolicy"),
        (
            "ppo",
            ["--env", "MiniGrid-DoorKey-5x5-v0"],
            _ROLLOUT,
            "MinigridEgocentricZ2EquituneActorCriticPolicy",
        ),
        (
            "a2c",
            ["--env", "MiniGrid-FourRooms-v0", "--symmetry", "minigrid-egocentric-z2"],
            _ROLLOUT,
            "MinigridEgocentricZ2EquituneActorCriticPolicy",
        ),
        ("qrdqn", ["--env", "equirl/EmptyRoom-v0"], _SMALL, "MinigridD4LambdaEquituneQRDQNPolicy"),
    ],
)
def test_agents_train_and_the_printed_command_shows_them(
    algorithm: str, words: list[str], params: list[str], policy: str
) -> None:
    base = ["--algo", algorithm, *words, "-n", "40", "--eval-freq", "-1", "--summary-episodes", "1"]
    trained = done("train", *base, "-params", *params)
    assert policy in trained.out
    assert "Success rate:" in trained.out
    assert "Mean" in done(*next_command(trained), "--no-render", "-n", "300").out


def test_plain_agents_behind_a_view_go_on_and_are_audited() -> None:
    room = ["--algo", "ppo", "--env", "MiniGrid-FourRooms-v0"]  # our entry shows a few planes
    done("train", *room, "-n", "40", "--method", "plain", *SHORT, "-params", *_ROLLOUT)
    agent = "logs/ppo/MiniGrid-FourRooms-v0_1/MiniGrid-FourRooms-v0.zip"
    again = done("train", *room, "-i", agent, "-n", "40", *SHORT, "-params", *_ROLLOUT)
    assert "ActorCriticPolicy, not equivariant" in again.out
    same = [agent, "--env", "MiniGrid-FourRooms-v0", "--symmetry", "minigrid-egocentric-z2"]
    audited = done("audit", *same, "--episodes", "1", "--states", "20", "--n-envs", "1")
    assert "As in the run: --view-kwargs {'n_actions': 3, 'planes': ['unseen', 'wall', 'goal']}" in audited.out
    assert done("record", *room, "-n", "5").status == 0


def test_without_a_view_the_options_that_give_one_are_named() -> None:
    for algorithm, environment in (("dqn", "MiniGrid-Unlock-v0"), ("sac", "MiniGrid-Empty-8x8-v0")):
        wrong = here("train", "--algo", algorithm, "--env", environment, *SHORT)
        assert wrong.status == 2
        assert len(wrong.err) == 1
        assert "--symmetry minigrid-d4" in wrong.err[0]
        assert "env_wrapper:minigrid.wrappers.FlatObsWrapper" in wrong.err[0]


@pytest.mark.parametrize(
    ("symmetry", "replace", "before", "after"),
    [
        ("minigrid-d4", False, None, ["equirl.envs.FullGridView"]),
        ("minigrid-d4", True, "minigrid.wrappers.FlatObsWrapper", ["equirl.envs.FullGridView"]),
        (
            "minigrid-d4",
            False,
            ["gymnasium.wrappers.Autoreset"],
            ["equirl.envs.FullGridView", "gymnasium.wrappers.Autoreset"],
        ),
        (
            "minigrid-d4",
            False,
            [{"equirl.envs.EgocentricView": {"planes": ["unseen"], "n_actions": 3}}],
            [{"equirl.envs.FullGridView": {"n_actions": 3}}],
        ),
        (
            "minigrid-c4",
            False,
            [{"equirl.envs.FullGridView": {"planes": ["goal"]}}],
            [{"equirl.envs.FullGridView": {"planes": ["goal"]}}],
        ),
    ],
)
def test_the_view_is_the_innermost_wrapper(symmetry: str, replace: bool, before: Any, after: Any) -> None:
    hyperparams = {"env_wrapper": before}
    put_on_view(hyperparams, "MiniGrid-FourRooms-v0", symmetry, replace)
    assert hyperparams["env_wrapper"] == after


def test_the_view_marks_the_mission_where_it_is_declared_so() -> None:
    hyperparams: dict[str, Any] = {"env_wrapper": "equirl.envs.FullGridView"}
    put_on_view(hyperparams, "MiniGrid-GoToDoor-5x5-v0", "minigrid-d4", replace=False)
    assert hyperparams["env_wrapper"] == [{"equirl.envs.FullGridView": {"mission": True}}]


@pytest.mark.parametrize(
    ("environment", "symmetry", "settings"),
    [
        ("MiniGrid-GoToDoor-8x8-v0", "minigrid-egocentric-z2", {"mission": True}),  # as GoToDoor-5x5
        ("MiniGrid-GoToObject-6x6-N2-v0", "minigrid-c4", {"mission": True}),
        ("BabyAI-GoToObj-v0", "minigrid-d4", {"mission": True}),
        ("MiniGrid-DoorKey-8x8-v0", "minigrid-d4", {}),  # as DoorKey-5x5: there is one mission
        ("MiniGrid-Unlock-v0", "minigrid-d4", {}),
    ],
)
def test_a_mission_that_changes_is_seen(environment: str, symmetry: str, settings: dict[str, bool]) -> None:
    assert declared_view_settings(environment, symmetry) == settings
