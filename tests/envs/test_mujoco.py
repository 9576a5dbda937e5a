"""Mirrors of MuJoCo robots, derived from their models: which there are, whether they hold, and what breaks them."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from command_line import here
from gymnasium.wrappers import RescaleAction, TransformReward

from equirl import MDPSymmetry, dihedral_group, signed_permutation_representation
from equirl.envs import SymmetricStarts, check_symmetry, mujoco_mirror, transform_state
from equirl.envs.catalog import MUJOCO_MIRRORS
from equirl.envs.discovery import discover_symmetry
from equirl.envs.mujoco_pairs import find_mirrors
from equirl.envs.mujoco_parameters import differences, equalized
from equirl.envs.mujoco_states import MujocoStates
from equirl.symmetry import load_symmetry, save_symmetry

mujoco = pytest.importorskip("mujoco", reason="the extra mujoco is not installed: pip install 'equirl[mujoco]'")
pytestmark = pytest.mark.filterwarnings("ignore:.*is out of date:DeprecationWarning")

TWO_ARMS = """
<mujoco>
  <option timestep="0.01" integrator="RK4"/>
  <worldbody>
    <geom type="plane" size="5 5 1"/>
    <body name="torso" pos="0 0 0.3">
      <freejoint/>
      <geom type="box" size="0.2 0.1 0.05"/>
      <body name="left_arm" pos="0.05 0.1 0" quat="0.7071067811865476 0 0 0.7071067811865476">
        <joint type="ball" damping="0.1"/>
        <geom type="capsule" fromto="0 0 0 0.2 0 0.05" size="0.03"/>
        <body pos="0.2 0 0.05">
          <joint name="left_elbow" axis="0 1 0" damping="0.1"/>
          <geom type="capsule" fromto="0 0 0 0.1 0.02 0" size="0.02"/>
        </body>
      </body>
      <body name="right_arm" pos="0.05 -0.1 0" quat="0.7071067811865476 0 0 -0.7071067811865476">
        <joint type="ball" damping="0.1"/>
        <geom type="capsule" fromto="0 0 0 0.2 0 0.05" size="0.03"/>
        <body pos="0.2 0 0.05">
          <joint name="right_elbow" axis="0 -1 0" damping="0.1"/>
          <geom type="capsule" fromto="0 0 0 0.1 -0.02 0" size="0.02"/>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <general joint="right_elbow" ctrlrange="-1 1" ctrllimited="true" gear="0.4" dyntype="filter" dynprm="0.1"/>
    <general joint="left_elbow" ctrlrange="-1 1" ctrllimited="true" gear="0.4" dyntype="filter" dynprm="0.1"/>
  </actuator>
</mujoco>
"""
"""A robot of a user's own: ball joints in turned frames, actuators that remember, the right arm's before the left's."""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings into the current folder


def own_robot(folder: Path, xml: str = TWO_ARMS) -> gym.Env[Any, Any]:
    from gymnasium.envs.mujoco.mujoco_env import MujocoEnv

    class TwoArms(MujocoEnv):
        metadata: ClassVar[dict[str, Any]] = {
            "render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"],
            "render_fps": 20,
        }

        def __init__(self, path: Path) -> None:
            super().__init__(str(path), 5, gym.spaces.Box(-np.inf, np.inf, (31,)))

        def _get_obs(self) -> Any:
            return np.concatenate([self.data.qpos[2:], self.data.qvel, self.data.act])

        def reset_model(self) -> Any:
            noise = self.np_random.uniform(-0.1, 0.1, self.model.nq), self.np_random.uniform(-1, 1, self.model.nv)
            self.set_state(self.init_qpos + noise[0], self.init_qvel + noise[1])
            return self._get_obs()

        def step(self, action: Any) -> Any:
            self.do_simulation(action, self.frame_skip)
            return self._get_obs(), float(self.data.qvel[0]), False, False, {}

    path = folder / "two_arms.xml"
    path.write_text(xml)
    return TwoArms(path.resolve())


@pytest.fixture(scope="module")
def ant() -> gym.Env[Any, Any]:
    """An ant as it comes, which no test changes; its mirrors are derived once."""
    return gym.make("Ant-v5")


def test_no_module_needs_mujoco_to_be_imported() -> None:
    for path in (Path(__file__).resolve().parents[2] / "envs").glob("*.py"):
        imported = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, (ast.Import))]
        assert "mujoco" not in {alias.name.split(".")[0] for node in imported for alias in node.names}, path


