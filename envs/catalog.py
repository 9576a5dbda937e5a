"""Which environments declare which symmetries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym

from equirl.envs.gridworld import GridWorldEnv
from equirl.symmetry import load_symmetry, read_view

__all__ = [
    "DECLARED_SYMMETRIES",
    "MUJOCO_MIRRORS",
    "DeclaredSymmetry",
    "declared_view_settings",
    "register_environments",
]


@dataclass(frozen=True)
class DeclaredSymmetry:
    """A symmetry that an environment has.

    Attributes:
        environment_id: Gymnasium id.
        symmetry: Name of the symmetry.
        symmetric_starts: Whether the distribution of starts has it too; else only dynamics and rewards have.
        view_kwargs: Settings of the view under which it holds, for MiniGrid.
    """

    environment_id: str
    symmetry: str
    symmetric_starts: bool = True
    view_kwargs: dict[str, Any] = field(default_factory=dict)


_MISSION = {"mission": True}

DECLARED_SYMMETRIES: tuple[DeclaredSymmetry, ...] = (
    *(DeclaredSymmetry("equirl/GridWorld-v0", name) for name in GridWorldEnv.symmetry_names),
    DeclaredSymmetry("equirl/TicTacToe-v0", "board-d4"),
    DeclaredSymmetry("CartPole-v1", "cartpole-z2"),
    DeclaredSymmetry("Acrobot-v1", "acrobot-z2"),
    DeclaredSymmetry("Pendulum-v1", "pendulum-z2"),
    DeclaredSymmetry("equirl/PointRobot-v0", "plane-d4"),
    DeclaredSymmetry("equirl/PointRobot-v0", "plane-c4"),
    DeclaredSymmetry("equirl/PointRobot-v0", "plane-c8"),
    DeclaredSymmetry("equirl/Swarm-v0", "swarm-d4"),
    DeclaredSymmetry("equirl/EmptyRoom-v0", "minigrid-d4"),
    DeclaredSymmetry("equirl/EmptyRoom-v0", "minigrid-egocentric-z2"),
    DeclaredSymmetry("MiniGrid-FourRooms-v0", "minigrid-d4"),
    DeclaredSymmetry("MiniGrid-FourRooms-v0", "minigrid-egocentric-z2"),
    DeclaredSymmetry("MiniGrid-Fetch-8x8-N3-v0", "minigrid-d4", view_kwargs=_MISSION),
    DeclaredSymmetry("MiniGrid-Fetch-8x8-N3-v0", "minigrid-egocentric-z2", view_kwargs=_MISSION),
    DeclaredSymmetry("MiniGrid-GoToObject-8x8-N2-v0", "minigrid-d4", view_kwargs=_MISSION),
    DeclaredSymmetry("MiniGrid-GoToObject-8x8-N2-v0", "minigrid-egocentric-z2", view_kwargs=_MISSION),
    *(
        DeclaredSymmetry(f"MiniGrid-{name}-v0", symmetry, symmetric_starts=False, view_kwargs=view)
        for name, view in (
            ("Empty-8x8", {}),
            ("Empty-Random-6x6", {}),
            ("DoorKey-5x5", {}),
            ("LavaGapS5", {}),
            ("SimpleCrossingS9N1", {}),
            ("LavaCrossingS9N1", {}),
            ("MultiRoom-N2-S4", {}),
            ("KeyCorridorS3R3", {}),
            ("Dynamic-Obstacles-6x6", {}),
            ("GoToDoor-5x5", _MISSION),
            ("PutNear-6x6-N2", _MISSION),
            ("MemoryS7", {}),
        )
        for symmetry in ("minigrid-d4", "minigrid-egocentric-z2")
    ),
)
"""Every declared symmetry; ``check_symmetry`` passes on all of them."""


MUJOCO_MIRRORS: tuple[str, ...] = (
    "Ant-v5",
    "InvertedDoublePendulum-v5",
    "Reacher-v5",
    "Swimmer-v5",
    "Walker2d-v5",
)
"""MuJoCo robots whose mirror holds as far as ``equirl check`` sees; ``--symmetry mirror`` derives it."""


def declared_view_settings(environment_id: str, symmetry: str) -> dict[str, Any]:
    """Return the settings of the view under which an environment's symmetry is declared; none if it is not.

    A MiniGrid environment that is not declared has those of a declared one of the same class, which differs in size
    alone; BabyAI's, whose missions change from episode to episode, have the mission's planes.

    Args:
        environment_id: A Gymnasium id, perhaps with the module that registers it: ``"module:Id-v0"``.
        symmetry: Name of the symmetry, or a symmetry file, whose own settings these are if it names its view.
    """
    if symmetry.endswith(".toml"):
        if (of_file := read_view(symmetry)) is not None:
            return {key: value for key, value in of_file.items() if key != "class"}
        symmetry = load_symmetry(symmetry).name
    name = environment_id.rpartition(":")[2]
    found = [d.view_kwargs for d in DECLARED_SYMMETRIES if (d.environment_id, d.symmetry) == (name, symmetry)]
    if found or name not in gym.registry or not symmetry.startswith("minigrid-"):
        return dict(found[0]) if found else {}
    maker = gym.spec(name).entry_point
    if str(maker).startswith("minigrid.envs.babyai"):
        return dict(_MISSION)
    siblings = [d.view_kwargs for d in DECLARED_SYMMETRIES if gym.spec(d.environment_id).entry_point == maker]
    return dict(siblings[0]) if siblings else {}


def register_environments() -> None:
    """Register equirl's environments with Gymnasium; safe to call twice."""
    for name, entry_point, vector_entry_point in (
        ("GridWorld", "equirl.envs.gridworld:GridWorldEnv", "equirl.envs.gridworld_vector:GridWorldVectorEnv"),
        ("EmptyRoom", "equirl.envs.empty_room:EmptyRoomEnv", None),
        ("TicTacToe", "equirl.envs.tic_tac_toe:TicTacToeEnv", None),
        ("PointRobot", "equirl.envs.point_robot:PointRobotEnv", None),
        ("PointRobotInFrame", "equirl.envs.plane_frame:point_robot_in_frame", None),
        ("Swarm", "equirl.envs.swarm:SwarmEnv", None),
    ):
        if f"equirl/{name}-v0" not in gym.registry:
            gym.register(f"equirl/{name}-v0", entry_point=entry_point, vector_entry_point=vector_entry_point)
    for name, entry_point in (
        ("FreeReacher", "equirl.envs.free_reacher:free_reacher"),
        ("FreeReacherInFrame", "equirl.envs.free_reacher:free_reacher_in_frame"),
    ):
        if f"equirl/{name}-v0" not in gym.registry:
            gym.register(f"equirl/{name}-v0", entry_point=entry_point, max_episode_steps=50)
    if "equirl/WornCartPole-v0" not in gym.registry:
        entry_point, limits = "equirl.envs.worn_cartpole:WornCartPoleEnv", gym.spec("CartPole-v1")
        threshold, most = limits.reward_threshold, limits.max_episode_steps
        gym.register("equirl/WornCartPole-v0", entry_point, threshold, max_episode_steps=most)
