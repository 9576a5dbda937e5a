"""The continuous groups of the plane on vectors: every angle, exactly, by frames that the input itself gives.

Samples are flat vectors of named kinds of parts; SO(2) turns them, O(2) mirrors them, too, and SE(2) and E(2) also move
them. A frame is a group element that is read off the input, ``f(gx) = f(x) g^-1``; ``M_G(x) = f(x)^-1 M(f(x) x)`` is
then equivariant under the whole group at the cost of one view (Puny et al. 2022, arXiv:2110.03336). One frame alone
jumps; weighted ones do not (Dym et al. 2024, arXiv:2402.16077).
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from equirl.arguments import of_kind, real_number, whole_number
from equirl.constructions import trivial_representation
from equirl.eager import eager
from equirl.groups import FiniteGroup
from equirl.matrices import Linear, matrix_sum, plane_representation, simplest_form
from equirl.names import unknown_name_message
from equirl.representations import MonomialRepresentation

__all__ = ["Part", "PlaneElements", "PlaneFrames", "PlaneVectors", "RandomOffset"]

Part = Literal["scalar", "pseudoscalar", "vector", "point"]
_FADING = 1e-6  # square of the length below which a direction fades away
_SIZES = {"scalar": 1, "pseudoscalar": 1, "vector": 2, "point": 2}


class PlaneElements(NamedTuple):
    """Elements of E(2), one for each sample: first the mirror ``(x, y) -> (x, -y)``, then the turn, then the move.

    Attributes:
        angle: Angle of the turn in radians, ``[B]``.
        mirror: Whether it mirrors, booleans ``[B]``.
        move: ``[B, 2]``.
    """

    angle: Tensor
    mirror: Tensor
    move: Tensor

    @classmethod
    def sample(
        cls, n: int, mirrors: bool = False, reach: float = 0.0, generator: torch.Generator | None = None
    ) -> PlaneElements:
        """Return ``n`` random elements: uniform angles, mirrors as often as not, moves from a normal distribution.

        Args:
            n: How many.
            mirrors: Whether some mirror: O(2) instead of SO(2).
            reach: Standard deviation of the moves; 0: none.
            generator: Random numbers.

        Raises:
            TypeError: ``n`` is no whole number, or ``reach`` no number.
            ValueError: ``n`` is less than 0, or ``reach`` not finite.
        """
        whole_number(n, "n", 0)
        reach = real_number(reach, "reach")
        angle = torch.rand(n, generator=generator) * 2 * math.pi
        flips = torch.rand(n, generator=generator) < 0.5
        return cls(angle, flips if mirrors else torch.zeros_like(flips), reach * torch.randn(n, 2, generator=generator))

    def matrices(self) -> Tensor:
        """Return the orthogonal parts, ``[B, 2, 2]``."""
        cos, sin = self.angle.cos(), self.angle.sin()
        sign = torch.where(self.mirror, -torch.ones_like(cos), torch.ones_like(cos))
        return torch.stack([torch.stack([cos, -sign * sin], 1), torch.stack([sin, sign * cos], 1)], 1)

    def inverse(self) -> PlaneElements:
        """Return the inverses."""
        angle = torch.where(self.mirror, self.angle, -self.angle)
        orthogonal = PlaneElements(angle, self.mirror, self.move)
        return orthogonal._replace(move=-_turned(orthogonal.matrices(), self.move))

    def after(self, first: PlaneElements) -> PlaneElements:
        """Return the products ``self first``: first the others, then these."""
        angle = self.angle + torch.where(self.mirror, -first.angle, first.angle)
        return PlaneElements(angle, self.mirror ^ first.mirror, self.move + _turned(self.matrices(), first.move))


class PlaneVectors(nn.Module):
    """How the groups of the plane act on flat vectors: the kinds of their parts, one after another.

    ``"scalar"``: one number that stays. ``"pseudoscalar"``: one that a mirror changes the sign of, such as an angular
    velocity. ``"vector"``: two numbers that turn, a velocity or a difference of places. ``"point"``: two numbers that
    turn and move along, a place.

    Args:
        *parts: The kinds, in the order of the numbers.

    Raises:
        ValueError: No parts, or an unknown kind.
    """

    def __init__(self, *parts: Part) -> None:
        super().__init__()
        if not parts:
            raise ValueError('name the parts of a sample, such as PlaneVectors("point", "vector", "scalar")')
        for part in parts:
            if part not in get_args(Part):
                raise ValueError(unknown_name_message("kind of part", part, get_args(Part)))
        self.parts = tuple(parts)
        sizes = [_SIZES[part] for part in parts]
        self.dim = sum(sizes)
        starts = [sum(sizes[:k]) for k in range(len(sizes))]
        self._turning = [start for part, start in zip(parts, starts, strict=True) if _SIZES[part] == 2]
        self._moving = [start for part, start in zip(parts, starts, strict=True) if part == "point"]
        self._signed = [start for part, start in zip(parts, starts, strict=True) if part == "pseudoscalar"]

    def transform(self, g: PlaneElements, x: Tensor) -> Tensor:
        """Return ``g x``, ``[B, n]``.

        Raises:
            ValueError: ``x`` has another shape.
        """
        self.check(x)
        return self._moved(g.matrices().to(x.dtype), g.mirror, g.move.to(x.dtype), x)

    def pull_back(self, g: PlaneElements, y: Tensor) -> Tensor:
        """Return ``g^-1 y``, ``[B, n]``."""
        return self.transform(g.inverse(), y)

    def vectors(self, x: Tensor) -> Tensor:
        """Return the vectors that turn, ``[B, k, 2]``; points from the mean of the points."""
        self.check(x)
        turning = torch.stack([x[:, start : start + 2] for start in self._turning], dim=1)
        if not self._moving:
            return turning
        centre = self.centre(x).unsqueeze(1)
        moving = torch.tensor([start in self._moving for start in self._turning], device=x.device)
        return torch.where(moving.view(1, -1, 1), turning - centre, turning)

    def centre(self, x: Tensor) -> Tensor:
        """Return the mean of the points, ``[B, 2]``; zero where there are none."""
        if not self._moving:
            return x.new_zeros(x.shape[0], 2)
        return torch.stack([x[:, start : start + 2] for start in self._moving]).mean(dim=0)

    def moved_by(self, move: Tensor, x: Tensor) -> Tensor:
        """Return samples whose points are moved, ``[B, n]``, by moves ``[B, 2]``."""
        moved = x.clone()
        for start in self._moving:
            moved[:, start : start + 2] += move
        return moved

    def sampled(self, n: int, mirrors: bool = False) -> Linear:
        """Return the representation of ``C_n``, or with mirrors of ``D_n``: ``n`` angles at equal distances.

        Averaging over it is the quadrature of averaging over all angles. ``n = 4`` is monomial.

        Args:
            n: Number of angles, at least 3.
            mirrors: Whether mirrors are among the elements.

        Raises:
            TypeError: ``n`` is no whole number.
            ValueError: It is less than 3, or there are points, which also move.
        """
        if self._moving:
            raise ValueError(
                "points move as well as turn: give vectors, such as differences of places, to sample angles"
            )
        plane = plane_representation(n, mirrors)
        group = plane.group
        blocks = {"scalar": trivial_representation(group, (1,)), "vector": plane}
        blocks["pseudoscalar"] = _sign_of_mirrors(group, n) if mirrors else blocks["scalar"]
        return simplest_form(matrix_sum(*(blocks[part] for part in self.parts)))

    def extra_repr(self) -> str:
        """Return the parts."""
        return ", ".join(self.parts)

    def _moved(self, matrices: Tensor, mirror: Tensor, move: Tensor, x: Tensor) -> Tensor:
        moved = x.clone()
        for start in self._turning:
            moved[:, start : start + 2] = _turned(matrices, x[:, start : start + 2])
        for start in self._moving:
            moved[:, start : start + 2] += move
        for start in self._signed:
            moved[:, start] = torch.where(mirror, -x[:, start], x[:, start])
        return moved

    def check(self, x: Tensor) -> None:
        """Raise unless ``x`` is a batch of such samples.

        Raises:
            TypeError: It holds no real numbers with a fraction.
            ValueError: It has another shape.
        """
        if isinstance(x, Tensor) and not x.is_floating_point():
            raise TypeError(f"vectors are floats, such as x.float(); got {x.dtype}")
        if not isinstance(x, Tensor) or x.ndim != 2 or x.shape[1] != self.dim:
            shown = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"{', '.join(self.parts)} are {self.dim} numbers, [batch, {self.dim}]; got {shown}")


class PlaneFrames(nn.Module):
    """A backbone made equivariant under SO(2), O(2), SE(2) or E(2): exactly, for every angle, and without jumps.

    Each vector ``v_i`` of the input gives a frame, the element that carries its direction to the x axis (and the mean
    of the points to the origin). ``M_G(x) = sum_f w_f(x) f^-1 M(f x)`` with weights that fall to zero with ``|v_i|``
    below the longest: mostly one or two views count. With mirrors each frame has two sides, told apart by the side on
    which the rest of the vectors lies. Where all vectors vanish no direction is left; there the scalars decide alone,
    vectors of the output are zero, and the weights pass over to that continuously.

    Args:
        backbone: Any module that maps ``[N, n]`` to ``[N, m]`` row by row.
        inputs: The parts of an input, with a vector or points among them.
        outputs: The parts of an output.
        mirrors: Whether the group has mirrors.
        margin: How near the longest a vector must come for a weight of its own, relative to it, in (0, 1].

    Raises:
        TypeError: An argument of another kind.
        ValueError: No vectors to read a direction from, a margin out of its range, or on call another shape.
    """

    def __init__(
        self,
        backbone: nn.Module,
        inputs: PlaneVectors,
        outputs: PlaneVectors,
        mirrors: bool = False,
        margin: float = 0.1,
    ) -> None:
        super().__init__()
        self.backbone = of_kind(backbone, nn.Module, "backbone")
        self.inputs = of_kind(inputs, PlaneVectors, "inputs")
        self.outputs = of_kind(outputs, PlaneVectors, "outputs")
        if not {"vector", "point"} & set(inputs.parts):
            raise ValueError(f"a frame is read off vectors or points; the input has {', '.join(inputs.parts)}")
        if "point" in outputs.parts and "point" not in inputs.parts:
            raise ValueError("outputs with points need points among the inputs, or nothing says where they are")
        if "vector" not in inputs.parts and inputs.parts.count("point") < 2:
            raise ValueError("a single point has no direction: a frame is read off a vector or two points")
        self.mirrors = bool(mirrors)
        self.margin = real_number(margin, "margin", above=0, most=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``M_G(x)``, ``[B, m]``."""
        samples, frames, weights, still = self.views(x)
        seen = self.inputs.transform(frames, x[samples])
        moved = self.outputs.pull_back(frames, self.backbone(seen))
        total = moved.new_zeros(x.shape[0], moved.shape[1]).index_add(0, samples, weights.unsqueeze(1) * moved)
        if not eager(still):
            return total + still.unsqueeze(1) * self._without_direction(x)
        rows = (still > 0).nonzero().squeeze(1)
        if len(rows):
            total = total.index_add(0, rows, still[rows].unsqueeze(1) * self._without_direction(x[rows]))
        return total

    def views(self, x: Tensor) -> tuple[Tensor, PlaneElements, Tensor, Tensor]:
        """Return the views of inputs ``[B, n]``: samples ``[P]``, frames, weights ``[P]``, and the rest ``[B]``.

        The weights of a sample and its rest, the weight of having no direction, sum to 1.
        """
        vectors = self.inputs.vectors(x)
        squares = vectors.square().sum(dim=2)
        longest = squares.amax(dim=1, keepdim=True)
        share = torch.relu(squares - (1 - self.margin) * longest)
        faded = longest.squeeze(1) / (longest.squeeze(1) + _FADING)
        share = share / share.sum(dim=1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny) * faded.unsqueeze(1)
        angle = -torch.atan2(vectors[..., 1], vectors[..., 0])
        if self.mirrors:
            sides = self._sides(vectors, squares)
            share = (share.unsqueeze(2) * sides).flatten(1)
            angle = torch.stack([angle, angle], dim=2).flatten(1)
        if eager(share):
            samples, places = share.nonzero().unbind(1)
        else:  # a graph must do for any input: all views, most of them without weight
            samples = torch.ones_like(share).cumsum(dim=0).flatten().long() - 1
            places = torch.ones_like(share).cumsum(dim=1).flatten().long() - 1
        turns = angle[samples, places]
        mirror = (places % 2 == 1) if self.mirrors else torch.zeros_like(places, dtype=torch.bool)
        # The direction is turned to the axis first and mirrored then: m r = r^-1 m.
        frames = PlaneElements(torch.where(mirror, -turns, turns), mirror, x.new_zeros(turns.shape[0], 2))
        move = -_turned(frames.matrices(), self.inputs.centre(x)[samples])
        return samples, frames._replace(move=move), share[samples, places], 1 - faded

    def _sides(self, vectors: Tensor, squares: Tensor) -> Tensor:
        """Return the weights of a frame and of its mirror image, ``[B, k, 2]``, by where the other vectors lie."""
        rest = vectors.sum(dim=1, keepdim=True) - vectors
        cross = vectors[..., 0] * rest[..., 1] - vectors[..., 1] * rest[..., 0]
        side = 2 * cross / (squares + rest.square().sum(dim=2)).clamp_min(torch.finfo(vectors.dtype).tiny)
        both = torch.relu(torch.stack([side, -side], dim=2) + self.margin)
        return both / both.sum(dim=2, keepdim=True)

    def _without_direction(self, x: Tensor) -> Tensor:
        """Return what the scalars alone give, ``[B, m]``: all else of input and output is zero."""
        scalars = self._only_scalars(self.inputs, x)
        alone = self._only_scalars(self.outputs, self.backbone(scalars))
        return self.outputs.moved_by(self.inputs.centre(x), alone)

    def _only_scalars(self, layout: PlaneVectors, values: Tensor) -> Tensor:
        kept = [part == "scalar" or (part == "pseudoscalar" and not self.mirrors) for part in layout.parts]
        mask = [float(keep) for keep, part in zip(kept, layout.parts, strict=True) for _ in range(_SIZES[part])]
        return values * torch.tensor(mask, dtype=values.dtype, device=values.device)


