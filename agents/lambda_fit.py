"""Fitting λ without rewards: the symmetrized network learns to be the pretrained one where that has been trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from equirl.agents.continuous_networks import ACTION, OBSERVATION, OrbitCritic
from equirl.agents.observations import as_observations
from equirl.agents.orbit_network import OrbitNetwork, orbit_networks
from equirl.agents.visited_states import n_rows, rows_of
from equirl.aggregators import Weighted
from equirl.lambda_fit import FitSettings, LambdaFitReport, drawn_batches, fit_weights
from equirl.names import unknown_name_message
from equirl.orbit import Orbit
from equirl.representations import Tree
from equirl.testing import evaluation_mode

__all__ = ["LambdaFit", "LambdaFitReport", "Objective", "fit_lambda"]

Objective = Literal["reproduce", "recognize"]

_LOOK_EVERY = 50
_LEAST_GAIN = 0.01


@dataclass(frozen=True)
class LambdaFit(FitSettings):
    """How λ of an agent is fitted; samples are states.

    A look at the held-out states comes every 50 steps and must better their loss by 1 % to count.

    Attributes:
        objective: ``"reproduce"``: least squares between ``M_G(x)`` and ``M(x)`` on visited states ``x``, relative to
            the variance of ``M(x)``. ``"recognize"``: λ tells the view ``x`` that was visited from its transforms
            ``gx`` by cross-entropy; it needs no outputs, and its optimum is the density of visited states.

    Raises:
        TypeError: A setting that is no number.
        ValueError: A setting out of its range, a count that is no whole number, or an unknown objective.
    """

    objective: Objective = "reproduce"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective not in get_args(Objective):
            raise ValueError(unknown_name_message("objective", self.objective, get_args(Objective)))


def fit_lambda(
    model: BaseAlgorithm, observations: Tree | NDArray[Any], settings: LambdaFit | None = None
) -> LambdaFitReport:
    """Fit λ of an agent so that it does on visited states what it did before; the backbone stays as it is.

    No reward and no environment step is used. Where the agent was trained, its own view ``x`` is right, and λ learns to
    prefer views like it; on a view it has never seen the same λ points to the transform that looks familiar. Actor and
    critics of continuous actions have a λ each, fitted one after the other.

    Equal seeds give equal fits; no global random number is drawn, and every part of the agent stays in its mode.

    Args:
        model: An agent with λ-equitune, from ``symmetrize_agent`` or loaded.
        observations: States the agent was trained on, ``[N, *observation]``, as tensors or arrays, or a dict of such;
            on others λ learns nothing of use. Of a recurrent agent: first observations of episodes, where λ acts.
        settings: How to fit.

    Returns:
        How it went, for the network that acts. The model's λ is changed in place; a fit that is broken off leaves the
        best λ so far.

    Raises:
        TypeError: The agent's policy is not equivariant, the observations are no numbers, or ``settings`` is no
            ``LambdaFit``.
        ValueError: Its method is not λ-equitune, there are fewer than 10 states, states that do not fit the agent's
            observation space, or a loss that is not finite.
    """
    settings = LambdaFit() if settings is None else settings
    if not isinstance(settings, LambdaFit):
        raise TypeError(f"settings must be a LambdaFit, such as LambdaFit(steps=500); got {settings!r}")
    networks = orbit_networks(model)
    network = networks[0]
    critics = [each for each in networks if isinstance(each, OrbitCritic)]
    if not isinstance(network.aggregator, Weighted):
        raise ValueError(f"the agent's method is {network.method!r}, which has no λ; use method='lambda_equitune'")
    states = as_observations(observations, model.observation_space, model.device)
    n_states = n_rows(states)
    if n_states < 10:
        raise ValueError(f"λ is fitted on {n_states} states; at least 10 are needed, some thousand are usual")
    report = _fit_alike([each for each in networks if each not in critics], states, settings)
    if critics:
        # What the critics were trained on most: the states with the plain actor's own actions there.
        with torch.no_grad(), evaluation_mode(network):
            chosen = [
                network.evaluate_orbit(rows_of(states, rows)).outputs[:, network.symmetry.group.identity]
                for rows in torch.split(torch.arange(n_states), settings.batch_size)
            ]
        actions = torch.cat(chosen)
        _fit_alike(critics, {OBSERVATION: states, ACTION: actions}, settings)
    return report


def _fit_alike(networks: Sequence[OrbitNetwork], states: Tree, settings: LambdaFit) -> LambdaFitReport:
    """Fit λ of the first network, and give it to the others, its targets."""
    network = networks[0]
    with evaluation_mode(network), torch.inference_mode(False), torch.enable_grad():
        try:
            return _descend(_Fit(network, states, settings), network, settings)
        finally:
            best = network.aggregator.state_dict()
            for each in networks[1:]:
                each.aggregator.load_state_dict(best)


def _descend(fit: _Fit, network: OrbitNetwork, settings: LambdaFit) -> LambdaFitReport:
    generator = torch.Generator().manual_seed(settings.seed)
    split = torch.randperm(fit.n_states, generator=generator)
    n_held_out = max(1, int(settings.holdout * fit.n_states))
    held_out, known = split[:n_held_out], split[n_held_out:]
    return fit_weights(
        network.aggregator,
        fit.loss,
        lambda: fit.held_out_loss(held_out),
        drawn_batches(known, settings.batch_size, generator),
        settings,
        look_every=_LOOK_EVERY,
        n_samples=fit.n_states,
        least_gain=_LEAST_GAIN,
    )


class _Fit:
    """The loss of λ on states whose orbits the frozen backbone has seen once."""

    def __init__(self, network: OrbitNetwork, observations: Tree, settings: LambdaFit) -> None:
        self._network = network
        self._observations = observations
        self._settings = settings
        self._identity = network.symmetry.group.identity
        self.n_states = n_rows(observations)
        with torch.no_grad():
            parts = [
                network.evaluate_orbit(rows_of(observations, rows))
                for rows in torch.split(torch.arange(self.n_states), settings.batch_size)
            ]
        # Inputs are large and cheap to make again; what the backbone gives is neither.
        self._features = torch.cat([part.features for part in parts])
        self._outputs = torch.cat([part.outputs for part in parts])
        whole = [part.outputs if part.combined is None else part.combined for part in parts]
        self._combined = torch.cat(whole)
        target = self._combined[:, self._identity]
        self._variance = target.var(dim=0).clamp_min(float(target.var(dim=0).max()) * 0.01 + 1e-12)

    def loss(self, rows: Tensor) -> Tensor:
        seen = self._network._observations(cast(Any, rows_of(self._observations, rows)))
        inputs = self._network.input_rep.orbit(seen)
        output_rep, combined = self._network.output_rep, self._combined[rows]
        orbit = Orbit(inputs, self._outputs[rows], output_rep, self._features[rows], combined)
        if self._settings.objective == "recognize":
            weights = self._network.aggregator.weights(orbit)
            return -weights[:, self._identity].clamp_min(1e-12).log().mean()
        error: Tensor = self._network.aggregator(orbit) - combined[:, self._identity]
        return (error.square() / self._variance).mean()

    @torch.no_grad()
    def held_out_loss(self, held_out: Tensor) -> float:
        batches = torch.split(held_out, self._settings.batch_size)
        return float(sum(self.loss(batch) * len(batch) for batch in batches)) / len(held_out)
