"""Tic-tac-toe: its rules, its players, its masks, and its symmetry."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from equirl import build_symmetry
from equirl.envs import TicTacToeEnv, check_symmetry


def _board(mine: list[int], theirs: list[int]) -> Any:
    planes = np.zeros((2, 9), dtype=np.uint8)
    planes[0, mine] = planes[1, theirs] = 1
    return planes.reshape(2, 3, 3)


def _outcome(environment: TicTacToeEnv, board: Any, action: int) -> tuple[float, bool, dict[str, Any]]:
    environment.reset(seed=0, options={"board": board})
    _, reward, terminated, _, info = environment.step(action)
    return reward, terminated, info


def test_it_keeps_to_gymnasium_s_interface() -> None:
    check_env(TicTacToeEnv(), skip_render_check=True, skip_close_check=True)


def test_there_are_as_many_positions_as_are_known() -> None:
    # 5,478 positions can be reached, 958 of them at the end of a game (Schaefer, MathRec solutions, 2002).
    observations, masks = TicTacToeEnv.positions()
    assert len({each.tobytes() for each in observations}) == len(observations) == 5478 - 958
    assert bool((masks == (observations.sum(axis=1).reshape(-1, 9) == 0)).all())


def test_wins_losses_and_draws() -> None:
    environment = TicTacToeEnv("perfect")
    assert _outcome(environment, _board([0, 1], [3, 4]), 2) == (1.0, True, {"is_success": True})
    assert _outcome(environment, _board([0, 8], [3, 4]), 1) == (-1.0, True, {"is_success": False})  # it takes 5
    last = _board([0, 2, 3, 7], [1, 4, 5, 6])
    assert _outcome(environment, last, 8) == (0.0, True, {"is_success": True})
    assert _outcome(environment, _board([], []), 4)[:2] == (0.0, False)


def test_an_illegal_move_loses() -> None:
    environment = TicTacToeEnv()
    environment.reset(options={"board": _board([0], [1])})
    assert environment.action_masks().tolist() == [False, False, *[True] * 7]
    assert environment.step(1)[1:3] == (-1.0, True)


def test_the_learner_begins_in_half_of_the_games() -> None:
    environment = TicTacToeEnv()
    begins = [environment.reset(seed=seed)[0].sum() == 0 for seed in range(200)]
    assert 70 < sum(begins) < 130
    seen = environment.reset(seed=7)[0]
    assert np.array_equal(seen, environment.reset(seed=7)[0])


def test_nobody_beats_the_perfect_player_and_two_of_them_draw() -> None:
    environment = TicTacToeEnv("perfect")
    random = np.random.default_rng(0)
    rewards: dict[bool, list[float]] = {False: [], True: []}
    for game in range(120):
        perfect = game % 2 == 0
        observation, ended, reward = environment.reset(seed=game)[0], False, 0.0
        while not ended:
            mask = environment.action_masks()
            action = _perfect(observation, mask, random) if perfect else int(random.choice(np.flatnonzero(mask)))
            observation, reward, ended, _, _ = environment.step(action)
        rewards[perfect].append(reward)
    assert set(rewards[True]) == {0.0}
    assert max(rewards[False]) <= 0
    assert min(rewards[False]) == -1


def _perfect(observation: Any, mask: Any, random: np.random.Generator) -> int:
    from equirl.envs.tic_tac_toe import OPPONENTS

    return OPPONENTS["perfect"](observation, mask, random)


@pytest.mark.parametrize("opponent", ["random", "perfect"])
def test_the_board_s_symmetry_holds_where_the_opponent_draws_among_equal_moves(opponent: str) -> None:
    report = check_symmetry(gym.make("equirl/TicTacToe-v0", opponent=opponent), "board-d4", n_transitions=60)
    assert report.verdict == "holds", report


def test_it_does_not_hold_against_a_player_that_takes_the_first_move() -> None:
    first: Any = lambda view, mask, random: int(mask.argmax())  # noqa: E731
    report = check_symmetry(gym.make("equirl/TicTacToe-v0", opponent=first), "board-d4", n_transitions=60)
    assert report.verdict == "violated"


@pytest.mark.parametrize(("name", "order"), [("board-c4", 4), ("board-d4", 8)])
def test_cells_move_as_the_image_does(name: str, order: int) -> None:
    import torch

    symmetry = build_symmetry(name, (2, 5, 5), 25)
    assert symmetry.group.order == order
    boards = torch.rand(3, 2, 5, 5)
    for g in range(order):
        moved = symmetry.observation.transform(g, boards)
        cells = symmetry.action.transform(g, boards[:, 1].flatten(1))
        assert torch.equal(moved[:, 1].flatten(1), cells)  # type: ignore[index]


@pytest.mark.parametrize(("shape", "n_actions"), [((2, 3, 4), 12), ((18,), 9), ((2, 3, 3), 7)])
def test_a_board_is_square_and_has_an_action_for_each_cell(shape: tuple[int, ...], n_actions: int) -> None:
    with pytest.raises(ValueError, match="one action for each of the n \\* n cells"):
        build_symmetry("board-d4", shape, n_actions)


def test_several_opponents_are_drawn_game_by_game() -> None:
    asked = []

    def player(name: str) -> Any:
        def play(_: Any, mask: Any, random: np.random.Generator) -> int:
            asked.append(name)
            return int(np.flatnonzero(mask)[0])

        return play

    environment = TicTacToeEnv([player("a"), player("b")])
    for seed in range(40):
        environment.reset(seed=seed)
        environment.step(int(np.flatnonzero(environment.action_masks())[-1]))
    assert set(asked) == {"a", "b"}


@pytest.mark.parametrize(
    ("wrong", "error", "told"),
    [("perfekt", ValueError, "perfekt"), ([], ValueError, "empty sequence"), (3, TypeError, "got 3")],
)
def test_a_wrong_opponent_is_named(wrong: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        TicTacToeEnv(wrong)


def test_wrong_boards_actions_and_replies_are_named() -> None:
    environment = TicTacToeEnv(lambda view, mask, random: 0)
    for board in (_board([0, 1, 2], [3, 4, 5]), _board([0, 1], []), np.zeros((2, 4, 4))):
        with pytest.raises(ValueError, match="an unfinished game"):
            environment.reset(options={"board": board})
    with pytest.raises(ValueError, match="bord"):
        environment.reset(options={"bord": 0})
    environment.reset(options={"board": _board([], [])})
    with pytest.raises(ValueError, match="from 0 to 8"):
        environment.step(9)
    with pytest.raises(ValueError, match="took cell 0, which is not free"):
        environment.step(0)
