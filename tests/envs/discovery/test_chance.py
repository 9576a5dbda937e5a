"""Worlds with chance: what happens on average tells their symmetry, and chance is told from ignorance."""

import gymnasium as gym
import numpy as np
import pytest
from found_worlds import NoisyWalk

from equirl.envs.discovery import collect_transitions, discover_symmetry
from equirl.envs.discovery.chance_model import ChanceModel
from equirl.envs.discovery.paired_differences import cells, indicators, orthonormal, paired_differences
from equirl.envs.discovery.replays import replay


def test_a_mirror_is_found_under_chance_with_an_error() -> None:
    report = discover_symmetry(NoisyWalk(), steps=8000)
    assert report.outcome == "nearly", report
    (mirror,) = report.generators
    assert (mirror.observation.signs, mirror.action.to) == ((-1, -1), (1, 0, 2))
    assert 0.005 < report.error < 0.1
    assert any("steps taken again" in note for note in report.notes)


@pytest.mark.parametrize("broken", [{"louder": 1.3}, {"drift": 0.005}], ids=["louder", "drift"])
def test_what_chance_nearly_hides_is_still_seen(broken: dict[str, float]) -> None:
    report = discover_symmetry(NoisyWalk(**broken), steps=8000)
    assert report.symmetry is None, report


def test_ignorance_is_not_taken_for_chance() -> None:
    """Waves too short for the model look like chance, but come again when an episode is taken again."""
    report = discover_symmetry(NoisyWalk(ripple=0.04, chance=0.0), steps=8000)
    assert report.outcome == "not enough data", report
    environment = NoisyWalk(ripple=0.04)
    model = ChanceModel(collect_transitions(environment, 10_000), 0)
    found = replay(environment, model, 4000, 0)
    assert found.unexplained is not None
    waves = 0.04 * np.sqrt(0.5) / model.spread[1]
    assert found.unexplained[1] == pytest.approx(waves, rel=0.3)
    assert found.chance[1] == pytest.approx(0.03 / model.spread[1], rel=0.2)


def test_lunar_lander_has_its_mirror_though_its_thrust_is_random() -> None:
    pytest.importorskip("Box2D")
    report = discover_symmetry(gym.make("LunarLander-v3"), steps=15_000)
    assert report.outcome == "nearly", report
    (mirror,) = report.generators
    assert mirror.observation.to == (0, 1, 2, 3, 4, 5, 7, 6)
    assert mirror.observation.signs == (-1, 1, -1, 1, -1, -1, 1, 1)
    assert mirror.action.to == (0, 3, 2, 1)
    assert report.error < 0.1


def test_differences_of_conditional_means_are_seen_and_bounded() -> None:
    random = np.random.default_rng(0)
    x, there = random.uniform(-1, 1, (8000, 1)), random.uniform(-1, 1, (8000, 1))
    episode = np.repeat(np.arange(200), 40)
    lines = orthonormal(np.hstack([np.ones_like(x), x]), np.hstack([np.ones_like(there), there]))
    mean = (lines[0].T @ lines[0] + lines[1].T @ lines[1]) / 16_000
    assert np.allclose(mean, np.eye(2))
    for slope, seen in ((0.0, False), (0.2, True)):
        left = random.normal(size=(8000, 1)) + 3 * x  # what both have in common counts for nothing
        found = paired_differences(lines, left, random.normal(size=(8000, 1)) + (3 + slope) * there, episode, 0.01)
        assert found.seen.tolist() == [seen]
        difference = slope * np.sqrt(1 / 3)
        assert found.least[0] <= difference <= found.most[0] < difference + 0.08
    # Chance that a whole episode shares makes differences less clear.
    shared = random.normal(size=200)[episode][:, None]
    assert not paired_differences(lines, shared, -shared, episode, 0.01).seen.any()
    label, label_there = cells(x, there, 3)
    assert set(np.bincount(np.concatenate([label, label_there]))) == {2000}
    steps = indicators(label, label_there)
    local = random.normal(size=(8000, 1)) * 0.5 + (np.abs(x - 0.5) < 0.1)
    assert paired_differences(steps, local, random.normal(size=(8000, 1)) * 0.5, episode, 0.01).seen.all()
