import numpy as np
import pandas as pd
import pytest
from gymnasium import make
from stable_baselines3 import DQN

import equirl.envs  # noqa: F401
from equirl.envs.gridworld_states import GridWorldStates
from equirl.experiments.rl.gridworld import parse_agent
from equirl.experiments.rl.report import steps_to_threshold, summary_table


def test_the_exact_success_rate_is_what_the_environment_gives() -> None:
    environment = make("equirl/GridWorld-v0", size=3)
    model = DQN("MlpPolicy", environment, learning_starts=50, train_freq=1, seed=0, device="cpu")
    model.learn(300)
    states = GridWorldStates(3)
    assert len(states.observations) == 9 * 8
    successes = []
    for observation in states.observations:
        agent, goal = (tuple(int(i) for i in np.argwhere(observation[c])[0]) for c in (0, 1))
        seen, _ = environment.reset(options={"agent": agent, "goal": goal})
        assert np.array_equal(seen, observation)
        done = False
        while not done:
            action, _ = model.predict(seen, deterministic=True)
            seen, _, terminated, truncated, info = environment.step(action)
            done = terminated or truncated
        successes.append(info["is_success"])
    assert states.success_rate(model) == pytest.approx(np.mean(successes))
    assert 0 < np.mean(successes) < 1  # the comparison has power


def test_steps_to_threshold_and_ratio() -> None:
    rows = [("plain", s, t, r, t / 10) for s in (0, 1, 2) for t, r in ((100, 0.1), (200, 0.5), (300, 0.99))]
    rows += [("fast", s, t, r, t / 10) for s in (0, 1, 2) for t, r in ((100, 0.98 if s else 0.2), (200, 0.99))]
    rows += [("never", s, 100, 0.3, 1.0) for s in (0, 1, 2)]
    study = pd.DataFrame(rows, columns=["agent", "seed", "timesteps", "success_rate", "train_seconds"])
    reached = steps_to_threshold(study, 0.975).groupby("agent").timesteps.apply(list)
    assert reached["plain"] == [300, 300, 300]
    assert reached["fast"] == [200, 100, 100]
    assert reached["never"] == [np.inf] * 3
    table = summary_table(study, 0.975)
    assert "| fast | 3 of 3 | 100 | 100 | 200 | 0.33 | 10 |" in table
    assert "| never | 0 of 3 | not reached | not reached | not reached | - | not reached |" in table


def test_agents_of_a_study_by_name() -> None:
    spec = parse_agent("grid-d4/lambda_equitune+reads=features+temperature=2")
    assert (spec.symmetry, spec.method) == ("grid-d4", "lambda_equitune")
    assert spec.method_kwargs == {"reads": "features", "temperature": 2}
    assert parse_agent("grid-d4/equitune+batch_size=8").dqn_kwargs == {"batch_size": 8}
    assert parse_agent("plain+gradient_steps=4").dqn_kwargs == {"gradient_steps": 4}
    assert parse_agent("plain+learning_rate=1e-3").dqn_kwargs == {"learning_rate": 0.001}
    with pytest.raises(ValueError, match="batch_size must be a positive whole number"):
        parse_agent("plain+batch_size=0.5")
    with pytest.raises(ValueError, match="setting of 'plain': 'hidden' is unknown"):
        parse_agent("plain+hidden=3")
    with pytest.raises(ValueError, match="not of the form plain, sbx or SYMMETRY/METHOD"):
        parse_agent("equitune")
    with pytest.raises(ValueError, match="symmetry 'grid-d5' is unknown"):
        parse_agent("grid-d5/equitune")
