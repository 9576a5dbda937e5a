"""gSDE under a group: state-dependent noise whose distribution moves as actions do."""

from __future__ import annotations

import torch
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from torch import Tensor
from torch.distributions import Normal

from equirl.constructions import tensor_product, trivial_representation
from equirl.representations import MonomialRepresentation

__all__ = ["OrbitNoiseDistribution", "latent_representation"]


def latent_representation(action: MonomialRepresentation, n_latent: int) -> MonomialRepresentation:
    """Return how the group moves the features of gSDE, one row for each number of an action, ``[A, K]``."""
    return tensor_product(action, trivial_representation(action.group, (n_latent,)))


class OrbitNoiseDistribution(StateDependentNoiseDistribution):
    """SB3's gSDE (Raffin et al. 2021, arXiv:2005.05719) with the features of noise symmetrized, too.

    Plain gSDE adds ``n_a(s) = sum_k L_k(s) E_ka`` to number ``a`` of an action, with ``E_ka ~ N(0, std_ka^2)`` held for
    many steps. Here each number has a row of features of its own, ``L_G(s)_a = sum_g w(gs) (rho(g)^-1 L(gs))_a``, where
    every row of ``L(gs)`` is the plain features, and numbers that change places share the mean of ``log std``. Then
    ``n(gs)`` with noise ``E`` is ``g n(s)`` with the columns of ``E`` exchanged, which are as likely: the distribution
    of whole trajectories is symmetric, and ``log pi(ga | gs) = log pi(a | s)`` in each step. Where the group changes
    signs alone, ``n(gs) = g n(s)`` for every ``E``.

    Args:
        plain: SB3's distribution, whose settings and noise it takes over.
        action: How the group moves the actions, ``[A]``.
    """

    def __init__(self, plain: StateDependentNoiseDistribution, action: MonomialRepresentation) -> None:
        self.__dict__.update(plain.__dict__)
        self._index = action.index.cpu()

    def get_std(self, log_std: Tensor) -> Tensor:
        """Return the standard deviations of the noise, ``[K, A]``, equal for numbers that change places."""
        if self.full_std:
            log_std = log_std[:, self._index.to(log_std.device)].mean(dim=1)
        return super().get_std(log_std)

    def proba_distribution(self, mean_actions: Tensor, log_std: Tensor, latent_sde: Tensor) -> OrbitNoiseDistribution:
        """Return itself with mean ``[B, A]`` and features of the noise ``[B, A * K]``."""
        self._latent_sde = latent_sde if self.learn_features else latent_sde.detach()
        rows = self._rows(self._latent_sde)
        variance = torch.einsum("bak,ka->ba", rows**2, self.get_std(log_std) ** 2)
        self.distribution = Normal(mean_actions, torch.sqrt(variance + self.epsilon))
        return self

    def get_noise(self, latent_sde: Tensor) -> Tensor:
        """Return the noise ``[B, A]`` of features ``[B, A * K]``; each environment may have a matrix of its own."""
        rows = self._rows(latent_sde if self.learn_features else latent_sde.detach())
        if len(rows) == 1 or len(rows) != len(self.exploration_matrices):
            return torch.einsum("bak,ka->ba", rows, self.exploration_mat)
        return torch.einsum("bak,bka->ba", rows, self.exploration_matrices)

    def _rows(self, latent: Tensor) -> Tensor:
        return latent.reshape(len(latent), self.action_dim, -1)
