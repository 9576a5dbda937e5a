"""Symmetric environments for Gymnasium. Importing this package registers their ids and their symmetries."""

from equirl.envs.catalog import DECLARED_SYMMETRIES, DeclaredSymmetry, register_environments
from equirl.envs.checker import SymmetryReport, Violation, check_symmetry
from equirl.envs.empty_room import EmptyRoomEnv
from equirl.envs.grid_views import EgocentricView, FullGridView
from equirl.envs.gridworld import MOVES, GridWorldEnv
from equirl.envs.gridworld_vector import GridWorldVectorEnv
from equirl.envs.making import make_environment
from equirl.envs.mujoco_symmetry import mujoco_mirror
from equirl.envs.placing import Placer, Transformable, register_placer, transform_state
from equirl.envs.regions import REGION_NAMES, Region, region_cells
from equirl.envs.symmetries import (
    board_symmetry,
    egocentric_symmetry,
    full_view_symmetry,
    grid_symmetry,
    mirror_symmetry,
)
from equirl.envs.tic_tac_toe import Opponent, TicTacToeEnv
from equirl.envs.wrappers import ShownAtStart, SymmetricStarts, TransformedFrame

__all__ = [
    "DECLARED_SYMMETRIES",
    "MOVES",
    "REGION_NAMES",
    "DeclaredSymmetry",
    "EgocentricView",
    "EmptyRoomEnv",
    "FullGridView",
    "GridWorldEnv",
    "GridWorldVectorEnv",
    "Opponent",
    "Placer",
    "Region",
    "ShownAtStart",
    "SymmetricStarts",
    "SymmetryReport",
    "TicTacToeEnv",
    "Transformable",
    "TransformedFrame",
    "Violation",
    "board_symmetry",
    "check_symmetry",
    "egocentric_symmetry",
    "full_view_symmetry",
    "grid_symmetry",
    "make_environment",
    "mirror_symmetry",
    "mujoco_mirror",
    "region_cells",
    "register_environments",
    "register_placer",
    "transform_state",
]

register_environments()
