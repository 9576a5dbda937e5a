"""Agents as files for other programs: ONNX, and programs of ``torch.export``, each checked before it is kept."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor
from torch.utils._pytree import tree_leaves

from equirl.agents.export_check import ExportCheck, check_export, random_observations
from equirl.agents.exported_policy import ExportedPolicy, exported_policy
from equirl.files import written_whole
from equirl.optional import EXPORT, needed
from equirl.representations import Tree
from equirl.testing import evaluation_mode

__all__ = ["ExportReport", "export_onnx", "export_program"]

_TOLERANCE = 1e-5
_INPUT = "observation"


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how far it is off.

    Attributes:
        path: The file.
        inputs: Name, dtype and shape of each input, such as ``"observation float32 [batch, 4]"``.
        output: The same of the output, ``q_values``, ``action_logits`` or ``action``.
        check: The errors found.
        symmetry: Name of the symmetry and of the method; ``None`` for a plain agent.
    """

    path: Path
    inputs: tuple[str, ...]
    output: str
    check: ExportCheck
    symmetry: str | None

    def __str__(self) -> str:
        """Return the report in three lines."""
        check = self.check
        equivariance = (
            f"not equivariant: {self.symmetry or 'a plain agent'}"
            if check.equivariance_error is None
            else f"largest equivariance error {check.equivariance_error:.1e} ({self.symmetry})"
        )
        return (
            f"{', '.join(self.inputs)} -> {self.output}\n"
            f"largest difference from the agent {check.answer_error:.1e} on {check.n_observations} observations, "
            f"{check.n_symmetric} of them symmetric\n{equivariance}"
        )


def export_onnx(model: BaseAlgorithm, path: str | Path) -> ExportReport:
    """Write the acting part of an agent as an ONNX file, for any size of batch, and check it with onnxruntime.

    The input is ``observation`` as the agent's environment gives it, ``[batch, *observation]`` in the dtype of the
    space (images with the channels first); of a ``Dict`` space one input for each key, named by it. The output is
    ``q_values``, ``action_logits`` or ``action``; see :class:`~equirl.agents.exported_policy.ExportedPolicy`.

    Args:
        model: An agent, equivariant or plain.
        path: The file to write.

    Raises:
        ModuleNotFoundError: The extra ``export`` is not installed.
        TypeError: A recurrent agent, or a policy or a space that cannot be exported.
        ValueError: torch cannot record a layer of your own, or the file does not answer as the agent does or is not
            equivariant; nothing is left of it.
    """
    needed("onnx", EXPORT)
    needed("onnxscript", EXPORT)
    runtime = needed("onnxruntime", EXPORT)
    policy = exported_policy(model)
    names = list(model.observation_space.spaces) if isinstance(model.observation_space, spaces.Dict) else [_INPUT]
    with written_whole(path) as temporary, evaluation_mode(policy), _quiet():
        exported: Any = torch.onnx.export(
            _program(policy, model.observation_space),
            dynamo=True,
            input_names=names,
            output_names=[policy.output],
            external_data=False,
            verbose=False,
        )
        _name_the_batch(exported.model.graph)
        exported.model.metadata_props.update(_about(model, policy))
        exported.save(temporary, external_data=False)
        session = runtime.InferenceSession(temporary, providers=["CPUExecutionProvider"])

        def run(observations: Tree) -> Tensor:
            arrays = [leaf.numpy() for leaf in tree_leaves(observations)]
            (answer,) = session.run(None, dict(zip(names, arrays, strict=True)))
            return torch.from_numpy(np.array(answer))

        return _checked(run, policy, model, Path(path))


def export_program(model: BaseAlgorithm, path: str | Path) -> ExportReport:
    """Write the acting part of an agent as a program of ``torch.export``, for any size of batch, and check it.

    ``torch.export.load(path).module()`` is a function of the observations, a tensor, or a dict for ``Dict`` spaces.
    Input and output are those of :func:`export_onnx`.

    Args:
        model: An agent, equivariant or plain.
        path: The file to write.

    Raises:
        TypeError: A recurrent agent, or a policy or a space that cannot be exported.
        ValueError: torch cannot record a layer of your own, or the file does not answer as the agent does or is not
            equivariant; nothing is left of it.
    """
    policy = exported_policy(model)
    with written_whole(path) as temporary, evaluation_mode(policy), _quiet():
        with temporary.open("wb") as file:  # by name, torch wants the ending .pt2
            torch.export.save(_program(policy, model.observation_space), file, extra_files=_about(model, policy))
        with temporary.open("rb") as file:
            loaded = torch.export.load(file).module()
        return _checked(lambda observations: cast(Tensor, loaded(observations)), policy, model, Path(path))


