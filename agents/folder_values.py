"""Settings of an agent as data: numbers, texts, spaces, symmetries, and names of a fixed table of classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise, VectorizedActionNoise
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule
from torch import Tensor

from equirl.agents.known_objects import known_object, name_of_known
from equirl.agents.proxy_losses import BellmanResidual, Novelty
from equirl.agents.spaces import resolve_symmetry
from equirl.names import unknown_name_message
from equirl.symmetry import MDPSymmetry, comes_with_equirl

__all__ = ["LARGEST_OBSERVATION", "ValueReader", "ValueWriter"]

LARGEST_OBSERVATION = 1 << 24
"""Numbers in the largest observation that a folder may have; larger ones are taken for damage."""

_KIND = "="
_INLINE = 64  # longer arrays go to the tensors
_SCHEDULE_POINTS = 101


class ValueWriter:
    """Turns settings into JSON, and keeps what JSON does not hold.

    Args:
        observation_space: The agent's.
        action_space: The agent's.

    Attributes:
        tensors: Arrays, by the names under which the JSON has them.
        symmetries: Symmetries that do not come with equirl; the JSON has their numbers.
    """

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        self._spaces = (observation_space, action_space)
        self.tensors: dict[str, Tensor] = {}
        self.symmetries: list[MDPSymmetry] = []

    def value(self, given: Any, where: str) -> Any:
        """Return a setting as JSON.

        Args:
            given: The setting.
            where: Its name, such as ``"policy_kwargs.activation_fn"``.

        Raises:
            TypeError: It is code or an object of the user's own, which data cannot express.
        """
        if given is None or isinstance(given, (bool, str)):
            return given
        if isinstance(given, (int, np.integer)) and not isinstance(given, Enum):
            return int(given)
        if isinstance(given, (float, np.floating)):
            number = float(given)
            return number if math.isfinite(number) else {_KIND: "number", "text": str(number)}
        if isinstance(given, np.bool_):
            return bool(given)
        for kind, write in self._writers():
            if isinstance(given, kind):
                return write(given, where)
        if name := name_of_known(given):
            return {_KIND: "class", "name": name}
        if callable(given) and not isinstance(given, type):
            return self._function(given, where)
        raise TypeError(_refusal(given, where))

    def _writers(self) -> list[tuple[Any, Callable[[Any, str], Any]]]:
        return [
            (TrainFreq, lambda v, _: {_KIND: "train_freq", "frequency": v.frequency, "unit": v.unit.value}),
            (Enum, lambda v, _: v.name.lower()),
            (list, lambda v, where: [self.value(each, f"{where}[{i}]") for i, each in enumerate(v)]),
            (
                tuple,
                lambda v, w: {_KIND: "tuple", "items": [self.value(each, f"{w}[{i}]") for i, each in enumerate(v)]},
            ),
            (spaces.Space, self._space),  # a Dict space is a mapping, too
            (Mapping, self._mapping),
            (np.ndarray, self._array),
            (Tensor, self._tensor),
            (MDPSymmetry, self._symmetry),
            ((FloatSchedule, ConstantSchedule, LinearSchedule), self._schedule),
            ((NormalActionNoise, OrnsteinUhlenbeckActionNoise, VectorizedActionNoise), self._noise),
            ((Novelty, BellmanResidual), self._proxy_loss),
        ]

    def _mapping(self, given: Mapping[Any, Any], where: str) -> Any:
        for key in given:
            if not isinstance(key, str) or key == _KIND:
                raise TypeError(f"{where} has the key {key!r}; the keys of settings in a folder are texts, and not '='")
        return {key: self.value(each, f"{where}.{key}") for key, each in given.items()}

    def _array(self, given: np.ndarray, where: str) -> Any:
        about = {_KIND: "array", "dtype": str(given.dtype), "shape": list(given.shape)}
        if given.dtype.kind not in "buif":
            raise TypeError(_refusal(given, where))
        if given.size <= _INLINE:
            return {**about, "values": [self.value(each, where) for each in given.reshape(-1).tolist()]}
        self.tensors[where] = torch.from_numpy(np.array(given))
        return {**about, "tensor": where}

    def _tensor(self, given: Tensor, where: str) -> Any:
        self.tensors[where] = given
        return {_KIND: "tensor", "tensor": where}

    def _symmetry(self, given: MDPSymmetry, where: str) -> Any:
        if comes_with_equirl(given.name):
            try:
                if resolve_symmetry(given.name, *self._spaces) == given:
                    return given.name
            except (ValueError, TypeError):  # of a stack of frames, say: the tables tell it
                pass
        if given not in self.symmetries:
            self.symmetries.append(given)
        return {_KIND: "symmetry", "number": self.symmetries.index(given)}

    def _space(self, given: spaces.Space[Any], where: str) -> Any:
        about: dict[str, Any] = {_KIND: "space", "kind": type(given).__name__}
        if type(given) is spaces.Box:
            for name in ("low", "high"):
                bounds = getattr(given, name)
                same = bounds.size > 0 and bool((bounds == bounds.flat[0]).all())
                bound = bounds.flat[0].item() if same else bounds
                about[name] = self.value(bound, f"{where}.{name}")
            return {**about, "shape": list(given.shape), "dtype": str(given.dtype)}
        if type(given) is spaces.Discrete:
            return {**about, "n": int(given.n), "start": int(given.start), "dtype": str(given.dtype)}
        if type(given) is spaces.MultiDiscrete:
            sizes = {name: getattr(given, name).tolist() for name in ("nvec", "start")}
            return {**about, **sizes, "dtype": str(given.dtype)}
        if type(given) is spaces.MultiBinary:
            return {**about, "n": given.n if isinstance(given.n, int) else list(map(int, given.n))}
        if type(given) is spaces.Dict:
            return {**about, "spaces": {key: self._space(each, f"{where}.{key}") for key, each in given.items()}}
        raise TypeError(f"{where} is {given}; a folder holds Box, Discrete, MultiDiscrete, MultiBinary and Dict spaces")

    def _schedule(self, given: Any, where: str) -> Any:
        if isinstance(given, FloatSchedule):
            return self.value(given.value_schedule, where)
        if isinstance(given, ConstantSchedule):
            return self.value(given.val, where)
        return {_KIND: "schedule", **{name: self.value(number, where) for name, number in vars(given).items()}}

    def _function(self, given: Callable[..., Any], where: str) -> Any:
        """Return a schedule that is a function, as data: rl_zoo3's, and those that give one value all the time."""
        if type(given).__module__ == "rl_zoo3.utils" and type(given).__name__ == "SimpleLinearSchedule":
            return {_KIND: "linear to zero", "start": float(given.initial_value)}  # type: ignore[attr-defined]
        try:
            values = {float(given(point / (_SCHEDULE_POINTS - 1))) for point in range(_SCHEDULE_POINTS)}
        except Exception as error:  # not a function of the progress: some code of the user's own
            raise TypeError(_refusal(given, where)) from error
        if len(values) == 1:
            return values.pop()
        raise TypeError(
            f"{where} is a function, {given!r}, whose values change during training: it is code, and a folder holds "
            f"data alone. Take stable_baselines3.common.utils.LinearSchedule, or give a number for it: "
            f"save_agent_folder(..., replace={{{where!r}: 0.001}})"
        )

    def _noise(self, given: Any, where: str) -> Any:
        if isinstance(given, VectorizedActionNoise):
            base = self.value(given.base_noise, where)
            return {_KIND: "noise", "kind": "vectorized", "base": base, "n_envs": given.n_envs}
        names = {"mean": "_mu", "sigma": "_sigma"}
        if isinstance(given, OrnsteinUhlenbeckActionNoise):
            names |= {"theta": "_theta", "dt": "_dt", "initial_noise": "initial_noise"}
        kind = "normal" if isinstance(given, NormalActionNoise) else "ornstein-uhlenbeck"
        values = {key: self.value(getattr(given, name), f"{where}.{key}") for key, name in names.items()}
        return {_KIND: "noise", "kind": kind, **values}

    def _proxy_loss(self, given: Any, where: str) -> Any:
        known = {key: self.value(each, f"{where}.{key}") for key, each in given.__getstate__().items()}
        return {_KIND: "object", "name": name_of_known(type(given)), "attributes": known}


