"""Squashing that turns along: vectors of an action keep their direction, and their length is squashed below 1."""

from __future__ import annotations

from typing import Any, Self

import torch
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from torch import Tensor

from equirl.matrices import MatrixRepresentation, blocks

__all__ = ["RoundSquashedGaussian", "within_discs"]

_SMALLEST = 1e-6  # length below which a vector is squashed as if it had this one


def within_discs(actions: Tensor, joined: Tensor) -> Tensor:
    """Return actions ``[B, A]`` whose vectors are shortened to length 1 at most.

    Args:
        actions: Actions.
        joined: Which numbers belong to one vector, ``[A, A]``; see ``equirl.matrices.blocks``.
    """
    lengths = (actions.square() @ joined.to(actions)).clamp_min(1).sqrt()
    return actions / lengths


class RoundSquashedGaussian(SquashedDiagGaussianDistribution):
    """SAC's Gaussian, squashed by length: ``a = tanh(|u|) u / |u|`` for each block of numbers that the group mixes.

    ``tanh`` of each number commutes with changes of signs and places alone; this commutes with every orthogonal matrix
    of a block. With ``d`` numbers in a block ``log |det da/du| = log(1 - tanh(r)^2) + (d - 1) log(tanh(r) / r)``,
    ``r = |u|``.

    Args:
        action: How the group moves actions, ``[A]``.
    """

    def __init__(self, action: MatrixRepresentation) -> None:
        super().__init__(action.dim)
        joined = blocks(action).cpu()
        self._members = torch.unique(joined, dim=0)  # [K, A]: one row for each block

    def mode(self) -> Tensor:
        """Return the squashed mean, ``[B, A]``."""
        self.gaussian_actions = self.distribution.mean
        return self.squashed(self.gaussian_actions)

    def sample(self) -> Tensor:
        """Return a squashed draw, ``[B, A]``."""
        self.gaussian_actions = self.distribution.rsample()
        return self.squashed(self.gaussian_actions)

    def log_prob(self, actions: Tensor, gaussian_actions: Tensor | None = None) -> Tensor:
        """Return the logarithm of the density at actions ``[B, A]``, shape ``[B]``.

        Args:
            actions: Squashed.
            gaussian_actions: The same before squashing, where it is known.
        """
        if gaussian_actions is None:
            lengths = self._lengths(actions).clamp_max(1 - self.epsilon)
            gaussian_actions = actions * ((torch.atanh(lengths) / lengths) @ self._of(actions))
        lengths, sizes = self._lengths(gaussian_actions), self._of(actions).sum(dim=1)
        bent = torch.tanh(lengths)
        stretch = torch.log(1 - bent**2 + self.epsilon) + (sizes - 1) * torch.log(bent / lengths)
        gaussian: Any = self.distribution
        density: Tensor = gaussian.log_prob(gaussian_actions).sum(dim=1)
        return density - stretch.sum(dim=1)

    def proba_distribution(self, mean_actions: Tensor, log_std: Tensor) -> Self:
        """Return itself with mean and logarithm of the standard deviation, ``[B, A]`` each."""
        super().proba_distribution(mean_actions, log_std)
        return self

    def squashed(self, values: Tensor) -> Tensor:
        """Return values ``[..., A]``, each block of them squashed by its length."""
        lengths = self._lengths(values)
        return values * ((torch.tanh(lengths) / lengths) @ self._of(values))

    def _lengths(self, values: Tensor) -> Tensor:
        """Return the length of each block, ``[..., K]``."""
        squares: Tensor = values.square() @ self._of(values).T
        return squares.clamp_min(_SMALLEST**2).sqrt()

    def _of(self, like: Tensor) -> Tensor:
        members: Tensor = self._members.to(like)
        return members
