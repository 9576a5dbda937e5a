"""Running a network on a few samples at a time, so that its activations stay in the cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

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
    parameters get larger chunks, of twice their parameters' size. How large an activation is per row is seen on the
    first call, once for each shape of input. Batches are not split where a network in training mode normalises over
    the batch.

    Args:
        modules: The network's modules, looked at for batch normalisation and the size of their parameters.
        rows: A fixed number of backbone rows at a time, instead of what was measured; 0: never split.

    Raises:
        ValueError: A negative number of rows.
    """

    def __init__(self, modules: Sequence[nn.Module], rows: int | None = None) -> None:
        if rows is not None and rows < 0:
            raise ValueError(f"chunk_rows must be a number of rows, or 0 to never split; got {rows}")
        self.rows = rows
        self._modules = list(modules)
        self._batch_norms = [
            module
            for root in self._modules
            for module in root.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
        ]
        self._measured_rows: dict[Any, int] = {}
        self._whole: set[tuple[torch.Size, int]] = set()

    def __call__(self, function: RowFunction, x: Tree, rows_per_sample: int) -> tuple[Tensor, ...]:
        """Return ``function(x)``, computed a few samples at a time.

        Args:
            function: Works sample by sample.
            x: Samples, ``[B, *input]`` or a dict of such.
            rows_per_sample: Backbone rows that each sample makes, the order of the group.
        """
        first = x if isinstance(x, Tensor) else tree_leaves(x)[0]
        case = first.shape, rows_per_sample
        n = first.shape[0]
        if case in self._whole or n == 0:
            return function(x)
        samples = self._samples_at_once(first, rows_per_sample)
        if samples is None:
            with _LargestRow(n * rows_per_sample) as largest:
                outputs = function(x)
            self._measured_rows[first.shape[1:], first.dtype] = self._chunk_bytes() // max(1, largest.row_bytes)
            return outputs
        if samples >= n:
            if first.is_cpu and not self._batch_norms and not torch.compiler.is_compiling():
                self._whole.add(case)  # always so: not to be asked again
            return function(x)
        samples = math.ceil(n / math.ceil(n / samples))  # no small rest at the end
        starts = range(0, n, samples)
        parts = [function(tree_map(lambda t, at=start: t[at : at + samples], x)) for start in starts]
        return tuple(torch.cat(pieces) for pieces in zip(*parts, strict=True))

    def _samples_at_once(self, first: Tensor, rows_per_sample: int) -> int | None:
        """Return how many samples to do at once; ``None`` where that is yet to be seen."""
        rows = self.rows
        if (
            rows == 0
            or (rows is None and not first.is_cpu)
            or torch.compiler.is_compiling()
            or (self._batch_norms and any(module.training for module in self._batch_norms))
        ):
            return first.shape[0]
        if rows is None:
            rows = self._measured_rows.get((first.shape[1:], first.dtype))
            if rows is None:
                return None
        return max(1, rows // rows_per_sample)

    def _chunk_bytes(self) -> int:
        parameters = {p for root in self._modules for p in root.parameters()}
        return max(_CHUNK_BYTES, _BYTES_PER_PARAMETER_BYTE * sum(p.numel() * p.element_size() for p in parameters))


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
