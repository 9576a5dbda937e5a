"""Policy classes with symmetry and method built in, made on demand: ``GridD4LambdaEquitunePolicy`` and its kind.

The hyperparameter search of rl_zoo3 replaces ``policy_kwargs`` as a whole; what is built into the class survives it.
The name is ``<symmetry><method>Policy`` in camel case, for every registered symmetry and every method; before
``Policy`` stands ``QRDQN`` for QR-DQN, ``ActorCritic`` for PPO, A2C and TRPO, ``TD3`` for TD3 and DDPG, and ``SAC``,
``TQC``, ``CrossQ``, ``Recurrent`` or ``Maskable``. In a YAML file:
``policy: equirl.agents.policies.GridC4EquizeroPolicy``.
"""

from __future__ import annotations

from typing import Any

import equirl.envs  # noqa: F401  (registers the symmetries of our environments)
from equirl.agents.actor_critic import EquivariantActorCriticPolicy
from equirl.agents.actor_critic_masked import EquivariantMaskablePolicy
from equirl.agents.actor_critic_recurrent import EquivariantRecurrentPolicy
from equirl.agents.crossq import EquivariantCrossQPolicy
from equirl.agents.dqn import EquivariantDQNPolicy
from equirl.agents.qrdqn import EquivariantQRDQNPolicy
from equirl.agents.sac import EquivariantSACPolicy
from equirl.agents.symmetric_policy import SymmetricPolicy
from equirl.agents.td3 import EquivariantTD3Policy
from equirl.agents.tqc import EquivariantTQCPolicy
from equirl.methods import ALL_METHODS
from equirl.names import unknown_name_message
from equirl.symmetry import registered_symmetries

__all__ = ["POLICY_CLASSES", "policy_class_name", "policy_with"]

POLICY_CLASSES: dict[str, type[SymmetricPolicy]] = {
    "dqn": EquivariantDQNPolicy,
    "qrdqn": EquivariantQRDQNPolicy,
    "ppo": EquivariantActorCriticPolicy,
    "a2c": EquivariantActorCriticPolicy,
    "trpo": EquivariantActorCriticPolicy,
    "sac": EquivariantSACPolicy,
    "td3": EquivariantTD3Policy,
    "ddpg": EquivariantTD3Policy,
    "tqc": EquivariantTQCPolicy,
    "crossq": EquivariantCrossQPolicy,
    "ppo_lstm": EquivariantRecurrentPolicy,
    "ppo_mask": EquivariantMaskablePolicy,
}
"""Algorithm, by rl_zoo3's name, to its equivariant policy class."""


def policy_class_name(symmetry: str, method: str, algorithm: str = "dqn") -> str:
    """Return the class name for a symmetry and a method: ``"grid-d4", "equizero" -> "GridD4EquizeroPolicy"``."""
    words = f"{symmetry}-{method}".replace("_", "-").split("-")
    return "".join(word[:1].upper() + word[1:] for word in words) + POLICY_CLASSES[algorithm].algorithm + "Policy"


def policy_with(symmetry: str, method: str, algorithm: str = "dqn") -> type[SymmetricPolicy]:
    """Return the policy class that has this symmetry and method built in; the same class at every call.

    Raises:
        ValueError: Unknown symmetry, method or algorithm; the message lists the known ones.
    """
    for kind, given, known in (
        ("symmetry", symmetry, registered_symmetries()),
        ("method", method, list(ALL_METHODS)),
        ("algorithm", algorithm, list(POLICY_CLASSES)),
    ):
        if given not in known:
            raise ValueError(unknown_name_message(kind, given, known))
    name = policy_class_name(symmetry, method, algorithm)
    if name not in globals():
        base = POLICY_CLASSES[algorithm]
        # A module global, so that pickle finds the class by its name, in another process too (see __getattr__).
        globals()[name] = type(
            name,
            (base,),
            {
                "__doc__": f"{base.__name__} with symmetry {symmetry!r} and method {method!r}.",
                "__module__": __name__,
                "fixed": {"symmetry": symmetry, "method": method},
            },
        )
    made: type[SymmetricPolicy] = globals()[name]
    return made


def __getattr__(name: str) -> Any:
    known = {
        policy_class_name(symmetry, method, algorithm): (symmetry, method, algorithm)
        for symmetry in registered_symmetries()
        for method in ALL_METHODS
        for algorithm in POLICY_CLASSES
    }
    if name in known:
        return policy_with(*known[name])
    raise AttributeError(unknown_name_message("policy class", name, known))
