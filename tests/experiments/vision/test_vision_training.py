"""Features on disk, λ alone, whole networks: what is computed once, what a stop leaves, and what the loss is of."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_images import made_images, tiny_classifier, train_tiny
from torch import Tensor, nn
from torch.distributed import TCPStore
from warm_process import Program, run_python, run_together

from equirl.experiments.vision.image_sets import read_images
from equirl.experiments.vision.study import take_views
from equirl.experiments.vision.training import train_images
from equirl.experiments.vision.workbench import PIECE, ViewFeatures, compute_missing
from equirl.models.image_classifier import Classifier, invert
from equirl.models.image_fit import fit_lambda
from equirl.models.images import SymmetrizedClassifier, make_image_aggregator
from equirl.rotations import make_view, rotate, view_names

pytest.importorskip("accelerate", reason="the extra vision is not installed")

HELPERS = Path(__file__).parents[2] / "helpers"


def _features(folder: Path, part: str = "pooled", **changes: Any) -> ViewFeatures:
    given: dict[str, Any] = {
        "classifier": tiny_classifier(),
        "images": made_images(PIECE + 44),
        "views": view_names("c4"),
        "part": part,
        "folder": folder,
    }
    return ViewFeatures(**{**given, **changes})


@pytest.mark.parametrize("part", ["pooled", "maps"])
@torch.no_grad()
def test_features_are_the_networks(tmp_path: Path, part: str) -> None:
    features = _features(tmp_path, part)
    compute_missing([features], n_jobs=2, progress=False)
    found = features.load()
    classifier = features.classifier
    images = read_images(features.images, range(PIECE + 44), 8)
    for g, view in enumerate(features.views):
        maps = classifier.maps(make_view(view, images))
        expected = maps if part == "maps" else classifier.pooled(maps)
        assert torch.allclose(found[:, g], expected, atol=1e-5)
    assert [len(piece) for _, piece in features.pieces()] == [PIECE, 44]
    some = [PIECE + 3, 2, PIECE - 1, PIECE + 3]
    assert torch.equal(features.load(some), found[some])


def test_what_is_on_disk_is_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = _features(tmp_path)
    done: list[tuple[int, str]] = []
    compute = ViewFeatures.compute

    def stops_at_the_sixth(self: ViewFeatures, piece: int, view: str) -> None:
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append((piece, view))
        compute(self, piece, view)

    monkeypatch.setattr(ViewFeatures, "compute", stops_at_the_sixth)
    with pytest.raises(KeyboardInterrupt):
        compute_missing([features], n_jobs=1, progress=False)
    assert len(features.missing()) == 8 - 5
    monkeypatch.setattr(
        ViewFeatures, "compute", lambda self, piece, view: done.append((piece, view)) or compute(self, piece, view)
    )
    compute_missing([features, _features(tmp_path, views=("0", "mirror 0"))], n_jobs=1, progress=False)
    assert len(done) == len(set(done)) == 8 + 2  # quarter turns are shared between groups
    compute_missing([features], n_jobs=1, progress=False)
    assert len(done) == 10


def test_the_key_changes_when_network_preprocessing_or_images_do(tmp_path: Path) -> None:
    other_weights, other_last = tiny_classifier(), tiny_classifier()
    next(other_weights.head.parameters()).data[0] += 1e-4
    next(other_last.classifier.parameters()).data[0] += 1
    keys = [
        _features(tmp_path).key,
        _features(tmp_path, part="maps").key,
        _features(tmp_path, classifier=other_weights).key,
        _features(tmp_path, classifier=invert(tiny_classifier())).key,
        _features(tmp_path, classifier=tiny_classifier(10)).key,
        _features(tmp_path, images=made_images(PIECE)).key,
        _features(tmp_path, degrees=np.full(PIECE + 44, 45.0)).key,
    ]
    assert len(set(keys)) == len(keys)
    assert _features(tmp_path, classifier=other_last).key == keys[0]  # the last layer plays no part


def test_images_turned_first(tmp_path: Path) -> None:
    degrees = np.random.default_rng(0).uniform(0, 360, 20)
    features = _features(tmp_path, images=made_images(20), degrees=degrees)
    expected = rotate(read_images(made_images(20), range(20), 8), torch.from_numpy(degrees))
    assert torch.allclose(features.read(range(5, 9)), expected[5:9], atol=1e-6)


def test_many_images_take_the_memory_of_a_piece(tmp_path: Path) -> None:
    """Their features together would take 330 MB."""
    script = f"""
