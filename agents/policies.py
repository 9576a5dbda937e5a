"""Policy classes with symmetry and method built in, made on demand: ``GridD4LambdaEquitunePolicy`` and its kind.

The hyperparameter search of rl_zoo3 replaces ``policy_kwargs`` as a whole; what is built into the class survives it.
The name is ``<symmetry><method>Policy`` in camel case, for every registered symmetry and every method. In a YAML file:
``policy: equirl.agents.policies.GridC4EquizeroPolicy``.
"""

from __future__ import annotations

from typing import Any

import equirl.envs  # noqa: F401  (registers the symmetries of our environments)
from equirl.agents.dqn import EquivariantDQNPolicy
from equirl.agents.methods import METHODS
from equirl.names import unknown_name_message
from equirl.symmetry import registered_symmetries

__all__ = ["policy_class_name", "policy_with"]


def policy_class_name(symmetry: str, method: str) -> str:
    """Return the class name for a symmetry and a method: ``"grid-d4", "equizero" -> "GridD4EquizeroPolicy"``."""
    words = f"{symmetry}-{method}".replace("_", "-").split("-")
    return "".join(word[:1].upper() + word[1:] for word in words) + "Policy"


def policy_with(symmetry: str, method: str) -> type[EquivariantDQNPolicy]:
    """Return the policy class that has this symmetry and method built in; the same class at every call.

    Raises:
        ValueError: Unknown symmetry or method; the message lists the known ones.
    """
    for kind, given, known in (("symmetry", symmetry, registered_symmetries()), ("method", method, list(METHODS))):
        if given not in known:
            raise ValueError(unknown_name_message(kind, given, known))
    name = policy_class_name(symmetry, method)
    if name not in globals():
        # A module global, so that pickle finds the class by its name, in another process too (see __getattr__).
        globals()[name] = type(
            name,
            (EquivariantDQNPolicy,),
            {
                "__doc__": f"Equivariant DQN policy: symmetry {symmetry!r}, method {method!r}.",
                "__module__": __name__,
                "fixed": {"symmetry": symmetry, "method": method},
            },
        )
    made: type[EquivariantDQNPolicy] = globals()[name]
    return made


def __getattr__(name: str) -> Any:
    known = {
        policy_class_name(symmetry, method): (symmetry, method)
        for symmetry in registered_symmetries()
        for method in METHODS
    }
    if name in known:
        return policy_with(*known[name])
    raise AttributeError(unknown_name_message("policy class", name, known))
