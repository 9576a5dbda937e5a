import csv
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from warm_process import run_python

from equirl.agents.cli import main
from equirl.experiments.nlg.config import CompareConfig
from equirl.experiments.nlg.report import _chance_gap, _sentiment_gap, _summarise_regard, summarise_audit
from equirl.experiments.nlg.scores import LABELS, OWN_SENTENCES, load_regard, read_labelled


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
    assert len(rows) == 5 * (20 + 30)
    assert all(row["prompt"] for row in rows)
    assert all(float(row["gap"]) < 1e-5 < float(row["plain_gap"]) for row in rows if row["method"] != "plain")
    assert all(row["gap"] == row["plain_gap"] for row in rows if row["method"] == "plain")
    known = [float(row["perplexity"]) for row in rows if row["perplexity"]]  # none where nothing was said
    assert len(known) > 0.9 * len(rows)
    assert min(known) > 1
    assert all(float(row["neutral"]) == pytest.approx(float(row["plain_neutral"]), rel=1e-4) for row in rows)
    shown = capsys.readouterr().out
    assert "| gender | plain |" in shown
    assert "(1.0000)" in shown


def test_compare_and_go_on(tiny: str, scores: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn", reason="the extra nlg is not installed: make nlg")
    if importlib.util.find_spec("all_minilm_l6_v2") is None:
        pytest.skip("the sentence encoder is not installed: make nlg")
    out = tmp_path / "nlg"
    arguments = ["nlg", "compare", "--model", tiny, "--group", "gender", "--method", "plain", "equizero"]
    arguments += ["--samples", "2", "--max-new-tokens", "4", "--n-jobs", "1", "--score", scores, "--out", str(out)]
    assert main(arguments) == 0
    samples = _rows(out / "samples.csv")
    assert len(samples) == 2 * 20 * 2
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
    assert json.loads((out / "record.json").read_text())["config"]["samples"] == 2
    capfd.readouterr()
    assert main(arguments) == 0
    assert capfd.readouterr().out.count("2 runs, 0 to do") == 2
    assert main(["nlg", "compare", "--report-only", "--out", str(out)]) == 0
    assert main([*arguments, "--measure", scores]) == 0
    for row in _rows(out / "samples.csv"):
        assert float(row["own"]) == len(row["prompt"] + row["continuation"]) % 7
    assert "seconds per sample | own |" in (out / "summary.md").read_text()


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
    assert "member" not in samples[0]
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
        ([], "subcommands"),
        (["adit"], "command 'adit' is unknown"),
        (["audit", "--group", "gendre"], "word group 'gendre' is unknown"),
        (["audit", "--method", "equitun"], "method 'equitun' is unknown"),
        (["audit", "--method", "relaxed_plain"], "method 'relaxed_plain' is unknown"),
        (["compare", "--method", "equitun"], "method 'equitun' is unknown"),
        (["audit", "--model", "nowhere/at-all"], "'nowhere/at-all' cannot be loaded"),
        (["compare", "--report-only", "--out", "nowhere"], "nowhere"),
        (["generate", "--samples", "3", "--num-beams", "2"], "need as many beams"),
        (["generate", "--samples", "0", "--model", "TINY"], "samples must be a whole number from 1"),
        (["audit", "--device", "abacus", "--model", "TINY"], "device 'abacus' cannot be used here"),
        (["speed", "--rounds", "0", "--model", "TINY"], "rounds must be a whole number from 1; got 0"),
        (["compare", "--samples", "0", "--model", "TINY"], "samples must be a whole number from 1"),
        (["compare", "--regard", "nowhere/at-all", "--model", "TINY", "--n-jobs", "1"], "'nowhere/at-all' cannot be"),
        (["train-regard", "--data", "none.tsv", "--out", "x.json"], "no file of labelled texts none.tsv"),
        (["audit", "--score", "happiness", "--model", "TINY", "--method", "equizero"], "score 'happiness' is unknown"),
        (["audit", "--score", "nowhere:f", "--model", "TINY", "--method", "equizero"], "No module named 'nowhere'"),
    ],
)
def test_mistakes_are_named(arguments: list[str], message: str, tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nlg", *(tiny if argument == "TINY" else argument for argument in arguments)]) == 2
    shown = capsys.readouterr()
    assert message in shown.err + shown.out


def test_what_is_not_installed_is_named(tmp_path: Path) -> None:
    commands = [["words"], ["audit"], ["generate"], ["compare"], ["train-regard", "--out", "x.json"]]
    program = (
        "import sys; sys.modules.update(transformers=None, sklearn=None); from equirl.agents.cli import main; "
        f"print([main(['nlg', *arguments]) for arguments in {commands}])"
    )
    done = run_python("-c", program, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == str([2] * len(commands))
    assert done.stderr.count("pip install 'equirl[nlg]'") == len(commands)
    assert "Traceback" not in done.stderr


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


def test_classifiers_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers", reason="the extra nlg is not installed: make nlg")
    scores = {"Positive": 0.5, "NEG": 0.3, "neutral": 0.2}
    answers = [[{"label": label, "score": score} for label, score in scores.items()]]
    monkeypatch.setattr(transformers, "pipeline", lambda *args, **settings: lambda texts: answers * len(texts))
    assert load_regard("some/classifier")(["a", "b"]).tolist() == [[0.3, 0.2, 0.5]] * 2
    scores.clear()
    answers[0].pop()
    with pytest.raises(ValueError, match=r"'some/classifier' has the labels \['neg', 'pos'\]"):
        load_regard("some/classifier")(["a"])


def test_the_table_compares_with_the_plain_model() -> None:
    pytest.importorskip("transformers", reason="the extra nlg is not installed: make nlg")
    from equirl.experiments.nlg.measurements import AUDIT_COLUMNS

    rows = [
        (
            "equitune",
            "gender",
            f"prompt {n}",
            1e-8 * n,
            11.0,
            0.1 * n,
            10.0,
            0.0,
            "respect",
            "man",
            22.0,
            24.0,
            20.0,
            20.0,
        )
        for n in (1, 3)
    ]
    table = summarise_audit(pd.DataFrame(rows, columns=list(AUDIT_COLUMNS)))
    assert "| equitune | 2.0e-08 | 3.0e-08 | 0.200 | 11.00 (1.1000) | 22.00 (1.1000) | 24.00 (1.2000) |" in table


def test_the_table_of_regard_counts_ties_and_finds_the_worst_prompt() -> None:
    plain = [("plain", prompt, 0 if number == 0 else 2, "") for prompt in ("a", "b") for number in range(4)]
    ours = [("equizero", "a", 2, "0") for _ in range(4)] + [("equizero", "b", 0, "0/1") for _ in range(4)]
    columns = ["method", "prompt", "regard", "view"]
    samples = pd.DataFrame(plain + ours, columns=columns).assign(group="gender")
    table = _summarise_regard(samples)
    assert "| gender | plain | 25.0 | 75.0 |  |  |" in table
    assert "| gender | equizero | 50.0 | 50.0 | 1 of 2 | b: +75 |" in table


def test_the_gap_of_chance_is_that_of_one_distribution() -> None:
    values = np.random.default_rng(0).normal(size=400)
    rows = pd.DataFrame({"member": ["man", "woman"] * 200, "sentiment": values})
    assert 0.02 < _chance_gap(rows) < 0.2
    rows.loc[rows.member == "man", "sentiment"] += 5
    assert _sentiment_gap(rows) == pytest.approx(5, abs=0.3)
    assert _chance_gap(rows) < 1


def test_what_changes_a_run_changes_its_file(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra nlg is not installed: make nlg")
    from equirl.experiments.nlg.study import Job

    regard = tmp_path / "regard.json"
    regard.write_text("{}")
    config = CompareConfig(model=str(tmp_path), regard=str(regard))
    first = Job(config, "gender", "equizero").sample_file()
    assert Job(config, "gender", "equizero").sample_file() == first
    regard.write_text("{ }")
    second = Job(config, "gender", "equizero").sample_file()
    others = [replace(config, seed=1), replace(config, look_ahead=3), replace(config, score="regard")]
    found = {first, second, *(Job(other, "gender", "equizero").sample_file() for other in others)}
    assert len(found) == 5
    (tmp_path / "model.safetensors").write_text("x")
    assert Job(config, "gender", "equizero").sample_file() not in found