import resource, sys
sys.path.insert(0, {str(HELPERS)!r})
import numpy as np, torch
from pathlib import Path
from torch import nn
from equirl.models.image_classifier import Classifier
from equirl.experiments.vision.image_sets import ImageSet
from equirl.experiments.vision.workbench import ViewFeatures, compute_missing
torch.set_num_threads(1)
pixels = np.zeros((8, 8, 3), np.uint8)
images = ImageSet("made", np.zeros(10_000, int), ("a",), lambda row: pixels + row % 200, "made")
widen = nn.Conv2d(3, 8192, 1)
classifier = Classifier(widen, nn.AdaptiveAvgPool2d(1), nn.Identity(), 8, [0.5] * 3, [0.5] * 3).eval()
classifier.maps = lambda images: widen(nn.functional.adaptive_avg_pool2d(images, 1))
features = ViewFeatures(classifier, images, ("0",), "pooled", Path({str(tmp_path)!r}))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
compute_missing([features], n_jobs=1, progress=False)
total = sum(float(piece[:, 0, 0].sum()) for _, piece in features.pieces())
print(len(features.images), total != 0, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    run = run_python("-c", script, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    n, seen, grown = run.stdout.split()
    assert (n, seen) == ("10000", "True")
    assert float(grown) < 120  # MB


def _separable(n: int = 160) -> tuple[SymmetrizedClassifier, Tensor, Tensor]:
    """Features of which the first view tells the class and the others mislead; the first number says which it is."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (n,), generator=generator)
    features = torch.zeros(n, 4, 5)
    features[torch.arange(n), 0, 1 + labels] = 1.0
    for g in range(1, 4):
        features[torch.arange(n), g, 1 + (labels + g) % 4] = 1.0
    features[:, 0, 0] = 1.0
    classifier = tiny_classifier()
    last = torch.zeros(4, 5)
    last[:, 1:] = 8 * torch.eye(4)
    classifier.classifier = nn.Linear(5, 4)
    classifier.classifier.weight.data, classifier.classifier.bias.data = last, torch.zeros(4)
    model = SymmetrizedClassifier(classifier, "c4", make_image_aggregator("lambda_equitune", 5))
    return model, features, labels


def test_lambda_learns_which_view_to_trust() -> None:
    model, features, labels = _separable()
    before = {name: value.clone() for name, value in model.classifier.state_dict().items()}
    first: list[float] = []
    fitted = fit_lambda(
        model,
        {"pooled": features},
        labels,
        0,
        learning_rate=0.01,
        report=lambda epoch, train, held_out: first.append(train),
    )
    turns = torch.randint(4, (len(features),), generator=torch.Generator().manual_seed(5))
    turned = take_views(features, model.images.group.cayley[:, turns].T)
    with torch.no_grad():
        assert (model.logits_of_orbit(model.orbit(turned)).argmax(dim=1) == labels).float().mean() == 1
    # Of probabilities taken for logits it could not fall below log(1 + 3 / e), .744.
    assert fitted.loss < 0.1 < math.log(1 + 3 / math.e)
    # All views alike at first: uniform weights, so every class gets the same logit.
    assert first[0] == pytest.approx(math.log(4), abs=0.25)
    assert all(torch.equal(value, before[name]) for name, value in model.classifier.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.classifier.parameters())


def test_the_loss_is_the_cross_entropy_of_the_logits() -> None:
    model, features, labels = _separable(40)
    nn.init.normal_(next(model.aggregator.parameters()))
    losses: dict[str, float] = {}

    def report(epoch: int, train: float, held_out: float) -> None:
        losses.update(train=train, held_out=held_out)

    fit_lambda(model, {"pooled": features}, labels, 3, epochs=1, learning_rate=1e-30, report=report)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(3))
    for name, rows in (("held_out", order[:8]), ("train", order[8:])):
        with torch.no_grad():
            logits = model.logits_of_orbit(model.orbit(features[rows]))
        by_hand = -np.log(np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(axis=1, keepdims=True))
        assert losses[name] == pytest.approx(float(by_hand[range(len(rows)), labels[rows]].mean()), abs=1e-5)


def test_turning_the_images_first_makes_no_difference_to_lambda() -> None:
    """The model is invariant, so the loss of turned images is that of upright ones."""
    found: list[list[float]] = [[], []]
    for turned in (0, 1):
        torch.manual_seed(1)
        model, features, labels = _separable(40)
        turns = torch.randint(4, (40,), generator=torch.Generator().manual_seed(5))
        views = take_views(features, model.images.group.cayley[:, turns].T) if turned else features
        losses = found[turned]
        fit_lambda(
            model,
            {"pooled": views},
            labels,
            0,
            epochs=5,
            report=lambda epoch, train, held_out, to=losses: to.append(train),
        )
    assert found[0] == pytest.approx(found[1], abs=1e-4)
    assert found[0][0] > found[0][-1]


def test_one_label_is_enough_to_go_on() -> None:
    model, features, labels = _separable(1)
    assert math.isfinite(fit_lambda(model, {"pooled": features}, labels, 0, epochs=2).loss)


def test_a_turned_image_has_the_turned_orbit() -> None:
    classifier = tiny_classifier()
    model = SymmetrizedClassifier(classifier, "d4", make_image_aggregator("equitune", 5))
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        upright = classifier(model.images.orbit_rows(images)).view(6, 8, -1)
        turns = torch.tensor([0, 1, 3, 4, 6, 7])
        elements = model.images.group.cayley[:, turns].T
        turned = classifier(model.images.orbit_rows(model.images.transform(turns, images))).view(6, 8, -1)
    assert torch.allclose(take_views(upright, elements), turned, atol=1e-5)


def _with_norm() -> Classifier:
    classifier = tiny_classifier()
    classifier.feature_maps = nn.Sequential(classifier.feature_maps, nn.BatchNorm2d(6), nn.Dropout(0.2))
    return classifier


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not(tmp_path: Path) -> None:
    class Stop(Exception):  # noqa: N818
        pass

    def stop(step: int, loss: float) -> None:
        if step == 100:
            raise Stop

    expected, stopped = _with_norm(), _with_norm()
    train_tiny(expected, 120)
    with pytest.raises(Stop):
        train_tiny(stopped, 120, tmp_path / "state.pt", report=stop)
    again = _with_norm()
    train_tiny(again, 120, tmp_path / "state.pt")
    for name, value in expected.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_the_whole_networks_loss_is_the_cross_entropy_of_the_logits_of_turned_images() -> None:
    """Mean over 50 steps without learning, by hand; probabilities taken for logits would give another number."""
    model = tiny_classifier()
    images = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    losses: dict[int, float] = {}
    turns: list[int] = []

    def turned(some: Tensor, generator: torch.Generator) -> Tensor:
        turns.append(len(some))
        return some.rot90(len(turns) % 4, (2, 3))

    train_tiny(model, 50, turned=turned, learning_rate=0.0, report=losses.__setitem__)
    assert turns == [8] * 50
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(64) % 4
    by_hand = []
    with torch.no_grad():
        for step in range(1, 51):
            rows = torch.randint(64, (8,), generator=generator)
            logits = model(images[rows].rot90(step % 4, (2, 3))).numpy()
            probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            by_hand.append(-np.log(probabilities[range(8), labels[rows]]).mean())
    assert losses == {50: pytest.approx(float(np.mean(by_hand)), abs=1e-5)}


def test_accumulated_batches_are_one_large_batch() -> None:
    """Both see the same images in the same order, so the gradients are the same."""
    one, many = tiny_classifier(), tiny_classifier()
    train_tiny(one, 5, batch_size=32)
    train_tiny(many, 5, batch_size=8, accumulate=4)
    for name, value in one.state_dict().items():
        assert torch.allclose(many.state_dict()[name], value, atol=1e-5), name


def test_two_processes_share_a_batch(tmp_path: Path) -> None:
    """Each takes half of it, and both end up with the network that one process makes of the whole."""
    script = f"""
import sys
sys.path.insert(0, {str(HELPERS)!r})
import torch
from tiny_images import tiny_classifier, train_tiny
torch.set_num_threads(1)
model = tiny_classifier()
train_tiny(model, 5, batch_size=8)
import torch.distributed as together
assert together.get_world_size() == 2
torch.save(model.state_dict(), f"{{together.get_rank()}}.pt")
together.destroy_process_group()
"""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # it chooses a port that is free
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    shared |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    ranks = [{"RANK": f"{rank}", "LOCAL_RANK": f"{rank}"} for rank in range(2)]
    for run in run_together(*(Program(["-c", script], tmp_path, {**shared, **rank}) for rank in ranks)):
        assert run.returncode == 0, run.stderr[-3000:]
    expected = tiny_classifier()
    train_tiny(expected, 5, batch_size=16)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, value in expected.state_dict().items():
            assert torch.allclose(found[name], value, atol=1e-5), name


def test_the_whole_network_learns_through_the_method() -> None:
    """Brightness in one corner tells the class, wherever the image is turned."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(64) % 2
    images = torch.rand(64, 3, 8, 8, generator=generator) * 0.2
    images[labels == 1, :, :3, :3] += 0.8
    for method in ("equitune", "equizero", "lambda_equitune"):
        model = SymmetrizedClassifier(tiny_classifier(classes=2), "c4", make_image_aggregator(method, 5))
        action = model.images

        def turned(some: Tensor, generator: torch.Generator, action: Any = action) -> Tensor:
            return action.transform(torch.randint(4, (len(some),), generator=generator), some)  # type: ignore[no-any-return]

        train_images(model, images.__getitem__, labels, 0, 60, 1e-2, batch_size=16, turned=turned)
        with torch.no_grad():
            for quarter in range(4):
                assert (model(images.rot90(quarter, (2, 3))).argmax(dim=1) == labels).float().mean() > 0.95


def test_bf16_leaves_a_network_that_is_used_in_full_precision() -> None:
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()  # one precision in a process: the other tests have had theirs
    model = SymmetrizedClassifier(tiny_classifier(), "c8", make_image_aggregator("lambda_equitune", 5), "maps")
    train_tiny(model, 3, mixed_precision="bf16")
    AcceleratorState._reset_state()
    assert next(model.parameters()).dtype == torch.float32
    with torch.no_grad():
        expected = model.classifier.logits_of_maps(model.equivariant_maps(torch.ones(1, 3, 8, 8)))
        assert torch.equal(model(torch.ones(1, 3, 8, 8)), expected)
