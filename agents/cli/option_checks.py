"""Checks of settings: counts, rates, devices and places that can be used, or an error that says which cannot."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import equirl.devices
from equirl.arguments import check_text, whole_number

__all__ = [
    *("check_counts", "check_device", "check_evaluations", "check_output_file", "check_output_folder"),
    *("check_positive", "check_shares"),
]


def check_counts(settings: Any, *names: str, least: int = 1) -> None:
    """Check that attributes are whole numbers that are not too small.

    A tuple of such passes where the setting's default is a tuple, and ``None`` where it is ``None``.

    Args:
        settings: A dataclass of settings.
        *names: Names of the attributes.
        least: The least allowed number.

    Raises:
        TypeError: Something else where a whole number or a tuple is due.
        ValueError: A number that is too small, or an empty tuple.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    for name in names:
        value = getattr(settings, name)
        if isinstance(defaults[name], tuple):
            if not isinstance(value, tuple | list):
                raise TypeError(f"{name} is a tuple of whole numbers; got {value!r}: write ({value!r},)")
            if not value:
                raise ValueError(f"{name} is empty; give at least one number")
            for number in value:
                whole_number(number, name, least)
        elif value is not None or defaults[name] is not None:
            whole_number(value, name, least)


def check_positive(settings: Any, *names: str) -> None:
    """Check that attributes are finite numbers above 0, such as a learning rate.

    Raises:
        ValueError: Zero, negative, infinite or not a number.
    """
    for name in names:
        value = getattr(settings, name)
        if not (_is_number(value) and math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a number above 0; got {value!r}")


def check_shares(settings: Any, *names: str, zero: bool = False) -> None:
    """Check that attributes are shares, above 0 and up to 1.

    Args:
        settings: The object that has the attributes.
        *names: Names of the attributes.
        zero: Whether 0 is allowed as well.

    Raises:
        ValueError: A number out of this range, or not a number.
    """
    for name in names:
        value = getattr(settings, name)
        if not (_is_number(value) and (0 <= value <= 1) and (zero or value > 0)):
            raise ValueError(f"{name} must be a share {'from' if zero else 'above'} 0 to 1; got {value!r}")


def check_evaluations(eval_freq: int, steps: int, name: str = "total_timesteps") -> None:
    """Check that a run of so many steps is evaluated at least once.

    Args:
        eval_freq: Environment steps between two evaluations.
        steps: Environment steps of the run.
        name: The setting that says so.

    Raises:
        ValueError: It is not.
    """
    if eval_freq > steps:
        raise ValueError(f"eval_freq {eval_freq} is above {name} {steps}: nothing would be evaluated")


def check_device(name: str) -> None:
    """Check that a device can be used here; its name is a text."""
    check_text("a device", name)
    equirl.devices.check_device(name)


def check_output_folder(folder: Path, option: str = "--out") -> None:
    """Check that a folder is there or can be made, and can be written to; nothing is made here.

    Args:
        folder: The folder.
        option: What names it on the command line, for the message.

    Raises:
        ValueError: A file is in its place, or it cannot be written to.
    """
    _check_place(Path(folder), f"{option} {folder}")


def check_output_file(file: Path | None, option: str) -> None:
    """Check that a file can be written; ``None``: none is wanted.

    Args:
        file: The file.
        option: What names it on the command line, for the message.

    Raises:
        ValueError: A folder has its name, or its own folder cannot be written to.
    """
    if file is None:
        return
    if Path(file).is_dir():
        raise ValueError(f"{option} {file} is a folder; name a file")
    _check_place(Path(file).parent, f"{option} {file}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_place(folder: Path, what: str) -> None:
    try:
        nearest = next(place for place in (folder, *folder.parents) if place.exists())
        if not nearest.is_dir():
            raise ValueError(f"{what} cannot be written: {nearest} is a file, not a folder")
    except OSError as error:
        raise ValueError(f"{what} cannot be written: {error}") from error
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"{what} cannot be written: there is no permission to write to {nearest}")
