import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import NatureCNN
from stable_baselines3.common.vec_env import SubprocVecEnv
from torch import nn

import equirl.agents.policies
from equirl import (
    MappingRepresentation,
    MDPSymmetry,
    TokenRepresentation,
    cyclic_group,
    dihedral_group,
    equivariance_error,
    image_representation,
    permutation_representation,
    trivial_representation,
)
from equirl.agents import METHODS, EquivariantDQNPolicy, EquivariantQNetwork, GridCNN, policy_with

SYMMETRIES = ("grid-c4", "grid-d4")
BACKBONES: dict[str, dict[str, Any]] = {
    "mlp": {"net_arch": [32, 32]},
    "cnn": {"net_arch": [32], "features_extractor_class": GridCNN, "features_extractor_kwargs": {"features_dim": 32}},
}
each_agent = pytest.mark.parametrize(
    ("symmetry", "method", "backbone"), [(s, m, b) for s in SYMMETRIES for m in METHODS for b in BACKBONES]
)
SMALL: dict[str, Any] = {
    "learning_starts": 20,
    "buffer_size": 500,
    "train_freq": 1,
    "target_update_interval": 50,
    "batch_size": 16,
    "device": "cpu",
    "seed": 0,
}


def _model(
    symmetry: Any = "grid-d4", method: str = "lambda_equitune", backbone: str = "mlp", size: int = 5, **kwargs: Any
) -> DQN:
    environment = gym.make("equirl/GridWorld-v0", size=size)
    policy_kwargs = {"symmetry": symmetry, "method": method, **BACKBONES[backbone], **kwargs}
    return DQN(EquivariantDQNPolicy, environment, policy_kwargs=copy.deepcopy(policy_kwargs), **SMALL)


def _wake_lambda(model: DQN) -> None:
    """Give λ a random last layer: it starts constant, where λ-equitune is equitune."""
    with torch.no_grad():
        for network in (model.policy.q_net, model.policy.q_net_target):
            for parameter in network.aggregator.parameters():
                parameter.normal_(std=0.5)


def _observations(size: int = 5) -> np.ndarray:
    """Random states and states that group elements leave fixed."""
    random = np.random.default_rng(0)
    observations = np.zeros((40, 3, size, size), dtype=np.uint8)
    for observation in observations[:32]:
        for channel in (0, 1):
            observation[channel, *random.integers(size, size=2)] = 1
        observation[2] = random.random((size, size)) < 0.2
    middle = size // 2
    observations[32, :2, middle, middle] = 1  # fixed by all of D4
    observations[33, 0, middle, 0] = observations[33, 1, middle, 3] = 1  # fixed by the up-down mirror
    observations[34, 0, 0, middle] = observations[34, 1, 4, middle] = 1  # fixed by the left-right mirror
    observations[35, 0, 0, 0] = observations[35, 1, 3, 3] = 1  # fixed by a diagonal mirror
    observations[36, 2] = 1  # walls everywhere
    return observations


def _error(network: EquivariantQNetwork, observations: np.ndarray) -> float:
    return equivariance_error(network, network.input_rep, network.output_rep, torch.from_numpy(observations))


