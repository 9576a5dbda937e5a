"""Peak memory of a call, by the allocators' own count: of torch on the CPU or a GPU, of NumPy."""

from __future__ import annotations

import json
import os
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

__all__ = ["peak_of_arrays", "peak_of_tensors"]


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
