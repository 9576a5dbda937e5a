"""Worlds that are easily misjudged, each with the verdicts that are right for it."""

import re
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.wrappers import TransformReward

from equirl import (
    MappingRepresentation,
    MDPSymmetry,
    TokenRepresentation,
    dihedral_group,
    image_representation,
    permutation_representation,
    signed_permutation_representation,
)
from equirl.envs import check_symmetry, register_placer
from equirl.envs.observations import ObservationLayout

MIRROR = dihedral_group(1)
SWAP = permutation_representation(MIRROR, [[0, 1], [1, 0]])
SIGN = signed_permutation_representation(MIRROR, [[0], [0]], [[1], [-1]])
SYMMETRY = MDPSymmetry("mirror", SIGN, SWAP)

HOLDS, VIOLATED, NOT_CHECKED = {"holds"}, {"violated"}, {"not checked"}
NOT_SYMMETRIC, SYMMETRIC = VIOLATED | NOT_CHECKED, HOLDS | NOT_CHECKED


class Line(gym.Env):
    """A place on a line, moved to the left and to the right; symmetric under the mirror."""

    observation_space, action_space = spaces.Box(-np.inf, np.inf, (1,), np.float32), spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x, self.velocity, self.time, self.last = 0.0, 0.0, 0, 0
        self.start()
        return self.seen(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        push = 2 * (int(action) - int(self.action_space.start)) - 1
        self.time += 1
        self.move(push)
        reward = self.reward(push)
        self.last = push
        return self.seen(), reward, *self.ends(), {}

    def start(self) -> None:
        self.x = float(self.np_random.uniform(-1, 1))

    def seen(self) -> Any:
        return np.array([self.x], np.float32)

    def move(self, push: int) -> None:
        self.x += 0.1 * push

    def reward(self, push: int) -> float:
        return 0.0

    def ends(self) -> tuple[bool, bool]:
        return abs(self.x) > 3, False


register_placer(Line, lambda line, seen: setattr(line, "x", float(seen[0])))


class PaysLate(Line):
    def reward(self, push: int) -> float:
        return float(self.time > 10 and self.x > 0)


class HasMomentum(Line):
    def move(self, push: int) -> None:
        self.velocity = 0.9 * self.velocity + 0.05 * push + 0.02 * (self.velocity > 0)
        self.x += self.velocity


class HasSymmetricMomentum(Line):
    def move(self, push: int) -> None:
        self.velocity = 0.9 * self.velocity + 0.05 * push
        self.x += self.velocity


class NoisyMomentum(HasMomentum):
    def move(self, push: int) -> None:
        super().move(push)
        self.x += 0.01 * self.np_random.normal()


class RemembersActions(Line):
    def reward(self, push: int) -> float:
        return float(self.last == push)


class EverySeventhStep(Line):
    def move(self, push: int) -> None:
        self.x += 0.1 * push + 0.3 * (self.time % 7 == 6)


class GrowsOld(Line):
    steps = 0

    def reward(self, push: int) -> float:
        self.steps += 1
        return float(self.steps > 80 and self.x > 0)


class StopsAfter20(Line):
    def ends(self) -> tuple[bool, bool]:
        return False, self.time >= 20


class StopsAfter20OnTheRight(Line):
    def ends(self) -> tuple[bool, bool]:
        return False, self.time >= 20 and self.x > 0


class CutOnTheRight(Line):
    def ends(self) -> tuple[bool, bool]:
        return False, self.x > 0.5


class Shrinks(Line):
    """Large numbers, so that the last bit of a float is more than the tolerance."""

    def start(self) -> None:
        self.x = float(self.np_random.uniform(-1e4, 1e4))

    def move(self, push: int) -> None:
        self.x = float(np.float32(self.x) * np.float32(0.97) + np.float32(0.3) * push)

    def ends(self) -> tuple[bool, bool]:
        return False, False


class EndsAtOne(Line):
    """Ends where ten steps of 0.1 lead, up to rounding."""

    def start(self) -> None:
        self.x = 0.0

    def ends(self) -> tuple[bool, bool]:
        return abs(self.x) >= 1 - 1e-12, False


class JumpsRarely(Line):
    def move(self, push: int) -> None:
        super().move(push)
        if self.np_random.random() < 0.01:
            self.x += 0.5


class JumpsRarelyToBothSides(Line):
    def move(self, push: int) -> None:
        super().move(push)
        if self.np_random.random() < 0.01:
            self.x += float(self.np_random.choice([-0.5, 0.5]))


class JumpsInNoise(Line):
    def move(self, push: int) -> None:
        self.x += 0.1 * push + 0.01 * self.np_random.normal()
        if self.np_random.random() < 0.02:
            self.x = 1.0


class NoisyInOnePlace(Line):
    def move(self, push: int) -> None:
        super().move(push)
        if 0.7 < self.x < 0.9:
            self.x += 0.3 * self.np_random.normal()


class MirroredResets(Line):
    count = 0

    def start(self) -> None:
        self.count += 1
        self.x = 0.5 * (-1) ** self.count


@pytest.mark.parametrize(
    ("world", "right"),
    [
        (Line, HOLDS),
        (lambda: TransformReward(Line(), lambda reward: reward + 1), HOLDS),
        (lambda: gym.wrappers.TimeLimit(Line(), 7), HOLDS),
        (PaysLate, NOT_SYMMETRIC),
        (HasMomentum, NOT_SYMMETRIC),
        (HasSymmetricMomentum, SYMMETRIC),
        (NoisyMomentum, NOT_SYMMETRIC),
        (RemembersActions, SYMMETRIC),
        (EverySeventhStep, NOT_SYMMETRIC),
        (GrowsOld, NOT_SYMMETRIC),
        (StopsAfter20, HOLDS),
        (StopsAfter20OnTheRight, NOT_SYMMETRIC),
        (CutOnTheRight, VIOLATED),
        (Shrinks, HOLDS),
        (EndsAtOne, HOLDS),
        (JumpsRarely, VIOLATED),
        (JumpsRarelyToBothSides, HOLDS),
        (JumpsInNoise, VIOLATED),
        (NoisyInOnePlace, NOT_SYMMETRIC),
        (MirroredResets, HOLDS),
    ],
)
def test_no_wrong_verdict(world: Callable[[], gym.Env], right: set[str]) -> None:
    report = check_symmetry(world(), SYMMETRY, n_transitions=200, n_resets=100)
    assert report.verdict in right, str(report)
    assert report.ok == (report.verdict == "holds")


class _OtherUnits(CartPoleEnv):
    def reset(self, **kwargs: Any) -> Any:
        seen, info = super().reset(**kwargs)
        return (seen / 10).astype(np.float32), info

    def step(self, action: Any) -> Any:
        seen, _, *rest = super().step(action)
        return (seen / 10).astype(np.float32), 2.0 if seen[0] > 0.1 else 1.0, *rest


def test_a_placer_that_does_not_restore_the_state_is_found() -> None:
    report = check_symmetry(_OtherUnits(), "cartpole-z2", n_transitions=50, n_resets=40)
    assert report.verdict == "not checked"
    assert "placing the environment does not give the state that the rollout was in" in report.skipped[0]


class _NoPlacer(Line):
    pass


def test_a_placer_that_raises_is_the_reason() -> None:
    def place(line: Line, seen: Any) -> None:
        raise KeyError("no such place")

    register_placer(_NoPlacer, place)
    report = check_symmetry(_NoPlacer(), SYMMETRY, n_transitions=5, n_resets=40)
    assert report.verdict == "not checked"
    assert "raised KeyError: 'no such place'" in report.skipped[0]


class _UpDownLeftRight(gym.Env):
    """A grid whose moves are not numbered as grid-d4's are, and which nothing can place."""

    observation_space, action_space = spaces.Box(0, 1, (1, 5, 5), np.uint8), spaces.Discrete(4)
    moves = ((-1, 0), (1, 0), (0, -1), (0, 1))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.cell = self.np_random.integers(5, size=2)
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        self.cell = np.clip(self.cell + self.moves[int(action)], 0, 4)
        return self._seen(), 0.0, False, False, {}

    def _seen(self) -> np.ndarray:
        seen = np.zeros((1, 5, 5), np.uint8)
        seen[0][tuple(self.cell)] = 1
        return seen


class _UpLeftDownRight(_UpDownLeftRight):
    moves = ((-1, 0), (0, -1), (1, 0), (0, 1))


def test_episodes_find_wrong_moves_without_placing() -> None:
    few = {"n_transitions": 5, "n_resets": 200}  # so that transitions of rollouts cannot be compared
    wrong = check_symmetry(_UpDownLeftRight(), "grid-d4", **few)
    assert [violation.check for violation in wrong.violations] == ["episodes"]
    right = check_symmetry(_UpLeftDownRight(), "grid-d4", **few)
    assert right.verdict == "not checked"
    assert any(line.startswith("episodes") for line in right.passed)


class _FromOne(Line):
    action_space = spaces.Discrete(2, start=1)


class _Nested(Line):
    observation_space = spaces.Dict(
        {
            "x": spaces.Box(-10, 10, (1,), np.float64),
            "side": spaces.Discrete(3),
            "bits": spaces.MultiBinary(2),
            "cells": spaces.MultiDiscrete([4, 4]),
            "picture": spaces.Box(0, 255, (40, 60, 3), np.uint8),
        }
    )

    def seen(self) -> Any:
        side = int(np.sign(self.x)) + 1
        picture = np.zeros((40, 60, 3), np.uint8)
        picture[:, :30, 1], picture[:, 30:, 1] = 100 * (side == 0), 100 * (side == 2)
        bits = np.array([side == 0, side == 2], np.int8)
        return {"x": np.array([self.x]), "side": np.int64(side), "bits": bits, "cells": 1 + bits, "picture": picture}


@pytest.mark.parametrize("world", [_FromOne, _Nested])
def test_what_policies_take_is_checked(world: type[Line]) -> None:
    exchanged = permutation_representation(MIRROR, [[0, 1], [1, 0]])
    parts = {
        "x": SIGN,
        "side": TokenRepresentation(MIRROR, [[0, 1, 2], [2, 1, 0]], shape=()),
        "bits": exchanged,
        "cells": exchanged,
        "picture": image_representation(MIRROR, (3, 40, 60)),
    }
    register_placer(_Nested, lambda line, seen: setattr(line, "x", float(seen["x"][0])))
    symmetry = SYMMETRY if world is _FromOne else MDPSymmetry("nested", MappingRepresentation(parts), SWAP)
    assert check_symmetry(world(), symmetry, n_transitions=60, n_resets=40).verdict == "holds"
    still = permutation_representation(MIRROR, [[0, 1], [0, 1]])
    wrong = check_symmetry(world(), MDPSymmetry("still", symmetry.observation, still), n_transitions=20, n_resets=40)
    assert [violation.check for violation in wrong.violations] == ["dynamics"]
    assert "in the state" in str(wrong)


def test_pictures_are_seen_channels_first() -> None:
    symmetry = MDPSymmetry("raw", image_representation(MIRROR, (40, 60, 3)), SWAP)
    world = _with(spaces.Box(0, 255, (40, 60, 3), np.uint8))
    with pytest.raises(ValueError, match="Pictures are seen channels first, as SB3 shows them"):
        check_symmetry(world, symmetry)


def _with(space: spaces.Space) -> Line:
    world = Line()
    world.observation_space = space
    world.seen = lambda: world.observation_space.sample()  # type: ignore[method-assign]
    return world


@pytest.mark.parametrize(
    ("space", "representation", "message"),
    [
        (spaces.Box(0, 4, (1,), np.float32), SIGN, r"coordinate \(0,\) has bounds \[0, 4\], its image \[-4, -?0\]"),
        (spaces.MultiDiscrete([3, 5]), SWAP, r"has bounds \[0, 2\], its image \[0, 4\]"),
        (
            spaces.Discrete(4),
            TokenRepresentation(MIRROR, [[0, 1, 2], [2, 1, 0]], shape=()),
            "takes the values 0 to 3, and the symmetry permutes 0 to 2",
        ),
    ],
)
def test_spaces_that_do_not_map_onto_themselves(space: spaces.Space, representation: Any, message: str) -> None:
    assert re.search(message, ObservationLayout(space).misfit(representation, 1))


def test_unsigned_observations_cannot_be_mirrored_by_sign() -> None:
    report = check_symmetry(_with(spaces.Box(0, 4, (1,), np.uint8)), SYMMETRY, n_transitions=5, n_resets=40)
    assert report.violations[0].check == "spaces"
    assert "which uint8 cannot hold" in report.skipped[0]


class _NanReward(Line):
    def reward(self, push: int) -> float:
        return float("nan")


class _NanSeen(Line):
    def seen(self) -> Any:
        return np.array([np.nan if self.time > 2 else self.x], np.float32)


def test_what_is_no_number_is_named() -> None:
    with pytest.raises(ValueError, match="reward nan for action"):
        check_symmetry(_NanReward(), SYMMETRY)
    with pytest.raises(ValueError, match=r"shows nan at coordinate \(0,\)"):
        check_symmetry(_NanSeen(), SYMMETRY)
    with pytest.raises(ValueError, match="not an observation of its space Discrete"):
        check_symmetry(
            type("_Torn", (Line,), {"observation_space": spaces.Discrete(3)})(),
            MDPSymmetry("t", TokenRepresentation(MIRROR, [[0, 1, 2], [2, 1, 0]], shape=()), SWAP),
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tolerance": float("nan")}, "tolerance is a finite number .*; got nan"),
        ({"tolerance": -1}, "tolerance is a finite number .*; got -1"),
        ({"tolerance": float("inf")}, "tolerance is a finite number .*; got inf"),
        ({"significance": float("nan")}, "significance is a finite number .*; got nan"),
        ({"significance": 1.0}, "significance is a probability between .* and 1; got 1"),
        ({"n_transitions": 0}, "n_transitions must be a whole number from 1; got 0"),
        ({"n_transitions": 2.5}, "n_transitions must be a whole number from 1; got 2.5"),
        ({"n_resets": True}, "n_resets must be a whole number from 20; got True"),
        ({"seed": -1}, "seed must be a whole number from 0; got -1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        check_symmetry(Line(), SYMMETRY, **settings)