@each_agent
def test_q_values_are_equivariant_random_trained_loaded_and_in_predict(
    symmetry: str, method: str, backbone: str, tmp_path: Path
) -> None:
    model, observations = _model(symmetry, method, backbone), _observations()
    _wake_lambda(model)
    assert _error(model.q_net, observations) < 1e-5
    model.learn(70)  # the target is updated at step 50
    assert _error(model.q_net, observations) < 1e-5
    assert _error(model.q_net_target, observations) < 1e-5

    model.save(tmp_path / "model.zip")
    loaded = DQN.load(tmp_path / "model.zip", device="cpu")
    assert loaded.q_net.method == method
    assert _error(loaded.q_net, observations) < 1e-5
    with torch.no_grad():
        before, after = (m.q_net(torch.from_numpy(observations)) for m in (model, loaded))
    assert torch.equal(before, after)

    # predict takes the greedy action of these Q-values; where the argmax is clear, it turns with the state
    actions, _ = loaded.predict(observations, deterministic=True)
    assert np.array_equal(actions, after.argmax(dim=1).numpy())
    gap = after.sort(dim=1).values.diff(dim=1)[:, -1]
    clear = (gap > 1e-4 * after.abs().amax(dim=1)).numpy()
    group = loaded.q_net.symmetry.group
    permutation = group.natural_action
    for g in range(group.order):
        turned = loaded.q_net.input_rep.transform(g, torch.from_numpy(observations)).numpy()
        turned_actions, _ = loaded.predict(turned, deterministic=True)
        assert np.array_equal(turned_actions[clear], permutation[g].numpy()[actions][clear])
    assert clear.sum() >= 10


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_hard_update_copies_the_q_values_bit_for_bit(method: str, backbone: str, tmp_path: Path) -> None:
    model, observations = _model(method=method, backbone=backbone), torch.from_numpy(_observations())
    _wake_lambda(model)
    model.learn(50)  # an update at step 50
    model.save(tmp_path / "model.zip")
    loaded = DQN.load(tmp_path / "model.zip", env=model.get_env(), device="cpu")
    loaded.learn(60)  # its target is hard-updated at step 50, and not since

    def q_values(network: EquivariantQNetwork, training: bool) -> torch.Tensor:
        network.set_training_mode(training)
        with torch.no_grad():
            return network(observations)

    for trained in (model, loaded):
        trained._n_calls = trained.target_update_interval - 1
        trained._on_step()
        for training in (True, False):
            online = q_values(trained.q_net, training)
            assert torch.equal(online, q_values(trained.q_net_target, training))
            assert torch.equal(online, q_values(trained.q_net_target, not training))
    with torch.no_grad():
        next(model.q_net.parameters()).add_(1)
    assert not torch.equal(q_values(model.q_net, True), q_values(model.q_net_target, True))


def test_the_trivial_group_is_sb3() -> None:
    shape = (3, 5, 5)
    group = cyclic_group(1)
    nothing = MDPSymmetry("none", image_representation(group, shape), trivial_representation(group, (4,)))
    settings = {"net_arch": [32, 32], "optimizer_kwargs": {"fused": True}}  # our policies' default
    plain = DQN("MlpPolicy", gym.make("equirl/GridWorld-v0", size=5), policy_kwargs=settings, **SMALL)
    plain.learn(150)
    observations = torch.from_numpy(_observations())
    for method in ("equitune", "equizero"):
        model = _model(nothing, method)
        model.learn(150)
        assert torch.equal(model.q_net(observations), plain.q_net(observations))


def test_weights_of_a_plain_agent_load_and_go_back(tmp_path: Path) -> None:
    plain = DQN("MlpPolicy", gym.make("equirl/GridWorld-v0", size=5), policy_kwargs={"net_arch": [32, 32]}, **SMALL)
    plain.learn(60)
    plain.save(tmp_path / "plain.zip")
    for method in ("equitune", "equizero"):
        model = _model(method=method)
        model.set_parameters(tmp_path / "plain.zip", device="cpu")
        assert all(torch.equal(a, b) for a, b in zip(model.q_net.parameters(), plain.q_net.parameters(), strict=True))
        assert _error(model.q_net, _observations()) < 1e-5
        model.save(tmp_path / "symmetrized.zip")
        back = DQN("MlpPolicy", plain.get_env(), policy_kwargs={"net_arch": [32, 32]}, **SMALL)
        back.set_parameters(tmp_path / "symmetrized.zip", device="cpu")
        observations = torch.from_numpy(_observations())
        assert torch.equal(back.q_net(observations), plain.q_net(observations))