@pytest.mark.parametrize(
    ("robot", "plane"),
    [
        *[("Ant", "y"), ("Humanoid", "y"), ("HumanoidStandup", "y"), ("Walker2d", "y"), ("Swimmer", "y")],
        *[("Reacher", "y"), ("InvertedPendulum", "x"), ("InvertedDoublePendulum", "x")],
    ],
)
@pytest.mark.parametrize("version", ["v4", "v5"])
def test_every_robot_with_a_mirror_has_it(robot: str, version: str, plane: str) -> None:
    environment = gym.make(f"{robot}-{version}")
    symmetry = mujoco_mirror(environment)
    found = mujoco_mirror(environment, plane)  # type: ignore[arg-type]
    assert symmetry == found
    assert symmetry.observation.shape == environment.observation_space.shape
    assert not torch.equal(symmetry.observation.transform(1, (x := torch.rand(1, *symmetry.observation.shape))), x)


@pytest.mark.parametrize(
    ("robot", "reason"),
    [
        ("HalfCheetah-v5", "geom head at .0.6, 0, 0.8. has no counterpart at .-0.6, 0, 0.8."),
        ("Hopper-v5", "thigh_joint has the range .-2.618, 0., whose image .0, 2.618. is not that of itself"),
        ("Pusher-v5", "body object at .0.45, -0.05, -0.275. has no counterpart"),
    ],
)
def test_a_robot_without_a_mirror_says_what_has_no_counterpart(robot: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"has no mirror: .*{reason}"):
        check_symmetry(gym.make(robot), "mirror")


def test_the_ant_swaps_left_and_right_legs(ant: Any) -> None:
    action = mujoco_mirror(ant).action
    # hip 4, ankle 4, hip 1, ankle 1, hip 2, ankle 2, hip 3, ankle 3: legs 1 and 4, 2 and 3; hips turn about z
    assert action.index[1].tolist() == [2, 3, 0, 1, 6, 7, 4, 5]
    assert action.sign[1].tolist() == [-1, 1, -1, 1, -1, 1, -1, 1]


@pytest.mark.parametrize("robot", [name for name in MUJOCO_MIRRORS if name.endswith("-v5")])
def test_mirrors_that_hold(robot: str) -> None:
    report = check_symmetry(gym.make(robot), "mirror", n_transitions=60, n_resets=60)
    assert report.verdict == "holds", report
    # Gravity leans by 1e-5, which no step shows at this tolerance.
    assert ("gravity (1e-05, 0, -9.81)" in str(report)) == (robot == "InvertedDoublePendulum-v5")


@pytest.mark.parametrize(
    ("robot", "cause"),
    [
        ("Walker2d-v4", "geom foot_geom: friction (0.9, 0.1, 0.1), the image of geom foot_left_geom (1.9, 0.1, 0.1)."),
        ("InvertedPendulum-v5", "body pole: centre of mass (0.0005, 0, 0.3), its image (-0.0005, 0, 0.3)."),
        ("Humanoid-v5", "joint right_hip_y: armature 0.008, the image of joint left_hip_y 0.01"),
    ],
)
def test_a_broken_mirror_names_its_cause(robot: str, cause: str) -> None:
    report = check_symmetry(gym.make(robot), "mirror", n_transitions=120, check_starts=False)
    (violation,) = report.violations
    assert cause in violation.cause
    assert "With this mended in a copy of the model, the steps agree" in str(report)


def test_a_reward_for_going_forward_breaks_the_ants_other_mirror(ant: Any) -> None:
    report = check_symmetry(ant, mujoco_mirror(ant, "x"), n_transitions=10, check_starts=False)
    (violation,) = report.violations
    assert violation.detail.startswith("reward")
    assert "the environment's rules break the mirror" in violation.cause


def _set(field: str, index: Any, value: float) -> Callable[[Any], None]:
    return lambda model: getattr(model, field).__setitem__(index, value)


LEG, ANKLE, DOF, GEOM = 4, 2, 7, 4  # of the ant's first leg


@pytest.mark.parametrize(
    ("parameter", "change"),
    [
        ("friction", _set("geom_friction", (GEOM, 0), 0.7)),
        ("solref", _set("geom_solref", (GEOM, 0), 0.03)),
        ("size", _set("geom_size", (GEOM, 0), 0.09)),
        ("position", _set("geom_pos", (GEOM, 0), 0.21)),
        ("direction", _set("geom_quat", (GEOM, 3), 0.02)),
        ("armature", _set("dof_armature", DOF, 1.2)),
        ("damping", _set("dof_damping", DOF, 1.2)),
        ("stiffness", _set("jnt_stiffness", ANKLE, 3.0)),
        ("range", _set("jnt_range", (ANKLE, 1), 1.1)),
        ("axis", _set("jnt_axis", (ANKLE, 2), 0.02)),
        ("anchor", _set("jnt_pos", (ANKLE, 2), 0.01)),
        ("mass", _set("body_mass", LEG, 0.08)),
        ("centre of mass", _set("body_ipos", (LEG, 2), 0.01)),
        ("inertia", _set("body_inertia", (LEG, 0), 0.004)),
        ("gear", _set("actuator_gear", (3, 0), 140.0)),
        ("ctrlrange", _set("actuator_ctrlrange", (3, 0), -0.9)),
        ("gravity", lambda model: model.opt.gravity.__setitem__(1, 0.01)),
    ],
)
def test_a_parameter_that_differs_is_found_and_made_equal(parameter: str, change: Callable[[Any], None]) -> None:
    model = gym.make("Ant-v5").unwrapped.model  # type: ignore[attr-defined]
    (mirror,) = (each for each in find_mirrors(model)[0] if str(each.reflection) == "y -> -y")
    assert not differences(model, mirror)
    model.geom_sameframe[GEOM] = model.body_sameframe[LEG] = 0  # or MuJoCo would not read the places of these
    change(model)
    assert [each.parameter for each in differences(model, mirror)] == [parameter]
    assert not differences(equalized(model, mirror), mirror)
    assert differences(model, mirror), "the model itself has been changed"


