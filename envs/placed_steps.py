"""Steps of an environment from states of its rollouts, and from their transforms: what a check of dynamics compares."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from equirl.envs.actions import Action, ActionLayout
from equirl.envs.observations import Observation, ObservationLayout
from equirl.envs.placing import Placer, Restorable, Transformable, find_placer, find_transformable
from equirl.symmetry import MDPSymmetry

__all__ = ["CannotPlace", "Outcome", "PlacedWorld", "Transition"]


_RANDOM_SHARE = 0.5  # share of random actions if an agent is given
_FAR_STEPS = 3  # from a state that was drawn
_LARGEST_BOUND = 1e6  # a bound beyond it is none
_NO_COPY = (TypeError, AttributeError, ValueError, RuntimeError, NotImplementedError, pickle.PicklingError)


class CannotPlace(Exception):  # noqa: N818 (no error of the user's: the check is skipped, with this reason)
    """The environment could not be put into a state; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """What a step gave, and what was seen before it, both in policy form."""

    start: Observation
    observation: Observation
    reward: float
    terminated: bool
    truncated: bool

    @property
    def ended(self) -> bool:
        """Whether the episode ended."""
        return self.terminated or self.truncated


@dataclass
class _Episode:
    seed: int
    actions: list[Action] = field(default_factory=list)


@dataclass(frozen=True)
class Transition:
    """A step of a rollout.

    Attributes:
        observation: The state before, as the environment shows it.
        action: The action, as policies see it.
        outcome: What the rollout saw.
        length: Steps of the episode so far, this one included.
        episode: The episode, to play it again.
        environment: A copy made before the step, where the observation does not show the state.
        saved: The state before the step, where the environment's state can be saved; ``None`` elsewhere.
    """

    observation: Any
    action: Action
    outcome: Outcome
    length: int
    episode: _Episode
    environment: gym.Env[Any, Any] | None
    saved: Any = None