def test_training_goes_on_after_loading(tmp_path: Path) -> None:
    model = _model()
    model.learn(100)
    model.save(tmp_path / "model.zip")
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    loaded = DQN.load(tmp_path / "model.zip", env=gym.make("equirl/GridWorld-v0", size=5), device="cpu")
    loaded.load_replay_buffer(tmp_path / "buffer.pkl")
    before = loaded.policy.parameters_to_vector()
    loaded.learn(60, reset_num_timesteps=False)
    assert loaded.num_timesteps == 160
    assert not np.array_equal(before, loaded.policy.parameters_to_vector())


def test_vectorized_environments_in_other_processes() -> None:
    environments = make_vec_env(
        "equirl.envs:equirl/GridWorld-v0", n_envs=2, env_kwargs={"size": 5}, vec_env_cls=SubprocVecEnv, seed=0
    )
    policy_kwargs = {"symmetry": "grid-d4", "method": "equizero", **BACKBONES["mlp"]}
    model = DQN(EquivariantDQNPolicy, environments, policy_kwargs=policy_kwargs, **SMALL)
    model.learn(100)
    actions, _ = model.predict(environments.reset(), deterministic=True)
    assert actions.shape == (2,)
    environments.close()


def test_policies_pickle_into_another_process(tmp_path: Path) -> None:
    """Each policy is saved in three ways, and a fresh interpreter that has imported nothing of equirl opens all."""
    observation = _observations()[0]
    np.save(tmp_path / "observation.npy", observation)
    expected = []
    for number, policy in enumerate((EquivariantDQNPolicy, policy_with("grid-c4", "equizero"))):
        policy_kwargs = {"net_arch": [8]} | ({} if policy.fixed else {"symmetry": "grid-d4", "method": "equitune"})
        model = DQN(policy, gym.make("equirl/GridWorld-v0", size=5), policy_kwargs=policy_kwargs, **SMALL)
        expected += [str(model.q_net(torch.from_numpy(observation[None]))[0].tolist())] * 3
        (tmp_path / f"{number}.pkl").write_bytes(pickle.dumps(model.policy))
        model.save(tmp_path / f"{number}.zip")
        model.policy.save(str(tmp_path / f"{number}.pt"))
    script = """
import pickle, sys, numpy, torch
from pathlib import Path
from stable_baselines3 import DQN
folder = Path(sys.argv[1])
observation = torch.from_numpy(numpy.load(folder / "observation.npy")[None])
for number in (0, 1):
    policy = pickle.loads((folder / f"{number}.pkl").read_bytes())
    loaded = DQN.load(folder / f"{number}.zip", device="cpu").policy
    alone = type(loaded).load(str(folder / f"{number}.pt"), device="cpu")
    for p in (policy, loaded, alone):
        print(p.q_net(observation)[0].tolist())
"""
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert run.stdout.splitlines() == expected


def test_policy_classes_with_symmetry_built_in() -> None:
    made = equirl.agents.policies.GridD4LambdaEquitunePolicy
    assert made is policy_with("grid-d4", "lambda_equitune")
    model = DQN(made, gym.make("equirl/GridWorld-v0", size=5), policy_kwargs={"net_arch": [8]}, **SMALL)
    assert (model.q_net.symmetry.name, model.q_net.method) == ("grid-d4", "lambda_equitune")
    with pytest.raises(ValueError, match="symmetry='grid-d4' built in; it cannot take 'grid-c4'"):
        DQN(made, gym.make("equirl/GridWorld-v0", size=5), policy_kwargs={"symmetry": "grid-c4"}, **SMALL)
    with pytest.raises(AttributeError, match=r"policy class 'GridD4LambdaPolicy' is unknown; known: .* Did you mean"):
        equirl.agents.policies.GridD4LambdaPolicy  # noqa: B018


class _CompassEnv(gym.Env):
    """Dict observations: a picture with one marked cell, and the direction to go as one-hot."""

    observation_space = spaces.Dict({"picture": spaces.Box(0, 1, (1, 3, 3)), "compass": spaces.Box(0, 1, (4,))})
    action_space = spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[dict, float, bool, bool, dict]:
        return self.observation_space.sample(), 0.0, False, True, {}


