"""equirl: any torch network made exactly equivariant to a finite group, by symmetrization."""

from equirl.constructions import (
    image_representation,
    permutation_representation,
    representation_from_generators,
    signed_permutation_representation,
    tensor_product,
    trivial_representation,
)
from equirl.groups import FiniteGroup, cyclic_group, dihedral_group, symmetric_group
from equirl.mappings import MappingRepresentation
from equirl.representations import MonomialRepresentation, Representation
from equirl.symmetrization import Canonical, Equitune, Equizero, LambdaEquitune, Symmetrized
from equirl.symmetry import MDPSymmetry, build_symmetry, register_symmetry
from equirl.testing import assert_equivariant, equivariance_error
from equirl.tokens import TokenRepresentation

__version__ = "0.1.0"

__all__ = [
    "Canonical",
    "Equitune",
    "Equizero",
    "FiniteGroup",
    "LambdaEquitune",
    "MDPSymmetry",
    "MappingRepresentation",
    "MonomialRepresentation",
    "Representation",
    "Symmetrized",
    "TokenRepresentation",
    "assert_equivariant",
    "build_symmetry",
    "cyclic_group",
    "dihedral_group",
    "equivariance_error",
    "image_representation",
    "permutation_representation",
    "register_symmetry",
    "representation_from_generators",
    "signed_permutation_representation",
    "symmetric_group",
    "tensor_product",
    "trivial_representation",
]
