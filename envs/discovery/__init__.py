"""Find the symmetries of an environment from transitions; no state is set to find them."""

from equirl.envs.discovery.discover import discover_symmetry
from equirl.envs.discovery.report import DiscoveryReport, Element
from equirl.envs.transitions import Transitions, collect_transitions

__all__ = ["DiscoveryReport", "Element", "Transitions", "collect_transitions", "discover_symmetry"]
