import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

from equirl import trivial_representation
from equirl.experiments.scan.batches import ACTION_VOCABULARY, COMMAND_VOCABULARY, Examples, Vocabulary
from equirl.experiments.scan.grammar import all_commands, interpret
from equirl.experiments.scan.models import NAMED_SYMMETRIES, make_model, make_symmetry
from equirl.experiments.scan.splits import Example
from equirl.experiments.scan.training import (
    FitConfig,
    accuracy,
    fit,
    hold_out,
    load_checkpoint,
    loss_of,
    save_checkpoint,
)
from equirl.models.g_lstm import GLSTM
from equirl.models.seq2seq import EncoderDecoder
from equirl.models.sequence_aggregators import SEQUENCE_PROXY_LOSSES, make_sequence_aggregator
from equirl.models.sequences import SequenceModel, SequenceSymmetry, SymmetrizedSequenceModel, ViewByView
from equirl.models.special_tokens import END, PAD
from equirl.names import ORBIT_METHODS
from equirl.orbit import Orbit

COMMANDS = random.Random(0).sample(list(all_commands()), 200)
EXAMPLES = [Example(command, interpret(command)) for command in COMMANDS]
SEQUENCES = Examples(EXAMPLES)


def _backbone(cell: str = "lstm", hidden: int = 12) -> EncoderDecoder:
    torch.manual_seed(0)
    model = make_model(cell, hidden if cell != "transformer" else 16)
    for parameter in model.parameters():
        parameter.data *= 2  # away from uniform distributions
    return model.eval()


def _symmetrized(symmetry: SequenceSymmetry, method: str, proxy_loss: str = "entropy") -> SymmetrizedSequenceModel:
    model = SymmetrizedSequenceModel(
        _backbone(), symmetry, make_sequence_aggregator(method, len(COMMAND_VOCABULARY), proxy_loss)
    )
    if method == "lambda_equitune":
        torch.nn.init.normal_(model.aggregator.network.last.weight)  # type: ignore[union-attr, arg-type]
    return model.eval()


def _some_elements(symmetry: SequenceSymmetry) -> list[int]:
    group = symmetry.group
    if group.order <= 4:
        return list(range(group.order))
    return sorted({*group.generators, *random.Random(1).sample(range(group.order), 2)})


