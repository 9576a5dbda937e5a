"""``equirl symmetrize``: a trained agent made equivariant, as a file that SB3 loads like any other."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import unwrap_vec_normalize

from equirl.agents.cli.agent_options import add_agent_options, load, make_environments, parse_agent_options
from equirl.agents.cli.arguments import CommandParser, StoreSettings, check_output, new_file, whole
from equirl.agents.lambda_fit import LambdaFit
from equirl.agents.symmetrization import agent_symmetry, symmetrize_agent
from equirl.agents.visited_states import replay_observations, rollout_observations
from equirl.files import written_whole
from equirl.methods import METHODS, make_aggregator

__all__ = ["main"]

_EXAMPLES = """\
The result is an SB3 agent of the same class: DQN.load, equirl audit, further training. Equitune, equizero and canonical
need nothing but the agent. λ is fitted without rewards to states that the agent knows: those of its replay buffer, if
one is given, else of its own rollouts in ENV, which has to be the environment it was trained in.

examples:
  equirl symmetrize agent.zip --env CartPole-v1 --symmetry cartpole-z2 -o equivariant.zip
  equirl symmetrize agent.zip --env equirl/GridWorld-v0 --env-kwargs "goal:'north-west'" --symmetry grid-d4 \\
      --method lambda_equitune --replay-buffer buffer.pkl -o equivariant.zip
  equirl symmetrize agent.zip --env equirl/GridWorld-v0 --env-kwargs broken_cells:0.1 --symmetry grid-d4 \\
      --method partial --replay-buffer buffer.pkl -o partial.zip
  equirl symmetrize agent.zip --env MiniGrid-FourRooms-v0 --symmetry minigrid-egocentric-z2 \\
      --view-kwargs "planes:['unseen','wall','goal']" n_actions:3 -o equivariant.zip
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl symmetrize`` and return its exit status."""
    parser = CommandParser(
        prog="equirl symmetrize", epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_agent_options(parser)
    parser.add_argument("--method", choices=[*METHODS, "partial"], default="equitune")
    parser.add_argument("-o", "--output", required=True, type=new_file, metavar="OUT.zip")
    parser.add_argument(
        "--method-kwargs", nargs="+", action=StoreSettings, metavar="KEY:VALUE", help="reads, hidden, proxy_loss, ..."
    )
    fit = LambdaFit()
    parser.add_argument("--states", type=whole(10), default=10_000, metavar="N", help="states λ is fitted on (10000)")
    parser.add_argument("--objective", default=fit.objective, help="of λ: reproduce (default) or recognize")
    parser.add_argument("--fit-steps", type=whole(1), default=fit.steps, metavar="N", help=f"at most ({fit.steps})")
    options = parse_agent_options(parser, list(arguments))
    # SB3 appends .zip to names that have no ending.
    output = options.output if options.output.suffix else options.output.with_suffix(".zip")
    check_output(output, folder=False)
    fit = LambdaFit(objective=options.objective, steps=options.fit_steps, seed=options.seed)
    environments = make_environments(options, n_envs=1)
    model = load(options, environments)
    settings = options.method_kwargs or {}
    _check(model, options.symmetry, options.method, settings)  # a mistake shows before the rollouts
    observations = None
    if options.method == "lambda_equitune" or settings.get("proxy_loss") == "novelty":
        if options.replay_buffer is not None:
            observations = replay_observations(model, options.states, options.seed)
        else:
            print(
                f"Collecting {options.states:,} states from the agent's own rollouts in {options.env} ...", flush=True
            )
            observations = rollout_observations(model, environments, options.states, seed=options.seed)
    model.verbose = max(model.verbose, 1)
    symmetrized = symmetrize_agent(
        model,
        options.symmetry,
        options.method,
        settings,
        observations=observations,
        fit=fit,
    )
    with written_whole(output) as temporary:
        symmetrized.save(temporary)
    if (normalized := unwrap_vec_normalize(environments)) is not None and options.symmetrize_statistics:
        statistics = output.with_name(f"{output.stem}-vecnormalize.pkl")
        with written_whole(statistics) as temporary:
            normalized.save(str(temporary))
        print(f"Its statistics, without which it sees other observations: {statistics}")
    print(f"{type(symmetrized).__name__}, {options.symmetry}, {options.method}: {output}")
    return 0


def _check(model: BaseAlgorithm, name: str, method: str, settings: dict[str, Any]) -> None:
    """Raise what symmetrizing will, before states are collected for it.

    Raises:
        TypeError: As ``symmetrize_agent``.
        ValueError: As ``symmetrize_agent``.
    """
    symmetry = agent_symmetry(model, name)
    symmetrize_agent(model, name, "equitune")
    if method == "lambda_equitune":
        make_aggregator(method, settings, {"features": 1, "inputs": 1}, symmetry.observation)
