"""Symmetrized language models: saved and opened again, copied, measured without being changed; and refusals."""

import copy
import json
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("transformers", reason="the extra nlg is not installed: make nlg")
import transformers
from tiny_lm import tiny_lm, tiny_tokenizer

from equirl.aggregators import Weighted
from equirl.experiments.nlg.scores import RegardClassifier, load_regard, read_labelled, sentiment
from equirl.experiments.nlg.workbench import make_method
from equirl.models.causal_lm import LookAhead, SymmetrizedLM
from equirl.models.lm_lambda_fit import LambdaSettings, fit_lambda
from equirl.models.lm_measures import perplexity, unfairness
from equirl.models.lm_texts import encode, generate_texts
from equirl.models.token_actions import token_action
from equirl.models.word_groups import WordGroup, load_word_group
from equirl.names import ORBIT_METHODS

TOKENIZER = tiny_tokenizer()
WORDS = load_word_group("gender")
ACTION = token_action(WORDS, TOKENIZER, len(TOKENIZER))
BATCH = encode(TOKENIZER, ["The man was", "The woman was known"])


def _model(method: str) -> SymmetrizedLM:
    model = make_method(method, tiny_lm(len(TOKENIZER)), TOKENIZER, ACTION, sentiment(), 3)
    for parameter in model.aggregator.parameters():
        nn.init.normal_(parameter)  # λ that says something
    return model


@torch.no_grad()
def _logits(model: SymmetrizedLM) -> torch.Tensor:
    return model(**BATCH).logits


@pytest.mark.parametrize("method", ORBIT_METHODS)
def test_what_is_saved_opens_again(method: str, tmp_path: Path) -> None:
    pytest.importorskip("vaderSentiment", reason="the extra nlg is not installed: make nlg")
    model = _model(method)
    model.save_pretrained(tmp_path / "model")
    model.save_pretrained(tmp_path / "model")  # again, over itself
    given = {}
    if method == "equizero":
        with pytest.raises(ValueError, match="whose loss of texts is a function and is not saved"):
            SymmetrizedLM.from_pretrained(tmp_path / "model")
        given = {"loss": model.aggregator.loss, "decode": model.aggregator.decode}
    opened = SymmetrizedLM.from_pretrained(tmp_path / "model", **given)
    assert torch.equal(_logits(opened), _logits(model))
    assert not opened.training
    assert opened.action.report() == model.action.report()
    assert opened.action.words == WORDS
    with pytest.raises((OSError, ValueError)):  # and not, without a word, as a model without the symmetry
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model" / "backbone").eval()
    with torch.no_grad():
        assert torch.equal(plain(**BATCH).logits, model.backbone(**BATCH).logits)


