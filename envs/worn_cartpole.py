"""CartPole with a motor that is weaker to one side: a mirror that does not quite hold."""

from __future__ import annotations

from typing import Any

from gymnasium.envs.classic_control import CartPoleEnv
from numpy.typing import NDArray

from equirl.arguments import real_number

__all__ = ["WornCartPoleEnv"]


class WornCartPoleEnv(CartPoleEnv):
    """Gymnasium's CartPole whose motor pushes to the left with a share of its force; 1: CartPole itself.

    Starts, ends and rewards have the mirror ``"cartpole-z2"``, the dynamics have it where the pole falls by itself and
    miss it by the missing force.

    Args:
        left: Share in (0, 1] of the force that pushes to the left.
        **settings: As for ``CartPoleEnv``.

    Raises:
        TypeError: ``left`` is no number.
        ValueError: It is not in (0, 1].
    """

    def __init__(self, left: float = 0.6, **settings: Any) -> None:
        self.left = real_number(left, "left", above=0, most=1)
        super().__init__(**settings)
        self._whole_force = self.force_mag

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        """Push, and return observation, reward, terminated, truncated and info, as CartPole does."""
        self.force_mag = self._whole_force * (self.left if action == 0 else 1.0)
        observation, reward, terminated, truncated, info = super().step(action)  # type: ignore[no-untyped-call]
        return observation, float(reward), terminated, truncated, info
