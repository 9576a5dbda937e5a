"""SCAN models: copies, modes, and what is refused."""

import copy
import pickle
from pathlib import Path

import pytest
import torch

from equirl.experiments.scan.batches import COMMAND_VOCABULARY, Examples, Vocabulary
from equirl.experiments.scan.config import ScanConfig
from equirl.experiments.scan.models import make_model, make_symmetry
from equirl.experiments.scan.splits import Example, read_split, write_splits
from equirl.experiments.scan.training import FitConfig, accuracy, fit, hold_out
from equirl.models.g_lstm import GLSTM
from equirl.models.seq2seq import Transformer
from equirl.models.sequence_aggregators import make_sequence_aggregator
from equirl.models.sequences import SequenceModel, SymmetrizedSequenceModel
from equirl.names import ORBIT_METHODS

SYMMETRY = make_symmetry("jump-run")
EXAMPLES = Examples([Example("jump", "I_JUMP"), Example("run twice", "I_RUN I_RUN")])


@pytest.mark.parametrize("method", [*ORBIT_METHODS, "g_lstm"])
def test_copies_are_their_own(method: str) -> None:
    model: SequenceModel = GLSTM(SYMMETRY, 8)
    if method != "g_lstm":
        model = SymmetrizedSequenceModel(
            make_model("lstm", 8), SYMMETRY, make_sequence_aggregator(method, len(COMMAND_VOCABULARY))
        )
    model.eval()
    batch = EXAMPLES.batch(torch.arange(2))
    with torch.no_grad():
        want = model(batch.sequences)
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(other(batch.sequences), want)
            for parameter in other.parameters():
                parameter.data += 1
            assert torch.equal(model(batch.sequences), want)


def test_accuracy_leaves_the_modes() -> None:
    model = make_model("lstm", 8)
    model.train()
    model.encoder.eval()  # frozen by its owner
    accuracy(model, EXAMPLES)
    assert model.training
    assert model.dropout.training
    assert not model.encoder.training


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("steps", 0), ("batch_size", -1), ("check_every", 0), ("patience", 0), ("learning_rate", float("nan"))),
        *(("learning_rate", -1.0), ("teacher_forcing", 1.5), ("weight_decay", float("inf"))),
    ],
)
def test_a_training_that_means_nothing_is_refused(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=setting):
        FitConfig(
            **{"steps": 1, "batch_size": 1, "learning_rate": 1e-3, "check_every": 1, "patience": 1, setting: value}
        )  # type: ignore[arg-type]


def test_no_examples_no_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are no examples"):
        Examples([])
    examples = [Example("jump", "I_JUMP"), Example("run", "I_RUN")]
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="must lie between 0 and 1"):
            hold_out(examples, share, 0)
    with pytest.raises(ValueError, match="is none to hold out"):
        hold_out(examples, 0.1, 0)
    state = tmp_path / "state.part"
    state.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"state\.part is no state of this training.*delete it"):
        fit(make_model("lstm", 8), EXAMPLES, EXAMPLES, FitConfig(1, 1, 1e-3, 1, 1), 0, resume=state)
    write_splits(tmp_path, ["length"])
    (tmp_path / "tasks_test_length.txt").write_text("")
    with pytest.raises(ValueError, match=r"tasks_test_length\.txt is empty; `equirl scan data"):
        read_split(tmp_path, "length")


def test_models_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(ValueError, match="cell 'lstn' is unknown"):
        make_model("lstn")
    for wrong in ({"hidden": 0}, {"dropout": 1.0}, {"dropout": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            make_model("lstm", **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="multiple of the 4 heads; got 10"):
        Transformer(20, 10, 10)
    with pytest.raises(ValueError, match="length must be a whole number from 1; got 0"):
        make_model("lstm", 8).greedy(EXAMPLES.command, 0)
    with pytest.raises(ValueError, match="there are no commands"):
        make_model("lstm", 8).greedy(EXAMPLES.command[:0])
    with pytest.raises(TypeError, match="sentences are a list of texts; got the text 'jump twice'"):
        COMMAND_VOCABULARY.encode("jump twice")
    with pytest.raises(ValueError, match="word 'a' is there twice"):
        Vocabulary("word", ["a", "a"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"split": "length"}, "not the text 'length'"),
        ({"split": ()}, "no split is named"),
        ({"method": ("equizro",)}, "method 'equizro' is unknown"),
        ({"lambda_data": ()}, "lambda_data"),
        ({"lambda_data": (float("nan"),)}, "got nan"),
        ({"pretrain_steps": 0}, "pretrain_steps must be a whole number from 1; got 0"),
        ({"fine_tune_steps": -1}, "fine_tune_steps must be a whole number from 1; got -1"),
        ({"hidden": 0}, "hidden must be a whole number from 1; got 0"),
        ({"cell": ("transformer",), "hidden": 10}, "multiple of 4"),
    ],
)
def test_settings_are_checked_when_they_are_made(given: dict[str, object], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        ScanConfig(**given)  # type: ignore[arg-type]
