"""Normalised observations: what an equivariant policy needs of the statistics that an environment divides by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium.wrappers import NormalizeObservation
from numpy.typing import NDArray
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import (
    VecEnv,
    VecFrameStack,
    VecNormalize,
    unwrap_vec_normalize,
    unwrap_vec_wrapper,
)

from equirl.agents.orbit_statistics import OrbitStatistics
from equirl.agents.spaces import resolve_symmetry
from equirl.mappings import MappingRepresentation
from equirl.representations import MonomialRepresentation, Representation
from equirl.symmetry import MDPSymmetry

__all__ = ["check_normalization", "check_normalized_env", "symmetrize_statistics"]

_WAYS_OUT = (
    "Take statistics of orbits, which stay symmetric while they follow the visited states: "
    "equirl.agents.SymmetricVecNormalize(env, symmetry). For an agent trained with others: "
    "equirl.agents.symmetrize_statistics(env, symmetry). Or train with norm_obs=False; rewards may be normalised"
)


def check_normalized_env(env: VecEnv | None, symmetry: MDPSymmetry) -> None:
    """Raise where an environment normalises its observations so that the symmetry no longer acts on them.

    Args:
        env: The environment of an agent, perhaps none.
        symmetry: The symmetry of its policy.

    Raises:
        ValueError: ``VecNormalize(norm_obs=True)`` with statistics that still change or are not symmetric, or
            Gymnasium's ``NormalizeObservation``.
    """
    if env is None or symmetry.group.order == 1:
        return
    normalize = unwrap_vec_normalize(env)
    if normalize is not None:
        stack = unwrap_vec_wrapper(env, VecFrameStack)
        first = not isinstance(stack, VecFrameStack) or stack.stacked_obs.channels_first
        check_normalization(normalize, symmetry, 0 if first else -1)
    if any(env.env_is_wrapped(NormalizeObservation)):
        raise ValueError(
            "this environment normalises its observations by gymnasium's NormalizeObservation, whose running "
            f"statistics are not symmetric: that would undo the symmetry {symmetry.name!r}. Leave the wrapper out"
        )


def check_normalization(normalize: VecNormalize, symmetry: MDPSymmetry, axis: int = 0) -> None:
    """Raise unless normalising commutes with the group: mean and variance are symmetric, and stay so.

    Args:
        normalize: The wrapper.
        symmetry: The symmetry of what an agent sees, frame stacks included.
        axis: The axis along which frames are stacked on top of the normalised ones.

    Raises:
        ValueError: The statistics still change, are not symmetric, or belong to observations of another kind.
    """
    if not normalize.norm_obs or symmetry.group.order == 1:
        return
    for key, representation, statistics in _normalized(normalize, symmetry.observation):
        if not isinstance(representation, MonomialRepresentation):
            raise ValueError(
                f"VecNormalize normalises observations on which symmetry {symmetry.name!r} acts as "
                f"{type(representation).__name__}; statistics are compared for permuted and signed coordinates alone. "
                "Train with norm_obs=False"
            )
        index, sign = representation.index.cpu().numpy(), representation.sign.cpu().numpy()
        if (sign == 1).all() and (index == np.arange(representation.dim)).all():
            continue  # nothing moves: any statistics will do
        # Normalised first and stacked afterwards, every frame has the same statistics.
        n_frames = representation.dim // statistics.mean.size
        mean, spread, off = _asymmetry(statistics, representation, n_frames, axis, normalize.epsilon)
        if off.max() > 1e-3:
            g, i = np.unravel_index(int(off.argmax()), off.shape)
            where = f"coordinate {i} of {key!r}" if key else f"coordinate {i}"
            raise ValueError(
                f"this agent sees observations normalised by VecNormalize, whose statistics are not symmetric: {where} "
                f"has mean {mean[i]:.4g} and deviation {spread[i]:.4g}, its image under "
                f"{symmetry.group.element_names[g]} {sign[g, i] * mean[index[g, i]]:.4g} and "
                f"{spread[index[g, i]]:.4g}. Normalising would undo the symmetry. {_WAYS_OUT}"
            )
        if normalize.training and not _stays_symmetric(statistics, representation, n_frames, axis):
            raise ValueError(
                f"VecNormalize(norm_obs=True) with the symmetry {symmetry.name!r}: its running statistics follow the "
                f"visited states, which are never quite symmetric, and would undo the symmetry. {_WAYS_OUT}"
            )


def _asymmetry(
    statistics: RunningMeanStd, representation: MonomialRepresentation, n_frames: int, axis: int, epsilon: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and deviation of stacked frames, ``[n]``, and how far each image is from them, ``[|G|, n]``."""
    index, sign = representation.index.cpu().numpy(), representation.sign.cpu().numpy()
    moments = (np.concatenate([moment] * n_frames, axis=axis) for moment in (statistics.mean, statistics.var))
    mean, variance = (np.ravel(moment) for moment in moments)
    spread = np.sqrt(variance + epsilon)
    off = np.maximum(np.abs(sign * mean[index] - mean) / spread, np.abs(np.sqrt(variance[index]) / spread - 1))
    return mean, spread, off


