"""Proxy losses for continuous actions: which view of a state equizero trusts, told by the actor or by the critics.

Each is a callable ``Orbit -> [B, |G|]``, lower is better, and a function of ``gx`` alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor

from equirl.agents.continuous_networks import OrbitCritic
from equirl.names import unknown_name_message
from equirl.orbit import Orbit
from equirl.proxy_losses import ProxyLoss
from equirl.representations import map_tensors

__all__ = [
    "ACTOR_PROXY_LOSSES",
    "CriticDisagreement",
    "CriticProxyLoss",
    "CriticValue",
    "actor_proxy_loss",
    "critics_disagree",
    "gaussian_entropy",
]


def gaussian_entropy(orbit: Orbit) -> Tensor:
    """Return the sum of the logarithms of the standard deviations, ``[B, |G|]``: the surest view wins."""
    assert orbit.combined is not None
    _, log_std = orbit.combined.chunk(2, dim=2)
    return log_std.sum(dim=2)


def critics_disagree(orbit: Orbit) -> Tensor:
    """Return how far the critics are apart, ``[B, |G|]``, of values ``[B, |G|, n_critics]``; of one critic the value.

    A view on which critics agree is one that they have learned. One critic alone would prefer what it over-estimates,
    so there the least value wins.
    """
    return orbit.outputs[..., 0] if orbit.outputs.shape[2] == 1 else orbit.outputs.std(dim=2)


class CriticProxyLoss(ABC):
    """Base of the proxy losses that ask the critics of a policy about the actor's action in each view.

    The policy links it with its critics when both are there.
    """

    def __init__(self) -> None:
        self._critic: tuple[OrbitCritic, ...] = ()  # in a tuple, so that it is no part of the actor

    def link(self, critic: OrbitCritic) -> None:
        """Take the critics to ask.

        Raises:
            ValueError: They do not suffice.
        """
        self._critic = (critic,)

    def __call__(self, orbit: Orbit) -> Tensor:
        """Return the loss of each view, ``[B, |G|]``."""
        (critic,) = self._critic
        views = map_tensors(orbit.inputs, lambda each: each.flatten(0, 1))
        values = critic.plain_values(views, orbit.outputs.flatten(0, 1))
        return self._loss(values).view(orbit.outputs.shape[:2])

    @abstractmethod
    def _loss(self, values: Tensor) -> Tensor:
        """Return the loss ``[N]`` of values ``[N, n_critics]``."""


class CriticValue(CriticProxyLoss):
    """``l(gs) = -min_i Q_i(gs, pi(gs))``: the view whose action the critics value most, ``-max_a Q`` of the paper."""

    def _loss(self, values: Tensor) -> Tensor:
        return -values.amin(dim=1)


class CriticDisagreement(CriticProxyLoss):
    """``l(gs)``: the standard deviation of the critics' values ``Q_i(gs, pi(gs))``; the view they agree on wins."""

    def link(self, critic: OrbitCritic) -> None:
        """Take the critics to ask; at least two.

        Raises:
            ValueError: There is only one.
        """
        if critic.n_critics < 2:
            raise ValueError(
                "proxy_loss 'critic_disagreement' compares critics, and this policy has one: take n_critics=2 in "
                "policy_kwargs, or proxy_loss 'critic_value'"
            )
        super().link(critic)

    def _loss(self, values: Tensor) -> Tensor:
        return values.std(dim=1)


ACTOR_PROXY_LOSSES: dict[str, Callable[[], ProxyLoss]] = {
    "critic_value": CriticValue,
    "critic_disagreement": CriticDisagreement,
    "entropy": lambda: gaussian_entropy,
}
"""Name to a maker of a proxy loss of actors; ``"entropy"`` is for those that draw from a Gaussian."""


def actor_proxy_loss(given: Any, gaussian: bool) -> ProxyLoss:
    """Return the proxy loss of an actor.

    Args:
        given: A name, or a callable ``Orbit -> [B, |G|]``; its ``orbit.outputs`` are the actions ``[B, |G|, A]``.
        gaussian: Whether the actor draws from a Gaussian.

    Raises:
        ValueError: Unknown name; the message lists the known ones.
    """
    if not isinstance(given, str):
        loss: ProxyLoss = given
        return loss
    known = [name for name in ACTOR_PROXY_LOSSES if gaussian or name != "entropy"]
    if given not in known:
        raise ValueError(unknown_name_message("proxy loss of continuous actions", given, known))
    return ACTOR_PROXY_LOSSES[given]()
