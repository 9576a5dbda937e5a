"""The point robot: symmetric under every turn and mirror, and the frame that shows it to any agent."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import SAC

from equirl.agents import EquivariantSACPolicy
from equirl.envs.checker import check_symmetry
from equirl.envs.forces import shortened_forces
from equirl.envs.plane_frame import InPlaneFrame
from equirl.envs.point_robot import PointRobotEnv
from equirl.plane import PlaneElements, PlaneVectors


def moved_state(g: PlaneElements, state: np.ndarray) -> np.ndarray:
    """Return a state turned, mirrored and moved; its velocity does not move along."""
    matrix = g.matrices()[0].double().numpy()
    turned = state @ matrix.T
    turned[[0, *range(2, len(state))]] += g.move[0].double().numpy()
    return turned


def test_it_is_an_environment() -> None:
    check_env(gym.make("equirl/PointRobot-v0").unwrapped, skip_render_check=True)


@pytest.mark.parametrize("n_obstacles", [0, 3])
def test_every_turn_mirror_and_move_of_the_world_is_a_symmetry(n_obstacles: int) -> None:
    one, other = PointRobotEnv(n_obstacles), PointRobotEnv(n_obstacles)
    seen, acted = one.layout
    generator, random = torch.Generator().manual_seed(0), np.random.default_rng(0)
    hits = 0
    for episode in range(20):
        g = PlaneElements.sample(1, mirrors=True, reach=2.0, generator=generator)
        observation, _ = one.reset(seed=episode)
        image, _ = other.reset(options={"state": moved_state(g, one.state())})
        for _ in range(60):
            expected = seen.transform(g, torch.as_tensor(observation)[None])[0].numpy()
            assert np.allclose(image, expected, atol=1e-5)
            force = random.normal(size=2) + one.goal - one.place
            before = one.place
            observation, reward, arrived, cut, _ = one.step(force)
            hits += int((before == one.place).all())
            turned = acted.transform(g, torch.as_tensor(force)[None])[0].numpy()
            image, same_reward, same_end, same_cut, _ = other.step(turned)
            assert same_reward == pytest.approx(reward, abs=1e-6)
            assert (same_end, same_cut) == (arrived, cut)
            if arrived or cut:
                break
    assert (hits > 0) == (n_obstacles > 0)


def test_the_checker_finds_its_quarter_turns() -> None:
    assert check_symmetry(gym.make("equirl/PointRobot-v0", n_obstacles=1), "plane-d4").verdict == "holds"


def test_in_a_frame_turned_worlds_are_one_world() -> None:
    generator, random = torch.Generator().manual_seed(1), np.random.default_rng(1)
    for mirrors in (False, True):
        for episode in range(10):
            robots = [PointRobotEnv(2), PointRobotEnv(2)]
            one, other = (InPlaneFrame(robot, *robot.layout, mirrors=mirrors) for robot in robots)
            g = PlaneElements.sample(1, mirrors, reach=1.0, generator=generator)
            observation, _ = one.reset(seed=episode)
            image, _ = other.reset(options={"state": moved_state(g, robots[0].state())})
            for _ in range(40):
                assert np.allclose(observation, image, atol=2e-5)
                assert abs(observation[1]) < 1e-6 < observation[0]  # the goal lies ahead
                action = random.uniform(-1, 1, 2)
                observation, reward, arrived, *_ = one.step(action)
                image, same_reward, same_end, *_ = other.step(action)
                assert same_reward == pytest.approx(reward, abs=1e-5)
                assert same_end == arrived
                if arrived:
                    break


def test_at_rest_without_obstacles_no_side_is_told_and_none_is_taken() -> None:
    random = np.random.default_rng(2)
    for episode in range(20):
        robots = [PointRobotEnv(0), PointRobotEnv(0)]
        one, other = (InPlaneFrame(robot, *robot.layout, mirrors=True) for robot in robots)
        g = PlaneElements.sample(1, True, generator=torch.Generator().manual_seed(episode))
        observation, _ = one.reset(seed=episode)
        image, _ = other.reset(options={"state": moved_state(g, robots[0].state())})
        for _ in range(3):
            assert np.allclose(observation, image, atol=2e-5)
            action = random.uniform(-1, 1, 2)
            observation, image = one.step(action)[0], other.step(action)[0]
            assert np.allclose(robots[1].state(), moved_state(g, robots[0].state()), atol=1e-5)


@pytest.mark.parametrize("name", ["PointRobot", "PointRobotInFrame", "Swarm"])
def test_it_can_be_made_from_its_spec(name: str) -> None:
    world = gym.make(f"equirl/{name}-v0")
    again = gym.make(world.spec)  # type: ignore[arg-type]
    assert np.array_equal(again.reset(seed=1)[0], world.reset(seed=1)[0])
    assert world.spec is not None
    assert gym.envs.registration.EnvSpec.from_json(world.spec.to_json()) == world.spec


def test_agents_learn_in_it_and_in_its_frame() -> None:
    plane = {"symmetry": "plane-d4", "method": "equitune", "net_arch": [16]}
    SAC(EquivariantSACPolicy, "equirl/PointRobot-v0", policy_kwargs=plane, learning_starts=20, seed=0).learn(40)
    robot = PointRobotEnv()
    SAC("MlpPolicy", InPlaneFrame(robot, *robot.layout), learning_starts=20, seed=0).learn(40)


def test_mistakes_are_named() -> None:
    robot = PointRobotEnv(1)
    seen, acted = robot.layout
    with pytest.raises(ValueError, match="6 numbers"):
        InPlaneFrame(robot, PlaneVectors("vector"), acted)
    with pytest.raises(ValueError, match="reference 5"):
        InPlaneFrame(robot, seen, acted, reference=5)
    with pytest.raises(TypeError, match="flat Box"):
        InPlaneFrame(gym.make("FrozenLake-v1"), seen, acted)
    with pytest.raises(gym.error.ResetNeeded):
        robot.step(np.zeros(2))
    robot.reset(seed=0)
    with pytest.raises(ValueError, match="two finite numbers"):
        robot.step(np.array([np.nan, 0.0]))
    assert np.array_equal(shortened_forces([3e200, 4e200], 1), [[0.6, 0.8]])
    with pytest.raises(TypeError, match="two finite numbers"):
        robot.step("north")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown reset options"):
        robot.reset(options={"goal": 3})
    with pytest.raises(ValueError, match="a state is"):
        robot.reset(options={"state": np.zeros((2, 2))})
    with pytest.raises(ValueError, match="turns vectors"):
        SAC(EquivariantSACPolicy, "Pendulum-v1", policy_kwargs={"symmetry": "plane-c4"})
