"""What a peer expects of a batch of environments: copies, resets, rendering, attributes, errors."""

import copy
import pickle
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv

from equirl.agents import GridWorldVecEnv, make_vectorized_env
from equirl.envs import GridWorldEnv, GridWorldVectorEnv

SETTINGS: dict[str, dict[str, Any]] = {"plain": {"size": 4}, "random": {"size": 5, "wall_density": 0.2, "slip": 0.3}}
each_setting = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
each_copy = pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
WALLS = np.eye(4, dtype=bool)[::-1] & (np.arange(4) % 3 > 0)  # two walls on the way from corner to corner


@each_setting
@each_copy
@pytest.mark.parametrize("made_after", [0, 7])
def test_a_copy_goes_on_as_the_original_does(settings: dict[str, Any], duplicate: Any, made_after: int) -> None:
    actions = np.random.default_rng(0).integers(4, size=(made_after + 200, 3))
    vector = gym.make_vec("equirl/GridWorld-v0", 3, "vector_entry_point", **settings)
    for_sb3 = make_vectorized_env(n_envs=3, seed=1, env_kwargs=settings)
    vector.reset(seed=0)
    for_sb3.reset()
    for action in actions[:made_after]:
        vector.step(action)
        for_sb3.step(action)
    other, other_for_sb3 = duplicate(vector), duplicate(for_sb3)
    seen = set()
    for action in actions[made_after:]:
        here = vector.step(action)
        there = other.step(action)
        for one, another in zip(here[:4], there[:4], strict=True):
            np.testing.assert_array_equal(one, another)
        seen.add(there[0].tobytes())
        for one, another in zip(for_sb3.step(action)[:3], other_for_sb3.step(action)[:3], strict=True):
            np.testing.assert_array_equal(one, another)
    assert len(seen) > 50  # the copy shows its own steps, not one frozen observation


def test_copies_and_originals_do_not_disturb_each_other() -> None:
    vector = GridWorldVectorEnv(3, size=4)
    vector.reset(seed=0)
    other = copy.deepcopy(vector)
    before = vector.batch.observations()
    other.reset(seed=9)
    for action in np.random.default_rng(0).integers(4, size=(20, 3)):
        other.step(action)
    np.testing.assert_array_equal(vector.batch.observations(), before)


@each_copy
def test_infos_can_be_copied(duplicate: Any) -> None:
    environments = make_vectorized_env(n_envs=2, seed=0, monitor=False)
    environments.reset()
    infos = environments.step(np.zeros(2, dtype=int))[3]
    copied = duplicate(infos)
    assert copied == infos
    copied[0]["mine"] = 1
    for change in ("clear", "popitem"):
        with pytest.raises(TypeError, match="shared by all environments"):
            getattr(infos[0], change)()
    with pytest.raises(TypeError, match="shared by all environments"):
        infos[0].update(mine=1)
    with pytest.raises(TypeError, match="shared by all environments"):
        infos[0] |= {"mine": 1}
    assert "mine" not in infos[1]


@pytest.mark.parametrize("mode", AutoresetMode)
def test_a_step_or_a_picture_before_the_first_reset_is_an_error(mode: AutoresetMode) -> None:
    vector = GridWorldVectorEnv(3, mode, "rgb_array", size=4)
    with pytest.raises(ResetNeeded, match=r"step\(\) before environments \[0, 1, 2\]"):
        vector.step(np.zeros(3, dtype=int))
    with pytest.raises(ResetNeeded, match=r"render\(\) before"):
        vector.render()
    with pytest.raises(ResetNeeded, match=r"reset\(\) before environments \[1, 2\]"):  # as SyncVectorEnv refuses it
        vector.reset(options={"reset_mask": np.array([True, False, False])})
    vector.reset(seed=0)
    vector.step(np.zeros(3, dtype=int))
    for_sb3 = make_vectorized_env(n_envs=2, seed=0)
    with pytest.raises(ResetNeeded, match="call reset"):
        for_sb3.step(np.zeros(2, dtype=int))
    with pytest.raises(ResetNeeded, match="call reset"):
        for_sb3.get_images()


