"""Scores of agents: on arrays too, in evaluation mode, and through a normalisation as the world sees them."""

import numpy as np
import pytest
import torch
from small_worlds import World, mirror
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from equirl.agents import symmetrize_agent
from equirl.agents.features_extractors import GridCNN, resolve_features_extractor
from equirl.agents.scores import action_scores, before_normalization
from equirl.testing import equivariance_error


def test_arrays_are_taken_and_modes_stay() -> None:
    model = PPO("MlpPolicy", World("box"), device="cpu")
    states = np.random.default_rng(0).uniform(-1, 1, (20, 2))
    model.policy.mlp_extractor.policy_net.append(nn.Dropout(0.5))
    model.policy.train()
    model.policy.value_net.eval()
    modes = [part.training for part in model.policy.modules()]
    first, again = action_scores(model)(states), action_scores(model)(torch.as_tensor(states))  # type: ignore[arg-type]
    assert torch.equal(first, again)  # no dropout
    assert [part.training for part in model.policy.modules()] == modes
    greedy, _ = model.predict(states.astype(np.float32), deterministic=True)
    assert np.array_equal(first.argmax(dim=1).numpy(), greedy)


def test_normalisation_that_is_not_symmetric_shows_in_the_error() -> None:
    """The network is equivariant; normalisation and network together, what acts in the world, are not."""
    agent = symmetrize_agent(DQN("MlpPolicy", World("box"), buffer_size=10, device="cpu", seed=0), mirror("box"))
    normalize = VecNormalize(make_vec_env(lambda: World("box"), 1), training=False)
    normalize.obs_rms.var = np.full(2, 0.25)
    raw = np.random.default_rng(0).uniform(-1, 1, (50, 2)).astype(np.float32)
    for mean, symmetric in ((0.0, True), (0.7, False)):
        normalize.obs_rms.mean = np.full(2, mean)
        seen = torch.as_tensor(normalize.normalize_obs(raw))
        scores, states = before_normalization(action_scores(agent), seen, normalize)
        assert np.allclose(states, raw, atol=1e-5)
        assert torch.allclose(scores(states), action_scores(agent)(seen), atol=1e-5)
        error = equivariance_error(scores, mirror("box").observation, mirror("box").action, states)
        assert error < 1e-4 if symmetric else error > 1e-2
    for other in (None, VecNormalize(make_vec_env(lambda: World("box"), 1), norm_obs=False)):
        assert before_normalization(scores, seen, other) == (scores, seen)


def test_mistakes_are_told() -> None:
    with pytest.raises(TypeError, match=r"SAC in Box.* gives no scores for actions; DQN, QRDQN, PPO, A2C and"):
        action_scores(SAC("MlpPolicy", "Pendulum-v1", device="cpu", buffer_size=10))
    for wrong in ("GridCNN", ".GridCNN", "equirl.agents.NoCNN", ""):
        with pytest.raises(ValueError, match=r"cannot be imported .*give a class or a dotted path"):
            resolve_features_extractor(wrong, World("box").observation_space)
    for space in (World("box").observation_space, World("dict").observation_space):
        with pytest.raises(ValueError, match=r"GridCNN takes images \[C, H, W\], a Box"):
            GridCNN(space)  # type: ignore[arg-type]