def _refusal(given: Any, where: str) -> str:
    shown = " ".join(repr(given).split())
    return (
        f"{where} is {shown[:100]}, of the kind {type(given).__name__}, which is code or an object of your own: a "
        "folder holds data alone, so that whoever opens it runs no code. Share the .zip with those who trust you, or "
        f"train with what SB3 and equirl have; a setting that training alone needs can be replaced: "
        f"save_agent_folder(..., replace={{{where!r}: None}})"
    )


class ValueReader:
    """Turns JSON of ``ValueWriter`` back into settings; it makes what the fixed table names, and nothing else.

    Args:
        tensors: As of the writer.
        symmetries: As of the writer.
    """

    def __init__(self, tensors: Mapping[str, Tensor], symmetries: list[MDPSymmetry]) -> None:
        self._tensors = tensors
        self._symmetries = symmetries

    def value(self, data: Any) -> Any:
        """Return the setting.

        Raises:
            LookupError: An entry is missing, or names a tensor or a symmetry that is not there.
            TypeError: An entry of another kind.
            ValueError: An entry that means nothing, or a class that is not in the table.
        """
        if isinstance(data, list):
            return [self.value(each) for each in data]
        if not isinstance(data, dict):
            return data
        if _KIND not in data:
            return {key: self.value(each) for key, each in data.items()}
        readers: dict[str, Callable[[dict[str, Any]], Any]] = {
            "number": lambda d: float(d["text"]),
            "tuple": lambda d: tuple(self.value(each) for each in d["items"]),
            "class": lambda d: known_object(d["name"]),
            "train_freq": lambda d: TrainFreq(int(d["frequency"]), TrainFrequencyUnit(d["unit"])),
            "array": self._array,
            "tensor": lambda d: self._tensors[d["tensor"]],
            "symmetry": lambda d: self._symmetries[int(d["number"])],
            "space": self._space,
            "schedule": lambda d: LinearSchedule(*(float(d[name]) for name in ("start", "end", "end_fraction"))),
            "linear to zero": _linear_to_zero,
            "noise": self._noise,
            "object": self._object,
        }
        kind = data[_KIND]
        if kind not in readers:
            raise ValueError(unknown_name_message("kind of value", kind, readers))
        return readers[kind](data)

    def _array(self, data: dict[str, Any]) -> np.ndarray:
        dtype = _dtype(data)
        if "tensor" in data:
            found: np.ndarray = self._tensors[data["tensor"]].numpy().copy()
        else:
            found = np.array([self.value(each) for each in data["values"]], dtype=dtype)
        if found.dtype != dtype:
            raise ValueError(f"an array is {found.dtype}, where {dtype} is due")
        return found.reshape(data["shape"])

    def _space(self, data: dict[str, Any]) -> spaces.Space[Any]:
        kind = data["kind"]
        if kind == "Dict":
            return spaces.Dict([(key, self._space(each)) for key, each in data["spaces"].items()])
        if kind == "Discrete":
            _check_size([data["n"]])
            return spaces.Discrete(data["n"], start=data["start"])
        if kind == "MultiDiscrete":
            _check_size([int(np.sum(data["nvec"]))])
            return spaces.MultiDiscrete(data["nvec"], dtype=_dtype(data).type, start=data["start"])
        if kind == "MultiBinary":
            _check_size(data["n"] if isinstance(data["n"], list) else [data["n"]])
            return spaces.MultiBinary(data["n"])
        if kind != "Box":
            raise ValueError(unknown_name_message("space", kind, ("Box", "Dict", "Discrete", "MultiDiscrete")))
        shape, dtype = tuple(data["shape"]), _dtype(data)
        _check_size(shape)
        bounds = []
        for name in ("low", "high"):
            bound = self.value(data[name])
            bounds.append(bound if isinstance(bound, np.ndarray) else np.full(shape, bound, dtype=dtype))
        return spaces.Box(bounds[0], bounds[1], shape=shape, dtype=dtype.type)

    def _noise(self, data: dict[str, Any]) -> Any:
        if data["kind"] == "vectorized":
            return VectorizedActionNoise(self.value(data["base"]), int(data["n_envs"]))
        given = {key: self.value(each) for key, each in data.items() if key not in (_KIND, "kind")}
        return NormalActionNoise(**given) if data["kind"] == "normal" else OrnsteinUhlenbeckActionNoise(**given)

    def _object(self, data: dict[str, Any]) -> Any:
        kind = known_object(data["name"])
        if kind not in (Novelty, BellmanResidual):
            raise ValueError(f"{data['name']!r} is not made from a folder")
        made = object.__new__(kind)
        for name, each in data["attributes"].items():
            setattr(made, name, self.value(each))
        return made


def _linear_to_zero(data: dict[str, Any]) -> Any:
    from rl_zoo3.utils import SimpleLinearSchedule  # slow, so only when it is needed

    return SimpleLinearSchedule(float(data["start"]))


def _dtype(data: dict[str, Any]) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(data["dtype"])
    if dtype.kind not in "buif":
        raise ValueError(f"numbers are of the kind {dtype}; booleans, whole numbers and floats are known")
    return dtype


def _check_size(shape: Any) -> None:
    if not all(type(side) is int and side >= 0 for side in shape) or math.prod(shape) > LARGEST_OBSERVATION:
        raise ValueError(
            f"a space has the shape {list(shape)}; sides are whole numbers, and their product at most "
            f"{LARGEST_OBSERVATION:,}"
        )