def test_the_parameter_that_matters_is_told_from_one_that_does_not() -> None:
    environment = gym.make("Ant-v5")
    model = environment.unwrapped.model  # type: ignore[attr-defined]
    model.dof_armature[DOF] = 1.2
    model.geom_friction[GEOM, 0] = 0.7  # the floor's is larger, and the larger one counts
    report = check_symmetry(environment, "mirror", n_transitions=5, check_starts=False)
    (violation,) = report.violations
    assert violation.cause.startswith("joint ankle_1: armature 1.2, the image of joint ankle_4 1. ")


Tables = tuple[list[int], list[int], list[int], list[int]]


def _sign_of_a_hinge(tables: Tables) -> None:
    tables[1][5] *= -1
    tables[1][tables[0][5]] *= -1


def _pair_not_swapped(tables: Tables) -> None:
    partner = tables[0][20]
    tables[0][20], tables[0][partner] = 20, partner


def _forgotten_pseudo_vector(tables: Tables) -> None:
    for i in (16, 17, 18):  # the torso's angular velocity
        tables[1][i] *= -1


def _not_its_own_inverse(tables: Tables) -> None:
    tables[1][5] *= -1


def _action_left_out(tables: Tables) -> None:
    partner = tables[2][1]
    tables[2][1], tables[2][partner] = 1, partner


@pytest.mark.parametrize(
    ("mistake", "named"),
    [
        (_sign_of_a_hinge, "observation[5] +observation[11], where the model's mirror, y -> -y, gives it -observation"),
        (_pair_not_swapped, "observation[20] +observation[20], where .* gives it +observation[26]"),
        (_forgotten_pseudo_vector, "observation[16] +observation[16], where .* gives it -observation[16]"),
        (_not_its_own_inverse, "rho(s) rho(s) is not rho(e) at coordinate 5"),
        (_action_left_out, "action[1] +action[1], where .* gives it +action[3]"),
    ],
)
def test_a_table_with_one_mistake_is_caught_and_the_coordinate_named(
    mistake: Callable[[Tables], None], named: str, ant: Any
) -> None:
    right = mujoco_mirror(ant)
    tables: Any = [
        each.tolist()
        for rep in (right.observation, right.action)
        for each in (rep.index[1], rep.sign[1].long())  # type: ignore[union-attr]
    ]
    assert _of_tables(tables).observation.same_as(right.observation)
    mistake(tables)
    try:
        report = check_symmetry(ant, _of_tables(tables), n_transitions=4, check_starts=False)
    except ValueError as error:
        text = str(error)
    else:
        assert report.verdict == "violated"
        text = report.violations[0].cause
    assert all(part in text for part in named.split(".*")), text


def _of_tables(tables: Tables) -> MDPSymmetry:
    group = dihedral_group(1)
    reps = []
    for source, sign in (tables[:2], tables[2:]):
        to = np.argsort(source).tolist()
        signs = [sign[k] for k in to]
        reps.append(signed_permutation_representation(group, [list(range(len(to))), to], [[1] * len(to), signs]))
    return MDPSymmetry("by hand", reps[0], reps[1])


def test_a_robot_of_ones_own_with_ball_joints_and_activations(tmp_path: Path) -> None:
    environment = own_robot(tmp_path)
    report = check_symmetry(environment, "mirror", n_transitions=80, n_resets=60)
    assert report.verdict == "holds", report
    heavier = TWO_ARMS.replace('fromto="0 0 0 0.1 -0.02 0" size="0.02"', 'fromto="0 0 0 0.1 -0.02 0" size="0.025"')
    (violation,) = check_symmetry(
        own_robot(tmp_path, heavier), "mirror", n_transitions=80, check_starts=False
    ).violations
    assert "body 5 on body right_arm" in violation.cause
    assert "With this mended in a copy of the model, the steps agree" in violation.cause


