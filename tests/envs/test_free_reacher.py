"""Reacher without its fixed axis: every turn and mirror is a symmetry, starts included."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import SAC

from equirl.agents import EquivariantSACPolicy
from equirl.envs import check_symmetry
from equirl.mdp_symmetry import MDPSymmetry
from equirl.plane import PlaneElements, PlaneVectors

pytest.importorskip("mujoco")
from equirl.envs.free_reacher import FreeReacher, free_reacher


def moved_state(g: PlaneElements, state: np.ndarray) -> np.ndarray:
    """Return a state turned and mirrored: joints change their signs, and the first one turns along."""
    sign = -1.0 if bool(g.mirror[0]) else 1.0
    matrix = g.matrices()[0].double().numpy()
    first, second, *_ = state[:2] * sign
    return np.concatenate([[first + float(g.angle[0]), second], matrix @ state[2:4], state[4:6] * sign, state[6:]])


def test_it_is_an_environment() -> None:
    check_env(free_reacher(), skip_render_check=True)
    for name in ("FreeReacher", "FreeReacherInFrame"):
        world = gym.make(f"equirl/{name}-v0")
        assert world.spec is not None
        assert world.spec.max_episode_steps == 50
        again = gym.make(world.spec)
        assert np.array_equal(again.reset(seed=1)[0], world.reset(seed=1)[0])


def test_every_turn_and_mirror_is_a_symmetry() -> None:
    one, other = free_reacher(), free_reacher()
    seen, acted = one.layout
    generator, random = torch.Generator().manual_seed(0), np.random.default_rng(0)
    for episode in range(10):
        g = PlaneElements.sample(1, mirrors=True, generator=generator)
        observation, _ = one.reset(seed=episode)
        image, _ = other.reset(options={"state": moved_state(g, one.state())})
        for _ in range(50):
            expected = seen.transform(g, torch.as_tensor(observation)[None])[0].numpy()
            assert np.allclose(image, expected, atol=1e-5)
            action = random.uniform(-1, 1, 2).astype(np.float32)
            observation, reward, *_ = one.step(action)
            image, same, *_ = other.step(acted.transform(g, torch.as_tensor(action)[None])[0].numpy())
            assert same == pytest.approx(reward, abs=1e-6)


def test_the_checker_finds_its_quarter_turns_and_mirrors() -> None:
    arm = gym.make("equirl/FreeReacher-v0")
    seen, acted = arm.get_wrapper_attr("layout")
    good = MDPSymmetry("turns", seen.sampled(4, mirrors=True), acted.sampled(4, mirrors=True))
    assert check_symmetry(arm, good).verdict == "holds"
    scalars = PlaneVectors("scalar", "scalar")  # torques that a mirror leaves as they are
    assert check_symmetry(arm, MDPSymmetry("wrong", good.observation, scalars.sampled(4, True))).verdict == "violated"


def test_the_arm_starts_at_every_angle_and_moves_as_reachers_does() -> None:
    free, plain = free_reacher(), gym.make("Reacher-v5").unwrapped
    angles = [np.arctan2(*free.reset(seed=seed)[0][[1, 0]]) for seed in range(400)]
    counts, _ = np.histogram(angles, bins=8, range=(-np.pi, np.pi))
    assert counts.min() > 25  # of 50 each
    plain.reset(seed=3)
    state = np.concatenate([plain.data.qpos, plain.data.qvel])  # type: ignore[attr-defined]
    free.reset(options={"state": state})
    for _ in range(20):
        action = np.array([0.3, -0.8])
        there, reward, *_ = plain.step(action)
        here, same, *_ = free.step(action)
        assert np.array_equal(np.sort(here), np.sort(there.astype(np.float32)))
        assert same == reward


def test_in_its_frame_turned_worlds_are_one_world() -> None:
    frames = [gym.make("equirl/FreeReacherInFrame-v0") for _ in range(2)]
    arms = [frame.unwrapped for frame in frames]
    g = PlaneElements(torch.tensor([1.3]), torch.tensor([True]), torch.zeros(1, 2))
    observation, _ = frames[0].reset(seed=0)
    data = arms[0].data  # type: ignore[attr-defined]
    state = moved_state(g, np.concatenate([data.qpos, data.qvel]))
    image, _ = frames[1].reset(options={"state": state})
    random = np.random.default_rng(0)
    for _ in range(30):
        assert np.allclose(observation, image, atol=2e-5)
        action = random.uniform(-1, 1, 2)
        observation, image = frames[0].step(action)[0], frames[1].step(action)[0]


def test_agents_learn_on_it() -> None:
    seen, acted = free_reacher().layout
    turns = MDPSymmetry("turns", seen.sampled(8, mirrors=True), acted.sampled(8, mirrors=True))
    kwargs = {"symmetry": turns, "method": "equitune", "net_arch": [16]}
    agent = SAC(EquivariantSACPolicy, "equirl/FreeReacher-v0", policy_kwargs=kwargs, learning_starts=20, seed=0)
    agent.learn(40)


def test_mistakes_are_named() -> None:
    with pytest.raises(TypeError, match="as it is"):
        FreeReacher(free_reacher())
    with pytest.raises(TypeError, match="Reacher-v5"):
        FreeReacher(gym.make("Pendulum-v1"))
    arm = free_reacher()
    with pytest.raises(ValueError, match="unknown reset options"):
        arm.reset(options={"angle": 3})
    with pytest.raises(ValueError, match="a state is"):
        arm.reset(options={"state": np.zeros(3)})