def _program(policy: ExportedPolicy, space: spaces.Space[Any]) -> torch.export.ExportedProgram:
    """Return the recorded policy.

    Raises:
        ValueError: torch cannot record it.
    """
    example = random_observations(space, 3, np.random.default_rng(0))
    batch = {0: torch.export.Dim("batch", min=1)}
    axes = batch if isinstance(example, Tensor) else dict.fromkeys(example, batch)
    try:
        with torch.no_grad(), redirect_stderr(io.StringIO()):  # where torch prints the graph up to an error
            return torch.export.export(policy, (example,), dynamic_shapes=(axes,))
    except Exception as error:  # whatever torch makes of a network of the user's own
        raise ValueError(
            f"torch.export cannot record {type(policy.policy).__name__} ({type(error).__name__}: "
            f"{str(error).strip().splitlines()[0]}); look for branches on the values of tensors, and for sizes of one "
            "batch, in the features extractor and other layers of your own"
        ) from error


def _name_the_batch(graph: Any) -> None:
    """Call the first axis of an ONNX graph "batch", in the place of torch's own symbol, such as "s18"."""
    symbol = re.compile(rf"\b{re.escape(str(graph.inputs[0].shape[0]))}\b")
    for value in (*graph.inputs, *(value for node in graph for value in node.outputs)):
        for axis, size in enumerate(() if value.shape is None else value.shape):
            if not isinstance(size, int):
                value.shape[axis] = symbol.sub("batch", str(size))


def _about(model: BaseAlgorithm, policy: ExportedPolicy) -> dict[str, str]:
    """Return what a file says about the agent that it was made from."""
    about = {
        "algorithm": type(model).__name__,
        "observation_space": str(model.observation_space),
        "action_space": str(model.action_space),
    }
    if policy.acting:
        about |= {"symmetry": policy.acting[0].symmetry.name, "method": policy.acting[0].method}
    return {f"equirl.{name}": value for name, value in about.items()}


def _checked(run: Any, policy: ExportedPolicy, model: BaseAlgorithm, path: Path) -> ExportReport:
    """Return the report of a file.

    Raises:
        ValueError: It is off by more than round-off.
    """
    check = check_export(run, policy, model.observation_space)
    if not check.answer_error <= _TOLERANCE:
        raise ValueError(
            f"the exported policy answers otherwise than the agent, by {check.answer_error:.1e} of its largest output "
            f"(allowed: {_TOLERANCE:g}); {path} was not written. Look for layers that keep numbers of one batch"
        )
    if check.equivariance_error is not None and not check.equivariance_error <= _TOLERANCE:
        raise ValueError(
            f"the exported policy is not equivariant, by {check.equivariance_error:.1e} of its largest output "
            f"(allowed: {_TOLERANCE:g}); {path} was not written. Do bounds of the action space change places with "
            "others?"
        )
    example = random_observations(model.observation_space, 1, np.random.default_rng(0))
    parts = {_INPUT: example} if isinstance(example, Tensor) else example
    inputs = tuple(_described(name, cast(Tensor, part)) for name, part in parts.items())
    with torch.no_grad():
        output = _described(policy.output, policy(example))
    symmetry = f"{policy.acting[0].symmetry.name}, {policy.acting[0].method}" if policy.acting else None
    return ExportReport(path, inputs, output, check, symmetry)


def _described(name: str, values: Tensor) -> str:
    return f"{name} {str(values.dtype).removeprefix('torch.')} [{', '.join(['batch', *map(str, values.shape[1:])])}]"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what torch's exporter says about packages that nobody needs here, and about its own insides."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"torch\.|onnxscript|copyreg")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
