"""Whether Python may look at numbers: shortcuts that depend on data step aside while a graph is recorded."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

__all__ = ["eager"]


def eager(x: Tensor) -> bool:
    """Return whether ``x`` is an ordinary tensor of ordinary execution, whose values a branch may depend on.

    It is not while ``torch.compile``, ``torch.export`` or ``torch.jit.trace`` (and with them the ONNX exporters) record
    a graph, or under a transform of ``torch.func`` such as ``vmap``: a branch taken there would hold for one input and
    be used for all.
    """
    return not (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._functorch.peek_interpreter_stack() is not None
        or isinstance(x, FakeTensor)
    )
