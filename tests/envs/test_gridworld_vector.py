from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from equirl.agents import GridWorldVecEnv, make_vectorized_env
from equirl.envs import GridWorldEnv, GridWorldVectorEnv

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {"size": 5},
    "regions": {"size": 6, "start": "north-west", "goal": "not-north-west"},
    "one start": {"size": 4, "start": (0, 0, 1, 1)},
    "walls": {"size": 5, "wall_density": 0.2},
    "slip": {"size": 4, "slip": 0.3},
    "walls and slip": {"size": 5, "wall_density": 0.2, "slip": 0.3, "max_steps": 7},
}
each_setting = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)


def _assert_same(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, dict):
        assert set(ours) == set(theirs)
        for key in theirs:
            _assert_same(ours[key], theirs[key])
    elif isinstance(theirs, np.ndarray) and theirs.dtype == object:
        for one, other in zip(ours, theirs, strict=True):
            assert (one is None) == (other is None)
            np.testing.assert_array_equal(one, other)
    else:
        np.testing.assert_array_equal(ours, theirs)


@each_setting
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_the_batch_gives_what_single_environments_give(settings: dict[str, Any], mode: AutoresetMode) -> None:
    batch = GridWorldVectorEnv(5, mode, **settings)
    single = SyncVectorEnv([lambda: GridWorldEnv(**settings)] * 5, autoreset_mode=mode)
    _assert_same(batch.reset(seed=3)[0], single.reset(seed=3)[0])
    actions = np.random.default_rng(0).integers(4, size=(600, 5))
    for step, action in enumerate(actions):
        ours, theirs = batch.step(action), single.step(action)
        for one, other in zip(ours, theirs, strict=True):
            _assert_same(one, other)
        if step == 300:  # fixed parts draw less, from where the others have left off
            options = {"goal": (1, 2)} if "goal" not in settings else {}
            _assert_same(batch.reset(options=dict(options))[0], single.reset(options=dict(options))[0])
        if step == 400:
            mask = np.array([True, False, True, False, False])
            for each in (batch, single):
                each.reset(seed=11, options={"reset_mask": mask})


def test_blocks_of_starts_end_and_begin_again() -> None:
    # More episodes than one block holds.
    batch, single = GridWorldVectorEnv(1, "SameStep", size=2), GridWorldEnv(size=2)
    _assert_same(batch.reset(seed=0)[0][0], single.reset(seed=0)[0])
    for _ in range(900):
        batch_observation, _ = batch.reset()
        _assert_same(batch_observation[0], single.reset()[0])


@each_setting
def test_as_an_sb3_environment_it_gives_what_dummy_vec_env_gives(settings: dict[str, Any]) -> None:
    batch = make_vectorized_env("equirl/GridWorld-v0", 4, seed=5, env_kwargs=settings, monitor=False)
    single = DummyVecEnv([lambda: gym.make("equirl/GridWorld-v0", **settings) for _ in range(4)])
    single.seed(5)
    np.testing.assert_array_equal(batch.reset(), single.reset())
    for action in np.random.default_rng(1).integers(4, size=(400, 4)):
        (obs, rewards, dones, infos), theirs = batch.step(action), single.step(action)
        for one, other in zip((obs, rewards, dones), theirs[:3], strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
        for info, other in zip(infos, theirs[3], strict=True):
            assert info.keys() == other.keys()
            for key, value in other.items():
                np.testing.assert_array_equal(info[key], value)


def test_gymnasium_and_sb3_find_it_by_name() -> None:
    from gymnasium.utils.env_checker import data_equivalence

    vector = gym.make_vec("equirl/GridWorld-v0", num_envs=3, vectorization_mode="vector_entry_point", size=4)
    assert isinstance(vector.unwrapped, GridWorldVectorEnv)
    first, _ = vector.reset(seed=1)
    assert data_equivalence(first, vector.reset(seed=1)[0])
    assert vector.observation_space.contains(first)
    environments = make_vectorized_env("equirl/GridWorld-v0", 3, seed=0, info_keywords=("is_success",))
    assert isinstance(environments, VecMonitor)
    environments.reset()
    episodes = []
    for _ in range(60):
        _, _, _, infos = environments.step(np.zeros(3, dtype=int))
        episodes += [info["episode"] for info in infos if "episode" in info]
    assert episodes
    assert set(episodes[0]) == {"r", "l", "t", "is_success"}


def test_the_shared_info_cannot_be_changed_and_its_copy_can() -> None:
    environments = make_vectorized_env(n_envs=2, seed=0, monitor=False)
    environments.reset()
    _, _, _, infos = environments.step(np.zeros(2, dtype=int))
    with pytest.raises(TypeError, match="copy"):
        infos[0]["mine"] = 1
    own = infos[0].copy()
    own["mine"] = 1
    assert "mine" not in infos[1]


def test_pictures_show_each_environment() -> None:
    vector = GridWorldVectorEnv(2, render_mode="rgb_array", size=4)
    vector.reset(seed=0, options={"agent": (0, 0), "goal": (3, 3)})
    single = GridWorldEnv(size=4, render_mode="rgb_array")
    single.reset(options={"agent": (0, 0), "goal": (3, 3)})
    pictures = vector.render()
    assert pictures is not None
    np.testing.assert_array_equal(pictures[1], single.render())


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="num_envs must be a whole number from 1; got 0"):
        GridWorldVectorEnv(0)
    with pytest.raises(ValueError, match="render_mode 'human' is unknown"):
        GridWorldVectorEnv(2, render_mode="human")
    with pytest.raises(ValueError, match="wall_density must be in"):
        GridWorldVectorEnv(2, wall_density=0.9)
    vector = GridWorldVectorEnv(2, "Disabled", size=2, max_steps=1)
    with pytest.raises(ValueError, match="3 seeds do not fit 2"):
        vector.reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match="reset_mask must be booleans"):
        vector.reset(options={"reset_mask": np.zeros(3, dtype=bool)})
    with pytest.raises(ValueError, match="unknown reset options"):
        vector.reset(options={"speed": 1})
    vector.reset(seed=0)
    with pytest.raises(ValueError, match="action 4 of environment 1"):
        vector.step(np.array([0, 4]))
    vector.step(np.array([0, 0]))
    with pytest.raises(ValueError, match="are over; reset them"):
        vector.step(np.array([0, 0]))
    with pytest.raises(ValueError, match="n_envs must be a whole number from 1; got 0"):
        GridWorldVecEnv(0)
    with pytest.raises(TypeError, match="no single environments"):
        GridWorldVecEnv(1).env_method("seed")
    with pytest.raises(ValueError, match="Acrobot-v1 has no vectorised form"):
        make_vectorized_env("Acrobot-v1", 2)
