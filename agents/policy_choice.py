"""Which policy a run trains: the symmetry and the method of the command line put into rl_zoo3's hyperparameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import rl_zoo3.exp_manager
from gymnasium import spaces
from rl_zoo3.utils import get_class_by_name

from equirl.agents.algorithms import ALGORITHMS
from equirl.agents.policies import POLICY_CLASSES, policy_with
from equirl.agents.spaces import check_actions, resolve_symmetry
from equirl.agents.symmetric_policy import SymmetricPolicy
from equirl.envs import DECLARED_SYMMETRIES
from equirl.envs.catalog import MUJOCO_MIRRORS
from equirl.envs.mujoco_symmetry import MIRROR
from equirl.methods import ALL_METHODS, RELAXED_METHODS
from equirl.names import unknown_name_message
from equirl.symmetry import check_symmetry_name, comes_with_equirl, registered_symmetries

__all__ = [
    "AUTO",
    "FOUND_FIRST",
    "PLAIN",
    "PolicyChoice",
    "build_symmetries",
    "check_observations",
    "choose_policy",
    "describe_policy",
    "policy_for",
    "policy_kwargs_of",
    "symmetry_and_method",
    "symmetry_hint",
    "without_symmetry_callback",
]

AUTO = "auto"
"""In place of a symmetry's name: the one that is found before training."""

FOUND_FIRST = (AUTO, MIRROR)
"""What stands for a symmetry that is found, or derived, before training, and kept in a file."""

PLAIN = "plain"
"""The method name of the baseline: SB3's own policy, no symmetrization."""

_SYMMETRY_KEYS = ("symmetry", "method", "method_kwargs")
_SYMMETRY_CALLBACKS = ("equirl.agents.SymmetryCallback", "equirl.agents.callbacks.SymmetryCallback")


@dataclass(frozen=True)
class PolicyChoice:
    """Symmetry and method given on the command line; ``None`` keeps what the hyperparameter file says.

    Raises:
        ValueError: Unknown method (the message lists the known ones), or a symmetry for the plain policy.
    """

    symmetry: str | None = None
    method: str | None = None

    def __post_init__(self) -> None:
        if self.method is not None and self.method not in (*ALL_METHODS, PLAIN):
            raise ValueError(unknown_name_message("method", self.method, [*ALL_METHODS, PLAIN]))
        if self.method == PLAIN and self.symmetry is not None:
            raise ValueError(
                f"--method {PLAIN} is the policy without a symmetry, so --symmetry {self.symmetry} says the contrary: "
                "leave one of the two out"
            )


def choose_policy(hyperparams: dict[str, Any], choice: PolicyChoice, algorithm: str, environment: str) -> None:
    """Put the policy of a choice into the hyperparameters, in place.

    Raises:
        ValueError: An unknown symmetry, an algorithm without an equivariant policy, or no symmetry is known.
    """
    policy_kwargs = policy_kwargs_of(hyperparams)
    current = symmetry_and_method(hyperparams["policy"], policy_kwargs)
    method = choice.method or current["method"] or "lambda_equitune"
    kept = {key: value for key, value in policy_kwargs.items() if key not in _SYMMETRY_KEYS}
    if method == PLAIN:
        if current["symmetry"] is not None:
            hyperparams["policy"] = "MlpLstmPolicy" if algorithm == "ppo_lstm" else "MlpPolicy"
    else:
        if algorithm not in POLICY_CLASSES:
            raise ValueError(
                f"--symmetry and --method are for --algo {', '.join(POLICY_CLASSES)}; got --algo {algorithm}"
            )
        symmetry = choice.symmetry or current["symmetry"]
        if symmetry is None:
            raise ValueError(f"no symmetry is known for {environment}: pass --symmetry NAME (`equirl envs` lists them)")
        if isinstance(symmetry, str) and not symmetry.endswith(".toml"):
            policy = policy_with(symmetry, method, algorithm)
        else:  # a symmetry file, or an MDPSymmetry among the hyperparameters
            if isinstance(symmetry, str):
                check_symmetry_name(symmetry)
            policy = POLICY_CLASSES[algorithm]
            kept.update(symmetry=symmetry, method=method)
        hyperparams["policy"] = f"{policy.__module__}.{policy.__name__}"
    if method == current["method"] and "method_kwargs" in policy_kwargs:
        kept["method_kwargs"] = policy_kwargs["method_kwargs"]
    hyperparams["policy_kwargs"] = kept


def policy_kwargs_of(hyperparams: dict[str, Any], name: str = "policy_kwargs") -> dict[str, Any]:
    """Return a copy of ``policy_kwargs``, or of others; as a string it is Python, which rl_zoo3 evaluates.

    Raises:
        ValueError: The string is no Python, or the value is no dictionary.
    """
    value = hyperparams.get(name) or {}
    if isinstance(value, str):
        try:
            value = eval(value, dict(vars(rl_zoo3.exp_manager)))
        except Exception as error:  # an expression may raise anything
            raise ValueError(
                f"{name} {value!r} does not evaluate ({type(error).__name__}: {error}); write it as "
                "dict(net_arch=[64, 64])"
            ) from error
    if not isinstance(value, dict):
        raise ValueError(f"{name} is a dictionary, such as dict(net_arch=[64, 64]); got {value!r}")
    return dict(value)


