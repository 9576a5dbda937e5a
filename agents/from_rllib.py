"""Agents trained with RLlib become agents of Stable-Baselines3; Ray need not be installed for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from torch import Tensor, nn

from equirl.agents.actor_critic import EquivariantActorCriticPolicy
from equirl.agents.dqn import EquivariantDQNPolicy
from equirl.integrations.symmetries import symmetry_for

__all__ = ["agent_from_rllib"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU, "swish": nn.SiLU}

_Layers = list[tuple[Tensor, Tensor]]


def agent_from_rllib(module: Any, env: GymEnv, **settings: Any) -> BaseAlgorithm:
    """Return an agent of SB3 with the networks of an RLlib module: it gives the same numbers for each observation.

    Args:
        module: An ``EquivariantDQNModule`` or ``EquivariantPPOModule`` with all its networks, as learners have it:
            ``algorithm.get_module()`` without environment runners, or restored from a checkpoint (``from_checkpoint``).
        env: The agent's environment, as for SB3.
        **settings: Arguments of SB3's ``DQN`` or ``PPO``, for training that goes on there.

    Raises:
        TypeError: Another module.
        ValueError: Networks that SB3 does not have: duelling heads, other activations, other layers; no critic; or an
            environment with other spaces.
    """
    config = getattr(module, "model_config", None)
    if not isinstance(module, nn.Module) or not isinstance(config, Mapping) or "symmetry" not in config:
        raise TypeError(f"module is an EquivariantDQNModule or an EquivariantPPOModule; got {type(module).__name__}")
    how = {
        "symmetry": symmetry_for(config["symmetry"], module.observation_space, module.action_space),
        "method": config.get("method", "lambda_equitune"),
        "method_kwargs": config.get("method_kwargs"),
    }
    state = module.state_dict()
    return (_dqn if hasattr(module, "af") else _ppo)(state, config, env, how, settings)


def _dqn(
    state: Mapping[str, Tensor], config: Mapping[str, Any], env: GymEnv, how: dict[str, Any], settings: dict[str, Any]
) -> DQN:
    if config.get("dueling"):
        raise ValueError("SB3's DQN has no duelling heads; train with .training(dueling=False)")
    layers = [*_layers(state, "encoder"), *(head := _layers(state, "af"))]
    kwargs = how | {"net_arch": _widths(layers), "activation_fn": _activation(config, len(head) > 1)}
    agent = DQN(EquivariantDQNPolicy, env, policy_kwargs=kwargs, **settings)
    q_net: Any = agent.policy.q_net
    _fill(q_net.q_net, layers)
    q_net.aggregator.load_state_dict(_part(state, "aggregator"))
    agent.policy.q_net_target.load_state_dict(q_net.state_dict())
    return agent


def _ppo(
    state: Mapping[str, Tensor], config: Mapping[str, Any], env: GymEnv, how: dict[str, Any], settings: dict[str, Any]
) -> PPO:
    shared = bool(_part(state, "encoder.encoder"))
    actor = _layers(state, "encoder.encoder" if shared else "encoder.actor_encoder")
    critic = _layers(state, "encoder.encoder" if shared else "encoder.critic_encoder")
    pi, vf = _layers(state, "pi"), _layers(state, "vf")
    if not vf or not critic:
        raise ValueError(
            "this module is one of environment runners, without a critic; take the learners': "
            "EquivariantPPOModule.from_checkpoint(CHECKPOINT/learner_group/learner/rl_module/default_policy)"
        )
    kwargs = how | {
        "net_arch": {"pi": _widths([*actor, *pi]), "vf": _widths([*critic, *vf])},
        "activation_fn": _activation(config, len(pi) > 1),
    }
    agent = PPO(EquivariantActorCriticPolicy, env, policy_kwargs=kwargs, **settings)
    policy: Any = agent.policy
    _fill([*policy.mlp_extractor.policy_net, policy.action_net], [*actor, *pi])
    _fill([*policy.mlp_extractor.value_net, policy.value_net], [*critic, *vf])
    policy.aggregator.load_state_dict(_part(state, "aggregator"))
    return agent


def _part(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}


def _layers(state: Mapping[str, Tensor], name: str) -> _Layers:
    """Return weight and bias of each layer of an MLP of RLlib."""
    tensors = _part(state, f"{name}.net.mlp")
    if any(key.endswith(".weight") and value.ndim != 2 for key, value in tensors.items()):
        raise ValueError(f"{name} has layers that are not linear; SB3's networks have no others: train without them")
    numbers = sorted(int(key.removesuffix(".weight")) for key in tensors if key.endswith(".weight"))
    return [(tensors[f"{number}.weight"], tensors[f"{number}.bias"]) for number in numbers]


def _widths(layers: _Layers) -> list[int]:
    return [len(bias) for _, bias in layers[:-1]]


def _activation(config: Mapping[str, Any], hidden_heads: bool) -> type[nn.Module]:
    name = config.get("fcnet_activation", "tanh")
    if name not in _ACTIVATIONS or (hidden_heads and config.get("head_fcnet_activation", "relu") != name):
        raise ValueError(
            f"SB3's networks have one activation, of {', '.join(_ACTIVATIONS)}; the module has fcnet_activation "
            f"{name!r}, head_fcnet_activation {config.get('head_fcnet_activation', 'relu')!r}"
        )
    return _ACTIVATIONS[name]


def _fill(network: Iterable[nn.Module], layers: _Layers) -> None:
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for layer, (weight, bias) in zip(linear, layers, strict=True):
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
