"""The record beside every result: configuration, versions, machine, commit and date."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from equirl.files import written_whole

__all__ = ["recorded_settings", "write_record"]

_PACKAGES = ("equirl", "torch", "stable-baselines3", "gymnasium", "numpy")


def write_record(path: Path, config: Any) -> None:
    """Write a JSON file that says how a result came about.

    Args:
        path: The file.
        config: The dataclass that configured the run.
    """
    record = {
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
        "config": recorded_settings(config),
        "versions": {package: version(package) for package in _PACKAGES} | {"python": platform.python_version()},
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")


def recorded_settings(config: Any) -> dict[str, Any]:
    """Return the settings of a run as its record tells of them, as JSON can hold them."""
    settings = {name: _portable(value) for name, value in dataclasses.asdict(config).items()}
    found: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return found


def _portable(value: Any) -> Any:
    """Return a setting without what is this machine's alone: of an absolute path its last part."""
    return Path(value).name if isinstance(value, str | Path) and Path(value).is_absolute() else value


def _commit() -> str | None:
    """Return the commit of the checkout this file lies in, or ``None`` outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
