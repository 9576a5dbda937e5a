"""The vectorised GridWorld for Stable-Baselines3: a whole batch stepped at once, not one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecMonitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from equirl.envs.drawing import draw_rgb
from equirl.envs.gridworld_batch import GridWorldBatch

__all__ = ["GridWorldVecEnv", "make_vectorized_env"]


class _SharedInfo(dict[str, Any]):
    """An info that many environments share, so that nobody may change it; its ``copy()`` is a plain dict."""

    def __setitem__(self, key: str, value: Any) -> None:
        raise TypeError(f"this info is shared by all environments whose episode goes on; copy() it to set {key!r}")


_GOES_ON = _SharedInfo({"is_success": False, "TimeLimit.truncated": False})


class GridWorldVecEnv(VecEnv):
    """``n_envs`` GridWorlds as an SB3 ``VecEnv``: what ``DummyVecEnv`` of single ones gives, many times faster.

    All environments whose episode goes on share one info, which cannot be written to; the infos of finished episodes
    are their own.

    Args:
        n_envs: How many.
        render_mode: ``None`` or ``"rgb_array"``.
        **settings: As for ``GridWorldEnv``.

    Raises:
        ValueError: As ``GridWorldEnv``, or fewer than one environment.
    """

    def __init__(self, n_envs: int, render_mode: str | None = None, **settings: Any) -> None:
        if n_envs < 1:
            raise ValueError(f"n_envs must be at least 1, not {n_envs}")
        self.batch = GridWorldBatch(n_envs, **settings)
        self.render_mode = render_mode
        self._actions: NDArray[Any] = np.zeros(n_envs, dtype=np.int64)
        super().__init__(n_envs, self.batch.single.observation_space, self.batch.single.action_space)

    def reset(self) -> VecEnvObs:
        """Start all episodes anew, with the seeds and options that ``seed`` and ``set_options`` left."""
        for i, seed in enumerate(self._seeds):
            if seed is not None:
                self.batch.seed(i, seed)
            self.batch.reset([i], self._options[i])
        self._reset_seeds()
        self._reset_options()
        return self.batch.observations()

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take the actions of the next step."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step, and return observations, rewards, dones and infos, as SB3 says."""
        success, truncated = self.batch.step(self._actions)
        dones = success | truncated
        infos: list[dict[str, Any]] = [_GOES_ON] * self.num_envs  # new ones take a quarter of the step
        over = dones.nonzero()[0].tolist()
        if over:
            last = self.batch.observations(over)
            for row, i in enumerate(over):
                infos[i] = {
                    "is_success": success.item(i),
                    "TimeLimit.truncated": truncated.item(i),
                    "terminal_observation": last[row],
                }
            self.batch.reset(over)
        return self.batch.observations(), success.astype(np.float32), dones, infos

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Return an RGB array for each environment."""
        return [draw_rgb(*self.batch.cells(i)) for i in range(self.num_envs)]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of a single environment (all have the same settings), once for each asked for."""
        owner = self if attr_name == "render_mode" else self.batch.single
        return [getattr(owner, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Refuse: the settings of a batch are fixed.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            f"the environments of a batch share their settings; make another one with {attr_name}={value!r}"
        )

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Refuse: there are no single environments to call.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            f"a batch has no single environments to call {method_name!r} on; use SB3's DummyVecEnv for that"
        )

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Return ``False`` for each environment: wrappers act on single ones."""
        return [False for _ in self._get_indices(indices)]


def make_vectorized_env(
    environment_id: str = "equirl/GridWorld-v0",
    n_envs: int = 64,
    seed: int | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    monitor: bool = True,
    info_keywords: tuple[str, ...] = ("is_success",),
) -> VecEnv:
    """Return many environments stepped as one batch, for SB3; SB3's ``make_vec_env`` steps them one by one.

    Args:
        environment_id: ``"equirl/GridWorld-v0"``, the one that has a vectorised form.
        n_envs: How many.
        seed: Environment ``i`` gets ``seed + i``, as with ``make_vec_env``.
        env_kwargs: Settings of the environment.
        monitor: Whether episodes' returns and lengths are noted (SB3's ``VecMonitor``).
        info_keywords: Entries of the last info of an episode that the monitor notes too.

    Raises:
        ValueError: The environment has no vectorised form.
    """
    if environment_id != "equirl/GridWorld-v0":
        raise ValueError(
            f"{environment_id} has no vectorised form for SB3; use stable_baselines3.common.env_util.make_vec_env. "
            "equirl/GridWorld-v0 has one"
        )
    environments: VecEnv = GridWorldVecEnv(n_envs, **(env_kwargs or {}))
    environments.seed(seed)
    return VecMonitor(environments, info_keywords=info_keywords) if monitor else environments
