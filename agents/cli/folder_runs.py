"""Folders of agents in the place of runs, for the scripts of rl_zoo3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from equirl.agents.cli.replaced_agents import agents_replaced
from equirl.agents.loading import load_agent
from equirl.agents.minigrid_views import is_minigrid, put_on_view
from equirl.agents.open_folder import algorithm_and_symmetry, has_normalization, load_normalization, read_card
from equirl.envs.making import has_view

__all__ = ["agent_of_folder"]


@contextmanager
def agent_of_folder(folder: Path, *scripts: Any) -> Iterator[None]:
    """Let scripts of rl_zoo3, run inside, load the agent of a folder, with its normalisation around the environment.

    Args:
        folder: The agent's folder.
        *scripts: Their modules, and ``rl_zoo3.utils`` where a script is yet to be imported.
    """
    from rl_zoo3.utils import ALGOS  # slow, so only when it is needed

    name, symmetry = algorithm_and_symmetry(folder)
    card = read_card(folder)
    known = ALGOS.get(name)

    class FromFolder:
        @staticmethod
        def load(path: str, env: VecEnv | None = None, **settings: Any) -> Any:
            model: Any = load_agent(path, env, device=settings.get("device", "auto"))
            if known is not None and issubclass(known, type(model)):
                model.__class__ = known  # one that asks its environment for masks; see ``legal_actions``
            return model

    def made(own: Callable[..., VecEnv], *args: Any, **kwargs: Any) -> VecEnv:
        if symmetry is not None and is_minigrid(args[0]) and has_view(symmetry["name"]):
            hyperparams = dict(kwargs.get("hyperparams") or {})
            put_on_view(hyperparams, args[0], symmetry["name"], True, card.view_kwargs)
            kwargs["hyperparams"] = hyperparams
        environments = own(*args, **kwargs)
        return load_normalization(folder, environments) if has_normalization(folder) else environments

    with agents_replaced(scripts, name, FromFolder, made):
        yield
