"""Command lines of the studies: study, bench, scan, nlg, vision."""

from __future__ import annotations

from fuzz.command_lines import CommandTarget, Option
from fuzz.wrong_texts import COUNTS, DEVICES, METHODS, REALS

__all__ = ["study_commands"]


def study_commands() -> list[CommandTarget]:
    """Return the command lines of the studies."""
    return [*_learning(), *_nlg(), *_vision()]


def _learning() -> list[CommandTarget]:
    shared: dict[str | int, Option] = {
        "--seeds": Option(COUNTS),
        "--n-jobs": Option(COUNTS),
        "--out": Option(("text.txt", "text.txt/x"), (), ("out",)),
        "--cluster": Option(("nothing", "http://x", "tcp://"), (), ("cluster", "scheme")),
    }
    learning: dict[str | int, Option] = {
        **shared,
        "--agents": Option(
            ("", "plane", "grid-c4/equitun", "grid-c5/equitune", "grid-c4/equizero+gradient=x", "/", "a/b/c"),
            (),
            ("agent", "method", "symmetry", "gradient"),
        ),
        "--size": Option((*COUNTS, "1")),
        "--total-timesteps": Option(COUNTS),
        "--eval-freq": Option((*COUNTS, "1000000")),
        "--threshold": Option((*REALS, "2", "0")),
        "--stop-after": Option(COUNTS),
    }
    rl = (
        "study",
        "rl",
        "--agents",
        "plain",
        "--seeds",
        "1",
        "--size",
        "2",
        "--total-timesteps",
        "20",
        "--eval-freq",
        "10",
        "--n-jobs",
        "1",
        "--out",
        "study",
    )
    studies = Option(("", "lr", "RL", "rl ", "--rl", "0", "zero_shot"), (), ("study",))
    scan: dict[str | int, Option] = {
        "--split": Option(("", "simpl", "jump"), (), ("split",)),
        "--cell": Option(("", "lstn", "g_lstm"), (), ("cell",)),
        "--method": Option(METHODS, (), ("method",)),
        "--symmetry": Option(
            ("", "jump-rn", "cyclic:jump", "cyclic:jump,fly", "cyclic:jump,jump", "cyclic:jump,left", "cubic:jump,run"),
            (),
            ("symmetry",),
        ),
        "--lambda-data": Option((*REALS, "2", "0")),
        "--seeds": Option(COUNTS),
        "--hidden": Option(COUNTS),
        "--device": Option(DEVICES),
        "--data": Option(("missing", "text.txt"), (), ("missing", "text.txt")),
        "--out": Option(("text.txt",), (), ("out",)),
        "--n-jobs": Option(COUNTS),
    }
    bench: dict[str | int, Option] = {
        "--sections": Option(("", "pass", "training,peers"), (), ("section",)),
        "--rounds": Option(COUNTS),
        "--min-seconds": Option(REALS),
        "--threads": Option(COUNTS),
        "--device": Option(DEVICES),
        "--csv": Option(("folder", "text.txt/x")),
        "--peers-python": Option(("nothing", "text.txt"), (), ("peers",)),
        "--out": Option(("text.txt",)),
    }
    tiny_scan = (
        "scan",
        "--method",
        "plain",
        "--pretrain-steps",
        "1",
        "--fine-tune-steps",
        "1",
        "--hidden",
        "8",
        "--n-jobs",
        "1",
        "--out",
        "scan",
    )
    others: dict[str | int, Option] = {**shared, 1: studies}
    return [
        CommandTarget("study rl", rl, {**learning, 1: studies}, (), ("--seeds", "--total-timesteps", "--agents")),
        CommandTarget(
            "study, report",
            ("study", "rl", "--report-only", "--out", "missing"),
            {"--out": Option(("missing", "folder", "text.txt"), (), ("study.csv",))},
        ),
        CommandTarget(
            "study minigrid",
            ("study", "minigrid", "--tasks", "empty-rom"),
            {**others, "--tasks": Option(("empty-rom", ""), (), ("task",))},
            (),
            ("--tasks",),
            ("--tasks",),
        ),
        CommandTarget(
            "study control",
            ("study", "control", "--environments", "CartPole-v2"),
            {**shared, "--variants": Option(("equitun", ""), (), ("variant",))},
            (),
            ("--variants",),
            ("--environments", "variant"),
        ),
        CommandTarget(
            "bench",
            ("bench", "--sections", "learning", "--quick", "--out", "bench"),
            bench,
            (),
            ("--sections", "--rounds"),
        ),
        CommandTarget("scan", tiny_scan, scan, (), ("--split", "--hidden", "--symmetry")),
    ]


