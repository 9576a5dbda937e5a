"""equirl: any torch network made exactly equivariant to a finite group, by symmetrization."""

from equirl.aggregators import Aggregator, Mean, Select, Weighted, weight_network
from equirl.canonical import MinimalFrame
from equirl.chunking import Chunking
from equirl.constructions import (
    channel_representation,
    direct_sum,
    image_representation,
    permutation_representation,
    regular_representation,
    representation_from_generators,
    signed_permutation_representation,
    tensor_product,
    trivial_representation,
)
from equirl.groups import (
    FiniteGroup,
    cyclic_group,
    dihedral_group,
    direct_product,
    group_from_generators,
    symmetric_group,
)
from equirl.orbit import Orbit
from equirl.proxy_losses import PROXY_LOSSES, ProxyLoss, confidence, entropy, max_value, resolve_proxy_loss
from equirl.representations import (
    MappingRepresentation,
    MonomialRepresentation,
    Representation,
    TokenRepresentation,
    Tree,
)
from equirl.symmetrization import (
    Canonical,
    Equitune,
    Equizero,
    LambdaEquitune,
    Symmetrized,
    evaluate_orbit,
    symmetrize,
)
from equirl.symmetry import MDPSymmetry, build_symmetry, register_symmetry, registered_symmetries, stack_frames
from equirl.testing import assert_equivariant, equivariance_error, equivariance_errors

__version__ = "0.1.0"

__all__ = [
    "PROXY_LOSSES",
    "Aggregator",
    "Canonical",
    "Chunking",
    "Equitune",
    "Equizero",
    "FiniteGroup",
    "LambdaEquitune",
    "MDPSymmetry",
    "MappingRepresentation",
    "Mean",
    "MinimalFrame",
    "MonomialRepresentation",
    "Orbit",
    "ProxyLoss",
    "Representation",
    "Select",
    "Symmetrized",
    "TokenRepresentation",
    "Tree",
    "Weighted",
    "assert_equivariant",
    "build_symmetry",
    "channel_representation",
    "confidence",
    "cyclic_group",
    "dihedral_group",
    "direct_product",
    "direct_sum",
    "entropy",
    "equivariance_error",
    "equivariance_errors",
    "evaluate_orbit",
    "group_from_generators",
    "image_representation",
    "max_value",
    "permutation_representation",
    "register_symmetry",
    "registered_symmetries",
    "regular_representation",
    "representation_from_generators",
    "resolve_proxy_loss",
    "signed_permutation_representation",
    "stack_frames",
    "symmetric_group",
    "symmetrize",
    "tensor_product",
    "trivial_representation",
    "weight_network",
]
