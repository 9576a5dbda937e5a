import re
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Ball, Box, Door, Goal, Key, Wall
from minigrid.minigrid_env import MiniGridEnv

from equirl import build_symmetry, cyclic_group, dihedral_group
from equirl.agents.cli import main
from equirl.envs import (
    EgocentricView,
    EmptyRoomEnv,
    FullGridView,
    GridWorldEnv,
    SymmetricStarts,
    TransformedFrame,
    check_symmetry,
    make_environment,
)
from equirl.envs.minigrid_state import facing_action, transform_minigrid


def _room(**settings: Any) -> EmptyRoomEnv:
    world = EmptyRoomEnv(size=6, **settings)
    world.reset(seed=0)
    world.grid = Grid(6, 6)
    world.grid.wall_rect(0, 0, 6, 6)
    world.agent_pos, world.agent_dir = (1, 2), 0  # column 1, row 2, facing right
    return world


def test_the_full_view_shows_what_is_there() -> None:
    world = _room()
    world.put_obj(Goal(), 4, 1)
    world.put_obj(Door("red", is_locked=True), 3, 3)
    world.put_obj(Key("blue"), 2, 4)
    world.carrying = Ball("green")
    view = FullGridView(world)
    observation = view._observe(world.gen_obs())
    assert view.observation_space.contains(observation)
    planes = dict(zip(view.plane_names, observation, strict=True))

    def cells(name: str) -> list[tuple[int, int]]:
        return [(int(row), int(column)) for row, column in np.argwhere(planes[name])]

    assert cells("facing right") == cells("carried ball") == cells("carried green") == [(2, 1)]
    assert cells("goal") == cells("green") == [(1, 4)]
    assert cells("door") == cells("red") == cells("locked") == [(3, 3)]
    assert cells("key") == cells("blue") == [(4, 2)]
    assert len(cells("wall")) == len(cells("grey")) == 20
    shown = {"facing right", "carried ball", "carried green", "goal", "green", "door", "red", "locked", "key", "blue"}
    assert all(not planes[name].any() for name in planes if name not in {*shown, "wall", "grey"})


def test_the_egocentric_view_is_minigrids_own() -> None:
    world = _room()
    world.put_obj(Goal(), 3, 1)  # two ahead, one to the left
    view = EgocentricView(world)
    observation = view._observe(world.gen_obs())
    planes = dict(zip(view.plane_names, observation, strict=True))
    assert [tuple(cell) for cell in np.argwhere(planes["goal"]).tolist()] == [(4, 2)]  # the agent is at (6, 3)
    assert view.observation_space.contains(observation)
    assert "facing up" not in planes


def test_chosen_planes_actions_and_mission() -> None:
    view = FullGridView(gym.make("MiniGrid-Fetch-8x8-N3-v0"), planes=["key", "ball"], mission=True, n_actions=4)
    observation, _ = view.reset(seed=1)
    assert view.plane_names[4:6] == ("key", "ball")
    assert view.action_space.n == 4
    named = {
        name for name, plane in zip(view.plane_names, observation, strict=True) if name[:7] == "mission" if plane.all()
    }
    words = view.world.mission.split()
    assert named == {f"mission {words[-2]}", f"mission {words[-1]}"}
    with pytest.raises(ValueError, match=r"action 4 is not in 0 .. 3"):
        view.step(4)


def test_actions_that_a_world_lacks_are_not_offered() -> None:
    # MiniGrid's Dynamic-Obstacles takes every action beyond the third for a left turn, which no mirror respects.
    world = gym.make("MiniGrid-Dynamic-Obstacles-6x6-v0")
    assert FullGridView(world).action_space.n == 3
    with pytest.raises(ValueError, match=r"n_actions is 3 .* to 3 \(all there are\), not 7"):
        FullGridView(world, n_actions=7)


