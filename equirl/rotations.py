"""How a group moves images: exactly by quarter turns and mirrors, or by finer turns with interpolation."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from equirl.arguments import whole_number
from equirl.constructions import image_representation
from equirl.eager import eager
from equirl.groups import cyclic_group, dihedral_group
from equirl.names import unknown_name_message
from equirl.representations import Representation, Tree, element_per_sample

__all__ = ["IMAGE_GROUPS", "InterpolatedRotations", "image_action", "make_view", "rotate", "view_names"]

IMAGE_GROUPS = ("c4", "d4", "flip", "c8", "c16")
"""Quarter turns, with mirrors, the mirror alone; eighth and sixteenth turns are interpolated."""


class InterpolatedRotations(Representation):
    """Turns by ``360 / n`` degrees around the centre, bilinear, black outside: a representation up to interpolation.

    Turning forth and back does not give the same pixels, so what is built on it is equivariant approximately; quarter
    turns among them are exact. ``homomorphism_errors`` state how far off it is.

    Args:
        n: Order of the cyclic group, a multiple of 4.
        shape: ``(channels, size, size)``.

    Raises:
        ValueError: An image that is not square, or another order.
    """

    def __init__(self, n: int, shape: Sequence[int]) -> None:
        super().__init__()
        if whole_number(n, "the order of interpolated rotations", 1) % 4:
            raise ValueError(f"interpolated rotations come in multiples of 4, so that quarter turns are exact; got {n}")
        sides = tuple(whole_number(side, "a side of an image", 1) for side in shape)
        if len(sides) != 3 or sides[1] != sides[2]:
            raise ValueError(f"rotations need square images [channels, size, size], not {list(sides)}")
        self.group = cyclic_group(n)
        self.shape = sides

    def orbit(self, x: Tree) -> Tensor:  # noqa: D102
        images = self._checked(x)
        return torch.stack([rotate(images, 360 * g / self.group.order) for g in range(self.group.order)], dim=1)

    def pull_back(self, y: Tree) -> Tensor:  # noqa: D102
        views = cast(Tensor, y)
        order = self.group.order
        return torch.stack([rotate(views[:, g], -360 * g / order) for g in range(order)], dim=1)

    def transform(self, g: int | str | Tensor, x: Tree) -> Tensor:  # noqa: D102
        images = self._checked(x)
        if not isinstance(g, Tensor):
            return rotate(images, 360 * self.group.index(g) / self.group.order)
        elements = element_per_sample(self.group, g, images.shape[0])
        return rotate(images, (360 * elements.double() / self.group.order).to(torch.get_default_dtype()))

    def same_as(self, other: Representation) -> bool:  # noqa: D102
        return isinstance(other, InterpolatedRotations) and (self.group, self.shape) == (other.group, other.shape)

    def homomorphism_errors(self, images: Tensor) -> Tensor:
        """Return ``|rho(g) rho(h) x - rho(gh) x| / |x|`` for images ``[B, *shape]``, all pairs, ``[B, |G|, |G|]``."""
        order = self.group.order
        turned = self.orbit(images)
        found = []
        for g in range(order):
            twice = self.orbit(turned[:, g])
            once = turned[:, [(g + h) % order for h in range(order)]]
            found.append((twice - once).flatten(2).norm(dim=2) / images.flatten(1).norm(dim=1).unsqueeze(1))
        return torch.stack(found, dim=1)

    def _checked(self, x: Tree) -> Tensor:
        if not isinstance(x, Tensor) or tuple(x.shape[1:]) != self.shape:
            shape = list(x.shape[1:]) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"this representation moves images {list(self.shape)}, not {shape}")
        return x


def image_action(name: str, shape: Sequence[int]) -> Representation:
    """Return how a group moves images or feature maps.

    Args:
        name: One of ``IMAGE_GROUPS``.
        shape: ``(channels, size, size)``.

    Raises:
        ValueError: An unknown name, or an image that is not square.
    """
    if name == "c4":
        return image_representation(cyclic_group(4), shape)
    if name == "d4":
        return image_representation(dihedral_group(4), shape)
    if name == "flip":
        return image_representation(dihedral_group(1), shape)
    if name in IMAGE_GROUPS:
        return InterpolatedRotations(int(name[1:]), shape)
    raise ValueError(unknown_name_message("group of images", name, IMAGE_GROUPS))


def view_names(name: str) -> tuple[str, ...]:
    """Return what each element of a group does, in its order: ``"90"``, or ``"mirror 90"`` where it mirrors first."""
    if name == "flip":
        return "0", "mirror 0"
    if name == "d4":
        return (*view_names("c4"), *(f"mirror {degrees}" for degrees in view_names("c4")))
    order = image_action(name, (1, 1, 1)).group.order
    return tuple(f"{360 * g / order:g}" for g in range(order))


def make_view(name: str, images: Tensor) -> Tensor:
    """Return images ``[B, C, S, S]`` moved as ``view_names`` says."""
    mirror, _, degrees = name.rpartition(" ")
    return rotate(images.flip(3) if mirror else images, float(degrees))


def rotate(images: Tensor, degrees: float | Tensor) -> Tensor:
    """Return images turned against the clock; multiples of 90 degrees exactly, others bilinear, black outside.

    Args:
        images: ``[B, C, S, S]``.
        degrees: One angle, or one for each image, ``[B]``.

    Raises:
        ValueError: Images that are not square, another number of angles, or angles that are not finite.
    """
    if not isinstance(images, Tensor):
        raise TypeError(f"images to turn are a tensor [B, C, S, S]; got {type(images).__name__}")
    if images.ndim != 4 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images to turn are square, [B, C, S, S]; got {list(images.shape)}")
    if isinstance(degrees, Tensor) and degrees.shape != images.shape[:1]:
        raise ValueError(f"each of {len(images)} images needs an angle; got {list(degrees.shape)}")
    given: object = degrees
    if isinstance(given, bool) or not isinstance(given, (Tensor, numbers.Real)):
        raise TypeError(f"an angle is a number, in degrees; got {degrees!r}")
    if not isinstance(degrees, Tensor):
        if not abs(degrees) < math.inf:
            raise ValueError(f"angles must be finite numbers; got {degrees}")
        quarters, rest = divmod(degrees, 90)
        if rest == 0 or images.shape[0] == 0:
            return torch.rot90(images, int(quarters) % 4, (2, 3))
        return _interpolated(images, torch.full(images.shape[:1], float(degrees), device=images.device))
    if not eager(degrees):  # every image is turned in both ways, since any angle may come
        moved = _interpolated(images, degrees)
        for quarters in range(4):
            exactly = (degrees % 360 == 90 * quarters).view(-1, 1, 1, 1)
            moved = torch.where(exactly, torch.rot90(images, quarters, (2, 3)), moved)
        return moved
    if not bool(degrees.isfinite().all()):
        raise ValueError(f"angles must be finite numbers; got {degrees}")
    moved = torch.empty_like(images)
    oblique = degrees % 90 != 0
    for quarters in range(4):
        rows = ~oblique & (degrees % 360 == 90 * quarters)
        moved[rows] = torch.rot90(images[rows], quarters, (2, 3))
    if oblique.any():
        moved[oblique] = _interpolated(images[oblique], degrees[oblique])
    return moved


def _interpolated(images: Tensor, degrees: Tensor) -> Tensor:
    """Return images turned by an angle each, bilinear, black outside."""
    some = images if images.dtype == torch.float64 else images.float()  # coordinates in half precision are coarse
    angles = torch.deg2rad(degrees.double())
    cosine, sine, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    theta = torch.stack([cosine, -sine, zero, sine, cosine, zero], dim=1).view(-1, 2, 3).to(some)
    with torch.autocast(some.device.type, enabled=False):
        grid = nn.functional.affine_grid(theta, list(some.shape), align_corners=False)
        return nn.functional.grid_sample(some, grid, align_corners=False).to(images.dtype)