def test_what_cannot_be_opened_again_is_not_saved(tmp_path: Path) -> None:
    model = _model("lambda_equitune")
    model.backbone.save_pretrained(tmp_path / "plain")
    with pytest.raises(ValueError, match=r"plain holds another model already"):
        model.save_pretrained(tmp_path / "plain")
    with pytest.raises(ValueError, match="push its backbone"):
        model.save_pretrained(tmp_path / "x", push_to_hub=True)
    own = SymmetrizedLM(model.backbone, ACTION, Weighted(nn.Linear(32, 1)))
    with pytest.raises(ValueError, match=r"aggregator of your own.*model\.backbone\.save_pretrained"):
        own.save_pretrained(tmp_path / "x")
    with pytest.raises(FileNotFoundError, match="holds no symmetrized language model"):
        SymmetrizedLM.from_pretrained(tmp_path / "plain")
    model.save_pretrained(tmp_path / "model")
    assert not [path for path in (tmp_path / "model").rglob("*") if path.suffix in (".pt", ".bin", ".pkl")]
    backbone = tmp_path / "model" / "backbone" / "model.safetensors"
    whole = backbone.read_bytes()
    backbone.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"backbone holds another backbone than was saved, or a damaged one"):
        SymmetrizedLM.from_pretrained(tmp_path / "model")
    backbone.write_bytes(whole)
    (tmp_path / "model" / "symmetry.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"symmetry\.safetensors is no safetensors file, or is damaged"):
        SymmetrizedLM.from_pretrained(tmp_path / "model")
    (tmp_path / "model" / "symmetry.json").write_text(json.dumps({"method": "equitune"}))
    with pytest.raises(ValueError, match=r"symmetry\.json is not what"):
        SymmetrizedLM.from_pretrained(tmp_path / "model")


@pytest.mark.parametrize("method", ORBIT_METHODS)
def test_copies_are_their_own(method: str) -> None:
    pytest.importorskip("vaderSentiment", reason="the extra nlg is not installed: make nlg")
    model = _model(method)
    pickled = pickle.loads(pickle.dumps(model))  # before transformers hangs its hooks into the backbone
    want = _logits(model)
    for other in (copy.deepcopy(model), pickled):
        assert torch.equal(_logits(other), want)
        for parameter in other.parameters():
            parameter.data += 1
        assert torch.equal(_logits(model), want)


def test_models_do_not_share_the_tables_of_an_action() -> None:
    first, second = _model("equitune"), _model("equitune")
    first.to("meta")
    assert ACTION.tokens.table.device.type == second.tokens.table.device.type == "cpu"
    with pytest.raises(ValueError, match=r"the action moves \d+ tokens, but the backbone scores 9; make it by"):
        SymmetrizedLM(tiny_lm(9), ACTION, second.aggregator)
    with pytest.raises(ValueError, match="but the model only scores 5 tokens"):
        token_action(WORDS, TOKENIZER, 5)


def test_measuring_changes_nothing() -> None:
    model = _model("lambda_equitune")
    model.train()
    model.backbone.model.layers[0].eval()  # frozen by its owner
    modes = [module.training for module in model.modules()]
    torch.manual_seed(5)
    want = torch.rand(2)
    torch.manual_seed(5)
    texts = ["The man was kind", "The woman was kind"]
    unfairness(model, ACTION, BATCH)
    perplexity(model, TOKENIZER, texts)
    first = generate_texts(model, TOKENIZER, texts, 1, 0, 2)
    assert generate_texts(model, TOKENIZER, texts, 1, 0, 2) == first
    make_method("lambda_equitune", model.backbone, TOKENIZER, ACTION)
    assert torch.equal(torch.rand(2), want)
    model.train()
    model.backbone.model.layers[0].eval()
    unfairness(model, ACTION, BATCH)
    assert [module.training for module in model.modules()] == modes


def test_arguments_that_mean_nothing_are_refused() -> None:
    model = _model("lambda_equitune")
    with pytest.raises(TypeError, match="texts are a list of texts; got the text 'The man'"):
        encode(TOKENIZER, "The man")
    with pytest.raises(ValueError, match="there are no texts"):
        encode(TOKENIZER, [])
    with pytest.raises(TypeError, match="prompts are a list"):
        perplexity(model, TOKENIZER, ["The man"], "The man")
    with pytest.raises(ValueError, match="got 2 texts and 1 prompts"):
        perplexity(model, TOKENIZER, ["The man", "The"], ["The"])
    with pytest.raises(ValueError, match="samples must be a whole number from 1; got 0"):
        generate_texts(model, TOKENIZER, ["The man"], 0, 0)
    with pytest.raises(ValueError, match="look ahead must be a whole number from 1; got 0"):
        LookAhead(lambda texts: [], lambda tokens: [], 0)
    with pytest.raises(TypeError, match="decode must be a function"):
        LookAhead(lambda texts: [], None, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got 2 texts and 1 prompts"):
        fit_lambda(model, TOKENIZER, ["The man", "The"], ["The"], LambdaSettings())
    with pytest.raises(TypeError, match="this one has Mean"):
        fit_lambda(_model("equitune"), TOKENIZER, ["The man", "The"], ["The", "The"], LambdaSettings())
    for wrong in ({"epochs": 0}, {"learning_rate": float("nan")}, {"holdout": 1.0}, {"seed": -1}, {"batch_size": -2}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            LambdaSettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"equality": ("he", "it")}, "equality has 'he' in place of a row of words"),
        ({"equality": "he"}, "equality is 'he', not a list of rows"),
        ({"general": (("he", "she"), "it")}, "general has 'it' in place of a row"),
        ({"members": "ab"}, "members has 'ab' in place of a row"),
        ({"members": ("man", "man")}, "the member 'man' is empty or there twice"),
        ({"members": ("man", " ")}, "the member ' ' is empty or there twice"),
        ({"equality": ((1, 2),)}, "needs members and rows of words; got 1 in equality"),
    ],
)
def test_rows_of_words_are_rows(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match="word group 'own'.*" + said):
        WordGroup(**{"name": "own", "members": ("man", "woman"), "equality": (("he", "she"),), **given})  # type: ignore[arg-type]


def test_word_lists_and_classifiers_on_disk_are_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('members = ["man", "woman"]\nequality = ["he", "it"]\n')
    with pytest.raises(ValueError, match=r"mine\.toml: .*'he' in place of a row"):
        load_word_group(path)
    path.write_text('members = "ab"\n')
    with pytest.raises(ValueError, match=r"mine\.toml: .*'ab' in place of a row"):
        load_word_group(path)
    for content in (b"\xff\xfe", b"members = ["):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"mine\.toml is no word list"):
            load_word_group(path)
    with pytest.raises(ValueError, match="has the elements 0 to 1; got 2"):
        WORDS.swap(2, "he")
    table = tmp_path / "texts.tsv"
    table.write_bytes(b"label\ttext\npositive\t\xff\n")
    with pytest.raises(ValueError, match=r"texts\.tsv is no table of texts in UTF-8"):
        read_labelled(table)
    with pytest.raises(FileNotFoundError, match=r"no regard classifier .*none\.json"):
        load_regard(str(tmp_path / "none.json"))
    with pytest.raises(ValueError, match=r"weights must be \[3, D\] and bias \[3\]"):
        RegardClassifier(torch.zeros(1, 1).numpy(), torch.zeros(1).numpy(), lambda texts: None, 1.0)  # type: ignore[arg-type, return-value]
