"""Equivariant policy for sb3-contrib's RecurrentPPO: the whole episode is equivariant, memory included."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import BaseModel
from torch import Tensor

from equirl.agents.actor_critic_network import ActorCriticOrbit
from equirl.agents.orbit_lstm import LSTMState, OrbitLSTM
from equirl.agents.orbit_network import side_by_side
from equirl.agents.visited_states import n_rows, rows_of
from equirl.aggregators import Select
from equirl.orbit import Orbit
from equirl.representations import Tree, map_tensors

__all__ = ["EquivariantRecurrentPolicy", "lstm_settings"]


class EquivariantRecurrentPolicy(ActorCriticOrbit, RecurrentActorCriticPolicy):
    """sb3-contrib's recurrent policy with ``pi(g a_t | g s_1, ..., g s_t) = pi(a_t | s_1, ..., s_t)``, exactly.

    ``RecurrentPPO(EquivariantRecurrentPolicy, env, policy_kwargs=dict(symmetry="cartpole-z2", method="equitune"))``.

    Each view ``g s_1, g s_2, ...`` of an episode has an LSTM state of its own, so that the state of a sample is
    ``|G|`` times as long. With ``M_t`` the network after its view's history, the output is
    ``(parameters, V)_G = sum_g w_g (rho(g)^-1 parameters_g, V_g)``, ``(parameters_g, V_g) = M_t(g s_t)``, and values
    are invariant. The weights ``w_g`` of λ-equitune, equizero and canonical are chosen at the first step of an episode,
    from ``g s_1`` and what the network gives there, and stay the same until it ends: the state carries them. Views of
    weight 0 are not computed. Training chooses them anew where a sequence holds the start of an episode, with
    gradient: there λ learns.

    Of single observations (``symmetrized``, ``orbit_weights``, ``evaluate_orbit``) the policy says what it does at the
    first step of an episode.

    Args:
        observation_space: Any space that SB3 knows and the symmetry fits.
        action_space: ``Discrete``, ``MultiDiscrete``, ``MultiBinary`` or ``Box``.
        lr_schedule: Learning rate schedule.
        **kwargs: As for ``EquivariantActorCriticPolicy``, and those of sb3-contrib's ``MlpLstmPolicy``:
            ``lstm_hidden_size`` (of one view), ``n_lstm_layers``, ``shared_lstm``, ``enable_critic_lstm`` and
            ``lstm_kwargs``.

    Raises:
        TypeError: Actions of another space.
        ValueError: As for ``EquivariantActorCriticPolicy``; or ``use_sde=True``.
    """

    algorithm: ClassVar[str] = "Recurrent"
    takes_relaxed: ClassVar[bool] = False

    lstm_actor: OrbitLSTM
    lstm_critic: OrbitLSTM | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("use_sde"):
            raise ValueError(
                f"{type(self).__name__} takes no use_sde=True: the features of gSDE's noise would be those of a whole "
                "history. Leave it out: then each step has noise of its own"
            )
        super().__init__(*args, **kwargs)
        order = self.symmetry.group.order
        self._weighted = order > 1 and not self.aggregator.uniform
        n_weights = order if self._weighted else 0
        # The mean that "straight_through" differentiates is that of all views.
        all_views = isinstance(self.aggregator, Select) and self.aggregator.gradient == "straight_through"
        self._skips_views = self._weighted and not all_views
        self.lstm_actor = OrbitLSTM(self.lstm_actor, order, n_weights)
        if self.lstm_critic is not None:
            self.lstm_critic = OrbitLSTM(self.lstm_critic, order, n_weights)
        self.lstm_hidden_state_shape = (self.lstm_actor.num_layers, 1, self.lstm_actor.hidden_size)

    def forward(  # type: ignore[override]  # as sb3-contrib's
        self, obs: Any, lstm_states: RNNStates, episode_starts: Tensor, deterministic: bool = False
    ) -> tuple[Tensor, Tensor, Tensor, RNNStates]:
        """Return actions ``[B, *action]``, values ``[B, 1]``, log-probabilities ``[B]`` and the next states."""
        both, states = self._remembering(obs, *lstm_states, episode_starts)
        distribution = self._distribution(both[:, :-1])
        actions = distribution.get_actions(deterministic=deterministic)
        log_prob = distribution.log_prob(actions)
        return actions.reshape((-1, *self.action_space.shape)), both[:, -1:], log_prob, states

    def evaluate_actions(  # type: ignore[override]  # as sb3-contrib's
        self, obs: Any, actions: Tensor, lstm_states: RNNStates, episode_starts: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return values ``[N, 1]``, log-probabilities ``[N]`` and entropies ``[N]`` of sequences, one after another."""
        both, _ = self._remembering(obs, *lstm_states, episode_starts)
        distribution = self._distribution(both[:, :-1])
        if isinstance(self.action_space, spaces.MultiBinary):  # whole numbers in sb3-contrib's buffer
            actions = actions.to(both.dtype)
        return both[:, -1:], distribution.log_prob(actions), distribution.entropy()

    def get_distribution(  # type: ignore[override]  # as sb3-contrib's
        self, obs: Any, lstm_states: LSTMState, episode_starts: Tensor
    ) -> tuple[Distribution, tuple[Tensor, ...]]:
        """Return the equivariant distribution over the actions, and the actor's next state."""
        both, states = self._remembering(obs, lstm_states, None, episode_starts)
        distribution: Distribution = self._distribution(both[:, :-1])
        return distribution, states.pi

    def predict_values(  # type: ignore[override]  # ActorCriticOrbit's knows no state
        self, obs: Any, lstm_states: LSTMState, episode_starts: Tensor
    ) -> Tensor:
        """Return the invariant values, ``[B, 1]``, after the history in the critic's state."""
        return self._remembering(obs, None, lstm_states, episode_starts)[0][:, -1:]

    def _remembering(self, obs: Any, pi: Any, vf: Any, episode_starts: Tensor) -> tuple[Tensor, RNNStates]:
        """Return action parameters and value side by side, ``[B T, A + 1]``, and the states after ``T`` steps.

        Args:
            obs: Observations of ``B`` sequences, one after another.
            pi: The actor's state before them, an ``LSTMState``; without it the action parameters are zero.
            vf: The critic's state before them; without it the value is zero.
            episode_starts: Where an episode starts, ``[B T]``.
        """
        x = self._observations(obs)
        given: Any = pi if pi is not None else vf
        n_sequences = self._check_state(given, n_rows(x))
        starts = episode_starts.reshape(n_sequences, -1)
        weights = self._episode_weights(x, given, starts) if self._weighted else None
        kept = None if weights is None or not self._skips_views else _kept(weights.detach())
        rows, starts = self._views(x, starts, kept)
        lstm = self.lstm_actor
        states = [None if each is None else lstm.views(each, kept) for each in (pi, vf)]
        latent_pi, latent_vf, after_pi, after_vf = self._latents(rows, states[0], states[1], starts)
        orbit = self._orbit_of_sequences(latent_pi, latent_vf, n_sequences, kept)
        both = orbit.mean() if weights is None else self.aggregator.combine(orbit, weights.flatten(0, 1))
        last = None if weights is None else weights[:, -1]
        after = [lstm.state(each, last, kept) for each in (after_pi, after_vf)]
        return both, RNNStates(after[0], after[1])

    def _check_state(self, state: LSTMState, n_observations: int) -> int:
        """Return the number of sequences.

        Raises:
            ValueError: The state of another policy, or sequences of unequal lengths.
        """
        n_sequences = state[0].shape[1]
        if state[0].shape[2] != self.lstm_actor.hidden_size:
            raise ValueError(
                f"the state has {state[0].shape[2]} numbers for each environment, but this policy remembers "
                f"{self.lstm_actor.hidden_size} ({self.symmetry.group.order} views): begin with state=None, and "
                "pass on what predict() returns"
            )
        if n_observations % n_sequences:
            raise ValueError(
                f"{n_observations} observations are no {n_sequences} sequences of equal length; the state has one "
                "column for each sequence"
            )
        return n_sequences

    def _episode_weights(self, x: Tree, state: LSTMState, starts: Tensor) -> Tensor:
        """Return the weights of the views at each step, ``[B, T, |G|]``: those chosen where its episode started."""
        carried = self.lstm_actor.weights(state)
        begins = starts != 0
        # No weights yet: the first step of all, whatever episode_starts says.
        begins = torch.cat([begins[:, :1] | (carried.sum(dim=1, keepdim=True) == 0), begins[:, 1:]], dim=1)
        length = begins.shape[1]
        if not bool(begins.any()):
            return carried.unsqueeze(1).expand(-1, length, -1)
        places = begins.flatten().nonzero().squeeze(1)
        chosen = self.orbit_map.weights(self._head, rows_of(x, places), self._features, self._shown)
        anew = carried.new_zeros(begins.numel(), carried.shape[1]).index_copy(0, places, chosen)
        table = torch.cat([carried.unsqueeze(1), anew.view(-1, length, carried.shape[1])], dim=1)
        step = torch.arange(1, length + 1, device=begins.device)
        latest = torch.where(begins, step, 0).cummax(dim=1).values
        return table.gather(1, latest.unsqueeze(2).expand(-1, -1, table.shape[2]))

    def _views(self, x: Tree, starts: Tensor, kept: Tensor | None) -> tuple[Tree, Tensor]:
        """Return the observations of each view's sequence, one sequence after another, and where episodes start."""
        order = self.symmetry.group.order
        n_sequences, length = starts.shape
        if kept is None:
            rows = map_tensors(
                self.input_rep.orbit(x),
                lambda views: views.view(n_sequences, length, *views.shape[1:]).transpose(1, 2).flatten(0, 2),
            )
            return rows, starts.repeat_interleave(order, dim=0)
        sequences = kept // order
        steps = sequences.unsqueeze(1) * length + torch.arange(length, device=kept.device)
        elements = (kept % order).repeat_interleave(length)
        return self.input_rep.transform_each(elements, rows_of(x, steps.flatten())), starts[sequences]

    def _latents(
        self, rows: Tree, pi: LSTMState | None, vf: LSTMState | None, starts: Tensor
    ) -> tuple[Tensor | None, Tensor | None, LSTMState, LSTMState]:
        """Return what actor and critic make of sequences of views, ``[K T, F]``, and their states ``[L, K, h]``.

        sb3-contrib's own network; what has no state is left out, and its state is the other's.
        """
        after_pi: Any = pi if pi is not None else vf
        after_vf: Any = vf if vf is not None else pi
        latent_pi = latent_vf = features = None
        if pi is not None or self.shared_lstm:
            features = self._extracted(rows, self.pi_features_extractor)
            latent_pi, after_pi = self._process_sequence(features, after_pi, starts, self.lstm_actor)
        if latent_pi is not None and self.shared_lstm:
            latent_vf, after_vf = latent_pi.detach(), (after_pi[0].detach(), after_pi[1].detach())
        elif vf is not None:
            if features is None or not self.share_features_extractor:
                features = self._extracted(rows, self.vf_features_extractor)
            if self.lstm_critic is not None:
                latent_vf, after_vf = self._process_sequence(features, vf, starts, self.lstm_critic)
            elif self.critic is not None:
                latent_vf, after_vf = self.critic(features), after_pi
        extractor = self.mlp_extractor
        return (
            None if latent_pi is None else extractor.forward_actor(latent_pi),
            None if latent_vf is None else extractor.forward_critic(latent_vf),
            after_pi,
            after_vf,
        )

    def _orbit_of_sequences(
        self, latent_pi: Tensor | None, latent_vf: Tensor | None, n_sequences: int, kept: Tensor | None
    ) -> Orbit:
        """Return the orbit of all steps, ``[B T, |G|, A + 1]``; views that are left out have zeros."""
        order = self.symmetry.group.order
        known: Any = latent_pi if latent_pi is not None else latent_vf
        n_parameters = self.output_rep.dim - 1
        parameters = known.new_zeros(len(known), n_parameters) if latent_pi is None else self.action_net(latent_pi)
        values = known.new_zeros(len(known), 1) if latent_vf is None else self.value_net(latent_vf)
        both = side_by_side([parameters, values])
        both = both.view(n_sequences * order if kept is None else len(kept), -1, n_parameters + 1)
        if kept is not None:
            both = both.new_zeros(n_sequences * order, *both.shape[1:]).index_copy(0, kept, both)
        outputs = both.view(n_sequences, order, *both.shape[1:]).transpose(1, 2).flatten(0, 1)
        return Orbit(None, outputs, self.output_rep)

    def _extracted(self, rows: Tree, extractor: Any) -> Tensor:
        features: Tensor = BaseModel.extract_features(self, rows, extractor)
        return features

    def _features(self, rows: Tree) -> Tensor:
        """Return the last hidden layers of actor and critic at the first step of an episode, ``[N, F]``."""
        n = n_rows(rows)
        none = self.lstm_actor.no_memory(n, next(self.lstm_actor.parameters()))
        both: Any = self._latents(rows, none, none, none[0].new_zeros(n, 1))[:2]
        return torch.cat(both, dim=1)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **lstm_settings(self)}


def lstm_settings(policy: RecurrentActorCriticPolicy) -> dict[str, Any]:
    """Return the arguments of a recurrent policy that sb3-contrib leaves out of its constructor parameters."""
    return {
        "lstm_hidden_size": policy.lstm_output_dim,
        "n_lstm_layers": policy.lstm_actor.num_layers,
        "shared_lstm": policy.shared_lstm,
        "enable_critic_lstm": policy.enable_critic_lstm,
        "lstm_kwargs": policy.lstm_kwargs,
    }


def _kept(weights: Tensor) -> Tensor | None:
    """Return which views have a weight at some step, counted through all sequences; ``None`` if all have."""
    used = (weights != 0).any(dim=1).flatten()
    return None if bool(used.all()) else used.nonzero().squeeze(1)
