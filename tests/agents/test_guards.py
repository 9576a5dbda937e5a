"""What undoes a symmetry behind a policy's back, or means nothing, is refused or told; what is right passes."""

import copy
import pickle
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import NormalizeObservation
from minigrid.wrappers import ImgObsWrapper
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize
from torch import Tensor, nn

import equirl.envs  # noqa: F401
from equirl import (
    MappingRepresentation,
    MDPSymmetry,
    MonomialRepresentation,
    Representation,
    TokenRepresentation,
    cyclic_group,
    image_representation,
    permutation_representation,
    signed_permutation_representation,
    trivial_representation,
)
from equirl.agents import (
    EquivariantActorCriticPolicy,
    EquivariantDQNPolicy,
    resolve_symmetry,
    symmetrize_agent,
    symmetrize_statistics,
)
from equirl.envs import EgocentricView

C2 = cyclic_group(2)
TWO = permutation_representation(C2)
SIGNS = signed_permutation_representation(C2, [[0, 1]] * 2, [[1, 1], [-1, -1]])
REVERSED = permutation_representation(C2, [[0, 1], [1, 0]])
CARTPOLE = {"symmetry": "cartpole-z2", "method": "equitune"}


class World(gym.Env[Any, np.int64]):
    """Random observations of any space."""

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = space, spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, bool(self.np_random.random() < 0.1), {}


def _dqn(space: spaces.Space[Any], observation: Representation, **kwargs: Any) -> DQN:
    policy_kwargs = {"symmetry": MDPSymmetry("own", observation, TWO), "net_arch": [16], **kwargs}
    settings: Any = {"buffer_size": 200, "learning_starts": 20, "device": "cpu", "seed": 0}
    return DQN(EquivariantDQNPolicy, World(space), policy_kwargs=policy_kwargs, **settings)


def _cartpoles(**kwargs: Any) -> VecNormalize:
    return VecNormalize(make_vec_env("CartPole-v1", 2, seed=0), **kwargs)


def _ppo(env: Any, **kwargs: Any) -> PPO:
    return PPO(EquivariantActorCriticPolicy, env, policy_kwargs={**CARTPOLE, **kwargs}, n_steps=32, device="cpu")


def test_running_statistics_are_refused_however_they_come() -> None:
    with pytest.raises(ValueError, match=r"VecNormalize\(norm_obs=True\) with the symmetry 'cartpole-z2'"):
        _ppo(_cartpoles())
    with pytest.raises(ValueError, match=r"VecNormalize\(norm_obs=True\)"):
        _ppo(VecFrameStack(_cartpoles(), 1))
    with pytest.raises(ValueError, match="NormalizeObservation"):
        _ppo(make_vec_env(lambda: NormalizeObservation(gym.make("CartPole-v1")), 2))
    late = _ppo(make_vec_env("CartPole-v1", 2))
    late.set_env(_cartpoles())
    with pytest.raises(ValueError, match="VecNormalize, whose statistics are not symmetric"):
        late.learn(64)


def test_copies_of_a_policy_leave_the_environment_behind() -> None:
    class Uncopied(gym.Wrapper[Any, Any, Any, Any]):
        def __reduce__(self) -> Any:
            raise AssertionError("a policy took its environment along")

    agent = _ppo(make_vec_env(lambda: Uncopied(gym.make("CartPole-v1")), 2))  # trained ones SB3 does not copy either
    observations = torch.rand(5, 4)
    for copied in (copy.deepcopy(agent.policy), pickle.loads(pickle.dumps(agent.policy))):
        assert torch.equal(copied.predict_values(observations), agent.policy.predict_values(observations))


def test_a_saved_agent_is_not_continued_on_running_statistics(tmp_path: Any) -> None:
    _ppo(make_vec_env("CartPole-v1", 2)).save(tmp_path / "agent")
    with pytest.raises(ValueError, match=r"VecNormalize\(norm_obs=True\)"):
        PPO.load(tmp_path / "agent", env=_cartpoles(), device="cpu")


def test_statistics_that_are_symmetric_and_stay_so_pass() -> None:
    environments = _cartpoles()
    plain = PPO("MlpPolicy", environments, n_steps=32, batch_size=32, device="cpu", seed=0).learn(128)
    symmetrize_statistics(environments, "cartpole-z2")
    agent = symmetrize_agent(plain, "cartpole-z2").learn(128)  # goes on with the frozen statistics
    raw = np.random.default_rng(0).uniform(-0.2, 0.2, (50, 4))
    here, there = (
        agent.policy.get_distribution(
            torch.as_tensor(environments.normalize_obs(sign * raw)).float()
        ).distribution.probs
        for sign in (1, -1)
    )
    assert torch.allclose(here, there.flip(1), atol=1e-5)
    environments.training = True  # frozen no longer: the agent notices when it trains on
    for further in (lambda: symmetrize_agent(plain, "cartpole-z2"), lambda: agent.learn(64)):
        with pytest.raises(ValueError, match="VecNormalize"):
            further()
    _ppo(_cartpoles(norm_obs=False)).learn(64)  # rewards may be normalised
    _ppo(
        _cartpoles(),
        symmetry=MDPSymmetry("alone", trivial_representation(C2, (4,)), TWO),  # nothing moves
    ).learn(64)


