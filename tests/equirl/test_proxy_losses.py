import math

import pytest
import torch
from torch import Tensor

from equirl import Equizero, cyclic_group, dihedral_group, signed_permutation_representation, trivial_representation
from equirl.orbit import Orbit
from equirl.proxy_losses import confidence, entropy, max_value, resolve_proxy_loss


def _orbit(outputs: Tensor) -> Orbit:
    representation = trivial_representation(cyclic_group(outputs.shape[1]), outputs.shape[2:])
    return Orbit(views=outputs, outputs=outputs, output_rep=representation)


def test_values_against_closed_forms() -> None:
    uniform, certain = torch.zeros(4), torch.tensor([100.0, 0, 0, 0])
    orbit = _orbit(torch.stack([uniform, certain])[None])  # one sample, two entries
    assert torch.allclose(entropy(orbit), torch.tensor([[math.log(4), 0.0]]), atol=1e-6)
    assert torch.allclose(confidence(orbit), torch.tensor([[-0.25, -1.0]]))
    assert torch.equal(max_value(orbit), torch.tensor([[0.0, -100.0]]))


def test_entropy_is_of_probabilities_and_ignores_a_shift_of_the_logits() -> None:
    logits = torch.randn(3, 5, 7, dtype=torch.float64)
    expected = torch.distributions.Categorical(logits=logits).entropy()
    assert torch.allclose(entropy(_orbit(logits)), expected)
    assert torch.allclose(entropy(_orbit(logits + 11)), expected)


def test_outputs_with_several_axes_are_flattened() -> None:
    outputs = torch.randn(2, 3, 4, 5)
    for loss in (max_value, entropy, confidence):
        assert loss(_orbit(outputs)).shape == (2, 3)


def test_names() -> None:
    assert resolve_proxy_loss("entropy") is entropy
    assert resolve_proxy_loss(max_value) is max_value
    with pytest.raises(ValueError, match=r"'entropi' is unknown; known: confidence, entropy, max_value. Did you mean"):
        resolve_proxy_loss("entropi")


@pytest.mark.parametrize("name", ["entropy", "confidence"])
def test_one_output_cannot_be_compared_with_others(name: str) -> None:
    group = dihedral_group(1)
    mirrored = signed_permutation_representation(group, [[0], [0]], [[1], [-1]])
    network = Equizero(torch.nn.Linear(1, 1), mirrored, mirrored, proxy_loss=name)
    with pytest.raises(ValueError, match=f"the proxy loss '{name}' compares the outputs .* and here is one"):
        network(torch.randn(4, 1))
