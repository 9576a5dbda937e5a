"""``equirl train``: rl_zoo3's training, with a symmetry, our environments and defaults, and a summary at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from equirl.agents.cli.arguments import CommandParser, rate, whole
from equirl.agents.cli.zoo import handed_over, statistics_of_any_age
from equirl.agents.policy_choice import FOUND_FIRST, PolicyChoice

__all__ = ["main"]

VECTORIZED = "vectorized"

_HELP = """\
usage: equirl train [--symmetry NAME] [--method NAME] [options of rl_zoo3.train]

Trains a Stable-Baselines3 agent through rl_zoo3, evaluates the final agent, draws its learning curve, and says where
everything is. Hyperparameters come from equirl's own file where it knows the environment, else from rl_zoo3's.
MiniGrid's environments are looked at through the view of the symmetry.

symmetry:
  --symmetry NAME          such as grid-c4, grid-d4 (`equirl envs` lists them); FILE.toml; or auto, which looks for it
                           first (`equirl discover`); default: the hyperparameter file's
  --method NAME            equitune, lambda_equitune, equizero, canonical, or plain (SB3's own policy, for comparison)

summary:
  --summary-episodes N     evaluation episodes of the final agent (0: no summary; default: 200 in equirl/GridWorld-v0,
                           elsewhere 5 or more, as many as fit in a tenth of the training steps)
  --require-success RATE   exit with 1 if the success rate of those episodes is lower

most used of rl_zoo3 (all of them: equirl train --help-all):
  --algo NAME              default dqn          --env ID             default equirl/GridWorld-v0
  -n STEPS                 training steps       --seed N             random seed
  --eval-freq STEPS        default 25000        --eval-episodes N    default 5 (equirl/GridWorld-v0: 1000 and 100)
  -f DIR                   default logs         -tb DIR              TensorBoard, default logs/tensorboard
  -params KEY:VALUE ...    hyperparameters      -P                   progress bar
  -i MODEL.zip             continue training    --save-freq STEPS    checkpoints
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
    ours, theirs = parser.parse_known_args(arguments)
    if ours.vec_env in ("dummy", "subproc"):
        theirs += ["--vec-env", ours.vec_env]
    if ours.symmetry in FOUND_FIRST and not ours.help_all:
        from equirl.agents.cli.discover import discovered_file

        ours.symmetry = discovered_file(ours.symmetry, theirs)
    choice = PolicyChoice(ours.symmetry, ours.method)

    import rl_zoo3.train  # slow, so only when it is needed

    from equirl.agents.cli.train_arguments import DEFAULTS, TYPES, complete
    from equirl.agents.experiment_manager import EquirlExperimentManager
    from equirl.agents.sb3_doors import made_managers
    from equirl.agents.summary import summarize

    def make_manager(*args: Any, **kwargs: Any) -> EquirlExperimentManager:
        vectorized = None if ours.vec_env is None else ours.vec_env == VECTORIZED
        return EquirlExperimentManager(*args, choice=choice, vectorized=vectorized, **kwargs)

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
