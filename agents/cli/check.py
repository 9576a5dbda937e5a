"""``equirl check``: does an environment have the symmetry one is about to rely on?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from equirl.agents.cli.agent_files import load_acting
from equirl.agents.cli.arguments import CommandParser, add_environment_settings, add_packages, existing_agent, whole
from equirl.agents.cli.zoo import named_environment
from equirl.envs import check_symmetry, make_environment
from equirl.envs.catalog import declared_view_settings

__all__ = ["main"]

_STATUS = {"holds": 0, "violated": 1, "not checked": 3}

_EXAMPLES = """\
Checks spaces, dynamics with rewards and episode ends, and the distribution of starts; names the first violation of
each with the group element, the state and the action, and for MuJoCo robots its cause. The exit status is 0 if the
symmetry holds as far as checked, 1 if it does not, 2 for a mistake in the command, and 3 if something could not be
checked: where an environment cannot be placed in a state (see equirl.envs.register_placer), or where placing does not
restore its state.

examples:
  equirl check CartPole-v1 --symmetry cartpole-z2
  equirl check equirl/GridWorld-v0 --symmetry grid-d4 --env-kwargs slip:0.2
  equirl check equirl/GridWorld-v0 --symmetry grid-d4 --env-kwargs goal:north-west --no-starts
  equirl check MiniGrid-FourRooms-v0 --symmetry minigrid-d4
  equirl check MiniGrid-DoorKey-5x5-v0 --symmetry minigrid-d4 --symmetric-starts
  equirl check Ant-v5 --symmetry mirror                       (MuJoCo: the mirror is derived from the model)
  equirl check Walker2d-v4 --symmetry mirror                  (fails, and says why: the friction of one foot)
  equirl check own_module:OwnWorld-v0 --symmetry own-symmetry    (the module registers both)
  equirl check MountainCar-v0 --symmetry mountaincar-z2      (fails: its valley and its goal are not symmetric)
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl check`` and return its exit status.

    Returns:
        0: the symmetry holds as far as checked; 1: it does not; 3: something could not be checked.
    """
    parser = CommandParser(prog="equirl check", epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("env", metavar="ENV", help="environment id, or MODULE:ID for one of your own")
    parser.add_argument(
        "--symmetry", required=True, metavar="NAME", help="`equirl envs` lists them; FILE.toml; mirror (MuJoCo)"
    )
    add_packages(parser)
    parser.add_argument("--agent", type=existing_agent, metavar="AGENT.zip", help="takes half of the actions")
    add_environment_settings(parser)
    parser.add_argument("--transitions", type=whole(1), default=500, metavar="N", help="transitions compared (500)")
    parser.add_argument("--resets", type=whole(20), default=600, metavar="N", help="resets for the start test (600)")
    parser.add_argument("--significance", type=float, default=0.001, help="of the statistical tests (0.001)")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="difference that counts as none (1e-05)")
    parser.add_argument("--no-starts", action="store_true", help="let starts be asymmetric; check the dynamics alone")
    parser.add_argument("--symmetric-starts", action="store_true", help="move the world by a random element at reset")
    parser.add_argument("--seed", type=whole(0), default=0)
    options = parser.parse_args(arguments)
    options.env = named_environment(options.env, options.gym_packages)
    if options.view_kwargs is None:
        options.view_kwargs = declared_view_settings(options.env, options.symmetry)
    environment = make_environment(
        options.env,
        options.symmetry,
        view_kwargs=options.view_kwargs,
        symmetric_starts=options.symmetric_starts,
        **(options.env_kwargs or {}),
    )
    report = check_symmetry(
        environment,
        options.symmetry,
        n_transitions=options.transitions,
        n_resets=options.resets,
        significance=options.significance,
        tolerance=options.tolerance,
        check_starts=not options.no_starts,
        seed=options.seed,
        agent=None if options.agent is None else load_acting(options.agent),
    )
    environment.close()
    print(report)
    return _STATUS[report.verdict]
