"""The common part of the augmentation buffers: a group transforms stored observations and actions."""

from __future__ import annotations

from typing import Any, Self, cast

from gymnasium import spaces
from torch import Tensor

from equirl.agents.moved_actions import MovedActions
from equirl.agents.sb3_doors import carry_symmetry
from equirl.agents.spaces import observation_shape, resolve_symmetry, symmetry_on
from equirl.arguments import whole_number
from equirl.representations import Tree
from equirl.symmetry import MDPSymmetry

__all__ = ["SymmetryBuffer"]


class SymmetryBuffer:
    """Mixin for SB3's buffers.

    Args:
        buffer_size: As for SB3's buffer.
        observation_space: As for SB3's buffer.
        action_space: ``Discrete``, ``MultiDiscrete``, ``MultiBinary`` or ``Box``.
        *args: Further arguments of SB3's buffer.
        symmetry: A registered name or an ``MDPSymmetry``.
        **kwargs: Further arguments of SB3's buffer.

    Raises:
        TypeError: Actions of another space, or a number that is none.
        ValueError: Unknown symmetry, or one that does not fit the spaces.
    """

    device: Any  # SB3's
    observation_space: Any

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:  # noqa: D102
        space = kwargs.get("observation_space", args[1] if len(args) > 1 else None)
        made = cls._class_for(isinstance(space, spaces.Dict), kwargs)
        return cast(Self, object.__new__(made))

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *args: Any,
        symmetry: str | MDPSymmetry,
        **kwargs: Any,
    ) -> None:
        # Before anything is stored: a replay buffer may take gigabytes.
        resolved = resolve_symmetry(symmetry, observation_space, action_space)
        buffer_size = whole_number(buffer_size, "buffer_size", 1)
        self._check_settings(kwargs)
        carry_symmetry(resolved, "replay_buffer_kwargs", "rollout_buffer_kwargs")
        super().__init__(buffer_size, observation_space, action_space, *args, **kwargs)  # type: ignore[call-arg]
        self.symmetry = symmetry_on(resolved, self.device)
        self._moved_actions = MovedActions(action_space, self.symmetry)

    @classmethod
    def _class_for(cls, dict_observations: bool, settings: dict[str, Any]) -> type[Any]:
        """Return the class that fits observations and settings."""
        return cls

    def _check_settings(self, settings: dict[str, Any]) -> None:
        """Raise where SB3's constructor would not, or only by an ``assert``."""

    def _moved(self, elements: Tensor, rows: Tree) -> Any:
        """Return stored observations, each moved by an element of its own, ``[B]``."""
        seen = _as_the_group_sees(rows, self.observation_space)
        return _as_stored(self.symmetry.observation.transform(elements, seen), rows)


def _as_the_group_sees(rows: Tree, space: spaces.Space[Any]) -> Tree:
    if isinstance(space, spaces.Dict):
        return {key: _as_the_group_sees(cast("dict[str, Any]", rows)[key], space.spaces[key]) for key in space.spaces}
    tensor = cast(Tensor, rows)
    shaped = tensor.reshape(len(tensor), *cast("tuple[int, ...]", observation_shape(space)))  # Discrete: from [B, 1]
    return shaped if isinstance(space, spaces.Box) else shaped.long()


def _as_stored(moved: Tree, rows: Tree) -> Tree:
    if isinstance(rows, dict):
        return {key: _as_stored(cast("dict[str, Any]", moved)[key], part) for key, part in rows.items()}
    tensor = cast(Tensor, moved).reshape(rows.shape)
    # Unsigned numbers that changed their sign have become floats, and stay them.
    return tensor if tensor.is_floating_point() else tensor.to(rows.dtype)
