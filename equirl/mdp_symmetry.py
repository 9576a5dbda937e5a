"""The symmetry of a Markov decision process: how a group moves its observations and its (RL) actions.

``p(gs' | gs, ga) = p(s' | s, a)`` and ``r(gs, ga) = r(s, a)`` imply ``Q*(gs, ga) = Q*(s, a)``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from equirl.arguments import of_kind, whole_number
from equirl.groups import FiniteGroup
from equirl.matrices import Linear, MatrixRepresentation
from equirl.representations import MonomialRepresentation, Representation

__all__ = ["MDPSymmetry", "ObservationShape", "stack_frames"]

ObservationShape: TypeAlias = tuple[int, ...] | Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class MDPSymmetry:
    """A group with its representations on observations and on actions.

    How the representation on actions, sample shape ``[n]``, is read depends on the space of the actions:

    - ``Discrete(n)``: it permutes the ``n`` actions, so that ``Q(gs, ga) = Q(s, a)`` reads ``Q(gs) = action(g) Q(s)``;
    - ``MultiDiscrete``: it permutes the values of all components, one component after the other, ``n = sum(nvec)``;
    - ``MultiBinary(n)``: it permutes the bits; a sign of -1 flips a bit;
    - ``Box``: it permutes the ``n`` numbers of an action and changes their signs, or mixes them by matrices
      (``MatrixRepresentation``), as a turn of the plane by any angle does.

    Attributes:
        name: What it is called in messages, checkpoints and on the command line.
        observation: How an element moves an observation.
        action: How it moves an action.

    Raises:
        TypeError: Not a representation, or one on actions that neither permutes nor multiplies by matrices.
        ValueError: The representations are of different groups, or the one on actions has more than one axis.
    """

    name: str
    observation: Representation
    action: Linear

    def __post_init__(self) -> None:
        if not isinstance(self.observation, Representation) or not isinstance(
            self.action, (MonomialRepresentation, MatrixRepresentation)
        ):
            raise TypeError(
                f"symmetry {self.name!r} takes a representation on observations and a permutation of the actions "
                f"(permutation_representation, or signed_permutation_representation; for Box also a "
                f"MatrixRepresentation); got "
                f"{type(self.observation).__name__} and {type(self.action).__name__}"
            )
        if self.observation.group != self.action.group:
            raise ValueError(
                f"symmetry {self.name!r}: observations represent {self.observation.group}, actions "
                f"{self.action.group}; build both from the same group"
            )
        if len(self.action.shape) != 1:
            raise ValueError(
                f"symmetry {self.name!r}: a representation on actions has the sample shape [n], one entry for each "
                f"action or each number of an action; got {list(self.action.shape)}"
            )

    @property
    def group(self) -> FiniteGroup:
        """The group."""
        return self.action.group

    @property
    def permuted_actions(self) -> MonomialRepresentation:
        """The representation on actions, for what takes permutations with signs alone.

        Raises:
            TypeError: It mixes the numbers of an action by matrices.
        """
        if isinstance(self.action, MonomialRepresentation):
            return self.action
        raise TypeError(
            f"symmetry {self.name!r} mixes the numbers of an action by matrices; gSDE (use_sde), symmetry files and "
            "actions other than Box take changes of places and signs alone, as the quarter turns of 'plane-c4' are"
        )

    @property
    def n_actions(self) -> int:
        """The number of actions it permutes, or of the numbers of an action; see ``MDPSymmetry``."""
        return self.action.dim

    def check_fits(self, observation_shape: ObservationShape, n_actions: int) -> None:
        """Raise unless it acts on observations of this shape and on this many actions.

        Raises:
            ValueError: A size does not fit; the message names both sizes.
        """
        if not _same_shape(self.observation.shape, observation_shape):
            raise ValueError(
                f"symmetry {self.name!r} acts on observations {_shown(self.observation.shape)}, but the observation "
                f"space has {_shown(observation_shape)}; build it for that shape, or pass the symmetry's name"
            )
        if self.n_actions != n_actions:
            raise ValueError(
                f"symmetry {self.name!r} permutes {self.n_actions} actions, but the action space has {n_actions}; "
                "build its action representation for that number"
            )

    def fingerprint(self) -> str | None:
        """Return a hash of how the group moves observations and actions, whatever it and its elements are called.

        ``None`` where a representation keeps no tables to tell it by.
        """
        rows = [b""] * self.group.order
        for representation in (self.observation, self.action):
            parts = representation.table_rows()
            if parts is None:
                return None
            rows = [row + hashlib.sha256(part).digest() for row, part in zip(rows, parts, strict=True)]
        return hashlib.sha256(b"".join(sorted(rows))).hexdigest()

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, MDPSymmetry)
            and self.name == other.name
            and self.observation.same_as(other.observation)
            and self.action.same_as(other.action)
        )

    def __hash__(self) -> int:
        return hash((self.name, self.group))


def stack_frames(symmetry: MDPSymmetry, n_frames: int, axis: int = 0) -> MDPSymmetry:
    """Return the symmetry of a stack of frames, each of which moves as one frame does.

    Args:
        symmetry: The symmetry of one frame.
        n_frames: Number of frames.
        axis: The axis of a frame along which they are concatenated. SB3's ``VecFrameStack`` takes the first for vectors
            and for images of 0 to 255 with the channels first, and the last for everything else.

    Raises:
        TypeError: Observations that are not one array of fixed shape, or ``n_frames`` is no whole number.
        ValueError: No such axis, or fewer than one frame.
    """
    n_frames = whole_number(n_frames, "n_frames", 1)
    frame = of_kind(symmetry, MDPSymmetry, "symmetry").observation
    if not isinstance(frame, MonomialRepresentation):
        raise TypeError(f"symmetry {symmetry.name!r} acts on {type(frame).__name__}; frames are arrays of fixed shape")
    axis = whole_number(axis, "axis", -len(frame.shape))
    if not -len(frame.shape) <= axis < len(frame.shape):
        raise ValueError(f"frames of shape {list(frame.shape)} have no axis {axis}")
    shape = list(frame.shape)
    shape[axis] *= n_frames
    places = torch.arange(n_frames * frame.dim).view(shape).chunk(n_frames, dim=axis)
    index = torch.empty(symmetry.group.order, n_frames * frame.dim, dtype=torch.long)
    sign = torch.empty_like(index)
    for place in places:
        where = place.reshape(-1)
        index[:, where] = where[frame.index.cpu()]
        sign[:, where] = frame.sign.cpu().long()
    return MDPSymmetry(symmetry.name, MonomialRepresentation(symmetry.group, shape, index, sign), symmetry.action)


def _same_shape(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, Mapping) or isinstance(theirs, Mapping):
        return (
            isinstance(ours, Mapping)
            and isinstance(theirs, Mapping)
            and set(ours) == set(theirs)
            and all(_same_shape(ours[key], theirs[key]) for key in ours)
        )
    return len(ours) == len(theirs) and all(a in (-1, b) for a, b in zip(ours, theirs, strict=True))


def _shown(shape: Any) -> str:
    if isinstance(shape, Mapping):
        return "{" + ", ".join(f"{key}: {_shown(value)}" for key, value in shape.items()) + "}"
    return str(list(shape))
