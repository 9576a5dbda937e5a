"""Equivariant networks for other engines than Stable-Baselines3; each module needs its engine, and no other one."""