def test_success_is_told_at_the_end() -> None:
    world = _room(max_steps=3)
    world.put_obj(Goal(), 2, 2)
    view = FullGridView(world, n_actions=3)
    *_, terminated, _, info = view.step(2)
    assert terminated
    assert info["is_success"] is True
    world = _room(max_steps=1)
    *_, truncated, info = FullGridView(world).step(0)
    assert truncated
    assert info["is_success"] is False


@pytest.mark.parametrize("group", [cyclic_group(4), dihedral_group(4), dihedral_group(1)], ids=str)
def test_transforming_a_state_is_an_action_of_the_group(group: Any) -> None:
    def world() -> EmptyRoomEnv:
        made = _room()
        made.put_obj(Goal(), 4, 1)
        made.put_obj(Key("red"), 2, 3)
        made.put_obj(Box("blue"), 3, 3)
        made.put_obj(Wall(), 1, 4)
        return made

    def shown(world: EmptyRoomEnv) -> tuple[Any, ...]:
        contents = [
            None if cell is None else (*cell.encode(), *map(int, cell.cur_pos or ())) for cell in world.grid.grid
        ]
        return contents, tuple(map(int, world.agent_pos)), int(world.agent_dir)

    for g in range(group.order):
        for h in range(group.order):
            twice, once = world(), world()
            transform_minigrid(twice, group, h)
            transform_minigrid(twice, group, g)
            transform_minigrid(once, group, int(group.cayley[g, h]))
            assert shown(twice) == shown(once)
            for cell in once.grid.grid:
                if cell is not None and cell.cur_pos is not None:
                    assert once.grid.get(*cell.cur_pos) is cell


def test_a_quarter_turn_is_counter_clockwise() -> None:
    world = _room()
    transform_minigrid(world, cyclic_group(4), 1)
    assert tuple(world.agent_pos) == (2, 4)  # from the left side to the bottom
    assert world.agent_dir == 3  # from right to up
    assert torch.equal(facing_action(dihedral_group(4)), dihedral_group(4).natural_action)


