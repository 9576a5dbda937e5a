"""Aggregators: how the orbit of outputs becomes one output. Here, and only here, do the methods differ.

Each aggregator gives every orbit entry a weight ``w(gx)``, non-negative and summing to 1 over the orbit; the output is
``sum_g w(gx) g^-1 M(gx)``. As long as the weight of entry ``g`` is a function of ``gx`` alone, up to the normalisation,
the result is equivariant whatever the backbone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from equirl.arguments import of_kind, real_number, whole_number
from equirl.names import unknown_name_message
from equirl.orbit import Orbit, flatten_rows
from equirl.proxy_losses import ProxyLoss, resolve_proxy_loss
from equirl.representations import Tree, map_tensors
from equirl.weights import pick_least, softmax_weights, uniform

__all__ = [
    "Aggregator",
    "Choice",
    "Gradient",
    "Mean",
    "Reads",
    "Select",
    "Views",
    "Weighted",
    "weight_network",
]

Reads = Literal["features", "inputs"]
Gradient = Literal["pick", "straight_through"]


class Choice(NamedTuple):
    """One view per input.

    Attributes:
        elements: The group element of the view, shape ``[B]``.
        weights: Shape ``[B, |G|]``: ``1/k`` for the ``k`` elements that lead to a view equal to the chosen one, else 0.
        only: For one input, the element, where no other leads to the chosen view: known without looking at a tensor.
    """

    elements: Tensor
    weights: Tensor
    only: int | None = None


class Views(NamedTuple):
    """A few views per input, one after another.

    Attributes:
        samples: The input of each view, integers ``[P]``.
        elements: Its group element, ``[P]``.
        weights: Its weight, ``[P]``; those of an input sum to 1.
    """

    samples: Tensor
    elements: Tensor
    weights: Tensor


class Aggregator(nn.Module):
    """Base of all aggregators: a weight per orbit entry, and the weighted sum of the pulled-back outputs."""

    uniform: ClassVar[bool] = False
    """Whether all weights are ``1/|G|`` always: then there is no need to look at the orbit."""

    scores_rows: ClassVar[bool] = False
    """Whether ``score_rows`` is of use."""

    def score_rows(self, inputs: Tree, features: Tensor) -> Tensor:
        """Compute a quantity of each row, ``[N, ...]``, while its chunk is in memory; it becomes ``orbit.scores``."""
        raise TypeError(f"{type(self).__name__} scores no rows")

    @abstractmethod
    def weights(self, orbit: Orbit) -> Tensor:
        """Return the weights ``w(gx)``, shape ``[B, |G|]``, non-negative, rows summing to 1."""

    def choose(self, x: Tree) -> Choice | None:
        """Return which view of each input counts, where the inputs alone decide; ``None`` where they do not.

        Then the backbone is asked for one view per input instead of all.
        """
        return None

    def choose_several(self, x: Tree) -> Views | None:
        """Return the views of each input that count, where the inputs alone decide and it may be several."""
        return None

    def combine(self, orbit: Orbit, weights: Tensor) -> Tensor:
        """Return ``sum_g w_g g^-1 M(gx)``, shape ``[B, *output]``, for weights ``[B, |G|]`` chosen before."""
        return orbit.weighted_sum(weights)

    def forward(self, orbit: Orbit) -> Tensor:
        """Return ``sum_g w(gx) g^-1 M(gx)``, shape ``[B, *output]``."""
        return self.combine(orbit, self.weights(orbit))


class Mean(Aggregator):
    """Equitune: ``M_G(x) = 1/|G| sum_g g^-1 M(gx)`` (Basu et al. 2022, arXiv:2210.06475)."""

    uniform: ClassVar[bool] = True

    def weights(self, orbit: Orbit) -> Tensor:
        """Return ``1/|G|`` for every entry, shape ``[B, |G|]``."""
        return uniform(orbit.outputs)

    def forward(self, orbit: Orbit) -> Tensor:  # noqa: D102
        return orbit.mean()


class Weighted(Aggregator):
    """λ-equitune: ``M_G(x) = sum_g λ(gx) g^-1 M(gx) / sum_g λ(gx)`` (Basu et al. 2023, arXiv:2305.09900).

    λ is kept as its logarithm, ``log λ = weight_network(...) / temperature``, so that a softmax over the orbit makes it
    positive and normalised.

    Args:
        network: Maps ``[N, F]`` to one logit each, ``[N, 1]``; see ``weight_network`` for the usual one.
        reads: ``"features"`` (flattened) or ``"inputs"`` (the flattened orbit itself).
        temperature: Positive; small values sharpen the choice towards equizero, large ones flatten it to equitune.
        prepare: How inputs ``[N, *input]`` become what the network reads, ``[N, F]``, for ``reads="inputs"``; by
            default they are flattened. Where a policy scales or one-hot encodes observations, λ should read the same.

    Raises:
        TypeError: ``temperature`` is no number.
        ValueError: Unknown ``reads``, or a temperature that is not positive and finite.
    """

    scores_rows: ClassVar[bool] = True

    def __init__(
        self,
        network: nn.Module,
        reads: Reads = "features",
        temperature: float = 1.0,
        prepare: Callable[[Tree], Tensor] = flatten_rows,
    ) -> None:
        super().__init__()
        if reads not in get_args(Reads):
            raise ValueError(unknown_name_message("reads", reads, get_args(Reads)))
        self.network = of_kind(network, nn.Module, "network")
        self.reads = reads
        self.temperature = real_number(temperature, "temperature", above=0)
        self.prepare = prepare

    def score_rows(self, inputs: Tree, features: Tensor) -> Tensor:
        """Return ``log λ`` of each row, up to the temperature, shape ``[N, 1]``."""
        return self._logits(features.flatten(1) if self.reads == "features" else self.prepare(inputs))

    def weights(self, orbit: Orbit) -> Tensor:
        """Return ``softmax_g(log λ(gx))``, shape ``[B, |G|]``."""
        logits = orbit.scores
        if logits is None:
            if self.reads == "features":
                logits = self._logits(orbit.features.flatten(2).flatten(0, 1))
            else:
                logits = self._logits(self.prepare(map_tensors(orbit.inputs, lambda views: views.flatten(0, 1))))
        return softmax_weights(logits.view(-1, orbit.outputs.shape[1]), self.temperature)

    def weights_of(self, read: Tensor) -> Tensor:
        """Return the weights ``[B, |G|]`` of what λ reads of each view, ``[B, |G|, F]``."""
        return softmax_weights(self._logits(read.flatten(0, 1)).view(read.shape[:2]), self.temperature)

    def _logits(self, read: Tensor) -> Tensor:
        logits: Tensor = self.network(read)
        rows = read.shape[0]
        if logits.numel() != rows:
            raise ValueError(f"the λ-network must give one logit per row, [{rows}, 1]; it gave {list(logits.shape)}")
        return logits


class Select(Aggregator):
    """Equizero: ``M_G(x) = g*^-1 M(g* x)``, ``g* = argmin_g l(M(gx))`` (Basu et al. 2023, arXiv:2305.09900).

    **Ties.** Where some ``h`` leaves ``x`` fixed, ``g*`` and ``g* h`` give the same loss and different outputs, and
    picking one of them is not equivariant. All elements that attain the minimum are averaged instead, which is: on such
    inputs the output is the mean over the tied picks. Losses of equal views differ by the round-off of the network, so
    equal views tie if their losses nearly agree; different views tie if their losses agree to a few units in the last
    place.

    Args:
        proxy_loss: Name or callable, ``Orbit -> [B, |G|]``, lower is better; +inf excludes a view.
        gradient: What the backward pass differentiates. ``"pick"``: the picked output. ``"straight_through"``: the mean
            over the orbit, as in the paper; the value is the pick's in both cases, to the last bit. The second lets
            every view learn from a target meant for the pick, and Q-learning from scratch diverges with it.
        tie_tolerance: Losses within this fraction of the largest finite ``|l|`` of the orbit count as tied, whatever
            their views; ``None`` (default): as said under ties.

    Raises:
        TypeError: ``tie_tolerance`` is no number.
        ValueError: Unknown proxy loss or gradient, or a tolerance that is negative or not finite.
    """

    def __init__(
        self,
        proxy_loss: str | ProxyLoss = "max_value",
        gradient: Gradient = "pick",
        tie_tolerance: float | None = None,
    ) -> None:
        super().__init__()
        if gradient not in get_args(Gradient):
            raise ValueError(unknown_name_message("gradient", gradient, get_args(Gradient)))
        self.proxy_loss = resolve_proxy_loss(proxy_loss)
        self.gradient = gradient
        self.tie_tolerance = None if tie_tolerance is None else real_number(tie_tolerance, "tie_tolerance", least=0)

    def weights(self, orbit: Orbit) -> Tensor:
        """Return ``1/k`` at each of the ``k`` minima of the proxy loss and 0 elsewhere, shape ``[B, |G|]``.

        Raises:
            ValueError: The proxy loss does not give one number per orbit entry.
        """
        if torch.is_grad_enabled():
            with torch.no_grad():
                return self.weights(orbit)
        losses = self.proxy_loss(orbit)
        if losses.shape != orbit.outputs.shape[:2]:
            raise ValueError(
                f"the proxy loss must give one number per orbit entry, {list(orbit.outputs.shape[:2])}; "
                f"it gave {list(losses.shape)}"
            )

        return pick_least(losses, self.tie_tolerance, orbit.equal_to, orbit.outputs.dtype)

    def combine(self, orbit: Orbit, weights: Tensor) -> Tensor:  # noqa: D102
        pick = orbit.weighted_sum(weights)
        if self.gradient == "pick" or not torch.is_grad_enabled():
            return pick
        mean = orbit.mean()
        # mean - mean is 0 to the last bit, so the value is the pick's; mean + (pick - mean) would round.
        return pick.detach() + (mean - mean.detach())


def weight_network(inputs: int, hidden: Sequence[int] = (64,)) -> nn.Sequential:
    """Return the usual λ-network: a ReLU network ``[N, inputs] -> [N, 1]``.

    The last layer starts at zero, so that λ starts constant: training begins as equitune.

    Args:
        inputs: Length of the flattened features or inputs.
        hidden: Widths of the hidden layers; empty for a linear λ.

    Raises:
        TypeError: A width is no whole number.
        ValueError: A width is less than 1.
    """
    inputs = whole_number(inputs, "inputs of the λ-network", 1)
    hidden = [whole_number(size, "a width in hidden", 1) for size in hidden]
    layers: list[nn.Module] = []
    width = inputs
    for size in hidden:
        layers += [nn.Linear(width, size), nn.ReLU(inplace=True)]
        width = size
    last = nn.Linear(width, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)
