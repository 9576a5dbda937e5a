"""Old name of places in `equirl.experiments.checks` and `.records`; to be removed once `vision` imports from there."""

from equirl.experiments.checks import check_output_file, check_output_folder
from equirl.experiments.records import Table, keep_earlier, write_tables

__all__ = ["Table", "check_output_file", "check_output_folder", "keep_earlier", "write_tables"]
