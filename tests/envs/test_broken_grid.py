"""Grids that break their symmetry in known places."""

import gymnasium as gym
import numpy as np
import pytest

from equirl.envs.broken_grid import MOVES, Breaks, broken_moves, next_cells
from equirl.envs.checker import check_symmetry
from equirl.envs.gridworld import GridWorldEnv
from equirl.envs.gridworld_batch import GridWorldBatch
from equirl.envs.gridworld_states import GridWorldStates
from equirl.symmetry import build_symmetry

D4 = build_symmetry("grid-d4", (3, 5, 5), 4)


def test_an_intact_grid_goes_where_the_moves_say_and_breaks_nothing() -> None:
    target = next_cells(5)
    assert target[2 * 5 + 2].tolist() == [1 * 5 + 2, 2 * 5 + 1, 3 * 5 + 2, 2 * 5 + 3]
    assert target[0].tolist() == [0, 0, 5, 1]
    assert not broken_moves(5, Breaks(), D4).any()
    assert (target == next_cells(5, Breaks(seed=3))).all()


def test_a_share_of_the_cells_has_one_move_that_goes_elsewhere() -> None:
    intact, broken = next_cells(5), next_cells(5, Breaks(cells=0.2, seed=1))
    turned = intact != broken
    assert turned.sum(axis=1).max() == 1
    assert 1 <= turned.any(axis=1).sum() <= 5  # two moves into the wall may be the same
    assert (broken == next_cells(5, Breaks(cells=0.2, seed=1))).all()
    assert (broken != next_cells(5, Breaks(cells=0.2, seed=2))).any()


def test_one_way_borders_can_be_crossed_in_one_direction() -> None:
    intact, broken = next_cells(5), next_cells(5, Breaks(one_way=0.25, seed=0))
    blocked = [(cell, move) for cell, move in zip(*np.nonzero(intact != broken), strict=True)]
    assert len(blocked) == 10  # of 40 borders
    for cell, move in blocked:
        assert broken[cell, move] == cell
        far = intact[cell, move]
        assert broken[far, (move + 2) % 4] == cell


def test_the_truth_is_what_each_image_of_a_move_says() -> None:
    breaks = Breaks(cells=0.1, seed=4)
    target, broken = next_cells(5, breaks), broken_moves(5, breaks, D4)
    for cell in range(25):
        for action in range(4):
            env = GridWorldEnv(size=5, broken_cells=0.1, broken_seed=4)
            row, column = divmod(cell, 5)
            images = []
            for turns in range(4):  # by hand: quarter turns, and a mirror before them
                for mirrored in (False, True):
                    r, c, step = row, column, MOVES[action]
                    if mirrored:
                        c, step = 4 - c, step * (1, -1)
                    for _ in range(turns):
                        r, c, step = 4 - c, r, np.array([-step[1], step[0]])
                    (move,) = np.flatnonzero((step == MOVES).all(axis=1))
                    after = divmod(int(target[r * 5 + c, move]), 5)
                    for _ in range(turns):
                        after = after[1], 4 - after[0]
                    images.append((after[0], 4 - after[1]) if mirrored else after)
            assert broken[cell, action] == (len(set(images)) > 1), (cell, action)
            assert env.next_cell[cell, action] == target[cell, action]


@pytest.mark.parametrize("settings", [{"broken_cells": 0.3, "broken_seed": 2}, {"one_way": 0.3}, {"wind": 0.4}])
def test_the_checker_sees_it_and_one_environment_steps_as_many(settings: dict) -> None:
    env = gym.make("equirl/GridWorld-v0", size=5, **settings)
    assert check_symmetry(env, "grid-d4", n_transitions=300, seed=0).verdict == "violated"
    single = GridWorldEnv(size=5, **settings)
    batch = GridWorldBatch(3, size=5, **settings)
    for i in range(3):
        batch.seed(i, i)
    batch.reset(range(3))
    observation, _ = single.reset(seed=1)
    random = np.random.default_rng(0)
    for _ in range(20):
        assert (batch.observations([1])[0] == observation).all()
        actions = random.integers(4, size=3)
        success, truncated = batch.step(actions)
        observation, _, terminated, cut, _ = single.step(actions[1])
        assert (success[1], truncated[1]) == (terminated, cut)
        if terminated or cut:
            break


def test_success_is_counted_on_the_broken_grid() -> None:
    breaks = Breaks(cells=0.5, seed=0)

    class Straight:
        def predict(self, observations: np.ndarray, deterministic: bool = True) -> tuple[np.ndarray, None]:
            agent, goal = (np.argwhere(observations[:, k])[:, 1:] for k in (0, 1))
            down, right = (goal - agent).T
            return np.where(down < 0, 0, np.where(down > 0, 2, np.where(right < 0, 1, 3))), None

    assert GridWorldStates(5).success_rate(Straight()) == 1
    assert GridWorldStates(5, breaks=breaks).success_rate(Straight()) < 0.9


def test_settings_that_mean_nothing_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="broken_cells"):
        GridWorldEnv(broken_cells=1.5)
    with pytest.raises(TypeError, match="broken_seed"):
        GridWorldEnv(broken_cells=0.1, broken_seed=0.5)  # type: ignore[arg-type]
    monkeypatch.setattr("equirl.envs.broken_grid._all_connected", lambda target: False)
    with pytest.raises(ValueError, match="lower them"):
        GridWorldEnv(size=2, one_way=1.0)
    with pytest.raises(ValueError, match="chance"):
        GridWorldStates(5, breaks=Breaks(wind=0.1))


def test_a_worn_motor_is_weaker_to_one_side() -> None:
    worn, sound = (gym.make("equirl/WornCartPole-v0", left=share) for share in (0.5, 1.0))
    plain = gym.make("CartPole-v1")
    for env in (worn, sound, plain):
        env.reset(seed=0)
    after = {env: env.step(0)[0] for env in (worn, sound, plain)}
    assert (after[sound] == after[plain]).all()
    before = plain.reset(seed=0)[0]
    assert after[worn][1] - before[1] == pytest.approx((after[plain][1] - before[1]) / 2, abs=0.01)
    for env in (worn, plain):
        env.reset(seed=1)
    assert (worn.step(1)[0] == plain.step(1)[0]).all()
    assert check_symmetry(worn, "cartpole-z2", seed=0).verdict == "violated"
    assert check_symmetry(sound, "cartpole-z2", seed=0).verdict == "holds"
    assert worn.spec is not None
    assert worn.spec.max_episode_steps == 500
    with pytest.raises(ValueError, match="left"):
        gym.make("equirl/WornCartPole-v0", left=0)
