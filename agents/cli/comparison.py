"""What the command line says about a comparison of methods on one world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from equirl.agents.cli.hyperparameters import check_hyperparameters, hyperparameter_file, read_hyperparameters, zoo_file
from equirl.agents.cli.zoo import named_environment
from equirl.agents.comparison import Comparison, prepare_comparison
from equirl.symmetry import check_symmetry_name

__all__ = ["read_comparison"]


def read_comparison(
    environment: str,
    symmetry: str,
    algorithm: str,
    given: Mapping[str, Any],
    env_kwargs: Mapping[str, Any],
    conf_file: str | None = None,
    packages: Sequence[str] = (),
) -> Comparison:
    """Return the world and the hyperparameters of a comparison: those of ``equirl train``, shared by all methods.

    Args:
        environment: An id, or ``MODULE:ID``.
        symmetry: A name, or a symmetry file.
        algorithm: By rl_zoo3's name.
        given: Hyperparameters over those of the file.
        env_kwargs: Settings of the environment.
        conf_file: The user's file of hyperparameters; by default ours where it knows the environment, else rl_zoo3's.
        packages: Modules to import first.

    Raises:
        ValueError: A mistake in one of them; the message names it.
    """
    name = named_environment(environment, packages)
    check_symmetry_name(symmetry)
    zoo = str(zoo_file(algorithm))
    file = str(conf_file or hyperparameter_file(algorithm, name, symmetry) or zoo)
    found = read_hyperparameters(file, algorithm, name)
    check_hyperparameters(algorithm, found, file)
    check_hyperparameters(algorithm, given, "--hyperparams")
    return prepare_comparison(
        name, symmetry, algorithm, {**found, **given}, env_kwargs=env_kwargs, zoo_file=file == zoo
    )
