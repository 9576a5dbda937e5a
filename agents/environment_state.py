"""The whole state of vectorized environments as bytes, episodes that are under way included, and back in place."""

from __future__ import annotations

import copyreg
import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
from gymnasium.utils import EzPickle
from stable_baselines3.common.monitor import ResultsWriter
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecEnvWrapper

__all__ = ["EnvironmentState", "environment_state", "restore_environments"]

EnvironmentState = dict[str, Any]
"""``layers``: bytes, or ``None`` with a ``reason``; ``files``: what each file of episodes held."""

_OF_THE_CLASS = ("venv", "class_attributes")


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles all but the open files of episodes, which are numbered."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.writers: list[ResultsWriter] = []

    def persistent_id(self, obj: Any) -> int | None:
        if not isinstance(obj, ResultsWriter):
            return None
        if not any(obj is writer for writer in self.writers):
            self.writers.append(obj)
        return next(number for number, writer in enumerate(self.writers) if writer is obj)

    def reducer_override(self, obj: Any) -> Any:
        # Of gymnasium's EzPickle (MuJoCo's robots, Box2D) a pickle holds the constructor's arguments and no state.
        if isinstance(obj, EzPickle):
            return copyreg.__newobj__, (type(obj),), vars(obj), None, None, _set_attributes  # type: ignore[attr-defined]
        return super().reducer_override(obj)


def _set_attributes(obj: Any, attributes: dict[str, Any]) -> None:
    vars(obj).update(attributes)


class _Unpickler(pickle.Unpickler):
    """Puts the open files of the environments that are there in the place of the numbers."""

    def __init__(self, file: io.BytesIO, writers: list[ResultsWriter]) -> None:
        super().__init__(file)
        self._writers = writers

    def persistent_load(self, pid: Any) -> ResultsWriter:
        writer: ResultsWriter = self._writers[pid]
        return writer


def environment_state(environments: VecEnv) -> EnvironmentState:
    """Return the state of environments, for ``restore_environments``.

    Args:
        environments: Environments of this process; those in processes of their own, and those that hold what cannot be
            pickled, have no state here, and ``reason`` says why.
    """
    try:
        layers, writers = _pickled(environments)
    except Exception as error:  # whatever an environment holds may raise anything
        return {"layers": None, "reason": f"{type(error).__name__}: {error}", "files": {}}
    return {"layers": layers, "reason": "", "files": {number: _held(writer) for number, writer in enumerate(writers)}}


def restore_environments(environments: VecEnv, state: EnvironmentState) -> bool:
    """Put environments, made in the same way, into a state, in place.

    Args:
        environments: The environments.
        state: What ``environment_state`` returned.

    Returns:
        Whether they go on where they were. If not, they are as before.
    """
    if state["layers"] is None:
        return False
    _, writers = _pickled(environments)
    found = _Unpickler(io.BytesIO(state["layers"]), writers).load()
    for layer, attributes in zip(_layers(environments), found, strict=True):
        vars(layer).update(attributes)
    for number, text in state["files"].items():
        _rewrite(writers[number], text)
    return True


def _pickled(environments: VecEnv) -> tuple[bytes, list[ResultsWriter]]:
    layers = list(_layers(environments))
    if isinstance(layers[-1], SubprocVecEnv):
        raise TypeError("environments in processes of their own keep their state there")
    file = io.BytesIO()
    pickler = _Pickler(file)
    # By their attributes: VecNormalize would leave out what it wraps, and the identity of the outermost has to stay.
    pickler.dump([{key: value for key, value in vars(layer).items() if key not in _OF_THE_CLASS} for layer in layers])
    return file.getvalue(), pickler.writers


def _layers(environments: VecEnv) -> Iterator[VecEnv]:
    while True:
        yield environments
        if not isinstance(environments, VecEnvWrapper):
            return
        environments = environments.venv


def _held(writer: ResultsWriter) -> str:
    writer.file_handler.flush()
    return Path(writer.file_handler.name).read_text(encoding="utf-8")


def _rewrite(writer: ResultsWriter, text: str) -> None:
    file = writer.file_handler
    file.seek(0)
    file.truncate()
    file.write(text)
    file.flush()
