"""Gymnasium's vector environments for Stable-Baselines3: a whole batch stepped at once, not one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecMonitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

__all__ = ["GymnasiumVecEnv", "make_vectorized_env"]


class GymnasiumVecEnv(VecEnv):
    """A Gymnasium ``VectorEnv`` as an SB3 ``VecEnv``: the same returns as ``DummyVecEnv`` gives for single ones.

    Args:
        vector_env: In the autoreset mode ``SAME_STEP``, which is how SB3's environments work; array observations.

    Raises:
        TypeError: Observations that are not arrays.
        ValueError: Another autoreset mode.
    """

    def __init__(self, vector_env: VectorEnv[Any, Any, Any]) -> None:
        mode = vector_env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(
                f"Stable-Baselines3 resets in the step that ends an episode; this environment's autoreset mode is "
                f"{getattr(mode, 'value', mode)}. Make it with autoreset_mode='SameStep'"
            )
        if isinstance(vector_env.single_observation_space, spaces.Dict | spaces.Tuple):
            raise TypeError("observations must be arrays; for Dict observations use SB3's DummyVecEnv")
        self.vector_env = vector_env
        self._actions: NDArray[Any] = np.zeros(0)
        super().__init__(vector_env.num_envs, vector_env.single_observation_space, vector_env.single_action_space)
        self.metadata = vector_env.metadata

    def reset(self) -> VecEnvObs:
        """Start all episodes anew, with the seeds and options that ``seed`` and ``set_options`` left."""
        seeds = self._seeds if any(seed is not None for seed in self._seeds) else None
        options: Any = next((chosen for chosen in self._options if chosen), None)
        observations, _ = self.vector_env.reset(seed=seeds, options=options)
        self._reset_seeds()
        self._reset_options()
        return observations  # type: ignore[no-any-return]

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take the actions of the next step."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step, and return observations, rewards, dones and infos, as SB3 says."""
        observations, rewards, terminated, truncated, infos = self.vector_env.step(self._actions)
        dones = terminated | truncated
        per_env: list[dict[str, Any]] = [{"TimeLimit.truncated": cut} for cut in truncated.tolist()]
        for name, values, present in _merged(infos, infos.get("final_info", {})):
            if present is None:
                for info, value in zip(per_env, values.tolist(), strict=True):
                    info[name] = value
            else:
                for i in np.flatnonzero(present).tolist():
                    per_env[i][name] = values[i : i + 1].tolist()[0]
        if "final_obs" in infos:
            last = infos["final_obs"]
            for i in np.flatnonzero(dones).tolist():
                per_env[i]["terminal_observation"] = last[i]
                self.reset_infos[i] = {}
        return observations, rewards.astype(np.float32), dones, per_env

    def close(self) -> None:
        """Close the environments."""
        self.vector_env.close()

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Return an RGB array for each environment."""
        images: Any = self.vector_env.render()
        return [None] * self.num_envs if images is None else list(images)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of the vector environment, once for each environment asked for."""
        return [getattr(self.vector_env, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the vector environment, for all environments.

        Raises:
            ValueError: Only some environments are asked for.
        """
        if indices is not None:
            raise ValueError("the environments of a batch share their attributes; set them for all (indices=None)")
        setattr(self.vector_env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> Any:
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
        """Return ``False`` for each environment: wrappers act on single environments."""
        return [False for _ in self._get_indices(indices)]


def make_vectorized_env(
    environment_id: str,
    n_envs: int,
    seed: int | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    monitor: bool = True,
    info_keywords: tuple[str, ...] = (),
) -> VecEnv:
    """Return ``n_envs`` environments stepped as one batch, for SB3; SB3's ``make_vec_env`` steps them one by one.

    Args:
        environment_id: One with a ``vector_entry_point``, such as ``"equirl/GridWorld-v0"``.
        n_envs: How many.
        seed: Environment ``i`` gets ``seed + i``, as with ``make_vec_env``.
        env_kwargs: Settings of the environment.
        monitor: Whether episodes' returns and lengths are noted (SB3's ``VecMonitor``).
        info_keywords: Entries of the last info of an episode that the monitor notes too.

    Raises:
        ValueError: The environment has no vectorised form.
    """
    if gym.spec(environment_id).vector_entry_point is None:
        raise ValueError(
            f"{environment_id} has no vectorised form; use stable_baselines3.common.env_util.make_vec_env. "
            "equirl/GridWorld-v0 has one"
        )
    vector_env = gym.make_vec(
        environment_id,
        num_envs=n_envs,
        vectorization_mode="vector_entry_point",
        autoreset_mode=AutoresetMode.SAME_STEP,
        **(env_kwargs or {}),
    )
    environments: VecEnv = GymnasiumVecEnv(vector_env)
    environments.seed(seed)
    return VecMonitor(environments, info_keywords=info_keywords) if monitor else environments


def _merged(
    infos: Mapping[str, Any], final: Mapping[str, Any]
) -> list[tuple[str, NDArray[Any], NDArray[np.bool_] | None]]:
    """Return name, values and presence (``None``: everywhere) of each entry, episodes' last infos filled in."""
    columns = []
    for name in {**infos, **final}:
        if name.startswith("_") or name in ("final_info", "final_obs"):
            continue
        values, present = infos.get(name), infos.get(f"_{name}")
        if name in final:
            last = final[f"_{name}"]
            values = final[name] if values is None else np.where(last, final[name], values)
            present = last if present is None else present | last
        columns.append((name, np.asarray(values), None if present is None or present.all() else present))
    return columns
