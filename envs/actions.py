"""Actions of a space as a symmetry moves them: their entries, their images, and whether the two fit."""

from __future__ import annotations

from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from equirl.matrices import MatrixRepresentation, blocks
from equirl.symmetry import MDPSymmetry, acts_in

__all__ = ["Action", "ActionLayout", "uneven_block"]

Action: TypeAlias = int | NDArray[Any]
"""An action as policies see it: numbered from 0 for ``Discrete``, otherwise an array of the space's shape."""

_DRAWN = 4
"""Actions of a space of infinitely many whose images make a repertoire."""

_LARGEST_REPERTOIRE = 64


class ActionLayout:
    """What a symmetry's representation on actions acts on, for one space of actions.

    Its entries are the actions of ``Discrete``, the values of all components of ``MultiDiscrete`` one component after
    the other, the bits of ``MultiBinary``, and the numbers of ``Box``.

    Args:
        space: The space.

    Raises:
        TypeError: A space of another kind.

    Attributes:
        space: The space.
        size: Number of entries.
    """

    def __init__(self, space: gym.Space[Any]) -> None:
        if isinstance(space, spaces.Discrete):
            self.size = int(space.n)
        elif isinstance(space, spaces.MultiDiscrete) and len(space.shape or ()) == 1:
            self.size = int(np.sum(space.nvec))
        elif isinstance(space, (spaces.MultiBinary, spaces.Box)):
            self.size = int(np.prod(space.shape))
        else:
            raise TypeError(
                f"a symmetry moves the actions of Discrete, MultiDiscrete (one axis), MultiBinary or Box; got {space}. "
                "Wrap the environment so that it takes one of these"
            )
        self.space = space

    def check_name(self, name: str) -> None:
        """Raise unless a symmetry of this name is for such actions: a registered builder takes their number alone.

        Raises:
            TypeError: It is registered for actions of another kind.
        """
        kind = acts_in(name)
        if kind is not None and kind != type(self.space).__name__:
            raise TypeError(
                f"symmetry {name!r} moves the actions of a {kind} space; got {self.space}. Give an MDPSymmetry whose "
                "action representation moves such actions, or a symmetry file, FILE.toml"
            )

    def check(self, symmetry: MDPSymmetry) -> None:
        """Raise unless a symmetry maps the space of actions onto itself.

        Raises:
            ValueError: It has another number of entries, exchanges components of different sizes, changes the sign of
                what has none, or maps the bounds of ``Box`` to other ones.
        """
        name, group, rep = symmetry.name, symmetry.group, symmetry.action
        if rep.dim != self.size:
            raise ValueError(
                f"symmetry {name!r} permutes {rep.dim} actions, but the action space has {self.size} "
                f"({self.space}); build its action representation for that number"
            )
        if isinstance(rep, MatrixRepresentation) and isinstance(self.space, spaces.Box):
            self._check_discs(name, rep)
            return
        rep = symmetry.permuted_actions
        index, sign = rep.index.cpu().numpy(), rep.sign.cpu().numpy()
        if isinstance(self.space, (spaces.Discrete, spaces.MultiDiscrete)) and (sign != 1).any():
            raise ValueError(
                f"symmetry {name!r} changes the sign of actions of {self.space}, which number things and have no sign; "
                "permute them: permutation_representation"
            )
        if isinstance(self.space, spaces.MultiDiscrete):
            part = np.repeat(np.arange(len(self.space.nvec)), self.space.nvec)
            for g in range(group.order):
                for c, size in enumerate(self.space.nvec):
                    sources = np.unique(part[index[g][part == c]])
                    if len(sources) > 1 or self.space.nvec[sources[0]] != size:
                        raise ValueError(
                            f"symmetry {name!r}: element {group.element_names[g]} mixes the values of component {c} of "
                            f"{self.space} with those of others; only whole components of one size change places"
                        )
        if isinstance(self.space, spaces.Box):
            self._check_bounds(symmetry, index, sign.astype(np.float64))

    def _check_bounds(self, symmetry: MDPSymmetry, index: NDArray[Any], sign: NDArray[np.float64]) -> None:
        box: Any = self.space
        bounds = (bound.astype(np.float64).ravel() for bound in (box.low, box.high))
        low, high = (np.nan_to_num(bound, posinf=1e300, neginf=-1e300) for bound in bounds)
        ends = np.sort(np.stack([sign * low[index], sign * high[index]]), axis=0)
        off = ~(np.isclose(ends[0], low) & np.isclose(ends[1], high))
        if off.any():
            g, i = (int(k) for k in np.argwhere(off)[0])
            raise ValueError(
                f"symmetry {symmetry.name!r}: element {symmetry.group.element_names[g]} maps actions out of {box}: "
                f"number {i} is in [{low[i]:g}, {high[i]:g}], its image in [{ends[0, g, i]:g}, {ends[1, g, i]:g}]"
            )

    def _check_discs(self, name: str, rep: MatrixRepresentation) -> None:
        """Raise unless all numbers that matrices mix have one bound, the same to both sides."""
        box: Any = self.space
        low, high = (bound.astype(np.float64).ravel() for bound in (box.low, box.high))
        if uneven := uneven_block(rep, low, high):
            raise ValueError(
                f"symmetry {name!r} mixes numbers {uneven} of an action, which then need one bound to both sides; "
                f"{box} has {low[uneven].tolist()} to {high[uneven].tolist()}"
            )

    def draw(self, random: np.random.Generator) -> Action:
        """Draw an action: uniformly, and from a standard normal distribution where ``Box`` has no bounds."""
        if isinstance(self.space, spaces.Discrete):
            return int(random.integers(self.size))
        if isinstance(self.space, spaces.MultiDiscrete):
            return np.asarray(random.integers(self.space.nvec))
        if isinstance(self.space, spaces.MultiBinary):
            return np.asarray(random.integers(2, size=self.space.shape))
        box: Any = self.space
        bounded = np.isfinite(box.low) & np.isfinite(box.high)
        inside = random.uniform(np.where(bounded, box.low, 0), np.where(bounded, box.high, 1))
        drawn: NDArray[Any] = np.where(bounded, inside, np.clip(random.normal(size=box.shape), box.low, box.high))
        return drawn

    def image(self, symmetry: MDPSymmetry, element: int, action: Action) -> Action:
        """Return ``ga``."""
        if isinstance(symmetry.action, MatrixRepresentation) and isinstance(self.space, spaces.Box):
            matrix = symmetry.action.matrices()[element].cpu().numpy().astype(np.float64)
            turned: NDArray[Any] = (matrix @ np.asarray(action).reshape(-1)).reshape(np.shape(action))
            return turned
        permuted = symmetry.permuted_actions
        index = permuted.index[element].cpu().numpy()
        if isinstance(self.space, spaces.Discrete):
            return int(np.argmax(index == action))  # index[i] is the action that g carries to i
        given = np.asarray(action)
        if isinstance(self.space, spaces.MultiDiscrete):
            starts = np.cumsum(self.space.nvec) - self.space.nvec
            to = np.argsort(index)[starts + given]  # places of the values that were taken
            component = np.searchsorted(starts, to, side="right") - 1
            moved = np.empty_like(given)
            moved[component] = to - starts[component]
            return moved
        sign = permuted.sign[element].cpu().numpy().reshape(given.shape)
        source = given.reshape(-1)[index].reshape(given.shape)
        bits = isinstance(self.space, spaces.MultiBinary)
        image: NDArray[Any] = np.where(sign == 1, source, 1 - source if bits else -source)
        return image

    def repertoire(self, symmetry: MDPSymmetry, random: np.random.Generator) -> list[Action]:
        """Return a few actions whose images are among them; all of ``Discrete``."""
        if isinstance(self.space, spaces.Discrete):
            return list(range(self.size))
        found: list[Action] = []
        drawn = 0
        while drawn < _DRAWN and (not found or len(found) + symmetry.group.order <= _LARGEST_REPERTOIRE):
            action = self.draw(random)
            drawn += 1
            for g in range(symmetry.group.order):
                image = self.image(symmetry, g, action)
                if self.place(found, image) is None:
                    found.append(image)
        return found

    def place(self, actions: list[Action], action: Action) -> int | None:
        """Return where an action stands in a list, ``None`` if it does not."""
        return next((k for k, other in enumerate(actions) if np.array_equal(other, action)), None)

    def counted(self, action: Any) -> Action:
        """Return an action that the environment takes as policies count it: from 0."""
        if isinstance(self.space, spaces.Discrete):
            return int(action) - int(self.space.start)
        if isinstance(self.space, spaces.MultiDiscrete):
            from_first: NDArray[Any] = np.asarray(action) - np.asarray(self.space.start)
            return from_first
        return np.asarray(action)

    def numbered(self, action: Action) -> Any:
        """Return an action as the environment takes it."""
        if isinstance(self.space, spaces.Discrete):
            return np.int64(int(action) + int(self.space.start))
        if isinstance(self.space, spaces.MultiDiscrete):
            return (np.asarray(action) + np.asarray(self.space.start)).astype(self.space.dtype)
        return np.asarray(action).astype(self.space.dtype)


def uneven_block(rep: MatrixRepresentation, low: NDArray[np.float64], high: NDArray[np.float64]) -> list[int]:
    """Return the numbers of a block that a group mixes or flips and that have not one bound to both sides; none if all.

    Args:
        rep: How the group moves the numbers.
        low: Lower bounds, ``[n]``.
        high: Upper bounds, ``[n]``.
    """
    matrices = rep.matrices().cpu().numpy()
    for members in blocks(rep).cpu().numpy() > 0:
        own = np.flatnonzero(members)
        if len(own) == 1 and (matrices[:, own[0], own[0]] > 0).all():
            continue  # it stays as it is
        if not (np.allclose(high[own], high[own[0]]) and np.allclose(low[own], -high[own[0]])):
            return [int(i) for i in own]
    return []
