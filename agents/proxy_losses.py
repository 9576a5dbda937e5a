"""Proxy losses that know what an agent has seen: for equizero on trained agents, where ``max_value`` is fooled.

Each is a callable ``Orbit -> [B, |G|]``, lower is better, and a function of ``gx`` alone, so equizero stays exactly
equivariant with it. They carry their data, and are saved and loaded with the agent.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from torch import Tensor, nn

from equirl.agents.visited_states import replay_observations
from equirl.names import unknown_name_message
from equirl.orbit import Orbit
from equirl.proxy_losses import PROXY_LOSSES, ProxyLoss
from equirl.representations import Tree

__all__ = ["AGENT_PROXY_LOSSES", "BellmanResidual", "Disagreement", "Novelty", "agent_proxy_loss"]

QFunction = Callable[[Tree], Tensor]


class Novelty:
    """``l(gx)``: Euclidean distance of ``gx`` to the nearest visited state; the most familiar view wins.

    Fooled where distance does not mean difference: images that differ in one decisive cell, coordinates that do not
    matter. Where every view was visited it says nothing, and ties are averaged.

    Args:
        observations: Visited states, ``[N, *observation]``; equal ones are kept once.
        n_states: How many to keep at most; a view costs that many distances.

    Raises:
        ValueError: No states.
    """

    def __init__(self, observations: Tree, n_states: int = 2000) -> None:
        visited = torch.unique(_flat(observations), dim=0)
        if len(visited) == 0:
            raise ValueError("novelty needs visited states; got none")
        if len(visited) > n_states:
            visited = visited[torch.randperm(len(visited), generator=torch.Generator().manual_seed(0))[:n_states]]
        self._scale = _scale(visited)
        self._visited = visited / self._scale

    def __call__(self, orbit: Orbit) -> Tensor:
        """Return the distances, shape ``[B, |G|]``."""
        return _distances(self, orbit).amin(dim=2)


class BellmanResidual:
    """``l(gx)``: how badly ``Q(gx)`` fits the transitions seen near ``gx``, ``|Q(gx, a_i) - r_i - γ max Q(s'_i)|``.

    A model-free, one-step estimate: the mean over the nearest stored transitions ``i``. Fooled far from the data, where
    the nearest transition is of another state, and by values that are wrong and consistent (all zero under sparse
    rewards: every residual is small).

    Args:
        q_function: The plain agent's Q-values ``[N, A]`` of observations.
        observations: States ``s_i``, ``[N, *observation]``.
        actions: Integers ``[N]``.
        rewards: Shape ``[N]``.
        next_observations: States ``s'_i``.
        dones: 1 where the episode ended in ``s'_i``, shape ``[N]``.
        gamma: Discount in [0, 1].
        neighbors: Transitions to average over.
    """

    def __init__(
        self,
        q_function: QFunction,
        observations: Tree,
        actions: Tensor,
        rewards: Tensor,
        next_observations: Tree,
        dones: Tensor,
        gamma: float | Tensor,
        neighbors: int = 4,
    ) -> None:
        visited = _flat(observations)
        self._scale = _scale(visited)
        self._visited = visited / self._scale
        self._actions = actions.long()
        with torch.no_grad():
            self._targets = rewards + gamma * (1 - dones) * q_function(next_observations).amax(dim=1)
        self._neighbors = min(neighbors, len(visited))

    def __call__(self, orbit: Orbit) -> Tensor:
        """Return the mean residuals, shape ``[B, |G|]``."""
        nearest = _distances(self, orbit).topk(self._neighbors, dim=2, largest=False).indices.to(self._actions.device)
        actions, targets = (values[nearest].to(orbit.outputs.device) for values in (self._actions, self._targets))
        return (orbit.outputs.gather(2, actions) - targets).abs().mean(dim=2)


class Disagreement:
    """``l(gx)``: how far other networks' Q-values at ``gx`` are from the agent's, mean absolute difference.

    The others: an ensemble trained with other seeds, or the target network. Fooled where all were wrong alike: networks
    that share data share over-estimates, and a target network that has just been updated agrees with everything.

    Args:
        q_functions: The other networks, each ``[N, *observation] -> [N, A]``; copied and frozen.

    Raises:
        ValueError: No networks.
    """

    def __init__(self, q_functions: Sequence[nn.Module]) -> None:
        if not q_functions:
            raise ValueError("disagreement needs at least one other network")
        self._networks = [copy.deepcopy(network).eval().requires_grad_(False) for network in q_functions]

    def __call__(self, orbit: Orbit) -> Tensor:
        """Return the disagreement, shape ``[B, |G|]``."""
        rows = _merged(orbit.inputs)
        shape = orbit.outputs.shape
        others = [network.to(orbit.outputs.device)(rows).view(shape) for network in self._networks]
        return torch.stack([(other - orbit.outputs).abs().mean(dim=2) for other in others]).mean(dim=0)


AGENT_PROXY_LOSSES: dict[str, str] = {
    "novelty": "distance to visited states",
    "bellman_residual": "fit to the transitions in the replay buffer",
    "target_disagreement": "difference from the target network",
}
"""Proxy losses that are made from a trained agent, by name."""


def agent_proxy_loss(name: str, model: BaseAlgorithm, observations: Tree | None = None) -> ProxyLoss:
    """Return a proxy loss by name, made from what a plain agent knows.

    Args:
        name: One of ``PROXY_LOSSES`` (``max_value``, ``entropy``, ``confidence``), ``"novelty"``,
            ``"bellman_residual"`` or ``"target_disagreement"``.
        model: The plain agent.
        observations: Visited states, for ``"novelty"``; by default those of its replay buffer.

    Raises:
        TypeError: The agent has no Q-values, or its observations are of a kind that the proxy loss does not take.
        ValueError: Unknown name, or the replay buffer that it needs is empty.
    """
    if name in PROXY_LOSSES:
        return PROXY_LOSSES[name]
    if name == "novelty":
        return Novelty(replay_observations(model) if observations is None else observations)
    if name not in AGENT_PROXY_LOSSES:
        raise ValueError(unknown_name_message("proxy loss", name, [*PROXY_LOSSES, *AGENT_PROXY_LOSSES]))
    if not isinstance(getattr(model, "q_net", None), nn.Module):
        raise TypeError(f"{name!r} needs the Q-network of DQN; {type(model).__name__} has none")
    agent: Any = model
    if name == "target_disagreement":
        return Disagreement([agent.q_net_target])
    buffer = agent.replay_buffer
    if not isinstance(buffer, ReplayBuffer) or isinstance(buffer, DictReplayBuffer) or buffer.size() == 0:
        raise ValueError(
            "'bellman_residual' needs a replay buffer of array observations with transitions in it: "
            "model.load_replay_buffer(file)"
        )
    # SB3's own samples: normalised as the agent saw them, and with time-outs told from ends. They are drawn with the
    # global state of NumPy's random numbers, which is put back.
    state = np.random.get_state()
    try:
        np.random.seed(0)
        drawn = ReplayBuffer.sample(buffer, min(2000, buffer.size()), env=model.get_vec_normalize_env())
    finally:
        np.random.set_state(state)
    discounts = getattr(drawn, "discounts", None)
    return BellmanResidual(
        agent.q_net,
        drawn.observations,
        drawn.actions.flatten(),
        drawn.rewards.flatten(),
        drawn.next_observations,
        drawn.dones.flatten(),
        float(agent.gamma) if discounts is None else discounts.flatten(),
    )


def _flat(observations: Tree) -> Tensor:
    if isinstance(observations, Tensor):
        return observations.float().unsqueeze(-1).flatten(1)
    return torch.cat([_flat(observations[key]) for key in sorted(observations)], dim=1)


def _merged(inputs: Tree) -> Tree:
    if isinstance(inputs, Tensor):
        return inputs.flatten(0, 1)
    return {key: _merged(part) for key, part in inputs.items()}


def _scale(visited: Tensor) -> Tensor:
    """Return one scale per coordinate: the spread of measured quantities; 1 for marks of 0 and 1."""
    if bool(((visited == 0) | (visited == 1)).all()):
        return torch.ones_like(visited[0])
    spread = visited.std(dim=0)
    return torch.where(spread > 0, spread, torch.ones_like(spread))


def _distances(proxy: Novelty | BellmanResidual, orbit: Orbit) -> Tensor:
    """Return distances ``[B, |G|, N]`` of all views to all visited states."""
    views = orbit.flat_inputs.float()
    visited, scale = proxy._visited.to(views.device), proxy._scale.to(views.device)
    # Exact differences: the fast formula of cdist rounds small distances away from 0 and breaks ties.
    return torch.cdist(views / scale, visited, compute_mode="donot_use_mm_for_euclid_dist")
