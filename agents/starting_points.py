"""Hyperparameters to begin with in a world for which nobody has searched any."""

from __future__ import annotations

from typing import Any

__all__ = ["proposal", "starting_point"]

_N_ENVS = 16
_ROWS = 256
"""Views in each gradient step: 16 for each environment step."""
_FEWEST = 32

_VALUE_BASED = ("dqn", "qrdqn")


def starting_point(order: int, method: str) -> dict[str, Any]:
    """Return hyperparameters of DQN for many environments at a time.

    In the search on the grid (`equirl study tune`) the best settings showed the network 8 to 16 rows for each
    environment step, whatever the group, where an orbit of a sample has ``|G|`` rows. Hence a batch has ``256 / |G|``
    samples: 16 environments, one gradient step. ``canonical`` looks at one view of each sample, and was best with two
    rows for each environment step.

    Args:
        order: Order ``|G|`` of the group; 1 without a symmetry.
        method: One of the methods, ``plain`` or ``augmentation``.
    """
    views = order if method not in ("plain", "augmentation") else 1
    batch_size = _FEWEST if method == "canonical" else max(_FEWEST, _ROWS // views)
    fixed = {"n_envs": _N_ENVS, "train_freq": 1, "gradient_steps": 1}
    return fixed | {"batch_size": batch_size, "learning_rate": 0.001}


def proposal(algorithm: str, n_envs: int, order: int, method: str) -> str | None:
    """Return a line that proposes a faster training, or ``None`` where it would not fit.

    Args:
        algorithm: By rl_zoo3's name.
        n_envs: Environments of the run.
        order: Order of the group; 1 without a symmetry.
        method: One of the methods, ``plain`` or ``augmentation``.
    """
    if algorithm not in _VALUE_BASED or n_envs > 1:
        return None
    settings = " ".join(f"{key}:{value}" for key, value in starting_point(order, method).items())
    return f"Often faster, with {_N_ENVS} environments at a time: -params {settings} (docs/how-to/train-fast.md)"