def _stays_symmetric(
    statistics: RunningMeanStd, representation: MonomialRepresentation, n_frames: int, axis: int
) -> bool:
    """Return whether running statistics keep the symmetry whatever they see: those of orbits of its group do."""
    if not isinstance(statistics, OrbitStatistics):
        return False
    anything = OrbitStatistics(statistics.representation, statistics.mean.shape)
    anything.update(np.random.default_rng(0).normal(1, 2, size=(8, *statistics.mean.shape)))
    return bool(_asymmetry(anything, representation, n_frames, axis, 1e-8)[2].max() < 1e-6)


def symmetrize_statistics(normalize: VecNormalize, symmetry: str | MDPSymmetry) -> None:
    """Replace the observation statistics of a ``VecNormalize`` by their mean over the group and freeze them, in place.

    ``normalize.training`` is set to ``False``: statistics that follow the visited states would not stay symmetric. An
    agent that was trained with the old ones sees slightly other observations; evaluate it again, or train it on.

    Args:
        normalize: The wrapper.
        symmetry: A registered name or an ``MDPSymmetry``.

    Raises:
        TypeError: Continuous actions.
        ValueError: A symmetry that does not fit, or that does more than permute coordinates and change signs.
    """
    resolved = resolve_symmetry(symmetry, normalize.observation_space, normalize.action_space)
    for _, representation, statistics in _normalized(normalize, resolved.observation):
        if not isinstance(representation, MonomialRepresentation):
            raise ValueError(
                f"statistics are averaged over permuted and signed coordinates; symmetry {resolved.name!r} acts as "
                f"{type(representation).__name__}. Train without norm_obs"
            )
        statistics.mean, statistics.var = _averaged(representation, statistics)
    normalize.training = False


def _averaged(
    representation: MonomialRepresentation, statistics: RunningMeanStd
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance of the mixture of all transforms of what the statistics describe."""
    shape = statistics.mean.shape
    index, sign = representation.index.cpu().numpy(), representation.sign.cpu().numpy()
    second_moment = np.ravel(statistics.var + np.square(statistics.mean))[index].mean(axis=0)
    mean = (sign * np.ravel(statistics.mean)[index]).mean(axis=0)
    return mean.reshape(shape), (second_moment - np.square(mean)).reshape(shape)


def _normalized(
    normalize: VecNormalize, representation: Representation
) -> Iterator[tuple[str, Representation, RunningMeanStd]]:
    """Yield each normalised entry of the observations: its key, how the group moves it, its statistics."""
    statistics: Any = normalize.obs_rms
    if not isinstance(statistics, dict):
        yield "", representation, statistics
    elif isinstance(representation, MappingRepresentation):
        for key, entry in statistics.items():
            yield key, representation.part(key), entry