def test_statistics_of_dicts_are_looked_at_entry_by_entry() -> None:
    space = spaces.Dict({"x": spaces.Box(-1, 1, (2,)), "still": spaces.Box(0, 1, (3,))})
    symmetry = MDPSymmetry("own", MappingRepresentation({"x": SIGNS, "still": trivial_representation(C2, (3,))}), TWO)
    make = {"policy_kwargs": {"symmetry": symmetry}, "n_steps": 32, "device": "cpu"}
    for keys, refused in ((["x"], True), (["still"], False)):
        environments = VecNormalize(make_vec_env(lambda: World(space), 2), norm_obs_keys=keys)
        if refused:
            with pytest.raises(ValueError, match=r"VecNormalize\(norm_obs=True\)"):
                PPO(EquivariantActorCriticPolicy, environments, **make)  # type: ignore[arg-type]
            symmetrize_statistics(environments, symmetry)
        PPO(EquivariantActorCriticPolicy, environments, **make).learn(64)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("space", "representation", "told"),
    [
        (spaces.Box(0, 4, (2,)), SIGNS, r"coordinate \(0,\) is in \[0, 4\], its image in \[-4, 0\]"),
        (spaces.Box(-2, 2, (2,)), SIGNS, None),
        (spaces.Box(-np.inf, np.inf, (2,)), SIGNS, None),
        (spaces.Box(np.array([0, -1]), np.array([1, 1]), dtype=np.float64), REVERSED, r"is in \[0, 1\], its image in"),
        (
            spaces.Dict({"x": spaces.Box(0, 4, (2,))}),
            MappingRepresentation({"x": SIGNS}),
            r"coordinate \(0,\) of 'x' is in",
        ),
        (spaces.Box(0, 255, (1, 36, 36), np.uint8), image_representation(C2, (1, 36, 36)), None),
    ],
)
def test_bounds_that_do_not_map_to_bounds_are_told(
    space: spaces.Space[Any], representation: Representation, told: str | None
) -> None:
    if told is not None:
        with pytest.warns(UserWarning, match=told):
            _dqn(space, representation)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _dqn(space, representation)


@pytest.mark.parametrize(
    ("space", "representation", "message"),
    [
        (spaces.MultiDiscrete([3, 4]), REVERSED, "one of 4 values, in the place of coordinate 0, one of 3"),
        (spaces.MultiDiscrete([3, 3]), SIGNS, "changes the sign of coordinates"),
        (spaces.MultiBinary(2), SIGNS, "changes the sign of coordinates"),
        (spaces.Discrete(4), TokenRepresentation(C2, [[0, 1, 2], [2, 1, 0]], ()), "permutes 3 values"),
        (spaces.Discrete(3, start=1), TokenRepresentation(C2, [[0, 1, 2], [2, 1, 0]], ()), "numbered from 1"),
        (
            spaces.Dict({"d": spaces.Discrete(4)}),
            MappingRepresentation({"d": TokenRepresentation(C2, [[0, 1], [1, 0]], ())}),
            "entry 'd' permutes 2 values",
        ),
    ],
)
def test_numbers_of_things_are_moved_as_such(
    space: spaces.Space[Any], representation: Representation, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _dqn(space, representation)


def test_actions_that_are_not_numbered_from_0_are_refused() -> None:
    with pytest.raises(ValueError, match=r"actions of .* are numbered from 1"):
        resolve_symmetry(MDPSymmetry("own", SIGNS, TWO), spaces.Box(-1, 1, (2,)), spaces.Discrete(2, start=1))


def test_minigrids_own_image_is_no_view_of_ours() -> None:
    settings: Any = {"buffer_size": 10, "device": "cpu"}
    for stacked in (False, True):
        world: Any = make_vec_env(lambda: ImgObsWrapper(gym.make("MiniGrid-Empty-8x8-v0")), 1)
        world = VecFrameStack(world, 2, channels_order="last") if stacked else world
        for symmetry in ("minigrid-egocentric-z2", *(["minigrid-d4"] if stacked else [])):
            with pytest.raises(ValueError, match="one-hot planes"):
                DQN(EquivariantDQNPolicy, world, policy_kwargs={"symmetry": symmetry}, **settings)
    view = EgocentricView(gym.make("MiniGrid-Empty-8x8-v0"))
    DQN(EquivariantDQNPolicy, view, policy_kwargs={"symmetry": "minigrid-egocentric-z2"}, **settings)


def test_weights_know_how_their_group_acts() -> None:
    box = spaces.Box(-1, 1, (2,))
    agent = _dqn(box, SIGNS)
    renamed = MDPSymmetry("another name", SIGNS, TWO)
    _dqn(box, SIGNS, symmetry=renamed).policy.load_state_dict(agent.policy.state_dict())
    for other in (
        MDPSymmetry("own", SIGNS, permutation_representation(C2, [[0, 1], [0, 1]])),  # other actions
        MDPSymmetry("own", REVERSED, TWO),  # other observations
    ):
        with pytest.raises(ValueError, match="moves observations or actions in another way"):
            _dqn(box, SIGNS, symmetry=other).policy.load_state_dict(agent.policy.state_dict())


@pytest.mark.parametrize(
    ("space", "representation", "size"),
    [
        (spaces.Discrete(6), TokenRepresentation(C2, [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]], ()), 6),
        (spaces.MultiDiscrete([3, 3]), REVERSED, 6),
        (spaces.Box(0, 255, (1, 36, 36), np.uint8), image_representation(C2, (1, 36, 36)), 36 * 36),
    ],
)
def test_lambda_reads_what_the_network_reads(
    space: spaces.Space[Any], representation: MonomialRepresentation, size: int
) -> None:
    agent = _dqn(space, representation)
    aggregator: Any = agent.q_net.aggregator
    read: list[Tensor] = []
    aggregator.network.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    agent.learn(30)
    assert all(batch.shape[1] == size and 0 <= float(batch.min()) <= float(batch.max()) <= 1 for batch in read)


