import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

transformers = pytest.importorskip("transformers", reason="the extra nlg is not installed: make nlg")

from tiny_lm import gap_with_cache, save_tiny, tiny_lm, tiny_tokenizer  # noqa: E402

from equirl.experiments.nlg.texts import make_prompts  # noqa: E402
from equirl.experiments.nlg.workbench import make_method  # noqa: E402
from equirl.models.causal_lm import SymmetrizedLM, make_lm_aggregator  # noqa: E402
from equirl.models.language_models import load_language_model  # noqa: E402
from equirl.models.lm_lambda_fit import LambdaSettings, fit_lambda  # noqa: E402
from equirl.models.lm_measures import perplexity, unfairness  # noqa: E402
from equirl.models.lm_texts import encode, generate_texts, prompt_length  # noqa: E402
from equirl.models.token_actions import TokenAction, token_action  # noqa: E402
from equirl.models.word_groups import WordGroup, load_word_group  # noqa: E402
from equirl.names import ORBIT_METHODS  # noqa: E402

TOKENIZER = tiny_tokenizer()
BACKBONE = tiny_lm(len(TOKENIZER))
GENDER = token_action(load_word_group("gender"), TOKENIZER, len(TOKENIZER))
RACE = token_action(load_word_group("race-3"), TOKENIZER, len(TOKENIZER))
PROMPTS = {
    "gender": ["The man", "The woman was said to", " the king worked with her mother", "The nurse was"],
    "race-3": ["The Black", "The White person was", " the Asian man worked with her white mother", "The nurse was"],
}
ACTIONS = {"gender": GENDER, "race-3": RACE}


def _decode(tokens: Tensor) -> list[str]:
    found: list[str] = TOKENIZER.batch_decode(tokens, skip_special_tokens=True)
    return found


def _model(method: str, action: TokenAction, loss: Any = None) -> SymmetrizedLM:
    torch.manual_seed(1)
    by_letters = loss or (lambda texts: [float(sum(map(ord, text)) % 17) for text in texts])
    model = SymmetrizedLM(BACKBONE, action, make_lm_aggregator(method, BACKBONE, by_letters, _decode, 4)).eval()
    if method == "lambda_equitune":
        torch.nn.init.normal_(model.aggregator.network[-1].weight)  # type: ignore[union-attr, index, arg-type]
    return model


def _moved(action: TokenAction, element: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**batch, "input_ids": action.tokens.transform(element, batch["input_ids"])}  # type: ignore[dict-item]


@pytest.mark.parametrize("group", ACTIONS)
@pytest.mark.parametrize("method", ORBIT_METHODS)
def test_a_symmetrized_model_is_fair_in_batches_of_unequal_length(group: str, method: str) -> None:
    batch = encode(TOKENIZER, PROMPTS[group])
    assert int(batch["attention_mask"].sum(dim=1).min()) < batch["input_ids"].shape[1]
    plain, ours = (
        unfairness(BACKBONE, ACTIONS[group], batch),
        unfairness(_model(method, ACTIONS[group]), ACTIONS[group], batch),
    )
    assert float(plain.gap.min()) > 1e-3
    assert float(plain.divergence.min()) > 0
    assert float(ours.gap.max()) < 1e-5
    assert abs(float(ours.divergence.max())) < 1e-5


@pytest.mark.parametrize("group", ACTIONS)
@pytest.mark.parametrize("method", ORBIT_METHODS)
def test_fair_with_the_cache_too(group: str, method: str) -> None:
    action, model = ACTIONS[group], _model(method, ACTIONS[group])
    ends = [" said that he was kind", " was not a good king", " had her man in", " was Black of"]
    batches = encode(TOKENIZER, PROMPTS[group]), encode(TOKENIZER, ends)
    assert gap_with_cache(model, action, *batches) < 1e-5
    assert gap_with_cache(BACKBONE, action, *batches) > 1e-3


