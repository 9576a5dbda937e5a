"""Agents of a comparison: one world, one set of hyperparameters, and a method for each agent."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
from rl_zoo3.utils import get_class_by_name, get_wrapper_class
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.torch_layers import NatureCNN
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from equirl.agents.loading import ALGORITHMS
from equirl.agents.minigrid_views import is_minigrid, put_on_view
from equirl.agents.mirror_loss import MirrorLossCallback
from equirl.agents.monitoring import monitored
from equirl.agents.orbit_statistics import SymmetricVecNormalize
from equirl.agents.policies import POLICY_CLASSES
from equirl.agents.policy_choice import PLAIN, policy_for, policy_kwargs_of, symmetry_and_method
from equirl.agents.replay import SymmetryReplayBuffer
from equirl.agents.rollout import SymmetryMaskableRolloutBuffer, SymmetryRolloutBuffer
from equirl.agents.sb3_doors import with_schedules
from equirl.agents.self_play import SelfPlayCallback
from equirl.envs.making import make_as_registered
from equirl.methods import ALL_METHODS, METHODS, settings_of
from equirl.names import unknown_name_message

__all__ = ["AUGMENTATION", "COMPARED", "Comparison", "make_agent", "prepare_comparison"]

AUGMENTATION = "augmentation"
"""The plain policy, whose buffer hands out transformed transitions."""

MIRROR_LOSS = "mirror_loss"
"""The plain policy, with a loss that asks for the symmetry; see ``MirrorLossCallback``."""

COMPARED = (PLAIN, AUGMENTATION, MIRROR_LOSS, *ALL_METHODS)
"""What can be compared, by name."""

_OF_ZOO = ("policy", "n_timesteps", "monitor_kwargs", "callback", "env_wrapper", "n_envs", "normalize", "env_kwargs")
_OF_METHOD = ("replay_buffer_class", "replay_buffer_kwargs", "rollout_buffer_class", "rollout_buffer_kwargs")
_SYMMETRY_KEYS = ("symmetry", "method", "method_kwargs")


@dataclass(frozen=True)
class Comparison:
    """One world and one set of hyperparameters, which all methods share.

    Attributes:
        environment: Id of the environment; it is registered.
        symmetry: Name of the symmetry, or a symmetry file.
        algorithm: By rl_zoo3's name.
        settings: Arguments of the algorithm's class.
        n_envs: Environments of a training.
        wrappers: Wrappers in rl_zoo3's form, MiniGrid's view among them.
        normalize: Settings of ``VecNormalize``; ``None``: nothing is normalised.
        env_kwargs: Settings of the environment.
        method_kwargs: Settings of methods; each goes to the methods that take it.
        evaluation_kwargs: Settings of the environment in evaluations, over those, such as another opponent.
        self_play: In training the opponent is an earlier version of the agent, of which one more joins after so many
            environment steps (``SelfPlayCallback``). 0: the environment's own opponent, if it has one.
    """

    environment: str
    symmetry: str
    algorithm: str
    settings: Mapping[str, Any]
    n_envs: int = 1
    wrappers: Any = None
    normalize: Mapping[str, Any] | None = None
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    method_kwargs: Mapping[str, Any] = field(default_factory=dict)
    evaluation_kwargs: Mapping[str, Any] = field(default_factory=dict)
    self_play: int = 0

    def environments(self, n: int, seed: int, evaluation: bool = False) -> VecEnv:
        """Return ``n`` environments, for training or for evaluation.

        Raises:
            ValueError: The environment cannot be made.
        """
        settings = {**self.env_kwargs, **(self.evaluation_kwargs if evaluation else {})}
        wrap = monitored(get_wrapper_class({"env_wrapper": self.wrappers}) if self.wrappers else None)

        def make() -> gym.Env[Any, Any]:
            return make_as_registered(self.environment, **settings)

        return make_vec_env(make, n, seed=seed, wrapper_class=wrap)

    def normalized(self, environments: VecEnv, method: str, training: bool = True) -> VecEnv:
        """Return environments with their observations and rewards normalised, where the hyperparameters ask for it.

        The plain agent has SB3's statistics; whatever knows the symmetry has those of orbits, which keep it.

        Args:
            environments: The environments.
            method: One of ``COMPARED``.
            training: Whether statistics follow what is seen, and rewards are normalised.
        """
        if self.normalize is None:
            return environments
        settings = {"gamma": self.settings["gamma"]} if "gamma" in self.settings else {}
        settings |= dict(self.normalize) | ({} if training else {"training": False, "norm_reward": False})
        if method == PLAIN:
            return VecNormalize(environments, **settings)
        return SymmetricVecNormalize(environments, self.symmetry, **settings)

    def callbacks(self, method: str) -> list[BaseCallback]:
        """Return what happens besides policy and buffer while an agent of a method learns."""
        asked: list[BaseCallback] = [MirrorLossCallback(self.symmetry)] if method == MIRROR_LOSS else []
        return asked + ([SelfPlayCallback(self.self_play)] if self.self_play else [])

    def agent(self, method: str, seed: int, device: str = "auto") -> BaseAlgorithm:
        """Return an agent that has learned nothing yet.

        Args:
            method: One of ``COMPARED``.
            seed: Seed of the agent and of its environments.
            device: Torch device.

        Raises:
            ValueError: The symmetry does not fit the environment, or hyperparameters do not work.
        """
        environments = self.normalized(self.environments(self.n_envs, seed), method)
        # Schedules and the like are the agent's own.
        settings = copy.deepcopy(dict(self.settings))
        taken = settings_of(method) if method in ALL_METHODS else []
        agent: BaseAlgorithm = make_agent(
            self.algorithm,
            environments,
            settings,
            method=method,
            symmetry=self.symmetry,
            method_kwargs={key: value for key, value in self.method_kwargs.items() if key in taken},
            seed=seed,
            device=device,
        )
        return agent


def prepare_comparison(
    environment: str,
    symmetry: str,
    algorithm: str,
    hyperparams: Mapping[str, Any],
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    view_kwargs: Mapping[str, Any] | None = None,
    method_kwargs: Mapping[str, Any] | None = None,
    zoo_file: bool = False,
) -> Comparison:
    """Return what all methods share, from hyperparameters in rl_zoo3's form.

    The policy of the hyperparameters is replaced by the methods' own.

    Args:
        environment: Id of a registered environment.
        symmetry: Name of the symmetry, or a symmetry file.
        algorithm: By rl_zoo3's name.
        hyperparams: As a file of rl_zoo3 has them for the environment.
        env_kwargs: Settings of the environment; by default those of the hyperparameters.
        view_kwargs: Settings of MiniGrid's view; they win over those of the hyperparameters and of the symmetry.
        method_kwargs: Settings of methods; each goes to the methods that take it.
        zoo_file: Whether they come from rl_zoo3's own file, whose wrappers MiniGrid's view replaces.

    Raises:
        ValueError: Hyperparameters that methods cannot share, or a MiniGrid environment whose symmetry has no view.
    """
    shared = copy.deepcopy(dict(hyperparams))
    for key in ("frame_stack", "vec_env_wrapper", *_OF_METHOD):
        if shared.get(key):
            raise ValueError(f"{key} cannot be shared by all methods that are compared; leave it out")
    if is_minigrid(environment):
        put_on_view(shared, environment, symmetry, replace=zoo_file, view_kwargs=view_kwargs)
    elif view_kwargs:
        raise ValueError(f"settings of a view are for MiniGrid environments; {environment} is not one")
    policy = str(shared.get("policy", "MlpPolicy"))
    policy = policy.replace("Lstm", "") if algorithm == "ppo_lstm" else policy
    policy_kwargs = {key: value for key, value in policy_kwargs_of(shared).items() if key not in _SYMMETRY_KEYS}
    if policy == "CnnPolicy":
        policy_kwargs.setdefault("features_extractor_class", NatureCNN)
    elif policy not in ("MlpPolicy", "MultiInputPolicy") and symmetry_and_method(policy, {})["symmetry"] is None:
        raise ValueError(
            f"policy {policy} cannot be compared with others: give MlpPolicy, and its networks by policy_kwargs, such "
            "as policy_kwargs:dict(net_arch=[64])"
        )
    extractor = policy_kwargs.get("features_extractor_class")
    if isinstance(extractor, str):
        policy_kwargs["features_extractor_class"] = get_class_by_name(extractor)
    settings = {key: value for key, value in shared.items() if key not in _OF_ZOO}
    settings = with_schedules(settings) | {"policy_kwargs": policy_kwargs}
    if isinstance(settings.get("train_freq"), list):
        settings["train_freq"] = tuple(settings["train_freq"])
    normalize = shared.get("normalize")
    normalize = eval(normalize) if isinstance(normalize, str) else normalize  # as rl_zoo3 reads it
    return Comparison(
        environment,
        symmetry,
        algorithm,
        settings,
        n_envs=int(shared.get("n_envs", 1)),
        wrappers=shared.get("env_wrapper"),
        normalize=(normalize if isinstance(normalize, dict) else {}) if normalize else None,
        env_kwargs=dict(env_kwargs or shared.get("env_kwargs") or {}),
        method_kwargs=dict(method_kwargs or {}),
    )


def make_agent(
    algorithm: str,
    environment: Any,
    settings: Mapping[str, Any],
    *,
    method: str = PLAIN,
    symmetry: str | None = None,
    method_kwargs: Mapping[str, Any] | None = None,
    **more: Any,
) -> Any:
    """Return an agent that has learned nothing yet.

    Args:
        algorithm: By rl_zoo3's name.
        environment: Where it learns; one environment or a batch.
        settings: Arguments of the algorithm's class, and perhaps ``n_envs``, which is left out.
        method: One of ``COMPARED``.
        symmetry: Name of the symmetry, where the agent is not plain.
        method_kwargs: The method's own settings.
        **more: Further arguments of the algorithm's class.

    Raises:
        ValueError: An unknown method; or what the algorithm, the buffer or the policy refuses.
    """
    if method not in COMPARED:
        raise ValueError(unknown_name_message("method", method, COMPARED))
    arguments = {key: value for key, value in settings.items() if key != "n_envs"}
    policy: Any = policy_for(getattr(environment, "observation_space", None), algorithm)
    if method in (AUGMENTATION, MIRROR_LOSS) and algorithm == "ppo_lstm":
        raise ValueError(
            f"RecurrentPPO keeps the LSTM's states of an episode, and {method} looks at single observations: compare "
            f"other methods ({', '.join((PLAIN, *METHODS))})"
        )
    if method == AUGMENTATION:
        replay = issubclass(ALGORITHMS[algorithm], OffPolicyAlgorithm)
        rollout = SymmetryMaskableRolloutBuffer if algorithm == "ppo_mask" else SymmetryRolloutBuffer
        kind, buffer = ("replay", SymmetryReplayBuffer) if replay else ("rollout", rollout)
        of_buffer: dict[str, Any] = {"symmetry": symmetry}
        if replay and (n_steps := arguments.pop("n_steps", 1)) != 1:  # SB3 would leave it out with another buffer
            of_buffer |= {"n_steps": n_steps, "gamma": arguments.get("gamma", 0.99)}
        arguments |= {f"{kind}_buffer_class": buffer, f"{kind}_buffer_kwargs": of_buffer}
    elif method in ALL_METHODS:
        policy = POLICY_CLASSES[algorithm]
        own = {"symmetry": symmetry, "method": method, "method_kwargs": dict(method_kwargs or {})}
        arguments["policy_kwargs"] = (arguments.get("policy_kwargs") or {}) | own
    agent_class: Any = ALGORITHMS[algorithm]
    return agent_class(policy, environment, **arguments, **more)
