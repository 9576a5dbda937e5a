"""Symmetrized image classifiers: invariance, equivariant maps, and the published code's defects, each caught."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, stats
from tiny_images import tiny_classifier
from torch import Tensor, nn

from equirl.aggregators import Mean, Select
from equirl.models.image_backbones import load_backbone
from equirl.models.image_classifier import Classifier, invert
from equirl.models.image_heads import LinearHead
from equirl.models.image_lambda import LAMBDA_NETWORKS, make_lambda, shrink
from equirl.models.images import LEVELS, PROXY_LOSSES, SymmetrizedClassifier, make_image_aggregator
from equirl.names import ORBIT_METHODS
from equirl.orbit import Orbit
from equirl.rotations import (
    IMAGE_GROUPS,
    InterpolatedRotations,
    image_action,
    make_view,
    rotate,
    view_names,
)

EXACT = ("c4", "d4", "flip")


def _images(n: int = 3, size: int = 8, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def _model(
    method: str, group: str, level: str, kind: str = "", reads: str = "features", classifier: Classifier | None = None
) -> SymmetrizedClassifier:
    classifier = classifier or tiny_classifier()
    options = {"proxy_loss": kind} if method == "equizero" and kind else {}
    options = {"lambda_network": kind, "reads": reads} if method == "lambda_equitune" and kind else options
    length = classifier.pooled(classifier.maps(torch.zeros(1, 3, classifier.size, classifier.size))).shape[1]
    aggregator = make_image_aggregator(method, length, **options)
    torch.manual_seed(3)
    for parameter in aggregator.parameters():
        nn.init.normal_(parameter, std=0.5)  # as if it had been trained: no longer uniform
    return SymmetrizedClassifier(classifier, group, aggregator, level, reads).eval()


CASES = [
    *(("equitune", "", "features"),),
    *(("equizero", kind, "features") for kind in PROXY_LOSSES),
    *(("lambda_equitune", kind, reads) for kind in LAMBDA_NETWORKS for reads in ("features", "inputs")),
]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("group", EXACT)
@pytest.mark.parametrize(("method", "kind", "reads"), CASES)
def test_all_orientations_of_an_image_get_the_same_answer(
    method: str, kind: str, reads: str, group: str, level: str
) -> None:
    model = _model(method, group, level, kind, reads)
    images = _images(8)
    images[0] = images[0, :1]  # grey
    images[1] = 0.3  # its own mirror image and turn
    with torch.no_grad():
        found = torch.stack([model(make_view(view, images)) for view in view_names(group)])
        plain = torch.stack([model.classifier(make_view(view, images)) for view in view_names(group)])
    assert (found - found[0]).abs().max() < 1e-4
    assert (found.argmax(dim=2) == found[0].argmax(dim=1)).all()
    assert (plain - plain[0])[:, 2:].abs().max() > 1e-2  # the network itself is not symmetric


@given(
    seed=st.integers(0, 2**31 - 1),
    group=st.sampled_from(EXACT),
    method=st.sampled_from(ORBIT_METHODS),
    level=st.sampled_from(LEVELS),
    size=st.sampled_from([4, 6, 7, 9]),
)
def test_invariance_for_any_weights_images_and_sizes(seed: int, group: str, method: str, level: str, size: int) -> None:
    model = _model(method, group, level, classifier=tiny_classifier(size, seed=seed)).double()
    images = _images(2, size, seed).double()
    with torch.no_grad():
        expected = model(images)
        for view in view_names(group):
            assert torch.allclose(model(make_view(view, images)), expected, atol=1e-9)


def _maps_gap(model: SymmetrizedClassifier, images: Tensor) -> float:
    """How far maps of turned images are from turned maps."""
    assert model.on_maps is not None
    with torch.no_grad():
        maps = model.equivariant_maps(images)
        gaps = [
            (model.equivariant_maps(model.images.transform(g, images)) - model.on_maps.transform(g, maps)).abs().max()
            for g in range(model.images.group.order)
        ]
    return float(max(gaps))


@pytest.mark.parametrize("group", EXACT)
@pytest.mark.parametrize("method", ORBIT_METHODS)
def test_turned_images_have_turned_maps(method: str, group: str) -> None:
    assert _maps_gap(_model(method, group, "maps"), _images()) < 1e-5


class _NotInverse(nn.Module):
    """How maps move, with what the published code does in the inverse's place."""

    def __init__(self, action: Any, forward: bool) -> None:
        super().__init__()
        self.action, self.group, self.shape = action, action.group, action.shape
        self.moves_forward = forward

    def transform(self, g: Any, maps: Tensor) -> Tensor:
        moved: Tensor = self.action.transform(g, maps)
        return moved

    def combine(self, outputs: Tensor, weights: Tensor | None) -> Tensor:
        order = outputs.shape[1]
        weights = torch.full(outputs.shape[:2], 1 / order) if weights is None else weights
        views = [self.action.transform(g, outputs[:, g]) if self.moves_forward else outputs[:, g] for g in range(order)]
        combined: Tensor = (torch.stack(views, dim=1) * weights[:, :, None, None, None]).sum(dim=1)
        return combined


