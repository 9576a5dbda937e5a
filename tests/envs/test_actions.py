"""Actions of every space: how a group moves them, what does not fit, and what the checker says of such worlds."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from equirl import (
    MDPSymmetry,
    MonomialRepresentation,
    cyclic_group,
    permutation_representation,
    signed_permutation_representation,
    symmetric_group,
    trivial_representation,
)
from equirl.envs import check_symmetry, placing, register_placer
from equirl.envs.actions import ActionLayout

MIRROR = cyclic_group(2)
TURNS = cyclic_group(4)
S3 = symmetric_group(3)
QUARTERS = signed_permutation_representation(
    TURNS, [[0, 1], [1, 0], [0, 1], [1, 0]], [[1, 1], [1, -1], [-1, -1], [-1, 1]]
)
BLOCKS = permutation_representation(MIRROR, [[0, 1, 2, 3, 4, 5, 6], [3, 4, 5, 0, 1, 2, 6]])
WITHIN = permutation_representation(MIRROR, [[0, 1, 2, 3, 4, 5, 6], [2, 1, 0, 5, 4, 3, 6]])
MIXED = permutation_representation(MIRROR, [[0, 1, 2, 3, 4, 5, 6], [1, 0, 2, 3, 4, 6, 5]])
FLIPS = signed_permutation_representation(MIRROR, [[0, 1, 2], [1, 0, 2]], [[1, 1, 1], [1, 1, -1]])


def _symmetry(action: MonomialRepresentation) -> MDPSymmetry:
    return MDPSymmetry("own", trivial_representation(action.group, (1,)), action)


CASES = {
    "discrete": (spaces.Discrete(3, start=5), permutation_representation(S3)),
    "box": (spaces.Box(-1, 1, (2,)), QUARTERS),
    "unbounded box": (spaces.Box(-np.inf, np.inf, (2,), np.float64), QUARTERS),
    "components": (spaces.MultiDiscrete([3, 3, 1]), BLOCKS),
    "values": (spaces.MultiDiscrete([3, 3, 1], start=[1, 1, 0]), WITHIN),
    "bits": (spaces.MultiBinary(3), FLIPS),
}


@pytest.mark.parametrize("case", CASES)
def test_the_group_acts_on_actions(case: str) -> None:
    space, representation = CASES[case]
    layout, symmetry, random = ActionLayout(space), _symmetry(representation), np.random.default_rng(0)
    layout.check(symmetry)
    group = symmetry.group
    moved = 0
    for _ in range(5):
        action = layout.draw(random)
        assert space.contains(layout.numbered(action))
        assert np.array_equal(layout.image(symmetry, group.identity, action), action)
        for g in range(group.order):
            moved += not np.array_equal(layout.image(symmetry, g, action), action)
            assert space.contains(layout.numbered(layout.image(symmetry, g, action)))
            for h in range(group.order):
                twice = layout.image(symmetry, g, layout.image(symmetry, h, action))
                assert np.array_equal(twice, layout.image(symmetry, group.multiply(g, h), action))
    assert moved


def test_images_by_hand() -> None:
    def image(case: str, element: str, action: Any) -> Any:
        space, representation = CASES[case]
        return np.asarray(ActionLayout(space).image(_symmetry(representation), MIRROR.index(element), action)).tolist()

    assert image("components", "r", np.array([0, 2, 0])) == [2, 0, 0]
    assert image("values", "r", np.array([0, 1, 0])) == [2, 1, 0]
    assert image("bits", "r", np.array([1, 0, 1])) == [0, 1, 0]
    box, turns = CASES["box"]
    turned = ActionLayout(box).image(_symmetry(turns), TURNS.index("r"), np.array([0.5, -0.25], np.float32))
    assert np.asarray(turned).tolist() == [0.25, 0.5]  # (x, y) to (-y, x)


@pytest.mark.parametrize(
    ("space", "representation", "said"),
    [
        (spaces.Discrete(4), permutation_representation(S3), "permutes 3 actions, but the action space has 4"),
        (spaces.Discrete(3), FLIPS, r"changes the sign of actions of Discrete\(3\), which number things"),
        (spaces.MultiDiscrete([3, 4]), BLOCKS, "element r mixes the values of component 0"),
        (spaces.MultiDiscrete([3, 3, 1]), MIXED, "element r mixes the values of component 1"),
        (spaces.Box(np.array([-1, -2]), np.array([1, 2]), dtype=np.float64), QUARTERS, r"number 0 is in \[-1, 1\]"),
        (spaces.Box(0, 1, (2,)), QUARTERS, r"element r maps actions out of Box.*: number 0 .*, its image in \[-1"),
    ],
)  # fmt: skip
def test_what_maps_actions_out_of_their_space_is_refused(
    space: spaces.Space, representation: MonomialRepresentation, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        ActionLayout(space).check(_symmetry(representation))


def test_a_repertoire_holds_the_images_of_its_actions() -> None:
    for space, representation in CASES.values():
        layout, symmetry = ActionLayout(space), _symmetry(representation)
        actions = layout.repertoire(symmetry, np.random.default_rng(1))
        assert 1 < len(actions) <= 64
        for action in actions:
            assert all(
                layout.place(actions, layout.image(symmetry, g, action)) is not None
                for g in range(symmetry.group.order)
            )


def test_other_spaces_are_refused() -> None:
    with pytest.raises(TypeError, match=r"a symmetry moves the actions of Discrete, MultiDiscrete .* got Text"):
        ActionLayout(spaces.Text(3))


def _pendulum(action_sign: int) -> MDPSymmetry:
    return MDPSymmetry(
        "own-pendulum",
        signed_permutation_representation(MIRROR, [[0, 1, 2]] * 2, [[1, 1, 1], [1, -1, -1]]),
        signed_permutation_representation(MIRROR, [[0]] * 2, [[1], [action_sign]]),
    )


def test_continuous_actions_are_checked() -> None:
    pendulum = gym.make("Pendulum-v1")
    report = check_symmetry(pendulum, _pendulum(-1), n_transitions=200)
    assert report.verdict == "holds", report
    wrong = check_symmetry(pendulum, _pendulum(1), n_transitions=200)
    assert wrong.verdict == "violated"
    (violation,) = wrong.violations
    assert violation.check == "dynamics"
    assert np.shape(violation.action) == (1,)
    valley = MDPSymmetry(
        "valley",
        signed_permutation_representation(MIRROR, [[0, 1]] * 2, [[1, 1], [-1, -1]]),
        signed_permutation_representation(MIRROR, [[0]] * 2, [[1], [-1]]),
    )
    assert check_symmetry(gym.make("MountainCarContinuous-v0"), valley, n_transitions=200).verdict == "violated"


class _Lights(gym.Env):
    """Three lamps; each action switches those whose bit is set. A mirror exchanges the first two."""

    observation_space = spaces.Box(0, 1, (3,))
    action_space: spaces.Space = spaces.MultiBinary(3)

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken
        self.lamps = np.zeros(3, np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.lamps = self.np_random.integers(2, size=3).astype(np.float32)
        return self.lamps.copy(), {}

    def step(self, action: Any) -> Any:
        self.lamps = np.abs(self.lamps - np.asarray(action, np.float32))
        reward = float(self.lamps[0] if self.broken else self.lamps[:2].sum())
        return self.lamps.copy(), reward, False, False, {}


class _Dials(_Lights):
    """The same by three switches with two positions each."""

    action_space = spaces.MultiDiscrete([2, 2, 2])


class _Unplaced(_Lights):
    """Nothing tells how to put it into a state."""


@pytest.mark.parametrize("kind", ["bits", "switches"])
def test_bits_and_components_are_checked(kind: str) -> None:
    for cls in (_Lights, _Dials):
        register_placer(cls, lambda environment, seen: setattr(environment, "lamps", seen.copy()))
    exchange = permutation_representation(MIRROR, [[0, 1, 2], [1, 0, 2]])
    switches = permutation_representation(MIRROR, [list(range(6)), [2, 3, 0, 1, 4, 5]])
    cls, action = (_Lights, exchange) if kind == "bits" else (_Dials, switches)
    symmetry = MDPSymmetry("exchange", exchange, action)
    assert check_symmetry(cls(), symmetry, n_transitions=200).verdict == "holds"
    assert check_symmetry(cls(broken=True), symmetry, n_transitions=200).verdict == "violated"


def test_without_a_placer_episodes_of_such_actions_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    others = {cls: placer for cls, placer in placing._PLACERS.items() if not issubclass(_Unplaced, cls)}
    monkeypatch.setattr(placing, "_PLACERS", others)
    exchange = permutation_representation(MIRROR, [[0, 1, 2], [1, 0, 2]])
    symmetry = MDPSymmetry("exchange", exchange, exchange)
    assert check_symmetry(_Unplaced(), symmetry).verdict == "not checked"
    report = check_symmetry(_Unplaced(broken=True), symmetry)
    assert report.verdict == "violated"
    assert report.violations[0].check == "episodes"


def test_policies_say_which_actions_they_take() -> None:
    from stable_baselines3 import PPO

    from equirl.agents import EquivariantActorCriticPolicy, EquivariantDQNPolicy

    PPO(EquivariantActorCriticPolicy, "Pendulum-v1", policy_kwargs={"symmetry": _pendulum(-1)})
    pendulum = gym.make("Pendulum-v1")
    with pytest.raises(TypeError, match=r"acts in Discrete spaces; got Box"):
        EquivariantDQNPolicy(
            pendulum.observation_space,
            pendulum.action_space,  # type: ignore[arg-type]
            lambda _: 0.0,
            symmetry=_pendulum(-1),
        )
