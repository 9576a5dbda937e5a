"""Words of a command line that mean nothing: for numbers, names of methods, devices, files."""

from __future__ import annotations

__all__ = ["COUNTS", "DEVICES", "FROM_ZERO", "METHODS", "OUTPUTS", "REALS", "THREADS"]

COUNTS = ("0", "-5", "nan", "1.5", "", "many", "1e3", "0x10", "None", "1,2", "5 6", "inf", "-", "²")
FROM_ZERO = tuple(text for text in COUNTS if text != "0")
REALS = ("nan", "-1", "", "much", "None", "1,5", "inf", "-inf", "--")
METHODS = ("", "equitun", "Equitune", "equitune ", "None", "0", "equizero equitune", "lambda-equitune")
OUTPUTS = ("folder", "text.txt/x", "")
DEVICES = ("cudaa", "", "cuda:99", "meta", "gpu", "-1", "cpu:x")
THREADS = ("0", "-1", "x", "", "1.5")
