"""Symmetrization methods by name: what policies, hyperparameter files and the command line call them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from equirl.aggregators import Aggregator, Gradient, Mean, Reads, Select, Weighted, weight_network
from equirl.canonical import MinimalFrame
from equirl.names import unknown_name_message
from equirl.proxy_losses import ProxyLoss
from equirl.representations import Representation

__all__ = ["METHODS", "make_aggregator"]


def _equitune(sizes: Mapping[str, int], input_rep: Representation) -> Aggregator:
    return Mean()


def _lambda_equitune(
    sizes: Mapping[str, int],
    input_rep: Representation,
    reads: Reads = "inputs",
    hidden: Sequence[int] = (32,),
    temperature: float = 1.0,
) -> Aggregator:
    if reads not in sizes:
        raise ValueError(unknown_name_message("reads", reads, sizes))
    return Weighted(weight_network(sizes[reads], hidden), reads, temperature)


def _equizero(
    sizes: Mapping[str, int],
    input_rep: Representation,
    proxy_loss: str | ProxyLoss = "max_value",
    gradient: Gradient = "pick",
    tie_tolerance: float = 1e-5,
) -> Aggregator:
    return Select(proxy_loss, gradient, tie_tolerance)


def _canonical(sizes: Mapping[str, int], input_rep: Representation, seed: int = 0) -> Aggregator:
    return MinimalFrame(input_rep, seed)


METHODS: dict[str, Callable[..., Aggregator]] = {
    "equitune": _equitune,
    "lambda_equitune": _lambda_equitune,
    "equizero": _equizero,
    "canonical": _canonical,
}
"""Method name to a builder of its aggregator."""


def make_aggregator(
    method: str, method_kwargs: Mapping[str, Any] | None, sizes: Mapping[str, int], input_rep: Representation
) -> Aggregator:
    """Return the aggregator of a method.

    Args:
        method: ``"equitune"``, ``"lambda_equitune"``, ``"equizero"`` or ``"canonical"``.
        method_kwargs: Its settings. λ-equitune: ``reads`` (``"features"`` or ``"inputs"``), ``hidden`` (widths of the
            λ-network), ``temperature``. Equizero: ``proxy_loss`` (name or callable), ``gradient`` (``"pick"`` or
            ``"straight_through"``), ``tie_tolerance``. Canonical: ``seed`` of the rule that picks.
        sizes: Length of the flattened ``"features"`` and ``"inputs"``, for the λ-network.
        input_rep: How the group moves an observation.

    Raises:
        ValueError: Unknown method or setting; the message lists the known ones.
    """
    if method not in METHODS:
        raise ValueError(unknown_name_message("method", method, METHODS))
    known = [name for name in inspect.signature(METHODS[method]).parameters if name not in ("sizes", "input_rep")]
    for name in method_kwargs or {}:
        if name not in known:
            raise ValueError(
                unknown_name_message(f"method_kwargs of {method!r}:", name, known)
                if known
                else f"{method!r} takes no method_kwargs; got {name!r}"
            )
    return METHODS[method](sizes, input_rep, **(method_kwargs or {}))