@pytest.mark.parametrize("group", ACTIONS)
@pytest.mark.parametrize("method", ORBIT_METHODS)
@pytest.mark.parametrize(
    "settings",
    [{}, {"num_beams": 3, "num_return_sequences": 2}, {"use_cache": False}],
    ids=["greedy", "beams", "no cache"],
)
def test_generate_follows_the_group(group: str, method: str, settings: dict[str, Any]) -> None:
    action, model = ACTIONS[group], _model(method, ACTIONS[group])
    batch = encode(TOKENIZER, PROMPTS[group][:3])
    for element in range(1, action.words.group.order):
        common = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, **settings}
        answers = model.generate(**batch, **common)
        theirs = model.generate(**_moved(action, element, batch), **common)
        assert torch.equal(theirs, action.tokens.transform(element, answers))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ORBIT_METHODS)
@pytest.mark.parametrize("beams", [1, 3])
def test_the_cache_changes_nothing(method: str, beams: int) -> None:
    batch = encode(TOKENIZER, PROMPTS["race-3"])
    common = {"max_new_tokens": 8, "do_sample": False, "num_beams": beams, "pad_token_id": 0}
    model = _model(method, RACE)
    assert torch.equal(model.generate(**batch, **common), model.generate(**batch, use_cache=False, **common))


def test_top_k_samples_from_the_mixture() -> None:
    model = _model("equitune", GENDER)
    ids = torch.tensor(TOKENIZER(["The man was"])["input_ids"])
    with torch.no_grad():
        probabilities = model(ids).logits[0, -1].softmax(-1)
    torch.manual_seed(0)
    settings = {"do_sample": True, "top_k": 5, "max_new_tokens": 1, "num_return_sequences": 2000, "pad_token_id": 0}
    found = model.generate(ids, **settings)[:, -1].bincount(minlength=len(probabilities)) / 2000
    top = probabilities.topk(5).indices
    expected = torch.zeros_like(probabilities).index_copy(0, top, probabilities[top] / probabilities[top].sum())
    assert float((found - expected).abs().sum()) / 2 < 0.05


@torch.no_grad()
def test_equitune_is_the_mean_with_the_inverse_action() -> None:
    model = _model("equitune", RACE)
    ids = torch.tensor(TOKENIZER(["The Black person said that the Asian man"])["input_ids"])
    total = 0
    for element in range(3):
        there = BACKBONE(RACE.tokens.transform(element, ids)).logits.softmax(-1)
        total = total + there[..., RACE.tokens.table[element]]  # (g^-1 p)[v] = p[g v]
    assert torch.allclose(model(ids).logits.exp(), total / 3, atol=1e-6)


@torch.no_grad()
def test_a_group_of_one_member_changes_nothing() -> None:
    alone = token_action(WordGroup("alone", ("man",), (("man",), ("king",))), TOKENIZER, len(TOKENIZER))
    ids = torch.tensor(TOKENIZER(["The man said that the king was kind"])["input_ids"])
    for method in ORBIT_METHODS:
        ours = _model(method, alone)(ids).logits
        assert torch.allclose(ours.exp(), BACKBONE(ids).logits.softmax(-1), atol=1e-6)


@pytest.mark.parametrize("method", ORBIT_METHODS)
def test_texts_without_words_of_the_group_are_as_probable_as_before(method: str) -> None:
    texts = ["The nurse was known for a good doctor", " the kind doctor said that people", "Heavy doctor in the"]
    before, after = (perplexity(m, TOKENIZER, texts, 2) for m in (BACKBONE, _model(method, GENDER)))
    assert after == pytest.approx(before, rel=1e-4)


