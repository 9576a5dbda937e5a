"""Self-play: an agent's opponents are earlier versions of itself."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib.common.maskable.distributions import make_masked_proba_distribution
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from equirl.agents.loading import load_agent
from equirl.arguments import whole_number
from equirl.files import written_whole
from equirl.testing import evaluation_mode

__all__ = ["PolicyOpponent", "SelfPlayCallback"]


class PolicyOpponent:
    """A copy of an agent's policy, as the opponent in a game: it draws its moves, or takes the most probable ones.

    It remembers the probabilities of each position that it has seen, so that a position costs one pass of the network.

    Args:
        agent: A MaskablePPO agent, its policy, or the file of such an agent.
        deterministic: Whether it takes the most probable of the legal moves, the first of several. Equal moves are then
            not played equally often, and the world with such an opponent has no symmetry.

    Raises:
        TypeError: An agent without masks.
        ValueError: As ``load_agent``.
    """

    def __init__(
        self, agent: BaseAlgorithm | MaskableActorCriticPolicy | str | Path, deterministic: bool = False
    ) -> None:
        model = load_agent(agent, algorithm="ppo_mask", device="cpu") if isinstance(agent, (str, Path)) else agent
        policy = getattr(model, "policy", model)
        if not isinstance(policy, MaskableActorCriticPolicy):
            raise TypeError(
                f"an opponent is a MaskablePPO agent, its policy or its file; got {type(agent).__name__}, which does "
                "not take masks of legal moves"
            )
        self.deterministic = deterministic
        self._policy = _copied(policy).to("cpu")
        self._known: dict[bytes, NDArray[np.float64]] = {}

    def __call__(self, observation: NDArray[Any], mask: NDArray[np.bool_], random: np.random.Generator) -> int:
        """Return its move.

        Args:
            observation: What it sees, ``[*observation]``: its own view.
            mask: The legal moves, ``[A]``; a position has the same ones every time.
            random: Draws the move.
        """
        key = observation.tobytes()
        if key not in self._known:
            self.prepare(observation[None], mask[None])
        cumulative = self._known[key]
        if self.deterministic:
            return int(np.diff(cumulative, prepend=0.0).argmax())
        return int(np.searchsorted(cumulative, random.random() * cumulative[-1], side="right"))

    def prepare(self, observations: NDArray[Any], masks: NDArray[np.bool_]) -> None:
        """Compute the probabilities of many positions at once: ``[N, *observation]`` and their masks ``[N, A]``."""
        policy: Any = self._policy
        with torch.no_grad(), evaluation_mode(policy):
            rows = policy.obs_to_tensor(observations)[0]
            probabilities = policy.get_distribution(rows, masks).distribution.probs.double().numpy() * masks
        for observation, cumulative in zip(observations, probabilities.cumsum(axis=1), strict=True):
            self._known[observation.tobytes()] = cumulative

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The weights of its policy."""
        weights: dict[str, torch.Tensor] = self._policy.state_dict()
        return weights

    @classmethod
    def with_weights(cls, agent: BaseAlgorithm, weights: dict[str, torch.Tensor]) -> PolicyOpponent:
        """Return an opponent with the networks of an agent and other weights."""
        opponent = cls(agent)
        opponent._policy.load_state_dict(weights)
        return opponent


def _copied(policy: MaskableActorCriticPolicy) -> MaskableActorCriticPolicy:
    """Return a copy without optimizer, and without the distribution of the last call, which may hold a graph."""
    fresh = make_masked_proba_distribution(policy.action_space)
    return copy.deepcopy(policy, {id(policy.action_dist): fresh, id(policy.optimizer): None})


class SelfPlayCallback(BaseCallback):
    """Let an agent play against earlier versions of itself: every ``every`` steps a copy of it joins the pool.

    The environments need a method ``set_opponent``, which takes a list of players, of which each game draws one by the
    environment's own random numbers: equal seeds give equal runs. Where they have ``positions()``, a copy computes its
    moves in all positions at once. The first opponent is the agent as it is when training begins.

    To go on later, keep the pool beside the agent: ``callback.save("pool.pt")``, and then
    ``model.learn(..., callback=SelfPlayCallback(every).load("pool.pt"), reset_num_timesteps=False)``.

    Args:
        every: Environment steps between two copies.
        pool_size: How many of the newest copies are kept. Early ones, which play almost at random, keep showing the
            agent positions that good players avoid.
        verbose: As for every SB3 callback.

    Raises:
        TypeError: A number that is none, an agent without masks, or environments without ``set_opponent``.
        ValueError: ``every`` or ``pool_size`` is less than 1.
    """

    def __init__(self, every: int, pool_size: int = 100, verbose: int = 0) -> None:
        super().__init__(verbose)
        self.every = whole_number(every, "every", 1)
        self.pool_size = whole_number(pool_size, "pool_size", 1)
        self.pool: list[PolicyOpponent] = []
        self._saved: list[dict[str, torch.Tensor]] = []
        self._due = 0

    def save(self, path: str | Path) -> None:
        """Write the pool, and when the next copy is due."""
        with written_whole(Path(path)) as temporary:
            torch.save({"weights": [each.weights for each in self.pool], "due": self._due}, temporary)

    def load(self, path: str | Path) -> SelfPlayCallback:
        """Read what ``save`` wrote, to go on with it; return the callback.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It holds something else.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no pool of opponents at {path}; give the file that save() wrote")
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            self._saved, self._due = list(content["weights"]), int(content["due"])
        except Exception as error:  # a damaged or foreign file may raise anything
            raise ValueError(
                f"{path} holds no pool of opponents ({type(error).__name__}); give the file that save() wrote"
            ) from error
        return self

    def _on_training_start(self) -> None:
        if not self.training_env.has_attr("set_opponent"):
            raise TypeError(
                "self-play needs environments with set_opponent(players), such as equirl/TicTacToe-v0; these have none"
            )
        self.pool += [self._prepared(PolicyOpponent.with_weights(self.model, weights)) for weights in self._saved]
        self._saved = []
        if self.pool:
            self._play_against_pool()
        else:
            self._due = self.num_timesteps
            self._add()

    def _on_step(self) -> bool:
        if self.num_timesteps >= self._due:
            self._add()
        return True

    def _add(self) -> None:
        self._due += self.every
        self.pool = [*self.pool, self._prepared(PolicyOpponent(self.model))][-self.pool_size :]
        self._play_against_pool()

    def _prepared(self, opponent: PolicyOpponent) -> PolicyOpponent:
        if self.training_env.has_attr("positions"):
            opponent.prepare(*self.training_env.env_method("positions", indices=0)[0])
        return opponent

    def _play_against_pool(self) -> None:
        self.training_env.env_method("set_opponent", list(self.pool))
