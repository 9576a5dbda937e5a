"""Networks that are equivariant as far as a gate, weights or a penalty say."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import equirl.envs  # noqa: F401  (registers symmetries)
from equirl import Symmetrized
from equirl.aggregators import Mean
from equirl.relaxation import Gate, Relaxation, gate_opening, priced, small_network
from equirl.relaxed_aggregators import ElementWeights, SoftPenalty
from equirl.symmetry import build_symmetry

D4 = build_symmetry("grid-d4", (3, 5, 5), 4)
X = torch.randn(20, 3, 5, 5, generator=torch.Generator().manual_seed(0))


def backbone() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(75, 16), nn.Tanh(), nn.Linear(16, 4))


def random_gate(start: float = 0.0) -> Gate:
    torch.manual_seed(2)
    gate = Gate(D4.observation, D4.action, 75, start=start)
    nn.init.normal_(gate.network[-1].weight, std=4.0)
    return gate


def largest_error(function: Callable[[Tensor], Tensor]) -> float:
    expected = function(X)
    errors = []
    for g in range(D4.group.order):
        moved = D4.action.transform(g, expected)
        errors.append(float((function(D4.observation.transform(g, X)) - moved).detach().abs().max()))
    return max(errors)


def test_the_gate_is_invariant_and_within_its_range() -> None:
    gate = random_gate(start=-3.0)
    assert largest_error(gate) < 1e-5
    assert largest_error(random_gate(start=-60.0)) == 0
    opening = gate(X).detach()
    assert 0 <= float(opening.min()) < 0.5 < float(opening.max()) <= 1
    logits = torch.tensor([-20.0, -3.0, 0.0, 3.0, 20.0])
    assert gate_opening(logits)[0] == 0
    assert gate_opening(logits)[-1] == 1
    assert gate_opening(logits)[2] == pytest.approx(0.5)


def test_where_the_gate_is_shut_the_output_is_exact_and_elsewhere_it_is_free() -> None:
    exact = Symmetrized(backbone(), D4.observation, D4.action, Mean())
    free = small_network(75, (8,), 4)

    def partial(gate: Gate) -> Callable[[Tensor], Tensor]:
        relaxation = Relaxation(gate, free, lambda opening: opening)
        return lambda x: relaxation(x, exact(x))

    assert torch.equal(partial(random_gate())(X), exact(X))  # the correction begins at zero
    nn.init.normal_(free[-1].weight)
    assert torch.equal(partial(random_gate(start=-60.0))(X), exact(X))
    assert largest_error(partial(random_gate(start=-60.0))) < 1e-5
    wide_open = partial(random_gate(start=60.0))(X)
    torch.testing.assert_close(wide_open, exact(X) + free(X.flatten(1)))
    assert largest_error(partial(random_gate(start=60.0))) > 0.1


def test_a_price_is_a_term_of_the_loss_that_nobody_sees() -> None:
    values = torch.rand(5, 3, requires_grad=True)
    (values.square().sum() + 0.7 * values.mean()).backward()
    seen, values.grad = values.grad, None
    priced(values, 0.7).square().sum().backward()
    torch.testing.assert_close(values.grad, seen)


def test_a_gate_learns_from_the_loss_only_if_it_is_to() -> None:
    for learned in (True, False):
        free = small_network(75, (8,), 4)
        nn.init.normal_(free[-1].weight)
        relaxation = Relaxation(random_gate(), free, lambda opening: opening, learned, price=0.1)
        relaxation(X, torch.zeros(20, 4)).sum().backward()
        assert all((parameter.grad is not None) == learned for parameter in relaxation.gate.parameters())
        assert free[-1].weight.grad is not None


def test_weights_of_elements_begin_as_equitune_and_need_not_be_exact() -> None:
    aggregator = ElementWeights(D4.group, 75)
    weighted = Symmetrized(backbone(), D4.observation, D4.action, aggregator)
    equitune = Symmetrized(backbone(), D4.observation, D4.action, Mean())
    torch.testing.assert_close(weighted(X), equitune(X))
    nn.init.normal_(aggregator.network[-1].weight)
    assert largest_error(weighted) > 1e-3
    only = torch.zeros(8)
    only[D4.group.identity] = 50
    with torch.no_grad():
        aggregator.network[-1].weight.zero_()
        aggregator.network[-1].bias.copy_(only)
    torch.testing.assert_close(weighted(X), backbone()(X))  # all weight on the identity: the backbone itself


def test_the_penalty_is_the_distance_from_equivariance() -> None:
    plain = backbone()
    penalized = Symmetrized(plain, D4.observation, D4.action, SoftPenalty(D4.group, 0.3))
    torch.testing.assert_close(penalized(X), plain(X))
    with torch.no_grad():
        torch.testing.assert_close(penalized(X), plain(X))
    penalized(X).square().mean().backward()
    found = [parameter.grad.clone() for parameter in plain.parameters()]
    plain.zero_grad()
    mean = Symmetrized(plain, D4.observation, D4.action, Mean())
    (plain(X).square().mean() + 0.3 * (plain(X) - mean(X)).square().mean()).backward()
    for ours, parameter in zip(found, plain.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad)


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="price"):
        Relaxation(random_gate(), small_network(75, (8,), 4), lambda opening: opening, price=-1.0)
    with pytest.raises(ValueError, match="weight"):
        SoftPenalty(D4.group, -1.0)
    with pytest.raises(TypeError, match="width of hidden layers"):
        Gate(D4.observation, D4.action, 75, hidden=(2.5,))  # type: ignore[arg-type]
