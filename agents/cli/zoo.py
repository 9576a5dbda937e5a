"""What the subcommands share that hand over to rl_zoo3: its scripts take their options from ``sys.argv`` alone."""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium as gym

import equirl.envs  # noqa: F401  (registers our environments, as --gym-packages equirl.envs does)
from equirl.agents.cli.arguments import CommandParser, StoreSettings

__all__ = [
    "DEFAULT_ENVIRONMENT",
    "check_environment",
    "folder_name",
    "handed_over",
    "import_packages",
    "named_environment",
    "split_id",
    "statistics_of_any_age",
]

DEFAULT_ENVIRONMENT = "equirl/GridWorld-v0"

Check = Callable[[argparse.Namespace], None]


def folder_name(environment: str) -> str:
    """Return how rl_zoo3 names an environment in folders and files: slashes become dashes."""
    return environment.replace("/", "-")


def split_id(environment: str) -> tuple[list[str], str]:
    """Return the module to import, in a list, and the id, of an id in Gymnasium's form ``module:id``."""
    module, colon, rest = environment.partition(":")
    return ([module], rest) if colon else ([], environment)


def named_environment(name: str, packages: Sequence[str] = ()) -> str:
    """Return the id of a registered environment, after the import of the modules that register it.

    Args:
        name: An id, or ``MODULE:ID`` for a world of one's own.
        packages: Further modules, those of ``--gym-packages``.

    Raises:
        ValueError: A module that is not there or fails, or an id that is not registered; the message suggests another.
    """
    modules, environment = split_id(name)
    import_packages(packages)
    before = set(gym.registry)
    for module in modules:
        import_packages(modules, f"{name!r}: ")
        if environment not in gym.registry:
            new = [known for known in gym.registry if known not in before or _of_module(known, module)]
            there = f"registers {', '.join(new)}." if new else "registers no environment; gym.register(ID, CLASS) does."
            raise ValueError(f"{name!r}: the module {module} {there}{_nearest(environment, new)}")
    check_environment(environment)
    return environment


def import_packages(names: Sequence[str], given: str = "--gym-packages ") -> None:
    """Import modules that register environments or symmetries.

    Args:
        names: The modules.
        given: What names them, for the message: an option, or ``MODULE:ID`` with a colon at its end.

    Raises:
        ValueError: There is no such module, or it fails when it is imported.
    """
    for name in names:
        told = given if given.endswith(": ") else f"{given}{name}: "
        if not name.strip("."):
            raise ValueError(f"{told}no module is named; own_module:Own-v0 and --gym-packages own_module name one")
        if name.endswith(".py"):
            dotted = name.removesuffix(".py").strip("./").replace("/", ".")
            raise ValueError(f"{told}a module is named without .py: {dotted}")
        try:
            importlib.import_module(name)
        except Exception as error:  # a user's module may raise anything
            if isinstance(error, ModuleNotFoundError) and error.name in (name, name.partition(".")[0]):
                raise ValueError(
                    f"{told}no module of the name {name} is in this folder or installed; run the command in the folder "
                    f"that holds {name.partition('.')[0]}.py, or name that folder in PYTHONPATH"
                ) from error
            raise ValueError(
                f"{told}the module {name} fails when it is imported ({type(error).__name__}: {error})"
            ) from error


def check_environment(environment: str) -> None:
    """Raise unless an environment is registered.

    Raises:
        ValueError: It is not; the message suggests the nearest.
    """
    if environment not in gym.registry:
        raise ValueError(
            f"environment {environment!r} is not registered with Gymnasium.{_nearest(environment, gym.registry)} For a "
            "world of your own name the module that registers it: MODULE:ID, or --gym-packages MODULE"
        )


def _of_module(environment: str, module: str) -> bool:
    """Return whether an environment's class is of a module, or of one below it."""
    entry: Any = gym.spec(environment).entry_point
    of = entry.partition(":")[0] if isinstance(entry, str) else getattr(entry, "__module__", "")
    return f"{of}.".startswith(f"{module}.")


def _nearest(environment: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(environment, list(known), n=1)
    return f" Did you mean {nearest[0]!r}?" if nearest else ""


@contextmanager
def statistics_of_any_age() -> Iterator[None]:
    """Let rl_zoo3's scripts, run inside, open saved statistics of ``VecNormalize`` from the time of ``gym``, too."""
    from stable_baselines3.common.vec_env import VecNormalize

    from equirl.agents.saved_statistics import load_vecnormalize

    statistics: Any = VecNormalize
    original = VecNormalize.load
    statistics.load = staticmethod(load_vecnormalize)
    try:
        yield
    finally:
        statistics.load = staticmethod(original)


@contextmanager
def handed_over(
    program: str,
    arguments: Sequence[str],
    check: Check | None = None,
    defaults: Mapping[str, Any] | None = None,
    types: Mapping[str, Callable[[str], Any]] | None = None,
    other_options: Sequence[str] = (),
) -> Iterator[None]:
    """Let a script of rl_zoo3, run inside, read these arguments with our parser instead of argparse's own.

    The first ``ArgumentParser`` that is made inside is replaced: its errors are one line, its settings are read by
    ``StoreSettings``.

    Args:
        program: The command's name in messages.
        arguments: What the script finds in ``sys.argv``.
        check: Called with the parsed arguments, which it may change.
        defaults: Other defaults than the script's, by the names in the parsed arguments.
        types: Other types than the script's, by the same names.
        other_options: Options of ours, to be suggested where an option is unknown.
    """

    class Parser(CommandParser):
        def add_argument(self, *args: Any, **kwargs: Any) -> argparse.Action:
            if isinstance(kwargs.get("action"), type) and kwargs["action"].__name__ == "StoreDict":
                kwargs["action"] = StoreSettings
            added = super().add_argument(*args, **kwargs)
            added.type = (types or {}).get(added.dest, added.type)
            added.required = added.required and added.dest not in (defaults or {})
            return added

        def parse_args(self, *_: Any) -> argparse.Namespace:  # type: ignore[override]
            self.set_defaults(**(defaults or {}))
            parsed = super().parse_args()
            if check is not None:
                check(parsed)
            return parsed

    module: Any = argparse
    original, before = argparse.ArgumentParser, sys.argv

    def make(*_: Any, **__: Any) -> Parser:
        module.ArgumentParser = original
        return Parser(prog=program, other_options=other_options)

    sys.argv = [program, *arguments]
    module.ArgumentParser = make
    try:
        yield
    finally:
        module.ArgumentParser = original
        sys.argv = before
