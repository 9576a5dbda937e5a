"""What stands for the replay buffer of an agent with hindsight experience replay that is loaded without its world."""

from __future__ import annotations

from typing import Any, NoReturn

from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

__all__ = ["AbsentBuffer", "buffer_without_environment"]


class AbsentBuffer:
    """An empty replay buffer that takes nothing.

    ``HerReplayBuffer`` asks its environment for rewards, so without one there is none; the agent can act all the same.
    """

    pos = 0
    full = False

    def size(self) -> int:
        """Return 0, the number of its transitions."""
        return 0

    def add(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse a transition.

        Raises:
            ValueError: Always; it says what to do.
        """
        raise ValueError(
            "this agent learns with hindsight experience replay and was loaded without an environment, so that it has "
            "no replay buffer: load it with the one it is to learn in, load_agent(path, env)"
        )

    sample = add


def buffer_without_environment(buffer_class: Any) -> dict[str, Any]:
    """Return what to set in an agent that is loaded without an environment, so that SB3 does not ask for one.

    SB3 makes the replay buffer while it loads an agent, and ``HerReplayBuffer`` needs an environment. An agent that has
    a buffer already gets no other. For other classes of buffers nothing has to be set.

    Args:
        buffer_class: The agent's ``replay_buffer_class``, if it has one.
    """
    hindsight = isinstance(buffer_class, type) and issubclass(buffer_class, HerReplayBuffer)
    return {"replay_buffer": AbsentBuffer()} if hindsight else {}
