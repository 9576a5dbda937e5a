"""The report of a study of images: tables in ``summary.md`` and figures, made from its CSVs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from equirl.experiments.tables import read_study
from equirl.experiments.vision.figures import METHODS, VARIANT, draw_accuracy, draw_reliability, draw_weights
from equirl.files import written_whole
from equirl.names import unknown_name_message
from equirl.rotations import IMAGE_GROUPS, view_names

__all__ = ["report_study"]

_COMMAND = "equirl vision zero-shot` or `finetune"


def report_study(
    folder: Path, methods: Sequence[str] = (), out: Path | None = None
) -> tuple[str, pd.DataFrame, list[str]]:
    """Write ``summary.md`` and ``accuracy.png``, and ``weights.png`` and ``reliability.png`` if methods weigh views.

    Args:
        folder: The study's folder.
        methods: Methods to draw; none: all.
        out: Folder of the files; by default the study's.

    Returns:
        The summary, the accuracies that it is made from, and the names of the files.

    Raises:
        FileNotFoundError: There is no study in the folder.
        ValueError: A method that the study does not have, or a damaged CSV.
    """
    if not (folder / "study.csv").exists():
        raise FileNotFoundError(f"{folder} has no study.csv; `equirl vision zero-shot` or `finetune` writes one")
    study = _read(folder / "study.csv", "angle", ("accuracy", "same", "seed", "n"))
    for method in methods:
        if method not in set(study.method):
            raise ValueError(unknown_name_message(f"method in {folder}", method, set(study.method)))
    weights = _read(folder / "weights.csv", "view", ("mean", "low", "high", "largest"), may_be_empty=True)
    reliability = _read(folder / "reliability.csv", "method", ("tenth", "upright", "accuracy"), may_be_empty=True)
    if methods:
        study, weights, reliability = (table[table.method.isin(methods)] for table in (study, weights, reliability))
    errors = read_study(folder / "errors.csv", ("group", "n", "mean", "largest"), _COMMAND, may_be_empty=True)
    out = out or folder
    text = "\n\n".join(filter(None, [_table(study), _choices(weights, reliability), _errors(errors)]))
    with written_whole(out / "summary.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    about = _about(folder, study)
    figures = {"accuracy": draw_accuracy(study, about)}
    if len(weights):
        figures["weights"] = draw_weights(weights, about)
    if len(reliability):
        figures["reliability"] = draw_reliability(reliability, about)
    for name in ("accuracy", "weights", "reliability"):
        path = out / f"{name}.png"
        if name in figures:
            with written_whole(path) as temporary:
                figures[name].savefig(temporary, dpi=150, format="png")
        else:
            path.unlink(missing_ok=True)  # it showed methods that are not drawn now
    return text, study, ["summary.md", *(f"{name}.png" for name in figures)]


def _read(path: Path, named: str, numbers: Sequence[str], may_be_empty: bool = False) -> pd.DataFrame:
    columns = (*VARIANT, named, *numbers)
    table = read_study(
        path, columns, _COMMAND, numbers=numbers, may_be_empty=may_be_empty, dtype={"angle": str, "view": str}
    )
    for kind, known in (("group", IMAGE_GROUPS), ("method", METHODS)):
        for name in table[kind].unique():
            if name not in known:
                raise ValueError(f"{path}: {unknown_name_message(kind, name, known)}")
    return table


def _about(folder: Path, study: pd.DataFrame) -> str:
    """Return the network, the images and the seeds of a study, for its figures."""
    try:
        config = json.loads((folder / "record.json").read_text(encoding="utf-8"))["config"]
        about = f"{config['model']} on {config['data']}, "
    except (OSError, ValueError, KeyError, TypeError):  # the CSVs suffice for a report
        about = ""
    seeds = study.seed.nunique()
    return f"{about}{study.n.max()} test images, {seeds} seed{'s' if seeds > 1 else ''}"


def _table(study: pd.DataFrame) -> str:
    """Return accuracies in per cent: mean over seeds, and their range."""
    names = {"0": "upright", "uniform": "uniformly turned", "any": "turned by any angle"}
    angles = [angle for angle in names if angle in set(study.angle)]
    lines = []
    for key, rows in study.groupby(VARIANT, sort=False):
        by_angle = rows.groupby("angle").accuracy.mean()
        views = list(view_names(str(key[0])))
        worst = f"{100 * by_angle[views].min():.1f}" if set(views) <= set(by_angle.index) else ""
        spreads = [_spread(rows[rows.angle == angle].accuracy) for angle in angles]
        same = f"{100 * rows[rows.angle == 'uniform'].same.mean():.1f}"
        lines.append([*map(str, key), str(rows.seed.nunique()), *spreads, worst, same])
    heads = ["seeds", *(names[angle] for angle in angles), "worst orientation", "same answer when turned"]
    return _markdown([*VARIANT, *heads], lines)


def _spread(values: pd.Series) -> str:
    if not len(values):
        return ""
    text = f"{100 * values.mean():.1f}"
    return text if len(values) == 1 else f"{text} ({100 * values.min():.1f} to {100 * values.max():.1f})"


def _choices(weights: pd.DataFrame, reliability: pd.DataFrame) -> str:
    """Return the weight of the upright view over the upright test images, and how it depends on the margin."""
    if not len(weights):
        return ""
    lines = []
    for key, rows in weights.groupby(VARIANT, sort=False):
        upright = rows[rows["view"] == "0"]
        cells = [*map(str, key), f"{upright['mean'].mean():.3f}", f"{100 * upright.largest.mean():.1f}"]
        cells.append(f"{100 / rows['view'].nunique():.1f}")
        of_choice = reliability[(reliability[VARIANT] == list(key)).all(axis=1)] if len(reliability) else reliability
        for column in ("upright", "accuracy"):
            shares = 100 * of_choice.groupby("tenth")[column].mean()
            cells.append(f"{shares.iloc[0]:.0f}, {shares.iloc[-1]:.0f}" if len(shares) else "")
        lines.append(cells)
    heads = ["weight of the upright view, mean", "it is the heaviest", "by chance"]
    heads += ["it is chosen: least, greatest tenth of margins", "accuracy there"]
    return _markdown([*VARIANT, *heads], lines)


def _markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [f"| {' | '.join(cells)} |" for cells in (heads, *lines)]
    return "\n".join([rows[0], "|---" * len(heads) + "|", *rows[1:]])


def _errors(errors: pd.DataFrame) -> str:
    """Return a sentence for each interpolated group: how far its rotations are from a group."""
    return "\n".join(
        f"{row.group} is interpolated: turning twice is not turning once by the sum, |ρ(g)ρ(h)x - ρ(gh)x| / |x| is "
        f"{row.mean:.3f} on average and at most {row.largest:.3f} ({row.n} test images, all pairs)."
        for row in errors.itertuples()
    )
