"""Tables of the results pages, made from the files in experiments/results when the site is built."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import open_questions
from tables_of_files import METHODS, RESULTS, Table, image_table, read_rows, summary_table

__all__ = ["RESULTS", "TABLES", "Table", "cell", "record_line", "render", "summary_table"]


def _scan(folder: str) -> Table:
    heads = ("cell", "group", "method", "variant", "seeds", "held out", "zero-shot", "range of zero-shot")
    heads += ("fine-tuned", "range of fine-tuned", "published", "seconds")
    table = summary_table(folder, 0, ("split", *heads))
    return table if len(set(table.column("split"))) > 1 else table.select(*heads)


def _image_parts(folder: str, *heads: str) -> Table:
    """Return the uniformly turned accuracies of an image study that varies a part of the method."""
    table = summary_table(folder).select("method", *heads, "uniformly turned")
    rows = tuple((METHODS.get(row[0], row[0]), *row[1:]) for row in table.rows)
    return Table(table.heads, rows)


def _image_costs() -> Table:
    rows = []
    for name in ("efficientnet-lite0", "small-cnn"):
        measured = read_rows(RESULTS / "vision_speed" / f"{name}.csv")
        for one in (row for row in measured if row["batch"] == "1"):
            key = ("method", "group", "level")
            many = next(row for row in measured if row["batch"] == "16" and all(row[k] == one[k] for k in key))
            cells = [name, METHODS.get(one["method"], one["method"]), one["group"], one["level"]]
            for row in (one, many):
                cells += [f"{1000 * float(row['seconds']):,.1f}", f"{float(row['ratio_to_plain']):.2f}"]
                cells.append(f"{float(row['peak_ratio_to_plain']):.2f}")
            rows.append(tuple(cells))
    ends = [f"batch {batch}: {what}" for batch in (1, 16) for what in ("ms", "time to plain", "memory to plain")]
    return Table(("network", "method", "group", "level", *ends), tuple(rows))


def _bench(what: str, value: str, folder: str = "bench", **columns: dict[str, str]) -> Table:
    """Return a table of the bench: a row for each method, a column for each named choice of settings."""
    measured = [row for row in read_rows(RESULTS / folder / "bench.csv") if row["what"] == what]
    methods = dict.fromkeys(row["method"] for row in measured if row["method"] != "plain")
    rows = []
    for method in methods:
        cells = [method.replace("_", "-")]
        for settings in columns.values():
            fits = (row for row in measured if row["method"] == method and settings.items() <= row.items())
            found = next(fits, None)
            cells.append("-" if found is None or not found[value] else f"{float(found[value]):.2f}")
        rows.append(tuple(cells))
    return Table(("method", *columns), tuple(rows))


def _bench_choices(backbones: Iterable[str], **more: str) -> dict[str, dict[str, str]]:
    return {
        f"{group}, {backbone.upper()}": {"group": group, "backbone": backbone, **more}
        for group in ("C4", "D4")
        for backbone in backbones
    }


def _make_train() -> Table:
    """Return what `make train` gave, a row for each seed."""
    rows = read_rows(RESULTS / "make_train.csv")
    return Table(tuple(name.replace("_", " ") for name in rows[0]), tuple(tuple(row.values()) for row in rows))


def _steps_by_batch() -> Table:
    """Return milliseconds of a gradient step: a row for each device and batch, a column for each method."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in read_rows(RESULTS / "bench_h100" / "batch_sizes.csv"):
        found.setdefault((row["device"], row["batch"]), {})[row["method"]] = f"{float(row['milliseconds']):.1f}"
    methods = list(next(iter(found.values())))
    heads = ("device", "batch", *(method.replace("_", "-") for method in methods))
    return Table(heads, tuple((*key, *(cells[method] for method in methods)) for key, cells in found.items()))


