"""Targets in the core: symmetrized networks, their parts, and checks of equivariance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import equirl
from equirl import Canonical, Equitune, Equizero, LambdaEquitune, Symmetrized
from equirl.aggregators import Mean, Select, Weighted, weight_network
from equirl.canonical import MinimalFrame
from equirl.chunking import Chunking
from equirl.proxy_losses import PROXY_LOSSES, resolve_proxy_loss
from equirl.testing import equivariance_errors
from fuzz.core_targets import CORNERS
from fuzz.nonsense import batch, count, instance, name, real, vector
from fuzz.target import Target, target

__all__ = ["network_targets"]


def network_targets() -> list[Target]:
    """Return the targets around symmetrized networks."""
    return [*_networks(), *_checks()]


def _networks() -> list[Target]:
    parts = {"backbone": nn.Linear(4, 4), "input_rep": CORNERS, "output_rep": CORNERS}
    objects = {"backbone": instance("backbone"), "input_rep": instance(), "output_rep": instance()}
    losses = name(PROXY_LOSSES, "proxy loss", "loss")
    gradient = name(["pick", "straight_through"])
    reads = name(["features", "inputs"])
    widths = vector([8, 4], "width")
    lambda_network = weight_network(4)
    found = [
        target("Equitune", Equitune, parts, objects, _is_equivariant),
        target(
            "LambdaEquitune",
            LambdaEquitune,
            {**parts, "reads": "features", "hidden": (8, 4), "temperature": 1.0},
            {**objects, "reads": reads, "hidden": widths, "temperature": real(low=0, open_low=True)},
            _is_equivariant,
        ),
        target(
            "Equizero",
            Equizero,
            {**parts, "proxy_loss": "max_value", "gradient": "pick"},
            {"proxy_loss": losses, "gradient": gradient},
            _is_equivariant,
        ),
        target("Canonical", Canonical, {**parts, "seed": 0}, {"seed": count(0), **objects}, _is_equivariant),
        target(
            "Symmetrized",
            Symmetrized,
            {**parts, "aggregator": Mean(), "chunk_rows": 0},
            {**objects, "aggregator": instance(), "chunk_rows": count(0, nullable=True)},
            _is_equivariant,
        ),
        target(
            "Weighted",
            Weighted,
            {"network": lambda_network, "reads": "features", "temperature": 1.0},
            {"network": instance(), "reads": reads, "temperature": real(low=0, open_low=True)},
        ),
        target(
            "Select",
            Select,
            {"proxy_loss": "entropy", "gradient": "pick", "tie_tolerance": 0.0},
            {"proxy_loss": losses, "gradient": gradient, "tie_tolerance": real(low=0, nullable=True)},
        ),
        target(
            "MinimalFrame", MinimalFrame, {"input_rep": CORNERS, "seed": 0}, {"input_rep": instance(), "seed": count(0)}
        ),
        target("Chunking", Chunking, {"modules": [], "rows": 4}, {"rows": count(0, "chunk_rows", nullable=True)}),
        target(
            "weight_network",
            weight_network,
            {"inputs": 4, "hidden": (8, 4)},
            {"inputs": count(), "hidden": widths},
        ),
        target("resolve_proxy_loss", resolve_proxy_loss, {"proxy_loss": "entropy"}, {"proxy_loss": losses}),
    ]
    for made in (Equitune(**parts), LambdaEquitune(**parts), Equizero(**parts), Canonical(**parts)):
        x = {"x": batch(lambda: torch.rand(3, 4), "tensor", "acts on", "values")}
        found.append(target(f"{type(made).__name__}, called", made.eval(), {"x": torch.rand(3, 4)}, x, _tame))
    return found


def _checks() -> list[Target]:
    given = {"module": nn.Identity(), "input_rep": CORNERS, "output_rep": CORNERS, "x": torch.rand(3, 4)}
    x = {"x": batch(lambda: torch.rand(3, 4), "tensor", "acts on", "inputs", "no samples")}
    objects = {"module": instance(), "input_rep": instance(), "output_rep": instance()}
    return [
        target("equivariance_errors", equivariance_errors, given, {**x, **objects}),
        target("equivariance_error", equirl.equivariance_error, given, {**x, **objects}),
        target(
            "assert_equivariant",
            _assert_equivariant,
            {**given, "tolerance": 1e-5},
            {"tolerance": real(low=0), **x, **objects},
        ),
    ]


def _is_equivariant(network: Any, _: dict[str, Any]) -> str | None:
    error = equirl.equivariance_error(network.eval(), network.input_rep, network.output_rep, torch.rand(5, 4))
    return None if error < 1e-5 else f"the network is not equivariant: the error is {error:.1e}"


def _tame(result: Tensor, given: dict[str, Any]) -> str | None:
    """Complain of a finite output for an input that is not, and of the other way round."""
    x = given["x"]
    finite_in, finite_out = (bool(torch.isfinite(values).all()) for values in (x, result))
    if len(result) != len(x):
        return f"{len(x)} samples became {len(result)}"
    if finite_in and not finite_out and float(x.abs().max()) < 1e20:
        return "finite inputs give outputs that are not finite"
    return "an input that is not finite gives a finite output" if finite_out and not finite_in else None


def _assert_equivariant(**given: Any) -> None:
    try:
        equirl.assert_equivariant(**given)
    except AssertionError as error:  # a finding of the assertion, where the inputs are not finite
        if not bool(torch.isfinite(given["x"]).all()):
            return
        raise TypeError(f"asserted: {error}") from error
