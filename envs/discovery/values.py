"""``Discrete`` observations: permutations of the values, found by matching what comes of each value and action."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from equirl.envs.discovery.report import Element, Findings
from equirl.envs.frequencies import shift_seen
from equirl.envs.recurring import Outcomes, action_orders
from equirl.envs.transitions import Transitions
from equirl.generated_tables import Step

__all__ = ["search_values"]

_LEAST_VISITS = 30  # of a pair of value and action whose outcome varies
_MOST_NODES = 200_000
_MOST_WILD_NODES = 20_000  # where some pairs were hardly seen, which makes nodes many
_MOST_RARE = 0.4  # share of the pairs that may be hardly seen, for the rest to refute anything
_MOST_MAPS = 1000

Kind = tuple[float, bool]


def search_values(data: Transitions, n_values: int) -> Findings:
    """Return the permutations of the values of a ``Discrete`` observation that hold.

    To confirm one, every pair of value and action must have been seen, of every value that the world goes on from; so
    nothing that was left uncompared can be wrong but outcomes that are rare. To refute all, the pairs seen suffice: a
    value of which some are missing, or that was never seen, may be what any other becomes.

    Args:
        data: Transitions with ``Discrete`` actions, observations of one whole number.
        n_values: Number of values of the observation's space.
    """
    known = Outcomes(data)
    graph = _Graph(data, known.noisy)
    pairs = itertools.product([*graph.inner, *graph.cut], range(data.n_actions))
    least = _LEAST_VISITS if known.varies else 1
    rare = [pair for pair in pairs if graph.visits[pair] < least]
    if len(rare) > _MOST_RARE * (len(graph.inner) + len(graph.cut)) * data.n_actions:
        return Findings(notes=_missing(graph, rare, least), unclear=True)
    if rare:
        graph.forget(rare, n_values)
    position = {int(state[0]): i for i, state in enumerate(known.states)}
    found = Findings(complete=True)
    nodes = itertools.count()
    for order in action_orders(graph.actions_alike()):
        search = _Search(graph, order, nodes)
        for mapped in search.maps():
            image = np.full(len(known.states), -1)
            for value, other in mapped.items():
                image[position[value]] = position.get(other, -1)
            result = known.compare(image)
            chosen = (range(data.n_actions), list(order))
            if result.wrong[chosen].any():
                continue
            if all(value == other for value, other in mapped.items()):
                continue  # nothing but actions that do the same
            n_values = int(max(data.states.max(), data.next_states.max())) + 1
            to = tuple(mapped.get(value, value) for value in range(n_values))
            error = shift_seen(float(result.weight[chosen].min())) if known.varies else 0.0
            found.elements.append(
                Element("", Step(to, None), Step(order, None), error, int(result.pairs[chosen].sum()))
            )
        if search.exhausted:
            note = f"too many partial permutations of {len(graph.visited)} values are left to try"
            return Findings(notes=[note, *_missing(graph, rare, least)], unclear=True)
        if rare and found.elements:
            note = f"a permutation of {len(graph.visited)} values agrees with what was seen, which is too little"
            return Findings(notes=[note, *_missing(graph, rare, least)], unclear=True)
    found.notes.append(
        f"permutations of {len(graph.visited)} values; outcomes {'vary' if known.varies else 'do not vary'}"
    )
    if known.varies:
        found.notes.append(
            "the error is the smallest shift of a probability, in all states alike, that would surely have been seen; "
            "one in a few states may not have been"
        )
        if not found.elements and graph.once:
            found.notes.append("some outcomes were seen once only: their images may be among those not seen yet")
            found.unclear = True
    return found


def _missing(graph: _Graph, rare: Sequence[tuple[int, int]], least: int) -> list[str]:
    """Say which pairs were seen too seldom, and how many steps like these would be enough, roughly."""
    if not rare:
        return []
    n_steps = graph.visits.total()
    value, action = min(rare, key=lambda pair: graph.visits[pair])
    fewest = graph.visits[value, action]
    steps = int(float(f"{n_steps * least / max(fewest, 1):.0e}"))
    return [
        f"{len(rare)} pairs of value and action were seen fewer than {least} times, such as value {value} with action "
        f"{action}: take {'more than ' if not fewest else 'about '}{max(steps, n_steps):,} steps"
    ]


class _Graph:
    """What comes of each value and action."""

    def __init__(self, data: Transitions, noisy: bool) -> None:
        before, after = data.states[:, 0].astype(int).tolist(), data.next_states[:, 0].astype(int).tolist()
        unit = max(float(np.abs(data.rewards).max()), 1e-300)
        rewards = (np.round(0 * data.rewards if noisy else data.rewards / unit, 8) + 0.0).tolist()
        self.n_actions = data.n_actions
        self.outcomes: dict[tuple[int, int], set[tuple[int, Kind]]] = defaultdict(set)
        self.visits: Counter[tuple[int, int]] = Counter()
        rest = zip(data.actions.tolist(), rewards, data.ends.tolist(), strict=True)
        for state, following, (action, reward, end) in zip(before, after, rest, strict=True):
            self.outcomes[state, action].add((following, (reward, end)))
            self.visits[state, action] += 1
        counted = Counter(zip(before, data.actions.tolist(), after, strict=True))
        self.once = any(k == 1 and self.visits[v, a] >= _LEAST_VISITS for (v, a, _), k in counted.items())
        self.inner = sorted(set(before))
        self.visited = sorted(set(before) | set(after))
        on = {value for value, end in zip(after, data.ends.tolist(), strict=True) if not end}
        self.cut = sorted(on - set(before))  # an episode was cut there: nobody knows how it goes on
        self.kinds = {v: self._kinds(v) for v in self.visited}
        self.rare: set[tuple[int, int]] = set()
        self.wild: list[int] = []
        self.unseen: list[int] = []  # alike, as far as is known
        self.parents: dict[int, set[int]] = defaultdict(set)
        for (v, _), seen in self.outcomes.items():
            for n, _ in seen:
                self.parents[n].add(v)

    def forget(self, rare: Sequence[tuple[int, int]], n_values: int) -> None:
        """Take values of which some pairs were hardly seen, or none, for such that any other may become."""
        self.rare = set(rare)
        self.wild = sorted({value for value, _ in rare})
        self.unseen = sorted(set(range(n_values)) - set(self.visited))

    def _kinds(self, value: int) -> tuple[tuple[Kind, ...], ...]:
        """Return for each action what rewards and ends come of it, and whether the value stays."""
        return tuple(
            tuple(sorted((*kind, n == value) for n, kind in self.outcomes.get((value, action), ())))  # type: ignore[misc]
            for action in range(self.n_actions)
        )

    def actions_alike(self) -> np.ndarray:
        """Return which action may become which: those of which the same things come equally often, ``[|A|, |A|]``."""
        if self.rare:
            return np.ones((self.n_actions, self.n_actions), dtype=bool)
        of_action = [Counter(self.kinds[v][a] for v in self.visited) for a in range(self.n_actions)]
        return np.array([[one == other for other in of_action] for one in of_action])

    def in_order(self) -> list[int]:
        """Return the values so that neighbours follow each other, and decide each other early."""
        ordered: dict[int, None] = {}
        for root in self.inner:
            queue = [root]
            while queue:
                v = queue.pop(0)
                if v not in ordered:
                    ordered[v] = None
                    queue += sorted({n for a in range(self.n_actions) for n, _ in self.outcomes.get((v, a), ())})
        return list(ordered)


class _Search:
    """The permutations of values that carry possible outcomes onto possible outcomes, for one permutation of actions.

    Attributes:
        exhausted: Whether the search was given up.
    """

    def __init__(self, graph: _Graph, order: Sequence[int], nodes: Iterator[int]) -> None:
        self._graph = graph
        self._order = tuple(order)
        self._ordered = graph.in_order()
        self._inner, self._unseen = {*graph.inner, *graph.cut}, set(graph.unseen)
        self._like: dict[tuple[tuple[Kind, ...], ...], list[int]] = defaultdict(list)
        for w in graph.visited:
            self._like[tuple(graph.kinds[w][b] for b in self._order)].append(w)
        self._nodes = nodes
        self.exhausted = False

    def maps(self) -> Iterator[dict[int, int]]:
        """Yield the maps, value to value."""
        for n, mapped in enumerate(self._extend({})):
            if n == _MOST_MAPS:
                self.exhausted = True
                return
            yield dict(mapped)

    def _extend(self, chosen: dict[int, int]) -> Iterator[dict[int, int]]:
        self.exhausted |= next(self._nodes) >= (_MOST_WILD_NODES if self._graph.rare else _MOST_NODES)
        if self.exhausted:
            return
        if len(chosen) == len(self._ordered):
            yield chosen
            return
        v = self._ordered[len(chosen)]
        taken = set(chosen.values())
        for w in self._possible(v, taken):
            if w in taken or ((v in self._inner) != (w in self._inner) and w not in self._unseen):
                continue
            chosen[v] = w
            if self._fits(chosen, v) and all(self._fits(chosen, p) for p in self._graph.parents[v] if p in chosen):
                yield from self._extend(chosen)
            del chosen[v]

    def _possible(self, v: int, taken: set[int]) -> Sequence[int]:
        """Return the values that a value may become, as far as what comes of it at once tells."""
        graph = self._graph
        new = [next(w for w in graph.unseen if w not in taken)] if len(self._unseen - taken) else []
        if v in graph.wild:
            return [*graph.visited, *new]
        like = self._like.get(graph.kinds[v], [])
        return [*like, *(w for w in graph.wild if w not in like), *new]

    def _fits(self, chosen: dict[int, int], v: int) -> bool:
        """Compare those outcomes of a value whose images are chosen by now."""
        for a, b in enumerate(self._order):
            if chosen[v] in self._unseen or (v, a) in self._graph.rare or (chosen[v], b) in self._graph.rare:
                continue
            there = self._graph.outcomes.get((chosen[v], b), set())
            here = self._graph.outcomes.get((v, a), set())
            if any(n in chosen and (chosen[n], kind) not in there for n, kind in here):
                return False
        return True
