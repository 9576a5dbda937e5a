"""Models made equivariant: language (`causal_lm`), sequences (`sequences`) and images (`images`); import by module."""