def test_dict_observations() -> None:
    group = dihedral_group(4)
    symmetry = MDPSymmetry(
        "compass",
        MappingRepresentation(
            {"picture": image_representation(group, (1, 3, 3)), "compass": permutation_representation(group)}
        ),
        permutation_representation(group),
    )
    for method in METHODS:
        model = DQN(
            EquivariantDQNPolicy, _CompassEnv(), policy_kwargs={"symmetry": symmetry, "method": method}, **SMALL
        )
        model.learn(60)
        _wake_lambda(model)
        x = {"picture": torch.rand(6, 1, 3, 3), "compass": torch.rand(6, 4)}
        network = model.q_net
        assert equivariance_error(network, network.input_rep, network.output_rep, x) < 1e-5


def test_discrete_observations() -> None:
    # FrozenLake's dynamics on an empty map are symmetric; its states are numbers. Actions: left, down, right, up.
    group = cyclic_group(4)
    cells = torch.arange(16).view(4, 4)
    where = torch.stack([torch.rot90(cells, k, (0, 1)).flatten().argsort() for k in range(4)])
    symmetry = MDPSymmetry("lake", TokenRepresentation(group, where, shape=()), permutation_representation(group))
    lake = gym.make("FrozenLake-v1", desc=["SFFF", "FFFF", "FFFF", "FFFG"], is_slippery=False)
    for method in METHODS:
        model = DQN(EquivariantDQNPolicy, lake, policy_kwargs={"symmetry": symmetry, "method": method}, **SMALL)
        model.learn(60)
        network = model.q_net
        assert equivariance_error(network, network.input_rep, network.output_rep, torch.arange(16)) < 1e-5


class _CameraEnv(gym.Env):
    """Camera images 0..255, channels last, as SB3's NatureCNN takes them."""

    observation_space = spaces.Box(0, 255, (36, 36, 3), dtype=np.uint8)
    action_space = spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        return self.observation_space.sample(), 0.0, False, True, {}


def test_camera_images_are_transposed_and_scaled_by_sb3() -> None:
    policy_kwargs = {"symmetry": "grid-d4", "method": "equizero", "features_extractor_class": NatureCNN}
    model = DQN(EquivariantDQNPolicy, _CameraEnv(), policy_kwargs=policy_kwargs, **SMALL)
    model.learn(25)
    observations = np.random.default_rng(0).integers(0, 256, (3, 3, 36, 36)).astype(np.uint8)
    assert _error(model.q_net, observations) < 1e-5
    actions, _ = model.predict(observations.transpose(0, 2, 3, 1), deterministic=True)
    assert actions.shape == (3,)


