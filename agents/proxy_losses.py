"""Proxy losses that know what an agent has seen: for equizero on trained agents, where ``max_value`` is fooled.

Each is a callable ``Orbit -> [B, |G|]``, lower is better, and a function of ``gx`` alone, so equizero stays exactly
equivariant with it. They carry their data, and are saved and loaded with the agent, also where there is another device.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from torch import Tensor, nn

from equirl.agents.observations import as_observations, as_tensors
from equirl.agents.spaces import flat_size, observation_shape
from equirl.agents.visited_states import n_rows, replay_observations
from equirl.arguments import real_number, whole_number
from equirl.eager import eager
from equirl.names import unknown_name_message
from equirl.orbit import Orbit, flatten_rows
from equirl.proxy_losses import PROXY_LOSSES, ProxyLoss
from equirl.representations import Tree, map_tensors
from equirl.testing import evaluation_mode

__all__ = ["AGENT_PROXY_LOSSES", "BellmanResidual", "Disagreement", "Novelty", "agent_proxy_loss"]

QFunction = Callable[[Tree], Tensor]


class _VisitedStates:
    """Base of the proxy losses that measure distances to visited states."""

    _visited: Tensor
    _scale: Tensor
    _labels: Tensor | None = None  # older files have none

    def _remember(self, visited: Tensor, labels: Sequence[bool] | Tensor | None) -> None:
        """Keep visited states ``[N, n]``, measured coordinates divided by their spread."""
        if labels is not None:
            marked = torch.as_tensor(labels, dtype=torch.bool)
            if marked.shape != visited.shape[1:]:
                raise ValueError(f"labels must say one bool for each of {visited.shape[1]} values; got {len(marked)}")
            self._labels = marked if bool(marked.any()) else None
        self._scale = _scale(visited, self._labels)
        self._visited = visited / self._scale

    def _distances(self, orbit: Orbit) -> Tensor:
        """Return distances ``[B, |G|, N]`` of all views to all visited states."""
        views = orbit.flat_inputs.float()
        visited, scale = self._visited.to(views.device), self._scale.to(views.device)
        if eager(views):  # a tensor of a graph is of no use after it
            self._visited, self._scale = visited, scale
        if views.shape[2] != visited.shape[1]:
            raise ValueError(
                f"{type(self).__name__} knows states of {visited.shape[1]} values, but the agent sees "
                f"{views.shape[2]}; make it from states of this agent"
            )
        views = views / scale
        if self._labels is None:
            return _euclidean(views, visited)
        labels = self._labels.tolist()
        named, counted = ([n for n, label in enumerate(labels) if label is wanted] for wanted in (True, False))
        measured = _euclidean(views[..., counted], visited[:, counted])
        unequal = torch.cdist(views[..., named], visited[:, named], p=0)
        return (measured.square() + unequal).sqrt()

    def __getstate__(self) -> dict[str, Any]:
        # On the CPU, so that an agent saved on one device loads on another.
        return {name: value.cpu() if isinstance(value, Tensor) else value for name, value in vars(self).items()}


class Novelty(_VisitedStates):
    """``l(gx)``: Euclidean distance of ``gx`` to the nearest visited state; the most familiar view wins.

    Fooled where distance does not mean difference: images that differ in one decisive cell, coordinates that do not
    matter. Where every view was visited it says nothing, and ties are averaged.

    Args:
        observations: Visited states, ``[N, *observation]``, as tensors or arrays; equal ones are kept once.
        n_states: How many to keep at most; a view costs that many distances.
        labels: Which values of a flattened observation are names, as in ``Discrete`` spaces, whose numbers are equal or
            not (distance 0 or 1) and nothing in between; by default none. ``agent_proxy_loss`` tells them itself.

    Raises:
        TypeError: The observations are no numbers.
        ValueError: No states, states that are not finite, ``n_states`` less than 1, or ``labels`` of another length.
    """

    def __init__(
        self,
        observations: Tree | NDArray[Any],
        n_states: int = 2000,
        *,
        labels: Sequence[bool] | Tensor | None = None,
    ) -> None:
        n_states = whole_number(n_states, "n_states", 1)
        visited = torch.unique(_flat(observations), dim=0)
        if len(visited) > n_states:
            visited = visited[torch.randperm(len(visited), generator=torch.Generator().manual_seed(0))[:n_states]]
        self._remember(visited, labels)

    def __call__(self, orbit: Orbit) -> Tensor:
        """Return the distances, shape ``[B, |G|]``."""
        return self._distances(orbit).amin(dim=2)


class BellmanResidual(_VisitedStates):
    """``l(gx)``: how badly ``Q(gx)`` fits the transitions seen near ``gx``, ``|Q(gx, a_i) - r_i - γ max Q(s'_i)|``.

    A model-free, one-step estimate: the mean over the nearest stored transitions ``i``. Fooled far from the data, where
    the nearest transition is of another state, and by values that are wrong and consistent (all zero under sparse
    rewards: every residual is small).

    Args:
        q_function: The plain agent's Q-values ``[N, A]`` of observations.
        observations: States ``s_i``, ``[N, *observation]``.
        actions: Integers ``[N]`` in ``0 .. A - 1``.
        rewards: Shape ``[N]``.
        next_observations: States ``s'_i``.
        dones: 1 where the episode ended in ``s'_i``, shape ``[N]``.
        gamma: Discount in [0, 1], one or ``[N]``.
        neighbors: Transitions to average over.
        labels: As for ``Novelty``.

    Raises:
        TypeError: Observations, or other arguments, that are no numbers.
        ValueError: Numbers outside their range or not finite, or arguments of different lengths.
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
        *,
        labels: Sequence[bool] | Tensor | None = None,
    ) -> None:
        neighbors = whole_number(neighbors, "neighbors", 1)
        visited = _flat(observations)
        after = as_tensors(next_observations)
        if n_rows(after) != len(visited):
            raise ValueError(f"there are {len(visited)} observations, but {n_rows(after)} next ones")
        with torch.no_grad(), evaluation_mode(q_function):
            q_values = q_function(after)
        n_actions = q_values.shape[-1]
        taken = _one_each("actions", actions, visited, 0, n_actions - 1)
        if bool((taken != taken.round()).any()):
            raise ValueError(f"actions must be whole numbers; got {float(taken[taken != taken.round()][0])}")
        earned = _one_each("rewards", rewards, visited)
        ended = _one_each("dones", dones, visited, 0, 1)
        discount = (
            gamma
            if isinstance(gamma, Tensor) and gamma.ndim
            else torch.full((len(visited),), real_number(gamma, "gamma"), dtype=torch.float64)
        )
        discount = _one_each("gamma", discount, visited, 0, 1)
        self._actions = taken.long()
        best = _one_each("the largest Q-values of next_observations", q_values.amax(dim=1), visited)
        self._targets = earned + discount * (1 - ended) * best
        self._neighbors = min(neighbors, len(visited))
        self._remember(visited, labels)

    def __call__(self, orbit: Orbit) -> Tensor:
        """Return the mean residuals, shape ``[B, |G|]``."""
        nearest = self._distances(orbit).topk(self._neighbors, dim=2, largest=False).indices
        actions, targets = (values.to(orbit.outputs.device)[nearest] for values in (self._actions, self._targets))
        return (orbit.outputs.gather(2, actions) - targets).abs().mean(dim=2)