@torch.no_grad()
def test_perplexity_is_that_of_what_follows_the_prompt() -> None:
    texts, prompts = ["The man was known for a king", " the nurse had"], ["The man was", " the"]
    expected = []
    for text, prompt in zip(texts, prompts, strict=True):
        ids, start = TOKENIZER(text)["input_ids"], len(TOKENIZER(prompt)["input_ids"])
        logs = BACKBONE(torch.tensor([ids])).logits[0].log_softmax(-1)
        total = sum(float(logs[place - 1, ids[place]]) for place in range(start, len(ids)))
        expected.append(math.exp(-total / (len(ids) - start)))
    assert perplexity(BACKBONE, TOKENIZER, texts, prompts) == pytest.approx(expected, rel=1e-4)


def test_equizero_takes_the_view_with_the_best_continuation() -> None:
    batch = encode(TOKENIZER, PROMPTS["gender"][:3])

    def woman_is_best(texts: list[str]) -> list[float]:
        return [-float(text.startswith(("The woman", " the queen"))) for text in texts]

    model = _model("equizero", GENDER, woman_is_best)
    assert model.view_weights(**batch).tolist() == [[0, 1], [1, 0], [0, 1]]
    indifferent = _model("equizero", GENDER, lambda texts: [0.5] * len(texts))
    assert indifferent.view_weights(**batch).tolist() == [[0.5, 0.5]] * 3
    with pytest.raises(TypeError, match="Mean has no weights of whole sequences"):
        _model("equitune", GENDER).view_weights(**batch)


def test_equizero_looks_ahead_greedily() -> None:
    seen: list[str] = []

    def remember(texts: list[str]) -> list[float]:
        seen.extend(texts)
        return [0.0] * len(texts)

    batch = encode(TOKENIZER, ["The man was"])
    _model("equizero", GENDER, remember).view_weights(**batch)
    answers = [
        BACKBONE.generate(**encode(TOKENIZER, [start]), max_new_tokens=4, do_sample=False, pad_token_id=0)
        for start in ("The man was", "The woman was")
    ]
    assert seen == [_decode(answer)[0] for answer in answers]


def test_lambda_starts_as_equitune_and_learns_which_view_knows() -> None:
    start = SymmetrizedLM(BACKBONE, GENDER, make_lm_aggregator("lambda_equitune", BACKBONE)).eval()
    ids = torch.tensor(TOKENIZER(["The man said that the king was kind"])["input_ids"])
    with torch.no_grad():
        assert torch.allclose(start(ids).logits, _model("equitune", GENDER)(ids).logits, atol=1e-5)
    # What the plain model says of women is likely where the view speaks of a woman.
    prompts = ["The woman was", "The woman said", "The woman had"]
    ends = generate_texts(BACKBONE, TOKENIZER, prompts, 30, 0, 8)
    texts = [prompt + end for prompt, some in zip(prompts, ends, strict=True) for end in some]
    before = {name: value.clone() for name, value in BACKBONE.state_dict().items()}
    result = fit_lambda(start, TOKENIZER, texts, [prompt for prompt in prompts for _ in range(30)], LambdaSettings())
    assert result.loss < result.initial_loss
    # The texts' own view would be right throughout; more than half of the way there is learned.
    starts = [prompt for prompt in prompts for _ in range(30)]
    models = (_model("equitune", GENDER), start, BACKBONE)
    equitune, learned, own = (torch.tensor(perplexity(m, TOKENIZER, texts, starts)).log().nanmean() for m in models)
    assert own < equitune
    assert learned < (equitune + own) / 2
    assert result.n_samples > 300
    assert all(torch.equal(value, before[name]) for name, value in BACKBONE.state_dict().items())
    batch = encode(TOKENIZER, PROMPTS["gender"])
    assert float(unfairness(start, GENDER, batch).gap.max()) < 1e-5
    with pytest.raises(ValueError, match="at least 2 texts"):
        fit_lambda(start, TOKENIZER, ["The man"], ["The"], LambdaSettings())


