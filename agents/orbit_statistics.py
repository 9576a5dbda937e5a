"""Running statistics of whole orbits: normalised observations that keep the symmetry while the statistics follow."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from equirl.envs.spaces import resolve_symmetry
from equirl.mappings import MappingRepresentation
from equirl.representations import MonomialRepresentation, Representation
from equirl.symmetry import MDPSymmetry

__all__ = ["OrbitStatistics", "SymmetricVecNormalize", "follow_orbits"]


class OrbitStatistics(RunningMeanStd):
    """SB3's running mean and variance, of the orbits of the samples instead of the samples.

    The mean over samples and group, ``mean_g rho(g) mean(x)``, is left as it is by the group, and so is the variance
    ``mean_g |rho(g)| var(x) + var_g(rho(g) mean(x))``. Then ``(gx - mean) / std = g ((x - mean) / std)``.

    Args:
        representation: How the group moves what is measured.
        shape: Shape of one sample.
    """

    def __init__(self, representation: MonomialRepresentation, shape: tuple[int, ...]) -> None:
        super().__init__(shape=shape)
        self.representation = representation
        self._index = representation.index.cpu().numpy()
        self._sign = representation.sign.cpu().numpy()

    def copy(self) -> OrbitStatistics:
        """Return a copy that knows the group, too."""
        copied = OrbitStatistics(self.representation, self.mean.shape)
        copied.mean, copied.var, copied.count = self.mean.copy(), self.var.copy(), float(self.count)
        return copied

    def update(self, arr: NDArray[Any]) -> None:
        """Take a batch of samples, ``[N, *shape]``; a sample and its transforms count as one."""
        means = self._sign * np.mean(arr, axis=0).ravel()[self._index]
        variances = np.var(arr, axis=0).ravel()[self._index]
        mean, variance = means.mean(axis=0), variances.mean(axis=0) + means.var(axis=0)
        shape = self.mean.shape
        self.update_from_moments(mean.reshape(shape), variance.reshape(shape), arr.shape[0])


def follow_orbits(normalize: VecNormalize, symmetry: str | MDPSymmetry) -> None:
    """Let a new ``VecNormalize`` measure orbits from now on, in place; what it has measured so far is forgotten.

    Args:
        normalize: The wrapper.
        symmetry: A registered name, a symmetry file or an ``MDPSymmetry``.

    Raises:
        ValueError: A symmetry that does not fit, or that does more than permute coordinates and change signs.
    """
    if not normalize.norm_obs:
        return
    resolved = resolve_symmetry(symmetry, normalize.venv.observation_space, normalize.action_space)
    statistics: Any = normalize.obs_rms

    def measured(representation: Representation, old: RunningMeanStd) -> OrbitStatistics:
        if not isinstance(representation, MonomialRepresentation):
            raise ValueError(
                f"statistics of orbits are of permuted and signed coordinates; symmetry {resolved.name!r} acts as "
                f"{type(representation).__name__}. Leave this entry out of norm_obs_keys, or train with norm_obs=False"
            )
        return OrbitStatistics(representation, old.mean.shape)

    if isinstance(statistics, dict):
        assert isinstance(resolved.observation, MappingRepresentation)
        orbits: Any = {key: measured(resolved.observation.part(key), old) for key, old in statistics.items()}
    else:
        orbits = measured(resolved.observation, statistics)
    normalize.obs_rms = orbits


class SymmetricVecNormalize(VecNormalize):
    """SB3's ``VecNormalize`` whose statistics of observations are those of orbits, so that a symmetry survives it.

    ``PPO(EquivariantActorCriticPolicy, SymmetricVecNormalize(env, "pendulum-z2"), ...)``. Rewards, which the group does
    not move, are normalised as by SB3. Saved and loaded as ``VecNormalize`` is.

    Args:
        venv: The environments.
        symmetry: A registered name, a symmetry file or an ``MDPSymmetry``.
        **settings: As for ``VecNormalize``.

    Raises:
        ValueError: A symmetry that does not fit, or that does more than permute coordinates and change signs.
    """

    def __init__(self, venv: VecEnv, symmetry: str | MDPSymmetry, **settings: Any) -> None:
        super().__init__(venv, **settings)
        follow_orbits(self, symmetry)