def _coverage() -> Table:
    """Return how often intervals hold the truth: a row for each kind and case, a column for each number of runs."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in read_rows(RESULTS / "coverage.csv"):
        if "not used" not in row["interval"] or row["case"] == "normal":
            found.setdefault((row["interval"], row["case"]), {})[row["n"]] = row["coverage"]
    numbers = ("3", "5", "10", "20", "100", "200")
    rows = tuple((*key, *(cells.get(n, "") for n in numbers)) for key, cells in sorted(found.items(), key=_kind))
    return Table(("interval", "case", *numbers), rows)


def _kind(item: tuple[tuple[str, str], Any]) -> str:
    return item[0][0]


def _choices() -> Table:
    """Return canonical with other choices of a view beside augmentation: a row for each study and agent."""
    shown = (
        ("Reacher", "augmentation", "", "reacher"),
        ("Reacher", "canonical", "", "reacher"),
        ("Reacher", "canonical", ", another projection", "reacher_projection_1"),
        ("Reacher", "canonical", ", a third projection", "reacher_projection_2"),
        ("Reacher", "canonical", ", margin 0.1", "reacher_margin"),
        ("Ant", "augmentation", "", "ant"),
        ("Ant", "canonical", "", "ant"),
        ("Ant", "canonical", ", margin 0.1", "ant_margin"),
    )
    rows = []
    for world, agent, choice, folder in shown:
        steps, scores = (summary_table(folder, k).where(agent=agent) for k in (0, 1))
        found = (steps.column(steps.heads[1]), steps.column("steps, median"), *map(scores.column, scores.heads[1:3]))
        rows.append((world, f"{agent}{choice}", *(cells[0] for cells in found)))
    return Table(
        ("world", "agent", "learned", "steps, median", "return over the run, IQM", "95 % interval"), tuple(rows)
    )


def _grid(folder: str) -> Callable[[], Table]:
    return partial(summary_table, folder)


_CONTROL = ("pendulum", "double pendulum", "reacher", "swimmer", "walker", "ant", "memory")

TABLES: dict[str, Callable[[], Table]] = {
    "coverage": _coverage,
    "quadrature": open_questions.quadrature,
    "far away": open_questions.far,
    "point robot": open_questions.point_robot,
    "swarm": open_questions.swarm,
    "carried": open_questions.carried,
    **{f"{world} steps": _grid(world.replace(" ", "_")) for world in _CONTROL},
    **{f"{world} scores": partial(summary_table, world.replace(" ", "_"), 1) for world in _CONTROL},
    "choices": _choices,
    "tic tac toe games": partial(summary_table, "tic_tac_toe", 1),
    "tic tac toe scores": partial(summary_table, "tic_tac_toe", 2),
    "picks": open_questions.picks,
    "rule": open_questions.rule,
    "learning": _grid("gridworld_7x7"),
    "learning scores": partial(summary_table, "gridworld_7x7", 1),
    "five rows": _grid("gridworld_5x5"),
    "ten rows": _grid("gridworld_10x10"),
    "slips": _grid("gridworld_slips"),
    **{f"broken {share}": partial(summary_table, f"gridworld_broken_{share:02}", 2) for share in (0, 5, 20, 50)},
    **{f"broken {share} scores": partial(summary_table, f"gridworld_broken_{share:02}", 1) for share in (5, 20)},
    "worn": _grid("cartpole_worn"),
    "worn scores": partial(summary_table, "cartpole_worn", 1),
    "make train": _make_train,
    "ablation": _grid("gridworld_7x7_ablation"),
    "quadrants": _grid("zero_shot_grid"),
    "control": _grid("zero_shot_control"),
    "empty room": _grid("empty_room"),
    "door key": _grid("door_key"),
    "door key, mirrored": _grid("door_key_mirrored"),
    "door key, mirrored, scores": partial(summary_table, "door_key_mirrored", 1),
    "empty room with equal settings": partial(summary_table, "minigrid", 0),
    "four rooms": partial(summary_table, "minigrid", 1),
    "door and key": partial(summary_table, "minigrid", 2),
    "add-jump": partial(_scan, "scan_addprim_jump"),
    "around-right": partial(_scan, "scan_around_right"),
    "g-lstm": partial(_scan, "scan_g_lstm"),
    "cells": partial(_scan, "scan_cells"),
    "losses": partial(_scan, "scan_losses"),
    "lambda data": partial(_scan, "scan_lambda"),
    "verb groups": partial(_scan, "scan_groups"),
    "fairness gaps": partial(summary_table, "nlg", 0),
    "regard": partial(summary_table, "nlg", 1),
    "regard in all": partial(summary_table, "nlg", 2),
    "bridge": partial(image_table, "vision_zero_shot"),
    "pretrained": partial(image_table, "vision_pretrained"),
    "small cnn": partial(image_table, "vision_small_cnn"),
    "digits": partial(image_table, "vision_mnist"),
    "lambda networks, bridge": partial(_image_parts, "vision_zero_shot_lambda", "kind", "reads"),
    "lambda networks, pretrained": partial(_image_parts, "vision_pretrained_lambda", "kind", "reads"),
    "levels, bridge": partial(_image_parts, "vision_zero_shot_maps", "level"),
    "levels, pretrained": partial(_image_parts, "vision_pretrained_maps", "level"),
    "levels, small cnn": partial(_image_parts, "vision_small_cnn_whole", "level", "trained"),
    "image costs": _image_costs,
    "environment steps": partial(_bench, "DQN environment step", "ratio_to_plain", **_bench_choices(["mlp"])),
    "gradient steps": partial(_bench, "DQN gradient step", "ratio_to_plain", **_bench_choices(["mlp", "cnn"])),
    "gradient steps on a GPU": partial(
        _bench, "DQN gradient step", "ratio_to_plain", "bench_h100", **_bench_choices(["mlp", "cnn"])
    ),
    "steps by batch": _steps_by_batch,
    "learning on a GPU": _grid("gridworld_7x7_h100"),
    "learning beside it": _grid("gridworld_7x7_h100_cpu"),
    "tuned in the empty room": partial(summary_table, "empty_room_tuning"),
    "tuned on door key": partial(summary_table, "door_key_tuning"),
    "tuned": partial(summary_table, "gridworld_7x7_tuning"),
    "tuned longer": partial(summary_table, "gridworld_7x7_tuning_plain"),
    "passes": partial(
        _bench, "forward + backward", "ratio_to_floor", **_bench_choices(["mlp", "cnn"], size="8", batch="32")
    ),
}
"""The tables by the names under which pages ask for them: ``{{ table: learning }}``."""


def cell(wanted: str) -> str:
    """Return one cell of a table: ``NAME | HEAD=CELL; HEAD=CELL | HEAD``.

    Raises:
        KeyError: There is no such table.
        ValueError: No such column, or not one row.
    """
    name, filters, head = (part.strip() for part in wanted.split(" | "))
    chosen = dict(pair.strip().split("=", 1) for pair in filters.split("; "))
    found = TABLES[name]().where(**chosen).column(head)
    if len(found) != 1:
        raise ValueError(f"{len(found)} rows of the table {name!r} have {filters}")
    return found[0]


def render(name: str) -> str:
    """Return a table in Markdown.

    Raises:
        ValueError: No table of that name; the message lists the names.
    """
    if name not in TABLES:
        raise ValueError(f"no table is named {name!r}; known: {', '.join(TABLES)}")
    return TABLES[name]().markdown()


def record_line(folder: str) -> str:
    """Return when, with how many seeds and on what a study ran, and links to its raw numbers.

    Args:
        folder: A folder of results, or a folder and the name of a record in it, such as ``"vision_speed/small-cnn"``.
    """
    named = RESULTS / folder
    path = named.with_suffix(".json") if not named.is_dir() else named / "record.json"
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    config, versions, machine = record["config"], record["versions"], record["machine"]
    seeds = config.get("n_seeds", config.get("seeds"))
    gpu = machine["gpu"] or "no GPU"
    home = path.parent
    raw = [*sorted(file.name for file in home.glob("*.csv")), path.name]
    parts = [
        f"Date: {record['date']}",
        *([f"seeds: {seeds}"] if seeds is not None else []),
        f"machine: {machine['processor']}, {machine['cores']} cores, {gpu}",
        f"torch {versions['torch']}, Stable-Baselines3 {versions['stable-baselines3']}, Python {versions['python']}",
        "raw numbers: " + ", ".join(f"[{name}](data/{home.name}/{name})" for name in raw),
    ]
    return f"*{'; '.join(parts)}.*"
