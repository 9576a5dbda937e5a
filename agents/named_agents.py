"""Agents that studies name by a text: ``plain``, ``sbx``, ``grid-d4/equitune``, perhaps with settings behind it."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from typing import Any

import yaml

from equirl.arguments import check_text
from equirl.methods import ALL_METHODS
from equirl.names import check_names, unknown_name_message
from equirl.symmetry import registered_symmetries

__all__ = ["DQN_SETTINGS", "AgentSpec", "parse_agent"]

DQN_SETTINGS = (
    *("n_envs", "batch_size", "gradient_steps", "train_freq", "target_update_interval", "exploration_steps"),
    "learning_rate",
)
"""Settings of DQN that a text may name. In ``exploration_steps`` environment steps the rate of random actions falls to
its end; DQN's ``exploration_fraction`` is that number as a share of the run."""


@dataclass(frozen=True)
class AgentSpec:
    """What one agent of the study is: ``method`` is ``"plain"``, ``"sbx"``, ``"augmentation"`` or a method's name."""

    name: str
    symmetry: str | None
    method: str
    method_kwargs: dict[str, Any]
    dqn_kwargs: dict[str, Any]


def parse_agent(name: str) -> AgentSpec:
    """Return the agent that ``"plain"``, ``"sbx"`` or ``"SYMMETRY/METHOD"`` names, each perhaps with ``+key=value``.

    Raises:
        ValueError: Not of that form, an unknown symmetry or method, or SBX is not installed.
    """
    check_text("an agent", name)
    base, *pairs = name.split("+")
    symmetry, slash, method = base.partition("/")
    without_symmetry = base in ("plain", "sbx")
    if not (slash or without_symmetry) or any("=" not in pair for pair in pairs):
        raise ValueError(f"agent {name!r} is not of the form plain, sbx or SYMMETRY/METHOD, perhaps with +key=value")
    if base == "sbx" and importlib.util.find_spec("sbx") is None:
        raise ValueError("the agent 'sbx' needs SBX: pip install 'equirl[bench]'")
    settings = {key: _setting(name, value) for key, value in (pair.split("=", 1) for pair in pairs)}
    if len(settings) < len(pairs):
        raise ValueError(f"agent {name!r} gives a setting twice; give each once")
    dqn_kwargs = {key: _number(key, settings.pop(key)) for key in DQN_SETTINGS if key in settings}
    if settings and without_symmetry:
        raise ValueError(unknown_name_message(f"setting of {base!r}:", next(iter(settings)), DQN_SETTINGS))
    if without_symmetry:
        return AgentSpec(name, None, base, {}, dqn_kwargs)
    check_names("symmetry", (symmetry,), registered_symmetries())
    check_names("method", (method,), (*ALL_METHODS, "augmentation"))
    if settings and method == "augmentation":
        raise ValueError(unknown_name_message("setting of augmentation:", next(iter(settings)), DQN_SETTINGS))
    return AgentSpec(name, symmetry, method, settings, dqn_kwargs)


def _setting(agent: str, value: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"agent {agent!r}: the setting {value!r} is no value of YAML ({error})") from error


def _number(setting: str, value: Any) -> int | float:
    kind = "number" if setting == "learning_rate" else "whole number"
    try:
        number = float(value)  # YAML takes 1e-3 for a word
    except (TypeError, ValueError):
        number = -1.0
    if not 0 < number < math.inf or (kind == "whole number" and number != int(number)):
        raise ValueError(f"{setting} must be a positive {kind}, not {value!r}")
    return int(number) if kind == "whole number" else number
