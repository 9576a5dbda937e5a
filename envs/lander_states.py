"""States of Gymnasium's LunarLander: saved, restored and mirrored, terrain and the engines' noise included.

Box2D keeps more than places and velocities: what its solver found in the step before, and which bodies touched. None of
that can be read or set from Python. So wherever a state is saved or set, the world is built anew around the bodies and
the solver starts from nothing; from then on a step depends on the state alone.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from equirl.mdp_symmetry import MDPSymmetry
from equirl.representations import MonomialRepresentation

__all__ = ["LanderStates", "lander_states"]

Point: TypeAlias = tuple[float, float]

_SIGNS = (-1, 1, -1, 1, -1, -1, 1, 1)  # of the mirror: x, y, their velocities, angle, its velocity, the two legs
_SOURCES = (0, 1, 2, 3, 4, 5, 7, 6)
_MOST = 0.5  # of the coordinates that an element may move otherwise than the mirror and still be held against it


class _Body(NamedTuple):
    place: Point
    angle: float
    velocity: Point
    spin: float
    touches: bool = False

    def mirrored(self, width: float) -> _Body:
        (x, y), (vx, vy) = self.place, self.velocity
        return _Body((width - x, y), -self.angle, (-vx, vy), -self.spin, self.touches)


@dataclass(frozen=True)
class _State:
    """All that a step depends on.

    Attributes:
        lander: The lander.
        legs: Its legs, the left one first.
        ground: The edges of the ground, each with its friction.
        game_over: Whether the lander touched the ground.
        shaping: What the next reward is the difference to.
        noise: The state of the random numbers.
        mirrored: Whether the engines' noise is mirrored.
    """

    lander: _Body
    legs: tuple[_Body, _Body]
    ground: tuple[tuple[Point, Point, float], ...]
    game_over: bool
    shaping: float | None
    noise: dict[str, Any]
    mirrored: bool

    def image(self, width: float) -> _State:
        """Return the mirror image."""
        return replace(
            self,
            lander=self.lander.mirrored(width),
            legs=(self.legs[1].mirrored(width), self.legs[0].mirrored(width)),
            ground=tuple(((width - x2, y2), (width - x1, y1), mu) for (x1, y1), (x2, y2), mu in reversed(self.ground)),
            mirrored=not self.mirrored,
        )


class _MirroredNoise(np.random.Generator):
    """Random numbers of the mirror image: an engine's noise is drawn along the lander first, across it then."""

    def __init__(self, bits: np.random.BitGenerator) -> None:
        super().__init__(bits)
        self._across = False

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        """Draw as ever; every second number changes sides."""
        drawn = super().uniform(low, high, size)
        self._across = not self._across
        return drawn if self._across else low + high - drawn


def lander_states(environment: Any) -> LanderStates | None:
    """Return what sets the states of an environment; ``None`` for one that is no LunarLander, or one with wind.

    The wind goes on as it is, whichever way the lander faces: its phase has no mirror image.
    """
    module = sys.modules.get("gymnasium.envs.box2d.lunar_lander")  # not imported: no environment can be one
    if module is None or not isinstance(environment, module.LunarLander) or environment.enable_wind:
        return None
    return LanderStates(environment, module)


