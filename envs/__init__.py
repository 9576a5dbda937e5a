"""Symmetric environments for Gymnasium. Importing this package registers their ids and their symmetries."""

from equirl.envs.catalog import DECLARED_SYMMETRIES, register_environments
from equirl.envs.checker import SymmetryReport, Violation, check_symmetry
from equirl.envs.gridworld import MOVES, GridWorldEnv
from equirl.envs.placing import Placer, register_placer
from equirl.envs.regions import REGION_NAMES, Region, region_cells
from equirl.envs.symmetries import grid_symmetry, mirror_symmetry

__all__ = [
    "DECLARED_SYMMETRIES",
    "MOVES",
    "REGION_NAMES",
    "GridWorldEnv",
    "Placer",
    "Region",
    "SymmetryReport",
    "Violation",
    "check_symmetry",
    "grid_symmetry",
    "mirror_symmetry",
    "region_cells",
    "register_environments",
    "register_placer",
]

register_environments()
