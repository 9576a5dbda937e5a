"""An agent for a pole with a symmetry of one's own, and what folders and zips of it are compared by."""

import pickle
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.torch_layers import FlattenExtractor

from equirl import (
    MDPSymmetry,
    cyclic_group,
    permutation_representation,
    signed_permutation_representation,
)
from equirl.agents import (
    EquivariantDQNPolicy,
)

_MIRROR = cyclic_group(2)
POLE = MDPSymmetry(
    "a-pole-of-ones-own",
    signed_permutation_representation(_MIRROR, [[0, 1, 2, 3]] * 2, [[1] * 4, [-1] * 4]),
    permutation_representation(_MIRROR, [[0, 1], [1, 0]]),
)
OBSERVATIONS = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)


class OwnExtractor(FlattenExtractor):
    """Code that a folder cannot hold."""


def pole_agent(symmetry: str | MDPSymmetry = POLE, method: str = "equitune", **settings: Any) -> DQN:
    """Return an agent for CartPole that has not learned."""
    arguments = {"symmetry": symmetry, "method": method, "net_arch": [8]}
    settings = {"buffer_size": 50, "learning_starts": 5, "seed": 0, "device": "cpu", **settings}
    return DQN(EquivariantDQNPolicy, "CartPole-v1", policy_kwargs=arguments, **settings)


def no_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every way to read a pickle fail."""

    def read(*_: Any, **__: Any) -> Any:
        raise AssertionError("a pickle is read")

    for owner in (pickle, cloudpickle):
        for name in ("load", "loads"):
            monkeypatch.setattr(owner, name, read)
    # A class still, for torch derives from it where it compiles.
    monkeypatch.setattr(pickle, "Unpickler", type("Unpickler", (pickle.Unpickler,), {"__init__": read}))
    monkeypatch.setattr(torch, "load", read)


def same(one: BaseAlgorithm, other: BaseAlgorithm, observations: Any) -> None:
    """Assert that two agents have the same weights and answers, bit for bit."""
    ours, theirs = one.policy.state_dict(), other.policy.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    answers = [model.predict(observations, deterministic=True)[0] for model in (one, other)]
    assert np.array_equal(answers[0], answers[1])
