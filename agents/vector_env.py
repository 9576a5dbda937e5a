"""The vectorised GridWorld for Stable-Baselines3: a whole batch stepped at once, not one after another."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecMonitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from equirl.arguments import whole_number
from equirl.envs.batch_arguments import environment_seeds, reset_options
from equirl.envs.drawing import draw_rgb
from equirl.envs.gridworld_batch import GridWorldBatch

__all__ = ["GridWorldVecEnv", "SeededVecEnv", "make_vectorized_env"]


_ID = "equirl/GridWorld-v0"
_INFO_KEYS = ("is_success", "TimeLimit.truncated")


class _SharedInfo(dict[str, Any]):
    """An info that many environments share, so that nobody may change it; copies and pickles of it are plain dicts."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("this info is shared by all environments whose episode goes on; copy() it to change it")

    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = _refuse
    __ior__ = _refuse

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (dict(self),)


_GOES_ON = _SharedInfo({"is_success": False, "TimeLimit.truncated": False})


class SeededVecEnv(VecEnv):
    """An SB3 ``VecEnv`` that checks its seeds."""

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Keep the seeds ``seed, seed + 1, ...`` for the next reset, and return them.

        Raises:
            TypeError: ``seed`` is not a whole number.
            ValueError: It is negative.
        """
        if seed is None:
            return super().seed(None)
        self._seeds = environment_seeds(self.num_envs, seed)
        return self._seeds


class GridWorldVecEnv(SeededVecEnv):
    """``n_envs`` GridWorlds as an SB3 ``VecEnv``: what ``DummyVecEnv`` of single ones gives, many times faster.

    All environments whose episode goes on share one info, which cannot be written to; the infos of finished episodes
    are their own.

    Args:
        n_envs: Number of environments.
        render_mode: ``None`` or ``"rgb_array"``.
        **settings: As for ``GridWorldEnv``; ``max_episode_steps``, as ``gymnasium.make`` takes it.

    Raises:
        TypeError: A number that is not whole.
        ValueError: As ``GridWorldEnv``, fewer than one environment, or an unknown ``render_mode``.
    """

    def __init__(self, n_envs: int, render_mode: str | None = None, **settings: Any) -> None:
        n_envs = whole_number(n_envs, "n_envs", 1)
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode {render_mode!r} is unknown; known for many environments: 'rgb_array'")
        self.batch = GridWorldBatch(n_envs, **settings)
        self.batch.single.spec = _spec({**settings, "render_mode": render_mode})
        self.render_mode = render_mode
        self._actions: NDArray[Any] | None = None
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
        """Take the actions of the next step; the array may be reused afterwards.

        Raises:
            TypeError: Actions that are not integers.
            ValueError: There is not one for each environment.
        """
        self._actions = self.batch.checked_actions(actions).copy()

    def step_wait(self) -> VecEnvStepReturn:
        """Step, and return observations, rewards, dones and infos, as SB3 says.

        Raises:
            RuntimeError: No actions were given since the last step.
            ValueError: An action is not 0, 1, 2 or 3.
            gymnasium.error.ResetNeeded: There was no ``reset`` before.
        """
        if self._actions is None:
            raise RuntimeError("step_wait() without actions; call step_async(actions) first, or step(actions) for both")
        actions, self._actions = self._actions, None
        success, truncated = self.batch.step(actions)
        dones = success | truncated
        infos: list[dict[str, Any]] = [_GOES_ON] * self.num_envs  # new ones take a quarter of the step
        over = dones.nonzero()[0].tolist()
        if over:
            last = self.batch.observations(over)
            for row, i in enumerate(over):
                infos[i] = {
                    "is_success": success.item(i),
                    "TimeLimit.truncated": truncated.item(i) and not success.item(i),
                    "terminal_observation": last[row],
                }
            self.batch.reset(over)
        return self.batch.observations(), success.astype(np.float32), dones, infos

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def set_options(self, options: list[dict[str, Any]] | dict[str, Any] | None = None) -> None:
        """Keep the options of ``GridWorldEnv.reset`` for the next reset: one dict for all, or a list, one for each.

        Raises:
            TypeError: Options that are not dicts.
            ValueError: A list of another length.
        """
        if isinstance(options, list | tuple):
            if len(options) != self.num_envs:
                raise ValueError(
                    f"{len(options)} options do not fit {self.num_envs} environments; give one dict for each, or one "
                    "for all"
                )
            self._options = [copy.deepcopy(reset_options(each)) for each in options]
        else:
            self._options = [copy.deepcopy(reset_options(options)) for _ in range(self.num_envs)]

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Return an RGB array for each environment.

        Raises:
            gymnasium.error.ResetNeeded: There was no ``reset`` before.
        """
        self.batch.require_started("render")
        return [draw_rgb(*self.batch.cells(i)) for i in range(self.num_envs)]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of each environment: its own state and random numbers, or the settings that all share.

        Raises:
            AttributeError: GridWorld has no such attribute.
            IndexError: There is no such environment.
        """
        chosen = self._get_indices(indices)
        if attr_name in ("agent", "goal", "walls"):
            part = ("agent", "goal", "walls").index(attr_name)
            return [copy.copy(self.batch.cells(i)[part]) for i in chosen]
        if attr_name in ("np_random", "np_random_seed"):
            each = self.batch.generators() if attr_name == "np_random" else self.batch.seeds()
            return [each[i] for i in chosen]
        owner = self if attr_name == "render_mode" else self.batch.single
        return [getattr(owner, attr_name) for _ in chosen]

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

    def _get_indices(self, indices: VecEnvIndices) -> list[int]:
        chosen = list(super()._get_indices(indices))
        for i in chosen:
            if not -self.num_envs <= i < self.num_envs:
                raise IndexError(f"there is no environment {i}; they are 0 to {self.num_envs - 1}")
        return chosen


class _CopyableMonitor(VecMonitor):
    """SB3's monitor, which can be copied and pickled with what it watches; SB3's own keeps a ``mappingproxy``."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "class_attributes"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.class_attributes = dict(inspect.getmembers(type(self)))