def test_walls_that_were_given_to_one_episode_end_with_it() -> None:
    options = {"agent": (0, 0), "goal": (3, 3), "walls": WALLS}
    vector, single = GridWorldVectorEnv(2, "SameStep", size=4), SyncVectorEnv([lambda: GridWorldEnv(size=4)] * 2)
    for each in (vector, single):
        each.reset(seed=4)
        each.reset(options=dict(options))
    np.testing.assert_array_equal(vector.reset()[0], single.reset()[0])
    vector.reset(options=options)
    for action in np.random.default_rng(0).integers(4, size=(40, 2)):
        observations = vector.step(action)[0]
    assert not observations[:, 2].any()


def test_reset_options_for_each_environment_of_sb3() -> None:
    options = [{"goal": (0, 0)}, {"goal": (1, 2), "agent": (3, 3)}, {}]
    batch = make_vectorized_env(n_envs=3, seed=2, env_kwargs={"size": 4}, monitor=False)
    single = DummyVecEnv([lambda: gym.make("equirl/GridWorld-v0", size=4)] * 3)
    for each in (batch, single):
        each.seed(2)
        each.set_options(options)
    np.testing.assert_array_equal(batch.reset(), single.reset())
    np.testing.assert_array_equal(batch.reset(), single.reset())  # options hold for one reset
    with pytest.raises(ValueError, match="2 options do not fit 3 environments"):
        batch.set_options(options[:2])
    with pytest.raises(TypeError, match="options must be a dict"):
        batch.set_options([{}, {}, "goal"])


@pytest.fixture
def _gymnasiums_own_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    # rl_zoo3, once another test has imported it, has put a wrapper of its own in its place.
    (original,) = (base for base in gym.wrappers.TimeLimit.__mro__ if base.__name__ == "TimeLimit")
    monkeypatch.setattr(gym.wrappers, "TimeLimit", original)


@each_setting
@pytest.mark.usefixtures("_gymnasiums_own_time_limit")
@pytest.mark.parametrize("limit", [1, 3, 50])
def test_gymnasiums_limit_on_episodes_truncates_as_its_wrapper_does(settings: dict[str, Any], limit: int) -> None:
    batch = gym.make_vec("equirl/GridWorld-v0", 4, "vector_entry_point", max_episode_steps=limit, **settings)
    single = gym.make_vec("equirl/GridWorld-v0", 4, "sync", max_episode_steps=limit, **settings)
    for_sb3 = make_vectorized_env(n_envs=4, seed=3, env_kwargs={**settings, "max_episode_steps": limit}, monitor=False)
    dummy = DummyVecEnv([lambda: gym.make("equirl/GridWorld-v0", max_episode_steps=limit, **settings)] * 4)
    dummy.seed(3)
    for one, other in ((batch.reset(seed=3)[0], single.reset(seed=3)[0]), (for_sb3.reset(), dummy.reset())):
        np.testing.assert_array_equal(one, other)
    for action in np.random.default_rng(0).integers(4, size=(200, 4)):
        for one, other in zip(batch.step(action)[:4], single.step(action)[:4], strict=True):
            np.testing.assert_array_equal(one, other)
        *ours, infos = for_sb3.step(action)
        *theirs, their_infos = dummy.step(action)
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)
        for info, other in zip(infos, their_infos, strict=True):
            assert info["TimeLimit.truncated"] == other["TimeLimit.truncated"]


def test_seeds_and_random_numbers_are_those_of_single_environments() -> None:
    batch, single = GridWorldVectorEnv(3, size=4), SyncVectorEnv([lambda: GridWorldEnv(size=4)] * 3)
    for each in (batch, single):
        each.reset(seed=[4, 5, 9])
        each.reset()
    assert batch.np_random_seed == single.np_random_seed == (4, 5, 9)
    for ours, theirs in zip(batch.np_random, single.np_random, strict=True):
        assert ours.bit_generator.state == theirs.bit_generator.state
    np.testing.assert_array_equal(batch.reset()[0], single.reset()[0])  # looking at them draws nothing


