"""Make any torch network equivariant: here a classifier of images that may be turned and mirrored."""

import torch
from torch import nn

from equirl import (
    Equitune,
    LambdaEquitune,
    assert_equivariant,
    dihedral_group,
    equivariance_error,
    image_representation,
    trivial_representation,
)

group = dihedral_group(4)  # quarter turns and mirrors
images = image_representation(group, (3, 32, 32))  # how an element moves the input
classes = trivial_representation(group, (10,))  # the output stays as it is
backbone = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 64), nn.ReLU(), nn.Linear(64, 10))
x = torch.randn(8, 3, 32, 32)

print(f"backbone: error {equivariance_error(backbone, images, classes, x):.1e}")
for network in (Equitune(backbone, images, classes), LambdaEquitune(backbone, images, classes)):
    assert_equivariant(network, images, classes, x)
    print(f"{type(network).__name__}: error {equivariance_error(network, images, classes, x):.1e}")