def has_vectorized_form(environment_id: str) -> bool:
    """Return whether ``make_vectorized_env`` knows an environment."""
    return environment_id == _ID


def make_vectorized_env(
    environment_id: str = _ID,
    n_envs: int = 64,
    seed: int | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    monitor: bool = True,
    info_keywords: Sequence[str] = ("is_success",),
) -> VecEnv:
    """Return many environments stepped as one batch, for SB3; SB3's ``make_vec_env`` steps them one by one.

    Args:
        environment_id: ``"equirl/GridWorld-v0"``, the one that has a vectorised form.
        n_envs: Number of environments.
        seed: Environment ``i`` gets ``seed + i``, as with ``make_vec_env``.
        env_kwargs: Settings of the environment.
        monitor: Whether to record each episode's return and length (with SB3's ``VecMonitor``).
        info_keywords: Entries of an episode's last info that the monitor records, too.

    Raises:
        TypeError: A number that is not whole, settings that are not a mapping, or ``info_keywords`` as one string.
        ValueError: The environment has no vectorised form, a setting is out of its range, or an unknown entry of the
            infos.
    """
    if not has_vectorized_form(environment_id):
        raise ValueError(
            f"{environment_id} has no vectorised form for SB3; use stable_baselines3.common.env_util.make_vec_env. "
            f"{_ID} has one"
        )
    if env_kwargs is not None and not isinstance(env_kwargs, Mapping):
        raise TypeError(f"env_kwargs must be a dict of settings, such as {{'size': 5}}; got {env_kwargs!r}")
    if isinstance(info_keywords, str):
        raise TypeError(f"info_keywords must be a tuple of names, such as ({info_keywords!r},); got a single string")
    if monitor and (unknown := [key for key in info_keywords if key not in _INFO_KEYS]):
        raise ValueError(f"GridWorld's infos have no {unknown}; info_keywords may hold {list(_INFO_KEYS)}")
    environments: VecEnv = GridWorldVecEnv(n_envs, **(env_kwargs or {}))
    environments.seed(seed)
    return _CopyableMonitor(environments, info_keywords=tuple(info_keywords)) if monitor else environments


def _spec(settings: dict[str, Any]) -> EnvSpec:
    """Return a spec that ``gymnasium.make`` takes to make a single environment of the same settings."""
    spec = copy.deepcopy(gym.spec(_ID))
    if "max_episode_steps" in settings:
        spec.max_episode_steps = settings["max_episode_steps"]
    spec.kwargs = {name: value for name, value in settings.items() if name != "max_episode_steps"}
    return spec
