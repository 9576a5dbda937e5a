"""Symmetry files: a saved symmetry loads unchanged, and errors in a file name the place."""

from pathlib import Path

import pytest
import torch

from equirl import (
    MappingRepresentation,
    MDPSymmetry,
    TokenRepresentation,
    build_symmetry,
    cyclic_group,
    dihedral_group,
    image_representation,
    permutation_representation,
    signed_permutation_representation,
    symmetric_group,
    trivial_representation,
)
from equirl.displacements import displacement_representation
from equirl.plane_groups import torus_symmetries
from equirl.products import LARGEST_ORDER
from equirl.symmetry import load_symmetry, read_view, save_symmetry

MIRROR = cyclic_group(2)
D4 = dihedral_group(4)
S3 = symmetric_group(3)
SYMMETRIES = {
    "grid": MDPSymmetry("grid", image_representation(D4, (3, 4, 4)), permutation_representation(D4)),
    "pole": MDPSymmetry(
        "pole",
        signed_permutation_representation(MIRROR, [[0, 1, 2, 3]] * 2, [[1] * 4, [-1] * 4]),
        permutation_representation(MIRROR, [[0, 1], [1, 0]]),
    ),
    "robot": MDPSymmetry(  # Box actions that change places and signs
        "robot",
        signed_permutation_representation(MIRROR, [[0, 1, 2], [1, 0, 2]], [[1] * 3, [1, 1, -1]]),
        signed_permutation_representation(MIRROR, [[0, 1, 2], [1, 0, 2]], [[1] * 3, [-1, -1, -1]]),
    ),
    "cycle": MDPSymmetry(
        "cycle",
        signed_permutation_representation(
            cyclic_group(4), [[0, 1], [1, 0], [0, 1], [1, 0]], [[1, 1], [1, -1], [-1, -1], [-1, 1]]
        ),
        permutation_representation(cyclic_group(4)),
    ),
    "rooms": MDPSymmetry(
        "rooms", TokenRepresentation(MIRROR, [[0, 1, 2], [2, 1, 0]], ()), permutation_representation(MIRROR)
    ),
    "particles": MDPSymmetry(
        "particles",
        MappingRepresentation(
            {
                "where it is": permutation_representation(S3),
                "inner": MappingRepresentation(
                    {"x.y": permutation_representation(S3), "t": trivial_representation(S3, (1,))}
                ),
            }
        ),
        permutation_representation(S3),
    ),
    "nothing": MDPSymmetry(
        "nothing", trivial_representation(cyclic_group(1), (2,)), trivial_representation(cyclic_group(1), (3,))
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SYMMETRIES)
def test_what_is_written_is_read_again(name: str, tmp_path: Path) -> None:
    symmetry = SYMMETRIES[name]
    path = tmp_path / "symmetry.toml"
    save_symmetry(symmetry, path)
    again = load_symmetry(path)
    assert again == symmetry
    assert again.group == symmetry.group
    assert again.fingerprint() == symmetry.fingerprint()
    assert max(map(len, path.read_text().splitlines())) <= 120
    save_symmetry(again, tmp_path / "again.toml")
    assert (tmp_path / "again.toml").read_text() == path.read_text()


def test_names_and_evidence_are_for_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "pole.toml"
    save_symmetry(
        SYMMETRIES["pole"],
        path,
        observation_parts=["position", "velocity", "angle", 'angular "velocity"'],
        action_parts=["left", "right"],
        evidence={"environment": "CartPole-v1", "error": 1e-7, "transitions": 500, "held": True},
    )
    text = path.read_text()
    assert 'parts = ["position", "velocity", "angle", "angular \\"velocity\\""]' in text
    assert 'environment" = "CartPole-v1"' in text
    assert load_symmetry(path) == SYMMETRIES["pole"]
    with pytest.raises(ValueError, match=r"observation_parts are names of \[4\] entries; got 2"):
        save_symmetry(SYMMETRIES["pole"], path, observation_parts=["a", "b"])


def test_a_file_names_the_view_that_its_symmetry_acts_through(tmp_path: Path) -> None:
    path = tmp_path / "room.toml"
    view = {"class": "FullGridView", "planes": ["wall", "green goal"], "mission": True, "n_actions": 3}
    save_symmetry(SYMMETRIES["grid"], path, view=view)
    assert read_view(path) == view
    assert load_symmetry(path) == SYMMETRIES["grid"]
    save_symmetry(SYMMETRIES["grid"], tmp_path / "grid.toml")
    assert read_view(tmp_path / "grid.toml") is None
    with pytest.raises(TypeError, match=r"view\.class must be a str; got None"):
        save_symmetry(SYMMETRIES["grid"], path, view={"mission": True})
    with pytest.raises(ValueError, match=r"view\.planes is a text, a whole number, true or false, or a list"):
        save_symmetry(SYMMETRIES["grid"], path, view={"class": "FullGridView", "planes": [0.5]})
    path.write_text(path.read_text().replace('class = "FullGridView"', "class = 3"))
    with pytest.raises(ValueError, match=r"room\.toml holds no symmetry: view\.class must be a str; got 3"):
        load_symmetry(path)


def test_a_file_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_symmetry(SYMMETRIES["grid"], "grid.toml")
    assert build_symmetry("grid.toml", (3, 4, 4), 4) == SYMMETRIES["grid"]
    with pytest.raises(ValueError, match=r"\[3, 4, 4\], but the observation space has \[3, 5, 5\]"):
        build_symmetry("grid.toml", (3, 5, 5), 4)
    with pytest.raises(FileNotFoundError, match=r"there is no symmetry file gird\.toml"):
        build_symmetry("gird.toml", (3, 4, 4), 4)


BY_HAND = """
format = 1
name = "by hand"

[observation]
shape = [3]

[action]
shape = [2]

[generators.m.observation]
to = [1, 0, 2]
signs = [1, 1, -1]

[generators.m.action]
to = [1, 0]
"""


def test_a_file_written_by_hand_needs_generators_alone(tmp_path: Path) -> None:
    path = tmp_path / "hand.toml"
    path.write_text(BY_HAND)
    symmetry = load_symmetry(path)
    assert symmetry.group.element_names == ("e", "m")
    x = torch.tensor([[1.0, 2.0, 3.0]])
    assert symmetry.observation.transform("m", x).tolist() == [[2, 1, -3]]
    two = BY_HAND + "\n[generators.n.observation]\nto = [2, 0, 1]\n[generators.n.action]\nto = [0, 1]\n"
    path.write_text(two)
    group = load_symmetry(path).group
    assert group.order == 24  # the rotations of a cube, and what they do to the two actions
    assert {group.element_names[g] for g in group.generators} == {"m", "n"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("format = 1", "format = 2", "it has the format 2"),
        ("format = 1", "", "'format' is missing"),
        ('name = "by hand"', "name = 3", "name must be a str; got 3"),
        ("[action]\nshape = [2]", "", "'action' is missing"),
        ("to = [1, 0, 2]", "to = [1, 1, 2]", "generators.m.observation.to is no permutation of 0 .. 2"),
        ("to = [1, 0]\n", "to = [1, 0, 2]\n", "generators.m.action.to is no permutation of 0 .. 1"),
        ("signs = [1, 1, -1]", "signs = [1, 1, 0]", "generators.m.observation.signs is a list of 3 entries 1 or -1"),
        ("signs = [1, 1, -1]", "sings = [1, 1, -1]", "generators.m.observation has 'sings'"),
        ("[generators.m.action]", "[generators.m.actions]", "'action' is missing"),
        ("to = [1, 0, 2]", "to = [true, false, 2]", "generators.m.observation.to is no permutation of 0 .. 2"),
        ("signs = [1, 1, -1]", "signs = [true, 1, -1]", "generators.m.observation.signs is a list of 3 entries"),
        ("shape = [3]", "shape = [3000000000]", "generators.m.observation.to is no permutation of 0 .. 2999999999"),
        ("shape = [3]", "shape = 3", "shape must be a list; got 3"),
        ("shape = [3]", "shape = [2]", "generators.m.observation.to is no permutation of 0 .. 1"),
        ("shape = [2]", "shape = [1, 2]", r"a representation on actions has the sample shape \[n\]"),
        ("format = 1", "format = 1\nmoves = 3", "'moves' is no part of a symmetry file"),
        ("format = 1", "format = ", "Invalid value"),
        ("format = 1", "format = 1\nelements = {e = []}", "m times e is none of the elements"),
        ("format = 1", "format = 1\nelements = {e = [], a = [], m = ['m']}", "elements e and a move everything alike"),
        ("format = 1", "format = 1\nelements = {e = [], m = ['n']}", "elements.m names the generator 'n'; known: m"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_place(old: str, new: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "hand.toml"
    assert old in BY_HAND
    path.write_text(BY_HAND.replace(old, new))
    with pytest.raises(ValueError, match=rf"hand.toml holds no symmetry: .*{said}"):
        load_symmetry(path)


def test_what_a_file_cannot_hold_is_refused(tmp_path: Path) -> None:
    idle = MDPSymmetry("idle", trivial_representation(MIRROR, (2,)), trivial_representation(MIRROR, (2,)))
    with pytest.raises(ValueError, match="move observations and actions alike"):
        save_symmetry(idle, tmp_path / "idle.toml")
    with pytest.raises(ValueError, match=r"a symmetry file ends in \.toml; got"):
        save_symmetry(SYMMETRIES["pole"], tmp_path / "pole.json")
    with pytest.raises(TypeError, match="symmetry must be a MDPSymmetry"):
        save_symmetry("grid-d4", tmp_path / "a.toml")  # type: ignore[arg-type]
    (tmp_path / "bytes.toml").write_bytes(b"\xff\x00")
    with pytest.raises(ValueError, match=r"bytes\.toml holds no symmetry"):
        load_symmetry(tmp_path / "bytes.toml")
    assert {path.name for path in tmp_path.iterdir()} == {"bytes.toml"}


def test_the_largest_group_that_can_be_built_can_be_saved(tmp_path: Path) -> None:
    group = torus_symmetries(16, 16, dihedral_group(4))
    assert group.order == LARGEST_ORDER
    moves = displacement_representation(group, [(-1, 0), (0, -1), (1, 0), (0, 1)])
    symmetry = MDPSymmetry("torus", image_representation(group, (1, 16, 16)), moves)
    save_symmetry(symmetry, tmp_path / "torus.toml")
    assert load_symmetry(tmp_path / "torus.toml") == symmetry
