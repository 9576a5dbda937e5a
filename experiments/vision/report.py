"""From the CSVs of a study of images to its tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from equirl.experiments.study_files import read_study
from equirl.files import written_whole
from equirl.names import unknown_name_message
from equirl.rotations import IMAGE_GROUPS, view_names

__all__ = ["report_study"]

_COMMAND = "equirl vision zero-shot` or `finetune"
_VARIANT = ["group", "method", "level", "kind", "reads", "trained", "labels"]
_NAMES = {
    "plain": "plain",
    "equitune": "equitune",
    "equizero": "equizero",
    "lambda_equitune": "λ-equitune",
}


def report_study(
    folder: Path, methods: Sequence[str] = (), out: Path | None = None
) -> tuple[str, pd.DataFrame, list[str]]:
    """Write ``summary.md``, ``accuracy.png`` and, where they have views to weigh, ``weights.png``, ``reliability.png``.

    Args:
        folder: The study's folder.
        methods: Methods to draw; none: all.
        out: Folder of the files; by default the study's.

    Returns:
        The summary, the accuracies that it is made from, and the names of the files.

    Raises:
        FileNotFoundError: There is no study in the folder.
        ValueError: A method that the study has not, or a CSV that is damaged.
    """
    if not (folder / "study.csv").exists():
        raise FileNotFoundError(f"{folder} has no study.csv; `equirl vision zero-shot` or `finetune` writes one")
    study = _read(folder / "study.csv", "angle", ("accuracy", "same", "seed"))
    for method in methods:
        if method not in set(study.method):
            raise ValueError(unknown_name_message(f"method in {folder}", method, set(study.method)))
    study, weights, reliability = (
        _of(table, methods)
        for table in (
            study,
            _read(folder / "weights.csv", "view", ("mean", "low", "high", "largest"), may_be_empty=True),
            _read(folder / "reliability.csv", "method", ("tenth", "upright", "accuracy"), may_be_empty=True),
        )
    )
    errors = read_study(folder / "errors.csv", ("group", "n", "mean", "largest"), _COMMAND, may_be_empty=True)
    out = out or folder
    text = "\n\n".join(filter(None, [_table(study), _choices(weights, reliability), _errors(errors)]))
    with written_whole(out / "summary.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    figures = {"accuracy": _draw_accuracy(study)}
    if len(weights):
        figures["weights"] = _draw_weights(weights)
    if len(reliability):
        figures["reliability"] = _draw_reliability(reliability)
    for name in ("accuracy", "weights", "reliability"):
        path = out / f"{name}.png"
        if name in figures:
            with written_whole(path) as temporary:
                figures[name].savefig(temporary, dpi=150, format="png")
        else:
            path.unlink(missing_ok=True)  # of methods that are not drawn now
    return text, study, ["summary.md", *(f"{name}.png" for name in figures)]


def _read(path: Path, named: str, numbers: Sequence[str], may_be_empty: bool = False) -> pd.DataFrame:
    columns = (*_VARIANT, named, *numbers)
    table = read_study(
        path, columns, _COMMAND, numbers=numbers, may_be_empty=may_be_empty, dtype={"angle": str, "view": str}
    )
    for kind, known in (("group", IMAGE_GROUPS), ("method", _NAMES)):
        for name in table[kind].unique():
            if name not in known:
                raise ValueError(f"{path}: {unknown_name_message(kind, name, known)}")
    return table


def _of(table: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    return table[table.method.isin(methods)] if methods else table


def _label(key: Sequence[object]) -> str:
    """Return what a variant is called in a figure."""
    _, method, level, kind, reads, trained, labels = (str(part) for part in key)
    parts = [_NAMES[method], "" if kind == "-" else kind, "on maps" if level == "maps" else ""]
    parts += ["reading inputs" if reads == "inputs" else "", "whole" if trained == "whole" else ""]
    parts += ["" if trained == "nothing" else "1 label" if labels == "1" else f"{labels} labels"]
    return ", ".join(part for part in parts if part)


def _table(study: pd.DataFrame) -> str:
    """Return accuracies in per cent: mean over seeds, and their range."""
    angles = [angle for angle in ("0", "uniform", "any") if angle in set(study.angle)]
    heads = {"0": "upright", "uniform": "uniformly turned", "any": "turned by any angle"}
    lines = [
        "| group | method | level | kind | reads | trained | labels | seeds | "
        + " | ".join(heads[angle] for angle in angles)
        + " | worst orientation | same answer when turned |",
        "|---" * (10 + len(angles)) + "|",
    ]
    for key, rows in study.groupby(_VARIANT, sort=False):
        cells = [*map(str, key), str(rows.seed.nunique())]
        cells += [_spread(rows[rows.angle == angle].accuracy) for angle in angles]
        by_angle = rows.groupby("angle").accuracy.mean()
        views = view_names(str(key[0]))
        cells.append(f"{100 * by_angle[list(views)].min():.1f}" if set(views) <= set(by_angle.index) else "")
        cells.append(f"{100 * rows[rows.angle == 'uniform'].same.mean():.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(values: pd.Series) -> str:
    if not len(values):
        return ""
    text = f"{100 * values.mean():.1f}"
    return text if len(values) == 1 else f"{text} ({100 * values.min():.1f} to {100 * values.max():.1f})"


def _choices(weights: pd.DataFrame, reliability: pd.DataFrame) -> str:
    """Return how much the upright view weighs on upright images, over the whole test set, and what margins say."""
    if not len(weights):
        return ""
    lines = [
        "| group | method | level | kind | reads | trained | labels | weight of the upright view, mean "
        "| it is the heaviest | by chance | it is chosen: least, greatest tenth of margins | accuracy there |",
        "|---" * 12 + "|",
    ]
    for key, rows in weights.groupby(_VARIANT, sort=False):
        upright = rows[rows["view"] == "0"]
        cells = [*map(str, key), f"{upright['mean'].mean():.3f}", f"{100 * upright.largest.mean():.1f}"]
        cells.append(f"{100 / rows['view'].nunique():.1f}")
        of_choice = reliability[(reliability[_VARIANT] == list(key)).all(axis=1)] if len(reliability) else reliability
        for column in ("upright", "accuracy"):
            shares = 100 * of_choice.groupby("tenth")[column].mean()
            cells.append(f"{shares.iloc[0]:.0f}, {shares.iloc[-1]:.0f}" if len(shares) else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _errors(errors: pd.DataFrame) -> str:
    """Return how far interpolated rotations are from a group."""
    return "\n".join(
        f"{row.group} is interpolated: turning twice is not turning once by the sum, |ρ(g)ρ(h)x - ρ(gh)x| / |x| is "
        f"{row.mean:.3f} on average and at most {row.largest:.3f} ({row.n} test images, all pairs)."
        for row in errors.itertuples()
    )


def _draw_accuracy(study: pd.DataFrame) -> Figure:
    """Draw accuracy by angle, a panel for each group, a line for each variant; bars are the range over seeds."""
    figure, panels = _panels(list(dict.fromkeys(study.group)))
    for group, axes in panels.items():
        of_group = study[study.group == group]
        angles = [angle for angle in (*view_names(group), "uniform", "any") if angle in set(of_group.angle)]
        variants = list(of_group.groupby(_VARIANT, sort=False))
        for number, (key, rows) in enumerate(variants):
            by_angle = 100 * rows.groupby("angle").accuracy.agg(["mean", "min", "max"])
            errors = np.abs(by_angle[["min", "max"]].to_numpy().T - by_angle["mean"].to_numpy())
            label = _label(key)
            # Lines join orientations; what is measured over many of them stands alone.
            at = [angles.index(str(angle)) for angle in by_angle.index]
            color = matplotlib.colormaps["tab20"](number % 20) if len(variants) > 10 else f"C{number}"
            axes.errorbar(at, by_angle["mean"], errors, fmt="o", ms=4, capsize=2, color=color, label=label)
            turned = [angle for angle in view_names(group) if angle in by_angle.index]
            axes.plot([angles.index(angle) for angle in turned], by_angle.loc[turned, "mean"], color=color)
        axes.set_xticks(range(len(angles)), [angle.replace("mirror ", "mirror\n") for angle in angles], fontsize=7)
        axes.set_ylabel("accuracy in %", fontsize=8)
        axes.set_title(f"{group}: images turned by", fontsize=9)
        axes.grid(alpha=0.3)
    _shared_legend(figure)
    return figure


def _draw_weights(weights: pd.DataFrame) -> Figure:
    """Draw the weight of each view of upright images: mean, and the middle nine tenths, over the whole test set."""
    figure, panels = _panels(list(dict.fromkeys(weights.group)))
    for group, axes in panels.items():
        of_group = weights[weights.group == group]
        views = list(view_names(group))
        variants = list(of_group.groupby(_VARIANT, sort=False))
        for number, (key, rows) in enumerate(variants):
            values = rows.groupby("view")[["mean", "low", "high"]].mean().loc[views]
            places = np.arange(len(views)) + 0.8 * (number + 0.5) / len(variants) - 0.4
            errors = np.stack([values["mean"] - values.low, values.high - values["mean"]]).clip(min=0)
            thin = {"elinewidth": 0.5, "capsize": 1}
            axes.bar(places, values["mean"], 0.8 / len(variants), yerr=errors, error_kw=thin, label=_label(key))
        axes.axhline(1 / len(views), color="gray", linestyle=":")
        axes.set_xticks(range(len(views)), [view.replace("mirror ", "mirror\n") for view in views], fontsize=7)
        axes.set_ylabel("weight", fontsize=8)
        axes.set_title(f"{group}: views of upright images, mean and 5 to 95 % of the test set", fontsize=8)
    _shared_legend(figure)
    return figure


def _panels(groups: Sequence[str]) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure with a panel for each group, two in a row."""
    columns = min(2, len(groups))
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(max(6.5, 5 * columns), 0.8 + 3 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels[len(groups) :]:
        axes.remove()
    return figure, dict(zip(groups, panels, strict=False))


def _shared_legend(figure: Figure) -> None:
    """Put one legend below the panels, each label once."""
    found: dict[Any, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        found.update(zip(labels, handles, strict=True))
    figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=3, fontsize=7)


def _draw_reliability(reliability: pd.DataFrame) -> Figure:
    """Draw equizero's choice by the margin between its best and its second view, in tenths of the test set."""
    groups = list(dict.fromkeys(reliability.group))
    figure = Figure(figsize=(8.5, 0.5 + 3 * len(groups)), layout="constrained")
    panels = figure.subplots(len(groups), 2, squeeze=False)
    for row, group in zip(panels, groups, strict=True):
        for axes, column, title in zip(row, ("upright", "accuracy"), ("upright view chosen", "accuracy"), strict=True):
            for key, rows in reliability[reliability.group == group].groupby(_VARIANT, sort=False):
                shares = 100 * rows.groupby("tenth")[column].mean()
                axes.plot(shares.index, shares, marker="o", label=_label(key))
            axes.set_xlabel("tenth of upright test images, by margin")
            axes.set_ylabel(f"{title}, %", fontsize=8)
            axes.set_ylim(0, 102)
            axes.set_title(str(group), fontsize=9)
            axes.grid(alpha=0.3)
        row[-1].legend(fontsize=6)
    return figure
