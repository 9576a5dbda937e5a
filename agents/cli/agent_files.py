"""Load a saved agent as a function from an observation to an action."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["load_acting"]


def load_acting(path: Path) -> Callable[[Any], Any]:
    """Load an agent and return a function that gives its best action for an observation of the environment.

    Raises:
        ValueError: The file holds no agent.
    """
    from equirl.agents.loading import load_agent  # slow to import, so only when it is needed
    from equirl.agents.open_folder import stored_normalization

    model = load_agent(path)
    normalize = stored_normalization(path)

    def act(observation: Any) -> Any:
        try:
            seen = observation if normalize is None else normalize.normalize_obs(observation)
            return model.predict(seen, deterministic=True)[0]
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"the agent {path} does not take the observations of this environment: {error}") from error

    return act
