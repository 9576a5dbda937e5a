"""Making a trained agent equivariant: the same weights, the same class, and now ``pi(ga | gs) = pi(a | s)``."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from gymnasium import spaces
from numpy.typing import NDArray
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.crossq.policies import CrossQPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from sb3_contrib.tqc.policies import TQCPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.vec_env import VecFrameStack, unwrap_vec_wrapper
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy

from equirl.agents.actor_critic import EquivariantActorCriticPolicy
from equirl.agents.actor_critic_masked import EquivariantMaskablePolicy
from equirl.agents.actor_critic_recurrent import EquivariantRecurrentPolicy, lstm_settings
from equirl.agents.crossq import EquivariantCrossQPolicy
from equirl.agents.dqn import EquivariantDQNPolicy
from equirl.agents.gate_fit import fit_gates, replay_steps
from equirl.agents.lambda_fit import LambdaFit, fit_lambda
from equirl.agents.loading import ALGORITHMS
from equirl.agents.normalization import check_normalization
from equirl.agents.proxy_losses import AGENT_PROXY_LOSSES, agent_proxy_loss
from equirl.agents.qrdqn import EquivariantQRDQNPolicy
from equirl.agents.sac import EquivariantSACPolicy
from equirl.agents.sb3_doors import build_policy, constructor_parameters, copied_without_policy, copy_variables
from equirl.agents.spaces import observation_shape, resolve_symmetry
from equirl.agents.symmetric_policy import SymmetricPolicy
from equirl.agents.td3 import EquivariantTD3Policy
from equirl.agents.tqc import EquivariantTQCPolicy
from equirl.agents.visited_states import replay_observations
from equirl.envs.actions import ActionLayout
from equirl.methods import METHODS
from equirl.names import unknown_name_message
from equirl.representations import Tree
from equirl.symmetry import MDPSymmetry, ObservationShape, build_symmetry, stack_frames

__all__ = ["agent_symmetry", "symmetrize_agent"]

Agent = TypeVar("Agent", bound=BaseAlgorithm)

# Subclasses that only choose a features extractor; others may compute something that we would not know of.
_EQUIVARIANT: dict[type[BasePolicy], type[BasePolicy]] = {
    DQNPolicy: EquivariantDQNPolicy,
    QRDQNPolicy: EquivariantQRDQNPolicy,
    ActorCriticPolicy: EquivariantActorCriticPolicy,
    SACPolicy: EquivariantSACPolicy,
    TD3Policy: EquivariantTD3Policy,
    TQCPolicy: EquivariantTQCPolicy,
    CrossQPolicy: EquivariantCrossQPolicy,
    RecurrentActorCriticPolicy: EquivariantRecurrentPolicy,
    MaskableActorCriticPolicy: EquivariantMaskablePolicy,
}


def symmetrize_agent(
    model: Agent,
    symmetry: str | MDPSymmetry,
    method: str = "equitune",
    method_kwargs: Mapping[str, Any] | None = None,
    *,
    observations: Tree | NDArray[Any] | None = None,
    fit: LambdaFit | None = None,
) -> Agent:
    """Return a trained agent made equivariant; the given one stays as it is.

    The result is an SB3 model of the same class with the same weights and settings (and the same replay buffer object,
    where there is one): ``predict``, ``save``, ``load`` and further ``learn`` work as for any other.

    Equitune and equizero work at once. λ-equitune is fitted, without rewards and without environment steps, to do on
    states that the agent knows what the agent did there (:func:`~equirl.agents.fit_lambda`). ``"partial"`` is fitted,
    too: its gate on the transitions in the replay buffer, its correction on what the agent does where the gate is open
    (:func:`~equirl.agents.gate_fit.fit_gates`).

    Args:
        model: An agent of one of ``ALGORITHMS`` with a policy of SB3's own. Frame stacks and normalisation are
            recognised by its environment (``VecFrameStack``, ``VecNormalize``): give it that one.
        symmetry: A registered name or an ``MDPSymmetry``.
        method: ``"equitune"``, ``"lambda_equitune"``, ``"equizero"``, ``"canonical"``, or ``"partial"``.
        method_kwargs: Settings of the method (``equirl.agents.make_aggregator``). For equizero ``proxy_loss`` may also
            name one that is made from the agent: ``"novelty"``, ``"bellman_residual"``, ``"target_disagreement"``.
        observations: States that the agent knows, ``[N, *observation]``, for λ and for ``"novelty"``; by default those
            of its replay buffer. See ``replay_observations`` and ``rollout_observations``.
        fit: How λ is fitted.

    Raises:
        TypeError: An algorithm or a policy that cannot be symmetrized.
        ValueError: Unknown symmetry or method, one that does not fit the agent, an agent that is equivariant already,
            an observation normalisation that is not symmetric or still changes, or no states to fit λ on.
    """
    policy_class = _equivariant_policy_class(model)
    if not isinstance(method, str) or (method not in METHODS and method != "partial"):
        raise ValueError(unknown_name_message("method", method, (*METHODS, "partial")))
    if method_kwargs is not None and not isinstance(method_kwargs, Mapping):
        raise TypeError(f"method_kwargs is a mapping of settings to values; got {method_kwargs!r}")
    resolved = agent_symmetry(model, symmetry)
    settings = dict(method_kwargs or {})
    if method == "equizero" and settings.get("proxy_loss") in AGENT_PROXY_LOSSES:
        settings["proxy_loss"] = agent_proxy_loss(settings["proxy_loss"], model, observations)
    if method == "lambda_equitune" and observations is None:
        observations = replay_observations(model)
    steps = replay_steps(model) if method == "partial" else None
    symmetrized = _with_policy(model, policy_class, resolved, method, settings)
    if steps is not None:
        fit_gates(symmetrized, steps)
    if method == "lambda_equitune" and observations is not None:
        report = fit_lambda(symmetrized, observations, fit)
        if symmetrized.verbose >= 1:
            print(report)
    return symmetrized


def agent_symmetry(model: BaseAlgorithm, symmetry: str | MDPSymmetry) -> MDPSymmetry:
    """Return the symmetry built for the observations that an agent sees, frame stacks included.

    Raises:
        TypeError: Actions of a space that no symmetry acts on.
        ValueError: It does not fit the agent's spaces, or the agent sees observations normalised by statistics that the
            symmetry does not leave as they are.
    """
    env = model.get_env()
    stack = None if env is None else unwrap_vec_wrapper(env, VecFrameStack)
    axis = 0
    if not isinstance(symmetry, (str, MDPSymmetry)):
        raise TypeError(f"symmetry must be a registered name or an MDPSymmetry; got {symmetry!r}")
    if isinstance(stack, VecFrameStack) and isinstance(symmetry, str):
        actions = ActionLayout(model.action_space)
        actions.check_name(symmetry)
        shape, n_frames, axis = _frames(stack, observation_shape(model.observation_space))
        symmetry = stack_frames(build_symmetry(symmetry, shape, actions.size), n_frames, axis)
    resolved = resolve_symmetry(symmetry, model.observation_space, model.action_space)
    normalize = model.get_vec_normalize_env()
    if normalize is not None:
        check_normalization(normalize, resolved, axis)
    return resolved


def _frames(stack: VecFrameStack, seen: ObservationShape) -> tuple[tuple[int, ...], int, int]:
    """Return the shape of one frame as the agent sees it, the number of frames, and the axis they are stacked along."""
    space = stack.venv.observation_space
    n_frames = int(stack.stacked_obs.n_stack)
    if not isinstance(space, spaces.Box) or not isinstance(seen, tuple):
        raise ValueError("frame stacks of Dict observations are not carried through; pass an MDPSymmetry")
    frame = tuple(space.shape)
    axis = 0 if stack.stacked_obs.channels_first else len(frame) - 1
    stacked = tuple(n_frames * n if k == axis else n for k, n in enumerate(frame))
    if seen == stacked:
        return frame, n_frames, axis
    if len(frame) == 3 and seen == (stacked[2], stacked[0], stacked[1]) and axis == 2:  # behind VecTransposeImage
        return (frame[2], frame[0], frame[1]), n_frames, 0
    raise ValueError(
        f"{n_frames} frames of {list(frame)} are stacked to {list(stacked)}, but the agent sees {list(seen)}; pass an "
        "MDPSymmetry for what it sees (equirl.symmetry.stack_frames)"
    )


def _equivariant_policy_class(model: BaseAlgorithm) -> type[BasePolicy]:
    policy = model.policy
    if isinstance(policy, SymmetricPolicy):
        raise ValueError(
            f"this agent is equivariant already ({type(policy).__name__}); symmetrize the plain agent it was made from"
        )
    for plain, equivariant in _EQUIVARIANT.items():
        if type(policy) in (plain, *plain.__subclasses__()) and type(policy).__module__ == plain.__module__:
            return equivariant
    raise TypeError(
        f"{type(model).__name__} with {type(policy).__name__} cannot be symmetrized; agents of "
        f"{', '.join(each.__name__ for each in ALGORITHMS.values())} with MlpPolicy, CnnPolicy or MultiInputPolicy can "
        "be. For a network of your own use equirl.Symmetrized"
    )


def _with_policy(
    model: Agent, policy_class: type[BasePolicy], symmetry: MDPSymmetry, method: str, method_kwargs: dict[str, Any]
) -> Agent:
    """Return a copy of the model, weights included, whose policy is of another class."""
    parameters = constructor_parameters(model.policy)
    if hasattr(model.policy, "share_features_extractor"):  # some of SB3's policies leave it out
        parameters["share_features_extractor"] = model.policy.share_features_extractor
    if isinstance(model, OffPolicyAlgorithm) and model.use_sde:  # on-policy ones hand it over themselves
        parameters["use_sde"] = True
    if isinstance(model.policy, RecurrentActorCriticPolicy):
        parameters |= lstm_settings(model.policy)
    parameters |= {"symmetry": symmetry, "method": method, "method_kwargs": method_kwargs}
    symmetrized = copied_without_policy(model, policy_class, parameters)
    with torch.random.fork_rng(devices=[]):  # λ's first weights alone need random numbers
        torch.manual_seed(0 if model.seed is None else model.seed)
        build_policy(symmetrized)
    missing, unexpected = symmetrized.policy.load_state_dict(model.policy.state_dict(), strict=False)
    if unexpected or any(not {"aggregator", "relaxation"} & set(name.split(".")) for name in missing):
        raise TypeError(
            f"the weights of {type(model.policy).__name__} do not fit {policy_class.__name__} (missing {missing}, "
            f"unexpected {unexpected}); only SB3's own networks can be symmetrized in place"
        )
    if not missing:  # λ adds parameters that the saved optimizer does not know
        for ours, theirs in zip(_optimizers(symmetrized), _optimizers(model), strict=True):
            ours.load_state_dict(copy.deepcopy(theirs.state_dict()))  # torch would share its tensors
    copy_variables(model, symmetrized)
    return symmetrized


def _optimizers(model: BaseAlgorithm) -> list[torch.optim.Optimizer]:
    """Return the optimizers of an agent's networks: one of the policy, or one each of actor and critics."""
    policy: Any = model.policy
    owners = [policy, getattr(policy, "actor", None), getattr(policy, "critic", None)]
    found = [getattr(owner, "optimizer", None) for owner in owners]
    return [optimizer for optimizer in found if isinstance(optimizer, torch.optim.Optimizer)]
