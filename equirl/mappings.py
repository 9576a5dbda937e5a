"""Representations on dictionaries: each entry moves by its own representation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from torch import Tensor, nn

from equirl.arguments import of_kind
from equirl.representations import Representation, Tree, common_group

__all__ = ["MappingRepresentation"]


class MappingRepresentation(Representation):
    """A representation on dict observations: one representation per key, each acting on its own entry.

    Args:
        parts: Key to representation; all of one group. Nesting is allowed.

    Raises:
        ValueError: No parts, or parts of different groups.
    """

    def __init__(self, parts: Mapping[str, Representation]) -> None:
        super().__init__()
        self.group = common_group(list(of_kind(parts, Mapping, "parts").values()))  # type: ignore[type-abstract]
        # ModuleDict refuses keys with dots, so the keys are kept apart from the module names.
        self.keys = tuple(parts)
        self._parts = nn.ModuleList(parts.values())
        self.shape = {key: part.shape for key, part in parts.items()}

    def part(self, key: str) -> Representation:
        """Return the representation on the entry ``key``."""
        return cast(Representation, self._parts[self.keys.index(key)])

    def orbit(self, x: Tree) -> dict[str, Any]:  # noqa: D102
        return self._each(x, lambda part, entry: part.orbit(entry))

    def pull_back(self, y: Tree) -> dict[str, Any]:  # noqa: D102
        return self._each(y, lambda part, entry: part.pull_back(entry))

    def transform(self, g: int | str | Tensor, x: Tree) -> dict[str, Any]:  # noqa: D102
        return self._each(x, lambda part, entry: part.transform(g, entry))

    def table_rows(self) -> list[bytes] | None:  # noqa: D102
        rows = [b""] * self.group.order
        for key in sorted(self.keys):
            parts = self.part(key).table_rows()
            if parts is None:
                return None
            rows = [row + key.encode() + b"\0" + part for row, part in zip(rows, parts, strict=True)]
        return rows

    def same_as(self, other: Representation) -> bool:  # noqa: D102
        return (
            isinstance(other, MappingRepresentation)
            and set(self.keys) == set(other.keys)
            and all(self.part(key).same_as(other.part(key)) for key in self.keys)
        )

    def entries(self, x: Tree) -> list[Tree]:
        """Return the entries of a dict in the order of ``keys``.

        Raises:
            ValueError: Other keys, or no dict.
        """
        return list(self._each(x, lambda _, entry: entry).values())

    def _each(self, x: Tree, act: Callable[[Representation, Tree], Tree]) -> dict[str, Any]:
        if isinstance(x, Tensor) or set(x) != set(self.keys):
            given = "a tensor" if isinstance(x, Tensor) else f"the keys {sorted(x)}"
            raise ValueError(f"this representation acts on a dict with the keys {sorted(self.keys)}; got {given}")
        return {key: act(self.part(key), x[key]) for key in self.keys}