@pytest.mark.parametrize("environment_id", ["MiniGrid-GoToDoor-5x5-v0", "MiniGrid-MemoryS7-v0"])
def test_forgotten_target_cells_are_caught(environment_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equirl.envs.minigrid_state._POSITIONS", ("agent_pos",))
    environment = make_environment(environment_id, "minigrid-d4", view_kwargs={"mission": True})
    report = check_symmetry(environment, "minigrid-d4", n_transitions=150, check_starts=False)
    assert [violation.check for violation in report.violations] == ["dynamics"]
    assert "reward" in report.violations[0].detail or "end of the episode" in report.violations[0].detail


class _TurnsSwapped(FullGridView):
    def step(self, action: int) -> Any:
        return super().step({0: 1, 1: 0}.get(int(action), int(action)) if self.world.agent_pos[0] == 1 else action)


class _HidesTheRight(EgocentricView):
    def _parts(self, observation: dict[str, Any]) -> list[Any]:
        parts = super()._parts(observation)
        parts[0][:, :, -1] = 0
        return parts


@pytest.mark.parametrize(
    ("broken", "symmetry", "detail"),
    [
        (_TurnsSwapped, "minigrid-d4", "next observation"),
        (_HidesTheRight, "minigrid-egocentric-z2", r"observation: g o\(s\) has"),
    ],
)
def test_broken_views_are_caught(broken: Any, symmetry: str, detail: str) -> None:
    report = check_symmetry(broken(EmptyRoomEnv()), symmetry, n_transitions=100, check_starts=False)
    assert [violation.check for violation in report.violations] == ["dynamics"]
    assert re.search(detail, report.violations[0].detail)


class _ObstaclesDrift(FullGridView):
    def step(self, action: int) -> Any:
        outcome = super().step(action)
        for obstacle in self.world.obstacles:  # to the left whenever there is room
            x, y = obstacle.cur_pos
            if self.world.grid.get(x - 1, y) is None and (x - 1, y) != tuple(self.world.agent_pos):
                self.world.grid.set(x, y, None)
                self.world.put_obj(obstacle, x - 1, y)
        return (self._observe(self.world.gen_obs()), *outcome[1:])


def test_stochastic_worlds_with_many_outcomes_are_tested() -> None:
    broken = _ObstaclesDrift(gym.make("MiniGrid-Dynamic-Obstacles-8x8-v0"), planes=["ball"])
    report = check_symmetry(broken, "minigrid-c4", n_transitions=4, check_starts=False)
    assert not report.ok
    assert "outcomes of the step and of the transformed step differ" in report.violations[0].detail


@pytest.mark.parametrize("environment_id", ["MiniGrid-Empty-6x6-v0", "equirl/GridWorld-v0"])
def test_symmetric_starts(environment_id: str) -> None:
    if environment_id.startswith("MiniGrid"):
        symmetry, settings = "minigrid-d4", {}
    else:
        symmetry, settings = "grid-d4", {"size": 4, "goal": "north-west"}
    biased = make_environment(environment_id, symmetry, **settings)
    assert not check_symmetry(biased, symmetry, n_transitions=20).ok
    even = make_environment(environment_id, symmetry, symmetric_starts=True, **settings)
    report = check_symmetry(even, symmetry, n_transitions=20)
    assert report.ok, str(report)
    first, info = even.reset(seed=5)
    again, _ = even.reset(seed=5)
    assert np.array_equal(first, again)
    assert info["element"] in dihedral_group(4).element_names
    assert {even.reset(seed=seed)[1]["element"] for seed in range(60)} == set(dihedral_group(4).element_names)


class _BehindADoor(MiniGridEnv):
    """The agent looks at a closed door; the goal behind it is to the right, or to either side."""

    def __init__(self, sides: tuple[int, ...], sizes: tuple[int, ...] = (7,)) -> None:
        self.sides, self.sizes = sides, sizes
        super().__init__(MissionSpace(lambda: "get to the goal"), grid_size=7, max_steps=100)

    def _gen_grid(self, width: int, height: int) -> None:
        height = self.height = self._rand_elem(self.sizes)
        self.grid = Grid(width, height)
        self.grid.wall_rect(0, 0, width, height)
        self.grid.horz_wall(0, 3)
        self.put_obj(Door("yellow"), 3, 3)
        self.put_obj(Goal(), self._rand_elem(self.sides), 1)
        self.agent_pos, self.agent_dir, self.mission = (3, 5), 3, "get to the goal"


@pytest.mark.parametrize("sizes", [(7,), (7, 9)])
@pytest.mark.parametrize(("sides", "verdict"), [((5,), "violated"), ((1, 5), "holds"), ((1, 1, 1, 5), "violated")])
def test_a_side_that_a_door_hides_at_the_start_is_found(
    sides: tuple[int, ...], verdict: str, sizes: tuple[int, ...]
) -> None:
    report = check_symmetry(EgocentricView(_BehindADoor(sides, sizes)), "minigrid-egocentric-z2", n_transitions=100)
    assert report.verdict == verdict
    found = [str(violation).split(", p =")[0] for violation in report.violations]
    assert found == (
        ["start distribution, element s: states at the start and their images differ"] if verdict == "violated" else []
    )
    mended = SymmetricStarts(EgocentricView(_BehindADoor(sides, sizes)), "minigrid-egocentric-z2")
    assert check_symmetry(mended, "minigrid-egocentric-z2", n_transitions=100).ok


def test_what_the_agent_sees_is_a_part_of_what_is_there() -> None:
    view = EgocentricView(gym.make("MiniGrid-FourRooms-v0"))
    side, seen = view.world.width, set()
    for seed in range(30):
        view.reset(seed=seed)
        whole = view.hidden_state()[:-3].reshape(2 * side - 1, 2 * side - 1, 3)
        image = view.world.gen_obs()["image"]
        # The agent is in the middle of the last row of its view, and in the middle of the whole.
        ahead = whole[side - 4 : side + 3, side - 7 : side]
        visible = image[..., 0] > 0
        visible[3, 6] = False  # there MiniGrid shows what is carried
        assert np.array_equal(ahead[visible], image[visible])
        seen.add(view.world.agent_dir)
    assert seen == {0, 1, 2, 3}


def test_symmetric_starts_move_the_world_and_not_only_the_picture() -> None:
    world = SymmetricStarts(GridWorldEnv(size=5, goal="north-west"), "grid-d4")
    for seed in range(20):
        observation, _ = world.reset(seed=seed)
        assert np.array_equal(observation, world.unwrapped._observe())  # type: ignore[attr-defined]


def test_a_transformed_frame_is_the_same_world_turned() -> None:
    symmetry = build_symmetry("grid-d4", (3, 5, 5), 4)
    for name in symmetry.group.element_names:
        plain, turned = GridWorldEnv(size=5), TransformedFrame(GridWorldEnv(size=5), "grid-d4", name)
        seen, _ = plain.reset(seed=3)
        shown, _ = turned.reset(seed=3)
        for action in (0, 1, 2, 3, 1, 1):
            expected = symmetry.observation.transform(name, torch.from_numpy(seen)[None])[0].numpy()
            assert np.array_equal(shown, expected)
            image = int((symmetry.action.index[symmetry.group.index(name)] == action).nonzero())
            seen, reward, terminated, *_ = plain.step(action)
            shown, turned_reward, turned_terminated, *_ = turned.step(image)
            assert (reward, terminated) == (turned_reward, turned_terminated)


def test_mistakes_are_told() -> None:
    with pytest.raises(TypeError, match="FullGridView is for MiniGrid environments; got GridWorldEnv"):
        FullGridView(GridWorldEnv())
    with pytest.raises(ValueError, match=r"n_actions is 3 .* to 7"):
        FullGridView(EmptyRoomEnv(), n_actions=2)
    with pytest.raises(ValueError, match="FullGridView has no plane 'unseen'; it offers wall, floor"):
        FullGridView(EmptyRoomEnv(), planes=["unseen"])
    with pytest.raises(ValueError, match="size must be at least 4"):
        EmptyRoomEnv(size=3)
    with pytest.raises(ValueError, match=r"Wrap the environment: FullGridView\(gymnasium.make"):
        build_symmetry("minigrid-d4", (2, 5, 5), 3)
    with pytest.raises(ValueError, match="its symmetries are minigrid-c4"):
        make_environment("MiniGrid-Empty-6x6-v0", "grid-d4")
    with pytest.raises(ValueError, match="settings of a view are for MiniGrid environments"):
        make_environment("CartPole-v1", "cartpole-z2", view_kwargs={"n_actions": 3})
    with pytest.raises(TypeError, match="LunarNothing cannot be carried to a transformed state: register a placer"):
        SymmetricStarts(_Unplaceable(), "cartpole-z2").reset()


class LunarNothing(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (4,), dtype=np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return np.zeros(4, dtype=np.float32), {}


_Unplaceable = LunarNothing


def test_the_command_takes_minigrid(capsys: pytest.CaptureFixture[str]) -> None:
    empty = ["check", "MiniGrid-Empty-6x6-v0", "--symmetry", "minigrid-d4", "--transitions", "20", "--resets", "200"]
    assert main(empty) == 1
    assert "VIOLATED start distribution" in capsys.readouterr().out
    assert main([*empty, "--symmetric-starts", "--view-kwargs", "planes:['goal']", "n_actions:3"]) == 0


def test_babyai_is_refused() -> None:
    import gymnasium

    world = gymnasium.make("BabyAI-GoToRedBallGrey-v0").unwrapped
    world.reset(seed=0)
    with pytest.raises(TypeError, match="BabyAI"):
        transform_minigrid(world, dihedral_group(4), 1)
