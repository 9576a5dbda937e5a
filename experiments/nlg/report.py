"""From the samples and the audit to tables, plots and a page that shows samples side by side."""

from __future__ import annotations

import html
import json
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from equirl.experiments.figures import COLORS, legend_outside, make_panels
from equirl.experiments.nlg.regard import LABELS
from equirl.experiments.study import Report
from equirl.experiments.tables import markdown_table, read_study

__all__ = ["report_compare", "summarise_audit"]

_COLORS = {"negative": COLORS[3], "neutral": "lightgray", "positive": COLORS[4]}
_SHOWN = 3
_DEALS = 100


def summarise_audit(audit: pd.DataFrame) -> str:
    """Return a Markdown table of an audit: gaps over prompts, and perplexities relative to the plain model's."""
    table = []
    for (group, method), rows in audit.groupby(["group", "method"], sort=False):
        gaps = rows.gap.astype(float)
        cells = [group, method, _small(gaps.mean()), _small(gaps.max()), _small(rows.plain_gap.mean())]
        for column in ("perplexity", "neutral", "mixed"):
            value, plain = _geometric_mean(rows[column]), _geometric_mean(rows[f"plain_{column}"])
            cells.append(f"{value:.2f} ({value / plain:.4f})")
        table.append(cells)
    heads = ("group", "method", "gap, mean", "gap, largest", "plain gap, mean")
    perplexities = ("perplexity of continuations (to plain)", "of neutral text", "of mixed text")
    return markdown_table((*heads, *perplexities), table)


def report_compare(folder: Path) -> Report:
    """Return the tables of the study in a folder, its figure, a page of samples side by side, and the samples as JSONL.

    Raises:
        FileNotFoundError: There are no samples in the folder.
        ValueError: Its files are damaged, or another study's.
    """
    command, about = "equirl nlg compare", ("group", "method", "prompt")
    numbers = ("sentiment", *LABELS, "seconds")
    columns = (*about, "member", "sample", "continuation", "view", *numbers)
    samples = read_study(folder / "samples.csv", columns, command, numbers=numbers, keep_default_na=False)
    plain = ("plain_gap", "plain_perplexity", "plain_neutral", "plain_mixed")
    of_audit = ("gap", "perplexity", "neutral", "mixed", *plain)
    audit = read_study(folder / "audit.csv", (*about, *of_audit), command, numbers=of_audit)
    lines = [json.dumps(row, ensure_ascii=False) for row in samples.to_dict("records")]
    samples["regard"] = samples[list(LABELS)].astype(float).to_numpy().argmax(axis=1)
    text = "\n\n".join([summarise_audit(audit), _summarise_samples(samples), _summarise_regard(samples)])
    page = {"regard.png": _draw(samples), "report.html": _page(samples)}
    return Report(text, {"samples.jsonl": "\n".join(lines), **page})


def _summarise_samples(samples: pd.DataFrame) -> str:
    table = []
    for (group, method), rows in samples.groupby(["group", "method"], sort=False):
        gap, chance = _sentiment_gap(rows), _chance_gap(rows)
        for member, of_member in rows.groupby("member", sort=False):
            regard = of_member.regard.to_numpy()
            cells = [group, method, member, len(of_member)]
            cells += [_share(regard == 0), f"{100 * (regard == 1).mean():.0f}", _share(regard == 2)]
            cells += [f"{of_member.sentiment.astype(float).mean():+.3f}", f"{gap:.3f} ({chance:.3f})"]
            cells.append(f"{of_member.seconds.astype(float).mean():.3f}")
            if "own" in samples:
                cells.append(f"{of_member.own.astype(float).mean():.3f}")
            table.append(cells)
    heads = ("group", "method", "member", "samples", "negative, 95 % interval", "neutral", "positive, 95 % interval")
    more = ("sentiment", "sentiment gap (by chance)", "seconds per sample")
    return markdown_table((*heads, *more, *(("own",) if "own" in samples else ())), table)


def _summarise_regard(samples: pd.DataFrame) -> str:
    """Return a table of regard over all members, and of how often equizero's views tied, by group and method."""
    table = []
    for group, of_group in samples.groupby("group", sort=False):
        by_prompt = of_group.assign(bad=of_group.regard == 0).groupby(["method", "prompt"], sort=False).bad.mean()
        for method, rows in of_group.groupby("method", sort=False):
            views = rows.drop_duplicates("prompt").view.astype(str)
            worst = ""
            if "plain" in by_prompt.index.get_level_values(0) and method != "plain":
                more = by_prompt[method] - by_prompt["plain"]
                worst = f"{more.idxmax()}: {100 * more.max():+.0f}"
            shares = (f"{100 * (rows.regard == number).mean():.1f}" for number in (0, 2))
            tied = f"{views.str.contains('/').sum()} of {len(views)}" if (views != "").any() else ""
            table.append((group, method, *shares, tied, worst))
    heads = ("group", "method", "negative", "positive", "prompts with tied views", "most negative against plain")
    return markdown_table(heads, table)


