"""Masks under a group whose turns are not their own inverses, D4: what is moved the wrong way round shows here."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from torch import Tensor

from equirl import MDPSymmetry, dihedral_group, permutation_representation
from equirl.agents import METHODS, EquivariantMaskablePolicy, SymmetryMaskableRolloutBuffer
from equirl.matrices import plane_representation

GROUP = dihedral_group(4)
CORNERS = permutation_representation(GROUP)
VECTOR: Any = plane_representation(4, mirrors=True)  # x and y change places and signs
VALUES = permutation_representation(
    GROUP, [[2 * corner + value for corner in row for value in (0, 1)] for row in GROUP.natural_action.tolist()]
)
WORLDS: dict[str, tuple[spaces.Space[Any], Any]] = {
    "one of four corners": (spaces.Discrete(4), CORNERS),
    "a number for each corner": (spaces.MultiDiscrete([2] * 4), VALUES),
    "a bit for each corner": (spaces.MultiBinary(4), CORNERS),
    "the signs of a vector": (spaces.MultiBinary(2), VECTOR),
}


def _symmetry(kind: str) -> MDPSymmetry:
    return MDPSymmetry("turned", CORNERS, WORLDS[kind][1])


def _carried(kind: str, element: int, component: int, value: int) -> tuple[int, int]:
    """Return where a value of a component goes."""
    corner: Any = GROUP.natural_action
    if kind == "one of four corners":
        return 0, int(corner[element, value])
    if kind != "the signs of a vector":
        return int(corner[element, component]), value
    vector = torch.zeros(1, 2)
    vector[0, component] = 2 * value - 1
    (moved,) = VECTOR.transform(element, vector)
    return int(moved.abs().argmax()), int(moved.sum() > 0)


def _moved(kind: str, element: int, actions: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``ga`` and ``gm`` of actions ``[B, components]`` and masks ``[B, components, values]``, one by one."""
    new_actions, new_masks = torch.empty_like(actions), torch.empty_like(masks)
    for row in range(len(actions)):
        for component in range(masks.shape[1]):
            for value in range(masks.shape[2]):
                to, new = _carried(kind, element, component, value)
                new_masks[row, to, new] = masks[row, component, value]
                if actions[row, component] == value:
                    new_actions[row, to] = new
    return new_actions, new_masks


def _drawn(kind: str, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return states ``[n, 4]``, masks and legal actions."""
    space = WORLDS[kind][0]
    shape = (1, 4) if isinstance(space, spaces.Discrete) else (int(np.prod(space.shape or ())), 2)
    random = torch.Generator().manual_seed(0)
    masks = torch.rand((n, *shape), generator=random) < 0.6
    actions = torch.randint(shape[1], (n, shape[0]), generator=random)
    masks.scatter_(2, actions.unsqueeze(2), True)
    return torch.rand((n, 4), generator=random), actions, masks


class _World(gym.Env[Any, Any]):
    """Names its spaces alone."""

    def __init__(self, kind: str) -> None:
        self.observation_space = spaces.Box(-1, 1, (4,), np.float32)
        self.action_space = WORLDS[kind][0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", WORLDS)
def test_actions_and_masks_move_the_way_the_symmetry_says(kind: str, method: str) -> None:
    settings: dict[str, Any] = {"symmetry": _symmetry(kind), "method": method, "ortho_init": False}
    policy: Any = MaskablePPO(EquivariantMaskablePolicy, _World(kind), policy_kwargs=settings, seed=0).policy
    states, actions, masks = _drawn(kind, 16)

    def log_prob(states: Tensor, actions: Tensor, masks: Tensor) -> Tensor:
        shaped = actions[:, 0] if kind == "one of four corners" else actions
        with torch.no_grad():
            return policy.evaluate_actions(states, shaped, masks.flatten(1).numpy())[1]

    ours = log_prob(states, actions, masks)
    assert float(ours.std()) > 1e-2
    for element in range(GROUP.order):
        turned = CORNERS.transform(element, states)
        theirs = log_prob(turned, *_moved(kind, element, actions, masks))
        assert float((theirs - ours).abs().max()) < 1e-5


@pytest.mark.parametrize("kind", WORLDS)
def test_the_buffer_moves_masks_with_the_actions(kind: str) -> None:
    space, n = WORLDS[kind][0], 32
    states, actions, masks = _drawn(kind, n)
    buffer: Any = SymmetryMaskableRolloutBuffer(
        n, spaces.Box(-1, 1, (4,), np.float32), space, symmetry=_symmetry(kind), device="cpu"
    )
    for state, action, mask in zip(states, actions, masks, strict=True):
        zero = torch.zeros(1)
        buffer.add(
            state.numpy()[None], action.numpy()[None], np.zeros(1), np.zeros(1), zero, zero, action_masks=mask.flatten()
        )
    buffer.compute_returns_and_advantage(torch.zeros(1), np.zeros(1))
    (samples,) = buffer.get(n)
    known = {tuple(state.sort().values.tolist()): row for row, state in enumerate(states)}
    elements = set()
    for row in range(n):
        origin = known[tuple(samples.observations[row].sort().values.tolist())]
        (element,) = [
            g
            for g in range(GROUP.order)
            if torch.equal(CORNERS.transform(g, states)[origin], samples.observations[row])
        ]
        elements.add(element)
        moved_action, moved_mask = _moved(kind, element, actions[origin][None], masks[origin][None])
        assert torch.equal(samples.actions[row].long().flatten(), moved_action.flatten())
        assert torch.equal(samples.action_masks[row].bool(), moved_mask.flatten())
    assert len(elements) == GROUP.order