class Disagreement:
    """``l(gx)``: how far other networks' Q-values at ``gx`` are from the agent's, mean absolute difference.

    The others: an ensemble trained with other seeds, or the target network. Fooled where all were wrong alike: networks
    that share data share over-estimates, and a target network that has just been updated agrees with everything.

    Args:
        q_functions: The other networks, each ``[N, *observation] -> [N, A]``; copied and frozen.

    Raises:
        TypeError: Something other than a list of torch modules.
        ValueError: No networks; on call, values of another shape than the agent's.
    """

    def __init__(self, q_functions: Sequence[nn.Module]) -> None:
        if isinstance(q_functions, nn.Module) or not isinstance(q_functions, Iterable):
            raise TypeError(f"disagreement takes a list of networks, [network]; got {type(q_functions).__name__}")
        networks = list(q_functions)
        if not networks:
            raise ValueError("disagreement needs at least one other network")
        for network in networks:
            if not isinstance(network, nn.Module):
                raise TypeError(f"disagreement takes torch modules, which it copies; got {type(network).__name__}")
        self._networks = [copy.deepcopy(network).eval().requires_grad_(False) for network in networks]

    def __call__(self, orbit: Orbit) -> Tensor:
        """Return the disagreement, shape ``[B, |G|]``."""
        rows = map_tensors(orbit.inputs, lambda views: views.flatten(0, 1))
        others = [network.to(orbit.outputs.device)(rows) for network in self._networks]
        for other in others:
            if other.shape != (orbit.outputs.shape[0] * orbit.outputs.shape[1], *orbit.outputs.shape[2:]):
                raise ValueError(
                    f"another network gives {list(other.shape)} for {len(other)} views, the agent "
                    f"{list(orbit.outputs.shape[2:])} for each; compare networks with the same actions"
                )
        return torch.stack([(other.view_as(orbit.outputs) - orbit.outputs).abs().mean(dim=2) for other in others]).mean(
            dim=0
        )

    def __getstate__(self) -> dict[str, Any]:
        # On the CPU, so that an agent saved on one device loads on another.
        return {**vars(self), "_networks": [copy.deepcopy(network).cpu() for network in self._networks]}


AGENT_PROXY_LOSSES: dict[str, str] = {
    "novelty": "distance to visited states",
    "bellman_residual": "fit to the transitions in the replay buffer",
    "target_disagreement": "difference from the target network",
}
"""Proxy losses that are made from a trained agent, by name."""


