import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from equirl import (
    Canonical,
    Equitune,
    Equizero,
    LambdaEquitune,
    Symmetrized,
    dihedral_group,
    image_representation,
    permutation_representation,
)
from equirl import chunking as chunking_module
from equirl.chunking import Chunking
from equirl.constructions import regular_representation

GROUP = dihedral_group(4)
IMAGES, OUTPUTS = image_representation(GROUP, (2, 6, 6)), regular_representation(GROUP)
METHODS: dict[str, Callable[[nn.Module], Symmetrized]] = {
    "equitune": lambda m: Equitune(m, IMAGES, OUTPUTS),
    "lambda_equitune": lambda m: LambdaEquitune(m, IMAGES, OUTPUTS, reads="inputs"),
    "equizero": lambda m: Equizero(m, IMAGES, OUTPUTS),
    "canonical": lambda m: Canonical(m, IMAGES, OUTPUTS),
}


def _backbone() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(288, 8))


def _rows_per_call(backbone: nn.Module) -> list[int]:
    rows: list[int] = []
    backbone.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    return rows


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rows", [1, 24, 100])
def test_chunks_change_neither_outputs_nor_gradients(method: str, rows: int) -> None:
    whole, split = (METHODS[method](_backbone()) for _ in range(2))
    split.load_state_dict(whole.state_dict())
    whole.chunking, split.chunking = Chunking([whole], rows=0), Chunking([split], rows=rows)
    calls = _rows_per_call(split.backbone)
    x = torch.randn(30, 2, 6, 6)
    outputs = [module(x) for module in (whole, split)]
    assert torch.allclose(*outputs, atol=1e-6)
    assert (len(calls) > 1) == (rows < len(x) * (1 if method == "canonical" else 8))
    for module, output in zip((whole, split), outputs, strict=True):
        output.square().sum().backward()
        assert all(p.grad is not None for p in module.backbone.parameters())
    for ours, theirs in zip(split.parameters(), whole.parameters(), strict=True):
        if theirs.grad is not None:
            assert ours.grad is not None
            assert torch.allclose(ours.grad, theirs.grad, atol=1e-4)


def test_the_size_of_a_chunk_comes_from_the_largest_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Equitune(_backbone(), IMAGES, OUTPUTS)
    calls = _rows_per_call(module.backbone)
    row = 8 * 6 * 6 * 4  # the convolution's output, in bytes
    monkeypatch.setattr(chunking_module, "_CHUNK_BYTES", 32 * row)
    module(torch.randn(1, 2, 6, 6))
    module(torch.randn(10, 2, 6, 6))
    assert calls[0] == 8
    assert max(calls[1:]) <= 32
    assert sum(calls[1:]) == 80
    # Before the first call one sample is measured; then it is split like any other.
    fresh = Equitune(_backbone(), IMAGES, OUTPUTS)
    calls = _rows_per_call(fresh.backbone)
    fresh(torch.randn(10, 2, 6, 6))
    fresh(torch.randn(10, 2, 6, 6))
    assert calls == [8, 32, 32, 16, 32, 32, 16]


def test_many_parameters_make_large_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking_module, "_CHUNK_BYTES", 1)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(72, 8))
    module = Equitune(backbone, IMAGES, OUTPUTS)
    calls = _rows_per_call(backbone)
    x = torch.randn(40, 2, 6, 6)
    for _ in range(2):
        module(x)
    parameter_bytes = 4 * (72 * 8 + 8)
    assert calls[0] == 8
    assert calls[1:] == [16] * 40  # 2 samples of 8 views each: what fits twice the parameters, 72 numbers a row
    assert 16 * 72 * 4 <= 2 * parameter_bytes < 24 * 72 * 4


