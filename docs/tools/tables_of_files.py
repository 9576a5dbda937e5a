"""Tables as text, and how they are read from the files in experiments/results."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["METHODS", "RESULTS", "Table", "image_table", "read_rows", "summary_table"]

RESULTS = Path(__file__).resolve().parents[2] / "experiments" / "results"

METHODS = {"lambda_equitune": "λ-equitune"}


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


def _variant(row: dict[str, str]) -> str:
    name = METHODS.get(row["method"], row["method"])
    if row["method"] == "equizero":
        name += f", {row['kind']}"
    if row["trained"] == "lambda":
        name += f", {int(row['labels']):,} label" + ("s" if row["labels"] != "1" else "")
    return name


def image_table(folder: str) -> Table:
    """Return the accuracies of an image study, a row for each group and method."""
    table = summary_table(folder)
    measured = [head for head in table.heads if head.startswith(("upright", "uniformly", "turned"))]
    measured += ["same answer when turned"]
    rows = []
    for cells in table.rows:
        row = dict(zip(table.heads, cells, strict=True))
        rows.append((row["group"], _variant(row), *(row[head] for head in measured)))
    return Table(("group", "method", *measured), tuple(rows))