def _sentiment_gap(rows: pd.DataFrame) -> float:
    """Return the Wasserstein distance of sentiments between members, mean over pairs (Huang et al. 2020)."""
    values = [part.sentiment.astype(float).to_numpy() for _, part in rows.groupby("member", sort=False)]
    pairs = [(a, b) for at, a in enumerate(values) for b in values[at + 1 :]]
    return float(np.mean([stats.wasserstein_distance(a, b) for a, b in pairs])) if pairs else 0.0


def _chance_gap(rows: pd.DataFrame) -> float:
    """Return the sentiment gap where members are dealt at random: that of finite samples of one distribution, mean."""
    generator = np.random.default_rng(0)
    dealt = (rows.assign(member=generator.permutation(rows.member.to_numpy())) for _ in range(_DEALS))
    return float(np.mean([_sentiment_gap(some) for some in dealt]))


def _share(is_so: np.ndarray) -> str:
    interval = stats.binomtest(int(is_so.sum()), len(is_so)).proportion_ci(method="wilson")
    return f"{100 * is_so.mean():.0f} ({100 * interval.low:.0f} to {100 * interval.high:.0f})"


def _geometric_mean(values: pd.Series) -> float:
    return float(np.exp(np.log(values.astype(float)).mean()))


def _small(value: float) -> str:
    return f"{value:.3f}" if value >= 1e-3 else f"{value:.1e}"


def _draw(samples: pd.DataFrame) -> Figure:
    groups = list(dict.fromkeys(samples.group))
    figure, rows = make_panels(len(groups), 1, width=9, height=1.4 + 2.3 * len(groups))
    panels = [axes for (axes,) in rows]
    for axes, group in zip(panels, groups, strict=True):
        bars = list(samples[samples.group == group].groupby(["method", "member"], sort=False))
        bottom = np.zeros(len(bars))
        for number, label in enumerate(LABELS):
            heights = np.array([100 * (rows.regard == number).mean() for _, rows in bars])
            axes.bar(range(len(bars)), heights, 0.8, bottom=bottom, color=_COLORS[label], label=label)
            bottom += heights
        names = [f"{method}\n{member}" for (method, member), _ in bars]
        axes.set_xticks(range(len(bars)), names, fontsize=6)
        axes.set_ylabel("% of samples", fontsize=8)
        axes.set_title(f"{group}: regard, group hidden", fontsize=9)
    legend_outside(figure)
    return figure


def _page(samples: pd.DataFrame) -> str:
    """Return a page of its own, with the first samples of every prompt, methods side by side."""
    methods = list(dict.fromkeys(samples.method))
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>equirl nlg</title><style>"
        "body{font:14px sans-serif;margin:2em}table{border-collapse:collapse;margin-bottom:2em}"
        "td,th{border:1px solid #ccc;padding:4px 8px;vertical-align:top;text-align:left}"
        ".negative{background:#fdd}.positive{background:#dfd}</style><h1>Samples side by side</h1>"
        "<p>Colours: regard, with the group hidden from the classifier.</p><img src='regard.png' width='800' alt=''>"
    ]
    for group, of_group in samples.groupby("group", sort=False):
        heads = "".join(f"<th>{html.escape(method)}" for method in methods)
        parts.append(f"<h2>{html.escape(str(group))}</h2><table><tr><th>prompt{heads}")
        for prompt, of_prompt in of_group.groupby("prompt", sort=False):
            for number in range(_SHOWN):
                cells = []
                for method in methods:
                    row = of_prompt[(of_prompt.method == method) & (of_prompt["sample"].astype(int) == number)]
                    if len(row):
                        cells.append(
                            f"<td class='{LABELS[row.regard.iloc[0]]}'>{html.escape(row.continuation.iloc[0])}"
                        )
                    else:
                        cells.append("<td>")
                start = html.escape(str(prompt)) if number == 0 else ""
                parts.append(f"<tr><td>{start}{''.join(cells)}")
        parts.append("</table>")
    return "\n".join(parts)
