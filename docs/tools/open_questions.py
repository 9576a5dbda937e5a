"""Tables of the page on the paper's open questions."""

from __future__ import annotations

from statistics import median

from tables_of_files import RESULTS, Table, image_table, read_rows, summary_table

__all__ = ["carried", "far", "picks", "point_robot", "quadrature", "rule", "swarm"]


def quadrature() -> Table:
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


def far() -> Table:
    """Return errors on circles, a row for each method, a column for each radius: medians of the seeds."""
    rows = read_rows(RESULTS / "continuous_groups" / "far.csv")
    radii = tuple(dict.fromkeys(row["radius"] for row in rows))
    cells = []
    for method in dict.fromkeys(row["method"] for row in rows):
        of = {r: [float(row["error"]) for row in rows if (row["method"], row["radius"]) == (method, r)] for r in radii}
        cells.append((method, *(f"{median(of[r]):.3f}" for r in radii)))
    return Table(("method", *(f"radius {r}" for r in radii)), tuple(cells))


def point_robot() -> Table:
    """Return how SAC learns the point robot: rows of four studies with the same settings."""
    rows: list[tuple[str, ...]] = []
    heads: tuple[str, ...] = ()
    for folder, name in (
        ("point_robot", "{}"),
        ("point_robot_augmentation", "{} by degrees"),
        ("point_robot_d4", "{} D4"),
        ("point_robot_frame", "frames, O(2)"),
    ):
        table = summary_table(folder)
        heads = ("agent", *(head for head in table.heads if head not in ("agent", "ratio to plain")))
        for row in table.select(*heads).rows:
            known = name if row[0] != "plain" or "frame" in folder else "{}"
            suffix = " C8" if folder == "point_robot" and row[0] != "plain" else ""
            rows.append((known.format(row[0]) + suffix, *row[1:]))
    return Table(heads, tuple(rows))


def swarm() -> Table:
    """Return how SAC learns a swarm of three robots, and what the last agents do with more of them."""
    rows = read_rows(RESULTS / "swarm" / "study.csv")
    cells = []
    for agent in dict.fromkeys(row["agent"] for row in rows):
        runs = [[r for r in rows if (r["agent"], r["seed"]) == (agent, s)] for s in sorted({r["seed"] for r in rows})]
        first = [next((int(r["steps"]) for r in run if float(r["success_3"]) >= 0.9), None) for run in runs]
        reached = [steps for steps in first if steps is not None]
        steps = f"{median(reached):,.0f}" if len(reached) == len(runs) else "-"
        ends = (
            _range([run[-1][f"success_{n}"] for run in runs]) if runs[0][-1][f"success_{n}"] else "-" for n in (3, 5, 8)
        )
        seconds = median(float(run[-1]["cpu_seconds"]) for run in runs)
        cells.append((agent, f"{len(reached)} of {len(runs)}", steps, *ends, f"{seconds:.0f}"))
    heads = ("agent", "seeds at 0.9", "steps to 0.9, median", "3 robots", "5 robots", "8 robots", "CPU s")
    return Table(heads, tuple(cells))


def _range(values: list[str]) -> str:
    numbers = sorted(float(value) for value in values)
    return f"{median(numbers):.2f} ({numbers[0]:.2f} to {numbers[-1]:.2f})"


def carried() -> Table:
    """Return what each proxy loss picks of turned pictures, and equizero's accuracy with it: means of the networks."""
    rows = read_rows(RESULTS / "carried_proxies" / "study.csv")
    cells = []
    for images, loss in dict.fromkeys((row["images"], row["proxy_loss"]) for row in rows):
        runs = [row for row in rows if (row["images"], row["proxy_loss"]) == (images, loss)]
        means = {name: sum(float(run[name]) for run in runs) / len(runs) for name in tuple(runs[0])[3:]}
        shares = (f"{100 * means[name]:.1f}" for name in ("upright", "turned", "equitune", "equizero"))
        cells.append((images, loss, f"{means['picks_upright']:.2f}", *shares))
    heads = ("pictures", "proxy loss", "picks upright", "plain, upright", "plain, turned", "equitune", "equizero")
    return Table(heads, tuple(cells))


_UNIFORM_ON_THE_GRID = 0.30  # share of the views whose goal lies in the known quadrant; see trained-agents.md


def picks() -> Table:
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
        table = image_table(folder).where(group="c4")
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


def rule() -> Table:
    """Return how often the rule of ``picks`` is right."""
    said = picks().column("the rule is")
    return Table(("what", "right", "rows"), (("all rows", str(said.count("right")), str(len(said))),))


def _number(cell: str) -> float:
    return float(cell.split(" ")[0])