class PlacedWorld:
    """An environment that can be stepped in rollouts, and from states of these and their transforms.

    Args:
        environment: The environment.
        symmetry: Fits its spaces.
        layout: Layout of its observations.
        random: Draws seeds and actions.
        agent: From an observation to an action, both as the environment knows them; takes half of the actions of
            rollouts. By default all are random.
    """

    def __init__(
        self,
        environment: gym.Env[Any, Any],
        symmetry: MDPSymmetry,
        layout: ObservationLayout,
        random: np.random.Generator,
        agent: Callable[[Any], Any] | None = None,
    ) -> None:
        self._agent = agent
        self.environment = environment
        self.symmetry = symmetry
        self.layout = layout
        self.random = random
        self.actions = ActionLayout(environment.action_space)
        self._placer = find_placer(environment)
        carrier = find_transformable(environment)
        self._copies = carrier is not None and not isinstance(carrier, Restorable)
        self._restorable = carrier if isinstance(carrier, Restorable) else None
        order = symmetry.group.order
        self._elements = [g for g in range(order) if g != symmetry.group.identity] or [symmetry.group.identity]

    @property
    def shows_all(self) -> bool:
        """Whether observations show the state, so that no copy of it is made at each step of a rollout."""
        return self._restorable is None and not self._copies

    def element(self) -> int:
        """Draw a group element other than the identity, if there is one."""
        return int(self.random.choice(self._elements))

    def numbered(self, action: Action) -> Any:
        """Return an action as the environment takes it, for messages: plain numbers."""
        return self.actions.numbered(action).tolist()

    def reset(self, seed: int | None = None) -> Any:
        """Start an episode and return the environment's observation."""
        return self.environment.reset(seed=self._seed() if seed is None else seed)[0]

    def shown(self, observation: Any) -> Observation:
        """Return a copy of the environment's observation in policy form."""
        return _row(self.layout.stack([self.layout.show(observation)]), 0)

    def act(self, action: Action, environment: gym.Env[Any, Any] | None = None) -> tuple[Any, float, bool, bool]:
        """Take an action and return observation (as the environment shows it), reward, terminated and truncated.

        Raises:
            ValueError: The reward is no number.
        """
        numbered = self.actions.numbered(action)
        seen, reward, terminated, truncated, _ = (environment or self.environment).step(numbered)
        value = float(cast(float, reward))
        if np.isnan(value):
            raise ValueError(f"the environment gave the reward {value} for action {numbered}; rewards must be numbers")
        return seen, value, bool(terminated), bool(truncated)

    def rollouts(self, n: int) -> list[Transition]:
        """Return ``n`` transitions of a policy that draws actions uniformly.

        Raises:
            CannotPlace: The environment carries its own state and cannot be copied.
        """
        found: list[Transition] = []
        episode, observation, done = _Episode(0), None, True
        for _ in range(n):
            if done:
                episode = _Episode(self._seed())
                observation = self.reset(episode.seed)
            action = self._action(observation)
            episode.actions.append(action)
            saved = None
            if self._restorable is not None:
                saved, observation = self._restorable.save_state(), self._restorable.observe()
            before = self.shown(observation)
            held = copy.deepcopy(observation)  # some environments write into one array for ever
            kept = _copied(self.environment) if self._copies else None
            seen, reward, terminated, truncated = self.act(action)
            outcome = Outcome(before, self.shown(seen), reward, terminated, truncated)
            found.append(Transition(held, action, outcome, len(episode.actions), episode, kept, saved))
            observation, done = seen, terminated or truncated
        return found

    def _action(self, observation: Any) -> Action:
        if self._agent is None or self.random.random() < _RANDOM_SHARE:
            return self.actions.draw(self.random)
        return self.actions.counted(self._agent(observation))

    def far_transitions(self, n: int, seen: Sequence[Transition]) -> tuple[list[Transition], int]:
        """Return transitions from states that rollouts may not reach, up to ``n``; none but of vectors of floats.

        States are drawn from the bounds of the observation, and twice as far out as the rollouts were seen where there
        are none; from each the environment goes on for a few steps, so that what is compared are states of its own.

        Args:
            n: How many transitions at most.
            seen: Transitions of rollouts.

        Returns:
            The transitions, and how many of the states that were drawn the environment refused by an exception.
        """
        space = self.environment.observation_space
        is_vector = isinstance(space, spaces.Box) and len(space.shape) == 1 and np.dtype(space.dtype).kind == "f"
        if not is_vector or any(each.environment is not None or each.saved is not None for each in seen):
            return [], 0
        low, high = _drawn_between(cast(spaces.Box, space), np.stack([t.outcome.start for t in seen]))
        found: list[Transition] = []
        n_refused = 0
        for _ in range(n):
            self.reset()
            observation: Any = self.random.uniform(low, high).astype(space.dtype)
            try:
                cast(Placer, self._placer)(self.environment, observation.copy())
                observation, _, terminated, truncated = self.act(self.actions.draw(self.random))
                for length in range(2, 2 + _FAR_STEPS):
                    if terminated or truncated or len(found) == n:
                        break
                    before, held, action = (
                        self.shown(observation),
                        copy.deepcopy(observation),
                        self.actions.draw(self.random),
                    )
                    observation, reward, terminated, truncated = self.act(action)
                    outcome = Outcome(before, self.shown(observation), reward, terminated, truncated)
                    found.append(Transition(held, action, outcome, length, _Episode(0), None))
            except Exception:  # the environment is the user's: to a state that is none of its own it may say anything
                n_refused += 1
            if len(found) == n:
                break
        return found, n_refused

    def step(self, transition: Transition, g: int | None = None, nudge: bool = False) -> Outcome:
        """Take the transition's action in its state, or ``ga`` in ``gs``, with new random numbers.

        Args:
            transition: One of the rollouts.
            g: The group element; ``None`` for the identity.
            nudge: Whether to move the state's floats by a last bit first.

        Raises:
            CannotPlace: The environment cannot be put there.
        """
        return self.steps(transition, g, 1, nudge)[0]

    def steps(self, transition: Transition, g: int | None, n: int, nudge: bool = False) -> list[Outcome]:
        """Take ``n`` such steps, each from the same state."""
        element = self.symmetry.group.identity if g is None else g
        action = self.turned_action(element, transition.action)
        try:
            if transition.environment is not None:
                return [self._carried_step(each, element, action) for each in _copies(transition.environment, n)]
            if transition.saved is not None:
                return [self._restored_step(transition.saved, element, action) for _ in range(n)]
            observation = transition.observation
            if nudge:
                moved = self.layout.nudge(observation, self.random)
                observation = observation if moved is None else moved
            turned = self.layout.turn_one(self.symmetry, element, self.layout.show(observation))
            start, target = self.shown(self.layout.hide(turned, observation)), self.layout.hide(turned, observation)
        except ValueError as error:
            raise CannotPlace(f"{self._state(element)} is no state of it: {error}") from error
        found = []
        for _ in range(n):
            self.reset()
            # A copy: the environment may keep the array, and write into it.
            with self._placing(element):
                cast(Placer, self._placer)(self.environment, copy.deepcopy(target))
            found.append(self._outcome(start, action, self.environment))
        return found

    def _carried_step(self, environment: gym.Env[Any, Any], element: int, action: Action) -> Outcome:
        environment.unwrapped.np_random = np.random.default_rng(self._seed())
        with self._placing(element):
            start = cast(Transformable, find_transformable(environment)).transform_state(self.symmetry, element)
        return self._outcome(self.shown(start), action, environment)

    def _restored_step(self, saved: Any, element: int, action: Action) -> Outcome:
        restorable = cast(Restorable, self._restorable)
        self.reset()
        with self._placing(element):
            restorable.restore_state(saved)
            start = restorable.transform_state(self.symmetry, element)
        return self._outcome(self.shown(start), action, self.environment)

    def explain(self, g: int, agree: Callable[[], bool]) -> str:
        """Say why steps from ``s`` and ``gs`` differ, where the environment knows; empty elsewhere.

        Args:
            g: The group element.
            agree: Takes the steps once more, and says whether they agree now.
        """
        return "" if self._restorable is None else self._restorable.explain(self.symmetry, g, agree)

    def remark(self) -> str:
        """Say what the environment knows not to be symmetric, though no step shows it."""
        return "" if self._restorable is None else self._restorable.remark(self.symmetry)

    def _outcome(self, start: Observation, action: Action, environment: gym.Env[Any, Any]) -> Outcome:
        seen, reward, terminated, truncated = self.act(action, environment)
        return Outcome(start, self.shown(seen), reward, terminated, truncated)

    @contextmanager
    def _placing(self, element: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the placer is the user's: whatever it raises is the reason
            raise CannotPlace(f"placing it in {self._state(element)} raised {type(error).__name__}: {error}") from error

    def _state(self, element: int) -> str:
        group = self.symmetry.group
        return "a state s of a rollout" if element == group.identity else f"{group.element_names[element]} s"

    def replay(self, transition: Transition) -> Outcome | None:
        """Play the transition's episode again and take its last step with new random numbers.

        Returns:
            The outcome; ``None`` where the episode does not come out the same.
        """
        observation = self.reset(transition.episode.seed)
        for action in transition.episode.actions[: transition.length - 1]:
            observation, _, terminated, truncated = self.act(action)
            if terminated or truncated:
                return None
        if self._restorable is not None:
            self._restorable.save_state()
            observation = self._restorable.observe()
        before = self.shown(observation)
        if not np.array_equal(self.layout.vector(before), self.layout.vector(transition.outcome.start)):
            return None
        self.environment.unwrapped.np_random = np.random.default_rng(self._seed())
        return self._outcome(before, transition.action, self.environment)

    def turned(self, g: int, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Return outcomes as they would be from ``gs``."""
        starts, seen = (
            self.layout.turn(self.symmetry, g, self.layout.stack(each))
            for each in ([o.start for o in outcomes], [o.observation for o in outcomes])
        )
        return [
            Outcome(_row(starts, i), _row(seen, i), o.reward, o.terminated, o.truncated) for i, o in enumerate(outcomes)
        ]

    def rows(self, outcomes: Sequence[Outcome]) -> NDArray[np.float64]:
        """Return outcomes as rows: observation, reward, terminated, truncated."""
        seen = self.layout.rows(self.layout.stack([o.observation for o in outcomes]))
        rest = np.array([[o.reward, o.terminated, o.truncated] for o in outcomes], dtype=np.float64)
        return np.concatenate([seen, rest], axis=1)

    def row_precision(self) -> NDArray[np.float64]:
        """Return the relative rounding error of each entry of a row."""
        seen = self.layout.precision()
        return np.concatenate([seen, [max(float(seen.max(initial=0)), float(np.finfo(np.float32).eps)), 0, 0]])

    def turned_action(self, g: int, action: Action) -> Action:
        """Return ``ga``."""
        return self.actions.image(self.symmetry, g, action)

    def _seed(self) -> int:
        return int(self.random.integers(2**31))


def _row(batch: Observation, i: int) -> Observation:
    return {key: _row(value, i) for key, value in batch.items()} if isinstance(batch, dict) else np.asarray(batch[i])


def _drawn_between(space: spaces.Box, seen: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    centre, reach = (seen.max(axis=0) + seen.min(axis=0)) / 2, np.ptp(seen, axis=0) + 1e-6
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    bounded = (np.abs(low) < _LARGEST_BOUND) & (np.abs(high) < _LARGEST_BOUND)
    return np.where(bounded, low, centre - reach), np.where(bounded, high, centre + reach)


def _copies(environment: gym.Env[Any, Any], n: int) -> Iterator[gym.Env[Any, Any]]:
    """Yield ``n`` copies: of many from a pickle, if there is one, which is faster."""
    packed = None
    if n > 1 and not hasattr(environment.unwrapped, "__deepcopy__"):
        with suppress(*_NO_COPY):
            pickle.loads(written := pickle.dumps(environment))
            packed = written
    for _ in range(n):
        yield _copied(environment) if packed is None else pickle.loads(packed)


def _copied(environment: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    try:
        return copy.deepcopy(environment)
    except _NO_COPY as error:
        raise CannotPlace(f"it cannot be copied ({type(error).__name__}: {error})") from error
