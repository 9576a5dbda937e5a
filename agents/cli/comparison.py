"""What the command line says about a comparison of methods on one world."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from equirl.agents.cli.arguments import read_settings
from equirl.agents.cli.discover import find_into
from equirl.agents.cli.hyperparameters import check_hyperparameters, hyperparameter_file, read_hyperparameters, zoo_file
from equirl.agents.cli.zoo import named_environment
from equirl.agents.comparison import COMPARED, Comparison, prepare_comparison
from equirl.agents.policy_choice import FOUND_FIRST
from equirl.methods import ALL_METHODS, METHODS, settings_of
from equirl.names import check_names, unknown_name_message
from equirl.symmetry import check_symmetry_name

__all__ = ["ComparisonOptions"]

MethodName = (
    Literal["plain", "augmentation", "mirror_loss", "equitune", "lambda_equitune", "equizero", "canonical"]
    | Literal["partial", "partial_weights", "penalty"]
)
AlgorithmName = Literal[
    "dqn", "qrdqn", "ppo", "a2c", "trpo", "sac", "td3", "ddpg", "tqc", "crossq", "ppo_lstm", "ppo_mask"
]


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions:
    """Options of a comparison: the world, the symmetry, and the hyperparameters that all methods share.

    Raises:
        ValueError: An unknown method, or a setting that no compared method takes.
    """

    env: str
    """Environment id, or MODULE:ID for one of your own."""
    symmetry: str
    """Its symmetry: a name; a symmetry file, FILE.toml; auto, which looks for it first (`equirl discover`); or mirror,
    that of a MuJoCo robot."""
    methods: tuple[MethodName, ...] = ("plain", "augmentation", "mirror_loss", *METHODS)  # type: ignore[arg-type]
    """What is compared; augmentation and mirror_loss are the plain agent, with transformed transitions, and with a loss
    that asks for the symmetry. partial, partial_weights and penalty are for worlds that are not quite symmetric."""
    algo: AlgorithmName = "dqn"
    """Algorithm of Stable-Baselines3."""
    hyperparams: tuple[str, ...] = ()
    """KEY:VALUE ..., the hyperparameters of all methods, over those that `equirl train` takes."""
    conf_file: str | None = None
    """Your file of hyperparameters, in rl_zoo3's format."""
    method_kwargs: tuple[str, ...] = ()
    """KEY:VALUE ..., settings of methods (reads, hidden, proxy_loss, ...); each goes to the methods that take it."""
    env_kwargs: tuple[str, ...] = ()
    """KEY:VALUE ..., settings of the environment."""
    eval_kwargs: tuple[str, ...] = ()
    """KEY:VALUE ..., settings of the environment in evaluations, over those."""
    self_play: int = 0
    """Games: the opponent is an earlier agent, one more every so many steps. 0: the environment's own."""
    view_kwargs: tuple[str, ...] = ()
    """KEY:VALUE ..., settings of MiniGrid's view: planes, mission, n_actions."""
    gym_packages: tuple[str, ...] = ()
    """Modules that register environments or symmetries."""

    def __post_init__(self) -> None:
        check_names("method", self.methods, COMPARED)
        taken = [name for method in self.methods if method in ALL_METHODS for name in settings_of(method)]
        for name in read_settings(self.method_kwargs):
            if name not in taken:
                raise ValueError(unknown_name_message("setting of the compared methods", name, taken))

    def comparison(self, folder: Path) -> Comparison:
        """Return the world and the hyperparameters: those of ``equirl train``, shared by all methods.

        Args:
            folder: Where ``find_symmetry`` has put the symmetry that ``auto`` or ``mirror`` stands for.

        Raises:
            ValueError: A mistake in an option; the message names it.
        """
        name = named_environment(self.env, self.gym_packages)
        symmetry = self._symmetry(folder)
        check_symmetry_name(symmetry)
        zoo = str(zoo_file(self.algo))
        file = str(self.conf_file or hyperparameter_file(self.algo, name, symmetry) or zoo)
        found, given = read_hyperparameters(file, self.algo, name), read_settings(self.hyperparams)
        check_hyperparameters(self.algo, found, file)
        check_hyperparameters(self.algo, given, "--hyperparams")
        prepared = prepare_comparison(
            name,
            symmetry,
            self.algo,
            {**found, **given},
            env_kwargs=read_settings(self.env_kwargs),
            view_kwargs=read_settings(self.view_kwargs),
            method_kwargs=read_settings(self.method_kwargs),
            zoo_file=file == zoo,
        )
        return replace(prepared, evaluation_kwargs=read_settings(self.eval_kwargs), self_play=self.self_play)

    def find_symmetry(self, folder: Path) -> None:
        """With ``auto`` or ``mirror``, find the symmetry and write its file into the folder, unless it is there.

        Raises:
            ValueError: None was found, or the world cannot be made.
        """
        if self.symmetry not in FOUND_FIRST:
            return
        file, world = folder / "symmetry.toml", " ".join([*self.env_kwargs, *self.view_kwargs])
        if file.is_file():
            before = tomllib.loads(file.read_text(encoding="utf-8")).get("evidence", {})
            if (before.get("environment"), before.get("settings")) == (self.env, world):
                print(f"Symmetry: {file}, found before")
                return
        find_into(
            file,
            self.symmetry,
            self.env,
            self.gym_packages,
            read_settings(self.env_kwargs),
            read_settings(self.view_kwargs) or None,
            evidence={"settings": world},
        )

    def decisive(self, folder: Path) -> list[Any]:
        """Return what changes the runs, as JSON can hold it; a file counts by what it holds."""
        symmetry = self._symmetry(folder)
        symmetry = Path(symmetry).read_text(encoding="utf-8") if symmetry.endswith(".toml") else symmetry
        is_file = self.conf_file is not None and Path(self.conf_file).is_file()
        conf = Path(str(self.conf_file)).read_text(encoding="utf-8") if is_file else ""
        world = (self.env.rpartition(":")[2], symmetry, self.env_kwargs)
        further = (self.view_kwargs, self.method_kwargs, self.eval_kwargs, self.self_play)
        settings = [given for given in further if given]
        return [world, self.algo, self.hyperparams, conf, *settings]

    def _symmetry(self, folder: Path) -> str:
        return str(folder / "symmetry.toml") if self.symmetry in FOUND_FIRST else self.symmetry
