"""rl_zoo3's experiment manager, taught to take a symmetry, never to lose it in a search, and to name what is wrong."""

from __future__ import annotations

import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any, cast

import rl_zoo3
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.hyperparams_opt import HYPERPARAMS_SAMPLER
from rl_zoo3.utils import get_class_by_name
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecMonitor, VecNormalize

from equirl.agents.callbacks import SymmetryCallback
from equirl.agents.gate_training import GateTraining, gate_callbacks
from equirl.agents.loading import ALGORITHMS, load_agent
from equirl.agents.minigrid_views import is_minigrid, put_on_view
from equirl.agents.monitoring import monitored
from equirl.agents.orbit_statistics import follow_orbits
from equirl.agents.our_hyperparameters import of_method
from equirl.agents.policy_choice import (
    PLAIN,
    PolicyChoice,
    build_symmetries,
    check_observations,
    choose_policy,
    describe_policy,
    policy_for,
    policy_kwargs_of,
    symmetry_and_method,
    without_symmetry_callback,
)
from equirl.agents.run_keeper import RunKeeper
from equirl.agents.sb3_doors import masked_evaluation, saved_whole
from equirl.agents.snapshots import EvaluationsWhole
from equirl.agents.spaces import resolve_symmetry
from equirl.agents.starting_points import proposal
from equirl.agents.symmetric_policy import SymmetricPolicy
from equirl.agents.vector_env import has_vectorized_form, make_vectorized_env
from equirl.envs.making import failure_message, has_view

__all__ = ["PLAIN", "EquirlExperimentManager", "PolicyChoice"]


