"""LunarLander: its states are restored and mirrored, with the noise of its engines."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from equirl import MDPSymmetry, dihedral_group
from equirl.constructions import permutation_representation, signed_permutation_representation
from equirl.envs import check_symmetry
from equirl.envs.deviation import measure_deviation
from equirl.envs.discovery import discover_symmetry
from equirl.envs.lander_states import LanderStates, lander_states

pytest.importorskip("Box2D")

_SIGNS = [-1, 1, -1, 1, -1, -1, 1, 1]
_SOURCES = [0, 1, 2, 3, 4, 5, 7, 6]


def _lander(**settings: Any) -> tuple[Any, LanderStates]:
    environment = gym.make("LunarLander-v3", **settings)
    environment.reset(seed=0)
    states = lander_states(environment.unwrapped)
    assert states is not None
    return environment.unwrapped, states


def _mirror(signs: list[int] = _SIGNS, actions: tuple[int, ...] = (0, 3, 2, 1)) -> MDPSymmetry:
    group = dihedral_group(1)
    return MDPSymmetry(
        "lander",
        signed_permutation_representation(group, [list(range(8)), _SOURCES], [[1] * 8, signs]),
        permutation_representation(group, [[0, 1, 2, 3], list(actions)]),
    )


def _image(observation: NDArray[np.float32]) -> NDArray[np.float32]:
    moved = _mirror().observation.transform(1, torch.from_numpy(observation).unsqueeze(0))
    assert isinstance(moved, torch.Tensor)
    return np.asarray(moved[0])


def test_steps_from_restored_states_are_those_of_the_episode_to_the_last_bit() -> None:
    environment, states = _lander()
    random = np.random.default_rng(0)
    touched = ended = 0
    for episode in range(8):
        environment.reset(seed=episode)
        done = False
        while not done:
            before, action = states.save_state(), int(random.integers(4))
            seen, reward, done, *_ = environment.step(action)
            after = states.save_state()
            states.restore_state(before)
            again, same_reward, same_end, *_ = environment.step(action)
            np.testing.assert_array_equal(again, seen)
            assert (same_reward, same_end) == (reward, done)
            states.restore_state(after)
            touched += bool(seen[6:].any())
            ended += done
    assert touched > 5
    assert ended == 8


@pytest.mark.parametrize("continuous", [False, True])
def test_in_flight_the_image_of_a_step_is_the_step_of_the_image(continuous: bool) -> None:
    environment, states = _lander(continuous=continuous)
    random = np.random.default_rng(0)
    group = dihedral_group(1)
    thrust = signed_permutation_representation(group, [[0, 1], [0, 1]], [[1, 1], [1, -1]])
    symmetry = MDPSymmetry("lander", _mirror().observation, thrust) if continuous else _mirror()
    moved_by_noise = 0.0
    for _ in range(40):
        state = states.save_state()
        action: Any = random.uniform(-1, 1, 2).astype(np.float32) if continuous else int(random.integers(4))
        image = action * np.array([1, -1], np.float32) if continuous else [0, 3, 2, 1][action]
        seen, reward, *_ = environment.step(action)
        after = states.save_state()
        states.restore_state(state)
        start = states.transform_state(symmetry, 1)
        found, same_reward, *_ = environment.step(image)
        np.testing.assert_allclose(_image(found), seen, atol=1e-5)
        assert same_reward == pytest.approx(reward, abs=1e-3)
        states.restore_state(state)
        np.testing.assert_allclose(_image(start), states.observe(), atol=1e-6)
        # With the noise as it was the engines push elsewhere.
        states.transform_state(symmetry, 1)
        environment.np_random = np.random.default_rng(int(random.integers(2**31)))
        moved_by_noise = max(moved_by_noise, float(np.abs(_image(environment.step(image)[0]) - seen).max()))
        states.restore_state(after)
    assert moved_by_noise > 1e-3


def test_the_mirror_holds_nearly_and_wrong_tables_are_named() -> None:
    environment = gym.make("LunarLander-v3")
    deviation = measure_deviation(environment, _mirror(), n=100)
    assert deviation is not None
    assert deviation.nearly
    assert 0 < deviation.mean < 0.01
    spin = check_symmetry(environment, _mirror([*_SIGNS[:5], 1, 1, 1]), n_transitions=40)
    assert spin.verdict == "violated"
    assert "observation 5 otherwise" in str(spin)
    engines = check_symmetry(environment, _mirror(actions=(0, 1, 2, 3)), n_transitions=40)
    assert engines.verdict == "violated"
    assert "action 1, 3 otherwise" in str(engines)


def test_the_mirror_is_discovered_and_called_near() -> None:
    report = discover_symmetry(gym.make("LunarLander-v3"), steps=8000)
    assert report.outcome == "nearly", report
    (mirror,) = report.generators
    assert mirror.action.to == (0, 3, 2, 1)
    assert mirror.observation.signs == tuple(_SIGNS)
    assert report.deviation is not None
    assert report.error < 0.01


def test_before_a_reset_there_is_no_state() -> None:
    states = lander_states(gym.make("LunarLander-v3").unwrapped)
    assert states is not None
    with pytest.raises(ResetNeeded, match="before the first reset"):
        states.save_state()


def test_wind_has_no_mirror_image() -> None:
    environment = gym.make("LunarLander-v3", enable_wind=True)
    assert lander_states(environment.unwrapped) is None
    assert check_symmetry(environment, _mirror(), n_transitions=20).verdict == "not checked"
