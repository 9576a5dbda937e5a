"""Measurements: time in turns, and peak memory."""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer

__all__ = ["Settings", "in_turns", "peak_of_arrays", "peak_of_tensors"]


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        device: Torch device.
        threads: Torch threads.
        rounds: Times that each thing has its turn.
        min_seconds: How long a turn lasts at least.
        quick: Whether the smaller part of each section is enough.
    """

    device: str
    threads: int
    rounds: int
    min_seconds: float
    quick: bool

    @property
    def device_name(self) -> str:
        """What a GPU is called; the CPU is "cpu"."""
        return torch.cuda.get_device_name(self.device) if self.device.startswith("cuda") else self.device


def in_turns(cases: Mapping[str, Callable[[], object]], settings: Settings) -> dict[str, list[float]]:
    """Return seconds per call of each case in each round.

    The cases take turns, so that a machine whose speed drifts slows all of them alike.
    """
    timers = {
        name: Timer("case()", globals={"case": case}, num_threads=settings.threads) for name, case in cases.items()
    }
    numbers = {}
    for name, case in cases.items():
        case()  # the first call builds what is built once
        started = time.perf_counter()
        case()
        once = time.perf_counter() - started
        numbers[name] = max(1, min(10_000, math.ceil(settings.min_seconds / max(once, 1e-7))))
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(settings.rounds):
        for name, timer in timers.items():
            seconds[name].append(timer.timeit(numbers[name]).mean)
    torch.set_num_threads(settings.threads)
    return seconds


def peak_of_tensors(run: Callable[[], object], device: str) -> float:
    """Return the most memory that tensors made by a call take at a time, in MB.

    On the CPU every allocation is counted as torch's profiler notes it, so that what the process holds
    already hides nothing.

    Args:
        run: The call; it is made twice, the first time for what is built once.
        device: Torch device.
    """
    run()
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it prints a line at each start and stop
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiled.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    allocations = sorted((event for event in events if event.get("name") == "[memory]"), key=lambda event: event["ts"])
    live: dict[int, int] = {}
    peak = 0
    for event in (event["args"] for event in allocations):
        if event["Bytes"] > 0:
            live[event["Addr"]] = event["Bytes"]
        else:
            live.pop(event["Addr"], None)  # not there: gradients of the first call
        peak = max(peak, sum(live.values()))
    return peak / 1e6


def peak_of_arrays(run: Callable[[], object]) -> float:
    """Return the most memory that NumPy arrays and Python objects made by a call take at a time, in MB."""
    run()
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()