class LanderStates:
    """Saves, restores and mirrors the states of a LunarLander.

    The random numbers of the engines belong to the state and are mirrored with it: a step is compared with the step of
    the image under mirrored noise. A lander that came to rest does not fall asleep here.

    Args:
        environment: A ``LunarLander``, without wrappers.
        module: The module it comes from.
    """

    def __init__(self, environment: Any, module: Any) -> None:
        self.environment = environment
        self._width = module.VIEWPORT_W / module.SCALE
        self._half = (self._width / 2, module.VIEWPORT_H / module.SCALE / 2)
        self._legs_end, self._fps = module.LEG_DOWN / module.SCALE, module.FPS

    def save_state(self) -> _State:
        """Return all that a step depends on, and build the world anew around it.

        Raises:
            ResetNeeded: There was no ``reset`` yet.
        """
        env = self.environment
        if env.lander is None:
            raise ResetNeeded("a LunarLander has no state before the first reset(). Call reset() first")
        state = _State(
            _read(env.lander),
            (_read(env.legs[0], env.legs[0].ground_contact), _read(env.legs[1], env.legs[1].ground_contact)),
            tuple(_edge(fixture) for fixture in env.moon.fixtures),
            bool(env.game_over),
            env.prev_shaping,
            deepcopy(env.np_random.bit_generator.state),
            isinstance(env.np_random, _MirroredNoise),
        )
        self.restore_state(state)
        return state

    def restore_state(self, state: _State) -> None:
        """Put the environment into a saved state."""
        env = self.environment
        env.reset()  # a world in which nothing has happened yet
        env.world.DestroyBody(env.moon)
        env.moon = env.world.CreateStaticBody()
        env.moon.color1 = env.moon.color2 = (0.0, 0.0, 0.0)
        for first, second, friction in state.ground:
            env.moon.CreateEdgeFixture(vertices=[first, second], density=0, friction=friction)
        top = 2 * self._half[1]
        env.sky_polys = [[a, b, (b[0], top), (a[0], top)] for a, b, _ in state.ground[1:]]
        for body, saved in zip((env.lander, *env.legs), (state.lander, *state.legs), strict=True):
            body.awake = False  # forgets how long it has been at rest
            body.position, body.angle = saved.place, saved.angle
            body.awake = True
            body.linearVelocity, body.angularVelocity = saved.velocity, saved.spin
        env.game_over = state.game_over
        for leg, saved in zip(env.legs, state.legs, strict=True):
            leg.ground_contact = saved.touches
        env.world.warmStarting = False
        env.world.Step(0.0, 1, 1)  # no time passes: what touches is told
        env.prev_shaping = state.shaping
        bits = type(env.np_random.bit_generator)()
        bits.state = deepcopy(state.noise)
        env.np_random = _MirroredNoise(bits) if state.mirrored else np.random.Generator(bits)

    def observe(self) -> NDArray[np.float32]:
        """Return the observation of the state that was saved or restored."""
        env = self.environment
        (x, y), (vx, vy), (half_width, half_height) = env.lander.position, env.lander.linearVelocity, self._half
        seen = [
            *((x - half_width) / half_width, (y - (env.helipad_y + self._legs_end)) / half_height),
            *(vx * half_width / self._fps, vy * half_height / self._fps),
            *(env.lander.angle, 20.0 * env.lander.angularVelocity / self._fps),
            *(float(leg.ground_contact) for leg in env.legs),
        ]
        return np.array(seen, dtype=np.float32)

    def transform_state(self, symmetry: MDPSymmetry, element: int) -> NDArray[np.float32]:
        """Carry the state to its mirror image if the element is more like the mirror than like the identity.

        Raises:
            ValueError: It moves most coordinates otherwise than either.
        """
        off = {name: self._off(name, symmetry, element) for name in ("mirror", "identity")}
        chosen = min(off, key=lambda name: sum(map(len, off[name])))
        if len(off[chosen][0]) > _MOST * len(_SIGNS):
            raise ValueError(
                f"{symmetry.group.element_names[element]} moves observations otherwise than the lander's mirror does"
            )
        if chosen == "mirror":
            self.restore_state(self.save_state().image(self._width))
        return self.observe()

    def explain(self, symmetry: MDPSymmetry, element: int, agree: Callable[[], bool]) -> str:
        """Say which entries of the tables are not the mirror's; with the right ones, what Box2D itself does unevenly.

        Args:
            symmetry: The symmetry.
            element: The element.
            agree: Takes the steps once more; not needed.
        """
        observations, actions = self._off("mirror", symmetry, element)
        for what, wrong in (("observation", observations), ("action", actions)):
            if wrong:
                listed = ", ".join(str(i) for i in wrong)
                return f"the symmetry moves {what} {listed} otherwise than the lander's mirror, x -> -x, does"
        return (
            "the tables are those of the lander's mirror; the rest of the difference comes from Box2D, which computes "
            "in single precision and solves joints and contacts one after the other"
        )

    def remark(self, symmetry: MDPSymmetry) -> str:
        """Say how the engines' noise was compared."""
        return "the engines' noise mirrored with the state"

    def _off(self, name: str, symmetry: MDPSymmetry, element: int) -> tuple[list[int], list[int]]:
        """Return which entries of observation and action an element moves otherwise than the named map does."""
        mirror = name == "mirror"
        signs, sources = (_SIGNS, _SOURCES) if mirror else ((1,) * len(_SIGNS), tuple(range(len(_SIGNS))))
        rows = torch.eye(len(_SIGNS), dtype=torch.float64)
        moved = cast(torch.Tensor, symmetry.observation.transform(element, rows)).T  # column i: what entry i comes from
        wanted = rows[list(sources)] * torch.tensor(signs, dtype=torch.float64).unsqueeze(1)
        wrong = (moved != wanted).any(dim=1).nonzero().flatten().tolist()
        return wrong, _entries_off(self._actions(mirror), symmetry.permuted_actions, element)

    def _actions(self, mirror: bool) -> tuple[list[int], list[int]]:
        """Return sources and signs of the actions."""
        if isinstance(self.environment.action_space, spaces.Discrete):
            return ([0, 3, 2, 1] if mirror else [0, 1, 2, 3]), [1] * 4
        return [0, 1], [1, -1 if mirror else 1]


def _entries_off(wanted: tuple[list[int], list[int]], action: MonomialRepresentation, element: int) -> list[int]:
    index, sign = action.index[element].tolist(), action.sign[element].tolist()
    return [i for i, each in enumerate(zip(*wanted, strict=True)) if (index[i], sign[i]) != each]


def _read(body: Any, touches: bool = False) -> _Body:
    values = (*body.position, body.angle, *body.linearVelocity, body.angularVelocity)
    if not all(map(math.isfinite, values)):
        raise ValueError("the lander has left all numbers")
    x, y, angle, vx, vy, spin = map(float, values)
    return _Body((x, y), angle, (vx, vy), spin, bool(touches))


def _edge(fixture: Any) -> tuple[Point, Point, float]:
    (x1, y1), (x2, y2) = fixture.shape.vertices
    return (float(x1), float(y1)), (float(x2), float(y2)), float(fixture.friction)
