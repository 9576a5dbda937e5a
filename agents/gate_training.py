"""Training the gates of partially equivariant agents on where transitions show that the symmetry fails."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor, nn

from equirl.agents.continuous_networks import ACTION, OBSERVATION, OrbitCritic
from equirl.agents.gate_evidence import Evidence, Examples, RecurringEvidence, Steps
from equirl.agents.model_evidence import ModelEvidence
from equirl.agents.observations import as_observations
from equirl.agents.orbit_network import OrbitNetwork, orbit_networks
from equirl.agents.sb3_doors import last_observation
from equirl.arguments import real_number, whole_number
from equirl.relaxation import Gate
from equirl.representations import Tree, map_tensors

__all__ = [
    *("GateTraining", "acted_logits", "as_vectors", "gate_callbacks", "gate_loss", "gate_of", "gated_networks"),
    "make_evidence",
]

_EVIDENCE: dict[str, type[Evidence]] = {"recorded": RecurringEvidence, "predicted": ModelEvidence}


class GateTraining(BaseCallback):
    """Train the gates of a partially equivariant agent, ``method="partial"``, beside the agent itself.

    With ``gate="recorded"`` transitions are compared with each other (:class:`RecurringEvidence`), with
    ``gate="predicted"`` two models of one step are (:class:`ModelEvidence`). The gate learns to say where the symmetry
    fails, by cross-entropy; the agent's own loss does not reach it. ``equirl train`` adds this callback by itself.

    ``DQN(EquivariantDQNPolicy, env, policy_kwargs=dict(symmetry=..., method="partial")).learn(n,
    callback=GateTraining())``

    Args:
        every: Environment steps between two rounds of gradient steps.
        gradient_steps: Gradient steps in a round.
        batch_size: Examples in a gradient step.
        learning_rate: Learning rate of the gate, for Adam.
        verbose: As for every SB3 callback.

    Raises:
        TypeError: A setting that is no number; at the start of training: an agent without gates to train.
        ValueError: A setting out of its range.
    """

    def __init__(
        self,
        every: int = 1_024,
        gradient_steps: int = 6,
        batch_size: int = 128,
        learning_rate: float = 1e-2,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        self.every = whole_number(every, "every", 1)
        self.gradient_steps = whole_number(gradient_steps, "gradient_steps", 1)
        self.batch_size = whole_number(batch_size, "batch_size", 1)
        self.learning_rate = real_number(learning_rate, "learning_rate", above=0)
        self.evidence: Evidence | None = None
        self._random = np.random.default_rng(0)
        self._waiting: list[tuple[Any, ...]] = []
        self._optimizer: torch.optim.Optimizer | None = None
        self._last_round = 0
        self._complained = False

    def _init_callback(self) -> None:
        networks = gated_networks(self.model)
        if not networks:
            raise TypeError(
                "GateTraining trains the gates of agents with method='partial' and gate='recorded' or 'predicted'; "
                "this agent has none. Leave the callback out"
            )
        gates = nn.ModuleList([gate_of(network) for network in networks])
        self._optimizer = torch.optim.Adam(gates.parameters(), lr=self.learning_rate)
        if self.evidence is None:
            self.evidence = make_evidence(networks[0])

    def _on_training_start(self) -> None:
        self._last_round = self.model.num_timesteps
        self._waiting = []

    def state_to_keep(self) -> Any:
        """Return evidence and optimizer, for a training that goes on later; see ``equirl.agents.training_state``."""
        assert self._optimizer is not None
        return {"evidence": self.evidence, "optimizer": self._optimizer.state_dict()}

    def restore_state(self, state: Any) -> None:
        """Put evidence and optimizer back."""
        assert self._optimizer is not None
        self.evidence = state["evidence"]
        self._optimizer.load_state_dict(state["optimizer"])

    def _on_step(self) -> bool:
        given = self.locals
        actions = given["buffer_actions"] if "buffer_actions" in given else given["actions"]
        infos, dones = given["infos"], np.asarray(given["dones"])
        after = given["new_obs"]
        if dones.any():
            after = _with_last(after, infos, dones)
        ends = dones & ~np.array([bool(info.get("TimeLimit.truncated")) for info in infos])
        before = last_observation(self.model)
        normalize = self.model.get_vec_normalize_env()  # whose rewards would drift with its statistics
        rewards = given["rewards"] if normalize is None else normalize.get_original_reward()
        self._waiting.append((_copy(before), np.array(actions), np.array(rewards), _copy(after), ends))
        if self.num_timesteps - self._last_round >= self.every:
            self._last_round = self.num_timesteps
            self._round()
        return True

    def _round(self) -> None:
        assert self.evidence is not None
        self.evidence.add(self._steps())
        self._waiting = []
        if isinstance(self.evidence, RecurringEvidence) and self.evidence.never_recurs and not self._complained:
            self._complained = True
            warnings.warn(
                "no state of this world has come up again with an image of itself, so that gate='recorded' learns "
                "nothing and the gate stays shut; for measured states: method_kwargs=dict(gate='predicted')",
                stacklevel=2,
            )
        for _ in range(self.gradient_steps):
            examples = self.evidence.draw(self.batch_size, self._random)
            if examples is None:
                return
            self._descend(examples)

    def _descend(self, examples: Examples) -> None:
        assert self._optimizer is not None
        assert self.evidence is not None
        losses = []
        with torch.enable_grad():
            for network in gated_networks(self.model):
                losses.append(gate_loss(network, examples, self.evidence.positive_weight))
            self._optimizer.zero_grad()
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def _steps(self) -> Steps:
        """Return the transitions since the last round as tensors."""
        before, actions, rewards, after, ends = zip(*self._waiting, strict=True)

        def seen(parts: tuple[Any, ...]) -> Tree:
            return as_observations(_concatenated(list(parts)), self.model.observation_space, "cpu")

        acted = as_vectors(np.concatenate(actions), self.model.action_space)
        gained = torch.as_tensor(np.concatenate(rewards)).float()
        return Steps(seen(before), acted, gained, seen(after), torch.as_tensor(np.concatenate(ends)))


def gate_callbacks(model: Any) -> list[BaseCallback]:
    """Return the callbacks that an agent's method needs to learn: ``GateTraining`` where there are gates to train."""
    try:
        return [GateTraining()] if gated_networks(model) else []
    except TypeError:
        return []  # it is not equivariant


