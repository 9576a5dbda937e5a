"""Equivariant RLModules for RLlib's DQN and PPO (new API stack): ``Q(gs, ga) = Q(s, a)``, ``pi(ga | gs) = pi(a | s)``.

``RLModuleSpec(EquivariantDQNModule, model_config={"symmetry": "equirl.envs:grid-d4"})``; ``model_config`` may hold
``method`` and ``method_kwargs`` (``equirl.methods.make_aggregator``) beside RLlib's own settings. Encoders and heads
are RLlib's, and so are the names of their weights; they read observations flattened.
"""

from typing import Any

from gymnasium.spaces import flatten_space
from ray.rllib.algorithms.dqn.torch.default_dqn_torch_rl_module import QF_PREDS, DefaultDQNTorchRLModule, DQNCatalog
from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule, PPOCatalog
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.utils import make_target_network
from ray.rllib.core.models.base import ACTOR, CRITIC, ENCODER_OUT
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, cat

from equirl.integrations.symmetries import orbit_map_for, show_actions, symmetry_for
from equirl.orbit import flatten_rows
from equirl.orbit_map import OrbitMap
from equirl.representations import Tree, map_tensors

__all__ = ["EquivariantDQNModule", "EquivariantPPOModule"]


class _Symmetric(TorchRLModule):
    def __init__(self, *args: Any, catalog_class: Any = None, **kwargs: Any) -> None:
        def flat(observation_space: Any, **more: Any) -> Any:
            return (catalog_class or self.catalogs)(observation_space=flatten_space(observation_space), **more)

        super().__init__(*args, catalog_class=flat, **kwargs)

    def _symmetrize(self, **sizes: Any) -> None:
        self.symmetry = symmetry_for(self.model_config.get("symmetry"), self.observation_space, self.action_space)
        how = {key: self.model_config[key] for key in ("method", "method_kwargs") if key in self.model_config}
        self.input_rep, self.output_rep, self.aggregator, _ = orbit_map_for(self.symmetry, **how, **sizes)


class EquivariantDQNModule(_Symmetric, DefaultDQNTorchRLModule):
    """RLlib's DQN module with ``Q_G(s) = sum_g w(gs) g^-1 Q(gs)``, and its target network in the same way."""

    catalogs = DQNCatalog

    def setup(self) -> None:  # noqa: D102
        super().setup()
        if self.num_atoms > 1:
            raise ValueError(f"EquivariantDQNModule learns means, no distributions: num_atoms=1, not {self.num_atoms}")
        self._symmetrize(features_dim=self.catalog.latent_dims[0])

    def make_target_networks(self) -> None:  # noqa: D102
        super().make_target_networks()
        self._target_aggregator = make_target_network(self.aggregator)

    def get_target_network_pairs(self) -> list[Any]:  # noqa: D102
        return [*super().get_target_network_pairs(), (self.aggregator, self._target_aggregator)]

    def _qf_forward_helper(self, batch: Any, encoder: Any, head: Any) -> dict[str, Tensor]:
        plain = super()._qf_forward_helper
        aggregator = self.aggregator if encoder is self.encoder else self._target_aggregator
        q_values = OrbitMap(self.input_rep, self.output_rep, aggregator)(
            lambda hidden: plain({}, lambda _: {ENCODER_OUT: hidden}, head)[QF_PREDS],
            map_tensors(batch[Columns.OBS], Tensor.float),
            lambda rows: encoder({Columns.OBS: flatten_rows(rows)})[ENCODER_OUT],
        )
        return {QF_PREDS: q_values}


class EquivariantPPOModule(_Symmetric, DefaultPPOTorchRLModule):
    """RLlib's PPO module with equivariant logits and an invariant value, symmetrized with the same weights."""

    catalogs = PPOCatalog

    def setup(self) -> None:  # noqa: D102
        super().setup()
        self._symmetrize(values=1)

    def _both(self, batch: Any) -> Tensor:
        def network(rows: Tree) -> Tensor:
            latent = self.encoder({Columns.OBS: flatten_rows(rows)})[ENCODER_OUT]
            logits = self.pi(latent[ACTOR])  # without the critic, nobody asks for the value
            return cat([logits, self.vf(latent[CRITIC]) if CRITIC in latent else logits[:, :1]], dim=1)

        symmetrized = OrbitMap(self.input_rep, self.output_rep, self.aggregator)
        return symmetrized(network, map_tensors(batch[Columns.OBS], Tensor.float), shown=show_actions)

    def _forward(self, batch: Any, **kwargs: Any) -> dict[str, Tensor]:
        return {Columns.ACTION_DIST_INPUTS: self._both(batch)[:, :-1]}

    def _forward_train(self, batch: Any, **kwargs: Any) -> dict[str, Tensor]:
        both = self._both(batch)
        return {Columns.ACTION_DIST_INPUTS: both[:, :-1], Columns.EMBEDDINGS: both[:, -1]}

    def compute_values(self, batch: Any, embeddings: Tensor | None = None) -> Tensor:  # noqa: D102
        return self._both(batch)[:, -1] if embeddings is None else embeddings
