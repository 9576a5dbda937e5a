"""The documentation runs as it stands there, and its figures are those of the result files."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pandas as pd
import pytest
from documents import NOT_RUN, blocks, languages, pages, run_page, shorten

import equirl.envs  # noqa: F401  (registers its symmetries before a test forgets what is registered)
from equirl import symmetry

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "docs" / "tools"
WITH_BLOCKS = [page for page in pages(ROOT) if blocks(page)]


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that makes the tables of the results pages."""
    monkeypatch.syspath_prepend(str(TOOLS))
    return pytest.importorskip("results_tables")


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder, short fits of λ, and registries that forget what a page registers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(symmetry, "_REGISTRY", dict(symmetry._REGISTRY))
    shorten(monkeypatch)
    before = set(gym.registry)
    yield tmp_path
    for name in ("own_module", "torus"):
        sys.modules.pop(name, None)
    for name in set(gym.registry) - before:
        del gym.registry[name]


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_blocks_of_a_page_run(page: Path, empty_folder: Path) -> None:
    if "mujoco_mirror" in page.read_text(encoding="utf-8"):
        pytest.importorskip("mujoco", reason="the extra mujoco is not installed: pip install 'equirl[mujoco]'")
    if "onnxruntime" in page.read_text(encoding="utf-8"):
        pytest.importorskip("onnxruntime", reason="the extra export is not installed: pip install 'equirl[export]'")
    if page.parent.name == "engines" and page.stem != "cleanrl":
        pytest.importorskip({"rllib": "ray"}.get(page.stem, page.stem), reason="make engines")
    if "load_language_model" in page.read_text(encoding="utf-8"):
        pytest.importorskip("transformers")
        from tiny_lm import save_tiny

        save_tiny(empty_folder / "tiny-model")
    run_page(page)


def test_every_block_is_marked_as_something_that_tests_run() -> None:
    # and symmetry files, which tests of their own write and read
    for page in pages(ROOT):
        assert languages(page) <= {"python", "bash", "toml"}, page


def test_every_reason_not_to_run_a_program_is_used() -> None:
    text = "\n".join(block.text for page in WITH_BLOCKS for block in blocks(page) if block.language == "bash")
    for program in NOT_RUN:
        assert re.search(rf"^{re.escape(program)} ", text, flags=re.MULTILINE), program


def test_every_page_stands_in_the_navigation() -> None:
    listed = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in sorted((ROOT / "docs").rglob("*.md")):
        assert page.relative_to(ROOT / "docs").as_posix() in listed, page


def test_every_table_and_record_that_pages_name_can_be_made(tables: Any) -> None:
    used = set()
    for page in (ROOT / "docs" / "results").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"\{\{ table: (.+?) \}\}", text):
            assert len(tables.TABLES[name]().rows) > 0, name
            used.add(name)
        for wanted in re.findall(r"\{\{ cell: (.+?) \}\}", text):
            assert re.search(r"\d", tables.cell(wanted)), wanted
            used.add(wanted.split(" | ")[0])
        for folder in re.findall(r"\{\{ record: (.+?) \}\}", text):
            assert tables.record_line(folder).startswith("*Date: 20")
        assert not re.search(r"^\|.*\d\.\d", text, flags=re.MULTILINE), f"{page}: a pasted table of figures"
    assert used == set(tables.TABLES)


def test_the_numbers_of_the_open_questions_are_read_from_tables() -> None:
    text = (ROOT / "docs/results/open-questions.md").read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```|\{\{.+?\}\}|`[^`]*`|\]\([^)]*\)|^\d\. ", "", text, flags=re.DOTALL | re.MULTILINE)
    names = r"NeurIPS 2023|arXiv:[\d.]+|[CD]_?(?:\d+|n)|7x7"
    assert not re.findall(r"\d[\d.,]*", re.sub(names, "", prose))
    assert len(re.findall(r"\{\{ cell: ", text)) > 30


def test_the_rule_of_the_open_questions_is_that_of_its_rows(tables: Any) -> None:
    for row in tables.TABLES["picks"]().rows:
        _, _, picked, chance, expected, chosen, averaged, said = row
        takes_equizero = float(picked) > float(chance) and float(expected) > float(averaged)
        assert said == ("right" if takes_equizero == (float(chosen) > float(averaged)) else "wrong"), row


def test_every_results_folder_has_a_place_on_a_page(tables: Any) -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "results").glob("*.md"))
    for folder in (path.name for path in tables.RESULTS.iterdir() if path.is_dir()):
        assert f"{{{{ record: {folder}" in text, folder


def steps_to_learn(threshold: float) -> pd.DataFrame:
    """Return the steps of the first evaluation of each run at the threshold, from the raw numbers."""
    study = pd.read_csv(ROOT / "experiments/results/gridworld_7x7/study.csv")
    runs = {}
    for key, run in study.groupby(["agent", "seed"]):
        good = (run.success_rate >= threshold).to_numpy()
        runs[key] = run.timesteps.to_numpy()[good.argmax()]
    return pd.Series(runs).unstack()