@pytest.mark.parametrize("algorithm", [A2C, PPO])
def test_equal_seeds_begin_with_equal_weights_whatever_the_method(algorithm: Any) -> None:
    plain = algorithm("MlpPolicy", "CartPole-v1", n_steps=8, seed=3, device="cpu")
    expected, random = plain.policy.state_dict(), torch.get_rng_state()
    for method in ("equitune", "lambda_equitune", "equizero", "canonical"):
        policy_kwargs = {"symmetry": "cartpole-z2", "method": method}
        agent = algorithm(
            EquivariantActorCriticPolicy, "CartPole-v1", n_steps=8, seed=3, device="cpu", policy_kwargs=policy_kwargs
        )
        state = agent.policy.state_dict()
        assert all(torch.equal(state[name], value) for name, value in expected.items()), method
        assert torch.equal(torch.get_rng_state(), random), method


class _Scripted(BaseFeaturesExtractor):
    def __init__(self, space: spaces.Box) -> None:
        super().__init__(space, 32)
        net = nn.Sequential(nn.Flatten(), nn.Linear(147, 32), nn.Dropout(0.5))
        self.net = torch.jit.script(net)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.net(x)
        return features


@pytest.mark.filterwarnings("ignore:.*jit.script:DeprecationWarning")
def test_a_scripted_features_extractor_keeps_the_mode_and_its_parameters() -> None:
    settings = {"symmetry": "grid-d4", "method": "equitune", "features_extractor_class": _Scripted}
    world = gym.make("equirl/GridWorld-v0")
    policy = DQN(EquivariantDQNPolicy, world, buffer_size=10, device="cpu", policy_kwargs=settings).policy
    x = torch.rand(4, 3, 7, 7)
    policy.set_training_mode(True)
    assert not torch.equal(policy.q_net(x), policy.q_net(x))
    policy.set_training_mode(False)
    assert torch.equal(policy.q_net(x), policy.q_net(x))
    ours, torchs = list(policy.parameters()), [p for _, p in policy.named_parameters()]
    assert len(ours) == len(torchs)
    assert all(any(p is q for q in torchs) for p in ours)


@pytest.mark.parametrize("method", ["", 0, [], "equitun", {}])
def test_what_is_no_method_is_refused(method: Any) -> None:
    with pytest.raises(ValueError, match=r"method .* is unknown; known: canonical, equitune"):
        _dqn(spaces.Box(-1, 1, (2,)), SIGNS, method=method)
    plain = DQN("MlpPolicy", World(spaces.Box(-1, 1, (2,))), buffer_size=10, device="cpu")
    for given in (method, None):
        with pytest.raises(ValueError, match=r"method .* is unknown"):
            symmetrize_agent(plain, MDPSymmetry("own", SIGNS, TWO), given)
    with pytest.raises(TypeError, match="method_kwargs is a mapping"):
        _dqn(spaces.Box(-1, 1, (2,)), SIGNS, method_kwargs="reads:inputs")
