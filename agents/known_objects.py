"""What a folder of an agent may name: a fixed table of classes, so that opening one imports nothing else."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer, MaskableRolloutBuffer
from sb3_contrib.common.recurrent.buffers import RecurrentDictRolloutBuffer, RecurrentRolloutBuffer
from stable_baselines3.common import torch_layers
from stable_baselines3.common.buffers import (
    DictReplayBuffer,
    DictRolloutBuffer,
    NStepReplayBuffer,
    ReplayBuffer,
    RolloutBuffer,
)
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer
from torch import nn

from equirl.agents import critic_proxy_losses, replay, rollout
from equirl.agents.algorithms import ALGORITHMS
from equirl.agents.features_extractors import GridCNN
from equirl.agents.policies import POLICY_CLASSES
from equirl.agents.proxy_losses import BellmanResidual, Novelty
from equirl.agents.symmetric_policy import SymmetricPolicy
from equirl.names import unknown_name_message
from equirl.proxy_losses import PROXY_LOSSES

__all__ = ["known_object", "name_of_known", "plain_policy_class", "policies_of"]

_OPTIMIZERS = ("Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "SGD")


@cache
def _table() -> dict[str, Any]:
    found: list[Any] = [*POLICY_CLASSES.values(), *PROXY_LOSSES.values(), GridCNN, Novelty, BellmanResidual]
    for algorithm in ALGORITHMS.values():
        found += algorithm.policy_aliases.values()
    found += [getattr(nn.modules.activation, name) for name in nn.modules.activation.__all__]
    found += [*(getattr(torch.optim, name) for name in _OPTIMIZERS), RMSpropTFLike]
    found += [torch_layers.FlattenExtractor, torch_layers.NatureCNN, torch_layers.CombinedExtractor]
    found += [ReplayBuffer, DictReplayBuffer, NStepReplayBuffer, HerReplayBuffer, RolloutBuffer, DictRolloutBuffer]
    found += [RecurrentRolloutBuffer, RecurrentDictRolloutBuffer, MaskableRolloutBuffer, MaskableDictRolloutBuffer]
    for module in (replay, rollout):
        classes = [getattr(module, name) for name in module.__all__]
        found += [each for each in classes if isinstance(each, type)]
    found += [critic_proxy_losses.gaussian_entropy, critic_proxy_losses.critics_disagree]
    return {f"{each.__module__}.{each.__qualname__}": each for each in found}


def known_object(name: Any) -> Any:
    """Return the class or function of the table that has a name.

    Raises:
        ValueError: There is none of this name.
    """
    if not isinstance(name, str) or name not in _table():
        raise ValueError(unknown_name_message("class", name, _table()))
    return _table()[name]


def name_of_known(thing: Any) -> str | None:
    """Return the name of a class or function in the table; ``None`` if it is not one of them."""
    name = f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', '')}"
    return name if _table().get(name) is thing else None


def plain_policy_class(policy_class: type[Any]) -> tuple[type[Any], dict[str, Any]]:
    """Return the policy class without what is built into it, and that: symmetry and method; see ``policy_with``."""
    if issubclass(policy_class, SymmetricPolicy) and policy_class.__module__ == "equirl.agents.policies":
        base = next(each for each in POLICY_CLASSES.values() if issubclass(policy_class, each))
        return base, dict(policy_class.fixed)
    return policy_class, {}


def policies_of(algorithm: str) -> list[type[Any]]:
    """Return the policy classes of SB3's or sb3-contrib's and of equirl's that an algorithm takes.

    Args:
        algorithm: By rl_zoo3's name.
    """
    return [*dict.fromkeys(ALGORITHMS[algorithm].policy_aliases.values()), POLICY_CLASSES[algorithm]]
