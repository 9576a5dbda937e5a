"""Build a group from generators, a representation of it, and a network that respects it."""

import torch
from torch import nn

from equirl import Equizero, assert_equivariant, permutation_representation
from equirl.groups import group_from_generators

# The rotations of a regular tetrahedron permute its four corners. Two turns generate all twelve.
rotations = group_from_generators({"a": [1, 2, 0, 3], "b": [0, 2, 3, 1]}, name="tetrahedron")
print(rotations, "has", rotations.order, "elements")

corners = permutation_representation(rotations)  # the natural action on the four corners
network = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 4))


def most_varied(orbit):
    """Return a proxy loss, one number for each view: it prefers views whose outputs vary most."""
    return -orbit.outputs.var(dim=2)


symmetrized = Equizero(network, corners, corners, proxy_loss=most_varied)
x = torch.randn(16, 4)
assert_equivariant(symmetrized, corners, corners, x)
print("rotating the corners of the input rotates the output")
