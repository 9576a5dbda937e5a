"""``equirl audit``: how symmetric a trained agent is, and what symmetrization does to its returns."""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Sequence

from equirl.agents.audit import AUDIT_COLUMNS, AuditRow, audit_agent, draw_audit
from equirl.agents.cli.agent_options import add_agent_options, load, make_environments, parse_agent_options
from equirl.agents.cli.arguments import CommandParser, check_output, new_file, whole
from equirl.agents.symmetric_policy import SymmetricPolicy
from equirl.agents.symmetry_map import check_mappable, draw_symmetry_map, map_symmetry
from equirl.files import written_whole

__all__ = ["main"]

_EXAMPLES = """\
Prints for the agent as it is and for its three symmetrizations: return with a 95 % interval, success rate where there
is one, equivariance error, and the share of visited states where the greedy action depends on the orientation. λ is
fitted to the agent's own rollouts. Writes a picture, and with --csv a row per agent.

examples:
  equirl audit agent.zip --env CartPole-v1 --symmetry cartpole-z2
  equirl audit agent.zip --env equirl/GridWorld-v0 --symmetry grid-d4 --env-kwargs broken_cells:0.1 --map map.png
  equirl audit agent.zip --env Acrobot-v1 --symmetry acrobot-z2 --episodes 200 --csv audit.csv --png audit.png
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl audit`` and return its exit status."""
    parser = CommandParser(prog="equirl audit", epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_agent_options(parser)
    parser.add_argument("--episodes", type=whole(1), default=100, metavar="N", help="episodes of each agent (100)")
    parser.add_argument("--states", type=whole(10), default=5_000, metavar="N", help="visited states (5000)")
    parser.add_argument("--n-envs", type=whole(1), default=10, metavar="N", help="environments at a time (10)")
    parser.add_argument("--stochastic", action="store_true", help="let the agents sample their actions")
    parser.add_argument("--proxy-loss", metavar="NAME", help="of equizero: max_value, novelty, ...")
    parser.add_argument("--reads", choices=("inputs", "features"), help="what λ reads (inputs)")
    parser.add_argument("--csv", type=new_file, metavar="FILE", help="write a row per agent")
    parser.add_argument("--png", type=new_file, metavar="FILE", help="the picture; default: MODEL-audit.png")
    parser.add_argument(
        "--map",
        type=new_file,
        metavar="FILE",
        help="on grids a picture of the cells where the world and where the agent break the symmetry",
    )
    options = parse_agent_options(parser, list(arguments))
    picture = options.png or options.model.with_name(f"{options.model.stem}-audit.png")
    check_output(picture, folder=False)
    if options.map is not None:
        check_output(options.map, folder=False)
    environments = make_environments(options, options.n_envs)
    model = load(options, environments)
    if options.map is not None:
        check_mappable(model)
    given = {} if options.proxy_loss is None else {"equizero": {"proxy_loss": options.proxy_loss}}
    if options.reads is not None or not isinstance(model.policy, SymmetricPolicy):
        given["lambda_equitune"] = {"reads": options.reads or "inputs"}
    rows = audit_agent(
        model,
        environments,
        options.symmetry,
        n_episodes=options.episodes,
        n_states=options.states,
        seed=options.seed,
        deterministic=not options.stochastic,
        method_kwargs=given,
        progress=lambda name: print(f"{name}: {options.episodes} episodes ...", flush=True),
    )
    print(f"\n{_table(rows)}")
    draw_audit(rows, f"{options.env}, {options.symmetry}", picture)
    print(f"\nPlot written to {picture}")
    if options.csv is not None:
        with written_whole(options.csv) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([AUDIT_COLUMNS, *(row.cells() for row in rows)])
        print(f"Rows written to {options.csv}")
    if options.map is not None:
        found = map_symmetry(model, environments, options.symmetry, seed=options.seed)
        draw_symmetry_map(found, f"{options.env}, {options.symmetry}", options.map)
        print(f"Map written to {options.map}")
    return 0


def _table(rows: list[AuditRow]) -> str:
    lines = [
        f"{'agent':<16} {'return':>9}  {'95 % interval':<22} {'success':>7}  {'equivariance error':>18}  "
        f"{'orientation-dependent':>21}"
    ]
    for row in rows:
        interval = "-" if math.isnan(row.low) or math.isnan(row.high) else f"[{row.low:.2f}, {row.high:.2f}]"
        success = "-" if row.success_rate is None else f"{row.success_rate:.2f}"
        lines.append(
            f"{row.agent:<16} {row.mean_return:>9.2f}  {interval:<22} {success:>7}  {row.equivariance_error:>18.1e}  "
            f"{row.disagreement_share:>20.1%}"
        )
    return "\n".join(lines)
