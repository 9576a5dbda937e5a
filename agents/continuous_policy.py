"""What the equivariant policies of SAC, TQC, CrossQ, TD3 and DDPG share: how they make actors and critics."""

from __future__ import annotations

from typing import Any, ClassVar

from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from equirl.agents.continuous_networks import ContinuousOrbitNetwork, GaussianActor, OrbitCritic
from equirl.agents.critic_proxy_losses import CriticProxyLoss, actor_proxy_loss, critics_disagree
from equirl.agents.symmetric_policy import SymmetricPolicy
from equirl.aggregators import Select

__all__ = ["ContinuousPolicy"]


class ContinuousPolicy(SymmetricPolicy):
    """Mixin for SB3's policies with an actor and critics.

    Equizero picks the actor's view by ``method_kwargs=dict(proxy_loss=...)``: ``"entropy"`` (the surest view; default
    where actions are drawn from a Gaussian), ``"critic_value"`` (the view whose action the critics value most; default
    of TD3 and DDPG), ``"critic_disagreement"``, or a callable. The critics' own view is the one they agree on.
    """

    takes = (spaces.Box,)
    actor_class: ClassVar[type[ContinuousOrbitNetwork]]
    critic_class: ClassVar[type[OrbitCritic]]

    actor_kwargs: dict[str, Any]
    critic_kwargs: dict[str, Any]
    device: Any

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """Return a new equivariant actor; SB3 calls it."""
        policy: Any = self
        arguments = policy._update_features_extractor(self.actor_kwargs, features_extractor)
        return self.actor_class(**arguments, **self._actor_symmetry()).to(self.device)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """Return new invariant critics; SB3 calls it for the online and the target ones."""
        policy: Any = self
        arguments = policy._update_features_extractor(self.critic_kwargs, features_extractor)
        return self.critic_class(**arguments, **self._critic_symmetry()).to(self.device)

    def _actor_symmetry(self) -> dict[str, Any]:
        if self._network_kwargs["method"] != "equizero":
            return self._network_kwargs
        gaussian = issubclass(self.actor_class, GaussianActor)
        gaussian &= not self.actor_kwargs.get("use_sde", False)  # whose spread is no number of the view
        settings = {"proxy_loss": "entropy" if gaussian else "critic_value", **self._network_kwargs["method_kwargs"]}
        settings["proxy_loss"] = actor_proxy_loss(settings["proxy_loss"], gaussian)
        return {**self._network_kwargs, "method_kwargs": settings}

    def _critic_symmetry(self) -> dict[str, Any]:
        if self._network_kwargs["method"] != "equizero":
            return self._network_kwargs
        settings = {**self._network_kwargs["method_kwargs"], "proxy_loss": critics_disagree}
        return {**self._network_kwargs, "method_kwargs": settings}

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)  # type: ignore[misc]
        for actor, critic in (("actor", "critic"), ("actor_target", "critic_target")):
            self._link(getattr(self, actor, None), getattr(self, critic, None))

    def _link(self, actor: nn.Module | None, critic: nn.Module | None) -> None:
        """Let a proxy loss of the actor that asks critics know them."""
        aggregator = getattr(actor, "aggregator", None)
        if isinstance(aggregator, Select) and isinstance(aggregator.proxy_loss, CriticProxyLoss):
            assert isinstance(critic, OrbitCritic)
            aggregator.proxy_loss.link(critic)
