"""Targets on the plane: vectors that turn, frames, representations by matrices, and the worlds of robots."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from equirl.agents.shared_policy import RobotsVecEnv
from equirl.envs.plane_frame import point_robot_in_frame
from equirl.envs.point_robot import PointRobotEnv
from equirl.envs.swarm import SwarmEnv
from equirl.envs.swarm_views import robot_views
from equirl.groups import dihedral_group
from equirl.matrices import (
    MatrixRepresentation,
    cyclic_irrep,
    dihedral_irrep,
    plane_representation,
    standard_representation,
)
from equirl.plane import PlaneElements, PlaneFrames, PlaneVectors, RandomOffset
from fuzz.nonsense import batch, count, flag, instance, name, real
from fuzz.target import Target, target

__all__ = ["plane_targets", "robot_targets"]

_PARTS = PlaneVectors("vector", "vector", "scalar")
_FORCE = PlaneVectors("vector")
_KINDS = ("scalar", "pseudoscalar", "vector", "point")


def plane_targets() -> list[Target]:
    """Return the targets in the core."""
    parts = {"inputs": _PARTS, "outputs": _FORCE}
    objects = {"inputs": instance(), "outputs": instance()}
    turns = {"n": count(3, "n", "number of turns"), "mirrors": flag()}
    x = {"x": batch(lambda: torch.rand(3, 5), "numbers", "tensor", "vector, vector, scalar")}
    return [
        target(
            "PlaneVectors",
            lambda part: PlaneVectors("vector", part),
            {"part": "scalar"},
            {"part": name(_KINDS, "kind of part")},
        ),
        target("PlaneVectors.sampled", _PARTS.sampled, {"n": 4, "mirrors": False}, turns),
        target(
            "PlaneElements.sample",
            PlaneElements.sample,
            {"n": 3, "mirrors": False, "reach": 0.0},
            {"n": count(0, "n"), "mirrors": flag(), "reach": real("reach")},
        ),
        target(
            "PlaneFrames",
            PlaneFrames,
            {"backbone": nn.Linear(5, 2), **parts, "mirrors": False, "margin": 0.1},
            {"backbone": instance("backbone"), **objects, "mirrors": flag(), "margin": real(low=0, high=1)},
            _answers,
        ),
        target(
            "RandomOffset",
            RandomOffset,
            {"network": nn.Linear(5, 2), **parts, "mirrors": False},
            {"network": instance("network"), **objects, "mirrors": flag()},
            _answers,
        ),
        target("PlaneFrames, called", PlaneFrames(nn.Linear(5, 2), **parts), {"x": torch.rand(3, 5)}, x),
        target("RandomOffset, called", RandomOffset(nn.Linear(5, 2), **parts), {"x": torch.rand(3, 5)}, x),
        target("plane_representation", plane_representation, {"n": 4, "mirrors": True}, turns),
        target("cyclic_irrep", cyclic_irrep, {"n": 5, "frequency": 1}, {"n": count(1), "frequency": count(0)}),
        target("dihedral_irrep", dihedral_irrep, {"n": 5, "frequency": 1}, {"n": count(1), "frequency": count(0)}),
        target("standard_representation", standard_representation, {"n": 3}, {"n": count(2, "n", most=6)}),
        target(
            "MatrixRepresentation",
            MatrixRepresentation,
            {"group": dihedral_group(1), "matrices": torch.stack([torch.eye(2), -torch.eye(2)])},
            {
                "group": instance("group"),
                "matrices": batch(lambda: torch.stack([torch.eye(2), -torch.eye(2)]), "matrix", arrays=True),
            },
            _orthogonal,
        ),
    ]


def robot_targets() -> list[Target]:
    """Return the targets among the worlds of robots."""
    point, swarm = PointRobotEnv(1), SwarmEnv(2)
    point.reset(seed=0)
    swarm.reset(seed=0)
    forces = {"action": batch(lambda: torch.rand(2), "force", "finite numbers", arrays=True, free=True)}
    two = {"action": batch(lambda: torch.rand(4), "forces", "finite numbers", arrays=True, free=True)}
    sizes = {"n_robots": count(1, most=12), "max_steps": count()}
    return [
        target(
            "PointRobotEnv",
            PointRobotEnv,
            {"n_obstacles": 1, "max_steps": 5},
            {"n_obstacles": count(0), "max_steps": count()},
            _steps,
        ),
        target("point_robot_in_frame", point_robot_in_frame, {"n_obstacles": 1}, {"n_obstacles": count(0)}, _steps),
        target("PointRobotEnv.step", point.step, {"action": torch.rand(2)}, forces),
        target("SwarmEnv", SwarmEnv, {"n_robots": 2, "max_steps": 5}, sizes, _steps),
        target("SwarmEnv.step", swarm.step, {"action": torch.rand(4)}, two),
        target(
            "robot_views",
            robot_views,
            {"observations": torch.rand(3, 12), "neighbours": 1},
            {
                "observations": batch(lambda: torch.rand(3, 12), "observations", arrays=True, free=True),
                "neighbours": count(0, "others", most=2),
            },
        ),
        target(
            "RobotsVecEnv",
            RobotsVecEnv,
            {"n_swarms": 1, "neighbours": 1, "n_robots": 2, "max_steps": 5},
            {"n_swarms": count(), "neighbours": count(0, "others", most=1), **sizes},
        ),
    ]


def _answers(network: Any, _: dict[str, Any]) -> str | None:
    shape = list(network(torch.rand(3, 5)).shape)
    return None if shape == [3, 2] else f"three samples give the shape {shape}"


def _orthogonal(representation: Any, _: dict[str, Any]) -> str | None:
    x = torch.rand(4, *representation.shape)
    moved = representation.orbit(x)
    off = float((moved.flatten(2).norm(dim=2) - x.flatten(1).norm(dim=1, keepdim=True)).abs().max())
    return None if off < 1e-4 else f"lengths change by {off:.1e}"


def _steps(world: Any, _: dict[str, Any]) -> str | None:
    world.reset(seed=0)
    observation, reward, *_ = world.step(np.zeros(world.action_space.shape))
    seen = world.observation_space.contains(observation) and math.isfinite(reward)
    return None if seen else "a step leaves the observation space"
