"""A fuzzer: calls, files and command lines with one thing wrong, and a judge of what equirl makes of each.

``python tests/fuzz --inputs 10000 --seed 0`` runs it long; ``tests/test_fuzz.py`` runs a small part in CI.
"""
