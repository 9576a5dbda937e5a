"""rl_zoo3's experiment manager, taught two things: to take a symmetry, and never to lose it in a search."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rl_zoo3.exp_manager
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.hyperparams_opt import HYPERPARAMS_SAMPLER
from rl_zoo3.utils import get_class_by_name
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from equirl.agents.methods import METHODS
from equirl.agents.policies import POLICY_CLASSES, policy_with
from equirl.agents.symmetric_policy import SymmetricPolicy
from equirl.agents.vector_env import make_vectorized_env
from equirl.names import unknown_name_message

__all__ = ["PLAIN", "EquirlExperimentManager", "PolicyChoice"]

PLAIN = "plain"
"""The method name of the baseline: SB3's own policy, no symmetrization."""

_SYMMETRY_KEYS = ("symmetry", "method", "method_kwargs")
_SYMMETRY_CALLBACK = "equirl.agents.SymmetryCallback"


@dataclass(frozen=True)
class PolicyChoice:
    """Symmetry and method asked for on the command line; ``None`` keeps what the hyperparameter file says.

    Raises:
        ValueError: Unknown method; the message lists the known ones.
    """

    symmetry: str | None = None
    method: str | None = None

    def __post_init__(self) -> None:
        if self.method is not None and self.method not in (*METHODS, PLAIN):
            raise ValueError(unknown_name_message("method", self.method, [*METHODS, PLAIN]))


