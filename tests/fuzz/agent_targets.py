"""Targets among the agents: policies, symmetrization, λ, buffers, measures, proxy losses, vectorized environments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from torch import nn

from equirl import agents
from equirl.agents import METHODS, BellmanResidual, Disagreement, LambdaFit, Novelty, SymmetryCallback
from equirl.agents.audit import audit_agent
from equirl.agents.proxy_losses import AGENT_PROXY_LOSSES
from fuzz.agents_at_hand import GRID, agent, environments
from fuzz.env_targets import grid_settings
from fuzz.nonsense import Argument, batch, count, flag, instance, name, one_of, real, settings, strict, vector
from fuzz.oracle import Expect
from fuzz.target import Target, target

__all__ = ["agent_targets"]

_BOX = spaces.Box(0, 1, (3, 3, 3), np.uint8)
_SYMMETRY = name(["grid-d4", "grid-c4"], "symmetry")
_METHOD = name(METHODS, "method")
_LOSSES = name(["max_value", "entropy", *AGENT_PROXY_LOSSES], "proxy loss", "loss")


def agent_targets() -> list[Target]:
    """Return the targets among the agents."""
    return [*_policies(), *_lambda(), *_buffers(), *_measures(), *_losses(), *_environments()]


def _states() -> torch.Tensor:
    return torch.randint(0, 2, (16, 3, 3, 3), dtype=torch.uint8)


_STATES = batch(_states, "observations", "states", "acts on", arrays=True)
_KNOWN_STATES = batch(_states, "observations", "states", "acts on", arrays=True, nullable=True)


def _policies() -> list[Target]:
    def policy(method_kwargs: Any, **given: Any) -> Any:
        kwargs = {"net_arch": [8], "method_kwargs": method_kwargs, **given}
        return DQN(agents.EquivariantDQNPolicy, environments(1), buffer_size=8, policy_kwargs=kwargs)

    def made(method: str) -> Callable[..., Any]:
        return lambda **given: agents.make_aggregator(
            method, given, {"features": 4, "inputs": 27}, _representation(), torch.flatten
        )

    widths = vector([8, 4], "width")
    known = {"reads": "inputs", "hidden": (4,), "temperature": 1.0}
    zero = {"proxy_loss": "entropy", "gradient": "pick", "tie_tolerance": 0.0}
    return [
        target(
            "EquivariantDQNPolicy",
            policy,
            {"symmetry": "grid-c4", "method": "equizero", "method_kwargs": {"gradient": "pick"}},
            {
                "symmetry": _SYMMETRY,
                "method": name(METHODS, "method", nullable=True),
                "method_kwargs": settings(["proxy_loss", "gradient"], "setting", "method_kwargs"),
            },
        ),
        target(
            "make_aggregator, lambda_equitune",
            made("lambda_equitune"),
            known,
            {"reads": name(["inputs", "features"]), "hidden": widths, "temperature": real(low=0, open_low=True)},
        ),
        target(
            "make_aggregator, equizero",
            made("equizero"),
            zero,
            {
                "proxy_loss": name(["max_value", "entropy"], "proxy loss"),
                "gradient": name(["pick", "straight_through"]),
                "tie_tolerance": real(low=0, nullable=True),
            },
        ),
        target("make_aggregator, canonical", made("canonical"), {"seed": 0}, {"seed": count(0)}),
        target(
            "make_aggregator, settings",
            lambda method, given: agents.make_aggregator(
                method, given, {"features": 4, "inputs": 27}, _representation()
            ),
            {"method": "equitune", "given": {}},
            {"method": _METHOD, "given": settings(["reads", "hidden"], "method_kwargs", "setting")},
        ),
        target(
            "policy_with",
            agents.policy_with,
            {"symmetry": "grid-c4", "method": "equitune", "algorithm": "dqn"},
            {"symmetry": _SYMMETRY, "method": _METHOD, "algorithm": name(["dqn", "ppo", "a2c", "qrdqn"])},
        ),
        *(
            target(
                f"symmetrize_agent, {kind}",
                agents.symmetrize_agent,
                {"model": agent(kind), "symmetry": "grid-c4", "method": "equitune", "method_kwargs": {}},
                {
                    "symmetry": _SYMMETRY,
                    "method": _METHOD,
                    "method_kwargs": settings(["reads", "hidden"], "setting", "method_kwargs"),
                    "model": instance("agent", "model"),
                },
            )
            for kind in ("dqn", "ppo")
        ),
        target(
            "symmetrize_agent, equizero",
            lambda loss: agents.symmetrize_agent(agent("dqn"), "grid-c4", "equizero", {"proxy_loss": loss}),
            {"loss": "bellman_residual"},
            {"loss": _LOSSES},
        ),
    ]


def _lambda() -> list[Target]:
    fit = LambdaFit(steps=2, batch_size=8)
    return [
        target(
            "LambdaFit",
            LambdaFit,
            {},
            {
                "objective": name(["reproduce", "recognize"]),
                "steps": count(),
                "batch_size": count(),
                "learning_rate": real(low=0, open_low=True),
                "holdout": real(low=0, high=1, open_low=True),
                "patience": count(),
                "seed": count(0),
            },
        ),
        Target(
            "fit_lambda",
            agents.fit_lambda,
            lambda: {"model": agent("lambda"), "observations": _states(), "settings": fit},
            {"observations": _STATES, "settings": instance("settings", nullable=True), "model": instance("model")},
            lambda report, given: None if report.n_states == len(given["observations"]) else "other states were used",
        ),
        Target(
            "symmetrize_agent, lambda",
            agents.symmetrize_agent,
            lambda: {
                "model": agent("dqn"),
                "symmetry": "grid-c4",
                "method": "lambda_equitune",
                "observations": _states(),
                "fit": fit,
            },
            {"observations": _KNOWN_STATES, "fit": instance("settings", "fit", nullable=True)},
        ),
    ]


def _buffers() -> list[Target]:
    def replay(**given: Any) -> Any:
        return agents.SymmetryReplayBuffer(
            given.pop("buffer_size"), _BOX, spaces.Discrete(4), device="cpu", n_envs=1, **given
        )

    def rollout(**given: Any) -> Any:
        return agents.SymmetryRolloutBuffer(given.pop("buffer_size"), _BOX, spaces.Discrete(4), device="cpu", **given)

    actions = one_of([(spaces.Discrete(3), Expect.REFUSED, "3 actions"), (_BOX, Expect.WRONG_KIND, "Box")], "action")
    return [
        target(
            "SymmetryReplayBuffer",
            replay,
            {"buffer_size": 8, "symmetry": "grid-c4", "copies": "random"},
            {"buffer_size": count(), "symmetry": _SYMMETRY, "copies": name(["random", "all"])},
        ),
        target(
            "SymmetryReplayBuffer, n_steps",
            replay,
            {"buffer_size": 8, "symmetry": "grid-c4", "n_steps": 3, "gamma": 0.9},
            {"n_steps": count(), "gamma": real(low=0, high=1)},
        ),
        target(
            "SymmetryRolloutBuffer",
            rollout,
            {"buffer_size": 8, "symmetry": "grid-c4"},
            {"symmetry": _SYMMETRY, "buffer_size": count()},
        ),
        target(
            "resolve_symmetry",
            agents.resolve_symmetry,
            {"symmetry": "grid-c4", "observation_space": _BOX, "action_space": spaces.Discrete(4)},
            {"symmetry": _SYMMETRY, "action_space": actions},
        ),
        target("SymmetryCallback", SymmetryCallback, {}, {"log_freq": count(), "n_states": count()}),
    ]


def _measures() -> list[Target]:
    def audit(**given: Any) -> Any:
        return audit_agent(agent("dqn"), environments(), given.pop("symmetry"), **given)

    return [
        target(
            "rollout_observations",
            lambda **given: agents.rollout_observations(agent("dqn"), environments(), **given),
            {"n_states": 8, "deterministic": False, "seed": 0},
            {"n_states": count(), "deterministic": flag(), "seed": count(0)},
        ),
        target(
            "replay_observations",
            lambda **given: agents.replay_observations(agent("dqn"), **given),
            {"n_states": 8, "seed": 0},
            {"n_states": count(), "seed": count(0)},
        ),
        target(
            "audit_agent",
            audit,
            {"symmetry": "grid-c4", "n_episodes": 1, "n_states": 10, "seed": 0},
            {
                "symmetry": strict(_SYMMETRY),
                "n_episodes": strict(count()),
                "n_states": strict(count(10)),
                "seed": strict(count(0)),
                "method_kwargs": strict(settings(["equizero", "lambda_equitune"], "method")),
            },
        ),
        *(
            target(f"{call.__name__}, model", call, {"model": agent("dqn")}, {"model": instance("model")})
            for call in (agents.replay_observations,)
        ),
    ]


def _losses() -> list[Target]:
    network = nn.Sequential(nn.Flatten(), nn.Linear(27, 4))
    numbers = _one_each()
    return [
        Target(
            "Novelty",
            Novelty,
            lambda: {"observations": _states().float(), "n_states": 8, "labels": None},
            {
                "observations": batch(lambda: _states().float(), "states", "observations", arrays=True, free=True),
                "n_states": count(),
                "labels": vector([True] * 27, "labels", "values", numbers=False, nullable=True),
            },
            _has_states,
        ),
        Target(
            "BellmanResidual",
            BellmanResidual,
            lambda: {
                "q_function": network,
                "observations": torch.rand(6, 3, 3, 3),
                "actions": torch.zeros(6).long(),
                "rewards": torch.zeros(6),
                "next_observations": torch.rand(6, 3, 3, 3),
                "dones": torch.zeros(6),
                "gamma": 0.9,
                "neighbors": 2,
            },
            {
                "actions": numbers,
                "rewards": numbers,
                "dones": numbers,
                "gamma": real(low=0, high=1),
                "neighbors": count(),
                "observations": batch(lambda: torch.rand(6, 3, 3, 3), "observations", "states", arrays=True, free=True),
            },
        ),
        target(
            "Disagreement",
            Disagreement,
            {"q_functions": [network]},
            {"q_functions": vector([network], "network", numbers=False)},
        ),
        target(
            "agent_proxy_loss",
            agents.agent_proxy_loss,
            {"name": "novelty", "model": agent("dqn")},
            {"name": _LOSSES, "model": instance("model", "agent")},
        ),
    ]


def _environments() -> list[Target]:
    known = grid_settings()

    def made(environment_id: Any, n_envs: Any, seed: Any, **env_kwargs: Any) -> Any:
        return agents.make_vectorized_env(environment_id, n_envs, seed, env_kwargs)

    return [
        target(
            "make_vectorized_env",
            made,
            {"environment_id": GRID, "n_envs": 2, "seed": 0, "size": 3},
            {
                "environment_id": name([GRID, "equirl/EmptyRoom-v0"], "vectorised form"),
                "n_envs": count(),
                "seed": count(0, nullable=True, lists=True),
                **{setting: known[setting] for setting in ("size", "start", "slip", "max_steps")},
            },
        ),
        target(
            "make_vectorized_env, settings",
            agents.make_vectorized_env,
            {"environment_id": GRID, "n_envs": 2, "env_kwargs": {}},
            {
                "env_kwargs": settings(["size", "slip"], "setting", "env_kwargs"),
                "info_keywords": vector(["is_success"], "info", numbers=False),
            },
        ),
    ]


def _representation() -> Any:
    policy: Any = agent("equivariant").policy
    return policy.q_net.symmetry.observation


def _has_states(loss: Any, given: dict[str, Any]) -> str | None:
    del given
    visited = getattr(loss, "_visited", None)
    if visited is None or (len(visited) and bool(torch.isfinite(visited).all())):
        return None
    return "a novelty of no states, or of states that are not finite"


def _one_each() -> Argument:
    kinds: list[tuple[Any, Expect, str]] = [
        (lambda: torch.zeros(5), Expect.REFUSED, "too few"),
        (lambda: torch.zeros(6, 2), Expect.REFUSED, "an axis too many"),
        (lambda: torch.full((6,), float("nan")), Expect.REFUSED, "NaN"),
        (lambda: torch.full((6,), float("inf")), Expect.REFUSED, "infinite"),
        (lambda: torch.zeros(6, 1), Expect.EITHER, "an axis of one"),
        (lambda: np.zeros(6), Expect.EITHER, "an array"),
        (0, Expect.REFUSED, "a number"),
        ("000000", Expect.WRONG_KIND, "text"),
        (None, Expect.WRONG_KIND, "None"),
        ({}, Expect.WRONG_KIND, "dict"),
        ([0, 0, 0, "0", 0, 0], Expect.WRONG_KIND, "text inside"),
    ]
    return one_of(kinds, "one number for each", "number")
