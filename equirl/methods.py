"""Symmetrization methods by name: what policies, engines, hyperparameter files and the command line call them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from equirl.aggregators import Aggregator, Gradient, Mean, Reads, Select, Weighted, weight_network
from equirl.canonical import MinimalFrame
from equirl.names import unknown_name_message
from equirl.orbit import flatten_rows
from equirl.proxy_losses import ProxyLoss
from equirl.relaxation import Gate, Relaxation, small_network
from equirl.relaxed_aggregators import ElementWeights, SoftPenalty
from equirl.representations import MonomialRepresentation, Representation, Tree

__all__ = [
    *("ALL_METHODS", "METHODS", "RELAXED_METHODS", "check_method", "make_aggregator", "make_relaxation"),
    *("settings_of",),
]

Evidence = Literal["recorded", "predicted", "td"]

_PRICE = 0.01


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


def _canonical(network: _Network, seed: int = 0, margin: float = 0.0) -> Aggregator:
    return MinimalFrame(network.input_rep, seed, network.leading, margin)


METHODS: dict[str, Callable[..., Aggregator]] = {
    "equitune": _equitune,
    "lambda_equitune": _lambda_equitune,
    "equizero": _equizero,
    "canonical": _canonical,
}
"""Method name to a builder of its aggregator."""


def _partial(
    network: _Network,
    exact: str = "equitune",
    exact_kwargs: Mapping[str, Any] | None = None,
    gate: Evidence = "recorded",
    price: float | None = None,
    hidden: Sequence[int] = (32,),
    gate_hidden: Sequence[int] = (32,),
) -> Aggregator:
    if exact not in METHODS:
        raise ValueError(unknown_name_message("exact method", exact, METHODS))
    if gate not in get_args(Evidence):
        raise ValueError(unknown_name_message("gate", gate, get_args(Evidence)))
    if price is not None and gate != "td":
        raise ValueError(
            f"price is that of a gate which learns from the loss, gate='td'; with gate={gate!r} leave it out"
        )
    return _built(METHODS[exact], exact, network, exact_kwargs)


def _partial_weights(network: _Network, hidden: Sequence[int] = (32,)) -> Aggregator:
    with torch.random.fork_rng(devices=[]):
        return ElementWeights(network.input_rep.group, network.sizes["inputs"], hidden, network.prepare)


def _penalty(network: _Network, weight: float = 1.0) -> Aggregator:
    return SoftPenalty(network.input_rep.group, weight)


RELAXED_METHODS: dict[str, Callable[..., Aggregator]] = {
    "partial": _partial,
    "partial_weights": _partial_weights,
    "penalty": _penalty,
}
"""Methods that are not exact, for worlds that are not quite symmetric, by name."""

ALL_METHODS: dict[str, Callable[..., Aggregator]] = {**METHODS, **RELAXED_METHODS}


def check_method(method: object, relaxed: bool = False) -> str:
    """Return the name of a method.

    Args:
        method: What was given.
        relaxed: Whether those that are not exact count, too.

    Raises:
        ValueError: Not the name of a method; the message lists the known ones.
    """
    known = ALL_METHODS if relaxed else METHODS
    if not isinstance(method, str) or method not in known:
        raise ValueError(unknown_name_message("method", method, known))
    return method


def settings_of(method: str) -> list[str]:
    """Return the names of a method's own settings, its ``method_kwargs``.

    Raises:
        ValueError: Not the name of a method.
    """
    build = ALL_METHODS[check_method(method, relaxed=True)]
    return [name for name in inspect.signature(build).parameters if name != "network"]


def make_aggregator(
    method: str,
    method_kwargs: Mapping[str, Any] | None,
    sizes: Mapping[str, int],
    input_rep: Representation,
    prepare: Callable[[Tree], Tensor] = flatten_rows,
    leading: str | None = None,
    relaxed: bool = False,
) -> Aggregator:
    """Return the aggregator of a method; of ``"partial"`` that of its exact part.

    Args:
        method: ``"equitune"``, ``"lambda_equitune"``, ``"equizero"`` or ``"canonical"``.
        method_kwargs: Its settings. λ-equitune: ``reads`` (``"features"`` or ``"inputs"``), ``hidden`` (widths of the
            λ-network), ``temperature``. Equizero: ``proxy_loss`` (name or callable), ``gradient`` (``"pick"`` or
            ``"straight_through"``), ``tie_tolerance``. Canonical: ``seed`` and
            ``margin`` of the rule that picks. Partial: see
            ``make_relaxation``. Partial weights: ``hidden``. Penalty: ``weight``.
        sizes: Length of the flattened ``"features"`` and ``"inputs"``, for the λ-network.
        input_rep: How the group moves an observation.
        prepare: How observations ``[N, *observation]`` become the ``"inputs"`` that λ reads, ``[N, F]``.
        leading: For a dict of inputs, the entry that the canonical choice looks at first; see ``MinimalFrame``.
        relaxed: Whether methods that are not exact are taken.

    Raises:
        TypeError: A setting of another kind.
        ValueError: Unknown method or setting; the message lists the known ones.
    """
    build = ALL_METHODS[check_method(method, relaxed)]
    return _built(build, method, _Network(input_rep, sizes, prepare, leading), method_kwargs)


def make_relaxation(
    method: str,
    method_kwargs: Mapping[str, Any] | None,
    size: int,
    input_rep: Representation,
    places: MonomialRepresentation,
    n_outputs: int,
    spread: Callable[[Tensor], Tensor],
    prepare: Callable[[Tree], Tensor] = flatten_rows,
    leading: str | None = None,
) -> Relaxation | None:
    """Return what opens the exact part of ``"partial"`` to a free correction; ``None`` for every other method.

    Args:
        method: The method's name.
        method_kwargs: Its settings: ``exact`` and ``exact_kwargs``, the exact method; ``gate``, what the gate learns
            from (``"recorded"`` or ``"predicted"`` transitions, for which a callback trains it, or the loss itself,
            ``"td"``); ``price`` of an open gate, for ``"td"``; ``hidden`` and ``gate_hidden``, widths of the free
            network and of the gate.
        size: Length of the flattened inputs.
        input_rep: How the group moves an observation.
        places: How it moves the gate's numbers.
        n_outputs: Numbers of the output.
        spread: How the gate's numbers ``[B, *places]`` lie over the output ``[B, *output]``.
        prepare: How observations become the numbers that both networks read.
        leading: As for ``make_aggregator``.
    """
    if method != "partial":
        return None
    given = inspect.signature(_partial).bind(None, **(method_kwargs or {}))
    given.apply_defaults()
    settings = given.arguments
    with torch.random.fork_rng(devices=[]):
        learned = settings["gate"] == "td"
        # Open a little where the loss is to find out what an opening is worth.
        start = -1.0 if learned else -4.0
        gate = Gate(input_rep, places, size, settings["gate_hidden"], prepare, start, leading)
        free = small_network(size, settings["hidden"], n_outputs)
    price = _PRICE if settings["price"] is None else settings["price"]
    return Relaxation(gate, free, spread, learned, price if learned else 0.0)


def _built(
    build: Callable[..., Aggregator], method: str, network: _Network, method_kwargs: Mapping[str, Any] | None
) -> Aggregator:
    known = settings_of(method)
    for name in method_kwargs or {}:
        if name not in known:
            raise ValueError(
                unknown_name_message(f"method_kwargs of {method!r}:", name, known)
                if known
                else f"{method!r} takes no method_kwargs; got {name!r}"
            )
    return build(network, **(method_kwargs or {}))
