"""Actions as buffers store them, moved by a group: whatever their space."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from equirl.matrices import MatrixRepresentation
from equirl.symmetry import MDPSymmetry

__all__ = ["MovedActions"]


class MovedActions:
    """``ga`` for a batch of stored actions, each under an element of its own.

    ``Box`` actions may be stored as they are or, as SB3's off-policy algorithms do, scaled to [-1, 1]: a symmetry maps
    the bounds to bounds, so that both are moved alike.

    Args:
        space: ``Discrete``, ``MultiDiscrete``, ``MultiBinary`` or ``Box``.
        symmetry: How the group moves actions of the space, on the device of the buffer.

    Raises:
        TypeError: It mixes actions of a space other than ``Box`` by matrices.
    """

    def __init__(self, space: spaces.Space[Any], symmetry: MDPSymmetry) -> None:
        self._space = space
        self._matrices = symmetry.action if isinstance(symmetry.action, MatrixRepresentation) else None
        if self._matrices is not None and isinstance(space, spaces.Box):
            return
        self._representation = representation = symmetry.permuted_actions
        # index[g] reads where entry i of ga comes from; the entry a is carried to the place that reads from a
        self._image = representation.index.argsort(dim=1)
        self._starts = torch.zeros(1, dtype=torch.long, device=self._image.device)
        self._component = self._starts
        if isinstance(space, spaces.MultiDiscrete):
            sizes = torch.as_tensor(np.asarray(space.nvec), device=self._image.device)
            self._starts = sizes.cumsum(0) - sizes
            self._component = torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)

    def __call__(self, elements: Tensor, actions: Tensor) -> Tensor:
        """Return the moved actions.

        Args:
            elements: One element for each action, integers ``[B]``.
            actions: As stored, ``[B, n]``; ``[B, 1]`` for ``Discrete``.
        """
        if self._matrices is not None:
            return self._matrices.transform_each(elements, actions.flatten(1)).view(actions.shape)
        if isinstance(self._space, spaces.Discrete):
            return self._image[elements].gather(1, actions.long()).to(actions.dtype)
        if isinstance(self._space, spaces.MultiDiscrete):
            places = self._image[elements].gather(1, self._starts + actions.long())
            components = self._component[places]
            moved = torch.empty_like(places).scatter_(1, components, places - self._starts[components])
            return moved.to(actions.dtype)
        flat = actions.flatten(1)
        sources = flat.gather(1, self._representation.index[elements])
        negative = self._representation.sign[elements] < 0
        opposite = 1 - sources if isinstance(self._space, spaces.MultiBinary) else -sources
        return torch.where(negative, opposite, sources).view(actions.shape)
