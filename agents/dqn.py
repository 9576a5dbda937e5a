"""Equivariant Q-networks for Stable-Baselines3's DQN: ``Q(gs, ga) = Q(s, a)``, exactly, whatever the backbone."""

from __future__ import annotations

from stable_baselines3.dqn.policies import DQNPolicy, QNetwork

from equirl.agents.symmetric_policy import SymmetricPolicy
from equirl.agents.value_network import ValueOrbitNetwork

__all__ = ["EquivariantDQNPolicy", "EquivariantQNetwork"]


class EquivariantQNetwork(ValueOrbitNetwork, QNetwork):
    """SB3's Q-network, symmetrized: ``Q_G(s) = sum_g w(gs) g^-1 Q(gs)`` (Basu et al. 2023, arXiv:2305.09900).

    The group acts on the observation as the environment gave it, before SB3 scales or one-hot encodes it. The state
    dict has plain DQN's keys (and ``aggregator.network.*`` for λ), so weights of a plain agent load into equitune and
    equizero and the other way round. Checkpoints carry the group's name outside the keys.

    Args:
        **kwargs: Arguments of ``ValueOrbitNetwork`` (``symmetry``, ``method``, ``method_kwargs``) and of SB3's
            ``QNetwork``.

    Raises:
        TypeError: The action space is not ``Discrete``.
        ValueError: As for ``ValueOrbitNetwork``.
    """

    layers = "q_net"


class EquivariantDQNPolicy(SymmetricPolicy, DQNPolicy):
    """SB3's DQN policy with an exactly equivariant Q-network: use it as ``"MlpPolicy"``, plus a symmetry.

    ``DQN(EquivariantDQNPolicy, env, policy_kwargs=dict(symmetry="grid-d4", method="lambda_equitune"))``. Target
    network, saving, loading, ``predict``, ``set_parameters`` and replay are SB3's.

    Args:
        observation_space: Any space that SB3 knows and the symmetry fits.
        action_space: ``Discrete``.
        lr_schedule: Learning rate schedule.
        net_arch: Widths of the Q-network's hidden layers.
        activation_fn: Activation of the Q-network.
        features_extractor_class: Any SB3 features extractor, as a class or a dotted path (for YAML files); by default
            ``CombinedExtractor`` for ``Dict`` observations, else ``FlattenExtractor``. ``equirl.agents.GridCNN`` is a
            CNN for small grids.
        symmetry: A registered name (``"grid-c4"``, ``"grid-d4"``, ...) or an ``MDPSymmetry``. Required.
        method: ``"equitune"``, ``"lambda_equitune"`` (default), ``"equizero"`` or ``"canonical"``.
        method_kwargs: Settings of the method; see ``equirl.agents.make_aggregator``.
        **kwargs: Further arguments of SB3's ``DQNPolicy``.

    Raises:
        TypeError: The action space is not ``Discrete``.
        ValueError: No or an unknown symmetry, an unknown method, or a symmetry that does not fit the spaces.
    """

    def make_q_net(self) -> EquivariantQNetwork:
        """Return a new equivariant Q-network; SB3 calls it for the online and the target network."""
        net_args = self._update_features_extractor(self.net_args, features_extractor=None)
        return EquivariantQNetwork(**net_args, **self._network_kwargs).to(self.device)
