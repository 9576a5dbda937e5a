"""The numbers of the special tokens of sequences; those of words and actions follow."""

__all__ = ["BEGIN", "END", "PAD"]

PAD, END, BEGIN = 0, 1, 2
