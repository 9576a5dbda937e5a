"""Fitting λ without rewards: the symmetrized network learns to be the pretrained one where that has been trained."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from equirl.agents.orbit_network import OrbitNetwork, orbit_networks
from equirl.agents.visited_states import n_rows, rows_of
from equirl.aggregators import Weighted
from equirl.names import unknown_name_message
from equirl.orbit import Orbit
from equirl.representations import Tree

__all__ = ["LambdaFit", "LambdaFitReport", "Objective", "fit_lambda"]

Objective = Literal["reproduce", "recognize"]


@dataclass(frozen=True)
class LambdaFit:
    """How λ is fitted.

    Attributes:
        objective: ``"reproduce"``: least squares between ``M_G(x)`` and ``M(x)`` on visited states ``x``, relative to
            the variance of ``M(x)``. ``"recognize"``: λ tells the view ``x`` that was visited from its transforms
            ``gx`` by cross-entropy; it needs no outputs, and its optimum is the density of visited states.
        steps: Gradient steps at most.
        batch_size: States in each.
        learning_rate: Of Adam.
        holdout: Share of the states kept for the early stop.
        patience: Fitting ends after so many evaluations (one every 50 steps) in a row that do not better the held-out
            loss by 1 %.
        seed: Seed of split and batches.

    Raises:
        ValueError: A setting out of its range.
    """

    objective: Objective = "reproduce"
    steps: int = 2000
    batch_size: int = 256
    learning_rate: float = 3e-3
    holdout: float = 0.1
    patience: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.objective not in get_args(Objective):
            raise ValueError(unknown_name_message("objective", self.objective, get_args(Objective)))
        if min(self.steps, self.batch_size, self.patience) < 1 or self.learning_rate <= 0:
            raise ValueError(f"steps, batch_size, patience and learning_rate must be positive; got {self}")
        if not 0 < self.holdout < 1:
            raise ValueError(f"holdout is a share in (0, 1), not {self.holdout}")


@dataclass(frozen=True)
class LambdaFitReport:
    """How the fit went.

    Attributes:
        steps: Gradient steps taken.
        seconds: Wall-clock seconds.
        initial_loss: Held-out loss before, λ as it was.
        loss: Held-out loss of the λ that was kept.
        n_states: States fitted on, the held-out ones included.
    """

    steps: int
    seconds: float
    initial_loss: float
    loss: float
    n_states: int

    def __str__(self) -> str:
        return (
            f"λ fitted on {self.n_states:,} states: held-out loss {self.initial_loss:.4f} -> {self.loss:.4f} in "
            f"{self.steps} steps, {self.seconds:.1f} s"
        )


def fit_lambda(model: BaseAlgorithm, observations: Tree, settings: LambdaFit | None = None) -> LambdaFitReport:
    """Fit λ of an agent so that it does on visited states what it did before; the backbone stays as it is.

    No reward and no environment step is used. Where the agent was trained, its own view ``x`` is right, and λ learns to
    prefer views like it; on a view it has never seen the same λ points to the transform that looks familiar.

    Args:
        model: An agent with λ-equitune, from ``symmetrize_agent`` or loaded.
        observations: States the agent was trained on, ``[N, *observation]``; on others λ learns nothing of use.
        settings: How to fit.

    Returns:
        How it went; the model is changed in place.

    Raises:
        TypeError: The agent's policy is not equivariant.
        ValueError: Its method is not λ-equitune, or there are fewer than 10 states.
    """
    settings = settings or LambdaFit()
    networks = orbit_networks(model)
    network = networks[0]
    if not isinstance(network.aggregator, Weighted):
        raise ValueError(f"the agent's method is {network.method!r}, which has no λ; use method='lambda_equitune'")
    n_states = n_rows(observations)
    if n_states < 10:
        raise ValueError(f"λ is fitted on {n_states} states; at least 10 are needed, some thousand are usual")
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(settings.seed)
    split = torch.randperm(n_states, generator=generator)
    n_held_out = max(1, int(settings.holdout * n_states))
    held_out, known = split[:n_held_out], split[n_held_out:]
    fit = _Fit(network, observations, settings)
    optimizer = torch.optim.Adam(network.aggregator.parameters(), lr=settings.learning_rate)
    initial = best = fit.held_out_loss(held_out)
    kept = copy.deepcopy(network.aggregator.state_dict())
    stale = step = 0
    while step < settings.steps and stale < settings.patience:
        step += 1
        batch = known[torch.randint(len(known), (min(settings.batch_size, len(known)),), generator=generator)]
        optimizer.zero_grad()
        fit.loss(batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % 50 == 0 or step == settings.steps:
            loss = fit.held_out_loss(held_out)
            stale = 0 if loss < 0.99 * best else stale + 1
            if loss < best:
                best, kept = loss, copy.deepcopy(network.aggregator.state_dict())
    for each in networks:
        each.aggregator.load_state_dict(kept)
    return LambdaFitReport(step, time.perf_counter() - started, initial, best, n_states)


class _Fit:
    """The loss of λ on states whose orbits the frozen backbone has seen once."""

    def __init__(self, network: OrbitNetwork, observations: Tree, settings: LambdaFit) -> None:
        self._network = network
        self._observations = observations
        self._settings = settings
        self._identity = network.symmetry.group.identity
        training = network.training
        network.eval()
        with torch.no_grad():
            parts = [
                network.evaluate_orbit(rows_of(observations, rows))
                for rows in torch.split(torch.arange(n_rows(observations)), settings.batch_size)
            ]
        network.train(training)
        # Inputs are large and cheap to make again; what the backbone gives is neither.
        self._features = torch.cat([part.features for part in parts])
        self._outputs = torch.cat([part.outputs for part in parts])
        whole = [part.outputs if part.combined is None else part.combined for part in parts]
        self._combined = torch.cat(whole)
        target = self._combined[:, self._identity]
        self._variance = target.var(dim=0).clamp_min(float(target.var(dim=0).max()) * 0.01 + 1e-12)

    def loss(self, rows: Tensor) -> Tensor:
        inputs = self._network.input_rep.orbit(rows_of(self._observations, rows))
        output_rep, combined = self._network.output_rep, self._combined[rows]
        orbit = Orbit(inputs, self._features[rows], self._outputs[rows], output_rep, combined)
        if self._settings.objective == "recognize":
            weights = self._network.aggregator.weights(orbit)
            return -weights[:, self._identity].clamp_min(1e-12).log().mean()
        error: Tensor = self._network.aggregator(orbit) - combined[:, self._identity]
        return (error.square() / self._variance).mean()

    @torch.no_grad()
    def held_out_loss(self, held_out: Tensor) -> float:
        batches = torch.split(held_out, self._settings.batch_size)
        return float(sum(self.loss(batch) * len(batch) for batch in batches)) / len(held_out)
