"""Fitting the gate and the correction of a trained agent that was made partially equivariant, without rewards."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from torch import Tensor

from equirl.agents.continuous_networks import ACTION, OBSERVATION, OrbitCritic
from equirl.agents.gate_evidence import Evidence, RecurringEvidence, Steps, some_steps
from equirl.agents.gate_training import as_vectors, gate_loss, gate_of, gated_networks, make_evidence
from equirl.agents.observations import as_observations
from equirl.agents.orbit_network import OrbitNetwork
from equirl.agents.value_network import ValueOrbitNetwork
from equirl.agents.visited_states import buffer_rows
from equirl.arguments import whole_number
from equirl.representations import Tree, map_tensors
from equirl.testing import evaluation_mode

__all__ = ["fit_gates", "replay_steps"]

_BATCH = 256
_RATE = 3e-3


def replay_steps(model: BaseAlgorithm, n_steps: int = 50_000, seed: int = 0) -> Steps:
    """Return transitions drawn from an agent's replay buffer without replacement, as the agent saw them.

    Args:
        model: An off-policy agent whose replay buffer is not empty.
        n_steps: How many at most.
        seed: Seed of the draw.

    Raises:
        TypeError: ``n_steps`` or ``seed`` is no number.
        ValueError: There is no replay buffer, it is empty, or it does not keep the states that follow.
    """
    n_steps, seed = whole_number(n_steps, "n_steps", 1), whole_number(seed, "seed", 0)
    buffer: Any = getattr(model, "replay_buffer", None)
    if not isinstance(buffer, ReplayBuffer) or buffer.size() == 0 or getattr(buffer, "optimize_memory_usage", False):
        raise ValueError(
            f"method='partial' learns from transitions where the symmetry fails, and this {type(model).__name__} has "
            "no replay buffer with them in it: load the one it was trained with (model.load_replay_buffer(file), or "
            "--replay-buffer FILE), or train further with equirl.agents.GateTraining as a callback"
        )
    random = np.random.default_rng(seed)
    picked = random.permutation(buffer.size() * buffer.n_envs)[:n_steps]
    rows = picked // buffer.n_envs, picked % buffer.n_envs
    normalize = model.get_vec_normalize_env()

    def seen(chosen: Any) -> Tree:
        chosen = chosen if normalize is None else normalize.normalize_obs(chosen)
        return as_observations(chosen, model.observation_space, "cpu")

    after = buffer.next_observations
    following = {key: part[rows] for key, part in after.items()} if isinstance(after, dict) else after[rows]
    return Steps(
        seen(buffer_rows(buffer, *rows)),
        as_vectors(buffer.actions[rows], model.action_space),
        torch.as_tensor(buffer.rewards[rows]).float(),
        seen(following),
        torch.as_tensor(buffer.dones[rows] * (1 - buffer.timeouts[rows])).bool(),
    )


def fit_gates(model: BaseAlgorithm, steps: Steps, gradient_steps: int = 1_000, seed: int = 0) -> None:
    """Fit the gates of a partially equivariant agent on transitions, then its corrections on what the agent did there.

    The gate learns where the transitions show that the symmetry fails (:class:`GateTraining`). The correction learns
    the difference between the plain and the exact output on those states, ``R(x) = M(x) - M_G(x)``, with the gate as
    its weight: where the gate is open, the agent does what it did before.

    Args:
        model: From ``symmetrize_agent(..., "partial")``; its networks are changed in place.
        steps: Transitions of the world that it was trained in; see ``replay_steps``.
        gradient_steps: How many gradient steps the gate takes; the correction takes as many.
        seed: Seed of the batches.

    Raises:
        TypeError: The agent has no gates that something beside the loss trains.
        ValueError: Nothing recurs in the transitions, for ``gate="recorded"``.
    """
    networks = gated_networks(model)
    if not networks:
        raise TypeError("fit_gates fits agents with method='partial' and gate='recorded' or 'predicted'")
    evidence = make_evidence(networks[0])
    for rows in torch.split(torch.arange(len(steps.actions)), 4_096):
        evidence.add(some_steps(steps, rows))
    random = np.random.default_rng(seed)
    for each in networks:
        with evaluation_mode(each), torch.inference_mode(False), torch.enable_grad():
            _fit_gate(each, evidence, gradient_steps, random)
            _fit_correction(each, steps, gradient_steps, random)
    policy: Any = model.policy
    for name, module in policy.named_children():
        if name.endswith("_target"):
            module.load_state_dict(getattr(policy, name.removesuffix("_target")).state_dict())


def _fit_gate(network: OrbitNetwork, evidence: Evidence, gradient_steps: int, random: np.random.Generator) -> None:
    optimizer = torch.optim.Adam(gate_of(network).parameters(), lr=_RATE)
    for _ in range(gradient_steps):
        examples = evidence.draw(_BATCH, random)
        if examples is None:
            if not isinstance(evidence, RecurringEvidence):
                continue
            raise ValueError(
                f"{evidence.told} come up in these transitions with another image of themselves, too few for "
                "gate='recorded' to learn from: give more transitions, or, for measured states, which never recur, "
                "method_kwargs=dict(gate='predicted')"
            )
        loss = gate_loss(network, examples, evidence.positive_weight)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _fit_correction(network: OrbitNetwork, steps: Steps, gradient_steps: int, random: np.random.Generator) -> None:
    relaxation = network.relaxation
    assert relaxation is not None
    optimizer = torch.optim.Adam(relaxation.free.parameters(), lr=_RATE)
    for _ in range(gradient_steps):
        rows = torch.as_tensor(random.integers(len(steps.actions), size=_BATCH))
        given = _given(network, steps, rows)
        with torch.no_grad():
            orbit = network.evaluate_orbit(given)
            outputs = orbit.outputs if orbit.combined is None else orbit.combined
            plain = outputs[:, network.symmetry.group.identity]
            observations = network._observations(given)
            exact = network.orbit_map(network._head, observations, network._features, network._shown)
            opening = relaxation.spread(relaxation.gate(observations))
        correction: Tensor = relaxation.free(relaxation.gate.prepare(observations)).view(exact.shape)
        wanted = plain - exact
        if isinstance(network, ValueOrbitNetwork):  # advantages are what is compared within a state, not values
            wanted = wanted - wanted.mean(dim=-1, keepdim=True)
        loss = (opening * (correction - wanted).square()).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _given(network: OrbitNetwork, steps: Steps, rows: Tensor) -> Any:
    device = next(network.parameters()).device
    observations = map_tensors(steps.observations, lambda values: values[rows].to(device))
    if isinstance(network, OrbitCritic):
        return {OBSERVATION: observations, ACTION: steps.actions[rows].to(device)}
    return observations
