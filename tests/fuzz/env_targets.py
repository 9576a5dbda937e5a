"""Targets among the environments: GridWorld and its batches, rooms, views, wrappers, the checker, symmetries."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np

from equirl import build_symmetry, cyclic_group, envs
from equirl.agents.vector_env import GridWorldVecEnv
from equirl.envs import (
    EgocentricView,
    EmptyRoomEnv,
    FullGridView,
    GridWorldEnv,
    GridWorldVectorEnv,
    SymmetricStarts,
    TransformedFrame,
)
from equirl.symmetry import registered_symmetries
from fuzz.nonsense import Argument, Draw, count, flag, instance, name, one_of, real, settings, shape, vector
from fuzz.oracle import Expect, Nonsense
from fuzz.target import Target, target

__all__ = ["env_targets", "grid_settings"]

_ROOM = "equirl/EmptyRoom-v0"
_GRID = "equirl/GridWorld-v0"


def env_targets() -> list[Target]:
    """Return the targets among the environments."""
    return [*_grids(), *_steps(), *_others(), *_checks()]


def grid_settings(*words: str) -> dict[str, Argument]:
    """Return the settings of a GridWorld, malformed."""
    modes = name(["rgb_array", "ansi"], "render_mode", nullable=True)
    return {
        "size": count(2, *words),
        "start": _region(),
        "goal": _region(),
        "wall_density": real(*words, low=0, high=0.5),
        "slip": real(*words, low=0, high=1),
        "max_steps": count(1, *words, nullable=True),
        "render_mode": modes,
    }


def _grids() -> list[Target]:
    valid = {"size": 3, "start": "uniform", "goal": (0, 0, 2, 2), "wall_density": 0.1, "slip": 0.1, "max_steps": 9}
    return [
        target("GridWorldEnv", GridWorldEnv, valid, grid_settings(), _plays),
        target(
            "GridWorldVectorEnv",
            GridWorldVectorEnv,
            {"num_envs": 2, **valid},
            {
                **grid_settings(),
                "num_envs": count(),
                "autoreset_mode": name(["NextStep", "SameStep", "Disabled"]),
                "max_episode_steps": count(nullable=True),
            },
            lambda env, _: _shape_of(
                env.reset(seed=0)[0], (env.num_envs, 3, env.batch.single.size, env.batch.single.size)
            ),
        ),
        target("GridWorldVecEnv", GridWorldVecEnv, {"n_envs": 2, **valid}, {**grid_settings(), "n_envs": count()}),
        target(
            "make_environment",
            lambda **given: envs.make_environment(given.pop("environment_id"), given.pop("symmetry"), **given),
            {"environment_id": _GRID, "symmetry": "grid-d4", **valid},
            {
                "environment_id": name([_GRID, _ROOM, "CartPole-v1"], "environment", "module"),
                "symmetric_starts": flag(),
                **grid_settings(),
            },
        ),
        target(
            "make_environment, MiniGrid",
            envs.make_environment,
            {"environment_id": _ROOM, "symmetry": "minigrid-d4", "view_kwargs": {"n_actions": 3}},
            {
                "symmetry": name(["minigrid-d4", "minigrid-egocentric-z2"]),
                "view_kwargs": settings(["planes", "mission", "n_actions"], "view", "setting"),
            },
        ),
        target(
            "region_cells",
            envs.region_cells,
            {"region": "north-west", "size": 4},
            {"region": _region(), "size": count(1)},
            lambda cells, given: None if len(cells) else f"no cells of {given}",
        ),
    ]


def _steps() -> list[Target]:
    single = GridWorldEnv(3)
    single.reset(seed=0)

    def reset_batch(**given: Any) -> Any:
        batch = GridWorldVectorEnv(2, size=3)
        batch.reset(seed=0)
        return batch.reset(**given)[0]

    def step_batch(actions: Any) -> Any:
        batch = GridWorldVectorEnv(2, size=3)
        batch.reset(seed=0)
        return batch.step(actions)[0]

    def reset_single(agent: Any, goal: Any, walls: Any) -> Any:
        return GridWorldEnv(3).reset(seed=0, options={"agent": agent, "goal": goal, "walls": walls})[0]

    frame = TransformedFrame(GridWorldEnv(3), "grid-d4", "r")
    frame.reset(seed=0)
    view = FullGridView(EmptyRoomEnv(5), n_actions=3)
    view.reset(seed=0)
    walls = [(np.zeros((2, 2)), Expect.REFUSED, "another shape"), ("none", Expect.WRONG_KIND, "text")]
    walls += [(np.ones((3, 3)), Expect.REFUSED, "walls everywhere"), (np.full((3, 3), np.nan), Expect.REFUSED, "NaN")]
    cell = vector([0, 1], "agent", "goal", "cell")
    options = settings(["agent", "goal", "walls"], "option")
    return [
        target("GridWorldEnv.reset", GridWorldEnv(3).reset, {"options": None}, {"options": options}),
        target(
            "GridWorldEnv.reset, cells",
            reset_single,
            {"agent": (0, 0), "goal": (2, 2), "walls": np.zeros((3, 3), bool)},
            {"agent": cell, "goal": cell, "walls": one_of(walls)},
            _pictured,
        ),
        target("GridWorldEnv.step", single.step, {"action": 0}, {"action": count(0, most=3)}),
        target("FullGridView.step", view.step, {"action": 0}, {"action": count(0, most=2)}),
        target("TransformedFrame.step", frame.step, {"action": 0}, {"action": count(0, most=3)}),
        target(
            "GridWorldVectorEnv.reset",
            reset_batch,
            {"seed": 0, "options": None},
            {
                "seed": count(0, nullable=True, lists=True),
                "options": settings(["agent", "goal", "walls", "reset_mask"], "option"),
            },
        ),
        target(
            "GridWorldVectorEnv.step",
            step_batch,
            {"actions": np.array([0, 1])},
            {"actions": _actions()},
            lambda seen, _: _shape_of(seen, (2, 3, 3, 3)),
        ),
    ]


def _others() -> list[Target]:
    element = name(["e", "r"], "element", numbers=False)
    found = [
        target(
            "EmptyRoomEnv",
            EmptyRoomEnv,
            {"size": 5, "max_steps": 9},
            {"size": count(4), "max_steps": count(nullable=True)},
        ),
        target(
            "SymmetricStarts",
            SymmetricStarts,
            {"env": GridWorldEnv(3), "symmetry": "grid-d4"},
            {"symmetry": name(["grid-d4", "grid-c4"])},
        ),
        target(
            "TransformedFrame",
            TransformedFrame,
            {"env": GridWorldEnv(3), "symmetry": "grid-d4", "element": "r"},
            {"symmetry": name(["grid-d4", "grid-c4"]), "element": element},
        ),
        target(
            "grid_symmetry",
            envs.grid_symmetry,
            {"name": "grid-c4", "group": cyclic_group(4), "observation_shape": (3, 4, 4), "n_actions": 4},
            {"observation_shape": shape((3, 4, 4), "image", "observation"), "n_actions": count(1, "actions")},
        ),
    ]
    for view in (FullGridView, EgocentricView):
        found.append(
            target(
                view.__name__,
                view,
                {"env": EmptyRoomEnv(5), "planes": ["wall", "goal"], "mission": False, "n_actions": 3},
                {
                    "env": instance("environment"),
                    "planes": vector(["wall", "goal"], "plane", numbers=False, nullable=True),
                    "mission": flag(),
                    "n_actions": count(3, most=7, nullable=True),
                },
                lambda env, _: _shape_of(env.reset(seed=0)[0], env.observation_space.shape),
            )
        )
    return found


def _checks() -> list[Target]:
    return [
        target(
            "check_symmetry",
            envs.check_symmetry,
            {
                "environment": GridWorldEnv(3),
                "symmetry": "grid-c4",
                "n_transitions": 5,
                "n_resets": 20,
                "significance": 0.01,
                "tolerance": 1e-5,
                "check_starts": True,
                "seed": 0,
            },
            {
                "symmetry": name(["grid-d4", "grid-c4"]),
                "n_transitions": count(1, "transition"),
                "n_resets": count(20, "resets"),
                "significance": real(low=0, high=1, open_low=True),
                "tolerance": real(low=0),
                "check_starts": flag(),
                "seed": count(0),
            },
            lambda report, _: None if report.ok else f"a symmetric world fails: {report}",
        ),
        target(
            "build_symmetry, any",
            build_symmetry,
            {"name": "cartpole-z2", "observation_shape": (4,), "n_actions": 2},
            {"name": name(registered_symmetries(), "symmetry"), "n_actions": count(1, "actions")},
            lambda symmetry, given: None if symmetry.n_actions == given["n_actions"] else "another number of actions",
        ),
    ]


def _region() -> Argument:
    by_name = name(["uniform", "north-west", "not-south-east"], "region")
    edges: Draw = vector([0, 0, 2, 2]).draw
    empty = [(1, 1, 1, 2), (2, 2, 0, 0), (0, 0, 99, 99), (-1, 0, 2, 2), (0, 0, 2), (math.nan,) * 4]

    def draw(random: Any) -> Nonsense:
        which = random.randrange(3)
        if which == 0:
            return by_name.draw(random)
        return edges(random) if which == 1 else Nonsense(random.choice(empty), Expect.REFUSED, "no rectangle")

    return Argument(draw, ("region", "start", "goal"))


def _actions() -> Argument:
    kinds: list[tuple[Any, Expect, str]] = [
        (np.array([0, 4]), Expect.REFUSED, "out of range"),
        (np.array([0, -1]), Expect.REFUSED, "out of range"),
        (np.array([0.5, 1]), Expect.REFUSED, "fractional"),
        (np.array([np.nan, 1]), Expect.REFUSED, "NaN"),
        (np.array([0]), Expect.REFUSED, "too few"),
        (np.zeros((2, 2), int), Expect.REFUSED, "an axis too many"),
        (np.array([]), Expect.REFUSED, "empty"),
        (np.array(["0", "1"]), Expect.WRONG_KIND, "text"),
        (None, Expect.WRONG_KIND, "None"),
        ([0, 1], Expect.EITHER, "a list"),
        ((0, 1), Expect.EITHER, "a tuple"),
        (np.array([True, False]), Expect.EITHER, "bools"),
        (np.array([0, 1], dtype=np.uint8), Expect.EITHER, "bytes"),
        (0, Expect.REFUSED, "a number"),
        (np.array([0, None]), Expect.WRONG_KIND, "objects"),
    ]
    return one_of(kinds, "action", "environments")


def _plays(env: gym.Env[Any, Any], _: dict[str, Any]) -> str | None:
    observation, _info = env.reset(seed=0)
    if not env.observation_space.contains(observation):
        return "the first observation is not in the space"
    return None if env.observation_space.contains(env.step(0)[0]) else "an observation is not in the space"


def _pictured(seen: Any, given: dict[str, Any]) -> str | None:
    row, column = (int(i) for i in given["agent"])
    return None if seen[0, row, column] == 1 else "the agent is somewhere else"


def _shape_of(seen: Any, expected: Any) -> str | None:
    return None if tuple(np.shape(seen)) == tuple(expected) else f"shape {np.shape(seen)} instead of {expected}"
