"""Agents as folders of data: weights as safetensors and settings as JSON, which open without running any code.

A folder holds ``agent.json`` (algorithm, spaces, symmetry, method, architecture, settings, versions, and how the agent
was trained), ``weights.safetensors`` (the policy's), ``state.safetensors`` (optimizers, and arrays of the settings),
``symmetry.toml`` where the symmetry does not come with equirl, and a model card, ``README.md``. ``agent.json`` has the
checksums of the other files, and the headers of the weights have that of ``agent.json``.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from equirl.agents.agent_card import AgentCard
from equirl.agents.algorithms import ALGORITHMS
from equirl.agents.folder_statistics import statistics_as_data
from equirl.agents.folder_values import ValueReader, ValueWriter
from equirl.agents.known_objects import name_of_known, plain_policy_class
from equirl.agents.orbit_network import orbit_networks
from equirl.agents.sb3_doors import saved_parts
from equirl.agents.spaces import resolve_symmetry
from equirl.arguments import of_kind
from equirl.files import written_whole
from equirl.safe_files import checksum_of_bytes, checksum_of_tensors, write_json, write_tensors
from equirl.symmetry import MDPSymmetry, comes_with_equirl, load_symmetry, save_symmetry

__all__ = ["FORMAT", "MADE_AGAIN", "SETTINGS", "STATE", "WEIGHTS", "save_agent_folder", "symmetry_file"]

SETTINGS, WEIGHTS, STATE = "agent.json", "weights.safetensors", "state.safetensors"
FORMAT = 1

MADE_AGAIN = {
    *("policy_class", "policy_kwargs", "observation_space", "action_space", "device", "env", "tensorboard_log"),
    *("lr_schedule", "exploration_schedule", "ep_info_buffer", "ep_success_buffer", "start_time", "n_quantiles"),
    *("_last_obs", "_last_original_obs", "_last_episode_starts", "_last_lstm_states", "_vec_normalize_env"),
    *("batch_norm_stats", "batch_norm_stats_target", "actor_batch_norm_stats", "critic_batch_norm_stats"),
    *("actor_batch_norm_stats_target", "critic_batch_norm_stats_target"),
}
"""Attributes of agents that stand elsewhere in the folder, or that SB3 makes again, and those of an episode."""

_VERSIONS = ("equirl", "stable-baselines3", "sb3-contrib", "torch", "gymnasium")


def symmetry_file(number: int) -> str:
    """Return the name of the file of a folder's symmetry of the user's own."""
    return "symmetry.toml" if number == 0 else f"symmetry-{number + 1}.toml"


def save_agent_folder(
    model: BaseAlgorithm,
    path: str | Path,
    *,
    card: AgentCard | None = None,
    normalization: VecNormalize | None = None,
    replace: Mapping[str, Any] | None = None,
) -> None:
    """Write an agent into a folder that ``load_agent`` opens without running any code, in any process with equirl.

    The folder holds all that predicting and further training need, but for the replay buffer. Predictions are equal
    to the last bit.

    Args:
        model: An agent of one of ``ALGORITHMS``, with a policy of SB3's or equirl's own.
        path: The folder; it is made, or must be an agent's or empty.
        card: What the model card tells of the training; ``evaluate_for_card`` measures returns for it.
        normalization: The ``VecNormalize`` through which the agent saw its observations; by default that of its
            environment, if it has one.
        replace: Values for settings that are code, such as ``{"learning_rate": 1e-4}`` for a schedule of one's own.

    Raises:
        TypeError: Another algorithm or policy, or a setting that is code; the message names it.
        ValueError: The folder holds something else, or ``replace`` names no setting.
    """
    of_kind(model, BaseAlgorithm, "model")  # type: ignore[type-abstract]
    folder = Path(path)
    _check_folder(folder)
    algorithm = next((name for name, each in ALGORITHMS.items() if type(model) is each), None)
    if algorithm is None:
        raise TypeError(
            f"a folder holds agents of {', '.join(each.__name__ for each in ALGORITHMS.values())}; got "
            f"{type(model).__name__}"
        )
    attributes, parameters, optimizers, variables = saved_parts(model)
    settings = {name: value for name, value in attributes.items() if name not in MADE_AGAIN}
    for name in replace or {}:
        if name not in settings:
            raise ValueError(f"replace names {name!r}, which is no setting of {type(model).__name__} that is saved")
    settings |= dict(replace or {})
    writer = ValueWriter(model.observation_space, model.action_space)
    policy_class, policy_kwargs, symmetry = _policy(model)
    normalization = model.get_vec_normalize_env() if normalization is None else normalization
    about: dict[str, Any] = {
        "format": FORMAT,
        "algorithm": algorithm,
        "policy": name_of_known(policy_class),
        "symmetry": symmetry,
        "observation_space": writer.value(model.observation_space, "observation_space"),
        "action_space": writer.value(model.action_space, "action_space"),
        "policy_kwargs": writer.value(policy_kwargs, "policy_kwargs"),
        "settings": {
            name: writer.value(_with_own_symmetry(model, value), name) for name, value in sorted(settings.items())
        },
        "optimizers": writer.value(optimizers, "optimizers"),
        "variables": writer.value(variables, "variables"),
        "normalization": None if normalization is None else statistics_as_data(normalization, writer),
        "training": (card or AgentCard()).as_data(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _VERSIONS}},
    }
    _check_spaces(model, about, writer)
    symmetries = {symmetry_file(number): _as_toml(each) for number, each in enumerate(writer.symmetries)}
    about["checksums"] = {
        WEIGHTS: checksum_of_tensors(parameters),
        STATE: checksum_of_tensors(writer.tensors),
        **{name: checksum_of_bytes(content) for name, content in symmetries.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SETTINGS).unlink(missing_ok=True)  # removed first and written last: where it is, all is
    for old in folder.glob("symmetry*.toml"):
        old.unlink()
    for name, content in symmetries.items():
        (folder / name).write_bytes(content)
    with written_whole(folder / SETTINGS) as temporary:
        checksum = write_json(temporary, about)
        write_tensors(folder / WEIGHTS, parameters, **{SETTINGS: checksum})
        write_tensors(folder / STATE, writer.tensors, **{SETTINGS: checksum})
    with written_whole(folder / "README.md") as temporary:
        temporary.write_text((card or AgentCard()).markdown(about), encoding="utf-8")


def _as_toml(symmetry: MDPSymmetry) -> bytes:
    """Return the content of a symmetry's file.

    Raises:
        TypeError: A representation that keeps no tables of permutations.
        ValueError: The file would not give the symmetry again.
    """
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / symmetry_file(0)
        save_symmetry(symmetry, path)
        if load_symmetry(path) != symmetry:
            raise ValueError(
                f"the symmetry {symmetry.name!r} has representations that a symmetry file does not hold; those of "
                "equirl.permutation_representation and signed_permutation_representation can be saved"
            )
        return path.read_bytes()


def _check_folder(folder: Path) -> None:
    ours = (SETTINGS, WEIGHTS, STATE)
    others = [path for path in folder.glob("[!.]*") if path.name not in ours and path.suffix != ".toml"]
    if folder.is_file() or (others and not (folder / SETTINGS).is_file()):
        what = "is a file" if folder.is_file() else f"holds something else than an agent (no {SETTINGS} in it)"
        raise ValueError(f"{folder} {what}; name a new folder, an empty one, or that of an agent, which is replaced")


def _policy(model: BaseAlgorithm) -> tuple[type[Any], dict[str, Any], dict[str, Any] | None]:
    """Return the policy's class from the table, its arguments, and what a reader is to know of its symmetry."""
    policy_class, built_in = plain_policy_class(type(model.policy))
    if name_of_known(policy_class) is None:
        raise TypeError(
            f"the policy is {policy_class.__name__}, a class of your own: it is code, and a folder holds data alone. "
            "Policies of SB3, sb3-contrib and equirl can be saved"
        )
    given = {name: value for name, value in (model.policy_kwargs or {}).items() if name != "device"}
    arguments = {**built_in, **given}
    if isinstance(given.get("features_extractor_class"), str):  # a dotted path, which would be imported
        arguments["features_extractor_class"] = model.policy.features_extractor_class
    try:
        network = orbit_networks(model)[0]
    except TypeError:
        return policy_class, arguments, None
    if not isinstance(arguments.get("symmetry"), str) or not comes_with_equirl(arguments["symmetry"]):
        arguments["symmetry"] = network.symmetry
    symmetry = {
        "name": network.symmetry.name,
        "group": network.symmetry.group.name,
        "order": network.symmetry.group.order,
        "method": network.method,
        "fingerprint": network.symmetry.fingerprint(),
    }
    return policy_class, arguments, symmetry


def _with_own_symmetry(model: BaseAlgorithm, value: Any) -> Any:
    """Return settings of a buffer with the symmetry itself, where another process may not know its name."""
    name = value.get("symmetry") if isinstance(value, dict) else None
    if not isinstance(name, str) or comes_with_equirl(name):
        return value
    return {**value, "symmetry": resolve_symmetry(name, model.observation_space, model.action_space)}


def _check_spaces(model: BaseAlgorithm, about: Mapping[str, Any], writer: ValueWriter) -> None:
    """Check that the spaces, as they are written, can be read back unchanged."""
    reader = ValueReader(writer.tensors, writer.symmetries)
    for name in ("observation_space", "action_space"):
        space = getattr(model, name)
        try:
            same = reader.value(about[name]) == space
        except ValueError as error:
            raise ValueError(f"{name} {space} cannot be saved: {error}") from error
        if not same:
            raise TypeError(f"{name} {space} has settings that a folder does not hold")
