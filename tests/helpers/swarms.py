"""How S_n x O(2) moves what a swarm of robots on the plane observes and does."""

import numpy as np


def random_matrix(random: np.random.Generator) -> np.ndarray:
    """Return a random element of O(2)."""
    angle, sign = random.uniform(0, 2 * np.pi), random.choice([-1.0, 1.0])
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sign * sin], [sin, sign * cos]])


def moved_vectors(values: np.ndarray, matrix: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return flat vectors of robots ``[n * 2 k]`` turned, with the robots in another order."""
    n = len(order)
    return (values.reshape(n, -1, 2) @ matrix.T)[order].reshape(-1)