def gated_networks(model: Any) -> list[OrbitNetwork]:
    """Return the networks of an agent whose gates something beside the loss trains; targets are copies of them."""
    targets = [module for name, module in model.policy.named_children() if name.endswith("_target")]
    found = [network for network in orbit_networks(model) if not any(network is target for target in targets)]
    return [network for network in found if network.relaxation is not None and not network.relaxation.learned]


def gate_of(network: OrbitNetwork) -> Gate:
    """Return the gate of a partially equivariant network.

    Raises:
        TypeError: It has none.
    """
    if network.relaxation is None:
        raise TypeError(f"the method of this network is {network.method!r}, which has no gate")
    return network.relaxation.gate


def make_evidence(network: OrbitNetwork) -> Evidence:
    """Return a new, empty store of the evidence that a network's gate learns from."""
    return _EVIDENCE[network.method_kwargs.get("gate", "recorded")](network.symmetry)


def gate_loss(network: OrbitNetwork, examples: Examples, positive_weight: float) -> Tensor:
    """Return the cross-entropy of a network's gate on examples of where the symmetry fails.

    Args:
        network: With a gate.
        examples: Pairs of state and action.
        positive_weight: How much more an example of failure counts than one of symmetry.
    """
    logits = acted_logits(network, examples.observations, examples.actions)
    targets = examples.broken.to(logits.device).unsqueeze(1).expand_as(logits)
    weight = torch.tensor(positive_weight, device=logits.device)
    return nn.functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weight)


def acted_logits(network: OrbitNetwork, observations: Tree, actions: Tensor) -> Tensor:
    """Return the gate's logits for what was done, ``[B, k]``: of the action, and of numbers that no action has.

    Args:
        network: With a gate.
        observations: ``[B, *observation]``.
        actions: As the group moves them, ``[B, A]``; one-hot where they are ``Discrete``.
    """
    gate = gate_of(network)
    device = next(gate.parameters()).device
    observations = map_tensors(observations, lambda values: values.to(device))
    actions = actions.to(device)
    if isinstance(network, OrbitCritic):
        return gate.logits(network._observations({OBSERVATION: observations, ACTION: actions}))
    logits = gate.logits(network._observations(observations))
    if not isinstance(network.action_space, spaces.Discrete):
        return logits
    n_actions = actions.shape[1]
    taken = (logits[:, :n_actions] * actions).sum(dim=1, keepdim=True)
    return torch.cat([taken, logits[:, n_actions:]], dim=1)


def as_vectors(actions: Any, space: spaces.Space[Any]) -> Tensor:
    """Return actions ``[N, ...]`` as the group moves them, ``[N, A]``: one-hot where they number things."""
    given = torch.as_tensor(np.asarray(actions))
    given = given.reshape(len(given), -1)
    if isinstance(space, spaces.Discrete):
        return nn.functional.one_hot(given[:, 0].long(), int(space.n)).float()
    if isinstance(space, spaces.MultiDiscrete):
        parts = [nn.functional.one_hot(given[:, i].long(), int(n)) for i, n in enumerate(space.nvec)]
        return torch.cat(parts, dim=1).float()
    return given.float()


def _with_last(observations: Any, infos: list[dict[str, Any]], dones: Any) -> Any:
    """Return observations with the last ones of episodes that ended, instead of the first ones of the next."""
    observations = _copy(observations)
    for i in np.flatnonzero(dones):
        last: Any = infos[i].get("terminal_observation")
        if isinstance(observations, dict):
            for key in observations:
                observations[key][i] = last[key]
        else:
            observations[i] = last
    return observations


def _copy(observations: Any) -> Any:
    if isinstance(observations, dict):
        return {key: np.array(part) for key, part in observations.items()}
    return np.array(observations)


def _concatenated(parts: list[Any]) -> Any:
    if isinstance(parts[0], dict):
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return np.concatenate(parts)