@pytest.mark.parametrize("forward", [False, True])
def test_maps_that_are_not_moved_back_would_be_noticed(forward: bool) -> None:
    model = _model("lambda_equitune", "c4", "maps")
    model.on_maps = _NotInverse(model.on_maps, forward)  # type: ignore[assignment]
    assert _maps_gap(model, _images()) > 1e-2


@pytest.mark.parametrize("kind", LAMBDA_NETWORKS)
def test_lambda_is_positive_sums_to_one_and_moves_along(kind: str) -> None:
    aggregator = make_lambda(kind, 5)
    torch.manual_seed(1)
    for parameter in aggregator.parameters():
        nn.init.normal_(parameter, std=0.3)
    action = image_action("d4", (3, 8, 8))
    features = torch.randn(6, 8, 5, generator=torch.Generator().manual_seed(2))
    orbit = Orbit(features, features, action)
    with torch.no_grad():
        weights = aggregator.weights(orbit)
        moved = features[:, action.group.cayley[:, 3]]  # of images moved by element 3
        of_moved = aggregator.weights(Orbit(moved, moved, action))
    assert (weights > 0).all()
    assert torch.allclose(weights.sum(dim=1), torch.ones(6))
    assert weights.std() > 0.02
    assert torch.allclose(of_moved, weights[:, action.group.cayley[:, 3]], atol=1e-6)


@pytest.mark.parametrize("name", PROXY_LOSSES)
def test_proxy_losses_take_logits_as_logits(name: str) -> None:
    logits = torch.randn(4, 4, 7, generator=torch.Generator().manual_seed(0)) * 3
    aggregator = make_image_aggregator("equizero", 5, name)
    assert isinstance(aggregator, Select)
    found = aggregator.proxy_loss(Orbit(logits, logits, image_action("c4", (3, 8, 8))))
    probabilities = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(axis=2, keepdims=True)
    expected = {
        "similarity": -logits.numpy().max(axis=2),
        "confidence": -probabilities.max(axis=2),
        "entropy": stats.entropy(probabilities, axis=2),
    }[name]
    assert np.allclose(found.numpy(), expected, atol=1e-5)


def test_a_whole_orbit_is_one_call_of_the_network() -> None:
    model = _model("equitune", "d4", "output")
    calls: list[int] = []
    model.classifier.feature_maps.register_forward_hook(lambda module, given, found: calls.append(len(found)))
    for _ in range(2):
        model(_images(5))
    assert calls == [8, 40, 40]  # before the first call one image alone, to measure how large activations are


def test_equitune_of_a_network_that_is_symmetric_already_changes_nothing() -> None:
    classifier = tiny_classifier()
    classifier.feature_maps = nn.Conv2d(3, 6, 1)
    images = _images()
    for level in LEVELS:
        model = SymmetrizedClassifier(classifier, "d4", Mean(), level)
        assert torch.allclose(model(images), classifier(images), atol=1e-5)


def test_a_proxy_loss_of_ones_own() -> None:
    images = _images()

    def darkest(orbit: Orbit) -> Tensor:
        return orbit.inputs[:, :, :, 0, 0].sum(dim=2)  # type: ignore[index]

    classifier = tiny_classifier()
    model = SymmetrizedClassifier(classifier, "c4", make_image_aggregator("equizero", 5, darkest))
    corners = torch.stack([images.rot90(g, (2, 3))[:, :, 0, 0].sum(dim=1) for g in range(4)])
    picked = torch.stack([image.rot90(int(g), (1, 2)) for image, g in zip(images, corners.argmin(dim=0), strict=True)])
    assert torch.allclose(model(images), classifier(picked), atol=1e-6)


