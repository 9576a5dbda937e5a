"""Observations of users: arrays, lists and dicts are taken; what does not fit is refused, with the value named."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from equirl.agents.observations import as_observations, as_tensors

BOX, IMAGE = spaces.Box(-1, 1, (2,), np.float32), spaces.Box(0, 255, (3, 36, 40), np.uint8)
DICT = spaces.Dict({"x": BOX, "place": spaces.Discrete(5)})


@pytest.mark.parametrize(
    ("given", "space", "expected"),
    [
        ([[1.0, 2.0], [3.0, 4.0]], BOX, torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)),
        ([np.ones(2, np.float32), np.zeros(2, np.float32)], BOX, torch.tensor([[1.0, 1.0], [0.0, 0.0]])),
        ([torch.ones(2), torch.zeros(2)], BOX, torch.tensor([[1.0, 1.0], [0.0, 0.0]])),
        (np.array([[1.0, 2.0]], dtype=">f4"), BOX, torch.tensor([[1.0, 2.0]])),
        (np.array([[1.0, 2.0]], dtype=np.float32)[:, ::-1], BOX, torch.tensor([[2.0, 1.0]])),
        (np.array([[3], [1]], dtype=np.uint16), spaces.Discrete(5), torch.tensor([3, 1])),
        (torch.tensor([3.0, 1.0]), spaces.Discrete(5), torch.tensor([3, 1])),
        (range(1, 3), spaces.Discrete(5), torch.tensor([1, 2])),
        ([[1, 0]], spaces.MultiBinary(2), torch.tensor([[1, 0]], dtype=torch.int8)),
        ([[1, 4]], spaces.MultiDiscrete([2, 5]), torch.tensor([[1, 4]])),
    ],
)
def test_what_holds_numbers_is_taken(given: Any, space: Any, expected: torch.Tensor) -> None:
    taken = as_observations(given, space, "cpu")
    assert isinstance(taken, torch.Tensor)
    assert taken.dtype == expected.dtype
    assert torch.equal(taken, expected)


def test_dicts_and_lists_of_dicts_are_taken() -> None:
    rows = [{"x": np.array([0.0, 1.0], np.float32), "place": 4}, {"x": np.array([1.0, 0.0], np.float32), "place": 0}]
    for given in (rows, {"x": [row["x"] for row in rows], "place": np.array([[4], [0]])}):
        taken = as_observations(given, DICT, "cpu")
        assert isinstance(taken, dict)
        assert torch.equal(taken["place"], torch.tensor([4, 0]))
        assert torch.equal(taken["x"], torch.tensor([[0.0, 1.0], [1.0, 0.0]]))


def test_images_with_the_channels_last_are_transposed_as_sb3_does() -> None:
    images = np.random.default_rng(0).integers(256, size=(5, 36, 40, 3), dtype=np.uint8)
    taken = as_observations(images, IMAGE, "cpu")
    assert torch.equal(taken, torch.as_tensor(images).permute(0, 3, 1, 2))  # type: ignore[arg-type]
    assert torch.equal(as_observations(taken, IMAGE, "cpu"), taken)  # type: ignore[arg-type]


def test_what_is_taken_is_no_alias_of_an_array_and_needs_no_gradient() -> None:
    array = np.zeros((1, 2), np.float32)
    taken = as_tensors(array)
    array += 1
    assert torch.equal(taken, torch.zeros(1, 2))  # type: ignore[arg-type]
    assert not as_tensors(torch.ones(1, requires_grad=True)).requires_grad  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("given", "space", "error", "message"),
    [
        ("states", BOX, TypeError, "must be a tensor or an array of numbers"),
        (None, BOX, TypeError, "must be a tensor or an array of numbers"),
        ([[1.0, 2.0], [3.0]], BOX, TypeError, "must be a tensor or an array of numbers"),
        (torch.ones(1, 2, dtype=torch.complex64), BOX, TypeError, "complex64"),
        (np.zeros((0, 2)), BOX, ValueError, r"there are no observations: got the shape \[0, 2\]"),
        (np.zeros(2), BOX, ValueError, r"shape \[N, 2\]; got \[2\]. A single observation needs a first axis"),
        (np.zeros((4, 3)), BOX, ValueError, r"shape \[N, 2\]; got \[4, 3\]"),
        ([[0.0, 0.0], [0.0, np.nan]], BOX, ValueError, "observation 1 holds nan"),
        ([[np.inf, 0.0]], BOX, ValueError, "observation 0 holds inf"),
        ([1, 7], spaces.Discrete(5), ValueError, r"observation 1 is 7, which is not in Discrete\(5\)"),
        ([-1], spaces.Discrete(5), ValueError, "observation 0 is -1"),
        ([1.5], spaces.Discrete(5), ValueError, r"observation 0 is 1\.5"),
        ([[1, 2]], spaces.MultiDiscrete([2, 2]), ValueError, r"observation 0 is \[1, 2\]"),
        ([[0, 2]], spaces.MultiBinary(2), ValueError, r"observation 0 is \[0, 2\]"),
        ({"x": np.zeros((1, 2))}, BOX, TypeError, "are one tensor; got a dict with the keys"),
        (np.zeros((1, 2)), DICT, TypeError, r"a dict with the keys \['place', 'x'\]; got ndarray"),
        ({"x": np.zeros((1, 2))}, DICT, ValueError, r"must have the keys \['place', 'x'\]; got \['x'\]"),
        ({"x": np.zeros((1, 2)), "place": [1, 2]}, DICT, ValueError, "the same length"),
        ({"x": np.zeros((1, 2)), "place": [9]}, DICT, ValueError, "observation 0 of 'place' is 9"),
    ],
)
def test_what_does_not_fit_is_refused(given: Any, space: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        as_observations(given, space, "cpu")
