"""Doors into Stable-Baselines3 and rl_zoo3 that they do not open themselves: all that leans on their inside is here."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, TypeVar, cast

import numpy as np
import torch
from sb3_contrib import TQC, CrossQ
from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import recursive_getattr, recursive_setattr
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import check_for_correct_spaces
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize
from torch import nn

from equirl.agents.absent_buffer import buffer_without_environment
from equirl.files import written_whole
from equirl.symmetry import MDPSymmetry, comes_with_equirl

__all__ = [
    "as_vec_env",
    "begin_episodes_anew",
    "build_policy",
    "built_agent",
    "calling_algorithm",
    "carry_symmetry",
    "constructor_parameters",
    "copied_without_policy",
    "copy_variables",
    "follow_normalization",
    "forget_last_observation",
    "give_parameters",
    "last_observation",
    "made_managers",
    "masked_evaluation",
    "may_have_seen_normalization",
    "recurrent_states",
    "saved_parts",
    "saved_whole",
    "set_recurrent_states",
    "weights_held",
    "with_schedules",
]

Agent = TypeVar("Agent", bound=BaseAlgorithm)

_OFF_POLICY_TRAINING = frozenset(cast(FunctionType, each.train).__code__ for each in (SAC, TD3, TQC, CrossQ))

_FRAMES = 12  # from a policy's constructor to its algorithm there are at most so many calls


def calling_algorithm(frames: int = _FRAMES) -> BaseAlgorithm | None:
    """Return the algorithm that is making, or calling, the policy that asks; ``None`` if there is none.

    SB3 hands its policies the spaces alone. What stands between environment and policy (``VecNormalize``) is known to
    the algorithm only, which is the caller.

    Args:
        frames: How many calls to look back.
    """
    frame = sys._getframe(1)
    for _ in range(frames):
        if frame.f_back is None:
            return None
        frame = frame.f_back
        owner = frame.f_locals.get("self")
        if isinstance(owner, BaseAlgorithm):
            return owner
    return None


@contextmanager
def weights_held(network: nn.Module, actions: torch.Tensor) -> Iterator[None]:
    """Skip the gradient of the critics' weights in a block, if an algorithm computes its actor's loss there.

    The actor learns from how the critics' values change with its actions. SAC, TD3, TQC and CrossQ compute the gradient
    of the critics' weights along with it, and set it to zero before they use it. So it can be left out. Anywhere else
    the block changes nothing.

    Args:
        network: The critics.
        actions: What they judge.
    """
    held: list[nn.Parameter] = []
    if actions.requires_grad and torch.is_grad_enabled() and _called_by(_OFF_POLICY_TRAINING):
        held = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)


def _called_by(functions: frozenset[CodeType]) -> bool:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code in functions:
            return True
        frame = frame.f_back
    return False


def carry_symmetry(symmetry: MDPSymmetry, *settings: str) -> None:
    """Let the calling algorithm hold a symmetry itself where its settings name it and other processes may not know it.

    So a saved agent opens in a process that has not registered the name, and without the symmetry file.

    Args:
        symmetry: The symmetry that the name stands for.
        *settings: The algorithm's attributes that may name it, such as ``"policy_kwargs"``.
    """
    algorithm: Any = calling_algorithm()
    for attribute in settings:
        given = getattr(algorithm, attribute, None) or {}
        name = given.get("symmetry")
        if isinstance(name, str) and not comes_with_equirl(name):
            setattr(algorithm, attribute, {**given, "symmetry": symmetry})


def as_vec_env(agent_class: type[BaseAlgorithm], env: GymEnv, monitored: bool = True) -> VecEnv:
    """Return an environment as SB3's algorithms take it: vectorized, and with images channels first.

    Args:
        agent_class: The algorithm.
        env: The environment.
        monitored: Whether a ``Monitor`` is put around it, if it has none.
    """
    return agent_class._wrap_env(env, monitor_wrapper=monitored)


def last_observation(model: BaseAlgorithm) -> Any:
    """Return what the agent saw before the step that a callback is told of."""
    return model._last_obs


def forget_last_observation(model: BaseAlgorithm) -> None:
    """Let an agent reset its environment before it trains on, because somebody else has stepped it."""
    model._last_obs = None


def begin_episodes_anew(model: BaseAlgorithm) -> None:
    """Reset an agent's environments in the middle of its training."""
    environments: Any = model.get_env()
    model._last_obs = environments.reset()
    model._last_episode_starts = np.ones(environments.num_envs, dtype=bool)
    normalization = model.get_vec_normalize_env()
    if normalization is not None:
        model._last_original_obs = normalization.get_original_obs()