def agent_proxy_loss(name: str, model: BaseAlgorithm, observations: Tree | NDArray[Any] | None = None) -> ProxyLoss:
    """Return a proxy loss by name, made from what a plain agent knows.

    Args:
        name: One of ``PROXY_LOSSES`` (``max_value``, ``entropy``, ``confidence``), ``"novelty"``,
            ``"bellman_residual"`` or ``"target_disagreement"``.
        model: The plain agent.
        observations: Visited states, for ``"novelty"``; by default those of its replay buffer.

    Raises:
        TypeError: The agent has no Q-values, or the observations are no numbers.
        ValueError: Unknown name, observations that do not fit the agent, or an empty replay buffer where one is needed.
    """
    if name in PROXY_LOSSES:
        return PROXY_LOSSES[name]
    if name not in AGENT_PROXY_LOSSES:
        raise ValueError(unknown_name_message("proxy loss", name, [*PROXY_LOSSES, *AGENT_PROXY_LOSSES]))
    labels = _label_mask(model.observation_space)
    if name == "novelty":
        if observations is None:
            return Novelty(replay_observations(model), labels=labels)
        return Novelty(as_observations(observations, model.observation_space, model.device), labels=labels)
    if not isinstance(getattr(model, "q_net", None), nn.Module):
        raise TypeError(f"{name!r} needs the Q-network of DQN; {type(model).__name__} has none")
    agent: Any = model
    if name == "target_disagreement":
        return Disagreement([agent.q_net_target])
    buffer = agent.replay_buffer
    if not isinstance(buffer, ReplayBuffer) or buffer.size() == 0:
        raise ValueError(
            "'bellman_residual' needs a replay buffer with transitions in it: model.load_replay_buffer(file)"
        )
    # SB3's own samples: normalised as the agent saw them, and with time-outs told from ends. They are drawn with the
    # global state of NumPy's random numbers, which is put back.
    sample: Any = DictReplayBuffer.sample if isinstance(buffer, DictReplayBuffer) else ReplayBuffer.sample
    state = np.random.get_state()
    try:
        np.random.seed(0)
        drawn = sample(buffer, min(2000, buffer.size()), env=model.get_vec_normalize_env())
    finally:
        np.random.set_state(state)
    discounts = getattr(drawn, "discounts", None)
    before, after = (
        as_observations(part, model.observation_space, model.device)
        for part in (drawn.observations, drawn.next_observations)
    )
    return BellmanResidual(
        agent.q_net,
        before,
        drawn.actions.flatten(),
        drawn.rewards.flatten(),
        after,
        drawn.dones.flatten(),
        float(agent.gamma) if discounts is None else discounts.flatten(),
        labels=labels,
    )


def _flat(observations: Any) -> Tensor:
    """Return observations as finite rows of floats, ``[N, n]``."""
    if isinstance(observations, Mapping) and not observations:
        raise ValueError("visited states [N, *observation] are needed; got an empty dict of observations")
    tensors = as_tensors(observations)
    flat = flatten_rows(tensors).float() if not isinstance(tensors, Tensor) or tensors.ndim else torch.empty(0, 1)
    if len(flat) == 0:
        raise ValueError("visited states [N, *observation] are needed; got none")
    if not bool(torch.isfinite(flat).all()):
        raise ValueError("visited states must be finite; one holds NaN or an infinite value")
    return flat


def _one_each(name: str, given: Any, visited: Tensor, low: float = -torch.inf, high: float = torch.inf) -> Tensor:
    """Return one finite number for each visited state, ``[N]``, on the device of the states."""
    read = as_tensors(given)
    if not isinstance(read, Tensor):
        raise TypeError(f"{name} must be one number for each observation; got a dict")
    values = read.to(visited.device).float()
    values = values.flatten() if values.shape == (len(visited), 1) else values
    if values.shape != (len(visited),):
        raise ValueError(f"{name} must be one number for each of {len(visited)} observations; got {list(values.shape)}")
    wrong = ~torch.isfinite(values) | (values < low) | (values > high)
    if bool(wrong.any()):
        raise ValueError(f"{name} must be finite and in {low:g} .. {high:g}; got {float(values[wrong][0]):g}")
    return values


def _label_mask(space: spaces.Space[Any]) -> Tensor:
    """Return which values of a flattened observation are names rather than quantities, ``[n]``."""
    if isinstance(space, spaces.Dict):
        return torch.cat([_label_mask(space.spaces[key]) for key in sorted(space.spaces)])
    named = isinstance(space, (spaces.Discrete, spaces.MultiDiscrete))
    return torch.full((flat_size(observation_shape(space)),), named)


def _scale(visited: Tensor, labels: Tensor | None) -> Tensor:
    """Return one scale per coordinate: the spread of measured quantities; 1 for names, and for marks of 0 and 1."""
    ones = torch.ones_like(visited[0])
    named = torch.zeros_like(ones, dtype=torch.bool) if labels is None else labels.to(visited.device)
    measured = visited[:, ~named]
    if len(visited) < 2 or bool(((measured == 0) | (measured == 1)).all()):
        return ones
    spread = visited.std(dim=0)
    return torch.where((spread > 0) & ~named, spread, ones)


def _euclidean(views: Tensor, visited: Tensor) -> Tensor:
    # Exact differences: the fast formula of cdist rounds small distances away from 0 and breaks ties.
    return torch.cdist(views, visited, compute_mode="donot_use_mm_for_euclid_dist")