def _aligned(answers: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(answers, (0, width - answers.shape[1]))


@torch.no_grad()
def _check_equivariant(model: SequenceModel, symmetry: SequenceSymmetry) -> None:
    """``p(gy | gx) = g p(y | x)`` to 1e-5, and the greedy answer to ``gx`` is ``g`` times that to ``x``."""
    longest = 50 if symmetry.group.order <= 2 else 12  # untrained models do not end of themselves
    rows = slice(None, 80 if symmetry.group.order <= 8 else 24)
    command, prefix = SEQUENCES.command[rows], SEQUENCES.prefix[rows]
    on_scores = symmetry.actions.on_logits()
    probabilities, answers = model({"command": command, "prefix": prefix}), model.greedy(command, longest)
    assert torch.allclose(probabilities.sum(-1), torch.ones(prefix.shape), atol=1e-5)
    for g in _some_elements(symmetry):
        moved = {"command": symmetry.command.transform(g, command), "prefix": symmetry.actions.transform(g, prefix)}
        expected = on_scores.transform(g, probabilities.flatten(0, 1)).view_as(probabilities)  # type: ignore[union-attr]
        assert (model(moved) - expected).abs().max() < 1e-5
        theirs, ours = model.greedy(moved["command"], longest), symmetry.actions.transform(g, answers)  # type: ignore[arg-type]
        assert isinstance(ours, Tensor)
        assert torch.equal(_aligned(theirs, 50), _aligned(ours, 50))


@pytest.mark.parametrize("name", NAMED_SYMMETRIES)
@pytest.mark.parametrize("method", ORBIT_METHODS)
def test_a_symmetrized_model_is_equivariant(name: str, method: str) -> None:
    symmetry = make_symmetry(name)
    _check_equivariant(_symmetrized(symmetry, method), symmetry)


@pytest.mark.parametrize("cell", ["gru", "rnn", "transformer"])
def test_whatever_the_backbone(cell: str) -> None:
    symmetry = make_symmetry("verbs-c4")
    model = SymmetrizedSequenceModel(
        _backbone(cell), symmetry, make_sequence_aggregator("equitune", len(COMMAND_VOCABULARY))
    ).eval()
    _check_equivariant(model, symmetry)


@pytest.mark.parametrize(
    "name", ["jump-run", "verbs-c4", "directions", "cyclic:jump,run,look", "symmetric:run,walk,look"]
)
def test_the_g_lstm_is_equivariant(name: str) -> None:
    torch.manual_seed(0)
    symmetry = make_symmetry(name)
    _check_equivariant(GLSTM(symmetry, 6).eval(), symmetry)


def test_the_check_has_power() -> None:
    with pytest.raises(AssertionError):
        _check_equivariant(_backbone(), make_symmetry("jump-run"))


@pytest.mark.parametrize("name", NAMED_SYMMETRIES)
def test_the_meaning_of_commands_is_equivariant(name: str) -> None:
    symmetry = make_symmetry(name)
    for g in _some_elements(symmetry):
        moved = COMMAND_VOCABULARY.decode(symmetry.command.transform(g, SEQUENCES.command))  # type: ignore[arg-type]
        meant = ACTION_VOCABULARY.decode(symmetry.actions.transform(g, SEQUENCES.target))  # type: ignore[arg-type]
        assert [interpret(command) for command in moved] == meant


def test_meanings_are_among_the_allowed_answers() -> None:
    for name in NAMED_SYMMETRIES:
        allowed = make_symmetry(name).fixed_actions(SEQUENCES.command)
        assert bool(allowed.gather(1, SEQUENCES.target).all())
    # A command without jump and run is left alone by their swap: its answer has neither.
    alone = make_symmetry("jump-run").fixed_actions(COMMAND_VOCABULARY.encode(["walk left", "run left"]))
    assert alone[:, ACTION_VOCABULARY.number("I_JUMP")].tolist() == [False, True]
    assert bool(alone[:, END].all())


def test_equitune_is_the_mean_over_the_elements() -> None:
    symmetry = make_symmetry("verbs-s4")
    model = _symmetrized(symmetry, "equitune")
    sequences = SEQUENCES.batch(torch.arange(20)).sequences
    total = 0
    for g in range(symmetry.group.order):
        moved = {"command": symmetry.command.transform(g, sequences["command"])}
        moved["prefix"] = symmetry.actions.transform(g, sequences["prefix"])
        outputs = model.model(moved)
        # (g^-1 p)[v] = p[g v]
        total = total + outputs[..., symmetry.actions.table[g]]
    assert torch.allclose(model(sequences), total / symmetry.group.order, atol=1e-6)


@torch.no_grad()
def test_equizero_gives_the_surest_views_answer() -> None:
    symmetry = make_symmetry("verbs-c4")
    commands = COMMAND_VOCABULARY.encode(["jump twice", "run left and walk", "look after jump"])
    for name in SEQUENCE_PROXY_LOSSES:
        model = _symmetrized(symmetry, "equizero", name)
        answers = []
        for command in commands:
            best = (float("inf"), "")
            for g in range(4):
                view = symmetry.command.transform(g, command[None])
                tokens, places = model.model.free_run(view, 50)  # type: ignore[arg-type]
                there = tokens[0] != PAD
                top = places[0, there].amax(dim=1)
                loss = {
                    "entropy": torch.special.entr(places[0, there]).sum(1).mean(),
                    "confidence": -top.mean(),
                    "likelihood": -top.log().sum(),
                }[name]
                back = symmetry.actions.transform(symmetry.group.inverse(g), tokens)
                best = min(best, (float(loss), ACTION_VOCABULARY.decode(back)[0]))  # type: ignore[arg-type]
            answers.append(best[1])
        assert ACTION_VOCABULARY.decode(model.greedy(commands)) == answers


def test_view_by_view_every_view_learns_from_its_own_likelihood() -> None:
    symmetry = make_symmetry("verbs-c4")
    batch = SEQUENCES.batch(torch.arange(30))
    model = ViewByView(_backbone(), symmetry).eval()
    loss = loss_of(model, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    backbone = _backbone()
    losses = []
    for g in range(4):
        moved = [symmetry.actions.transform(g, tokens) for tokens in (batch.prefix, batch.target)]
        command = symmetry.command.transform(g, batch.command)
        losses.append(loss_of(backbone, type(batch)(command, *moved)))  # type: ignore[arg-type]
    mean = torch.stack(losses).mean()
    mean.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(float(mean.detach()), rel=1e-5)
    for ours, theirs in zip(model.model.parameters(), backbone.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-5)


@torch.no_grad()
def test_view_by_view_bounds_equitunes_loss_and_answers_as_it_does() -> None:
    symmetry = make_symmetry("verbs-c4")
    batch = SEQUENCES.batch(torch.arange(30))
    model, equitune = ViewByView(_backbone(), symmetry).eval(), _symmetrized(symmetry, "equitune")
    assert float(loss_of(model, batch)) > float(loss_of(equitune, batch)) + 1e-3
    assert torch.equal(model.greedy(batch.command, 12), equitune.greedy(batch.command, 12))


def test_lambda_starts_as_equitune() -> None:
    symmetry = make_symmetry("verbs-c4")
    ours = SymmetrizedSequenceModel(
        _backbone(), symmetry, make_sequence_aggregator("lambda_equitune", len(COMMAND_VOCABULARY))
    ).eval()
    sequences = SEQUENCES.batch(torch.arange(50)).sequences
    assert torch.allclose(ours(sequences), _symmetrized(symmetry, "equitune")(sequences), atol=1e-6)


def test_lambda_reads_the_command_and_no_padding() -> None:
    symmetry = make_symmetry("verbs-c4")
    model = _symmetrized(symmetry, "lambda_equitune")
    whole = SEQUENCES.batch(torch.arange(50)).sequences
    short = {**whole, "prefix": whole["prefix"][:, :1]}
    assert torch.allclose(model(short), model(whole)[:, :1], atol=1e-6)
    padded = {**whole, "command": torch.nn.functional.pad(whole["command"], (0, 3))}
    assert torch.allclose(model(padded), model(whole), atol=1e-6)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn", "transformer"])
@torch.no_grad()
def test_step_by_step_is_all_at_once(cell: str) -> None:
    model = _backbone(cell)
    answers, places = model.free_run(SEQUENCES.command, 12)
    prefix = torch.cat([torch.full((200, 1), 2), answers[:, :-1]], dim=1)
    prefix[prefix == END] = PAD
    assert torch.allclose(model({"command": SEQUENCES.command, "prefix": prefix}), places, atol=1e-5)


def test_a_sequence_that_is_over_counts_for_nothing() -> None:
    torch.manual_seed(0)
    places = torch.rand(2, 3, 5, len(ACTION_VOCABULARY)).softmax(-1)
    over = torch.zeros(2, 3, 4, len(ACTION_VOCABULARY))
    over[..., PAD] = 1
    rep = trivial_representation(make_symmetry("jump-run").group, (1,))
    for proxy_loss in SEQUENCE_PROXY_LOSSES.values():
        short, long = (proxy_loss(Orbit(p, p, rep)) for p in (places, torch.cat([places, over], dim=2)))
        assert short.shape == (2, 3)
        assert torch.allclose(short, long)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("verbs", "symmetry 'verbs' is unknown"),
        ("cyclic:jump,hop", "word 'hop' is unknown"),
        ("cyclic:jump,turn", "word 'turn' is unknown"),
        ("cyclic:jump,run,jump", "'jump' is there twice, so that this is no permutation"),
        ("cyclic:jump,run*symmetric:run,walk", "'run' is there twice"),
        ("cyclic:jump,left", "verbs and directions play different parts"),
        ("cyclic:jump", "takes two to four words, not 1"),
        ("dihedral:jump,run", "kind 'dihedral' is unknown"),
    ],
)
def test_what_is_no_permutation_of_words_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_symmetry(name)