def test_the_table_of_the_grid_is_that_of_the_raw_numbers(tables: Any) -> None:
    table = tables.TABLES["learning"]()
    medians = steps_to_learn(0.975).median(axis=1)
    for agent, shown in zip(table.column("agent"), table.column("steps, median"), strict=True):
        assert float(shown.replace(",", "")) == medians[agent], agent


def test_the_figures_of_the_readme_are_those_of_the_result_files(tables: Any) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    learning, quadrants = tables.TABLES["learning"](), tables.TABLES["quadrants"]().where(group="grid-d4")
    steps = dict(zip(learning.column("agent"), learning.column("steps, median"), strict=True))
    unseen = dict(zip(quadrants.column("variant"), quadrants.column("three unseen"), strict=True))
    unseen["plain"] = tables.TABLES["quadrants"]().where(variant="plain").column("three unseen")[0]
    seconds = dict(zip(learning.column("agent"), learning.column("CPU s, median"), strict=True))
    rows = re.findall(r"^\| (.+?) \| ([\d,]+) \| ([\d.]+) \| ([\d.]+|-) \|$", readme, flags=re.MULTILINE)
    assert len(rows) >= 5
    for name, shown_steps, shown_seconds, shown_unseen in rows:
        agent, variant = {
            "plain DQN": ("plain", "plain"),
            "plain DQN, replay buffer augmented by D4": ("grid-d4/augmentation", None),
            "equitune": ("grid-d4/equitune", "equitune"),
            "λ-equitune": ("grid-d4/lambda_equitune", "λ-equitune, inputs"),
            "equizero": ("grid-d4/equizero", "equizero, novelty"),
            "canonical": ("grid-d4/canonical", None),
        }[name]
        assert (shown_steps, shown_seconds) == (steps[agent], seconds[agent]), name
        assert shown_unseen == ("-" if variant is None else f"{float(unseen[variant]):.3f}"), name


def test_what_the_readme_says_of_control_and_memory_is_in_the_tables(tables: Any) -> None:
    learned = {"swimmer steps": "seeds at mean return 300", "memory steps": "seeds at success rate 0.9"}
    for name, column in learned.items():
        found = dict(zip(tables.TABLES[name]().column("agent"), tables.TABLES[name]().column(column), strict=True))
        everywhere = {agent for agent, seeds in found.items() if seeds == "5 of 5"}
        expected = {"equitune", "canonical"} | ({"lambda_equitune"} if name == "swimmer steps" else set())
        assert everywhere == expected, name
        assert found["plain"] == {"swimmer steps": "1 of 5", "memory steps": "2 of 5"}[name]
    (ratio,) = tables.TABLES["ant steps"]().where(agent="equitune").column("ratio to plain")
    assert f"on Ant equitune needs {ratio} of plain PPO's steps" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    for name in ("README.md", "CONTRIBUTING.md", "experiments/README.md"):
        page = ROOT / name
        text = page.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 150, name
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            assert "://" in link or (page.parent / link).exists(), f"{name}: {link}"


def test_the_picture_of_the_orbit_is_what_the_script_draws(tmp_path: Path) -> None:
    subprocess.run([sys.executable, TOOLS / "draw_orbit.py", tmp_path / "orbit.svg"], check=True, timeout=120)
    committed = (ROOT / "docs/pictures/orbit.svg").read_text(encoding="utf-8")
    drawn = (tmp_path / "orbit.svg").read_text(encoding="utf-8")
    assert re.findall(r"<g id=\"(axes_\d|patch_\d+)\"", drawn) == re.findall(
        r"<g id=\"(axes_\d|patch_\d+)\"", committed
    )


def test_a_broken_link_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    check_links = pytest.importorskip("check_links")
    (tmp_path / "index.html").write_text('<h1 id="top">a</h1><a href="#top"></a><a href="other.html#there"></a>')
    (tmp_path / "other.html").write_text('<p id="there"></p><img src="gone.png"><a href="index.html#nowhere"></a>')
    assert check_links.broken_links(tmp_path) == ["other.html: gone.png", "other.html: index.html#nowhere"]


def test_citation_and_changelog_and_package_agree() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (version, date), *_ = re.findall(r"^## (\d+\.\d+\.\d+) \((\d{4}-\d\d-\d\d)\)$", changelog, flags=re.MULTILINE)
    assert f"\nversion: {version}\n" in citation
    assert f"\ndate-released: {date}\n" in citation
    assert f'\nversion = "{version}"\n' in project
    (title,) = re.findall(r'^title: "equirl: (.+)"$', citation, flags=re.MULTILINE)
    assert title in changelog
    assert title.lower() in (ROOT / "README.md").read_text(encoding="utf-8").lower()