def test_numpy_integers_are_integers() -> None:
    vector = GridWorldVectorEnv(np.int64(2), size=4)
    np.testing.assert_array_equal(vector.reset(seed=np.int32(3))[0], vector.reset(seed=np.array([3, 4]))[0])
    copies = [copy.deepcopy(vector) for _ in range(3)]
    for kind, each in zip((np.int8, np.uint8, np.uint64), copies, strict=True):
        np.testing.assert_array_equal(each.step(np.array([1, 3], dtype=kind))[0], vector.step([1, 3])[0])
        vector = copy.deepcopy(copies[-1])


def test_the_spec_makes_the_same_environments_again() -> None:
    vector = gym.make_vec("equirl/GridWorld-v0", 3, "vector_entry_point", size=4, slip=0.1, max_episode_steps=9)
    again = gym.make_vec(vector.spec)
    np.testing.assert_array_equal(vector.reset(seed=0)[0], again.reset(seed=0)[0])
    assert again.spec == vector.spec
    assert gym.envs.registration.EnvSpec.from_json(vector.spec.to_json()) == vector.spec
    (spec, _) = make_vectorized_env(n_envs=2, env_kwargs={"size": 4, "max_episode_steps": 9}).get_attr("spec")
    single = gym.make(spec)
    assert single.unwrapped.size == 4
    assert single.spec.max_episode_steps == 9


@pytest.mark.parametrize("mode", ["rgb_array", "rgb_array_list"])
def test_it_renders_as_gymnasiums_own_vector_environments_do(mode: str) -> None:
    vector = gym.make_vec("equirl/GridWorld-v0", 2, "vector_entry_point", size=4, render_mode=mode)
    assert mode in vector.metadata["render_modes"]
    assert vector.metadata["render_fps"] == GridWorldEnv.metadata["render_fps"]
    vector.reset(seed=0)
    pictures = vector.render()
    assert isinstance(pictures, tuple if mode == "rgb_array" else list)
    assert [picture.shape for picture in pictures] == [(128, 128, 3)] * 2
    vector.close()
    vector.close()
    assert vector.closed
    silent = GridWorldVectorEnv(2)
    silent.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert silent.render() is None


def test_attributes_are_those_of_each_environment() -> None:
    batch = make_vectorized_env(n_envs=3, seed=0, env_kwargs={"size": 4, "wall_density": 0.3}, monitor=False)
    single = DummyVecEnv([lambda: gym.make("equirl/GridWorld-v0", size=4, wall_density=0.3)] * 3)
    single.seed(0)
    batch.reset()
    single.reset()
    for name in ("agent", "goal", "walls", "size", "max_steps", "render_mode", "np_random_seed"):
        for one, other in zip(batch.get_attr(name, [2, 0]), single.get_attr(name, [2, 0]), strict=True):
            np.testing.assert_array_equal(one, other)
    batch.get_attr("walls")[0][:] = True  # a copy
    np.testing.assert_array_equal(batch.get_attr("walls")[0], single.get_attr("walls")[0])
    assert not batch.has_attr("speed")
    with pytest.raises(IndexError, match="no environment 3; they are 0 to 2"):
        batch.get_attr("size", 3)


def test_an_array_of_actions_may_be_reused_between_sending_and_stepping() -> None:
    batch = make_vectorized_env(n_envs=2, seed=0, env_kwargs={"size": 4}, monitor=False)
    batch.reset()
    expected = copy.deepcopy(batch).step(np.array([1, 2]))[0]
    actions = np.array([1, 2])
    batch.step_async(actions)
    actions[:] = 0
    np.testing.assert_array_equal(batch.step_wait()[0], expected)
    with pytest.raises(RuntimeError, match=r"step_wait\(\) without actions"):
        batch.step_wait()


@each_copy
def test_an_environment_with_an_open_window_can_be_copied(duplicate: Any) -> None:
    environment = GridWorldEnv(size=3, render_mode="human")
    environment.reset(seed=0)
    other = duplicate(environment)
    for action in (0, 1, 2):
        np.testing.assert_array_equal(environment.step(action)[0], other.step(action)[0])
    other.close()
    environment.step(0)  # opens it anew
    environment.close()


