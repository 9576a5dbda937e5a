"""Where a symmetry fails, in worlds whose states never recur: two models of one step, with and without the symmetry."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from equirl.agents.gate_evidence import Evidence, Examples, Steps, joined, some_steps
from equirl.canonical import MinimalFrame
from equirl.mappings import MappingRepresentation
from equirl.orbit import flatten_rows
from equirl.symmetry import MDPSymmetry

__all__ = ["ModelEvidence"]

_MARGIN = 0.25
"""How much larger the error of the model with the symmetry must be, in units of the mean square of a step's change."""


class ModelEvidence(Evidence):
    """Compares two models of one step: the symmetry fails where the one that has it errs and the free one does not.

    Both predict the change of the state, the reward and the end. As in Chang et al. 2026 (arXiv:2512.00915) the gate
    learns from what separates one-step predictions with and without the symmetry; here each is judged by what really
    followed, so that a place where both are ignorant does not count as broken.

    The model with the symmetry sees a canonical image of state and action and predicts the image of what follows.

    Args:
        symmetry: The symmetry.
        hidden: Widths of the models' hidden layers.
        capacity: How many transitions are kept; the oldest are dropped.
        batch_size: Transitions in a gradient step of the models.
        learning_rate: Learning rate of both models, for Adam.
        seed: Seed of the models' first weights.
    """

    def __init__(
        self,
        symmetry: MDPSymmetry,
        hidden: tuple[int, ...] = (128, 128),
        capacity: int = 50_000,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        seed: int = 0,
    ) -> None:
        super().__init__(symmetry)
        self.positive_weight = float(symmetry.group.order)  # one image of |G| may be the one that differs
        both = MappingRepresentation({"observation": symmetry.observation, "action": symmetry.action})
        self._frame = MinimalFrame(both)
        self._hidden, self._capacity, self._batch_size = hidden, capacity, batch_size
        self._rate, self._seed = learning_rate, seed
        self._kept: list[Steps] = []
        self._n = 0
        self._models: list[nn.Sequential] = []
        self._optimizer: torch.optim.Optimizer | None = None

    def add(self, steps: Steps) -> None:  # noqa: D102
        self._kept.append(steps)
        self._n += len(steps.actions)

    def draw(self, n: int, random: np.random.Generator) -> Examples | None:  # noqa: D102
        if self._n < 4 * self._batch_size:
            return None
        self._learn(self._drawn(self._batch_size, random))
        steps = self._drawn(n, random)
        with torch.no_grad():
            exact, free = self._errors(steps)
        return Examples(steps.observations, steps.actions, (exact > 2 * free + _MARGIN).float())

    def _learn(self, steps: Steps) -> None:
        with torch.enable_grad():
            if not self._models:
                self._make_models(steps)
            assert self._optimizer is not None
            loss = torch.stack(self._errors(steps)).mean(dim=1).sum()
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()

    def _make_models(self, steps: Steps) -> None:
        given, after = _given(steps), _followed(steps)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            self._models = [_network(given.shape[1], self._hidden, after.shape[1]).to(given.device) for _ in range(2)]
        parameters = [parameter for model in self._models for parameter in model.parameters()]
        self._optimizer = torch.optim.Adam(parameters, lr=self._rate)
        change = after[:, :-2]
        self._size = change.square().sum(dim=1).mean().clamp_min(1e-12)
        self._rewards = steps.rewards.var().clamp_min(1e-12) if bool(steps.rewards.var() > 0) else torch.ones(())

    def _errors(self, steps: Steps) -> tuple[Tensor, Tensor]:
        """Return the squared errors of the model with the symmetry and of the free one, ``[N]`` each."""
        with torch.no_grad():
            elements = self._frame.best({"observation": steps.observations, "action": steps.actions}).elements
            move, act = self.symmetry.observation.transform_each, self.symmetry.action.transform_each
            observations, after = move(elements, steps.observations), move(elements, steps.next_observations)
            carried = Steps(observations, act(elements, steps.actions), steps.rewards, after, steps.ends)
        exact, free = (self._error(model, each) for model, each in zip(self._models, (carried, steps), strict=True))
        return exact, free

    def _error(self, model: nn.Sequential, steps: Steps) -> Tensor:
        squares = (model(_given(steps)) - _followed(steps)).square()
        change, reward, end = squares[:, :-2].sum(dim=1), squares[:, -2], squares[:, -1]
        error: Tensor = change / self._size + reward / self._rewards + end
        return error

    def _drawn(self, n: int, random: np.random.Generator) -> Steps:
        if len(self._kept) > 1:
            whole = joined(self._kept)
            first = max(0, self._n - self._capacity)
            self._kept, self._n = [some_steps(whole, torch.arange(first, self._n))], self._n - first
        rows = torch.as_tensor(random.integers(self._n, size=n))
        return some_steps(self._kept[0], rows)


def _given(steps: Steps) -> Tensor:
    return torch.cat([flatten_rows(steps.observations), flatten_rows(steps.actions)], dim=1)


def _followed(steps: Steps) -> Tensor:
    """Return what a model predicts, ``[N, F + 2]``: change of the state, reward, end."""
    change = flatten_rows(steps.next_observations) - flatten_rows(steps.observations)
    return torch.cat([change, steps.rewards.unsqueeze(1), steps.ends.float().unsqueeze(1)], dim=1)


def _network(size: int, hidden: tuple[int, ...], n: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(size, width), nn.ReLU()]
        size = width
    return nn.Sequential(*layers, nn.Linear(size, n))