class EquirlExperimentManager(ExperimentManager):
    """rl_zoo3's ``ExperimentManager`` for policies with a symmetry.

    Where rl_zoo3 replaces ``policy_kwargs`` as a whole (``-optimize``, ``--trial-id``), this one merges: what the
    search samples wins, the rest stays, the symmetry first of all.

    Args:
        *args: As for rl_zoo3.
        choice: Symmetry and method asked for on the command line.
        vectorized: Whether all environments are stepped as one batch, where there is such a form of them.
        **kwargs: As for rl_zoo3.

    Raises:
        ValueError: ``choice`` names an unknown symmetry, asks for one with an algorithm that has no equivariant policy,
            or asks for a method where no symmetry is known; or observations would be normalised or stacked behind the
            policy's back.
    """

    def __init__(self, *args: Any, choice: PolicyChoice | None = None, vectorized: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.choice = choice or PolicyChoice()
        self.vectorized = vectorized

    def create_envs(self, n_envs: int, eval_env: bool = False, no_log: bool = False) -> VecEnv:
        """Return the environments, in one batch where that is asked for, else as rl_zoo3 makes them."""
        if not self.vectorized:
            environments: VecEnv = super().create_envs(n_envs, eval_env, no_log)
            return environments
        if self.env_wrapper is not None or self.frame_stack is not None or self.normalize:
            raise ValueError("--vec-env vectorized steps a whole batch; wrappers, stacks and normalize are not for it")
        batch = make_vectorized_env(
            self.env_name.gym_id,
            n_envs,
            self.seed,
            self.eval_env_kwargs if eval_env else self.env_kwargs,
            monitor=False,
        )
        file = None if eval_env or no_log else str(Path(self.save_path) / "0")
        return VecMonitor(batch, file, info_keywords=tuple(self.monitor_kwargs.get("info_keywords", ())))

    def read_hyperparameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the hyperparameters and a sorted copy to save: file, then trial, then ``-params``, then symmetry."""
        trial_id, self.trial_id = self.trial_id, None
        try:
            hyperparams, _ = super().read_hyperparameters()
        finally:
            self.trial_id = trial_id
        if self.storage and self.study_name and trial_id is not None:
            sampled = self.load_trial(self.storage, self.study_name, trial_id)
            sampled["policy_kwargs"] = {**_policy_kwargs(hyperparams), **sampled.get("policy_kwargs", {})}
            hyperparams.update(sampled)
            hyperparams.update(self.custom_hyperparams or {})
        if self.choice != PolicyChoice():
            self._choose_policy(hyperparams)
        self._check_observations(hyperparams)
        print(f"Policy: {hyperparams['policy']}, {_policy_kwargs(hyperparams)}")
        return hyperparams, OrderedDict(sorted(hyperparams.items()))

    def _preprocess_hyperparams(self, hyperparams: dict[str, Any]) -> Any:
        # rl_zoo3 evaluates this string where only its own classes are known; a dotted path is importable anywhere.
        for key in ("replay_buffer_class", "rollout_buffer_class"):
            name = hyperparams.get(key)
            if isinstance(name, str) and "." in name and all(part.isidentifier() for part in name.split(".")):
                hyperparams[key] = get_class_by_name(name)
        return super()._preprocess_hyperparams(hyperparams)

    def hyperparameters_optimization(self) -> None:
        """Run the search with ``policy_kwargs`` merged into what each trial samples."""
        kept = dict(self._hyperparams.get("policy_kwargs") or {})
        samplers: dict[str, Any] = HYPERPARAMS_SAMPLER
        sampler = samplers[self.algo]

        def sample(*args: Any) -> dict[str, Any]:
            sampled: dict[str, Any] = sampler(*args)
            sampled["policy_kwargs"] = {**kept, **sampled.get("policy_kwargs", {})}
            return sampled

        samplers[self.algo] = sample
        try:
            super().hyperparameters_optimization()
        finally:
            samplers[self.algo] = sampler

    def _check_observations(self, hyperparams: dict[str, Any]) -> None:
        """Raise where rl_zoo3 would change the observations so that the symmetry no longer acts on them."""
        if _symmetry_and_method(hyperparams["policy"], _policy_kwargs(hyperparams))["symmetry"] is None:
            return
        normalize = hyperparams.get("normalize")
        settings = eval(normalize) if isinstance(normalize, str) else normalize  # as rl_zoo3 reads it
        if settings and not (isinstance(settings, dict) and settings.get("norm_obs") is False):
            raise ValueError(
                "`normalize` rescales each coordinate of the observation by statistics of its own, which undoes the "
                "symmetry; leave it out, or set it to {'norm_obs': False, 'norm_reward': True}"
            )
        if hyperparams.get("frame_stack"):
            raise ValueError(
                "`frame_stack` makes the observation several frames long, and a symmetry by name is of one frame. In "
                "Python: VecFrameStack and policy_kwargs=dict(symmetry=equirl.stack_frames(symmetry, n_frames))"
            )

    def _choose_policy(self, hyperparams: dict[str, Any]) -> None:
        policy_kwargs = _policy_kwargs(hyperparams)
        current = _symmetry_and_method(hyperparams["policy"], policy_kwargs)
        method = self.choice.method or current["method"] or "lambda_equitune"
        if method == PLAIN:
            if current["symmetry"] is not None:
                hyperparams["policy"] = "MlpPolicy"
            if hyperparams.get("callback") == _SYMMETRY_CALLBACK:
                del hyperparams["callback"]
        else:
            if self.algo not in POLICY_CLASSES:
                raise ValueError(
                    f"--symmetry and --method are for --algo {', '.join(POLICY_CLASSES)}; got --algo {self.algo}"
                )
            symmetry = self.choice.symmetry or current["symmetry"]
            if symmetry is None:
                raise ValueError(
                    f"no symmetry is known for {self.env_name.gym_id}: pass --symmetry NAME (`equirl envs` lists them)"
                )
            policy = policy_with(symmetry, method, self.algo)
            hyperparams["policy"] = f"{policy.__module__}.{policy.__name__}"
        kept = {key: value for key, value in policy_kwargs.items() if key not in _SYMMETRY_KEYS}
        if method == current["method"] and "method_kwargs" in policy_kwargs:
            kept["method_kwargs"] = policy_kwargs["method_kwargs"]
        hyperparams["policy_kwargs"] = kept


def _policy_kwargs(hyperparams: dict[str, Any]) -> dict[str, Any]:
    value = hyperparams.get("policy_kwargs") or {}
    # As a string it is Python, which rl_zoo3 evaluates in its own module; so do we, to be able to merge.
    return dict(eval(value, dict(vars(rl_zoo3.exp_manager))) if isinstance(value, str) else value)


def _symmetry_and_method(policy: str, policy_kwargs: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"symmetry": None, "method": None}
    if "." in policy:
        policy_class = get_class_by_name(policy)
        if isinstance(policy_class, type) and issubclass(policy_class, SymmetricPolicy):
            found.update(policy_class.fixed)
    found.update({key: policy_kwargs[key] for key in found if key in policy_kwargs})
    return found
