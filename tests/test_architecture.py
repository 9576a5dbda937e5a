"""What holds for the whole tree: one-way imports, documented public names, one version number."""

import ast
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"equirl": "equirl", "envs": "equirl.envs", "agents": "equirl.agents", "experiments": "equirl.experiments"}
LAYERS = ["equirl", "equirl.envs", "equirl.agents", "equirl.experiments"]  # each may import those before it


def _modules() -> dict[str, Path]:
    found = {}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return found


MODULES = _modules()
ENGINES = {"equirl.integrations.rllib": "ray", "equirl.integrations.torchrl": "torchrl"}
IMPORTABLE = [
    name
    for name in MODULES
    if not name.endswith("__main__") and (name not in ENGINES or importlib.util.find_spec(ENGINES[name]))
]


def _layer(module: str) -> int:
    return max(i for i, package in enumerate(LAYERS) if i == 0 or f"{module}.".startswith(f"{package}."))


def _imports(path: Path) -> set[str]:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            imported |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return imported


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    imported = _imports(MODULES[module])
    ours = {name for name in imported if name.split(".")[0] == "equirl"}
    assert all(_layer(name) <= _layer(module) for name in ours if _is_module(name)), (module, ours)
    if _layer(module) == 0:  # the core is pure torch
        outside = {name.split(".")[0] for name in imported}
        assert not outside & {"stable_baselines3", "rl_zoo3"}
        assert "gymnasium" not in outside or module in ENGINES
        assert not any(other.startswith("equirl.integrations") for other in ours) or "integrations" in module
        assert "numpy" not in outside or module.startswith("equirl.models.")
    assert not {name.split(".")[0] for name in imported} & {"agents", "envs", "experiments"}


def _is_module(name: str) -> bool:
    return name in MODULES


def test_no_import_circles() -> None:
    graph = {module: {name for name in _imports(path) if name in MODULES} for module, path in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"circle: {' -> '.join([*trail, module])}"
        if module not in done:
            for imported in graph[module] - {module}:
                # A package lists the names of its own modules; that is no dependency of theirs on it.
                if not module.startswith(f"{imported}."):
                    visit(imported, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("module", IMPORTABLE)
def test_every_module_imports_by_its_installed_name(module: str) -> None:
    imported = importlib.import_module(module)
    assert imported.__doc__, f"{module} has no docstring"


@pytest.mark.parametrize("module", IMPORTABLE)
def test_public_names_exist_and_are_documented(module: str) -> None:
    imported = importlib.import_module(module)
    for name in getattr(imported, "__all__", []):
        value = getattr(imported, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{module}.{name}"
        if inspect.isclass(value) and value.__module__.startswith("equirl"):
            for attribute, member in vars(value).items():
                if not attribute.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                    assert inspect.getdoc(getattr(value, attribute)), f"{module}.{name}.{attribute}"


def test_one_version_number() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = importlib.import_module("equirl").__version__
    assert project["version"] == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_package_of_the_checkout_is_listed_for_installation() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    assert listed == packages


def test_links_in_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


def _loaded_by(programs: list[str], names: set[str]) -> list[set[str]]:
    """Return which of some modules are loaded after each of some programs, run in turn in one fresh interpreter."""
    tell = f"print('loaded:', *(n for n in {sorted(names)} if n in sys.modules))"
    told = "\n".join(["import sys", *(f"{program}\n{tell}" for program in programs)])
    run = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    return [set(line.split()[1:]) for line in run.stdout.splitlines() if line.startswith("loaded:")]


def test_a_model_loads_nothing_that_it_does_not_need() -> None:
    modules = ["sequences", "images"]
    if importlib.util.find_spec("transformers"):  # the extra nlg is installed
        modules.append("causal_lm")
    others = {"stable_baselines3", "gymnasium", "minigrid", "pygame", "pandas", "tyro", "joblib", "matplotlib"}
    loaded = _loaded_by([f"import equirl.models.{module}" for module in modules], others | {"torch"})
    assert dict(zip(modules, loaded, strict=True)) == {module: {"torch"} for module in modules}


def test_help_loads_no_torch() -> None:
    program = "from equirl.command import main\nassert main(['--help']) == 0"
    assert _loaded_by([program], {"torch", "numpy", "stable_baselines3"}) == [set()]


def test_the_core_loads_no_package_beyond_those_of_torch() -> None:
    code = (
        "import sys, torch; before = set(sys.modules); import equirl; equirl.Equitune, equirl.build_symmetry; "
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before if 'equirl' not in name.split('.')[0]})"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert set(told.split()) - sys.stdlib_module_names <= {"lazy_loader"}


def test_few_names_are_public_at_the_top() -> None:
    package = importlib.import_module("equirl")
    assert len(package.__all__) <= 24
    assert all(hasattr(package, name) for name in package.__all__)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_one_idea(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) <= 400
