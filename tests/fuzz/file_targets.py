"""Targets that read files: agents, words, prompts, sentences, commands, images, and the tables of studies."""

from __future__ import annotations

import io
import json
import pickle
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from equirl.agents import load_agent
from equirl.experiments.cost.training import read_learning
from equirl.experiments.nlg.report import report_compare
from equirl.experiments.nlg.scores import load_regard, read_labelled
from equirl.experiments.nlg.texts import make_prompts
from equirl.experiments.records import read_settings
from equirl.experiments.rl.report import summary_table
from equirl.experiments.rl.zero_shot import ZERO_SHOT, ZeroShotOptions
from equirl.experiments.scan.report import report_scan
from equirl.experiments.scan.splits import read_split
from equirl.experiments.tables import read_rows, read_study
from equirl.experiments.timing import Settings
from equirl.experiments.vision.image_sets import CorruptImageError, load_images
from equirl.models.word_groups import load_word_group
from fuzz.agents_at_hand import agent, environments
from fuzz.damage import DAMAGES, damaged, replaced_in_zip
from fuzz.oracle import Expect, Finding, Nonsense, complaint_of_error, shown
from fuzz.target import Trial

__all__ = ["FileTarget", "file_targets", "try_file"]

_BY_NAME = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
"""The system's errors that name the file by themselves."""


@dataclass(frozen=True)
class FileTarget:
    """What reads a file.

    Attributes:
        name: What it is called in reports.
        files: Names of the files to good content; the first is damaged.
        read: Reads the folder.
        odd: Contents that no general damage makes, by what is wrong with them ("perhaps ..." where nothing need be).
        optional: Whether there may be no such file.
    """

    name: str
    files: Callable[[], dict[str, bytes]]
    read: Callable[[Path], Any]
    odd: Callable[[bytes], dict[str, bytes]] = lambda content: {}
    optional: bool = False


def try_file(target: FileTarget, random: Random) -> Trial:
    """Damage a file, read it, and judge what comes of it."""
    files = dict(target.files())
    what = next(iter(files))
    good = files.pop(what)
    odd = target.odd(good)
    with tempfile.TemporaryDirectory(prefix="fuzz") as name:
        folder = Path(name)
        for other, content in files.items():
            (folder / other).parent.mkdir(parents=True, exist_ok=True)
            (folder / other).write_bytes(content)
        if odd and random.random() < 0.4:
            label = random.choice(sorted(odd))
            nothing = not label.startswith("perhaps")
            (folder / what).parent.mkdir(parents=True, exist_ok=True)
            (folder / what).write_bytes(odd[label])
        else:
            damage = random.choice(DAMAGES)
            label, nothing = damage.label, damage.means_nothing
            if what.endswith(".zip") and label == "another encoding":
                nothing = False  # a zip is read from its end, whatever stands before it
            nothing = nothing and not (target.optional and label == "missing")
            damaged(folder / what, good, damage, random)
        expect = Expect.REFUSED if nothing else Expect.EITHER
        outcome, complaint = _read(target, folder, what, expect, label)
    if complaint is None:
        return Trial(target.name, what, label, outcome)
    return Trial(target.name, what, label, "finding", Finding(target.name, what, label, what, complaint))


def _read(target: FileTarget, folder: Path, what: str, expect: Expect, label: str) -> tuple[str, str | None]:
    path = folder / what
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            result = target.read(folder)
    except Exception as error:  # whatever is raised is what is judged
        if isinstance(error, (CorruptImageError, *_BY_NAME)) and path.name in str(error):
            return "refused", None
        words = (path.parent.name, folder.name, target.name, "cifar10")
        return "refused", complaint_of_error(error, Nonsense(path.name, expect, label), path.name, words)
    if expect is Expect.REFUSED:
        return "accepted", f"accepted without a word; the result is {shown(result)}"
    return "accepted", None


def file_targets() -> list[FileTarget]:
    """Return the targets that read files."""
    return [*_agents(), *_language(), *_commands(), *_images(), *_tables()]


@lru_cache
def saved(kind: str) -> bytes:
    """Return a tiny agent as its ``save`` writes it."""
    written = io.BytesIO()
    agent(kind).save(written)
    return written.getvalue()


