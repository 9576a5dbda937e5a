"""Symmetry files: a symmetry as readable TOML, by what its generators do to observations and actions.

A file says for each generator where each coordinate goes and which sign it takes on its way, as
``signed_permutation_representation`` reads its tables: ``(rho(g) x)[to[i]] = signs[i] x[i]``. For numbers that name one
of several things (a ``Discrete`` observation) it lists the new value of each value: ``values``.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from equirl.arguments import of_kind
from equirl.files import written_whole
from equirl.generated_tables import Step, close, element_tables, step_of
from equirl.groups import FiniteGroup
from equirl.mappings import MappingRepresentation
from equirl.mdp_symmetry import MDPSymmetry
from equirl.representations import MonomialRepresentation, Representation
from equirl.tokens import TokenRepresentation

__all__ = ["load_symmetry", "read_view", "save_symmetry"]

_FORMAT = 1
_COLUMNS = 110


class _Entry(NamedTuple):
    """One array of an observation, or the action: its key in a ``Dict``, its shape, and its number of values if any."""

    key: tuple[str, ...]
    shape: tuple[int, ...]
    n_values: int | None = None


def save_symmetry(
    symmetry: MDPSymmetry,
    path: str | Path,
    *,
    observation_parts: Sequence[str] = (),
    action_parts: Sequence[str] = (),
    evidence: Mapping[str, str | int | float | bool] | None = None,
    view: Mapping[str, Any] | None = None,
) -> None:
    """Write a symmetry file, whole or not at all.

    Args:
        symmetry: The symmetry.
        path: The file, ``FILE.toml``.
        observation_parts: Names of the coordinates of a flat observation, for the reader of the file.
        action_parts: Names of the actions, for the reader of the file.
        evidence: Where the symmetry was found and how well it held, for the reader of the file.
        view: Name and settings of the view through which the world shows these observations, such as
            ``{"class": "FullGridView", "mission": True}``; ``equirl.envs.making.view_table`` returns that of an
            environment.

    Raises:
        TypeError: Not a symmetry, or a representation that keeps no tables of permutations.
        ValueError: Another ending than ``.toml``, two group elements that move everything alike, or another number of
            names than there are coordinates or actions.
    """
    target = _toml_path(path)
    group = of_kind(symmetry, MDPSymmetry, "symmetry").group
    leaves = dict(_leaves(symmetry.observation))
    steps = [_steps(leaves, symmetry.permuted_actions, g) for g in range(group.order)]
    seen: dict[tuple[Step, ...], int] = {}
    for g, move in enumerate(steps):
        if (other := seen.setdefault(move, g)) != g:
            raise ValueError(
                f"symmetry {symmetry.name!r}: the elements {group.element_names[other]} and {group.element_names[g]} "
                "move observations and actions alike; a file holds a group by what it moves. Take a smaller group"
            )
    lines = ["# A symmetry. equirl takes this file wherever the name of a symmetry is expected.", f"format = {_FORMAT}"]
    lines += [f"name = {_text(symmetry.name)}", f"group = {_text(group.name)}"]
    for entry in (_entry(key, leaf) for key, leaf in leaves.items()):
        lines += ["", f"[{_dotted('observation', *entry.key)}]", f"shape = {_list(entry.shape)}"]
        lines += [] if entry.n_values is None else [f"values = {entry.n_values}"]
        lines += _names_of(observation_parts, entry.shape, "observation_parts") if not entry.key else []
    lines += ["", "[action]", f"shape = {_list(symmetry.action.shape)}"]
    lines += _names_of(action_parts, symmetry.action.shape, "action_parts")
    keys = [("observation", *key) for key in leaves] + [("action",)]
    for g in group.generators:
        for key, step in zip(keys, steps[g], strict=True):
            lines += ["", f"[{_dotted('generators', group.element_names[g], *key)}]"]
            name = "to" if step.signs is not None else "values"
            lines += [f"{name} = {_list(step.to)}"]
            lines += [f"signs = {_list(step.signs)}"] if step.signs is not None and min(step.signs) < 0 else []
    lines += ["", "# Each element as a product of generators; the last one acts first.", "[elements]"]
    for g, word in enumerate(_words(group)):
        lines.append(f"{_text(group.element_names[g])} = {_list([group.element_names[k] for k in word])}")
    if view is not None:
        _checked_view(dict(view))
        lines += ["", "# The view through which the world shows these observations.", "[view]"]
        lines += [f"{_dotted(key)} = {_list(v) if isinstance(v, list) else _scalar(v)}" for key, v in view.items()]
    if evidence:
        lines += ["", "[evidence]"]
        lines += [f"{_text(key)} = {_scalar(value)}" for key, value in evidence.items()]
    with written_whole(target) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def load_symmetry(path: str | Path) -> MDPSymmetry:
    """Return the symmetry that a file holds.

    Without ``[elements]`` the group is what the generators generate, its elements named by products of generators.

    Args:
        path: The file, ``FILE.toml``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no TOML, or holds no symmetry; the message names the place.
    """
    source = _toml_path(path)
    if not source.is_file():
        raise FileNotFoundError(f"there is no symmetry file {source}; save_symmetry writes one")
    try:
        return _read(tomllib.loads(source.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"{source} holds no symmetry: {reason}") from error


def read_view(path: str | Path) -> dict[str, Any] | None:
    """Return the view through which a file's symmetry acts, as ``save_symmetry`` takes it; ``None`` if it names none.

    Args:
        path: The file, ``FILE.toml``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no symmetry, or its view is none.
    """
    load_symmetry(path)
    view: dict[str, Any] | None = tomllib.loads(Path(path).read_text(encoding="utf-8")).get("view")
    return view


def _checked_view(view: Any) -> None:
    """Raise unless a view has a class and settings that TOML can hold."""
    of_kind(of_kind(view, dict, "view").get("class"), str, "view.class")
    for key, value in view.items():
        if not all(isinstance(each, str | int) for each in (value if isinstance(value, list) else [value])):
            raise ValueError(f"view.{key} is a text, a whole number, true or false, or a list of these; got {value!r}")


def _read(content: dict[str, Any]) -> MDPSymmetry:
    known = ("format", "name", "group", "observation", "action", "generators", "elements", "view", "evidence")
    if unknown := [key for key in content if key not in known]:
        raise ValueError(f"{unknown[0]!r} is no part of a symmetry file; known: {', '.join(known)}")
    if content["format"] != _FORMAT:
        raise ValueError(f"it has the format {content['format']!r}, this version of equirl reads {_FORMAT}")
    if "view" in content:
        _checked_view(content["view"])
    name = of_kind(content["name"], str, "name")
    entries = list(_entries_of(content["observation"]))
    action = _entry_of((), content["action"])
    keys = [("observation", *entry.key) for entry in entries] + [("action",)]
    generators = {
        label: tuple(
            _step_of(_inside(moves, key), entry, f"generators.{label}.{'.'.join(key)}")
            for key, entry in zip(keys, [*entries, action], strict=True)
        )
        for label, moves in content.get("generators", {}).items()
    }
    sizes = [entry.n_values or _dim(entry) for entry in [*entries, action]]
    tables = (
        element_tables(generators, content["elements"], sizes) if "elements" in content else close(generators, sizes)
    )
    used = [label for label in generators if label in tables.names] if generators else None
    group = FiniteGroup(content.get("group", name), tables.names, tables.cayley, generators=used or None)
    parts: dict[tuple[str, ...], Representation] = {
        entry.key: _representation(group, entry, tables.to[k], tables.signs[k]) for k, entry in enumerate(entries)
    }
    on_actions = _representation(group, action, tables.to[-1], tables.signs[-1])
    return MDPSymmetry(name, _nested(parts), on_actions)  # type: ignore[arg-type]


def _representation(group: FiniteGroup, entry: _Entry, to: Tensor, signs: Tensor) -> Representation:
    if entry.n_values is not None:
        return TokenRepresentation(group, to, entry.shape)
    source = to.argsort(dim=1)
    return MonomialRepresentation(group, entry.shape, source, signs.gather(1, source))


def _nested(parts: Mapping[tuple[str, ...], Representation]) -> Representation:
    if () in parts:
        return parts[()]
    firsts = dict.fromkeys(key[0] for key in parts)
    return MappingRepresentation(
        {first: _nested({key[1:]: part for key, part in parts.items() if key[0] == first}) for first in firsts}
    )


def _leaves(representation: Representation, key: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(representation, MappingRepresentation):
        for name in representation.keys:
            yield from _leaves(representation.part(name), (*key, name))
    elif isinstance(representation, (MonomialRepresentation, TokenRepresentation)):
        yield key, representation
    else:
        raise TypeError(
            f"a symmetry file holds permutations with signs, and permutations of values; got "
            f"{type(representation).__name__}"
        )


def _entry(key: tuple[str, ...], leaf: MonomialRepresentation | TokenRepresentation) -> _Entry:
    n_values = leaf.table.shape[1] if isinstance(leaf, TokenRepresentation) else None
    return _Entry(key, tuple(leaf.shape), n_values)


def _steps(leaves: Mapping[Any, Any], action: MonomialRepresentation, g: int) -> tuple[Step, ...]:
    return tuple(step_of(leaf, g) for leaf in [*leaves.values(), action])


def _words(group: FiniteGroup) -> list[list[int]]:
    """Return for each element the generators whose product it is, as few as possible."""
    words: dict[int, list[int]] = {group.identity: []}
    frontier = [group.identity]
    while frontier:
        found = []
        for h in frontier:
            for g in group.generators:
                product = int(group.cayley[g, h])
                if product not in words:
                    words[product] = [g, *words[h]]
                    found.append(product)
        frontier = found
    return [words[g] for g in range(group.order)]


def _entries_of(node: Any, key: tuple[str, ...] = ()) -> Iterator[_Entry]:
    table = of_kind(node, dict, ".".join(("observation", *key)))
    if "shape" in table and not isinstance(table["shape"], dict):
        yield _entry_of(key, table)
        return
    if not table:
        raise ValueError(f"{'.'.join(('observation', *key))} has no shape and no entries")
    for name, part in table.items():
        yield from _entries_of(part, (*key, name))


def _entry_of(key: tuple[str, ...], table: Any) -> _Entry:
    shape = of_kind(of_kind(table, dict, "action")["shape"], list, "shape")
    if not all(isinstance(side, int) and not isinstance(side, bool) and side >= -1 for side in shape):
        raise ValueError(f"shape is a list of whole numbers; got {shape!r}")
    n_values = table.get("values")
    if n_values is not None and (not isinstance(n_values, int) or n_values < 1):
        raise ValueError(f"values is how many values there are, a whole number from 1; got {n_values!r}")
    if unknown := [name for name in table if name not in ("shape", "values", "parts")]:
        raise ValueError(f"{unknown[0]!r} is no part of an observation or an action; known: shape, values, parts")
    return _Entry(key, tuple(shape), n_values)


def _inside(table: Any, key: tuple[str, ...]) -> Any:
    for name in key:
        table = of_kind(table, dict, name)[name]
    return table


def _step_of(table: Any, entry: _Entry, where: str) -> Step:
    of_kind(table, dict, where)
    n = entry.n_values or _dim(entry)
    given = "to" if entry.n_values is None else "values"
    if unknown := [name for name in table if name not in ((given, "signs") if given == "to" else (given,))]:
        raise ValueError(f"{where} has {unknown[0]!r}, which is not expected there")
    to = of_kind(table[given], list, f"{where}.{given}")
    if len(to) != n or any(type(place) is not int for place in to) or sorted(to) != list(range(n)):
        raise ValueError(f"{where}.{given} is no permutation of 0 .. {n - 1}")
    signs = of_kind(table.get("signs", [1] * n), list, f"{where}.signs")
    if len(signs) != n or any(type(sign) is not int or abs(sign) != 1 for sign in signs):
        raise ValueError(f"{where}.signs is a list of {n} entries 1 or -1; got {signs!r}")
    return Step(tuple(to), None if entry.n_values is not None else tuple(signs))


def _dim(entry: _Entry) -> int:
    return int(torch.Size(entry.shape).numel())


def _toml_path(path: str | Path) -> Path:
    if not isinstance(path, str | Path) or Path(path).suffix != ".toml":
        raise ValueError(f"a symmetry file ends in .toml; got {str(path)!r}")
    return Path(path)


def _names_of(names: Sequence[str], shape: Sequence[int], what: str) -> list[str]:
    if not names:
        return []
    if len(shape) != 1 or len(names) != shape[0] or isinstance(names, str):
        raise ValueError(f"{what} are names of {list(shape)} entries; got {len(names)}: {list(names)[:5]!r}")
    return [f"parts = {_list(list(names))}"]


def _dotted(*keys: str) -> str:
    return ".".join(key if key.isascii() and key.replace("_", "").isalnum() else _text(key) for key in keys)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)  # a JSON string is a TOML string


def _scalar(value: Any) -> str:
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _list(values: Sequence[Any]) -> str:
    """Return an array, on several lines where it is long."""
    words = [_scalar(value) for value in values]
    line = f"[{', '.join(words)}]"
    if len(line) <= _COLUMNS:
        return line
    rows, row = [], "   "
    for word in words:
        if len(row) + len(word) + 2 > _COLUMNS:
            rows.append(row)
            row = "   "
        row += f" {word},"
    return "\n".join(["[", *rows, row, "]"])
