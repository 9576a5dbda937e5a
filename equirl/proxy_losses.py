"""Proxy losses: what equizero minimises over the orbit to pick a group element.

A proxy loss maps an :class:`~equirl.orbit.Orbit` to one number per orbit entry, shape ``[B, |G|]``, lower is better.
Entry ``[b, g]`` may depend on ``g x_b`` and on ``M(g x_b)`` alone (``inputs``, ``features``, ``outputs``): that is what
makes the choice equivariant. ``pulled_back`` is not such a function; leave it alone here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

from equirl.names import unknown_name_message
from equirl.orbit import Orbit

__all__ = ["PROXY_LOSSES", "ProxyLoss", "confidence", "entropy", "max_value", "resolve_proxy_loss"]

ProxyLoss: TypeAlias = Callable[[Orbit], Tensor]


def max_value(orbit: Orbit) -> Tensor:
    """Return ``l(gx) = -max_a M(gx)[a]``, shape ``[B, |G|]``: the most promising view wins (Basu et al. 2023, RL).

    It is fooled by over-estimated values of inputs that were never trained on.
    """
    return -orbit.outputs.flatten(2).amax(dim=2)


def entropy(orbit: Orbit) -> Tensor:
    """Return the entropy in nats of ``softmax(M(gx))``, outputs taken as logits, shape ``[B, |G|]``.

    It is fooled by networks that are sure of themselves on inputs they were never trained on, and on Q-values by their
    scale: it prefers views where actions differ much in value, whether or not the values are right.

    Raises:
        ValueError: There is one output, whose entropy is 0 for every view.
    """
    log_probabilities = _logits(orbit, "entropy").log_softmax(dim=2)
    return -(log_probabilities.exp() * log_probabilities).sum(dim=2)


def confidence(orbit: Orbit) -> Tensor:
    """Return ``l(gx) = -max_y softmax(M(gx))[y]``, outputs taken as logits, shape ``[B, |G|]``.

    It is fooled as ``entropy`` is, and looks at the best output alone.

    Raises:
        ValueError: There is one output, whose probability is 1 for every view.
    """
    return -_logits(orbit, "confidence").softmax(dim=2).amax(dim=2)


def _logits(orbit: Orbit, name: str) -> Tensor:
    """Return the outputs of each view as logits, ``[B, |G|, K]``."""
    logits = orbit.outputs.flatten(2)
    if logits.shape[2] == 1 < logits.shape[1]:
        raise ValueError(
            f"the proxy loss {name!r} compares the outputs of a view with each other, and here is one: it would be the "
            'same for all views. Take "max_value", or a function of your own'
        )
    return logits


PROXY_LOSSES: dict[str, ProxyLoss] = {"max_value": max_value, "entropy": entropy, "confidence": confidence}
"""The proxy losses by name."""


def resolve_proxy_loss(proxy_loss: str | ProxyLoss) -> ProxyLoss:
    """Return the proxy loss of a name, or the callable as it is.

    Raises:
        ValueError: No such name; the message lists the known ones.
    """
    if callable(proxy_loss):
        return proxy_loss
    if not isinstance(proxy_loss, str) or proxy_loss not in PROXY_LOSSES:
        raise ValueError(unknown_name_message("proxy loss", proxy_loss, PROXY_LOSSES))
    return PROXY_LOSSES[proxy_loss]