def test_a_product_moves_both() -> None:
    symmetry = make_symmetry("verbs-c4*directions")
    assert symmetry.group.order == 8
    g = symmetry.group.index("r,r")
    moved = symmetry.command.transform(g, COMMAND_VOCABULARY.encode(["jump around left and look twice"]))
    assert COMMAND_VOCABULARY.decode(moved) == ["run around right and jump twice"]  # type: ignore[arg-type]


def test_words_and_numbers() -> None:
    encoded = COMMAND_VOCABULARY.encode(["jump", "walk left twice"])
    assert encoded.shape == (2, 4)
    assert encoded[0, 1:].tolist() == [END, PAD, PAD]
    assert COMMAND_VOCABULARY.decode(encoded) == ["jump", "walk left twice"]
    with pytest.raises(ValueError, match="word 'hop' is unknown"):
        COMMAND_VOCABULARY.encode(["hop"])


def _config(steps: int, **others: float) -> FitConfig:
    return FitConfig(steps, 20, 5e-3, 5, 100, anneal=True, **others)


def test_training_learns_and_keeps_the_best() -> None:
    torch.manual_seed(0)
    model = make_model("gru", 32, 0.0)
    some = Examples(EXAMPLES[:60])
    before = float(loss_of(model, some.batch(torch.arange(60))).detach())
    looks: list[tuple[int, float, float]] = []
    result = fit(model, some, some, _config(100), 0, report=lambda *look: looks.append(look))
    assert result.loss == min(value for _, _, value in looks) < before / 2
    assert float(loss_of(model.eval(), some.batch(torch.arange(60))).detach()) == pytest.approx(result.loss, rel=1e-4)
    assert result.steps == 100 == looks[-1][0]