NOT_COUNTS = [2.5, 2.0, float("nan"), True, "2", None]
NOT_SEEDS = [1.5, float("nan"), True, "3", {0: 1}, [0, 1.5], ["a", "b"]]
NOT_ACTIONS = [
    np.array([0.0, 1.0]),
    np.array([np.nan, 1.0]),
    np.array([True, False]),
    np.array(["0", "1"]),
    [None, 0],
]
NOT_ACTION_SHAPES = [0, np.zeros(3, dtype=int), np.zeros((2, 1), dtype=int), [], [[0], [0, 1]]]


@pytest.mark.parametrize("count", NOT_COUNTS, ids=repr)
def test_a_number_of_environments_is_whole(count: Any) -> None:
    for make in (GridWorldVectorEnv, GridWorldVecEnv, lambda n: make_vectorized_env(n_envs=n)):
        with pytest.raises(TypeError, match=r"n(um)?_envs must be a whole number"):
            make(count)
    if count is not None:  # no limit
        with pytest.raises(TypeError, match="max_episode_steps must be a whole number"):
            GridWorldVectorEnv(2, max_episode_steps=count)


@pytest.mark.parametrize("seed", NOT_SEEDS, ids=repr)
def test_a_seed_is_a_whole_number(seed: Any) -> None:
    with pytest.raises(TypeError, match="a seed must be a whole number"):
        GridWorldVectorEnv(2).reset(seed=seed)
    with pytest.raises(TypeError, match="a seed must be a whole number"):
        make_vectorized_env(n_envs=2, seed=seed)


def test_actions_are_one_integer_for_each_environment() -> None:
    vectors = [GridWorldVectorEnv(2, mode, size=4) for mode in AutoresetMode]
    for_sb3 = make_vectorized_env(n_envs=2, env_kwargs={"size": 4})
    for each in (*vectors, for_sb3):
        each.reset()
    over = GridWorldVectorEnv(2, size=4, max_steps=1)  # its next step resets, and looks at no action
    over.reset(seed=0)
    over.step([0, 0])
    for each in (*vectors, over, for_sb3):
        for actions in NOT_ACTIONS:
            with pytest.raises(TypeError, match="actions must be integers"):
                each.step(actions)
        for actions in NOT_ACTION_SHAPES:
            with pytest.raises(ValueError, match="actions must"):
                each.step(actions)
    with pytest.raises(ValueError, match="action -1 of environment 0"):
        vectors[0].step([-1, 0])


def test_other_mistakes_are_named_before_anything_changes() -> None:
    vector = GridWorldVectorEnv(2, size=4)
    observations, _ = vector.reset(seed=0)
    for wrong, error, message in (
        ({"seed": -1}, ValueError, "from 0; got -1"),
        ({"seed": [1, -2]}, ValueError, "from 0; got -2"),
        ({"options": [("goal", (0, 0))]}, TypeError, "options must be a dict"),
        ({"options": {"reset_mask": [1, 0]}}, ValueError, "reset_mask must be booleans"),
        ({"options": {"reset_mask": [False, False]}}, ValueError, "reset_mask chooses no environment"),
    ):
        with pytest.raises(error, match=message):
            vector.reset(**wrong)
        np.testing.assert_array_equal(vector.batch.observations(), observations)
    options = {"reset_mask": np.array([True, False]), "goal": (0, 0)}
    vector.reset(options=options)
    assert set(options) == {"reset_mask", "goal"}  # the caller's own
    with pytest.raises(ValueError, match="autoreset_mode 'never' is unknown; known: 'NextStep', 'SameStep'"):
        GridWorldVectorEnv(2, "never")
    with pytest.raises(ValueError, match="max_episode_steps must be a whole number from 1; got 0"):
        GridWorldVectorEnv(2, max_episode_steps=0)
    with pytest.raises(ValueError, match="render_mode 'human' is unknown"):
        GridWorldVecEnv(2, render_mode="human")
    with pytest.raises(TypeError, match="env_kwargs must be a dict"):
        make_vectorized_env(env_kwargs=["size"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="info_keywords must be a tuple"):
        make_vectorized_env(info_keywords="is_success")
    with pytest.raises(ValueError, match=r"infos have no \['speed'\]"):
        make_vectorized_env(info_keywords=("is_success", "speed"))
