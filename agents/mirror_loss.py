"""The mirror loss: a plain agent is asked to be symmetric by its loss, a baseline beside exact symmetrization."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from equirl.agents.observations import as_observations
from equirl.agents.scores import action_function
from equirl.agents.spaces import symmetry_on
from equirl.agents.symmetric_policy import SymmetricPolicy
from equirl.agents.symmetrization import agent_symmetry
from equirl.arguments import real_number, whole_number
from equirl.representations import Tree, map_tensors
from equirl.symmetry import MDPSymmetry

__all__ = ["MirrorLossCallback"]


class MirrorLossCallback(BaseCallback):
    """Add ``c mean_g ||f(gs) - g f(s)||^2`` to the loss of a plain agent in every step of its optimizer.

    ``f`` is what the agent acts on: Q-values, logits, or the mean of its action (Yu et al. 2018, arXiv:1801.08093;
    without gradient through ``g f(s)``, as rsl_rl has it). States ``s`` are drawn from the agent's own buffer, with one
    group element other than the identity for each. The symmetry is approached, and never exact.

    ``SAC("MlpPolicy", env).learn(50_000, callback=MirrorLossCallback("pendulum-z2"))``; in a YAML file for
    ``equirl train``: ``callback: {equirl.agents.MirrorLossCallback: {symmetry: pendulum-z2}}``.

    Args:
        symmetry: A registered name, a symmetry file or an ``MDPSymmetry``.
        coefficient: ``c``, not negative.
        batch_size: States in each step; by default the agent's ``batch_size``, or 64.
        verbose: As for every SB3 callback.

    Raises:
        TypeError: The agent has no optimizer or buffer that is known here; or a setting is no number.
        ValueError: The agent is equivariant already, the symmetry does not fit, or a setting is out of its range.
    """

    def __init__(
        self,
        symmetry: str | MDPSymmetry,
        coefficient: float = 1.0,
        batch_size: int | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        self.symmetry = symmetry
        self.coefficient = real_number(coefficient, "coefficient", least=0)
        self.batch_size = None if batch_size is None else whole_number(batch_size, "batch_size", 1)
        self._hook: RemovableHandle | None = None
        self._losses: list[float] = []

    def _on_training_start(self) -> None:
        policy: Any = self.model.policy
        if isinstance(policy, SymmetricPolicy):
            raise ValueError(
                f"{type(policy).__name__} is equivariant: its mirror loss is 0. Leave MirrorLossCallback out, or "
                "train a plain policy"
            )
        if isinstance(policy, RecurrentActorCriticPolicy):
            raise TypeError(
                "the mirror loss compares actions for single observations, and a recurrent agent acts on its history: "
                "leave MirrorLossCallback out"
            )
        resolved = symmetry_on(agent_symmetry(self.model, self.symmetry), self.model.device)
        self._function = action_function(self.model)
        optimizer = getattr(getattr(policy, "actor", policy), "optimizer", None)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"the mirror loss needs the optimizer of the policy; {type(policy).__name__} has none")
        self._resolved = resolved
        # Its own random numbers: without the loss, the run would be the same.
        self._random = np.random.default_rng(self.model.seed or 0)
        self._rows = int(self.batch_size or getattr(self.model, "batch_size", None) or 64)
        self._hook = optimizer.register_step_pre_hook(lambda *_: self._add_gradient())

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self._losses:
            self.logger.record("train/mirror_loss", float(np.mean(self._losses)))
            self._losses = []

    def _on_training_end(self) -> None:
        if self._hook is not None:
            self._hook.remove()

    def _add_gradient(self) -> None:
        if self._resolved.group.order == 1:
            return
        states = self._states()
        with torch.enable_grad():
            loss = self.coefficient * self.loss(states)
            loss.backward()  # type: ignore[no-untyped-call]
        self._losses.append(float(loss.detach()))

    def loss(self, states: Tree) -> Tensor:
        """Return ``mean ||f(gs) - g f(s)||^2`` over states ``[B, *observation]`` and numbers of an action."""
        group = self._resolved.group
        others = [g for g in range(group.order) if g != group.identity]
        n = len(next(iter(states.values()))) if isinstance(states, dict) else len(states)
        elements = torch.as_tensor(self._random.choice(others, size=n), device=self.model.device)
        with torch.no_grad():
            wanted: Any = self._resolved.action.transform(elements, self._function(self._seen(states)))
        moved = self._function(self._seen(self._resolved.observation.transform(elements, states)))
        difference: Tensor = moved - wanted
        return difference.square().mean()

    def _states(self) -> Tree:
        """Return states from the agent's buffer: in replay buffers as the environment gave them."""
        buffer: Any = getattr(self.model, "replay_buffer", None) or getattr(self.model, "rollout_buffer", None)
        if buffer is None:
            raise TypeError(f"the mirror loss reads states from a buffer; {type(self.model).__name__} has none")
        space = self.model.observation_space
        replay = isinstance(buffer, ReplayBuffer)
        n_steps = buffer.size() if replay else buffer.buffer_size
        picked = self._random.integers(n_steps * buffer.n_envs, size=self._rows)

        def rows(values: Any, shape: tuple[int, ...]) -> Any:
            # Rollout buffers put steps and environments into one axis when they are read.
            return (values[:n_steps] if replay else values).reshape(-1, *shape)[picked]

        held, shapes = buffer.observations, buffer.obs_shape
        if isinstance(held, dict):
            drawn: Any = {key: rows(values, shapes[key]) for key, values in held.items()}
        else:
            drawn = rows(held, shapes)
        return _as_the_group_acts(as_observations(drawn, space, self.model.device), space)

    def _seen(self, states: Tree) -> Tree:
        """Return states as the network sees them."""
        normalize = self.model.get_vec_normalize_env()
        if normalize is None or not isinstance(getattr(self.model, "replay_buffer", None), ReplayBuffer):
            return states
        given: Any = map_tensors(states, lambda values: values.cpu())
        arrays = {key: part.numpy() for key, part in given.items()} if isinstance(given, dict) else given.numpy()
        return as_observations(normalize.normalize_obs(arrays), self.model.observation_space, self.model.device)


def _as_the_group_acts(states: Tree, space: spaces.Space[Any]) -> Tree:
    if isinstance(states, dict):
        return {key: _as_the_group_acts(part, space[key]) for key, part in states.items()}  # type: ignore[index]
    assert isinstance(states, Tensor)
    return states.float() if isinstance(space, spaces.Box) else states