def test_training_stops_when_nothing_gets_better() -> None:
    model = _backbone()
    result = fit(model, SEQUENCES, SEQUENCES, FitConfig(100, 20, 0.0, 5, 2), 0)
    assert (result.steps, result.best_step) == (10, 0)


def test_only_the_given_parameters_are_trained() -> None:
    model = _symmetrized(make_symmetry("jump-run"), "lambda_equitune")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit(model, SEQUENCES, SEQUENCES, _config(10), 0, parameters=model.aggregator.parameters())
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("aggregator.") for name in changed)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_training_that_was_stopped_goes_on(tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop(step: int, *_: float) -> None:
        if step == 20:
            raise StoppedError

    part, whole, resumed = tmp_path / "training.part", _backbone("gru"), _backbone("gru")
    straight = fit(whole, SEQUENCES, SEQUENCES, _config(40), 3)
    with pytest.raises(StoppedError):
        fit(resumed, SEQUENCES, SEQUENCES, _config(40), 3, report=stop, resume=part)
    assert part.exists()
    steps: list[int] = []
    again_model = _backbone("gru")
    again = fit(
        again_model, SEQUENCES, SEQUENCES, _config(40), 9, report=lambda step, *_: steps.append(step), resume=part
    )
    assert steps[0] == 20  # the last look that was kept is that of step 15
    assert (again.steps, again.best_step, again.loss) == (straight.steps, straight.best_step, straight.loss)
    for ours, theirs in zip(again_model.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    # One that had ended is not done again.
    assert fit(_backbone("gru"), SEQUENCES, SEQUENCES, _config(40), 9, resume=part).loss == straight.loss


@pytest.mark.parametrize("seed", range(12))
def test_what_stands_many_times_is_not_held_out(seed: int) -> None:
    train, held_out = hold_out([*EXAMPLES, *EXAMPLES[:50]], 0.2, seed)
    assert 15 <= len(held_out) <= 40
    assert not set(train) & set(held_out)
    assert set(train) | set(held_out) == set(EXAMPLES)
    assert set(EXAMPLES[:50]) <= set(train)


def test_accuracy_is_the_share_of_whole_answers() -> None:
    class Knows(SequenceModel):
        """Answers right, but for commands with ``run``."""

        def greedy(self, commands: Tensor, length: int = 50) -> Tensor:
            words = COMMAND_VOCABULARY.decode(commands)
            return ACTION_VOCABULARY.encode(["I_RUN" if "run" in c else interpret(c) for c in words])

    right = sum("run" not in c or interpret(c) == "I_RUN" for c in COMMANDS)
    assert accuracy(Knows(), SEQUENCES) == right / 200


def test_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, model = tmp_path / "model.pt", _backbone()
    save_checkpoint(path, model, {"split": "simple"})
    other = make_model("lstm", 12)
    assert load_checkpoint(path, other) == {"split": "simple"}
    assert torch.equal(other.eval().greedy(SEQUENCES.command), model.greedy(SEQUENCES.command))
    with pytest.raises(ValueError, match="weights of another model"):
        load_checkpoint(path, make_model("gru", 12))
    (tmp_path / "none.pt").write_text("nothing")
    with pytest.raises(ValueError, match="is no checkpoint of a SCAN model"):
        load_checkpoint(tmp_path / "none.pt", other)
    monkeypatch.setattr("equirl.experiments.scan.training.COMMAND_VOCABULARY", Vocabulary("word", ["hop"]))
    with pytest.raises(ValueError, match="was trained with the words"):
        load_checkpoint(path, other)
