"""What the symmetrization does during training, in TensorBoard beside SB3's own curves."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback

from equirl.agents.observations import as_observations
from equirl.agents.orbit_network import orbit_networks
from equirl.agents.scores import action_scores, before_normalization
from equirl.agents.visited_states import buffer_rows
from equirl.arguments import whole_number
from equirl.representations import Tree
from equirl.testing import equivariance_error, evaluation_mode

__all__ = ["SymmetryCallback"]


class SymmetryCallback(BaseCallback):
    """Log how the orbit is used, on states drawn from the replay or rollout buffer.

    Under ``symmetry/``: ``lambda_entropy``, the mean entropy of the weights over the orbit in nats, from 0 (one view is
    used) to ``log |G|`` (a plain mean); ``share_<element>``, the mean weight of each group element, summing to 1;
    ``equivariance_error``, ``max_g ||Q(gs) - g Q(s)|| / ||Q(s)||``, which should stay at round-off; ``gate``, the mean
    of the gate in [0, 1], for ``method="partial"``. With ``VecNormalize`` the error is that of normalisation and
    network together: ``s`` is what the environment gives.

    The run is the same with and without the callback.

    Args:
        log_freq: Environment steps between two entries.
        n_states: States drawn for each.
        verbose: As for every SB3 callback.

    Raises:
        TypeError: The agent is not equivariant, or it has no buffer; or a setting is no number.
        ValueError: ``log_freq`` or ``n_states`` is less than 1, or no whole number.
    """

    def __init__(self, log_freq: int = 1000, n_states: int = 128, verbose: int = 0) -> None:
        super().__init__(verbose)
        self.log_freq = whole_number(log_freq, "log_freq", 1)
        self.n_states = whole_number(n_states, "n_states", 1)
        # Its own random numbers: the run is the same with and without this callback.
        self._random = np.random.default_rng(0)
        self._last_logged = 0

    def _init_callback(self) -> None:
        try:
            orbit_networks(self.model)
        except TypeError as error:
            raise TypeError(
                f"SymmetryCallback logs equivariant agents; {error}. To train this agent as it is, leave the "
                "callback out"
            ) from error
        if self._buffer() is None:
            raise TypeError(
                f"SymmetryCallback reads states from a buffer; {type(self.model).__name__} has none. Leave it out"
            )
        self._last_logged = self.num_timesteps

    def _on_step(self) -> bool:
        if self.num_timesteps - self._last_logged >= self.log_freq and self._buffer().size() > 0:
            self._last_logged = self.num_timesteps
            self._log()
        return True

    def _on_training_end(self) -> None:
        # SB3 writes every 4 episodes, or every 100 rollouts of A2C: what a short run has is written at its end.
        if self.logger.name_to_value:
            self.logger.dump(self.num_timesteps)

    def _log(self) -> None:
        network = orbit_networks(self.model)[0]
        observations = self._draw_observations()
        with torch.no_grad(), evaluation_mode(network):
            weights = network.orbit_weights(observations)
        self.logger.record("symmetry/lambda_entropy", float(torch.special.entr(weights).sum(dim=1).mean()))
        for element, share in zip(network.symmetry.group.element_names, weights.mean(dim=0).tolist(), strict=True):
            self.logger.record(f"symmetry/share_{element}", share)
        normalize = self.model.get_vec_normalize_env()
        scores, states = before_normalization(action_scores(self.model), observations, normalize)
        error = equivariance_error(scores, network.input_rep, network.symmetry.action, states)
        self.logger.record("symmetry/equivariance_error", error)
        if network.relaxation is not None:
            with torch.no_grad():
                opening = network.relaxation.gate(network._observations(observations))
            self.logger.record("symmetry/gate", float(opening.mean()))

    def _draw_observations(self) -> Tree:
        """Return states from the buffer as the agent saw them."""
        buffer = self._buffer()
        rows = self._random.integers(buffer.size(), size=self.n_states)
        columns = self._random.integers(buffer.n_envs, size=self.n_states)
        picked = buffer_rows(buffer, rows, columns)
        normalize = self.model.get_vec_normalize_env()
        if normalize is not None and isinstance(buffer, ReplayBuffer):
            picked = normalize.normalize_obs(picked)  # replay buffers keep what the environment gave
        return as_observations(picked, self.model.observation_space, self.model.device)

    def _buffer(self) -> Any:
        return getattr(self.model, "replay_buffer", None) or getattr(self.model, "rollout_buffer", None)
