"""Experiments: learning studies, each a command that writes its CSV, its record and its plot."""
