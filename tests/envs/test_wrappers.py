import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import RescaleAction, StickyAction, TransformReward
from minigrid.wrappers import OneHotPartialObsWrapper, StochasticActionWrapper, ViewSizeWrapper

from equirl import MDPSymmetry, TokenRepresentation, cyclic_group, permutation_representation
from equirl.envs import (
    EgocentricView,
    FullGridView,
    ShownAtStart,
    SymmetricStarts,
    TransformedFrame,
    check_symmetry,
    register_placer,
)

GRID = "equirl/GridWorld-v0"
ROOM = "MiniGrid-DoorKey-6x6-v0"


@pytest.mark.parametrize(
    "make",
    [
        lambda: SymmetricStarts(gym.make(GRID, size=4, goal="north-west"), "grid-d4"),
        lambda: TransformedFrame(gym.make(GRID, size=4), "grid-c4", "r"),
        lambda: ShownAtStart(gym.make(GRID, size=4), [1]),
        lambda: FullGridView(gym.make(ROOM), planes=["wall", "goal"], n_actions=4),
        lambda: SymmetricStarts(EgocentricView(gym.make(ROOM), mission=True), "minigrid-egocentric-z2"),
    ],
)
def test_a_wrapped_world_is_made_again_copied_and_pickled(make: Any) -> None:
    original = make()
    worlds = [original, gym.make(original.spec), copy.deepcopy(original), pickle.loads(pickle.dumps(original))]
    first, *others = [[world.reset(seed=3)[0], *(world.step(k % 3)[0] for k in range(6))] for world in worlds]
    assert all(type(world) is type(original) for world in worlds)
    for seen in others:
        assert all(np.array_equal(one, other) for one, other in zip(first, seen, strict=True))


def test_a_channel_is_shown_at_the_start_of_each_episode_alone() -> None:
    world, plain = ShownAtStart(gym.make(GRID), channels=[1]), gym.make(GRID)
    for seed in range(2):
        first, _ = world.reset(seed=seed)
        assert np.array_equal(first, plain.reset(seed=seed)[0])
        assert first[1].any()
        for action in range(3):
            seen, expected = world.step(action)[0], plain.step(action)[0]
            assert not seen[1].any()
            assert np.array_equal(seen[[0, 2]], expected[[0, 2]])
    for channels in ([], [3], [-1]):
        with pytest.raises(ValueError, match=r"channels are some of those of images \[C, H, W\], counted from 0; got"):
            ShownAtStart(gym.make(GRID), channels)
    with pytest.raises(ValueError, match=r"got \[0\] for observations \[4\]"):
        ShownAtStart(gym.make("CartPole-v1"), [0])


class _Dark(gym.Wrapper):
    """Changes observations without being an ``ObservationWrapper``."""

    def reset(self, **kwargs: Any) -> Any:
        return {"image": np.zeros(3), "mission": ""}, self.env.reset(**kwargs)[1]

    def step(self, action: Any) -> Any:
        return {"image": np.zeros(3), "mission": ""}, *self.env.step(action)[1:]


@pytest.mark.parametrize("view", [EgocentricView, FullGridView])
def test_views_look_at_the_world_itself(view: Any) -> None:
    plain = view(gym.make(ROOM))
    around = [
        view(TransformReward(gym.make(ROOM), lambda reward: 2 * reward)),
        view(_Dark(gym.make(ROOM))),
    ]
    for seed in range(3):
        want = [plain.reset(seed=seed)[0], plain.step(2)[0]]
        for world in around:
            assert np.array_equal(want, [world.reset(seed=seed)[0], world.step(2)[0]])
    for wrapper, what in [
        (OneHotPartialObsWrapper, "observations"),
        (lambda world: ViewSizeWrapper(world, 5), "observations"),
        (StochasticActionWrapper, "actions"),
    ]:
        inside = wrapper(gym.make(ROOM))
        with pytest.raises(ValueError, match=f"but {type(inside).__name__} inside it changes {what}"):
            view(inside)


def test_settings_of_views_that_mean_nothing_are_refused() -> None:
    with pytest.raises(TypeError, match=r"Write planes=\['goal'\]"):
        FullGridView(gym.make(ROOM), planes="goal")
    with pytest.raises(ValueError, match="plane 'goal' is named twice"):
        FullGridView(gym.make(ROOM), planes=["goal", "goal"])
    with pytest.raises(TypeError, match="n_actions must be a whole number"):
        FullGridView(gym.make(ROOM), n_actions=3.5)
    with pytest.raises(TypeError, match="mission is True or False; got 'yes'"):
        FullGridView(gym.make(ROOM), mission="yes")


class _Corridor(gym.Env):
    """Five places in a row, two moves numbered from 1."""

    observation_space, action_space = spaces.Discrete(5), spaces.Discrete(2, start=1)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict]:
        super().reset(seed=seed)
        self.place = 1
        return self.place, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict]:
        assert int(action) in (1, 2)
        self.place = int(np.clip(self.place + 2 * int(action) - 3, 0, 4))
        return self.place, 0.0, False, False, {}


def test_wrappers_take_discrete_observations_and_actions_from_one() -> None:
    register_placer(_Corridor, lambda world, seen: setattr(world, "place", int(seen)))
    group = cyclic_group(2)
    mirror = TokenRepresentation(group, [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]], shape=())
    symmetry = MDPSymmetry("mirror", mirror, permutation_representation(group, [[0, 1], [1, 0]]))
    starts = SymmetricStarts(_Corridor(), symmetry)
    assert {int(starts.reset(seed=seed)[0]) for seed in range(20)} == {1, 3}
    turned = TransformedFrame(_Corridor(), symmetry, 1)
    assert int(turned.reset(seed=0)[0]) == 3
    assert int(turned.step(1)[0]) == 2  # to the right in the world, which is left in the frame
    with pytest.raises(ValueError, match="action 0 is not in Discrete"):
        turned.step(0)


def test_the_checker_looks_through_wrappers_of_actions() -> None:
    assert check_symmetry(RescaleAction(gym.make("Pendulum-v1"), -1, 1), "pendulum-z2").verdict == "holds"
    report = check_symmetry(StickyAction(gym.make("CartPole-v1"), 0.3), "cartpole-z2")
    assert report.verdict == "not checked"  # it remembers an action, which no observation shows
    assert "hides something" in str(report)
