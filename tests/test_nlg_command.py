import csv
import importlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from equirl.agents.cli import main
from equirl.experiments.nlg.regard import LABELS, OWN_SENTENCES, read_labelled
from equirl.experiments.nlg.report import summarise_audit


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("transformers", reason="the extra nlg is not installed: make nlg")
    from tiny_lm import save_tiny

    return str(save_tiny(tmp_path_factory.mktemp("lm")))


@pytest.fixture
def scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_score.py").write_text("def letters(texts):\n    return [float(len(t) % 7) for t in texts]\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "own_score:letters"


def test_audit_writes_a_row_for_each_prompt(
    tiny: str, scores: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "audit.csv"
    methods = ["plain", "equitune", "relaxed_equitune", "lambda_equitune", "equizero"]
    arguments = ["--model", tiny, "--group", "gender", "race-3", "--method", *methods, "--score", scores]
    assert main(["nlg", "audit", *arguments, "--csv", str(path)]) == 0
    rows = _rows(path)
    assert {"method", "group", "prompt", "gap", "perplexity"} <= set(rows[0])
    prompts = [row for row in rows if row["prompt"]]
    assert len(prompts) == 5 * (20 + 30)
    assert len(rows) == len(prompts) + 2 * 5 * 2
    assert all(float(row["gap"]) < 1e-5 for row in prompts if row["method"] != "plain")
    assert all(float(row["gap"]) > 1e-5 for row in prompts if row["method"] == "plain")
    known = [float(row["perplexity"]) for row in rows if row["perplexity"]]  # none where nothing was said
    assert len(known) > 0.9 * len(rows)
    assert min(known) > 1
    shown = capsys.readouterr().out
    assert "| gender | plain |" in shown
    assert "(1.0000)" in shown


def test_compare_and_go_on(tiny: str, scores: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn", reason="the extra nlg is not installed: make nlg")
    if importlib.util.find_spec("all_minilm_l6_v2") is None:
        pytest.skip("the sentence encoder is not installed: make nlg")
    out = tmp_path / "nlg"
    arguments = ["nlg", "compare", "--model", tiny, "--group", "gender", "--method", "plain", "equizero"]
    arguments += ["--samples", "3", "--max-new-tokens", "4", "--n-jobs", "1", "--score", scores, "--out", str(out)]
    assert main(arguments) == 0
    samples = _rows(out / "samples.csv")
    assert len(samples) == 2 * 20 * 3
    assert {row["view"] for row in samples if row["method"] == "plain"} == {""}
    assert {row["view"] for row in samples if row["method"] == "equizero"} <= {"0", "1", "0/1"}
    for row in samples:
        assert sum(float(row[label]) for label in LABELS) == pytest.approx(1, abs=1e-3)
    lines = (out / "samples.jsonl").read_text().splitlines()
    assert len(lines) == len(samples)
    assert json.loads(lines[0])["prompt"] == "The man was known for"
    assert (out / "regard.png").stat().st_size > 5_000
    page = (out / "report.html").read_text()
    assert "The woman worked as" in page
    assert "<th>equizero" in page
    assert json.loads((out / "record.json").read_text())["config"]["samples"] == 3
    capfd.readouterr()
    assert main(arguments) == 0
    assert capfd.readouterr().out.count("2 runs, 0 to do") == 2
    assert main(["nlg", "compare", "--report-only", "--out", str(out)]) == 0


def test_generate_and_words_and_speed(tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "samples.jsonl"
    common = ["--model", tiny, "--group", "gender", "--method", "plain", "equitune"]
    texts = ["--text", "The man was", "The grandfather was", "--num-beams", "2", "--max-new-tokens", "3"]
    assert main(["nlg", "generate", *common, *texts, "--out", str(path)]) == 0
    assert "'The grandfather was' has words" in capsys.readouterr().err
    samples = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(s["method"], s["prompt"], s["sample"]) for s in samples[:3]] == [
        ("plain", "The man was", 0),
        ("plain", "The man was", 1),
        ("plain", "The grandfather was", 0),
    ]
    assert main(["nlg", "generate", *common, "--text", "The man", "--samples", "1", "--max-new-tokens", "2"]) == 0
    assert "gender equitune: The man|" in capsys.readouterr().out
    assert main(["nlg", "words", *common]) == 0
    assert "moved:  man/ woman" in capsys.readouterr().out
    speed = tmp_path / "speed.csv"
    settings = ["--batch", "1", "2", "--rounds", "1", "--max-new-tokens", "2", "--csv", str(speed)]
    assert main(["nlg", "speed", *common, *settings]) == 0
    assert [(row["method"], row["batch"], row["order"]) for row in _rows(speed)] == [
        ("plain", "1", "1"),
        ("equitune", "1", "2"),
        ("plain", "2", "1"),
        ("equitune", "2", "2"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "commands:"),
        (["adit"], "command 'adit' is unknown"),
        (["audit", "--group", "gendre"], "word group 'gendre' is unknown"),
        (["audit", "--method", "equitun"], "method 'equitun' is unknown"),
        (["audit", "--method", "relaxed_plain"], "method 'relaxed_plain' is unknown"),
        (["compare", "--method", "equitun"], "method 'equitun' is unknown"),
        (["audit", "--model", "nowhere/at-all"], "'nowhere/at-all' cannot be loaded"),
        (["compare", "--report-only", "--out", "nowhere"], "nowhere"),
        (["generate", "--samples", "3", "--num-beams", "2"], "need as many beams"),
        (["train-regard", "--data", "none.tsv", "--out", "x.json"], "no file of labelled texts none.tsv"),
        (["audit", "--score", "happiness", "--model", "TINY", "--method", "equizero"], "score 'happiness' is unknown"),
        (["audit", "--score", "nowhere:f", "--model", "TINY", "--method", "equizero"], "No module named 'nowhere'"),
    ],
)
def test_mistakes_are_named(arguments: list[str], message: str, tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nlg", *(tiny if argument == "TINY" else argument for argument in arguments)]) == 2
    shown = capsys.readouterr()
    assert message in shown.err + shown.out


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def without(name: str, *others: Any) -> Any:
        if name.partition(".")[0] in ("transformers", "sklearn"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *others)

    real = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", without)
    assert main(["nlg", "train-regard", "--out", "x.json"]) == 2
    assert "pip install 'equirl[nlg]'" in capsys.readouterr().err
    assert main(["nlg", "words"]) == 2
    assert "pip install 'equirl[nlg]'" in capsys.readouterr().err


def test_our_sentences_and_others(tmp_path: Path) -> None:
    texts, labels = read_labelled(OWN_SENTENCES)
    assert [labels.count(label) for label in LABELS] == [40, 40, 40]
    assert all("XYZ" in text for text in texts)
    assert len(set(texts)) == len(texts)
    path = tmp_path / "own.tsv"
    path.write_text("label\ttext\npositive\tgood\nbad\tworse\n")
    with pytest.raises(ValueError, match="line 3: 'bad'"):
        read_labelled(path)
    path.write_text("text,label\n")
    with pytest.raises(ValueError, match="needs the columns label and text"):
        read_labelled(path)
    path.write_text("label\ttext\n" + "positive\tgood\n" * 5 + "negative\tbad\n" * 5)
    with pytest.raises(ValueError, match="0 texts labelled neutral"):
        read_labelled(path)


def test_the_table_compares_with_the_plain_model() -> None:
    rows = []
    for method, factor in (("plain", 1.0), ("equitune", 1.1)):
        rows += [
            (method, "gender", f"prompt {n}", 0.1 * n / factor**30, 10 * factor, 0.0, "respect", "man") for n in (1, 3)
        ]
        rows += [(method, "gender", "", "", 20.0 * factor, "", f"{name} text", "") for name in ("neutral", "mixed")]
    columns = ["method", "group", "prompt", "gap", "perplexity", "divergence", "context", "member"]
    table = summarise_audit(pd.DataFrame(rows, columns=columns))
    assert "| gender | plain | 0.200 | 0.300 | 10.00 (1.0000) | 20.00 (1.0000) | 20.00 (1.0000) |" in table
    assert "| 11.00 (1.1000) | 22.00 (1.1000) | 22.00 (1.1000) |" in table
