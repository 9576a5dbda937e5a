"""Maps of a grid: where a world breaks a symmetry, where an agent does, and where its gate is open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from matplotlib.figure import Figure
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from equirl.agents.gate_evidence import RecurringEvidence, Steps
from equirl.agents.gate_measures import gate_openings
from equirl.agents.gate_training import as_vectors
from equirl.agents.measuring import measurement
from equirl.agents.observations import as_observations
from equirl.agents.scores import action_scores
from equirl.agents.spaces import symmetry_on
from equirl.agents.symmetrization import agent_symmetry
from equirl.arguments import whole_number
from equirl.files import written_whole
from equirl.symmetry import MDPSymmetry

__all__ = ["SymmetryMap", "check_mappable", "draw_symmetry_map", "map_symmetry"]

Cells = NDArray[np.float64]


@dataclass(frozen=True)
class SymmetryMap:
    """Numbers for each cell of a grid, ``[H, W]``; NaN where the agent never stood.

    Attributes:
        world: Share of the steps from there at which the world fails the symmetry, of those whose pair of state and
            action was seen with an image.
        agent: Mean over the states there of ``max_g |Q(gs) - g Q(s)| / |Q|``.
        gate: Mean opening of the agent's gate there; ``None`` if it has none.
    """

    world: Cells
    agent: Cells
    gate: Cells | None


def check_mappable(model: BaseAlgorithm) -> None:
    """Raise unless an agent sees images and has ``Discrete`` actions, as a map needs.

    Raises:
        ValueError: It does not.
    """
    seen, acted = model.observation_space, model.action_space
    if not isinstance(seen, spaces.Box) or len(seen.shape) != 3 or not isinstance(acted, spaces.Discrete):
        raise ValueError(
            f"a map needs observations that are images [C, H, W] and Discrete actions; this agent has {seen} and "
            f"{acted}: leave --map out for this world"
        )


def map_symmetry(
    model: BaseAlgorithm, env: VecEnv, symmetry: str | MDPSymmetry, n_steps: int = 20_000, seed: int = 0
) -> SymmetryMap:
    """Return where on a grid a world and an agent break a symmetry, from rollouts of random and of the agent's actions.

    The agent's place is the channel of the image in which one cell is marked at a time and which steps change.

    Args:
        model: An agent that sees images ``[C, H, W]`` and has ``Discrete`` actions.
        env: Its environment.
        symmetry: A registered name or an ``MDPSymmetry``.
        n_steps: Environment steps; half of the actions are drawn at random.
        seed: Seed of everything that is drawn.

    Raises:
        TypeError: ``n_steps`` or ``seed`` is no number.
        ValueError: Observations are no such images, or no channel shows where the agent is.
    """
    n_steps, seed = whole_number(n_steps, "n_steps", 100), whole_number(seed, "seed", 0)
    check_mappable(model)
    resolved = symmetry_on(agent_symmetry(model, symmetry), "cpu")
    steps = _rollouts(model, env, n_steps, seed)
    places = _places(steps)
    height, width = steps.observations.shape[2:]  # type: ignore[union-attr]
    evidence = RecurringEvidence(resolved)
    for rows in torch.split(torch.arange(n_steps), 4_096):
        evidence.add(Steps(*(part[rows] for part in steps)))  # type: ignore[index]
    world = _per_cell(places, evidence.verdicts(steps.observations, steps.actions), height, width)
    states, first = np.unique(steps.observations.numpy(), axis=0, return_index=True)  # type: ignore[union-attr]
    seen, where = torch.as_tensor(states), places[torch.as_tensor(first)]
    agent = _per_cell(where, _errors(model, resolved, seen), height, width)
    openings = gate_openings(model, seen)
    gate = None if openings is None else _per_cell(where, openings.mean(axis=1), height, width)
    return SymmetryMap(world, agent, gate)


def draw_symmetry_map(found: SymmetryMap, title: str, picture: Path) -> None:
    """Write a PNG with a panel for each map.

    Args:
        found: The maps.
        title: Above them.
        picture: The file.
    """
    panels: list[tuple[str, str, Cells]] = [
        ("the world", "share of moves that break it", found.world),
        ("the agent", "relative equivariance error", found.agent),
    ]
    if found.gate is not None:
        panels.append(("the gate", "mean opening", found.gate))
    figure = Figure(figsize=(3.4 * len(panels), 3.6), layout="constrained")
    figure.suptitle(f"Where the symmetry breaks: {title}", fontsize=10)
    for axes, (name, measure, cells) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        known = cells[np.isfinite(cells)]
        most = 1.0 if measure != panels[1][1] else max(float(known.max(initial=0.0)), 1e-6)
        drawn = axes.imshow(np.ma.masked_invalid(cells), cmap="cividis", vmin=0, vmax=most)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("column")
        axes.set_ylabel("row")
        axes.set_facecolor("lightgrey")
        figure.colorbar(drawn, ax=axes, shrink=0.75, label=measure)
    with written_whole(picture) as temporary:
        figure.savefig(temporary, dpi=150, format="png")


def _rollouts(model: BaseAlgorithm, env: VecEnv, n_steps: int, seed: int) -> Steps:
    random = np.random.default_rng(seed)
    parts: list[tuple[Any, ...]] = []
    with measurement(model, env, seed):
        observation: Any = env.reset()
        for _ in range(-(-n_steps // env.num_envs)):
            chosen, _ = model.predict(observation, deterministic=False)
            free = random.random(env.num_envs) < 0.5
            drawn = np.array([env.action_space.sample() for _ in range(env.num_envs)])
            actions = np.where(free, drawn, chosen)
            before = np.array(observation)
            observation, rewards, dones, infos = env.step(actions)
            after = np.array(observation)
            for i in np.flatnonzero(dones):
                after[i] = infos[i]["terminal_observation"]
            ends = dones & ~np.array([bool(info.get("TimeLimit.truncated")) for info in infos])
            parts.append((before, actions, np.array(rewards), after, ends))
    before, actions, rewards, after, ends = (np.concatenate(part)[:n_steps] for part in zip(*parts, strict=True))
    space = model.observation_space
    seen, followed = (as_observations(each, space, "cpu") for each in (before, after))
    gained = torch.as_tensor(rewards).float()
    return Steps(seen, as_vectors(actions, model.action_space), gained, followed, torch.as_tensor(ends))


def _places(steps: Steps) -> Tensor:
    """Return the cell of the agent in each state, ``row * W + column``, ``[N]``."""
    images, after = steps.observations, steps.next_observations
    if not isinstance(images, Tensor) or not isinstance(after, Tensor) or images.ndim != 4:
        raise ValueError("a map needs observations that are images [C, H, W]; leave --map out for this world")
    marked = (images != 0).flatten(2)
    single = (marked.sum(dim=2) == 1).all(dim=0)
    moves = (images != after).flatten(2).any(dim=2).float().mean(dim=0) * single
    if float(moves.max()) == 0:
        raise ValueError(
            "no channel of the observation marks one cell and changes as the agent moves, so that its place is not "
            "known; leave --map out for this world"
        )
    return marked[:, int(moves.argmax())].float().argmax(dim=1)


def _errors(model: BaseAlgorithm, symmetry: MDPSymmetry, states: Tensor) -> NDArray[np.float64]:
    """Return ``max_g |Q(gs) - g Q(s)|`` of each state, relative to the mean size of ``Q``."""
    scores = action_scores(model)
    with torch.no_grad():
        given = states.to(model.device)
        expected = scores(given).cpu()
        errors = torch.zeros(len(states))
        for g in range(symmetry.group.order):
            moved: Any = symmetry.observation.transform(g, states)
            gap = scores(moved.to(model.device)).cpu() - symmetry.action.transform(g, expected)
            errors = torch.maximum(errors, gap.norm(dim=1))
        relative: NDArray[np.float64] = (errors / expected.norm(dim=1).mean().clamp_min(1e-12)).double().numpy()
    return relative


def _per_cell(places: Tensor, values: Any, height: int, width: int) -> Cells:
    known = np.isfinite(np.asarray(values, dtype=np.float64))
    cells, numbers = places.numpy()[known], np.asarray(values, dtype=np.float64)[known]
    counts = np.bincount(cells, minlength=height * width).astype(np.float64)
    sums = np.bincount(cells, weights=numbers, minlength=height * width)
    means: Cells = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).reshape(height, width)
    return means