class RandomOffset(nn.Module):
    """A network that looks at each sample under a random turn, drawn anew in each call: ``g^-1 M(g x)``.

    Around equitune over C_n it is a quadrature whose angles stand anywhere. Each call is as far from equivariant as
    before; its expectation, ``mean_g g^-1 M(g x)``, is exactly equivariant under every turn about the origin. An
    exported graph draws from torch's own random numbers.

    Args:
        network: Any module that maps ``[N, n]`` to ``[N, m]`` row by row.
        inputs: The parts of an input.
        outputs: The parts of an output.
        mirrors: Whether it is also mirrored, at random.
        generator: Random numbers, on the CPU; by default torch's own.

    Raises:
        TypeError: An argument of another kind.
        ValueError: There are points, which also move.
    """

    def __init__(
        self,
        network: nn.Module,
        inputs: PlaneVectors,
        outputs: PlaneVectors,
        mirrors: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.network = of_kind(network, nn.Module, "network")
        self.inputs = of_kind(inputs, PlaneVectors, "inputs")
        self.outputs = of_kind(outputs, PlaneVectors, "outputs")
        if "point" in (*inputs.parts, *outputs.parts):
            raise ValueError(
                "points move as well as turn: give vectors, such as differences of places, to turn at random"
            )
        self.mirrors = bool(mirrors)
        self.generator = None if generator is None else of_kind(generator, torch.Generator, "generator")

    def forward(self, x: Tensor) -> Tensor:
        """Return ``g^-1 M(g x)``, ``[B, m]``."""
        self.inputs.check(x)
        if self.generator is None:
            one, other = torch.rand_like(x[:, 0]), torch.rand_like(x[:, 0])
        else:
            one, other = torch.rand(2, x.shape[0], generator=self.generator).to(x)
        mirror = other < 0.5 if self.mirrors else other < 0
        g = PlaneElements(one * 2 * math.pi, mirror, x.new_zeros(x.shape[0], 2))
        return self.outputs.pull_back(g, self.network(self.inputs.transform(g, x)))


def _turned(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Return each vector ``[B, 2]`` by its matrix ``[B, 2, 2]``."""
    return torch.einsum("bij,bj->bi", matrices.to(vectors.dtype), vectors)


def _sign_of_mirrors(group: FiniteGroup, n: int) -> MonomialRepresentation:
    index = torch.zeros(group.order, 1, dtype=torch.long)
    sign = torch.where(torch.arange(group.order) < n, 1, -1).unsqueeze(1)
    return MonomialRepresentation(group, (1,), index, sign)
