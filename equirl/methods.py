"""Symmetrization methods by name: what policies, engines, hyperparameter files and the command line call them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equirl.aggregators import Aggregator, Gradient, Mean, Reads, Select, Weighted, weight_network
from equirl.canonical import MinimalFrame
from equirl.names import unknown_name_message
from equirl.orbit import flatten_rows
from equirl.proxy_losses import ProxyLoss
from equirl.representations import Representation, Tree

__all__ = ["METHODS", "check_method", "make_aggregator", "settings_of"]


@dataclass(frozen=True)
class _Network:
    """What a method may need to know of the network that it symmetrizes."""

    input_rep: Representation
    sizes: Mapping[str, int]
    prepare: Callable[[Tree], Tensor]
    leading: str | None


def _equitune(network: _Network) -> Aggregator:
    return Mean()


def _lambda_equitune(
    network: _Network, reads: Reads = "inputs", hidden: Sequence[int] = (32,), temperature: float = 1.0
) -> Aggregator:
    if reads not in network.sizes:
        raise ValueError(unknown_name_message("reads", reads, network.sizes))
    # Equal seeds make equal backbones whatever the method, so λ gives the random numbers back that it takes.
    with torch.random.fork_rng(devices=[]):
        weights = weight_network(network.sizes[reads], hidden)
    return Weighted(weights, reads, temperature, network.prepare)


def _equizero(
    network: _Network,
    proxy_loss: str | ProxyLoss = "max_value",
    gradient: Gradient = "pick",
    tie_tolerance: float | None = None,
) -> Aggregator:
    return Select(proxy_loss, gradient, tie_tolerance)


def _canonical(network: _Network, seed: int = 0) -> Aggregator:
    return MinimalFrame(network.input_rep, seed, network.leading)


METHODS: dict[str, Callable[..., Aggregator]] = {
    "equitune": _equitune,
    "lambda_equitune": _lambda_equitune,
    "equizero": _equizero,
    "canonical": _canonical,
}
"""Method name to a builder of its aggregator."""


def check_method(method: object) -> str:
    """Return the name of a method.

    Raises:
        ValueError: Not the name of a method; the message lists the known ones.
    """
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(unknown_name_message("method", method, METHODS))
    return method


def settings_of(method: str) -> list[str]:
    """Return the names of a method's own settings, its ``method_kwargs``.

    Raises:
        ValueError: Not the name of a method.
    """
    return [name for name in inspect.signature(METHODS[check_method(method)]).parameters if name != "network"]


def make_aggregator(
    method: str,
    method_kwargs: Mapping[str, Any] | None,
    sizes: Mapping[str, int],
    input_rep: Representation,
    prepare: Callable[[Tree], Tensor] = flatten_rows,
    leading: str | None = None,
) -> Aggregator:
    """Return the aggregator of a method.

    Args:
        method: ``"equitune"``, ``"lambda_equitune"``, ``"equizero"`` or ``"canonical"``.
        method_kwargs: Its settings. λ-equitune: ``reads`` (``"features"`` or ``"inputs"``), ``hidden`` (widths of the
            λ-network), ``temperature``. Equizero: ``proxy_loss`` (name or callable), ``gradient`` (``"pick"`` or
            ``"straight_through"``), ``tie_tolerance``. Canonical: ``seed`` of the rule that picks.
        sizes: Length of the flattened ``"features"`` and ``"inputs"``, for the λ-network.
        input_rep: How the group moves an observation.
        prepare: How observations ``[N, *observation]`` become the ``"inputs"`` that λ reads, ``[N, F]``.
        leading: For a dict of inputs, the entry that the canonical choice looks at first; see ``MinimalFrame``.

    Raises:
        TypeError: A setting of another kind.
        ValueError: Unknown method or setting; the message lists the known ones.
    """
    build = METHODS[check_method(method)]
    known = settings_of(method)
    for name in method_kwargs or {}:
        if name not in known:
            raise ValueError(
                unknown_name_message(f"method_kwargs of {method!r}:", name, known)
                if known
                else f"{method!r} takes no method_kwargs; got {name!r}"
            )
    return build(_Network(input_rep, sizes, prepare, leading), **(method_kwargs or {}))