def _nlg() -> list[CommandTarget]:
    own = ("missing.toml", "text.txt", "gendr", "", "folder")
    shared: dict[str | int, Option] = {
        1: Option(("", "generat", "Audit", "words ", "--words"), (), ("command",)),
        "--group": Option(own, (), ("word group", "word list")),
        "--method": Option((*METHODS, "relaxed_plain"), (), ("method",)),
        "--score": Option(("", "sentimnt", "math:nothing", "a:b:c", "nothing:f"), (), ("score",)),
        "--look-ahead": Option(COUNTS),
        "--device": Option(DEVICES),
        "--threads": Option(COUNTS),
        "--prompts": Option(("missing.toml", "text.txt", "folder", "random.bin"), (), ("prompts",)),
        "--model": Option(("missing/model", "folder"), (), ("model",)),
        "--seed": Option(("-1", "x", "", "1.5")),
        "--max-new-tokens": Option(COUNTS),
    }
    line = (
        "nlg",
        "generate",
        "--method",
        "plain",
        "--samples",
        "1",
        "--max-new-tokens",
        "1",
        "--model",
        "missing/model",
    )
    more: dict[str | int, Option] = {
        "--samples": Option(COUNTS),
        "--top-k": Option(COUNTS),
        "--num-beams": Option(COUNTS),
        "--text": Option(("", " ")),
    }
    return [
        CommandTarget(
            "nlg generate", line, {**shared, **more}, (), ("--group", "--method", "--samples"), ("missing/model",)
        )
    ]


def _vision() -> list[CommandTarget]:
    options: dict[str | int, Option] = {
        1: Option(("", "zeroshot", "Finetune", "--data"), (), ("command",)),
        "--data": Option(
            (
                "",
                "mnst",
                "folder:missing",
                "folder:folder",
                "folder:text.txt",
                "cifar10:missing",
                "hub:",
                "folder:",
                "x:y:z",
            ),
            (),
            ("data", "images", "missing"),
        ),
        "--method": Option(METHODS, (), ("method",)),
        "--group": Option(("", "c3", "C4", "d 4", "0"), (), ("group",)),
        "--level": Option(("", "outpt"), (), ("level",)),
        "--labels": Option(COUNTS, (), ("labels",)),
        "--test-images": Option(("-1", "x", "", "1.5")),
        "--proxy-loss": Option(("", "similar", "math:nothing"), (), ("proxy loss",)),
        "--reads": Option(("", "input"), (), ("read",)),
        "--seeds": Option(COUNTS),
        "--device": Option(DEVICES),
        "--learning-rate": Option((*REALS, "0")),
        "--batch-size": Option(COUNTS),
        "--mixed-precision": Option(("", "fp15"), (), ("mixed",)),
        "--on-corrupt": Option(("", "skp"), (), ("corrupt",)),
        "--out": Option(("text.txt",)),
        "--csv": Option(("folder",)),
        "--model": Option(("", "efficientnet", "timm:", "small_cnn"), (), ("model",)),
    }
    line = ("vision", "finetune", "--data", "folder:missing", "--method", "plain", "--model", "small-cnn")
    return [
        CommandTarget("vision finetune", line, options, (), ("--group", "--labels", "--level"), ("missing",)),
        CommandTarget(
            "vision report",
            ("vision", "finetune", "--report-only", "--out", "missing"),
            {"--out": Option(("missing", "folder", "text.txt"), (), ("study.csv", "text.txt"))},
        ),
    ]