def symmetry_and_method(policy: str, policy_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the symmetry and the method of a policy, ``None`` for each that it does not have.

    Raises:
        ValueError: ``policy`` is the dotted name of a class that is not there.
    """
    found: dict[str, Any] = {"symmetry": None, "method": None}
    if "." not in policy:
        return found
    try:
        policy_class: Any = get_class_by_name(policy)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"policy {policy!r} cannot be imported: {error}") from error
    if isinstance(policy_class, type) and issubclass(policy_class, SymmetricPolicy):
        found.update(policy_class.fixed)
        found.update({key: policy_kwargs[key] for key in found if key in policy_kwargs})
    return found


def policy_for(observation_space: Any, algorithm: str) -> str:
    """Return the name of SB3's own policy without convolutions for an algorithm and what its agent sees.

    Raises:
        ValueError: The algorithm has no policy for ``Dict`` observations.
    """
    kind = "MultiInput" if isinstance(observation_space, spaces.Dict) else "Mlp"
    policy = f"{kind}{'Lstm' if algorithm == 'ppo_lstm' else ''}Policy"
    if algorithm in ALGORITHMS and policy not in ALGORITHMS[algorithm].policy_aliases:
        raise ValueError(
            f"{algorithm} takes no Dict observations: flatten them (gymnasium.wrappers.FlattenObservation), or take "
            "another algorithm, such as sac"
        )
    return policy


def describe_policy(hyperparams: dict[str, Any], choice: PolicyChoice, environment: str) -> str:
    """Return one line about the policy: its class, its settings, and whether it is equivariant."""
    policy_kwargs = policy_kwargs_of(hyperparams)
    found = symmetry_and_method(hyperparams["policy"], policy_kwargs)
    line = f"Policy: {hyperparams['policy']}, {policy_kwargs}: "
    if found["symmetry"] is not None:
        name = getattr(found["symmetry"], "name", found["symmetry"])
        how = "not quite equivariant" if found["method"] in RELAXED_METHODS else "equivariant"
        return f"{line}{how} under {name}, {found['method'] or 'lambda_equitune'}"
    line += "without a symmetry, not equivariant"
    return line if choice.method == PLAIN else f"{line}; {symmetry_hint(environment)}"


def symmetry_hint(environment: str) -> str:
    """Return how a policy without a symmetry gets one: those declared for its environment, those of own modules."""
    declared = [known.symmetry for known in DECLARED_SYMMETRIES if known.environment_id == environment]
    declared += [MIRROR] if environment in MUJOCO_MIRRORS else []
    if declared:
        return f"{environment} has the symmetry {' and '.join(declared)}: --symmetry {declared[0]}"
    own = [name for name in registered_symmetries() if not comes_with_equirl(name)]
    theirs = f"your modules register {', '.join(own)}; " if own else ""
    return f"--symmetry NAME gives it one, or FILE.toml ({theirs}`equirl envs` lists those of equirl)"


def check_observations(hyperparams: dict[str, Any]) -> None:
    """Raise where rl_zoo3 would change the observations so that the symmetry no longer acts on them.

    Raises:
        ValueError: ``frame_stack``, for an equivariant policy.
    """
    if symmetry_and_method(hyperparams["policy"], policy_kwargs_of(hyperparams))["symmetry"] is None:
        return
    if hyperparams.get("frame_stack"):
        raise ValueError(
            "`frame_stack` makes the observation several frames long, and a symmetry by name is of one frame. In "
            "Python: VecFrameStack and policy_kwargs=dict(symmetry=equirl.symmetry.stack_frames(symmetry, n_frames))"
        )


def without_symmetry_callback(callback: Any) -> list[Any]:
    """Return the callbacks that hyperparameters name, as a list, but for ``SymmetryCallback``."""
    entries = callback if isinstance(callback, list) else [] if callback is None else [callback]
    return [
        entry
        for entry in entries
        if (next(iter(entry), None) if isinstance(entry, dict) else entry) not in _SYMMETRY_CALLBACKS
    ]


def build_symmetries(
    hyperparams: dict[str, Any],
    algorithm: str,
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
) -> None:
    """Replace names of symmetries that a user's module registers by the symmetries themselves, in place.

    A saved agent keeps them, and so it opens in a process that has not imported that module.

    Args:
        hyperparams: As they go to the algorithm, the policy as a class.
        algorithm: By rl_zoo3's name.
        observation_space: As SB3 sees it.
        action_space: ``Discrete``.

    Raises:
        TypeError: The policy takes actions of another kind.
        ValueError: An unknown name, or a symmetry that does not fit the spaces.
    """
    for key in ("replay_buffer_kwargs", "rollout_buffer_kwargs"):
        settings = hyperparams.get(key)
        if isinstance(settings, dict) and _is_users(settings.get("symmetry")):
            built = resolve_symmetry(settings["symmetry"], observation_space, action_space)
            hyperparams[key] = {**settings, "symmetry": built}
    policy = hyperparams.get("policy")
    if not (isinstance(policy, type) and issubclass(policy, SymmetricPolicy)):
        return
    check_actions(action_space, policy.takes, f"--algo {algorithm}")
    policy_kwargs = {**policy.fixed, **policy_kwargs_of(hyperparams)}
    if not _is_users(policy_kwargs.get("symmetry")):
        return
    policy_kwargs["symmetry"] = resolve_symmetry(policy_kwargs["symmetry"], observation_space, action_space)
    if policy.__module__ == policy_with.__module__:  # a class made for the name, which only this process knows
        hyperparams["policy"] = POLICY_CLASSES[algorithm]
    hyperparams["policy_kwargs"] = policy_kwargs


def _is_users(symmetry: Any) -> bool:
    return isinstance(symmetry, str) and not comes_with_equirl(symmetry)
