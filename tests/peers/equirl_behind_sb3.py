"""A pytest plugin that puts equirl's policies behind the policy names of Stable-Baselines3 and sb3-contrib.

With it, ``DQN("MlpPolicy", ...)`` of a peer's test makes an equivariant policy, and so do the other algorithms with
``"MlpPolicy"``, ``"CnnPolicy"`` and ``"MultiInputPolicy"``. Two environment variables choose which:

* ``PEERS_METHOD``: ``equitune``, ``lambda_equitune``, ``equizero`` or ``canonical``; ``stock`` keeps the peers' own
  policies and only counts them.
* ``PEERS_GROUP``: ``trivial``, the group of one element, for which an equivariant policy is an ordinary one; or
  ``z2``, the mirror image of CartPole and Acrobot, and the reversal of every axis elsewhere.

Commands that a test starts as ``python SCRIPT ...`` or ``python -m MODULE ...`` run behind the same policies.
"""

from __future__ import annotations

import math
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from recording import count_use
from sb3_contrib import QRDQN, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.torch_layers import NatureCNN

from equirl import (
    FiniteGroup,
    MappingRepresentation,
    MDPSymmetry,
    MonomialRepresentation,
    Representation,
    TokenRepresentation,
    build_symmetry,
    cyclic_group,
    permutation_representation,
    signed_permutation_representation,
    trivial_representation,
)
from equirl.agents import (
    EquivariantActorCriticPolicy,
    EquivariantCrossQPolicy,
    EquivariantDQNPolicy,
    EquivariantMaskablePolicy,
    EquivariantQRDQNPolicy,
    EquivariantRecurrentPolicy,
    EquivariantSACPolicy,
    EquivariantTD3Policy,
    EquivariantTQCPolicy,
)
from equirl.envs.actions import ActionLayout

torch.set_num_threads(1)

METHOD = os.environ.get("PEERS_METHOD", "stock")
GROUP = os.environ.get("PEERS_GROUP", "trivial")

_BASES = {
    DQN: EquivariantDQNPolicy,
    QRDQN: EquivariantQRDQNPolicy,
    PPO: EquivariantActorCriticPolicy,
    A2C: EquivariantActorCriticPolicy,
    TRPO: EquivariantActorCriticPolicy,
    SAC: EquivariantSACPolicy,
    TD3: EquivariantTD3Policy,
    DDPG: EquivariantTD3Policy,
    TQC: EquivariantTQCPolicy,
    CrossQ: EquivariantCrossQPolicy,
    MaskablePPO: EquivariantMaskablePolicy,
    RecurrentPPO: EquivariantRecurrentPolicy,
}
_NAMED = {((4,), 2): "cartpole-z2", ((6,), 3): "acrobot-z2"}
"""Observation shape and number of actions to the symmetry that fits them."""


def symmetry_for(observations: spaces.Space[Any], actions: spaces.Space[Any], group: str = GROUP) -> MDPSymmetry:
    """Return a symmetry of the spaces, whatever they are.

    Under ``z2`` numbers of a ``Box`` change their sign where the bounds allow it; values of ``MultiDiscrete`` and bits
    stay.
    """
    n_actions = ActionLayout(actions).size
    named = _NAMED.get((observations.shape or (), n_actions))
    if group == "z2" and named is not None and isinstance(observations, spaces.Box):
        return build_symmetry(named, observations.shape, n_actions)
    g = cyclic_group(1 if group == "trivial" else 2)
    forth = list(range(n_actions))
    if isinstance(actions, spaces.Discrete):
        action = permutation_representation(g, [forth, forth[::-1]][: g.order])
    else:
        opposite = isinstance(actions, spaces.Box) and bool((actions.low == -actions.high).all())
        signs = [[1] * n_actions, [-1 if opposite else 1] * n_actions]
        action = signed_permutation_representation(g, [forth] * g.order, signs[: g.order])
    return MDPSymmetry(f"peers-{group}", _reversal(g, observations), action)


def _reversal(group: FiniteGroup, space: spaces.Space[Any]) -> Representation:
    """Return the action that reverses the last axis of every array and the order of all tokens."""
    if isinstance(space, spaces.Dict):
        return MappingRepresentation({key: _reversal(group, part) for key, part in space.spaces.items()})
    if isinstance(space, spaces.Discrete):
        forth = list(range(int(space.n)))
        return TokenRepresentation(group, [forth, forth[::-1]][: group.order], ())
    shape = space.shape or ()
    unequal = isinstance(space, spaces.MultiDiscrete) and len(set(space.nvec.ravel().tolist())) > 1
    if group.order == 1 or not shape or unequal:  # coordinates of unequal ranges cannot change places
        return trivial_representation(group, shape)
    cells = torch.arange(math.prod(shape)).view(shape)
    return MonomialRepresentation(group, shape, torch.stack([cells.flatten(), cells.flip(-1).flatten()]))


def _counted(stock: type[Any]) -> type[Any]:
    """Return the peer's own policy, which counts how often it is made."""

    class Policy(stock):  # type: ignore[misc]  # a base known at run time
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            count_use()
            super().__init__(*args, **kwargs)

    return Policy


def _equivariant(base: type[Any], name: str) -> type[Any]:
    """Return an equivariant policy that finds its own symmetry and has the features extractor of the peer's."""

    class Policy(base):  # type: ignore[misc]  # a base known at run time
        def __init__(
            self, observation_space: Any, action_space: Any, lr_schedule: Any, *args: Any, **kwargs: Any
        ) -> None:
            count_use()
            if kwargs.get("symmetry") is None:
                kwargs["symmetry"] = symmetry_for(observation_space, action_space)
            kwargs.setdefault("method", METHOD)
            if name in ("CnnPolicy", "CnnLstmPolicy"):
                kwargs.setdefault("features_extractor_class", NatureCNN)
            super().__init__(observation_space, action_space, lr_schedule, *args, **kwargs)

    return Policy


def install() -> None:
    """Put the policies behind the names; they are attributes of this module, so that saved agents find them."""
    for algorithm, base in _BASES.items():
        aliases = {}
        for name, stock in algorithm.policy_aliases.items():
            policy = _counted(stock) if METHOD == "stock" else _equivariant(base, name)
            policy.__name__ = policy.__qualname__ = f"{algorithm.__name__}{name}"
            policy.__module__ = __name__
            setattr(sys.modules[__name__], policy.__name__, policy)
            aliases[name] = policy
        algorithm.policy_aliases = aliases


def run_command() -> None:
    """Run ``SCRIPT ARGUMENTS`` or ``-m MODULE ARGUMENTS``, as given on the command line, behind the policies."""
    del sys.argv[0]
    sys.path.append(str(Path.cwd()))
    if sys.argv[0] == "-m":
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


class _Process(subprocess.Popen[Any]):
    """A process that is started behind the policies where it runs Python."""

    def __init__(self, args: Any, *others: Any, **kwargs: Any) -> None:
        if isinstance(args, list) and args and args[0] == "python":
            code = "import equirl_behind_sb3; equirl_behind_sb3.run_command()"
            args = [sys.executable, "-P", "-c", code, *args[1:]]
        super().__init__(args, *others, **kwargs)


install()
subprocess.Popen = _Process  # type: ignore[misc]