def _peak_bytes(run: Callable[[], object]) -> int:
    """Return the most memory that torch's tensors take at a time during a call, beyond what they took before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    tree = profiled.profiler.kineto_results.experimental_event_tree()  # type: ignore[union-attr]
    changes, events = [], list(tree)
    while events:
        event = events.pop()
        events += event.children
        if event.name == "[memory]":
            changes.append((event.start_time_ns, event.extra_fields.alloc_size))
    assert changes
    live = itertools.accumulate(size for _, size in sorted(changes))
    return max(live)


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_the_first_call_takes_no_more_memory_than_later_ones(
    method: str, gradients: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunking_module, "_CHUNK_BYTES", 1)
    monkeypatch.setattr(chunking_module, "_BYTES_PER_PARAMETER_BYTE", 0)
    module = METHODS[method](nn.Sequential(nn.Conv2d(2, 64, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(2304, 8)))
    calls = _rows_per_call(module.backbone)
    x = torch.randn(64, 2, 6, 6)

    def run() -> None:
        with torch.set_grad_enabled(gradients):
            output = module(x)
        if gradients:
            output.square().sum().backward()
            module.zero_grad()

    first = _peak_bytes(run)
    rows_of_first = max(calls)
    _peak_bytes(run)
    later = _peak_bytes(run)
    assert rows_of_first == max(calls) == (1 if method == "canonical" else 8)
    assert first <= 1.1 * later
    module.chunking.rows = 0
    whole = _peak_bytes(run)
    assert gradients or whole > 2 * later  # the check has power


def test_the_first_call_gives_the_same_as_later_ones_and_draws_no_other_random_numbers() -> None:
    backbone = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(72, 8))
    module, x = Equitune(backbone, IMAGES, OUTPUTS), torch.randn(40, 2, 6, 6)
    outputs = []
    for _ in range(2):
        torch.manual_seed(1)
        outputs.append(torch.cat([module(x), torch.rand(40, 8)]))
    assert torch.equal(*outputs)


def test_a_network_that_cannot_take_one_row_is_not_split() -> None:
    class NeedsTwo(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) < 2:
                raise RuntimeError("too few rows")
            return x.flatten(1)[:, :8]

    assert Canonical(NeedsTwo(), IMAGES, OUTPUTS)(torch.randn(5, 2, 6, 6)).shape == (5, 8)
    with pytest.raises(ValueError, match=r"got torch.float32 \[5, 6, 6\]"):
        Equitune(NeedsTwo(), IMAGES, OUTPUTS)(torch.randn(5, 6, 6))


def test_batch_normalisation_in_training_sees_the_whole_batch() -> None:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(72), nn.Linear(72, 8))
    module = Symmetrized(backbone, IMAGES, OUTPUTS, Equitune(backbone, IMAGES, OUTPUTS).aggregator, chunk_rows=8)
    calls = _rows_per_call(backbone)
    x = torch.randn(6, 2, 6, 6)
    module(x)
    assert calls == [48]
    module.eval()(x)
    assert calls[1:] == [8] * 6


def test_integers_are_split_too() -> None:
    rho = permutation_representation(GROUP)

    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.table(x).sum(2)  # type: ignore[no-any-return]

    module = Symmetrized(Embedded(), rho, rho, Equitune(nn.Identity(), rho, rho).aggregator, chunk_rows=8)
    x = torch.randint(0, 5, (9, 4))
    assert module(x).shape == (9, 4)


def test_a_negative_number_of_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="chunk_rows must be a whole number from 0; got -1"):
        Symmetrized(_backbone(), IMAGES, OUTPUTS, Equitune(_backbone(), IMAGES, OUTPUTS).aggregator, chunk_rows=-1)


def test_an_empty_batch() -> None:
    module = Equitune(_backbone(), IMAGES, OUTPUTS)
    for _ in range(2):
        assert module(torch.randn(0, 2, 6, 6)).shape == (0, 8)
    assert module(torch.randn(3, 2, 6, 6)).shape == (3, 8)


def test_a_lambda_network_that_normalises_sees_the_whole_batch() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(72, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    whole, split = (LambdaEquitune(_backbone(), IMAGES, OUTPUTS, network=network, reads="inputs") for _ in range(2))
    split.load_state_dict(whole.state_dict())
    split.chunking.rows, whole.chunking.rows = 16, 0
    x = torch.randn(20, 2, 6, 6)
    assert torch.allclose(split(x), whole(x), atol=1e-6)


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm1d(72, track_running_stats=False).eval(),
        torch.jit.script(nn.Sequential(nn.BatchNorm1d(72))).train(),  # type: ignore[no-untyped-call]
    ],
    ids=["no running statistics", "scripted"],
)
def test_what_normalises_over_the_batch_is_found_at_every_call(norm: nn.Module) -> None:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), norm, nn.Linear(72, 8))
    module = Equitune(backbone, IMAGES, OUTPUTS)
    module.chunking.rows = 16
    calls = _rows_per_call(backbone)
    x = torch.randn(20, 2, 6, 6) * torch.linspace(0.1, 3, 20)[:, None, None, None]
    assert torch.equal(module(x), module(x))
    assert calls == [160, 160]
    # One that comes later is found too, and one in evaluation mode with statistics does not keep batches whole.
    module.backbone = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(72), nn.Linear(72, 8))
    calls = _rows_per_call(module.backbone)
    module(x)
    module.eval()(x)
    assert calls == [160, *[16] * 10]
