"""Running a network on a few samples at a time, so that its activations stay in the cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from equirl.arguments import whole_number
from equirl.eager import eager
from equirl.representations import Tree

__all__ = ["Chunking"]

RowFunction: TypeAlias = Callable[[Tree], tuple[Tensor, ...]]

_CHUNK_BYTES = 3 << 20
"""Size of the largest activation of a chunk. Measured: see "What it costs" in experiments/README.md."""

_BYTES_PER_PARAMETER_BYTE = 2
"""A chunk reads all weights and adds to all their gradients, so it should be larger than they are."""


class Chunking:
    """Splits batches on the CPU so that the largest activation of a chunk takes about 3 MB; elsewhere it does nothing.

    Larger ones fall out of the cache, and their memory is mapped and cleared anew on each call. Networks with many
    parameters get larger chunks, of twice their parameters' size. How large an activation is per row is measured before
    the first batch of each shape of input: the network runs once more, on the first sample alone, so that the first
    batch is split exactly as all later ones and takes no more memory. (Random numbers that this draws, for dropout say,
    are drawn again.) Batches are not split where a module normalises over the batch at that moment: batch normalisation
    in training mode, or without running statistics. (A network that mixes rows in another way needs ``rows=0``.)

    Args:
        modules: The network's modules, looked at for batch normalisation and the size of their parameters.
        rows: A fixed number of backbone rows at a time, instead of what was measured; 0: never split.

    Raises:
        TypeError: ``rows`` is no whole number.
        ValueError: A negative number of rows.
    """

    def __init__(self, modules: Sequence[nn.Module], rows: int | None = None) -> None:
        self.rows = None if rows is None else whole_number(rows, "chunk_rows", 0)
        self._modules = list(modules)
        self._measured_rows: dict[Any, int] = {}
        self._whole: set[tuple[torch.Size, int]] = set()

    def __call__(self, function: RowFunction, x: Tree, rows_per_sample: int) -> tuple[Tensor, ...]:
        """Return ``function(x)``, computed a few samples at a time.

        Args:
            function: Works sample by sample.
            x: Samples, ``[B, *input]`` or a dict of such.
            rows_per_sample: Backbone rows that each sample makes, the order of the group.
        """
        first = x if isinstance(x, Tensor) else next(iter(tree_leaves(x)), None)
        # What is no batch of samples is for the representation to refuse.
        if not isinstance(first, Tensor) or first.ndim == 0 or not eager(first):
            return function(x)
        case = first.shape, rows_per_sample
        n = first.shape[0]
        if case in self._whole or n == 0:
            return function(x)
        rows = self._rows_at_once(first)
        if rows == 0:
            return function(x)
        if rows is None:
            if n > 1 and self._mixes_rows():
                return function(x)
            with _LargestRow(rows_per_sample) as largest:
                if n == 1:
                    result = function(x)
                elif not _runs_on(function, _part(x, 0, 1)):
                    return function(x)
            rows = max(1, self._chunk_bytes() // max(1, largest.row_bytes))  # 0 would mean: never split
            self._measured_rows[first.shape[1:], first.dtype] = rows
            if n == 1:
                return result
        samples = max(1, rows // rows_per_sample)
        if samples >= n:
            self._whole.add(case)  # always so: not to be asked again
            return function(x)
        if self._mixes_rows():
            return function(x)
        samples = math.ceil(n / math.ceil(n / samples))  # no small rest at the end
        parts = [function(_part(x, at, at + samples)) for at in range(0, n, samples)]
        return tuple(torch.cat(pieces) for pieces in zip(*parts, strict=True))

    def _rows_at_once(self, first: Tensor) -> int | None:
        """Return how many rows to do at once, 0 for all; ``None`` where that is yet to be measured."""
        if self.rows is not None:
            return self.rows
        return self._measured_rows.get((first.shape[1:], first.dtype)) if first.is_cpu else 0

    def _mixes_rows(self) -> bool:
        return any(_mixes_rows(module) for root in self._modules for module in root.modules())

    def _chunk_bytes(self) -> int:
        parameters = {p for root in self._modules for p in root.parameters()}
        return max(_CHUNK_BYTES, _BYTES_PER_PARAMETER_BYTE * sum(p.numel() * p.element_size() for p in parameters))


def _runs_on(function: RowFunction, sample: Tree) -> bool:
    """Run a function for what it allocates; return whether it could, as networks may need more than one row."""
    # A random state for each GPU that the sample lies on; the CPU's is kept in any case.
    gpus = {leaf.get_device() for leaf in tree_leaves(sample) if leaf.is_cuda}
    with torch.random.fork_rng(devices=sorted(gpus)):
        try:
            function(sample)
        except Exception:  # if the whole batch fails as well, its error names what the caller gave
            return False
    return True


def _part(x: Tree, start: int, end: int) -> Tree:
    part: Tree = tree_map(lambda t: t[start:end], x)
    return part


def _mixes_rows(module: nn.Module) -> bool:
    """Return whether a module normalises over the batch in the mode it is in."""
    # A scripted module has lost its class and kept its name; batch renormalisation is no subclass of torch's classes.
    name = str(getattr(module, "original_name", type(module).__name__)).lower()
    if not (isinstance(module, nn.modules.batchnorm._BatchNorm) or ("batch" in name and "norm" in name)):
        return False
    return module.training or getattr(module, "running_mean", None) is None


class _LargestRow(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the size per row of the largest tensor that has one entry per row."""

    def __init__(self, n_rows: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._n_rows = n_rows
        self.row_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.ndim and len(tensor) == self._n_rows:
                self.row_bytes = max(self.row_bytes, tensor.numel() * tensor.element_size() // self._n_rows)
        return result
