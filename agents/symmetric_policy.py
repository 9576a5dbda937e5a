"""What every equivariant policy shares: how it takes a symmetry and a method, perhaps built into its class."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from sb3_contrib import TRPO
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from equirl.agents.features_extractors import resolve_features_extractor
from equirl.agents.normalization import check_normalized_env
from equirl.agents.sb3_doors import calling_algorithm, carry_symmetry
from equirl.agents.spaces import check_actions, resolve_symmetry
from equirl.envs.spaces import warn_of_bounds
from equirl.methods import METHODS, RELAXED_METHODS, check_method
from equirl.symmetry import MDPSymmetry

__all__ = ["SymmetricPolicy", "with_fused_adam"]


# Which environment each policy has been checked with, and whether its statistics changed then. Not an attribute of the
# policy: copies and pickles of a policy must not take an environment along.
_CHECKED: weakref.WeakKeyDictionary[nn.Module, tuple[weakref.ref[VecEnv], bool]] = weakref.WeakKeyDictionary()


class SymmetricPolicy(nn.Module):
    """Mixin for SB3 policies that take ``symmetry``, ``method`` and ``method_kwargs``."""

    fixed: ClassVar[dict[str, Any]] = {}
    """Policy arguments that a subclass has built in; see ``equirl.agents.policies``."""

    algorithm: ClassVar[str] = ""
    """How policy classes of this kind are told apart by name; see ``equirl.agents.policies``."""

    adam: ClassVar[dict[str, Any]] = {}
    """SB3's settings of the optimizer, where they are not torch's."""

    takes: ClassVar[tuple[type[spaces.Space[Any]], ...]] = (spaces.Discrete,)
    """The kinds of action spaces that it acts in."""

    takes_relaxed: ClassVar[bool] = True
    """Whether it takes methods that are not exact."""

    _network_kwargs: dict[str, Any]

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *args: Any,
        features_extractor_class: type[BaseFeaturesExtractor] | str | None = None,
        symmetry: str | MDPSymmetry | None = None,
        method: str | None = None,
        method_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        # Before super().__init__(), which builds the networks and has no room for modules yet.
        self._network_kwargs = self._symmetry_arguments(
            symmetry, method, method_kwargs, observation_space, action_space
        )
        carry_symmetry(self._network_kwargs["symmetry"], "policy_kwargs")
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            *args,
            features_extractor_class=resolve_features_extractor(features_extractor_class, observation_space),
            **with_fused_adam(kwargs, **self.adam),
        )

    def _symmetry_arguments(
        self,
        symmetry: str | MDPSymmetry | None,
        method: str | None,
        method_kwargs: Mapping[str, Any] | None,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
    ) -> dict[str, Any]:
        """Return the three arguments, complete and checked against the spaces.

        Raises:
            TypeError: Actions of another kind of space.
            ValueError: No or an unknown symmetry or method, one that does not fit, one other than the class has built
                in, or an environment that normalises its observations by statistics that are not symmetric.
        """
        symmetry = self._argument("symmetry", symmetry)
        if symmetry is None:
            raise ValueError(
                f"{type(self).__name__} needs a symmetry: policy_kwargs=dict(symmetry='grid-d4', ...). If it was set "
                "and is gone: the search of rl_zoo3 (-optimize, --trial-id) replaces policy_kwargs; run it as "
                "`equirl train`, which keeps them, or name a policy class with the symmetry built in, such as "
                "equirl.agents.policies.GridD4LambdaEquitunePolicy"
            )
        check_actions(action_space, self.takes, type(self).__name__)
        resolved = resolve_symmetry(symmetry, observation_space, action_space)
        warn_of_bounds(resolved, observation_space, stacklevel=5)
        self._check_environment(resolved)
        method = self._argument("method", method)
        if method_kwargs is not None and not isinstance(method_kwargs, Mapping):
            raise TypeError(f"method_kwargs is a mapping of settings to values; got {method_kwargs!r}")
        method = self._check_method("lambda_equitune" if method is None else method)
        self._check_loss(method, method_kwargs or {})
        return {
            "symmetry": resolved,
            "method": method,
            "method_kwargs": dict(method_kwargs or {}),
        }

    def _check_method(self, method: object) -> str:
        """Return the name of a method.

        Raises:
            ValueError: It is unknown, or not exact where the policy takes exact ones alone.
        """
        if not self.takes_relaxed and method in RELAXED_METHODS:
            raise ValueError(
                f"{type(self).__name__} takes exact methods alone ({', '.join(METHODS)}); got {method!r}: its state is "
                "carried with the views"
            )
        return check_method(method, relaxed=True)

    def _check_loss(self, method: str, method_kwargs: Mapping[str, Any]) -> None:
        """Raise where a term that joins the gradient would mean something else: TRPO's objective is no loss.

        Raises:
            ValueError: The penalty, or a gate that learns from the loss, for TRPO.
        """
        adds = method == "penalty" or (method == "partial" and method_kwargs.get("gate") == "td")
        if adds and isinstance(calling_algorithm(12), TRPO):
            raise ValueError(
                f"TRPO climbs an objective and measures its curvature, to which method={method!r} cannot add its term; "
                "take MirrorLossCallback, or method='partial' with gate='recorded' or 'predicted'"
            )

    def set_training_mode(self, mode: bool) -> None:
        """Set training or evaluation mode, as SB3's policies do; an algorithm's new environment is looked at first.

        Raises:
            ValueError: As ``check_normalized_env``: an environment was set whose normalisation undoes the symmetry.
        """
        self._check_environment(self._network_kwargs["symmetry"], frames=2)
        super().set_training_mode(mode)  # type: ignore[misc]

    def _check_environment(self, symmetry: MDPSymmetry, frames: int = 12) -> None:
        """Raise where the algorithm's environment normalises observations so that the symmetry is undone."""
        algorithm = calling_algorithm(frames)
        if algorithm is None or algorithm.env is None:
            return
        normalize = algorithm.get_vec_normalize_env()
        seen, changes = _CHECKED.get(self, (None, False))
        if seen is None or seen() is not algorithm.env or changes != (normalize is not None and normalize.training):
            check_normalized_env(algorithm.env, symmetry)
            _CHECKED[self] = (weakref.ref(algorithm.env), normalize is not None and normalize.training)

    def _argument(self, name: str, given: Any) -> Any:
        built_in = self.fixed.get(name)
        if given is not None and built_in is not None and given != getattr(built_in, "name", built_in):
            shown = getattr(given, "name", given)
            if shown != built_in:
                raise ValueError(
                    f"{type(self).__name__} has {name}={built_in!r} built in; it cannot take {shown!r}. Use a class "
                    f"of equirl.agents, such as EquivariantDQNPolicy, to choose {name} in policy_kwargs"
                )
        return built_in if given is None else given

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self._network_kwargs}  # type: ignore[misc]

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Return the parameters, as ``nn.Module`` does; SB3 asks for them in every gradient step."""
        return _parameters(self, set()) if recurse else super().parameters(recurse)


def _parameters(module: nn.Module, seen: set[int]) -> Iterator[nn.Parameter]:
    # nn.Module's own walk makes up a name for every module and parameter.
    for parameter in module._parameters.values():
        if parameter is not None and id(parameter) not in seen:
            seen.add(id(parameter))
            yield parameter
    for child in module._modules.values():
        if child is not None:
            yield from _parameters(child, seen)


def with_fused_adam(kwargs: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    """Return policy arguments with Adam's fused implementation, unless another one or another optimizer is asked for.

    One call updates all parameters; small networks spend a tenth of a training step less.

    Args:
        kwargs: Arguments of an SB3 policy.
        **defaults: The optimizer's settings where none are given.
    """
    chosen = kwargs.get("optimizer_class", torch.optim.Adam)
    settings = kwargs.get("optimizer_kwargs")
    settings = defaults if settings is None else settings
    if chosen not in (torch.optim.Adam, torch.optim.AdamW) or {"fused", "foreach", "differentiable"} & set(settings):
        return dict(kwargs)
    return {**kwargs, "optimizer_kwargs": {**settings, "fused": True}}
