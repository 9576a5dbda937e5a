"""Symmetry files as the fuzzer damages them."""

from __future__ import annotations

from equirl.symmetry import load_symmetry
from fuzz.file_targets import FileTarget


def symmetry_file_targets() -> list[FileTarget]:
    """Return what reads symmetry files."""
    good = (
        b'format = 1\nname = "own"\n[observation]\nshape = [2]\n[action]\nshape = [2]\n'
        b"[generators.m.observation]\nto = [1, 0]\nsigns = [1, 1]\n[generators.m.action]\nto = [1, 0]\n"
    )

    def odd(content: bytes) -> dict[str, bytes]:
        changes = {
            "no permutation": (b"to = [1, 0]", b"to = [1, 1]"),
            "texts": (b"to = [1, 0]", b'to = ["1", "0"]'),
            "truth values": (b"to = [1, 0]", b"to = [true, false]"),
            "fractions": (b"signs = [1, 1]", b"signs = [0.5, 1]"),
            "a negative shape": (b"shape = [2]", b"shape = [-2]"),
            "a huge shape": (b"shape = [2]", b"shape = [2000000000]"),
            "no name": (b'name = "own"', b""),
            "another format": (b"format = 1", b'format = "1"'),
            "a misspelt key": (b"[action]", b"[actions]"),
            "elements that are no group": (b"format = 1", b"format = 1\nelements = {e = [], b = []}"),
        }
        return {label: content.replace(old, new, 1) for label, (old, new) in changes.items()}

    return [FileTarget("load_symmetry", lambda: {"own.toml": good}, lambda f: load_symmetry(f / "own.toml"), odd)]
