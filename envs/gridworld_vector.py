"""GridWorld as a Gymnasium vector environment: one set of array operations steps all environments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from equirl.arguments import whole_number
from equirl.envs.batch_arguments import environment_seeds, reset_mask, reset_options
from equirl.envs.drawing import draw_rgb
from equirl.envs.gridworld import GridWorldEnv
from equirl.envs.gridworld_batch import GridWorldBatch

__all__ = ["GridWorldVectorEnv"]

Observations = NDArray[np.uint8]


class GridWorldVectorEnv(VectorEnv[Observations, NDArray[np.int64], NDArray[np.float64]]):
    """``num_envs`` GridWorlds: what ``SyncVectorEnv`` of single ones gives, to the last bit, many times faster.

    ``gymnasium.make_vec("equirl/GridWorld-v0", num_envs=64, vectorization_mode="vector_entry_point")``; for
    Stable-Baselines3 see ``equirl.agents.make_vectorized_env``.

    Args:
        num_envs: Number of environments.
        autoreset_mode: What happens after an episode's last step, as in Gymnasium: ``"NextStep"`` (default),
            ``"SameStep"`` or ``"Disabled"``.
        render_mode: ``None``, ``"rgb_array"`` (``render`` returns a tuple of pictures, one for each environment) or
            ``"rgb_array_list"`` (the same pictures in a list, as Gymnasium's own vector environments return them).
        max_episode_steps: Gymnasium's limit on an episode's length; see ``GridWorldBatch``.
        **settings: As for ``GridWorldEnv``.

    Raises:
        TypeError: A number that is not whole.
        ValueError: As ``GridWorldEnv``, fewer than one environment, or an unknown mode.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (as Gymnasium declares it)
        "render_modes": ["rgb_array", "rgb_array_list"],
        "render_fps": GridWorldEnv.metadata["render_fps"],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        **settings: Any,
    ) -> None:
        num_envs = whole_number(num_envs, "num_envs", 1)
        known = self.metadata["render_modes"]
        if render_mode is not None and render_mode not in known:
            raise ValueError(f"render_mode {render_mode!r} is unknown; known for many environments: {known}")
        self.batch = GridWorldBatch(num_envs, max_episode_steps, **settings)
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self.metadata = {**self.metadata, "render_modes": list(known), "autoreset_mode": self.autoreset_mode}
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.single_observation_space = self.batch.single.observation_space
        self.single_action_space = self.batch.single.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._done = np.zeros(num_envs, dtype=bool)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start new episodes.

        Args:
            seed: One for each environment, or an integer for ``seed, seed + 1, ...``.
            options: As for ``GridWorldEnv.reset``, the same for all; ``"reset_mask"``, booleans ``[num_envs]``: only
                these start anew, with these options.

        Raises:
            TypeError: A seed that is not a whole number, or options that are not a dict.
            ValueError: As ``GridWorldEnv.reset``, a negative seed, or a seed list or mask of another length.
            ResetNeeded: ``"reset_mask"`` leaves out an environment that has not begun an episode.
        """
        seeds = environment_seeds(self.num_envs, seed)
        options = reset_options(options)
        everywhere = np.ones(self.num_envs, dtype=bool)
        mask = reset_mask(self.num_envs, options.pop("reset_mask", everywhere))
        if not mask.all():
            self.batch.require_started("reset", besides=mask)
        chosen = np.flatnonzero(mask).tolist()
        for i in chosen:
            if seeds[i] is not None:
                self.batch.seed(i, seeds[i])
        self.batch.reset(chosen, options)
        self._done[mask] = False
        return self.batch.observations(), {}

    def step(  # type: ignore[override]  # Gymnasium types flags as floats and returns booleans
        self, actions: NDArray[np.int64]
    ) -> tuple[Observations, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Move all agents; returns observations, rewards, terminations, truncations and infos, as Gymnasium says.

        Raises:
            TypeError: Actions that are not integers.
            ValueError: An action that is not 0, 1, 2 or 3, not one for each environment, or (``"Disabled"``) an
                episode that is over.
            ResetNeeded: There was no ``reset`` before.
        """
        if self.autoreset_mode == AutoresetMode.NEXT_STEP and self._done.any():
            return self._step_and_reset(actions)
        if self.autoreset_mode == AutoresetMode.DISABLED and self._done.any():
            raise ValueError(
                f"the episodes of environments {np.flatnonzero(self._done).tolist()} are over; reset them with "
                "options={'reset_mask': mask}"
            )
        success, truncated = self.batch.step(actions)
        rewards = success.astype(np.float64)
        self._done = success | truncated
        if self.autoreset_mode == AutoresetMode.SAME_STEP and self._done.any():
            return self._reset_now(rewards, success, truncated)
        everywhere = np.ones(self.num_envs, dtype=bool)
        infos = {"is_success": success.copy(), "_is_success": everywhere}
        return self.batch.observations(), rewards, success, truncated, infos

    def render(self) -> Any:
        """Return an RGB array ``[H, W, 3]`` for each environment, in a tuple or a list as ``render_mode`` says.

        Raises:
            ResetNeeded: There was no ``reset`` before.
        """
        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode: pass render_mode='rgb_array' to gymnasium.make_vec")
            return None
        self.batch.require_started("render")
        pictures = [draw_rgb(*self.batch.cells(i)) for i in range(self.num_envs)]
        return pictures if self.render_mode == "rgb_array_list" else tuple(pictures)

    @property  # type: ignore[misc]  # as SyncVectorEnv has it
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The random numbers of each environment."""
        return self.batch.generators()

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seed of each environment's random numbers."""
        return self.batch.seeds()

    def _step_and_reset(
        self, actions: NDArray[np.int64]
    ) -> tuple[Observations, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Step those whose episode goes on; the others begin a new one, and their action is not looked at."""
        fresh = self._done
        checked = self.batch.checked_actions(actions)
        success, truncated = self.batch.step(np.where(fresh, 0, checked), skip=fresh)
        self.batch.reset(np.flatnonzero(fresh).tolist())
        self._done = success | truncated
        infos: dict[str, Any] = {} if fresh.all() else {"is_success": success.copy(), "_is_success": ~fresh}
        return self.batch.observations(), success.astype(np.float64), success, truncated, infos

    def _reset_now(
        self, rewards: NDArray[np.float64], success: NDArray[np.bool_], truncated: NDArray[np.bool_]
    ) -> tuple[Observations, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Keep what the finished episodes ended with in ``infos`` and begin new ones."""
        done = self._done
        over = np.flatnonzero(done).tolist()
        last = self.batch.observations(over)
        final: NDArray[np.object_] = np.full(self.num_envs, None, dtype=object)
        for row, i in enumerate(over):
            final[i] = last[row]
        self.batch.reset(over)
        infos: dict[str, Any] = {
            "final_obs": final,
            "_final_obs": done.copy(),
            "final_info": {"is_success": success & done, "_is_success": done.copy()},
            "_final_info": done.copy(),
        }
        if not done.all():
            infos |= {"is_success": success & ~done, "_is_success": ~done}
        return self.batch.observations(), rewards, success, truncated, infos


def _autoreset_mode(mode: str | AutoresetMode) -> AutoresetMode:
    try:
        return AutoresetMode(mode)
    except ValueError as error:
        known = ", ".join(repr(each.value) for each in AutoresetMode)
        raise ValueError(f"autoreset_mode {mode!r} is unknown; known: {known}") from error
