"""Equivariant modules for TorchRL: a Q-value actor with ``Q(gs, ga) = Q(s, a)``, for its collectors and losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torchrl.modules import QValueActor

from equirl.integrations.symmetries import orbit_map_for, symmetry_of_shape
from equirl.mdp_symmetry import MDPSymmetry
from equirl.symmetrization import Symmetrized

__all__ = ["SymmetrizedRows", "equivariant_q_actor"]


class SymmetrizedRows(Symmetrized):
    """A symmetrized module for any number of leading axes, as tensordicts have them: ``[*batch, *input]``.

    Arguments and errors as for :class:`~equirl.symmetrization.Symmetrized`; one array of fixed shape is the input.
    """

    def forward(self, x: Any) -> Tensor:
        """Return ``M_G(x)``: ``[*batch, *input] -> [*batch, *output]``; the input is cast to float."""
        leading = x.shape[: x.ndim - len(self.input_rep.shape)]
        outputs = super().forward(x.reshape(-1, *self.input_rep.shape).float())
        return outputs.reshape(*leading, *outputs.shape[1:])


def equivariant_q_actor(
    backbone: nn.Module,
    symmetry: str | MDPSymmetry,
    env: Any,
    method: str = "lambda_equitune",
    method_kwargs: Mapping[str, Any] | None = None,
    observation_key: str = "observation",
    **kwargs: Any,
) -> QValueActor:
    """Return TorchRL's ``QValueActor`` with ``Q_G(s) = sum_g w(gs) g^-1 Q(gs)`` (Basu et al. 2023, arXiv:2305.09900).

    Losses such as ``DQNLoss``, collectors and exploration modules take it as any other.

    Args:
        backbone: Maps observations ``[N, *observation]``, as floats, to Q-values ``[N, A]``.
        symmetry: An ``MDPSymmetry``, a registered name, a symmetry file, or ``"MODULE:NAME"``.
        env: The environment, whose specs tell the shape of an observation and the number of actions.
        method: ``"equitune"``, ``"lambda_equitune"``, ``"equizero"`` or ``"canonical"``.
        method_kwargs: Its settings; see :func:`equirl.methods.make_aggregator`. λ reads the observations.
        observation_key: The entry that holds the observation.
        **kwargs: Further arguments of ``QValueActor``.

    Raises:
        TypeError: Actions that are not one of a number of choices; a symmetry or a setting of another kind.
        ValueError: An unknown name, method or setting, or a symmetry that does not fit.
    """
    action_spec = env.action_spec
    if type(action_spec).__name__ not in ("OneHot", "Categorical"):
        raise TypeError(f"a Q-value actor chooses among a number of actions (OneHot, Categorical); got {action_spec}")
    shape = tuple(env.observation_spec[observation_key].shape[len(env.batch_size) :])
    resolved = symmetry_of_shape(symmetry, shape, int(action_spec.space.n))
    input_rep, output_rep, aggregator, _ = orbit_map_for(resolved, method, method_kwargs)
    network = SymmetrizedRows(backbone, input_rep, output_rep, aggregator)
    return QValueActor(network, in_keys=[observation_key], spec=action_spec, **kwargs)