@pytest.mark.parametrize(
    ("policy_kwargs", "error", "message"),
    [
        ({"symmetry": None}, ValueError, r"needs a symmetry: .*-optimize.* replaces policy_kwargs"),
        ({"symmetry": "grid-d44"}, ValueError, r"symmetry 'grid-d44' is unknown; known: .* Did you mean 'grid-d4'"),
        ({"method": "equitone"}, ValueError, r"method 'equitone' is unknown; known: .* Did you mean 'equitune'"),
        ({"method_kwargs": {"hiden": [8]}}, ValueError, r"'hiden' is unknown; known: .* Did you mean 'hidden'"),
        ({"method": "equitune", "method_kwargs": {"x": 1}}, ValueError, "'equitune' takes no method_kwargs; got 'x'"),
        ({"method_kwargs": {"reads": "input"}}, ValueError, r"reads 'input' is unknown; .* Did you mean 'inputs'"),
        ({"symmetry": 4}, TypeError, "a registered name or an MDPSymmetry; got 4"),
        ({"features_extractor_class": "equirl.agents.GridCN"}, ValueError, "'equirl.agents.GridCN' cannot be imported"),
        ({"features_extractor_class": dict}, TypeError, "must be a subclass of SB3's BaseFeaturesExtractor"),
    ],
)
def test_mistakes_in_policy_kwargs_are_named(policy_kwargs: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _model(**policy_kwargs)


def test_a_symmetry_of_another_size_is_refused() -> None:
    symmetry = _model(size=6).q_net.symmetry
    with pytest.raises(
        ValueError, match=r"acts on observations \[3, 6, 6\], but the observation space has \[3, 5, 5\]"
    ):
        _model(symmetry)


def test_a_grid_that_is_not_square_is_refused() -> None:
    with pytest.raises(ValueError, match="quarter turn, which maps a 5 x 7 image to 7 x 5"):
        EquivariantDQNPolicy(spaces.Box(0, 1, (3, 5, 7)), spaces.Discrete(4), lambda _: 0.0, symmetry="grid-c4")


def test_continuous_actions_are_refused() -> None:
    with pytest.raises(TypeError, match=r"acts in Discrete spaces; got Box\(-1.0, 1.0, \(2,\)"):
        EquivariantDQNPolicy(
            spaces.Box(0, 1, (3, 5, 5)), spaces.Box(-1, 1, (2,)), lambda _: 0.0, symmetry="grid-c4"  # type: ignore[arg-type]
        )  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_a_checkpoint_of_another_group_is_refused_and_changes_nothing(method: str, tmp_path: Path) -> None:
    saved, other = _model("grid-d4", method), _model("grid-c4", method)
    saved.save(tmp_path / "d4.zip")
    before = other.policy.parameters_to_vector()
    with pytest.raises(ValueError, match=r"saved with the group D4, but this network has C4 \(symmetry 'grid-c4'\)"):
        other.set_parameters(tmp_path / "d4.zip", device="cpu")
    assert np.array_equal(before, other.policy.parameters_to_vector())
    c4 = {"symmetry": "grid-c4", "method": method, **BACKBONES["mlp"]}
    with pytest.raises(ValueError, match="saved with the group D4"):
        DQN.load(tmp_path / "d4.zip", device="cpu", custom_objects={"policy_kwargs": c4})
    with pytest.raises(ValueError, match="policy kwargs do not equal the stored"):  # SB3's own, which names both
        DQN.load(tmp_path / "d4.zip", device="cpu", policy_kwargs=c4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_observations_that_are_not_finite_are_refused(bad: float) -> None:
    policy = EquivariantDQNPolicy(spaces.Box(0, 1, (3, 5, 5)), spaces.Discrete(4), lambda _: 0.0, symmetry="grid-d4")
    observations = np.zeros((4, 3, 5, 5), dtype=np.float32)
    observations[2, 1, 0, 0] = bad
    with pytest.raises(ValueError, match=rf"observation 2 of the batch holds {bad}; every observation must be finite"):
        policy.predict(observations)


def test_the_arguments_it_was_made_with_are_the_arguments_it_is_saved_with() -> None:
    model = _model(method="equizero", method_kwargs={"proxy_loss": "entropy", "gradient": "straight_through"})
    data = model.policy._get_constructor_parameters()
    assert data["symmetry"] == model.q_net.symmetry
    assert data["method"] == "equizero"
    again = EquivariantDQNPolicy(**data)
    assert again.q_net.aggregator.gradient == "straight_through"
    assert isinstance(again.q_net, EquivariantQNetwork)


@pytest.mark.parametrize("method", ["equitune", "lambda_equitune"])
def test_the_policy_has_the_parameters_that_torch_finds(method: str) -> None:
    policy = DQN(
        EquivariantDQNPolicy, gym.make("equirl/GridWorld-v0"), policy_kwargs=dict(symmetry="grid-d4", method=method)
    ).policy
    found = dict(nn.Module.named_parameters(policy))
    assert [id(p) for p in policy.parameters()] == [id(p) for p in found.values()]
    policy.q_net_target.q_net = policy.q_net.q_net  # shared parameters count once
    assert len(list(policy.parameters())) == len(dict(nn.Module.named_parameters(policy))) < len(found)
    assert not list(policy.parameters(recurse=False))