@pytest.mark.parametrize("kind", PROXY_LOSSES)
@pytest.mark.parametrize("images", ["symmetric", "nearly tied", "any"])
def test_features_from_disk_give_the_answer_of_the_images(kind: str, images: str) -> None:
    shown = _images(4)
    if images != "any":  # all views are equal; or nearly so, which gives losses that nearly agree
        shown = torch.stack([shown.rot90(g, (2, 3)) for g in range(4)]).mean(dim=0)
        shown = shown + (2e-6 if images == "nearly tied" else 0.0) * _images(4, seed=1)
    model = _model("equizero", "c4", "output", kind)
    views = model.images.orbit(shown).flatten(0, 1)  # type: ignore[union-attr]
    pooled = model.classifier.pooled(model.classifier.maps(views)).view(4, 4, -1)
    assert torch.allclose(model.logits_of_orbit(model.orbit(pooled)), model(shown), atol=1e-5)


@pytest.mark.parametrize("group", IMAGE_GROUPS)
def test_views_by_name_are_the_elements_of_the_group(group: str) -> None:
    images = _images(2, 10)
    action = image_action(group, (3, 10, 10))
    orbit = action.orbit(images)
    names = view_names(group)
    assert len(names) == action.group.order
    for g, name in enumerate(names):
        assert torch.allclose(make_view(name, images), orbit[:, g], atol=1e-6)  # type: ignore[index]


def test_rotations_are_scipys() -> None:
    image = ndimage.gaussian_filter(np.random.default_rng(0).random((41, 41)), 2)
    for degrees in (0, 30, 45, 90, 200):
        ours = rotate(torch.tensor(image)[None, None], float(degrees))[0, 0].numpy()
        theirs = ndimage.rotate(image, degrees, reshape=False, order=1)
        assert np.abs(ours - theirs)[12:29, 12:29].max() < 1e-6


def test_an_angle_for_each_image() -> None:
    images = _images(5, 9)
    degrees = torch.tensor([0.0, 90.0, 45.0, 360.0, 17.5])
    found = rotate(images, degrees)
    for row, angle in enumerate(degrees.tolist()):
        assert torch.allclose(found[row], rotate(images[row : row + 1], angle)[0], atol=1e-6)
    assert torch.equal(found[1], images[1].rot90(1, (1, 2)))


@pytest.mark.parametrize("order", [8, 16])
def test_finer_turns_say_how_far_from_a_group_they_are(order: int) -> None:
    action = image_action(f"c{order}", (3, 16, 16))
    assert isinstance(action, InterpolatedRotations)
    y, x = np.mgrid[-7.5:8, -7.5:8]
    blob = torch.tensor(np.exp(-((x - 1) ** 2 + y**2) / 12), dtype=torch.float32).expand(1, 3, 16, 16)
    noise = _images(1, 16)
    errors = action.homomorphism_errors(blob)[0]
    quarters = order // 4
    assert errors[::quarters].max() < 1e-6  # quarter turns are exact
    assert 1e-3 < errors.max() < 0.1 < action.homomorphism_errors(noise).max()
    model = SymmetrizedClassifier(tiny_classifier(16), f"c{order}", Mean())
    with torch.no_grad():
        gap = (model(rotate(blob, 45.0)) - model(blob)).abs().max()
        plain_gap = (model.classifier(rotate(blob, 45.0)) - model.classifier(blob)).abs().max()
        quarter_gap = (model(rotate(noise, 90.0)) - model(noise)).abs().max()
    assert gap < plain_gap / 2
    assert quarter_gap < 1e-5


def test_small_images_turn_with_the_images() -> None:
    for size in (8, 32, 50):
        images = _images(2, size)
        turned = shrink(images).view(2, 16, 16).rot90(1, (1, 2))
        assert torch.allclose(shrink(images.rot90(1, (2, 3))).view(2, 16, 16), turned, atol=1e-6)


def test_negatives() -> None:
    images = _images()
    expected = tiny_classifier()(1 - images)
    assert torch.allclose(invert(tiny_classifier())(images), expected, atol=1e-5)


