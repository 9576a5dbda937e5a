"""``equirl check``: does an environment have the symmetry one is about to rely on?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rl_zoo3.utils import StoreDict

from equirl.envs import check_symmetry, make_environment

__all__ = ["main"]

_EXAMPLES = """\
Checks spaces, dynamics with rewards and episode ends, and the distribution of starts; names the first violation of
each with the group element, the state and the action. The exit status is 1 if there is one.

examples:
  equirl check CartPole-v1 --symmetry cartpole-z2
  equirl check equirl/GridWorld-v0 --symmetry grid-d4 --env-kwargs slip:0.2
  equirl check equirl/GridWorld-v0 --symmetry grid-d4 --env-kwargs "goal:'north-west'" --no-starts
  equirl check MiniGrid-FourRooms-v0 --symmetry minigrid-d4
  equirl check MiniGrid-DoorKey-5x5-v0 --symmetry minigrid-d4 --symmetric-starts
  equirl check MountainCar-v0 --symmetry mountaincar-z2      (fails: its valley and its goal are not symmetric)
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl check`` and return its exit status: 0 if no check failed, 1 if one did."""
    parser = argparse.ArgumentParser(
        prog="equirl check", epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("env", metavar="ENV", help="environment id")
    parser.add_argument("--symmetry", required=True, metavar="NAME", help="`equirl envs` lists them")
    parser.add_argument("--env-kwargs", nargs="+", action=StoreDict, metavar="KEY:VALUE", help="settings of ENV")
    parser.add_argument(
        "--view-kwargs", nargs="+", action=StoreDict, metavar="KEY:VALUE", help="planes, mission, n_actions (MiniGrid)"
    )
    parser.add_argument("--transitions", type=int, default=500, metavar="N", help="transitions compared (500)")
    parser.add_argument("--resets", type=int, default=600, metavar="N", help="resets for the start test (600)")
    parser.add_argument("--significance", type=float, default=0.001, help="of the statistical tests (0.001)")
    parser.add_argument("--no-starts", action="store_true", help="let starts be asymmetric; check the dynamics alone")
    parser.add_argument("--symmetric-starts", action="store_true", help="move the world by a random element at reset")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
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
        check_starts=not options.no_starts,
        seed=options.seed,
    )
    environment.close()
    print(report)
    return 0 if report.ok else 1