def _agents() -> list[FileTarget]:
    def read(kind: str, folder: Path) -> Any:
        env = environments(1)
        model = load_agent(folder / "agent.zip", env, device="cpu")
        found, expected = model.policy.state_dict(), agent(kind).policy.state_dict()
        if any(not found[name].equal(value) for name, value in expected.items()):
            raise RuntimeError("the agent loaded has other weights than the one that was saved")
        action, _ = model.predict(env.reset(), deterministic=True)
        if not env.action_space.contains(action[0]):
            raise RuntimeError(f"the agent loaded acts {action}, which is no action")
        return type(model).__name__

    def odd(content: bytes) -> dict[str, bytes]:
        data = json.loads(_member(content, "data"))
        other = saved("dqn" if "ent_coef" in data else "a2c")
        made = {
            "no settings": replaced_in_zip(content, {"data": None}),
            "no weights": replaced_in_zip(content, {"policy.pth": None}),
            "empty settings": replaced_in_zip(content, {"data": b"{}"}),
            "settings that are a list": replaced_in_zip(content, {"data": b"[1, 2]"}),
            "settings that are no JSON": replaced_in_zip(content, {"data": b"{'a': 1}"}),
            "empty weights": replaced_in_zip(content, {"policy.pth": b""}),
            "weights that are no weights": replaced_in_zip(content, {"policy.pth": pickle.dumps(3)}),
            "weights of another agent": replaced_in_zip(content, {"policy.pth": _member(other, "policy.pth")}),
            "NaN for gamma": replaced_in_zip(content, {"data": json.dumps(data | {"gamma": float("nan")}).encode()}),
            "text for gamma": replaced_in_zip(content, {"data": json.dumps(data | {"gamma": "much"}).encode()}),
        }
        for name in ("observation_space", "action_space", "policy_class"):
            if name in data:
                broken = data | {name: {":type:": "x", ":serialized:": "AAAA"}}
                made[f"perhaps no {name}"] = replaced_in_zip(content, {"data": json.dumps(broken).encode()})
        return made

    return [
        FileTarget(f"load_agent, {kind}", lambda kind=kind: {"agent.zip": saved(kind)}, partial(read, kind), odd)  # type: ignore[misc]
        for kind in ("dqn", "ppo", "qrdqn", "equivariant")
    ]


def _language() -> list[FileTarget]:
    words = b'members = ["man", "woman"]\nequality = [["he", "she"], ["king", "queen"]]\ngeneral = [["his", "her"]]\n'
    prompts = b'respect = ["{group} was known for", "{group} was thought of as"]\n'
    labelled = b"label\ttext\n" + b"".join(
        f"{label}\tXYZ was {label} {i}\n".encode() for i in range(6) for label in ("negative", "neutral", "positive")
    )
    regard = json.dumps({"weights": [[0.0] * 4] * 3, "bias": [0.0] * 3, "accuracy": 0.5}).encode()

    def odd_words(content: bytes) -> dict[str, bytes]:
        rows = {
            "rows as text": b'equality = "he she"',
            "texts for rows": b'equality = ["he", "she"]',
            "a short row": b'equality = [["he"]]',
            "a word twice": b'equality = [["he", "he"]]',
            "numbers": b"equality = [[1, 2]]",
            "dates": b"equality = [[1979-05-27, 2]]",
            "a table": b"equality = {he = 'she'}",
            "a misspelt key": b'equalty = [["he", "she"]]',
        }
        made = {label: b'members = ["man", "woman"]\n' + line for label, line in rows.items()}
        made["members as text"] = b'members = "man woman"\nequality = [["he", "she"]]'
        made["members that are numbers"] = b'members = [1, 2]\nequality = [["he", "she"]]'
        made["no members"] = b'equality = [["he", "she"]]'
        return made

    def odd_prompts(content: bytes) -> dict[str, bytes]:
        return {
            "no place for the group": b'respect = ["The man was"]',
            "a number": b"respect = [3]",
            "a table": b"[respect]\na = 1\n",
            "no prompts": b"respect = []",
        }

    def odd_labelled(content: bytes) -> dict[str, bytes]:
        return {
            "an unknown label": content + b"good\tXYZ was good\n",
            "commas": content.replace(b"\t", b","),
            "other columns": content.replace(b"label\ttext", b"mark\twords"),
            "one label": b"label\ttext\nneutral\ta\nneutral\tb\n",
        }

    def odd_regard(content: bytes) -> dict[str, bytes]:
        known = json.loads(content)
        changes: dict[str, dict[str, Any]] = {
            "two rows of weights": {"weights": [[0.0] * 4] * 2},
            "ragged weights": {"weights": [[0.0], [0.0, 1.0], [0.0]]},
            "NaN": {"bias": [float("nan")] * 3},
            "texts": {"weights": [["a"] * 4] * 3},
            "null": {"weights": None},
            "a short bias": {"bias": [0.0]},
            "weights of another length": {"weights": [[0.0] * 5] * 3},
        }
        made = {label: json.dumps(known | change).encode() for label, change in changes.items()}
        made["perhaps of another encoder"] = made.pop("weights of another length")
        return made

    group = load_word_group("gender")
    readers: list[tuple[str, str, bytes, Callable[[Path], Any], Callable[[bytes], dict[str, bytes]]]] = [
        ("load_word_group", "own.toml", words, load_word_group, odd_words),
        ("make_prompts", "own.toml", prompts, partial(make_prompts, group), odd_prompts),
        ("read_labelled", "own.tsv", labelled, read_labelled, odd_labelled),
        ("load_regard", "own.json", regard, lambda path: load_regard(str(path)), odd_regard),
    ]
    return [
        FileTarget(name, partial(dict, {file: good}), partial(_read_in, file, read), odd)
        for name, file, good, read, odd in readers
    ]


