from .constructions import (
    image_representation,
    permutation_representation,
    representation_from_generators,
    signed_permutation_representation,
    tensor_product,
    trivial_representation,
)
from .groups import FiniteGroup, cyclic_group, dihedral_group, symmetric_group
from .mappings import MappingRepresentation
from .representations import MonomialRepresentation, Representation
from .symmetrization import Canonical, Equitune, Equizero, LambdaEquitune, Symmetrized
from .symmetry import MDPSymmetry, build_symmetry, register_symmetry
from .testing import assert_equivariant, equivariance_error
from .tokens import TokenRepresentation

__version__: str

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