def test_a_restored_state_goes_on_as_it_did() -> None:
    environment = gym.make("Walker2d-v5").unwrapped
    environment.reset(seed=0)
    states, random = MujocoStates(environment), np.random.default_rng(0)
    for _ in range(30):
        environment.step(random.uniform(-1, 1, 6))
    state = states.save_state()
    action = random.uniform(-1, 1, 6)
    first = environment.step(action)
    environment.step(action)
    states.restore_state(state)
    again = environment.step(action)
    assert np.array_equal(first[0], again[0])
    assert first[1] == again[1]


def test_what_is_carried_to_the_mirror_image_shows_it() -> None:
    environment = gym.make("Reacher-v5")
    symmetry = mujoco_mirror(environment)
    seen, _ = environment.reset(seed=1)
    moved = transform_state(environment, symmetry, 1, seen)
    expected = symmetry.observation.transform(1, torch.from_numpy(seen)[None])[0]
    assert np.allclose(moved, expected.numpy(), atol=1e-12)
    assert np.allclose(transform_state(environment, symmetry, 1, moved), seen, atol=1e-12)
    assert SymmetricStarts(environment, "mirror").reset(seed=0)[1]["element"] in ("e", "s")


def test_a_derived_mirror_is_saved_and_checked_by_its_file(tmp_path: Path) -> None:
    environment = gym.make("Swimmer-v5")
    save_symmetry(mujoco_mirror(environment), tmp_path / "swimmer.toml")
    assert load_symmetry(tmp_path / "swimmer.toml") == mujoco_mirror(environment)
    assert check_symmetry(environment, str(tmp_path / "swimmer.toml"), n_transitions=20, check_starts=False).ok


def test_a_symmetry_far_from_any_mirror_is_not_checked() -> None:
    group = dihedral_group(1)
    reverse = [[0, 1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1, 0]]
    swap = signed_permutation_representation(group, reverse, None)
    pair = signed_permutation_representation(group, [[0, 1], [1, 0]], None)
    report = check_symmetry(gym.make("Swimmer-v5"), MDPSymmetry("odd", swap, pair), check_starts=False)
    assert report.verdict == "not checked"
    assert "no mirror of the model moves observations as s does: the nearest" in report.skipped[0]


def _with_a_lever() -> gym.Env[Any, Any]:
    environment = gym.make("Reacher-v5")
    environment.unwrapped.action_space = gym.spaces.Discrete(3)
    return environment


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: gym.make("CartPole-v1"), TypeError, "CartPoleEnv is none"),
        (lambda: _with_a_lever(), TypeError, "ReacherEnv is none"),
        (lambda: RescaleAction(gym.make("Reacher-v5"), -0.5, 0.5), TypeError, "a wrapper changes"),
    ],
)
def test_other_environments_have_no_derived_mirror(make: Callable[[], Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        mujoco_mirror(make())


def test_a_reward_on_one_side_is_no_matter_of_the_model() -> None:
    environment = TransformReward(gym.make("Reacher-v5"), lambda reward: reward * 1.0)
    assert check_symmetry(environment, "mirror", n_transitions=20, check_starts=False).ok
    inner: Any = environment.unwrapped
    own = inner.step
    inner.step = lambda action: (lambda seen, reward, *rest: (seen, reward + inner.data.qpos[0], *rest))(*own(action))
    (violation,) = check_symmetry(environment, "mirror", n_transitions=20, check_starts=False).violations
    assert violation.detail.startswith("reward")
    assert "the environment's rules break the mirror" in violation.cause
    with pytest.raises(ValueError, match="axis is 'x', 'y', 'z' or None; got 'w'"):
        mujoco_mirror(environment, "w")  # type: ignore[arg-type]


def test_equirl_check_derives_the_mirror() -> None:
    found = here("check", "InvertedPendulum-v5", "--symmetry", "mirror", "--transitions", "30", "--no-starts")
    assert (found.status, "cause: body pole: centre of mass" in found.out) == (1, True)
    none = here("check", "Hopper-v5", "--symmetry", "mirror")
    assert (none.status, len(none.err)) == (2, 1)
    assert "HopperEnv has no mirror: x -> -x: joint thigh_joint" in none.err[0]


@pytest.mark.parametrize(
    ("name", "outcome"), [("Walker2d-v5", "exact"), ("Walker2d-v4", "none found"), ("Hopper-v5", "none found")]
)
def test_discovery_takes_the_mirror_of_the_model(name: str, outcome: str) -> None:
    report = discover_symmetry(gym.make(name))
    assert report.outcome == outcome, report
    if report.symmetry is not None:
        assert report.symmetry.fingerprint() == mujoco_mirror(gym.make(name)).fingerprint()
    else:
        assert "friction" in str(report) or "no mirror" in str(report)
