"""``equirl train``: rl_zoo3's training, with a symmetry, our environments and defaults, and a summary at the end."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from equirl.agents.cli.zoo import DEFAULT_ENVIRONMENT, arguments_of, hyperparameter_file, peek

__all__ = ["main"]

VECTORIZED = "vectorized"

_HELP = """\
usage: equirl train [--symmetry NAME] [--method NAME] [options of rl_zoo3.train]

Trains a Stable-Baselines3 agent through rl_zoo3, evaluates the final agent, draws its learning curve, and says where
everything is. Hyperparameters come from equirl's own file where it knows the environment, else from rl_zoo3's.

symmetry:
  --symmetry NAME          such as grid-c4, grid-d4 (`equirl envs` lists them); default: the hyperparameter file's
  --method NAME            equitune, lambda_equitune, equizero, canonical, or plain (SB3's own policy, for comparison)

summary:
  --summary-episodes N     evaluation episodes of the final agent (default 200; 0: no summary)
  --require-success RATE   exit with 1 if the success rate of those episodes is lower

most used of rl_zoo3 (all of them: equirl train --help-all):
  --algo NAME              default dqn          --env ID             default equirl/GridWorld-v0
  -n STEPS                 training steps       --seed N             random seed
  --eval-freq STEPS        default 1000         --eval-episodes N    default 100
  -f DIR                   default logs         -tb DIR              TensorBoard, default logs/tensorboard
  -params KEY:VALUE ...    hyperparameters      -P                   progress bar
  -i MODEL.zip             continue training    --save-freq STEPS    checkpoints
  --vec-env KIND           dummy, subproc, or vectorized (equirl/GridWorld-v0: all environments in array operations)
  -optimize --n-trials N   search; the symmetry stays               --num-threads N      torch threads, default 1

examples:
  equirl train -P --seed 1
  equirl train --method plain -n 40000
  equirl train --method canonical --vec-env vectorized -params n_envs:8 gradient_steps:8
  equirl train --symmetry grid-c4 -params learning_rate:0.0005 "policy_kwargs:dict(net_arch=[256, 256])"
  equirl train --env-kwargs size:9 "goal:'north-west'" -n 30000
  equirl train -optimize --n-trials 20 --n-timesteps 8000
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl train`` and return its exit status."""
    if {"-h", "--help"} & set(arguments):
        print(_HELP, end="")
        return 0
    parser = argparse.ArgumentParser(prog="equirl train", add_help=False, allow_abbrev=False)
    parser.add_argument("--symmetry")
    parser.add_argument("--method")
    parser.add_argument("--summary-episodes", type=int, default=200)
    parser.add_argument("--require-success", type=float)
    parser.add_argument("--help-all", action="store_true")
    parser.add_argument("--vec-env", choices=("dummy", "subproc", VECTORIZED), default="dummy")
    ours, theirs = parser.parse_known_args(arguments)
    if ours.vec_env != VECTORIZED:
        theirs += ["--vec-env", ours.vec_env]

    import rl_zoo3.train  # slow, so only when it is needed

    from equirl.agents.experiment_manager import EquirlExperimentManager, PolicyChoice
    from equirl.agents.summary import summarize

    choice = PolicyChoice(ours.symmetry, ours.method)
    if choice != PolicyChoice() and (agent := peek(theirs, "-i", "--trained-agent", default="")):
        raise ValueError(f"{agent} keeps the policy it was trained with: leave out --symmetry and --method, or -i")
    managers: list[EquirlExperimentManager] = []

    def make_manager(*args: Any, **kwargs: Any) -> EquirlExperimentManager:
        vectorized = ours.vec_env == VECTORIZED
        managers.append(EquirlExperimentManager(*args, choice=choice, vectorized=vectorized, **kwargs))
        return managers[0]

    # rl_zoo3's scripts are extended by replacing what their module looks up; they have no other door.
    zoo: Any = rl_zoo3.train
    original = zoo.ExperimentManager
    zoo.ExperimentManager = make_manager
    try:
        with arguments_of("equirl train", ["--help"] if ours.help_all else [*_defaults(theirs), *theirs]):
            zoo.train()
    finally:
        zoo.ExperimentManager = original
    manager = managers[0]
    if manager.optimize_hyperparameters or ours.summary_episodes < 1:
        return 0
    success = summarize(manager, ours.summary_episodes)
    if ours.require_success is not None and (success is None or success < ours.require_success):
        print(f"The success rate is below the required {ours.require_success}.")
        return 1
    return 0


def _defaults(arguments: Sequence[str]) -> list[str]:
    """Return our defaults, to stand before the user's arguments: the last one counts."""
    algorithm = peek(arguments, "--algo", default="dqn")
    environment = peek(arguments, "--env", default=DEFAULT_ENVIRONMENT)
    folder = peek(arguments, "-f", "--log-folder", default="logs")
    defaults = ["--algo", algorithm, "--env", environment, "-f", folder, "-tb", f"{folder}/tensorboard"]
    # One torch thread: networks this small run slower on two.
    defaults += ["--num-threads", "1", "--eval-freq", "1000", "--eval-episodes", "100"]
    ours = hyperparameter_file(algorithm, environment)
    return defaults if ours is None else [*defaults, "-conf", str(ours)]