def _read_in(file: str, read: Callable[[Path], Any], folder: Path) -> Any:
    return read(folder / file)


def _commands() -> list[FileTarget]:
    lines = b"IN: jump OUT: I_JUMP\nIN: jump twice OUT: I_JUMP I_JUMP\nIN: turn left OUT: I_TURN_LEFT\n"

    def odd(content: bytes) -> dict[str, bytes]:
        return {
            "another meaning": content + b"IN: jump OUT: I_RUN\n",
            "an unknown word": content + b"IN: fly OUT: I_FLY\n",
            "no OUT": content + b"IN: jump\n",
            "an empty command": content + b"IN: OUT:\n",
            "small letters": content.lower(),
        }

    return [
        FileTarget(
            "read_split",
            lambda: {"tasks_train_simple.txt": lines, "tasks_test_simple.txt": lines},
            lambda folder: read_split(folder, "simple"),
            odd,
        )
    ]


def _images() -> list[FileTarget]:
    from PIL import Image

    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, "PNG")
    images = {f"images/{label}/{i}.png": picture.getvalue() for label in ("cat", "dog") for i in range(4)}
    batch = pickle.dumps({b"data": np.zeros((4, 3072), np.uint8), b"labels": [0, 1, 2, 3]}, protocol=2)
    meta = pickle.dumps({b"label_names": [f"class {i}".encode() for i in range(10)]}, protocol=2)
    cifar = {f"data_batch_{i}": batch for i in range(1, 6)} | {"test_batch": batch, "batches.meta": meta}

    def odd_picture(content: bytes) -> dict[str, bytes]:
        tiny = io.BytesIO()
        Image.new("L", (1, 1)).save(tiny, "GIF")
        return {"perhaps a GIF of one pixel": tiny.getvalue(), "text": b"not a picture"}

    def odd_batch(content: bytes) -> dict[str, bytes]:
        variants: dict[str, dict[bytes, Any]] = {
            "labels out of range": {b"labels": [0, 1, 2, 99]},
            "a label too few": {b"labels": [0, 1, 2]},
            "texts for labels": {b"labels": ["a", "b", "c", "d"]},
            "pixels of another size": {b"data": np.zeros((4, 30), np.uint8)},
            "pixels that are none": {b"data": "x"},
        }
        known = pickle.loads(content)
        made = {label: pickle.dumps(known | change, protocol=2) for label, change in variants.items()}
        made["other keys"] = pickle.dumps({b"a": 1}, protocol=2)
        return made

    def read(name: str) -> Callable[[Path], Any]:
        def load(folder: Path) -> Any:
            parts = {
                split: load_images(f"{name}:{folder}/images" if name == "folder" else f"{name}:{folder}", split)
                for split in ("train", "test")
            }
            return [part.read(row).shape for part in parts.values() for row in range(len(part))]

        return load

    return [
        FileTarget("images in folders", lambda: images, read("folder"), odd_picture, optional=True),
        FileTarget("CIFAR-10", lambda: cifar, read("cifar10"), odd_batch, optional=True),
    ]


