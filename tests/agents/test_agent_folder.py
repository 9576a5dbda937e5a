"""Agents as folders of data: equal answers in other processes, no pickle, and refusals of code and of damage."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from fuzz.agent_folder_targets import FILES
from gymnasium import spaces
from pole_agents import OBSERVATIONS, POLE, OwnExtractor, no_pickle, pole_agent, same
from sb3_contrib import ARS
from small_worlds import KINDS, World, mirror
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecNormalize, unwrap_vec_normalize
from warm_process import run_python

from equirl.agents import (
    METHODS,
    AgentCard,
    EquivariantActorCriticPolicy,
    EquivariantDQNPolicy,
    EquivariantSACPolicy,
    GridCNN,
    Novelty,
    SymmetricVecNormalize,
    SymmetryReplayBuffer,
    evaluate_for_card,
    load_agent,
    load_normalization,
    policy_with,
    save_agent_folder,
    symmetrize_agent,
)
from equirl.agents.algorithms import ALGORITHMS
from equirl.agents.cli.agent_files import load_acting
from equirl.agents.policies import POLICY_CLASSES
from equirl.safe_files import checksum_of_bytes, read_tensors, write_tensors


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_opens_and_answers_alike(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    continuous = name in ("sac", "td3", "ddpg", "tqc", "crossq")
    env = gym.make("equirl/TicTacToe-v0" if name == "ppo_mask" else "Pendulum-v1" if continuous else "CartPole-v1")
    symmetry = "board-d4" if name == "ppo_mask" else "pendulum-z2" if continuous else "cartpole-z2"
    settings: dict[str, Any] = {"buffer_size": 10} if continuous or "dqn" in name else {"n_steps": 8}
    method = list(METHODS)[list(ALGORITHMS).index(name) % len(METHODS)]
    make: Any = ALGORITHMS[name]
    arguments = {"symmetry": symmetry, "method": method, "net_arch": [8]}
    model = make(POLICY_CLASSES[name], env, seed=0, policy_kwargs=arguments, device="cpu", **settings)
    save_agent_folder(model, tmp_path / "agent")
    no_pickle(monkeypatch)
    opened = load_agent(tmp_path / "agent", device="cpu")
    assert type(opened) is make
    shape = env.observation_space.shape or ()
    boards = np.random.default_rng(0).integers(0, 2, (16, *shape))
    values = boards if name == "ppo_mask" else OBSERVATIONS[:, : shape[0]]
    same(opened, model, values.astype(env.observation_space.dtype))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_observation_is_kept(kind: str, tmp_path: Path) -> None:
    world = World(kind)
    arguments = {"symmetry": mirror(kind), "net_arch": [8]}
    model = DQN(EquivariantDQNPolicy, world, policy_kwargs=arguments, buffer_size=10)
    save_agent_folder(model, tmp_path / "agent")
    opened = load_agent(tmp_path / "agent", world)
    assert opened.observation_space == model.observation_space
    observation = world.observation_space.sample()
    assert opened.predict(observation, deterministic=True)[0] == model.predict(observation, deterministic=True)[0]


def test_a_symmetry_of_ones_own_opens_where_nothing_is_registered(tmp_path: Path) -> None:
    for method in METHODS:
        save_agent_folder(pole_agent(method=method).learn(20), tmp_path / method)
        assert (tmp_path / method / "symmetry.toml").is_file()
    np.save(tmp_path / "observations.npy", OBSERVATIONS)
    program = (
        "import numpy as np, torch\nfrom equirl.agents import load_agent\n"
        f"for method in {list(METHODS)}:\n"
        "    model = load_agent(method, device='cpu')\n"
        "    with torch.no_grad():\n"
        "        values = model.policy.q_net(torch.from_numpy(np.load('observations.npy')))\n"
        "    np.save(f'{method}.npy', values.numpy())"
    )
    run = run_python("-c", program, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    for method in METHODS:
        here: Any = load_agent(tmp_path / method, device="cpu").policy
        with torch.no_grad():
            expected = here.q_net(torch.from_numpy(OBSERVATIONS)).numpy()
        assert np.array_equal(np.load(tmp_path / f"{method}.npy"), expected)


def test_there_is_no_pickle_in_a_folder(tmp_path: Path) -> None:
    save_agent_folder(pole_agent(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*FILES, "README.md"])
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        if path.suffix == ".safetensors":
            length = int.from_bytes(content[:8], "little")
            content = content[8 : 8 + length]
            assert set(json.loads(content)) - {"__metadata__"} == set(read_tensors(path)[0])
        content.decode()  # texts alone: the pickles of torch, Python and SB3 are none
        assert b"__reduce__" not in content
        assert b":serialized:" not in content


def test_training_goes_on_as_from_a_zip(tmp_path: Path) -> None:
    env = make_vec_env("CartPole-v1", seed=0)
    settings: dict[str, Any] = {"n_steps": 16, "batch_size": 8, "seed": 0, "device": "cpu"}
    model = PPO(EquivariantActorCriticPolicy, env, policy_kwargs={"symmetry": POLE}, **settings).learn(32)
    model.save(tmp_path / "agent.zip")
    save_agent_folder(model, tmp_path / "agent")
    trained = []
    for name in ("agent.zip", "agent"):
        opened = load_agent(tmp_path / name, make_vec_env("CartPole-v1", seed=1), device="cpu")
        trained.append(opened.learn(48, reset_num_timesteps=False))
    assert trained[0].num_timesteps == trained[1].num_timesteps == 96 - 16
    same(trained[0], trained[1], OBSERVATIONS)


class OwnPolicy(EquivariantDQNPolicy):
    """Code that a folder cannot hold."""


def test_code_is_refused_and_named(tmp_path: Path) -> None:
    def refused(model: Any, match: str, error: type[Exception] = TypeError) -> None:
        with pytest.raises(error, match=match):
            save_agent_folder(model, tmp_path / "agent")
        assert not (tmp_path / "agent").exists()

    settings: dict[str, Any] = {"env": "CartPole-v1", "buffer_size": 10}
    refused(
        DQN("MlpPolicy", policy_kwargs={"features_extractor_class": OwnExtractor}, **settings),
        r"policy_kwargs.features_extractor_class is .*OwnExtractor.* which is code",
    )
    refused(
        DQN(OwnPolicy, policy_kwargs={"symmetry": POLE}, **settings), "the policy is OwnPolicy, a class of your own"
    )
    refused(ARS("LinearPolicy", "CartPole-v1"), "a folder holds agents of A2C, DQN")
    own_loss = {"symmetry": POLE, "method": "equizero", "method_kwargs": {"proxy_loss": lambda orbit: orbit.outputs}}
    refused(DQN(EquivariantDQNPolicy, policy_kwargs=own_loss, **settings), r"policy_kwargs.method_kwargs.proxy_loss is")
    falling = DQN("MlpPolicy", learning_rate=lambda progress: progress * 1e-3, **settings)
    refused(falling, r"learning_rate is a function, .*replace=\{'learning_rate': 0.001\}")
    with pytest.raises(ValueError, match="replace names 'learning_rat', which is no setting of DQN"):
        save_agent_folder(falling, tmp_path / "agent", replace={"learning_rat": 1e-3})
    save_agent_folder(falling, tmp_path / "agent", replace={"learning_rate": 2e-3})
    assert load_agent(tmp_path / "agent").learning_rate == 2e-3
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="mine holds something else than an agent"):
        save_agent_folder(falling, tmp_path / "mine", replace={"learning_rate": 2e-3})


def test_what_is_data_is_kept(tmp_path: Path) -> None:
    constant = DQN("MlpPolicy", "CartPole-v1", learning_rate=lambda _: 7e-4, buffer_size=10, target_update_interval=7)
    save_agent_folder(constant, tmp_path)
    assert load_agent(tmp_path).learning_rate == 7e-4
    falling = pole_agent(learning_rate=LinearSchedule(1e-3, 1e-4, 0.5), train_freq=(3, "step"))
    save_agent_folder(falling, tmp_path)
    opened: Any = load_agent(tmp_path)
    assert [opened.lr_schedule(x) for x in (1.0, 0.8, 0.1)] == [falling.lr_schedule(x) for x in (1.0, 0.8, 0.1)]
    assert opened.train_freq == falling.train_freq
    built_in = DQN(policy_with("cartpole-z2", "equizero"), "CartPole-v1", buffer_size=10)
    save_agent_folder(built_in, tmp_path)
    assert not (tmp_path / "symmetry.toml").exists()  # and that of the agent before is gone
    assert load_agent(tmp_path).policy.q_net.method == "equizero"  # type: ignore[union-attr]
    augmented = {"replay_buffer_class": SymmetryReplayBuffer, "replay_buffer_kwargs": {"symmetry": POLE}}
    save_agent_folder(DQN("MlpPolicy", "CartPole-v1", buffer_size=10, **augmented), tmp_path)
    assert load_agent(tmp_path).replay_buffer.symmetry == POLE  # type: ignore[attr-defined]
    images = {"features_extractor_class": "equirl.agents.GridCNN", "symmetry": "grid-d4"}
    grid = DQN(EquivariantDQNPolicy, "equirl/GridWorld-v0", policy_kwargs=images, buffer_size=10)
    save_agent_folder(grid, tmp_path)
    assert isinstance(load_agent(tmp_path).policy.q_net.features_extractor, GridCNN)  # type: ignore[union-attr]
    familiar = symmetrize_agent(constant, "cartpole-z2", "equizero", {"proxy_loss": Novelty(OBSERVATIONS)})
    save_agent_folder(familiar, tmp_path, replace={"learning_rate": 1e-3})
    same(load_agent(tmp_path), familiar, OBSERVATIONS)


def _resealed(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the settings of a folder as somebody would who knows how its checksums are made."""
    about = json.loads((folder / "agent.json").read_text())
    change(about)
    encoded = json.dumps(about).encode()
    (folder / "agent.json").write_bytes(encoded)
    for name in ("weights.safetensors", "state.safetensors"):
        write_tensors(folder / name, read_tensors(folder / name)[0], **{"agent.json": checksum_of_bytes(encoded)})


HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a policy to import": (lambda a: a.update(policy="os.system"), "class 'os.system' is unknown"),
    "an activation to import": (
        lambda a: a["policy_kwargs"].update(activation_fn={"=": "class", "name": "os.system"}),
        "class 'os.system' is unknown",
    ),
    "an extractor to import": (
        lambda a: a["policy_kwargs"].update(features_extractor_class="antigravity.Comic"),
        "features_extractor_class is a text",
    ),
    "a symmetry's file": (
        lambda a: a["policy_kwargs"].update(symmetry="/etc/own.toml"),
        "does not come with equirl",
    ),
    "another symmetry": (lambda a: a["policy_kwargs"].update(symmetry="cartpole-z2"), "the symmetry's name is"),
    "another method": (lambda a: a["policy_kwargs"].update(method="canonical"), "the symmetry's method is 'canonical'"),
    "an attribute": (lambda a: a["settings"].update(predict=3), "setting of DQN: 'predict' is unknown"),
    "a text for a number": (lambda a: a["settings"].update(gamma="much"), "gamma is 'much'"),
    "infinity": (lambda a: a["settings"].update(gamma={"=": "number", "text": "inf"}), "gamma is inf"),
    "huge layers": (lambda a: a["policy_kwargs"].update(net_arch=[10**6, 10**6]), "many times larger than its weights"),
    "many layers": (lambda a: a["policy_kwargs"].update(net_arch=[8] * 10**6), "many times larger than its weights"),
    "a huge observation": (lambda a: a["observation_space"].update(shape=[10**6, 10**6]), "their product at most"),
    "huge actions": (lambda a: a["action_space"].update(n=10**9), "their product at most"),
    "numbers of another kind": (
        lambda a: a["observation_space"].update(dtype="U9999"),
        "numbers are of the kind <U9999",
    ),
    "a huge buffer": (lambda a: a["settings"].update(buffer_size=10**17), "agent.json holds no settings that make"),
    "another width": (lambda a: a["policy_kwargs"].update(net_arch=[9]), "agent.json holds no settings that make"),
    "an unknown kind": (lambda a: a["settings"].update(gamma={"=": "pickle"}), "kind of value 'pickle' is unknown"),
    "no spaces": (lambda a: a.pop("observation_space"), "agent.json has no observation_space of the right kind"),
    "a later format": (lambda a: a.update(format=2), "format 2, and this version of equirl reads 1"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("folders") / "agent"
    save_agent_folder(pole_agent(), made)
    return made


def _copied(folder: Path, target: Path) -> Path:
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


@pytest.mark.parametrize("what", HOSTILE)
def test_changed_settings_run_no_code_and_take_no_memory(what: str, folder: Path, tmp_path: Path) -> None:
    change, match = HOSTILE[what]
    copied = _copied(folder, tmp_path / "copied")
    _resealed(copied, lambda about: None)
    load_agent(copied)  # the seal is right
    _resealed(copied, change)
    with pytest.raises(ValueError, match=match) as caught:
        load_agent(copied)
    assert "copied/agent.json" in str(caught.value)
    assert "antigravity" not in sys.modules


def test_arguments_for_zips_are_refused_for_folders(folder: Path) -> None:
    with pytest.raises(ValueError, match="symmetry and policy_kwargs are for"):
        load_agent(folder, trusted=False, symmetry=POLE)
    assert load_agent(folder, trusted=False).action_space == spaces.Discrete(2)


def test_files_of_another_agent_are_told(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    save_agent_folder(pole_agent(seed=1), other)
    for name in FILES:
        copied = _copied(folder, tmp_path / name)
        if name == "symmetry.toml":
            (copied / name).write_text((copied / name).read_text().replace("a-pole", "another-pole"))
        else:
            (copied / name).write_bytes((other / name).read_bytes())
        with pytest.raises(ValueError, match=r"does not match its checksum|does not belong to this agent.json"):
            load_agent(copied)
        (copied / name).unlink()
        with pytest.raises((FileNotFoundError, ValueError), match=name):
            load_agent(copied)


@pytest.mark.parametrize("kind", ["plain", "symmetric"])
def test_statistics_of_normalised_observations_are_kept(kind: str, tmp_path: Path) -> None:
    base = make_vec_env("Pendulum-v1", n_envs=2, seed=0)
    env: VecNormalize = VecNormalize(base) if kind == "plain" else SymmetricVecNormalize(base, "pendulum-z2")
    policy: Any = "MlpPolicy" if kind == "plain" else EquivariantActorCriticPolicy
    arguments = {} if kind == "plain" else {"symmetry": "pendulum-z2"}
    model = PPO(policy, env, n_steps=8, batch_size=8, policy_kwargs=arguments, device="cpu").learn(64)
    save_agent_folder(model, tmp_path / "agent")
    raw = np.stack([base.observation_space.sample() for _ in range(16)])
    expected = model.predict(env.normalize_obs(raw), deterministic=True)[0]
    opened = load_agent(tmp_path / "agent", make_vec_env("Pendulum-v1"), device="cpu")
    put_around = unwrap_vec_normalize(opened.get_env())  # type: ignore[arg-type]
    assert put_around is not None
    assert not put_around.training
    assert np.array_equal(opened.predict(put_around.normalize_obs(raw), deterministic=True)[0], expected)
    alone = load_normalization(tmp_path / "agent", make_vec_env("Pendulum-v1"))
    assert np.array_equal(alone.normalize_obs(raw), env.normalize_obs(raw))
    act = load_acting(tmp_path / "agent")
    assert np.array_equal(act(raw[0]), model.predict(env.normalize_obs(raw)[0], deterministic=True)[0])
    with pytest.raises(ValueError, match=r"agent.json.*statistics are of observations of shape \(3,\)"):
        load_normalization(tmp_path / "agent", make_vec_env("CartPole-v1"))
    save_agent_folder(pole_agent(), tmp_path / "other")
    with pytest.raises(ValueError, match="whose observations were not normalised"):
        load_normalization(tmp_path / "other", make_vec_env("CartPole-v1"))


def test_the_card_tells_what_was_measured(tmp_path: Path) -> None:
    model = pole_agent("cartpole-z2").learn(20)
    measured = evaluate_for_card(model, make_vec_env("CartPole-v1"), 4, n_states=50)
    assert measured.n_episodes == 4
    assert measured.low <= measured.mean_return <= measured.high
    assert measured.equivariance_error is not None
    assert measured.equivariance_error < 1e-5
    card = AgentCard("CartPole-v1", {}, "equirl train --env CartPole-v1", {"gamma": "0.99"}, measured)
    save_agent_folder(model, tmp_path, card=card)
    text = (tmp_path / "README.md").read_text()
    for part in ("CartPole-v1", "cartpole-z2", "equitune", f"{measured.mean_return:.2f}", "equirl train --env", "0.99"):
        assert part in text
    plain = SAC("MlpPolicy", "Pendulum-v1", buffer_size=10, policy_kwargs={"net_arch": [4]})
    assert evaluate_for_card(plain, make_vec_env("Pendulum-v1"), 1).equivariance_error is None
    with pytest.raises(ValueError, match="n_episodes"):
        evaluate_for_card(model, make_vec_env("CartPole-v1"), 0)


def test_spaces_keep_their_bounds(tmp_path: Path) -> None:
    env = gym.make("Pendulum-v1")
    sac = SAC(EquivariantSACPolicy, env, policy_kwargs={"symmetry": "pendulum-z2", "net_arch": [4]}, buffer_size=10)
    save_agent_folder(sac, tmp_path)
    opened = load_agent(tmp_path)
    assert isinstance(opened.action_space, spaces.Box)
    assert opened.action_space == env.action_space
    assert opened.observation_space == env.observation_space
    with pytest.raises(ValueError, match="The agent was trained on the first and the environment gives the second"):
        load_agent(tmp_path, gym.make("CartPole-v1"))
    with pytest.raises(ValueError, match="holds an agent of 'sac', not of 'dqn'"):
        load_agent(tmp_path, algorithm="dqn")
