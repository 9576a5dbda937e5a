"""gSDE under a group: features of the noise are symmetrized, and noisy actions are as likely in every orientation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from continuous import SWAPPED, TwoArms, make
from stable_baselines3 import PPO, SAC

from equirl import MDPSymmetry, cyclic_group, trivial_representation
from equirl.agents import METHODS, EquivariantActorCriticPolicy, EquivariantSACPolicy, symmetrize_agent
from equirl.agents.orbit_noise import OrbitNoiseDistribution

STATES = torch.randn(40, 5, generator=torch.Generator().manual_seed(1))
MOVED: Any = SWAPPED.observation.transform(1, STATES)


def _policy(name: str, method: str) -> Any:
    """Return the policy of an agent that has learned a little with gSDE."""
    if name == "ppo":
        own = {"symmetry": SWAPPED, "method": method, "net_arch": [16], "log_std_init": -1.0}
        agent: Any = PPO(EquivariantActorCriticPolicy, TwoArms(), n_steps=64, device="cpu", seed=0, use_sde=True,
                         policy_kwargs=own)  # fmt: skip
    else:
        agent = make(name, method, use_sde=True)
    agent.learn(64)
    return agent.policy


def _distribution(policy: Any, states: torch.Tensor) -> Any:
    if hasattr(policy, "actor"):
        return policy.actor.action_dist.proba_distribution(*_parameters(policy, states))
    return policy.get_distribution(states)


def _parameters(policy: Any, states: torch.Tensor) -> tuple[Any, ...]:
    mean, log_std, more = policy.actor.get_action_dist_params(states)
    return mean, log_std, more["latent_sde"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["sac", "tqc", "crossq", "ppo"])
def test_means_deviations_and_probabilities_move_as_actions_do(name: str, method: str) -> None:
    policy = _policy(name, method)
    policy.set_training_mode(False)
    actions = torch.rand(40, 3, generator=torch.Generator().manual_seed(3)) * 1.8 - 0.9
    found = []
    with torch.no_grad():
        for states, given in ((STATES, actions), (MOVED, SWAPPED.action.transform(1, actions))):
            distribution = _distribution(policy, states)
            found.append(
                (distribution.distribution.mean, distribution.distribution.stddev, distribution.log_prob(given))
            )
    (mean, deviation, here), (mean_there, deviation_there, there) = found
    assert torch.allclose(SWAPPED.action.transform(1, mean), mean_there, atol=1e-5)
    assert torch.allclose(deviation[:, [1, 0, 2]], deviation_there, atol=1e-5)
    assert torch.allclose(here, there, atol=1e-4)
    assert deviation.std() > 1e-5  # the noise does hang on the state


def test_noise_of_a_mirror_without_swaps_moves_with_every_draw() -> None:
    own = {"symmetry": "pendulum-z2", "method": "equitune", "net_arch": [16]}
    agent = SAC(EquivariantSACPolicy, "Pendulum-v1", use_sde=True, buffer_size=10, device="cpu", policy_kwargs=own)
    agent.policy.reset_noise()
    states = torch.randn(20, 3)
    with torch.no_grad():
        noisy = [agent.actor(each) for each in (states, states * torch.tensor([1.0, -1.0, -1.0]))]
        means = agent.actor(states, deterministic=True)
    assert torch.allclose(noisy[0], -noisy[1], atol=1e-6)
    assert not torch.allclose(noisy[0], means, atol=1e-4)


def test_with_a_trivial_group_training_is_sb3s() -> None:
    one = cyclic_group(1)
    trivial = MDPSymmetry("trivial", trivial_representation(one, (5,)), trivial_representation(one, (3,)))
    for algorithm, policy, settings in (
        (
            SAC,
            EquivariantSACPolicy,
            {"learning_starts": 20, "buffer_size": 200, "batch_size": 16, "sde_sample_freq": 4},
        ),
        (PPO, EquivariantActorCriticPolicy, {"n_steps": 32, "n_epochs": 2, "batch_size": 32}),
    ):
        fused = {"fused": True} if algorithm is SAC else {"fused": True, "eps": 1e-5}
        both: list[Any] = []
        for chosen, own in (("MlpPolicy", {}), (policy, {"symmetry": trivial, "method": "canonical"})):
            kwargs = {"net_arch": [16], "optimizer_kwargs": fused, **own}
            agent = algorithm(chosen, TwoArms(), use_sde=True, seed=0, device="cpu", policy_kwargs=kwargs, **settings)  # type: ignore[operator]
            both.append(agent.learn(96).policy.state_dict())
        gap = max(float((both[1][key] - value).abs().max()) for key, value in both[0].items())
        assert gap < 1e-5


def test_agents_trained_with_noise_are_symmetrized() -> None:
    plain = make("sac", None, use_sde=True)
    plain.learn(60)
    symmetrized = symmetrize_agent(plain, SWAPPED, "equitune")
    assert isinstance(symmetrized.policy.actor.action_dist, OrbitNoiseDistribution)
    with torch.no_grad():
        means = [plain.actor.get_action_dist_params(each)[0] for each in (STATES, MOVED)]
        ours = symmetrized.actor.get_action_dist_params(STATES)[0]
    assert torch.allclose(ours, (means[0] + SWAPPED.action.transform(1, means[1])) / 2, atol=1e-6)
    symmetrized.learn(30, reset_num_timesteps=False)