def follow_normalization(model: BaseAlgorithm) -> None:
    """Let an agent know the ``VecNormalize`` that its environments now have."""
    model._vec_normalize_env = unwrap_vec_normalize(model.get_env())  # type: ignore[arg-type]


def recurrent_states(model: BaseAlgorithm) -> Any:
    """Return the states that RecurrentPPO carries from one rollout into the next; ``None`` for other agents."""
    return getattr(model, "_last_lstm_states", None)


def set_recurrent_states(model: BaseAlgorithm, states: Any) -> None:
    """Set what ``recurrent_states`` returns, unless it is ``None``."""
    if states is not None:
        model._last_lstm_states = states  # type: ignore[attr-defined]


@contextmanager
def saved_whole() -> Iterator[None]:
    """Let SB3 write the files of agents of replay buffers and of statistics whole or not at all, inside."""
    agents: Any = sys.modules[BaseAlgorithm.__module__]
    buffers: Any = sys.modules[OffPolicyAlgorithm.__module__]
    statistics: Any = VecNormalize
    to_zip, to_pickle, to_file = agents.save_to_zip_file, buffers.save_to_pkl, statistics.save

    def zipped(save_path: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(save_path, str | Path):
            path = Path(save_path)
            with written_whole(path if path.suffix == ".zip" else path.with_name(f"{path.name}.zip")) as whole:
                to_zip(whole, *args, **kwargs)
        else:
            to_zip(save_path, *args, **kwargs)

    def pickled(path: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(path, str | Path):
            with written_whole(path) as whole:
                to_pickle(whole, *args, **kwargs)
        else:
            to_pickle(path, *args, **kwargs)

    def saved(normalization: VecNormalize, save_path: str) -> None:
        with written_whole(save_path) as whole:
            to_file(normalization, str(whole))

    agents.save_to_zip_file, buffers.save_to_pkl, statistics.save = zipped, pickled, saved
    try:
        yield
    finally:
        agents.save_to_zip_file, buffers.save_to_pkl, statistics.save = to_zip, to_pickle, to_file


def masked_evaluation(callback: BaseCallback) -> BaseCallback:
    """Return a callback that evaluates an agent as an ``EvalCallback`` does, with masks; others stay as they are."""
    if type(callback) is not EvalCallback:
        return callback
    masked = MaskableEvalCallback(callback.eval_env)
    vars(masked).update(vars(callback))
    return masked


def may_have_seen_normalization(model: BaseAlgorithm) -> bool:
    """Return whether an agent shows signs of a ``VecNormalize``, be it of rewards alone.

    Saved agents do not say so. On-policy ones have a last original observation only if there was a ``VecNormalize``;
    off-policy ones always have one.
    """
    return isinstance(model, OnPolicyAlgorithm) and model._last_original_obs is not None


def constructor_parameters(policy: BasePolicy) -> dict[str, Any]:
    """Return the arguments that make a policy again, without those that the algorithm gives itself."""
    given = ("observation_space", "action_space", "lr_schedule", "use_sde")
    return {name: value for name, value in policy._get_constructor_parameters().items() if name not in given}


def copied_without_policy(model: Agent, policy_class: type[BasePolicy], policy_kwargs: dict[str, Any]) -> Agent:
    """Return a copy of an agent that shares environment and replay buffer and has no policy yet; see ``build_policy``.

    Args:
        model: The agent.
        policy_class: Class of the policy to build.
        policy_kwargs: Arguments of that class.
    """
    excluded = {*model._excluded_save_params(), "policy_class", "policy_kwargs"}
    settings = {name: copy.copy(value) for name, value in vars(model).items() if name not in excluded}
    copied = type(model)(policy=policy_class, env=None, device=model.device, _init_setup_model=False)  # type: ignore[call-arg]
    copied.__dict__.update(settings)
    copied.policy_kwargs = policy_kwargs
    for shared in ("env", "replay_buffer", "_vec_normalize_env"):
        if hasattr(model, shared):
            setattr(copied, shared, getattr(model, shared))
    return copied


def build_policy(model: BaseAlgorithm) -> None:
    """Build the networks of an agent without seeding anything: SB3 seeds the shared environment here, too."""
    seed, model.seed = model.seed, None
    try:
        model._setup_model()
    finally:
        model.seed = seed


def saved_parts(
    model: BaseAlgorithm,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, dict[str, Any]], dict[str, torch.Tensor]]:
    """Return what SB3 saves of an agent: its attributes, the policy's weights, optimizers, and further tensors.

    Numbers of parameters in the optimizers' states are texts, as the keys of JSON are.
    """
    states, tensors = model._get_torch_save_params()
    excluded = {*model._excluded_save_params(), *(name.split(".")[0] for name in [*states, *tensors])}
    attributes = {name: value for name, value in vars(model).items() if name not in excluded}
    optimizers = {}
    for name, state in model.get_parameters().items():
        if name != "policy":
            numbered = {str(number): dict(values) for number, values in state["state"].items()}
            optimizers[name] = {"state": numbered, "param_groups": [dict(group) for group in state["param_groups"]]}
    variables = {name: recursive_getattr(model, name).detach() for name in tensors}
    return attributes, model.get_parameters()["policy"], optimizers, variables


def built_agent(
    agent_class: type[BaseAlgorithm],
    policy_class: type[BasePolicy],
    settings: dict[str, Any],
    env: VecEnv | None,
    device: torch.device | str,
) -> BaseAlgorithm:
    """Return an agent made from settings, as SB3's ``load`` makes one, with new weights.

    Args:
        agent_class: The algorithm.
        policy_class: Class of its policy.
        settings: The agent's attributes, spaces and ``policy_kwargs`` among them.
        env: The environment, if there is one.
        device: Device for torch.

    Raises:
        ValueError: The environment has other spaces.
    """
    if env is not None:
        check_for_correct_spaces(env, settings["observation_space"], settings["action_space"])
        settings = {**settings, "n_envs": env.num_envs}
    else:
        settings = settings | buffer_without_environment(settings.get("replay_buffer_class"))
    model = agent_class(policy=policy_class, env=env, device=device, _init_setup_model=False)  # type: ignore[call-arg]
    model.__dict__.update(settings)
    model._setup_model()
    return model


def give_parameters(
    model: BaseAlgorithm,
    weights: dict[str, torch.Tensor],
    optimizers: dict[str, dict[str, Any]],
    variables: dict[str, torch.Tensor],
) -> None:
    """Give an agent what ``saved_parts`` returned of another one; all weights have to be there, and no others.

    Args:
        model: The agent.
        weights: The policy's.
        optimizers: States by name; the optimizers of other names stay new.
        variables: Further tensors by name.

    Raises:
        RuntimeError: Weights of another network.
        ValueError: Optimizers or tensors that the agent does not have, or of another size.
    """
    states, tensors = model._get_torch_save_params()
    if not set(optimizers) <= set(states) or set(variables) != set(tensors):
        raise ValueError(f"it holds {[*optimizers, *variables]}, where {[*states, *tensors]} are due")
    model.policy.load_state_dict(weights, strict=True)
    for name, state in optimizers.items():
        numbered = {int(number): values for number, values in state["state"].items()}
        recursive_getattr(model, name).load_state_dict({**state, "state": numbered})
    for name, value in variables.items():
        if value.shape != recursive_getattr(model, name).shape:
            raise ValueError(f"its {name} has the shape {list(value.shape)}")
        recursive_setattr(model, f"{name}.data", value.to(model.device))
    if model.use_sde:
        model.policy.reset_noise()  # type: ignore[operator]


def copy_variables(source: BaseAlgorithm, target: BaseAlgorithm) -> None:
    """Give an agent what another one learned beside its policy: SAC's entropy coefficient, and its optimizer's state.

    Args:
        source: An agent of the same class and settings.
        target: The agent.
    """
    states, tensors = source._get_torch_save_params()
    for name in tensors:
        recursive_setattr(target, f"{name}.data", recursive_getattr(source, name).detach().clone())
    for name in states:
        if name.split(".")[0] not in ("policy", "actor", "critic"):
            recursive_getattr(target, name).load_state_dict(copy.deepcopy(recursive_getattr(source, name).state_dict()))


@contextmanager
def made_managers(make: Callable[..., Any]) -> Iterator[list[Any]]:
    """Let rl_zoo3's training script, run inside, make its experiment manager by a function of ours; give what was made.

    Its scripts are extended by replacing what their module looks up; they have no other door.

    Args:
        make: Takes the arguments of rl_zoo3's ``ExperimentManager``.
    """
    import rl_zoo3.train

    script: Any = rl_zoo3.train
    original = script.ExperimentManager
    managers: list[Any] = []

    def noted(*args: Any, **kwargs: Any) -> Any:
        managers.append(make(*args, **kwargs))
        return managers[-1]

    script.ExperimentManager = noted
    try:
        yield managers
    finally:
        script.ExperimentManager = original


def with_schedules(hyperparams: dict[str, Any]) -> dict[str, Any]:
    """Return hyperparameters of rl_zoo3's whose schedules, such as ``"lin_0.001"``, are functions."""
    from rl_zoo3.exp_manager import ExperimentManager  # slow, so only when it is needed

    return dict(ExperimentManager._preprocess_schedules(hyperparams))
