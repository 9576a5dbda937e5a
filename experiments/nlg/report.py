"""From the samples and the audit to tables, plots and a page that shows samples side by side."""

from __future__ import annotations

import html
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from equirl.agents.intervals import interval_text, stratified_rate_interval
from equirl.experiments.figures import styles_of
from equirl.experiments.nlg.scores import LABELS
from equirl.experiments.study import Report
from equirl.experiments.tables import markdown_table, read_study

__all__ = ["report_compare", "summarise_audit"]

_SHOWN = 3
_DEALS = 100


def summarise_audit(audit: pd.DataFrame) -> str:
    """Return a Markdown table of an audit: gaps over prompts, and perplexities relative to the plain model's."""
    table = []
    for (group, method), rows in audit.groupby(["group", "method"], sort=False):
        cells = [group, method, _small(rows.gap.mean()), _small(rows.gap.max()), _small(rows.plain_gap.mean())]
        for column in ("perplexity", "neutral", "mixed"):
            value, plain = (np.exp(np.log(rows[name]).mean()) for name in (column, f"plain_{column}"))
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
    samples["regard"] = samples[list(LABELS)].to_numpy().argmax(axis=1)
    text = "\n\n".join([summarise_audit(audit), _summarise_samples(samples), _summarise_regard(samples)])
    files: dict[str, Figure | str] = {"samples.jsonl": "\n".join(lines)}
    files |= {"regard.png": _draw(samples, audit), "report.html": _page(samples)}
    return Report(text, files)


def _summarise_samples(samples: pd.DataFrame) -> str:
    table = []
    for (group, method), rows in samples.groupby(["group", "method"], sort=False):
        gap, chance = _sentiment_gap(rows), _chance_gap(rows)
        for member, of_member in rows.groupby("member", sort=False):
            regard, prompts = of_member.regard.to_numpy(), of_member.prompt.to_numpy()
            cells = [group, method, member, len(of_member)]
            cells += [_share(regard == 0, prompts), f"{100 * (regard == 1).mean():.0f}", _share(regard == 2, prompts)]
            cells += [f"{of_member.sentiment.mean():+.3f}", f"{gap:.3f} ({chance:.3f})"]
            cells.append(f"{of_member.seconds.mean():.3f}")
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
    values = [part.sentiment.to_numpy() for _, part in rows.groupby("member", sort=False)]
    gaps = [stats.wasserstein_distance(a, b) for a, b in itertools.combinations(values, 2)]
    return float(np.mean(gaps)) if gaps else 0.0


def _chance_gap(rows: pd.DataFrame) -> float:
    """Return the sentiment gap where members are dealt at random: that of finite samples of one distribution, mean."""
    generator = np.random.default_rng(0)
    dealt = (rows.assign(member=generator.permutation(rows.member.to_numpy())) for _ in range(_DEALS))
    return float(np.mean([_sentiment_gap(some) for some in dealt]))


def _share(is_so: np.ndarray, prompts: np.ndarray) -> str:
    """Return a share of samples in per cent, and the 95 % interval for these prompts."""
    interval = stratified_rate_interval(is_so, prompts)
    return f"{100 * is_so.mean():.0f} ({interval_text((100 * interval[0], 100 * interval[1]), '.0f')})"


def _small(value: float) -> str:
    return f"{value:.3f}" if value >= 1e-3 else f"{value:.1e}"


def _draw(samples: pd.DataFrame, audit: pd.DataFrame) -> Figure:
    """Draw the shares of negative and positive continuations of each member, with 95 % intervals."""
    groups = list(dict.fromkeys(samples.group))
    methods = {group: list(dict.fromkeys(samples[samples.group == group].method)) for group in groups}
    heights = [0.5 + 0.42 * len(methods[group]) for group in groups]
    figure = Figure(figsize=(10, 1.2 + sum(heights)), layout="constrained")
    panels = figure.subplots(len(groups), 2, squeeze=False, height_ratios=heights, sharex="col")
    for row, group in enumerate(groups):
        of_group = samples[samples.group == group]
        members = list(dict.fromkeys(of_group.member))
        styles = styles_of(members)
        for axes, label in zip(panels[row], ("negative", "positive"), strict=True):
            for number, member in enumerate(members):
                of_member = of_group[of_group.member == member]
                rows_of = [of_member[of_member.method == method] for method in methods[group]]
                shares = [rows.regard == LABELS.index(label) for rows in rows_of]
                middles = np.array([100 * share.mean() for share in shares])
                pairs = zip(shares, rows_of, strict=True)
                bounds = np.array([stratified_rate_interval(share, rows.prompt) for share, rows in pairs])
                places = np.arange(len(shares)) + 0.22 * (number - (len(members) - 1) / 2)
                errors = np.abs(100 * bounds.T - middles)
                style: Any = {**styles[member], "linestyle": "none"}
                axes.errorbar(middles, places, xerr=errors, markersize=5, capsize=2, label=str(member), **style)
            axes.set_yticks(range(len(methods[group])), methods[group] if label == "negative" else [], fontsize=8)
            axes.invert_yaxis()
            axes.grid(axis="x", alpha=0.3)
            axes.set_title(f"{group}: {label} regard", fontsize=9)
        panels[row, 1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    for axes in panels[-1]:
        axes.set_xlabel("share of the sampled continuations (%), with 95 % interval", fontsize=8)
    exact = audit[audit.method != "plain"].gap
    if len(exact):
        figure.suptitle(
            f"The symmetrized models treat the members alike: probabilities differ by {exact.max():.0e} at most.\n"
            "What differs between their members is chance: each has its own samples.",
            fontsize=9,
        )
    return figure


def _page(samples: pd.DataFrame) -> str:
    """Return a page of its own, with the first samples of every prompt, methods side by side."""
    methods = list(dict.fromkeys(samples.method))
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>equirl nlg</title>"
        "<meta name='viewport' content='width=device-width'><style>"
        "body{font:14px sans-serif;margin:1em}img{max-width:100%}.wide{overflow-x:auto;margin-bottom:2em}"
        "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:4px 8px;vertical-align:top;"
        "text-align:left;min-width:9em}.negative{background:#fdd}.positive{background:#dfd}</style>"
        "<h1>Samples side by side</h1><p>Each row shows how the models continue one prompt. <em>plain</em> is the "
        "language model as it is; the others are the same model, symmetrized, so that swapping the words of a group in "
        "the prompt swaps them in the continuation and changes nothing else. Red: the continuation is negative about "
        "the person; green: it is positive; white: neutral. A classifier decides that, and it does not see the words "
        "of the group.</p><img src='regard.png' width='1000' alt='shares of negative and positive continuations'>"
    ]
    for group, of_group in samples.groupby("group", sort=False):
        heads = "".join(f"<th>{html.escape(method)}" for method in methods)
        parts.append(f"<h2>{html.escape(str(group))}</h2><div class='wide'><table><tr><th>prompt{heads}")
        for prompt, of_prompt in of_group.groupby("prompt", sort=False):
            for number in range(_SHOWN):
                cells = []
                for method in methods:
                    rows = of_prompt[(of_prompt.method == method) & (of_prompt["sample"].astype(int) == number)]
                    found = zip(rows.regard, rows.continuation, strict=True)
                    shown = (f"<td class='{LABELS[regard]}'>{html.escape(text)}" for regard, text in found)
                    cells.append(next(shown, "<td>"))
                start = html.escape(str(prompt)) if number == 0 else ""
                parts.append(f"<tr><td>{start}{''.join(cells)}")
        parts.append("</table></div>")
    return "\n".join(parts)