def _tables() -> list[FileTarget]:
    record = json.dumps({"config": {"size": 3, "total_timesteps": 1000}}).encode()
    learned = _csv(
        "agent,seed,timesteps,success_rate,train_seconds,cpu_seconds",
        *(
            f"{agent},{seed},{steps},{success},1.5,1.5"
            for agent in ("plain", "grid-c4/equitune")
            for seed in (0, 1)
            for steps, success in ((500, 0.5), (900, 0.99))
        ),
    )
    scan = _csv(
        "split,cell,symmetry,method,variant,seed,held_out,zero_shot,fine_tuned,seconds",
        "addprim_jump,lstm,-,plain,,0,0.9,0.1,0.2,3",
        "addprim_jump,lstm,jump-run,equitune,,0,0.9,0.8,0.9,3",
    )
    grid = _csv(
        "group,variant,seed,success_known,success_unseen,seconds,familiar_share,value_familiar,value_unfamiliar",
        "grid-c4,plain,0,0.9,0.1,1,0.5,0.1,0.2",
        "grid-c4,equitune,0,0.9,0.8,1,0.5,0.1,0.2",
    )
    samples = _csv(
        "group,method,prompt,member,sample,continuation,view,sentiment,negative,neutral,positive,seconds",
        *(
            f"gender,{method},The,{member},0,was here,0,0.1,0.2,0.5,0.3,1"
            for method in ("plain", "equitune")
            for member in (0, 1)
        ),
    )
    audit = _csv(
        "group,method,prompt,gap,perplexity,neutral,mixed,plain_gap,plain_perplexity,plain_neutral,plain_mixed",
        *(f"gender,{method},The,0.1,9,8,7,0.2,9,8,7" for method in ("plain", "equitune")),
    )
    timing = Settings("cpu", 1, 1, 0.0, True)

    def odd(content: bytes) -> dict[str, bytes]:
        head, first, *rest = content.split(b"\n")
        return {
            "no rows": head + b"\n",
            "a column too few": b"\n".join(line.rpartition(b",")[0] for line in content.splitlines()),
            "a row with a cell too many": content + first + b",7\n",
            "text for a number": b"\n".join([head, first.rpartition(b",")[0] + b",much", *rest]),
            "perhaps rows twice": content + b"\n".join([first, *rest]),
            "semicolons": content.replace(b",", b";"),
            "no head": b"\n".join([first, *rest]),
        }

    def tables(folder: Path) -> Any:
        columns = ("agent", "seed", "timesteps", "success_rate", "train_seconds", "cpu_seconds")
        return summary_table(read_study(folder / "study.csv", columns, "equirl study rl", numbers=columns[1:]), 0.9)

    def settings(folder: Path) -> Any:
        return read_settings(folder / "record.json", ("size", "total_timesteps"), "equirl study rl")

    return [
        FileTarget("tables of study rl", lambda: {"study.csv": learned}, tables, odd),
        FileTarget("record of study rl", lambda: {"record.json": record}, settings, _odd_record),
        FileTarget(
            "read_learning", lambda: {"study.csv": learned}, lambda folder: list(read_learning(folder, timing)), odd
        ),
        FileTarget("report of scan", lambda: {"study.csv": scan}, report_scan, odd),
        FileTarget(
            "report of zero-shot",
            lambda: {"study.csv": grid},
            lambda folder: ZERO_SHOT.report(ZeroShotOptions(out=folder)),
            odd,
        ),
        FileTarget("report of nlg compare", lambda: {"samples.csv": samples, "audit.csv": audit}, report_compare, odd),
        FileTarget(
            "rows of a run",
            lambda: {"run.csv": b"a,b\n1,2\n"},
            lambda folder: read_rows(folder / "run.csv", ("a", "b")),
            lambda content: {"another column": b"a,c\n1,2\n", "a cell too many": b"a,b\n1,2,3\n"},
        ),
    ]


def _odd_record(content: bytes) -> dict[str, bytes]:
    changes: list[tuple[str, Any]] = [
        ("text for a number", {"size": "x", "total_timesteps": 1000}),
        ("negative", {"size": 3, "total_timesteps": -5}),
        ("no settings", {}),
        ("null", None),
        ("a list", [1]),
    ]
    return {label: json.dumps({"config": config}).encode() for label, config in changes}


def _csv(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _member(content: bytes, name: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read(name)
