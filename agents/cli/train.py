"""``equirl train``: rl_zoo3's training, with a symmetry, our environments and defaults, and a summary at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from equirl.agents.cli.arguments import CommandParser, rate, seconds, whole, without_option
from equirl.agents.cli.zoo import handed_over, statistics_of_any_age
from equirl.agents.policy_choice import FOUND_FIRST, PolicyChoice

__all__ = ["main"]

VECTORIZED = "vectorized"

_SNAPSHOT_EVERY = 30.0

_HELP = """\
usage: equirl train [--symmetry NAME] [--method NAME] [options of rl_zoo3.train]

Trains a Stable-Baselines3 agent through rl_zoo3, evaluates the final agent, draws its learning curve, and says where
everything is. Hyperparameters come from equirl's own file where it knows the environment, else from rl_zoo3's.
MiniGrid's environments are looked at through the view of the symmetry.

symmetry:
  --symmetry NAME          such as grid-c4, grid-d4 (`equirl envs` lists them); FILE.toml; or auto, which looks for it
                           first (`equirl discover`); default: the hyperparameter file's
  --method NAME            equitune, lambda_equitune, equizero, canonical, or plain (SB3's own policy, for comparison);
                           for worlds that are not quite symmetric partial, partial_weights or penalty

summary:
  --summary-episodes N     evaluation episodes of the final agent (0: no summary; default: 200 in equirl/GridWorld-v0,
                           elsewhere 5 or more, as many as fit in a tenth of the training steps)
  --require-success RATE   exit with 1 if the success rate of those episodes is lower

stopping and going on:
  --resume [RUN]           go on with a run that was killed, as if it had never stopped; default: the latest in -f
  --snapshot-every SECONDS how often a run keeps what it goes on from; default 30, 0: never

most used of rl_zoo3 (all of them: equirl train --help-all):
  --algo NAME              default dqn          --env ID             default equirl/GridWorld-v0
  -n STEPS                 training steps       --seed N             random seed
  --eval-freq STEPS        default 25000        --eval-episodes N    default 5 (equirl/GridWorld-v0: 1000 and 100)
  -f DIR                   default logs         -tb DIR              TensorBoard, default logs/tensorboard
  -params KEY:VALUE ...    hyperparameters      -P                   progress bar
  -i MODEL.zip             train an agent further    --save-freq STEPS    checkpoints
  -conf FILE.yml           your hyperparameters --gym-packages MODULE ...  modules that register worlds of your own;
                                                or --env MODULE:ID
  --vec-env KIND           dummy, subproc, or vectorized: all environments in array operations (equirl/GridWorld-v0,
                           the default there)
  -optimize --n-trials N   search; the symmetry stays               --num-threads N      torch threads, default 1

examples:
  equirl train -P --seed 1
  equirl train --method plain
  equirl train --method canonical -params n_envs:32 gradient_steps:2
  equirl train --symmetry grid-c4 -params learning_rate:0.0005 "policy_kwargs:dict(net_arch=[256, 256])"
  equirl train --env-kwargs size:9 goal:north-west -n 30000
  equirl train --env MiniGrid-Empty-8x8-v0 --algo ppo --symmetry minigrid-egocentric-z2
  equirl train --env own_module:Own-v0 --symmetry own.toml -n 20000
  equirl train -optimize --n-trials 20 --n-timesteps 8000
  equirl train --resume logs/dqn/equirl-GridWorld-v0_3
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl train`` and return its exit status."""
    if {"-h", "--help"} & set(arguments):
        print(_HELP, end="")
        return 0
    parser = CommandParser(prog="equirl train", add_help=False, allow_abbrev=False)
    parser.add_argument("--symmetry")
    parser.add_argument("--method")
    parser.add_argument("--summary-episodes", type=whole(0))
    parser.add_argument("--require-success", type=rate)
    parser.add_argument("--help-all", action="store_true")
    parser.add_argument("--vec-env", choices=("dummy", "subproc", VECTORIZED))
    parser.add_argument("--resume", nargs="?", const="", metavar="RUN")
    parser.add_argument("--snapshot-every", type=seconds, default=_SNAPSHOT_EVERY, metavar="SECONDS")
    ours, theirs = parser.parse_known_args(arguments)
    folder = None
    if ours.resume is not None and not ours.help_all:
        from equirl.agents.run_keeper import kept_arguments, unfinished_run

        logs, show = _with_resume(arguments, ours.resume)
        folder = unfinished_run(ours.resume, logs)
        arguments, every = kept_arguments(folder)
        ours, theirs = parser.parse_known_args([*arguments, *show])
        ours.snapshot_every = every
    if ours.vec_env in ("dummy", "subproc"):
        theirs += ["--vec-env", ours.vec_env]
    if ours.symmetry in FOUND_FIRST and not ours.help_all:
        from equirl.agents.cli.discover import discovered_file

        ours.symmetry = discovered_file(ours.symmetry, theirs)
        arguments = [*without_option(arguments, "--symmetry"), "--symmetry", ours.symmetry]
    choice = PolicyChoice(ours.symmetry, ours.method)

    import rl_zoo3.train  # slow, so only when it is needed

    from equirl.agents.cli.train_arguments import DEFAULTS, TYPES, complete
    from equirl.agents.experiment_manager import EquirlExperimentManager
    from equirl.agents.run_keeper import RunKeeper
    from equirl.agents.sb3_doors import made_managers
    from equirl.agents.summary import summarize

    keeper = RunKeeper(arguments, ours.snapshot_every, folder)

    def make_manager(*args: Any, **kwargs: Any) -> EquirlExperimentManager:
        vectorized = None if ours.vec_env is None else ours.vec_env == VECTORIZED
        return EquirlExperimentManager(*args, choice=choice, vectorized=vectorized, keeper=keeper, **kwargs)

    known = [option for action in parser._actions for option in action.option_strings]
    with (
        made_managers(make_manager) as managers,
        handed_over(
            "equirl train",
            ["--help"] if ours.help_all else theirs,
            check=lambda parsed: complete(parsed, choice),
            defaults=DEFAULTS,
            types=TYPES,
            other_options=known,
        ),
        statistics_of_any_age(),
    ):
        rl_zoo3.train.train()
    manager = managers[0]
    if manager.optimize_hyperparameters or ours.summary_episodes == 0:
        return 0
    success = summarize(manager, ours.summary_episodes, exactly=ours.require_success is not None)
    if ours.require_success is not None and (success is None or success < ours.require_success):
        print(f"The success rate is below the required {ours.require_success}.")
        return 1
    return 0


def _with_resume(arguments: Sequence[str], run: str) -> tuple[str, list[str]]:
    """Return the folder of all runs, and what a run that goes on is to show besides.

    Raises:
        ValueError: Options that the run itself has already.
    """
    parser = CommandParser(prog="equirl train --resume", add_help=False, allow_abbrev=False)
    parser.add_argument("--resume", nargs="?")
    parser.add_argument("-f", "--log-folder", default="logs")
    parser.add_argument("-P", "--progress", action="store_true")
    known, others = parser.parse_known_args(arguments)
    if others:
        raise ValueError(f"--resume {run} goes on with the run's own options: leave out {' '.join(others)}")
    return known.log_folder, ["-P"] if known.progress else []
