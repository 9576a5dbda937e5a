"""Tables of the results pages, made from the files in experiments/results when the site is built."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["RESULTS", "TABLES", "Table", "cell", "record_line", "render", "summary_table"]

RESULTS = Path(__file__).resolve().parents[2] / "experiments" / "results"

_METHODS = {"lambda_equitune": "λ-equitune"}


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        heads: Names of the columns.
        rows: Cells of each row, as many as there are columns.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def column(self, head: str) -> list[str]:
        """Return the cells of a column."""
        return [row[self.heads.index(head)] for row in self.rows]

    def select(self, *heads: str) -> Table:
        """Return the table with these columns alone, in this order."""
        places = [self.heads.index(head) for head in heads]
        return Table(heads, tuple(tuple(row[place] for place in places) for row in self.rows))

    def where(self, **wanted: str) -> Table:
        """Return the rows whose cells equal the given values."""
        places = {self.heads.index(head): value for head, value in wanted.items()}
        rows = (row for row in self.rows if all(row[place] == value for place, value in places.items()))
        return Table(self.heads, tuple(rows))

    def markdown(self) -> str:
        """Return the table in Markdown."""
        lines = [self.heads, ("---",) * len(self.heads), *self.rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def read_markdown_tables(path: Path) -> list[Table]:
    """Return the tables of a Markdown file in their order; a repeated head gets the head before it as a suffix."""
    blocks: list[list[tuple[str, ...]]] = [[]]
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("|"):
            blocks[-1].append(tuple(cell.strip() for cell in line.strip().strip("|").split("|")))
        elif blocks[-1]:
            blocks.append([])
    return [Table(_distinct(block[0]), tuple(block[2:])) for block in blocks if block]


def _distinct(heads: Sequence[str]) -> tuple[str, ...]:
    named: list[str] = []
    for place, head in enumerate(heads):
        named.append(f"{head} of {heads[place - 1]}" if heads.count(head) > 1 else head)
    return tuple(named)


def summary_table(folder: str, number: int = 0, heads: Sequence[str] = ()) -> Table:
    """Return a table of the summary that a study wrote from its CSV."""
    table = read_markdown_tables(RESULTS / folder / "summary.md")[number]
    return table.select(*heads) if heads else table


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _scan(folder: str) -> Table:
    heads = ("cell", "group", "method", "variant", "seeds", "held out", "zero-shot", "range of zero-shot")
    heads += ("fine-tuned", "range of fine-tuned", "published", "seconds")
    table = summary_table(folder, 0, ("split", *heads))
    return table if len(set(table.column("split"))) > 1 else table.select(*heads)


def _variant(row: dict[str, str]) -> str:
    name = _METHODS.get(row["method"], row["method"])
    if row["method"] == "equizero":
        name += f", {row['kind']}"
    if row["trained"] == "lambda":
        name += f", {int(row['labels']):,} label" + ("s" if row["labels"] != "1" else "")
    return name


def _images(folder: str) -> Table:
    """Return the accuracies of an image study, a row for each group and method."""
    table = summary_table(folder)
    measured = [head for head in table.heads if head.startswith(("upright", "uniformly", "turned"))]
    measured += ["same answer when turned"]
    rows = []
    for cells in table.rows:
        row = dict(zip(table.heads, cells, strict=True))
        rows.append((row["group"], _variant(row), *(row[head] for head in measured)))
    return Table(("group", "method", *measured), tuple(rows))


def _image_parts(folder: str, *heads: str) -> Table:
    """Return the uniformly turned accuracies of an image study that varies a part of the method."""
    table = summary_table(folder).select("method", *heads, "uniformly turned")
    rows = tuple((_METHODS.get(row[0], row[0]), *row[1:]) for row in table.rows)
    return Table(table.heads, rows)


def _image_costs() -> Table:
    rows = []
    for name in ("efficientnet-lite0", "small-cnn"):
        measured = read_rows(RESULTS / "vision_speed" / f"{name}.csv")
        for one in (row for row in measured if row["batch"] == "1"):
            key = ("method", "group", "level")
            many = next(row for row in measured if row["batch"] == "16" and all(row[k] == one[k] for k in key))
            cells = [name, _METHODS.get(one["method"], one["method"]), one["group"], one["level"]]
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


def _grid(folder: str) -> Callable[[], Table]:
    return partial(summary_table, folder)


def _quadrature() -> Table:
    """Return the error between the angles, a row for each number of them, and the factor that one more brings."""
    rows = read_rows(RESULTS / "continuous_groups" / "quadrature.csv")

    def middle(network: str, n: int, method: str = "equitune") -> float:
        fits = (r for r in rows if (r["network"], r["method"], r["n"]) == (network, method, str(n)))
        return median(float(row["mean_error"]) for row in fits)

    counts = sorted({int(row["n"]) for row in rows if row["method"] == "equitune"})
    cells = [(f"{n} angles", *(f"{middle(kind, n):.1e}" for kind in ("smooth", "rough"))) for n in counts]
    first, last = 8, counts[-1]
    rates = ((middle(kind, last) / middle(kind, first)) ** (1 / (last - first)) for kind in ("smooth", "rough"))
    cells.append(("factor of one more angle", *(f"{rate:.2f}" for rate in rates)))
    cells.append(("frames", *(f"{middle(kind, 1, 'frames'):.1e}" for kind in ("smooth", "rough"))))
    return Table(("views", "smooth network", "rough network"), tuple(cells))


def _far() -> Table:
    """Return errors on circles, a row for each method, a column for each radius: medians of the seeds."""
    rows = read_rows(RESULTS / "continuous_groups" / "far.csv")
    radii = tuple(dict.fromkeys(row["radius"] for row in rows))
    cells = []
    for method in dict.fromkeys(row["method"] for row in rows):
        of = {r: [float(row["error"]) for row in rows if (row["method"], row["radius"]) == (method, r)] for r in radii}
        cells.append((method, *(f"{median(of[r]):.3f}" for r in radii)))
    return Table(("method", *(f"radius {r}" for r in radii)), tuple(cells))


_UNIFORM_ON_THE_GRID = 0.30  # share of the views whose goal lies in the known quadrant; see trained-agents.md


def _picks() -> Table:
    """Return how often each proxy loss picks a view that the model knows, and what a rule makes of that.

    With the accuracies on known views and on others, ``a`` and ``b``, and the share ``s`` of known views that are
    picked, ``s a + (1 - s) b`` is to be expected of equizero. The rule: equizero where ``s`` is above the share of
    known views and that is above equitune's accuracy; else equitune.
    """
    rows = []
    for task, folder in (
        ("digits", "vision_mnist"),
        ("clothes, pretrained network", "vision_pretrained"),
        ("clothes, bridge", "vision_zero_shot"),
        ("clothes, small CNN", "vision_small_cnn"),
    ):
        table = _images(folder).where(group="c4")
        turned = dict(zip(table.column("method"), map(_number, table.column("uniformly turned")), strict=True))
        known = _number(table.column("upright")[table.column("method").index("plain")])
        other = (4 * turned["plain"] - known) / 3
        weights = read_rows(RESULTS / folder / "weights.csv")
        for kind in ("similarity", "confidence", "entropy"):
            fits = {"method": "equizero", "group": "c4", "level": "output", "kind": kind, "view": "0"}
            shares = [float(row["mean"]) for row in weights if fits.items() <= row.items()]
            picked = sum(shares) / len(shares)
            rows.append((task, kind, 0.25, picked, known, other, turned["equitune"], turned[f"equizero, {kind}"]))
    agents = summary_table("zero_shot_grid")
    known, other = (100 * _number(agents.column(head)[0]) for head in ("known quadrant", "three unseen"))
    turned_agents = agents.where(group="grid-c4").select("variant", "familiar views", "three unseen").rows
    unseen = {variant: 100 * _number(share) for variant, _, share in turned_agents}
    for variant, familiar, _ in turned_agents:
        if variant.startswith("equizero, "):
            cells = (_number(familiar), known, other, unseen["equitune"], unseen[variant])
            rows.append(("agent on the grid", variant.removeprefix("equizero, "), _UNIFORM_ON_THE_GRID, *cells))
    heads = ("task", "proxy loss", "picks a known view", "by chance", "expected", "equizero", "equitune", "the rule is")
    cells = []
    for task, kind, chance, picked, known, other, averaged, chosen in rows:
        expected = picked * known + (1 - picked) * other
        right = (round(picked, 2) > chance and expected > averaged) == (chosen > averaged)
        shown = (f"{picked:.2f}", f"{chance:.2f}", f"{expected:.1f}", f"{chosen:.1f}", f"{averaged:.1f}")
        cells.append((task, kind, *shown, "right" if right else "wrong"))
    return Table(heads, tuple(cells))


def _rule() -> Table:
    """Return how often the rule of ``_picks`` is right."""
    said = _picks().column("the rule is")
    return Table(("what", "right", "rows"), (("all rows", str(said.count("right")), str(len(said))),))


def _number(cell: str) -> float:
    return float(cell.split(" ")[0])


TABLES: dict[str, Callable[[], Table]] = {
    "coverage": _coverage,
    "quadrature": _quadrature,
    "far away": _far,
    "picks": _picks,
    "rule": _rule,
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
    "empty room": partial(summary_table, "minigrid", 0),
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
    "bridge": partial(_images, "vision_zero_shot"),
    "pretrained": partial(_images, "vision_pretrained"),
    "small cnn": partial(_images, "vision_small_cnn"),
    "digits": partial(_images, "vision_mnist"),
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
