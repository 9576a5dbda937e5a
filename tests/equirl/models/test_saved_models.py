"""Image classifiers and sequence models: saved without pickle, opened again, and refused where they hold code."""

import json
from pathlib import Path

import pytest
import torch
from pole_agents import no_pickle
from torch import nn

from equirl.aggregators import Select, Weighted
from equirl.groups import cyclic_group
from equirl.models.image_backbones import load_backbone
from equirl.models.image_classifier import Classifier, invert
from equirl.models.image_heads import LinearHead
from equirl.models.image_lambda import LAMBDA_NETWORKS
from equirl.models.images import SymmetrizedClassifier, make_image_aggregator
from equirl.models.seq2seq import Seq2Seq, Transformer
from equirl.models.sequence_aggregators import make_sequence_aggregator
from equirl.models.sequences import SequenceModel, SequenceSymmetry, SymmetrizedSequenceModel, ViewByView
from equirl.models.special_tokens import BEGIN
from equirl.names import ORBIT_METHODS
from equirl.tokens import TokenRepresentation

IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _no_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    no_pickle(monkeypatch)


def _random(model: nn.Module) -> None:
    """Give λ weights that say something."""
    for parameter in model.parameters():
        nn.init.normal_(parameter)


@pytest.mark.parametrize("level", ["output", "maps"])
@pytest.mark.parametrize("method", [*ORBIT_METHODS, *LAMBDA_NETWORKS])
def test_a_classifier_that_is_saved_opens_again(method: str, level: str, tmp_path: Path) -> None:
    backbone = invert(load_backbone("small-cnn", 4, seed=3))
    network = method if method in LAMBDA_NETWORKS else "two-layer"
    aggregator = make_image_aggregator(
        "lambda_equitune" if method in LAMBDA_NETWORKS else method, 64, "entropy", network
    )
    _random(aggregator)
    model = SymmetrizedClassifier(backbone, "d4", aggregator, level).eval()
    model.save_pretrained(tmp_path / "model")
    model.save_pretrained(tmp_path / "model")  # again, over itself
    opened = SymmetrizedClassifier.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        assert torch.equal(opened(IMAGES), model(IMAGES))
    assert (opened.group, opened.level, opened.training) == ("d4", level, False)


def _tiny() -> Classifier:
    torch.manual_seed(1)
    return Classifier(nn.Conv2d(3, 2, 3, padding=1), nn.AdaptiveAvgPool2d(1), LinearHead(2, 3), 8, [0.5] * 3, [0.5] * 3)


def test_a_classifier_of_ones_own_needs_its_code(tmp_path: Path) -> None:
    model = SymmetrizedClassifier(_tiny(), "c4", make_image_aggregator("equitune", 2)).eval()
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=r"weights of a network of your own, .*from_pretrained\(folder, classifier="):
        SymmetrizedClassifier.from_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="images of 8 rows, not of 32"):
        SymmetrizedClassifier.from_pretrained(tmp_path / "model", load_backbone("small-cnn", 3))
    fresh = _tiny()
    nn.init.zeros_(fresh.classifier.weight)  # type: ignore[arg-type]
    opened = SymmetrizedClassifier.from_pretrained(tmp_path / "model", fresh)
    with torch.no_grad():
        assert torch.equal(opened(IMAGES[..., :8, :8]), model(IMAGES[..., :8, :8]))
    for own in (Weighted(nn.Linear(2, 1), temperature=2.0), Select(lambda orbit: orbit.outputs.amax(dim=2))):
        with pytest.raises(ValueError, match="of your own"):
            SymmetrizedClassifier(_tiny(), "c4", own).save_pretrained(tmp_path / "own")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds something else than a model"):
        model.save_pretrained(tmp_path)


def _symmetry() -> SequenceSymmetry:
    group = cyclic_group(2)
    command = TokenRepresentation(group, [[0, 1, 2, 3, 4, 5], [0, 1, 2, 4, 3, 5]])
    return SequenceSymmetry("swap", command, TokenRepresentation(group, [[0, 1, 2, 3, 4], [0, 1, 2, 4, 3]]))


COMMANDS = torch.tensor([[3, 5, 4], [4, 4, 0]])


@pytest.mark.parametrize("backbone", [Seq2Seq(6, 5, "gru", 8), Seq2Seq(6, 5, "lstm", 8), Transformer(6, 5, 8, 1, 2)])
@pytest.mark.parametrize("method", ORBIT_METHODS)
def test_a_sequence_model_that_is_saved_opens_again(method: str, backbone: SequenceModel, tmp_path: Path) -> None:
    aggregator = make_sequence_aggregator(method, 6, "likelihood")
    _random(aggregator)
    model = SymmetrizedSequenceModel(backbone, _symmetry(), aggregator).eval()
    model.save_pretrained(tmp_path / "model")
    opened = SymmetrizedSequenceModel.from_pretrained(tmp_path / "model")
    given = {"command": COMMANDS, "prefix": torch.full((2, 1), BEGIN)}
    with torch.no_grad():
        assert torch.equal(opened(given), model(given))
    assert torch.equal(opened.greedy(COMMANDS, 5), model.greedy(COMMANDS, 5))
    assert opened.symmetry.command.same_as(model.symmetry.command)
    assert opened.symmetry.name == "swap"


def test_damaged_and_foreign_folders_are_named(tmp_path: Path) -> None:
    class Own(Seq2Seq):
        pass

    with pytest.raises(ValueError, match="Own is a backbone of your own"):
        SymmetrizedSequenceModel(Own(6, 5), _symmetry(), make_sequence_aggregator("equitune", 6)).save_pretrained("x")
    with pytest.raises(ValueError, match="ViewByView cannot be saved"):
        ViewByView(Seq2Seq(6, 5), _symmetry()).save_pretrained("x")
    model = SymmetrizedSequenceModel(Seq2Seq(6, 5, hidden=4), _symmetry(), make_sequence_aggregator("equitune", 6))
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"model.json holds 'SymmetrizedSequenceModel'"):
        SymmetrizedClassifier.from_pretrained(folder)
    with pytest.raises(FileNotFoundError, match="holds no SymmetrizedSequenceModel"):
        SymmetrizedSequenceModel.from_pretrained(tmp_path)
    settings = (folder / "model.json").read_text()
    (folder / "model.json").write_text(settings.replace('"hidden": 4', '"hidden": 5'))
    with pytest.raises(ValueError, match=r"model.safetensors does not match its checksum, or does not belong"):
        SymmetrizedSequenceModel.from_pretrained(folder)
    (folder / "model.json").write_text(json.dumps([1]))
    with pytest.raises(ValueError, match=r"model.json holds a list, where a JSON object is due"):
        SymmetrizedSequenceModel.from_pretrained(folder)