def test_what_is_wrong_is_said() -> None:
    classifier = tiny_classifier()
    with pytest.raises(ValueError, match=r"level 'map' is unknown.*maps"):
        SymmetrizedClassifier(classifier, "c4", Mean(), "map")
    with pytest.raises(ValueError, match="group of images 'c5' is unknown"):
        SymmetrizedClassifier(classifier, "c5", Mean())
    with pytest.raises(ValueError, match=r"proxy loss 'similar' is unknown.*similarity"):
        make_image_aggregator("equizero", 5, "similar")
    with pytest.raises(ValueError, match=r"method 'equituna' is unknown.*equitune"):
        make_image_aggregator("equituna", 5)
    with pytest.raises(ValueError, match="λ-network 'three' is unknown"):
        make_image_aggregator("lambda_equitune", 5, lambda_network="three")
    with pytest.raises(ValueError, match="does not act on feature maps; give level"):
        SymmetrizedClassifier(classifier, "c4", Mean()).equivariant_maps(_images())
    classifier.head = nn.Sequential(nn.Flatten(), nn.Linear(6 * 16, 5))
    with pytest.raises(ValueError, match="a head that does not see how maps are turned"):
        SymmetrizedClassifier(classifier, "c4", Mean(), "maps")
    with pytest.raises(ValueError, match="multiples of 4"):
        InterpolatedRotations(6, (3, 8, 8))
    with pytest.raises(ValueError, match="square"):
        InterpolatedRotations(8, (3, 8, 9))


@pytest.mark.parametrize("classes", [2, 5])
def test_the_last_layer_is_scikit_learns_logistic_regression(classes: int) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model", reason="the extra vision is not installed")
    generator = np.random.default_rng(0)
    labels = generator.integers(classes, size=200)
    features = (generator.normal(size=(200, 6)) + labels[:, None] * [1, 0, 2, 0, 0, -1]).astype(np.float32) * 5 + 3
    head = LinearHead(6, 7)  # two classes or more never appear
    head.fit(features, labels)
    scaled = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6)
    theirs = linear_model.LogisticRegression(C=0.05, max_iter=300).fit(scaled, labels)
    ours = head(torch.from_numpy(features)).softmax(dim=1).detach().numpy()[:, :classes]
    assert np.allclose(ours, theirs.predict_proba(scaled), atol=1e-4)


def test_timm_and_torchvision_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins of the packages, which are not installed here, with the calls that their documentation gives."""
    import sys
    import types

    class Timm(nn.Module):
        num_features = 4

        def forward(self, images: Tensor) -> Tensor:
            return images[:, [0, 1, 2, 0], ::16, ::16]

    def create_model(name: str, pretrained: bool, num_classes: int, global_pool: str) -> nn.Module:
        if name != "tiny":
            raise RuntimeError(f"Unknown model ({name})")
        assert pretrained
        assert (num_classes, global_pool) == (0, "")
        return Timm()

    told = {"input_size": (3, 64, 64), "mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 2.0)}
    data = types.SimpleNamespace(resolve_model_data_config=lambda network: told)
    timm = types.ModuleType("timm")
    timm.create_model, timm.data = create_model, data  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", timm)
    classifier = load_backbone("timm:tiny", 10)
    assert classifier(torch.rand(2, 3, 64, 64)).shape == (2, 10)
    assert classifier.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"timm cannot make 'big'.*Unknown model"):
        load_backbone("timm:big", 10)

    layers = [nn.Conv2d(3, 6, 3, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Linear(6, 1000)]
    models = types.SimpleNamespace(get_model=lambda name, weights: nn.Sequential(*layers[: 4 if name == "cnn" else 2]))
    torchvision = types.ModuleType("torchvision")
    torchvision.models = models  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)
    assert load_backbone("torchvision:cnn", 10)(torch.rand(1, 3, 224, 224)).shape == (1, 10)
    with pytest.raises(ValueError, match="no average over places"):
        load_backbone("torchvision:vit", 10)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModuleNotFoundError, match="pip install timm"):
        load_backbone("timm:tiny", 10)
    with pytest.raises(ValueError, match="model 'resnet' is unknown"):
        load_backbone("resnet", 10)


def test_the_gradient_of_a_symmetrized_network_reaches_network_and_lambda() -> None:
    for level in LEVELS:
        model = _model("lambda_equitune", "c4", level, "two-layer").train()
        loss = nn.functional.cross_entropy(model(_images()), torch.tensor([0, 1, 2]))
        assert math.isfinite(float(loss.detach()))
        loss.backward()  # type: ignore[no-untyped-call]
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.aggregator.parameters())
        assert all(p.grad is not None for p in model.classifier.parameters())