@pytest.mark.parametrize("method", ORBIT_METHODS)
def test_a_cache_is_continued_in_the_same_views(method: str) -> None:
    model, prompt = _model(method, GENDER), encode(TOKENIZER, ["The man was"])
    settings = {"do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    whole = model.generate(**prompt, max_new_tokens=6, **settings)
    first = model.generate(**prompt, max_new_tokens=3, return_dict_in_generate=True, **settings)
    tokens = {"input_ids": first.sequences, "attention_mask": torch.ones_like(first.sequences)}
    cache = first.past_key_values
    if method == "equizero":
        assert torch.equal(cache.equirl_view_weights, model.view_weights(**prompt))
        other = cache.equirl_view_weights.flip(1)
        with pytest.raises(ValueError, match="the cache holds other views of these sequences"):
            model.generate(**tokens, max_new_tokens=3, past_key_values=cache, view_weights=other, **settings)
        foreign = BACKBONE.generate(**prompt, max_new_tokens=3, return_dict_in_generate=True, **settings)
        with pytest.raises(ValueError, match="this cache does not tell which"):
            model.generate(**tokens, max_new_tokens=3, past_key_values=foreign.past_key_values, **settings)
    assert torch.equal(model.generate(**tokens, max_new_tokens=3, past_key_values=cache, **settings), whole)


@pytest.mark.parametrize("method", ORBIT_METHODS)
def test_an_assistant_model_changes_nothing_or_is_refused(method: str) -> None:
    model, prompt = _model(method, GENDER), encode(TOKENIZER, ["The man was"])
    settings = {"do_sample": False, "pad_token_id": 0, "max_new_tokens": 5}
    assistant = tiny_lm(len(TOKENIZER))
    if method == "equizero":
        with pytest.raises(ValueError, match="which an assistant model does not know"):
            model.generate(**prompt, assistant_model=assistant, **settings)
        return
    expected = model.generate(**prompt, **settings)
    assert torch.equal(model.generate(**prompt, assistant_model=assistant, **settings), expected)


def test_the_same_seed_gives_the_same_lambda() -> None:
    words = load_word_group("gender")
    batch = encode(TOKENIZER, PROMPTS["gender"])
    found = []
    for seed, disturbed in ((1, 0), (1, 5), (2, 0)):
        torch.manual_seed(disturbed)
        settings = LambdaSettings(seed=seed, epochs=3)
        model = make_method("lambda_equitune", BACKBONE, TOKENIZER, GENDER, prompts=make_prompts(words), fit=settings)
        with torch.no_grad():
            found.append(model(**batch, logits_to_keep=1).logits)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("method", ORBIT_METHODS)
def test_half_precision(method: str) -> None:
    backbone = tiny_lm(len(TOKENIZER)).to(torch.bfloat16)
    aggregator = make_lm_aggregator(method, backbone, lambda texts: [float(len(t)) for t in texts], _decode, 3)
    model = SymmetrizedLM(backbone, GENDER, aggregator).eval()
    assert float(unfairness(model, GENDER, encode(TOKENIZER, PROMPTS["gender"])).gap.max()) < 1e-2


def test_several_ends_of_a_text() -> None:
    backbone = tiny_lm(len(TOKENIZER))
    backbone.generation_config.eos_token_id = [2, 3]
    aggregator = make_lm_aggregator("equizero", backbone, lambda texts: [0.0] * len(texts), _decode, 3)
    model = SymmetrizedLM(backbone, GENDER, aggregator).eval()
    assert model.view_weights(**encode(TOKENIZER, ["The man"])).tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize("wrong", [[0.0], [0.0, float("nan")], [0.0] * 3])
def test_scores_that_are_none_are_refused(wrong: list[float]) -> None:
    model = _model("equizero", GENDER, lambda texts: wrong)
    with pytest.raises(ValueError, match="one finite number for each of 2 texts"):
        model.view_weights(**encode(TOKENIZER, ["The man"]))


@torch.no_grad()
def test_a_chosen_view_is_all_that_runs() -> None:
    model = _model("equizero", RACE)
    batch = encode(TOKENIZER, PROMPTS["race-3"])
    one_hot = torch.eye(3)[[0, 2, 1, 1]]
    rows: list[int] = []
    handle = BACKBONE.register_forward_pre_hook(
        lambda _module, _args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    chosen = model(**batch, view_weights=one_hot).logits
    blurred = model(**batch, view_weights=one_hot * (1 - 1e-7) + 1e-7 / 3).logits
    handle.remove()
    assert rows == [4, 12]
    assert torch.allclose(chosen.exp(), blurred.exp(), atol=1e-5)


def test_a_token_of_prompt_and_continuation_counts_for_neither() -> None:
    tokens = TOKENIZER("The man was")["input_ids"]
    assert prompt_length(TOKENIZER, "The man", tokens) == 2
    assert prompt_length(TOKENIZER, "The woman", tokens) is None
    assert math.isnan(perplexity(BACKBONE, TOKENIZER, ["The man was"], ["The woman"])[0])
    assert math.isnan(perplexity(BACKBONE, TOKENIZER, ["The man"], ["The man"])[0])


def test_which_tokens_move() -> None:
    assert (" man", " woman") in GENDER.moved
    assert (" Man", " Woman") in GENDER.moved
    assert ("man", "woman") in GENDER.pieces
    assert (" grandfather", " grandmother") in GENDER.left_out
    assert "more than one token" in GENDER.report()
    assert "--pieces" in GENDER.report()
    table = GENDER.tokens.table
    assert sorted(table[1].tolist()) == list(range(len(TOKENIZER)))
    man, woman = (TOKENIZER.convert_tokens_to_ids(token) for token in ("Ġman", "Ġwoman"))
    assert table[1, man] == woman
    assert table[1, TOKENIZER.convert_tokens_to_ids("man")] == TOKENIZER.convert_tokens_to_ids("man")
    pieces = token_action(load_word_group("gender"), TOKENIZER, len(TOKENIZER), pieces=True)
    assert pieces.tokens.table[1, TOKENIZER.convert_tokens_to_ids("man")] == TOKENIZER.convert_tokens_to_ids("woman")
    relaxed = token_action(load_word_group("gender"), TOKENIZER, len(TOKENIZER), relaxed=True)
    he = TOKENIZER.convert_tokens_to_ids("Ġhe")
    assert relaxed.tokens.table[1, he] == he != table[1, he]


def test_no_row_of_single_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="no row consists of single tokens"):
        token_action(load_word_group("orientation"), _Without("gay"), len(TOKENIZER))


class _Without:
    """The tokenizer without a word."""

    unk_token_id = TOKENIZER.unk_token_id

    def __init__(self, word: str) -> None:
        self.word = word

    def encode(self, text: str, **others: Any) -> list[int]:
        return [1] if text.strip() == self.word else TOKENIZER.encode(text, **others)


@pytest.mark.parametrize(
    ("text", "covered"),
    [("The man said", True), ("The grandfather said", False), ("man was", False), ("The doctor", True)],
)
def test_covered_texts_are_those_whose_swap_is_the_action_on_tokens(text: str, covered: bool) -> None:
    assert GENDER.covers(TOKENIZER, text) == covered


def test_models_from_a_folder(tmp_path: Path) -> None:
    tokenizer, model = load_language_model(str(save_tiny(tmp_path / "lm")))
    assert tokenizer.padding_side == "left"
    ids = torch.tensor(tokenizer(["The man said"])["input_ids"])
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, BACKBONE(ids).logits, atol=1e-5)
    with pytest.raises(ValueError, match="'nowhere/at-all' cannot be loaded"):
        load_language_model("nowhere/at-all")


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(ValueError, match=r"method 'equitun' is unknown.*equitune"):
        make_lm_aggregator("equitun", BACKBONE)
    with pytest.raises(ValueError, match="equizero needs a loss"):
        make_lm_aggregator("equizero", BACKBONE)