class EquirlExperimentManager(ExperimentManager):
    """rl_zoo3's ``ExperimentManager`` for policies with a symmetry.

    - Where rl_zoo3 replaces ``policy_kwargs`` as a whole (``-optimize``, ``--trial-id``), this one merges: what the
      search samples wins, the rest stays, the symmetry first of all.
    - MiniGrid's environments are looked at through the view of the symmetry.
    - TensorBoard gets the curves of ``SymmetryCallback`` whenever the policy is equivariant.
    - Errors name the environment, the agent or the hyperparameters that they come from, and leave no empty run behind.

    Args:
        *args: As for rl_zoo3.
        choice: Symmetry and method given on the command line.
        vectorized: Whether all environments are stepped as one batch; ``None``: where there is such a form of them, and
            no wrapper, stack or normalization asks for single ones.
        keeper: Keeps what a killed run goes on from; ``None``: nothing does.
        **kwargs: As for rl_zoo3.

    Raises:
        ValueError: ``choice`` names an unknown symmetry, one for an algorithm that has no equivariant policy, or a
            method where no symmetry is known; or observations would be normalised or stacked behind the policy's back.
    """

    def __init__(
        self,
        *args: Any,
        choice: PolicyChoice | None = None,
        vectorized: bool | None = None,
        keeper: RunKeeper | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.keeper = keeper
        if keeper is not None and keeper.folder is not None:
            self.save_path = str(keeper.folder)
            self.params_path = f"{self.save_path}/{self.env_name}"
        self.choice = choice or PolicyChoice()
        self.vectorized = vectorized
        self._symmetry: Any = None

    def setup_experiment(self) -> tuple[BaseAlgorithm, dict[str, Any]] | None:
        """Return the model and its hyperparameters; a run that cannot start leaves no folder behind.

        Raises:
            ValueError: An environment, an agent or hyperparameters that do not work; the message names them.
        """
        was_there = Path(self.save_path).exists()
        try:
            result: tuple[BaseAlgorithm, dict[str, Any]] | None = super().setup_experiment()
            return result
        except Exception as error:
            if not was_there:
                self._forget_run()
            raise self._with_settings(error) from error

    def learn(self, model: BaseAlgorithm) -> None:
        """Train the model, with ``SymmetryCallback`` if its policy is equivariant, and with what trains its gates.

        Raises:
            ValueError: Training fails; the message names the hyperparameters that were given.
        """
        callbacks = [callback for callback in self.callbacks if not isinstance(callback, SymmetryCallback)]
        if isinstance(model.policy, SymmetricPolicy):
            found = [callback for callback in self.callbacks if isinstance(callback, SymmetryCallback)]
            # A short run has its curves, too.
            callbacks += found or [SymmetryCallback(log_freq=max(1, min(1_000, self.n_timesteps // 10)))]
        if not any(isinstance(callback, GateTraining) for callback in callbacks):
            callbacks += gate_callbacks(model)
        self.callbacks = callbacks
        if self.keeper is not None:
            self.callbacks = self.keeper.with_snapshots(model, callbacks, Path(self.params_path))
        try:
            with saved_whole():
                super().learn(model)
        except Exception as error:
            for callback in self.callbacks:
                if isinstance(callback, EvaluationsWhole):
                    callback.forget()
            if model.num_timesteps == 0:
                self._forget_run()
            raise self._with_settings(error) from error

    def save_trained_model(self, model: BaseAlgorithm) -> None:
        """Save the final agent; from then on there is nothing to go on with, unless the user has stopped it."""
        with saved_whole():
            super().save_trained_model(model)
        if self.keeper is not None:
            self.keeper.ended(Path(self.params_path), model.num_timesteps >= self.n_timesteps)

    def _save_config(self, saved_hyperparams: dict[str, Any]) -> None:
        if self.keeper is None or self.keeper.folder is None:
            super()._save_config(saved_hyperparams)
        if self.keeper is not None and not self.optimize_hyperparameters:
            self.keeper.begun(Path(self.params_path), self.seed)

    def create_callbacks(self) -> None:
        """Make rl_zoo3's callbacks; the evaluation of a MaskablePPO agent keeps to the masks."""
        super().create_callbacks()  # type: ignore[no-untyped-call]
        if self.algo == "ppo_mask":
            self.callbacks = [masked_evaluation(callback) for callback in self.callbacks]

    def create_envs(self, n_envs: int, eval_env: bool = False, no_log: bool = False) -> VecEnv:
        """Return the environments: one batch with ``--vec-env vectorized``, otherwise as rl_zoo3 makes them.

        Raises:
            ValueError: The environment cannot be made; the message names it and its settings.
        """
        settings = self.eval_env_kwargs if eval_env else self.env_kwargs
        try:
            if self._as_batch():
                return self._create_batch(n_envs, settings, eval_env or no_log)
            if self.vec_env_class is SubprocVecEnv:  # errors in workers do not come here
                self.vec_env_class = cast(Any, _first_here)
            environments: VecEnv = super().create_envs(n_envs, eval_env, no_log)
            return environments
        except Exception as error:
            raise ValueError(failure_message(self.env_name.gym_id, settings, error)) from error

    def _as_batch(self) -> bool:
        if self.vectorized is not None:
            return self.vectorized
        singly = self.env_wrapper is not None or self.frame_stack is not None or self.normalize or self.vec_env_wrapper
        return has_vectorized_form(self.env_name.gym_id) and not singly

    def _create_batch(self, n_envs: int, settings: dict[str, Any], no_log: bool) -> VecEnv:
        if self.env_wrapper is not None or self.frame_stack is not None or self.normalize:
            raise ValueError("--vec-env vectorized steps a whole batch; wrappers, stacks and normalize are not for it")
        batch = make_vectorized_env(self.env_name.gym_id, n_envs, self.seed, settings, monitor=False)
        file = None if no_log else str(Path(self.save_path) / "0")
        return VecMonitor(batch, file, info_keywords=tuple(self.monitor_kwargs.get("info_keywords", ())))

    def read_hyperparameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the hyperparameters and a sorted copy to save.

        Those of the file, then those of the method, of a trial and of ``-params``; then the symmetry.
        """
        trial_id, self.trial_id = self.trial_id, None
        try:
            hyperparams, _ = super().read_hyperparameters()
        finally:
            self.trial_id = trial_id
        hyperparams.update(self._of_method(hyperparams))
        if self.storage and self.study_name and trial_id is not None:
            sampled = self._read_trial(trial_id)
            sampled["policy_kwargs"] = {**policy_kwargs_of(hyperparams), **sampled.get("policy_kwargs", {})}
            hyperparams.update(sampled)
        hyperparams.update(self.custom_hyperparams or {})
        if self.n_timesteps > 0:
            hyperparams.setdefault("n_timesteps", self.n_timesteps)
        for name, example in (("policy", "MlpPolicy"), ("n_timesteps", "50000")):
            if name not in hyperparams:
                raise ValueError(f"the hyperparameters have no {name}: add `{name}: {example}` in {self.config}")
        agent = self._trained_policy()
        self._choose_view(hyperparams)
        if agent is None:
            if self.choice != PolicyChoice():
                choose_policy(hyperparams, self.choice, self.algo, self.env_name.gym_id)
            check_observations(hyperparams)
            self._symmetry = symmetry_and_method(hyperparams["policy"], policy_kwargs_of(hyperparams))["symmetry"]
            if self._symmetry is None:  # a plain policy that learns from transformed rollouts
                self._symmetry = policy_kwargs_of(hyperparams, "rollout_buffer_kwargs").get("symmetry")
            print(describe_policy(hyperparams, self.choice, self.env_name.gym_id))
        else:
            print(f"Policy: that of {self.trained_agent}: {agent}")
        found = symmetry_and_method(hyperparams["policy"], policy_kwargs_of(hyperparams))["symmetry"]
        if agent is None and found is None and "callback" in hyperparams:
            hyperparams["callback"] = without_symmetry_callback(hyperparams["callback"])
            if not hyperparams["callback"]:
                del hyperparams["callback"]
        return hyperparams, OrderedDict(sorted(hyperparams.items()))

    def _of_method(self, hyperparams: dict[str, Any]) -> dict[str, Any]:
        """Return the hyperparameters that our files have for the method alone."""
        if not self._has_our_file():
            return {}
        found = symmetry_and_method(hyperparams["policy"], policy_kwargs_of(hyperparams))
        symmetry = self.choice.symmetry or getattr(found["symmetry"], "name", found["symmetry"])
        return of_method(self.algo, self.env_name.gym_id, self.choice.method or found["method"] or PLAIN, symmetry)

    def _trained_policy(self) -> str | None:
        """Return one line about the policy that training goes on with, ``None`` if it starts afresh."""
        if not self.continue_training:
            return None
        if self.algo not in ALGORITHMS:
            return f"a {self.algo} agent's"
        policy = load_agent(self.trained_agent, algorithm=self.algo, device="cpu").policy
        equivariant = "equivariant" if isinstance(policy, SymmetricPolicy) else "not equivariant"
        return f"{type(policy).__name__}, {equivariant}"

    def _choose_view(self, hyperparams: dict[str, Any]) -> None:
        """Put MiniGrid's environments behind the view of the symmetry, unless the agent brings its wrappers along."""
        if self.continue_training and "env_wrapper" in (self.custom_hyperparams or {}):
            return
        current = symmetry_and_method(hyperparams["policy"], policy_kwargs_of(hyperparams))["symmetry"]
        symmetry = self.choice.symmetry or getattr(current, "name", current)
        if not is_minigrid(self.env_name.gym_id):
            return
        if has_view(symmetry):
            put_on_view(hyperparams, self.env_name.gym_id, symmetry, replace=self._has_zoo_file())
        elif not hyperparams.get("env_wrapper"):
            raise ValueError(
                f"observations of {self.env_name.gym_id} hold a text, which {self.algo} does not read: --symmetry "
                "minigrid-d4 looks at them through a view (`equirl envs` lists them), or name a wrapper, such as "
                "-params env_wrapper:minigrid.wrappers.FlatObsWrapper"
            )

    def _maybe_normalize(self, env: VecEnv, eval_env: bool) -> VecEnv:
        """Normalise as rl_zoo3 does; for a symmetry by statistics of orbits, which keep it."""
        made: Any = super()._maybe_normalize(env, eval_env)
        if self._symmetry is not None and isinstance(made, VecNormalize):  # None, too, where an agent goes on
            follow_orbits(made, self._symmetry)
        normalized: VecEnv = made
        return normalized

    def _has_our_file(self) -> bool:
        return Path(__file__).parent in Path(self.config).parents

    def _has_zoo_file(self) -> bool:
        return Path(str(rl_zoo3.__file__)).parent in Path(self.config).parents

    def _preprocess_hyperparams(self, hyperparams: dict[str, Any]) -> Any:
        # rl_zoo3 evaluates this string where only its own classes are known; a dotted path is importable anywhere.
        for key in ("replay_buffer_class", "rollout_buffer_class"):
            name = hyperparams.get(key)
            if isinstance(name, str) and "." in name and all(part.isidentifier() for part in name.split(".")):
                hyperparams[key] = get_class_by_name(name)
        result, env_wrapper, callbacks, vec_env_wrapper = super()._preprocess_hyperparams(hyperparams)
        return result, monitored(env_wrapper), callbacks, vec_env_wrapper

    def _preprocess_action_noise(
        self, hyperparams: dict[str, Any], saved_hyperparams: dict[str, Any], env: VecEnv
    ) -> dict[str, Any]:
        # The one place of rl_zoo3 where hyperparameters and spaces are known and no model is made yet.
        result: dict[str, Any] = super()._preprocess_action_noise(hyperparams, saved_hyperparams, env)
        by_default = self._has_zoo_file() and "policy" not in (self.custom_hyperparams or {})
        if by_default and not self.continue_training and result["policy"] == "MlpPolicy":
            fitting = policy_for(env.observation_space, self.algo)  # rl_zoo3 has one default for all worlds
            if fitting != "MlpPolicy":
                result["policy"] = saved_hyperparams["policy"] = fitting
                print(f"Policy: {fitting}, which {self.algo} needs for observations in {env.observation_space}")
        build_symmetries(result, self.algo, env.observation_space, env.action_space)
        chosen = self.continue_training or self.custom_hyperparams or self.optimize_hyperparameters
        if not chosen and not self._has_our_file():
            self._propose(result, env)
        return result

    def _propose(self, hyperparams: dict[str, Any], env: VecEnv) -> None:
        """Print settings to begin with, where nobody has chosen any for this environment."""
        policy, order, method = hyperparams["policy"], 1, PLAIN
        if isinstance(policy, type) and issubclass(policy, SymmetricPolicy):
            known = {**policy.fixed, **policy_kwargs_of(hyperparams)}
            order = resolve_symmetry(known["symmetry"], env.observation_space, env.action_space).group.order
            method = str(known.get("method", "lambda_equitune"))
        line = proposal(self.algo, self.n_envs, order, method)
        if line is not None:
            print(line)

    def _load_pretrained_agent(self, hyperparams: dict[str, Any], env: VecEnv) -> BaseAlgorithm:
        try:
            agent: BaseAlgorithm = super()._load_pretrained_agent(hyperparams, env)
            return agent
        except Exception as error:
            raise ValueError(
                f"{self.trained_agent} cannot be trained further by {self.algo} in {self.env_name.gym_id}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def hyperparameters_optimization(self) -> None:
        """Run the search with ``policy_kwargs`` merged into what each trial samples.

        Raises:
            ValueError: The storage cannot be used, or no trial came to its end.
        """
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
        except Exception as error:
            if "No trials are completed" in str(error):
                raise ValueError(
                    "no trial of the search came to its end: all were pruned or failed; more may do, --n-trials"
                ) from error
            raise self._with_settings(error) from error
        finally:
            samplers[self.algo] = sampler
            self._forget_run()  # a search has no agent of its own

    def _read_trial(self, trial_id: int) -> dict[str, Any]:
        where = f"--trial-id {trial_id} of the study {self.study_name!r} in {self.storage}"
        try:
            trial: dict[str, Any] = self.load_trial(str(self.storage), str(self.study_name), trial_id)
            return trial
        except IndexError as error:
            raise ValueError(f"{where}: there are fewer trials; they are counted from 0") from error
        except Exception as error:  # optuna's, or those of any database
            raise ValueError(f"{where} cannot be read: {type(error).__name__}: {error}") from error

    def _forget_run(self) -> None:
        """Remove the folder of a run that has no agent, so that it is not taken for the latest one."""
        if not any(Path(self.save_path).glob("*.zip")):
            shutil.rmtree(self.save_path, ignore_errors=True)

    def _with_settings(self, error: Exception) -> Exception:
        """Return an error that also says which settings of the user's it may come from."""
        given = [f"{key}:{value}" for key, value in (self.custom_hyperparams or {}).items()]
        sources = [f"-params {' '.join(given)}"] if given else []
        if self.optimize_hyperparameters and self.storage:
            sources.append(f"--storage {self.storage}")
        if not self._has_zoo_file() and not self._has_our_file():
            sources.append(f"-conf {self.config}")
        if not sources or isinstance(error, OSError):
            return error
        text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        return ValueError(f"{text} (given: {', '.join(sources)})")


def _first_here(makers: list[Any], **kwargs: Any) -> VecEnv:
    """Return environments in worker processes, after one was made in this process, where errors are seen."""
    makers[0]().close()
    return SubprocVecEnv(makers, **kwargs)
