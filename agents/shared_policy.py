"""One policy for all robots of a swarm, for any algorithm of Stable-Baselines3: exact under S_n x O(2)."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from equirl.agents.vector_env import SeededVecEnv
from equirl.arguments import whole_number
from equirl.envs.forces import float_array
from equirl.envs.swarm import SwarmEnv
from equirl.envs.swarm_views import forces_in_world, robot_views

__all__ = ["RobotsVecEnv", "SharedPolicy"]


class RobotsVecEnv(SeededVecEnv):
    """The robots of swarms as the environments of an SB3 ``VecEnv``: each sees its own view and has its own reward.

    ``SAC("MlpPolicy", RobotsVecEnv(n_swarms=4)).learn(20_000)`` trains one policy for all; ``SharedPolicy`` then acts
    for a whole swarm, of another size, too. An episode of a swarm ends for all its robots at once; its seed and its
    options are those of its first robot.

    Args:
        n_swarms: How many swarms; there are ``n_swarms * n_robots`` environments, swarm by swarm.
        neighbours: How many others each robot sees.
        **settings: As for ``SwarmEnv``.

    Raises:
        TypeError: A number that is not whole.
        ValueError: As for ``SwarmEnv``, no swarm, or not so many others.
    """

    def __init__(self, n_swarms: int = 1, neighbours: int = 2, **settings: Any) -> None:
        self.swarms = [SwarmEnv(**settings) for _ in range(whole_number(n_swarms, "n_swarms", 1))]
        self.neighbours = neighbours
        self.n_robots = self.swarms[0].n_robots
        space = self.swarms[0].observation_space
        views, _ = robot_views(np.zeros(space.shape or ()), neighbours)
        bound = np.full(views.shape[2], np.inf, dtype=np.float32)
        self._frames: NDArray[np.float64] = np.zeros(0)
        self._actions: NDArray[Any] | None = None
        one = spaces.Box(-bound, bound, dtype=np.float32), spaces.Box(-1.0, 1.0, (2,), np.float32)
        super().__init__(len(self.swarms) * self.n_robots, *one)
        self.render_mode = None

    def reset(self) -> VecEnvObs:
        """Start all swarms anew, each with the seed and the options of its first robot.

        Raises:
            ValueError: Options that ``SwarmEnv.reset`` refuses, or that differ among the robots of a swarm.
        """
        self._actions = None
        for first in range(0, self.num_envs, self.n_robots):
            of_swarm = self._options[first : first + self.n_robots]
            if any(one is not of_swarm[0] and repr(one) != repr(of_swarm[0]) for one in of_swarm):
                raise ValueError(
                    f"robots {first} to {first + self.n_robots - 1} are one swarm: give all the same options"
                )
        firsts = range(0, self.num_envs, self.n_robots)
        chosen = [(self._seeds[i], self._options[i] or None) for i in firsts]
        seen = [swarm.reset(seed=s, options=o)[0] for swarm, (s, o) in zip(self.swarms, chosen, strict=True)]
        self._reset_seeds()
        self._reset_options()
        return self._seen(np.stack(seen))

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take the forces of the next step, ``[num_envs, 2]``, each in its robot's frame.

        Raises:
            TypeError: The actions are no numbers.
            ValueError: There is not one for each robot, or one is not finite.
        """
        wanted = f"{self.num_envs} robots take actions [{self.num_envs}, 2]"
        given = float_array(actions, wanted)
        if given.shape != (self.num_envs, 2):
            raise ValueError(f"{wanted}; got the shape {list(given.shape)}")
        wrong = np.flatnonzero(~np.isfinite(given).all(axis=1))
        if len(wrong):
            raise ValueError(f"{wanted}, finite numbers; that of robot {wrong[0]} is {given[wrong[0]].tolist()}")
        self._actions = given.copy()

    def step_wait(self) -> VecEnvStepReturn:
        """Step, and return observations, rewards, dones and infos, as SB3 says.

        Raises:
            RuntimeError: No actions were given since the last step.
            gymnasium.error.ResetNeeded: There was no ``reset`` before.
        """
        if self._actions is None:
            raise RuntimeError("step_wait() without actions; call step_async(actions) first, or step(actions) for both")
        if not self._frames.size:
            raise gym.error.ResetNeeded("step() before the first reset(): there are no robots yet. Call reset() first")
        actions, self._actions = self._actions.reshape(len(self.swarms), self.n_robots, 2), None
        seen, rewards, dones, infos = [], [], [], []
        for swarm, forces in zip(self.swarms, forces_in_world(actions, self._frames), strict=True):
            observation, _, success, truncated, info = swarm.step(forces)
            about: list[dict[str, Any]] = [
                {"is_success": success, "TimeLimit.truncated": truncated} for _ in range(self.n_robots)
            ]
            if success or truncated:
                last, _ = robot_views(observation, self.neighbours)
                for row, view in zip(about, last[0], strict=True):
                    row["terminal_observation"] = view
                observation, _ = swarm.reset()
            seen.append(observation)
            rewards.append(info["rewards"])
            dones += [success or truncated] * self.n_robots
            infos += about
        return self._seen(np.stack(seen)), np.concatenate(rewards).astype(np.float32), np.array(dones), infos

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of the swarm that each robot belongs to.

        Raises:
            AttributeError: ``SwarmEnv`` has no such attribute.
        """
        return [getattr(self._swarm(i), attr_name) for i in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the swarm that each robot belongs to."""
        for i in self._get_indices(indices):
            setattr(self._swarm(i), attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Call a method of the swarms that the robots belong to, once for each swarm; all its robots have its answer.

        Raises:
            AttributeError: ``SwarmEnv`` has no such method.
            ValueError: ``reset`` or ``step``, which this environment has to see.
        """
        if method_name in ("reset", "step"):
            raise ValueError(f"call {method_name}() of the whole RobotsVecEnv: it keeps the frames of all robots")
        chosen = [self._swarm(i) for i in self._get_indices(indices)]
        answers = {id(swarm): getattr(swarm, method_name)(*args, **kwargs) for swarm in dict.fromkeys(chosen)}
        return [answers[id(swarm)] for swarm in chosen]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Return ``False`` for each robot: nothing is wrapped."""
        return [False for _ in self._get_indices(indices)]

    def _swarm(self, robot: int) -> SwarmEnv:
        return self.swarms[range(self.num_envs)[robot] // self.n_robots]

    def _seen(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        views, self._frames = robot_views(observations, self.neighbours)
        return views.reshape(self.num_envs, -1)


class SharedPolicy:
    """A policy for whole swarms of more than ``neighbours`` robots, out of an agent trained in ``RobotsVecEnv``.

    ``pi(s)_i = f_i(s)^-1 agent(f_i(s) s)``: robot ``i`` acts as the agent would in its place. If the swarm is turned or
    mirrored, or robots change places, the forces do the same. It has SB3's ``predict``, so that
    ``evaluate_policy(SharedPolicy(model), SwarmEnv(n_robots=5))`` runs.

    Args:
        agent: The agent.
        neighbours: How many others each robot sees; as in training.
        normalization: The ``VecNormalize`` around its environments in training; by default that which the agent has.
            An agent out of a file has none.

    Raises:
        TypeError: No agent of SB3, or a number that is not whole.
        ValueError: The agent was trained on other views.
    """

    def __init__(self, agent: BaseAlgorithm, neighbours: int = 2, normalization: VecNormalize | None = None) -> None:
        if not isinstance(agent, BaseAlgorithm):
            raise TypeError(f"agent is a trained agent of Stable-Baselines3; got {agent!r}")
        self.agent = agent
        self.normalization = normalization or agent.get_vec_normalize_env()
        self.neighbours = whole_number(neighbours, "neighbours", 0)
        shapes = self.agent.observation_space.shape, self.agent.action_space.shape
        if shapes != ((4 + 4 * self.neighbours,), (2,)):
            raise ValueError(
                f"with neighbours={neighbours} a robot sees {4 + 4 * self.neighbours} numbers and answers 2; this "
                f"agent takes {shapes[0]} and answers {shapes[1]}. Train it in RobotsVecEnv(neighbours={neighbours}), "
                "without stacked frames"
            )

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.float32], Any]:
        """Return the forces for a swarm ``[4 n]`` or for many ``[B, 4 n]``, and ``state`` as it was given.

        Turned forces may leave the box of the actions; ``SwarmEnv`` takes them, and to clip them would not be exact.

        Args:
            observation: As ``SwarmEnv`` returns it.
            state: Not used.
            episode_start: Not used.
            deterministic: Whether the agent acts without noise.

        Raises:
            ValueError: An observation of another shape, or of too few robots.
        """
        views, frames = robot_views(observation, self.neighbours)
        seen: Any = views.reshape(-1, views.shape[2])
        if self.normalization is not None:
            seen = self.normalization.normalize_obs(seen)
        forces, _ = self.agent.predict(seen, deterministic=deterministic)
        acted = forces_in_world(forces.reshape(*views.shape[:2], 2), frames).astype(np.float32)
        return (acted[0] if np.ndim(observation) == 1 else acted), state
