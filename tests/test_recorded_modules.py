"""Every module of the library can be recorded: exported before it has ever run, or traced, it answers as itself."""

import importlib
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from continuous import SWAPPED, TwoArms
from continuous import make as make_continuous
from exported_agents import Still, agent, symmetry_of
from gymnasium import spaces
from sb3_contrib import MaskablePPO, RecurrentPPO
from small_worlds import KINDS
from stable_baselines3 import DQN
from test_architecture import MODULES
from tiny_images import tiny_classifier
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from equirl import (
    dihedral_group,
    image_representation,
    permutation_representation,
    signed_permutation_representation,
    trivial_representation,
)
from equirl.agents import EquivariantDQNPolicy, EquivariantMaskablePolicy, EquivariantRecurrentPolicy
from equirl.agents.export import export_program
from equirl.agents.exported_policy import exported_policy
from equirl.aggregators import Aggregator
from equirl.matrices import cyclic_irrep
from equirl.models.image_heads import Bridge, CosineHead
from equirl.models.images import SymmetrizedClassifier, make_image_aggregator
from equirl.models.seq2seq import Transformer
from equirl.models.sequence_aggregators import make_sequence_aggregator
from equirl.models.sequences import SequenceSymmetry, SymmetrizedSequenceModel
from equirl.models.special_tokens import BEGIN, PAD
from equirl.plane import PlaneFrames, PlaneVectors, RandomOffset
from equirl.relaxed_aggregators import ElementWeights, SoftPenalty
from equirl.rotations import InterpolatedRotations
from equirl.symmetrization import Canonical, Equitune, Equizero, LambdaEquitune, Symmetrized
from equirl.tokens import TokenRepresentation

SAMPLES = 12
MIRROR = dihedral_group(1)
SWAP = permutation_representation(MIRROR, [[0, 1], [1, 0]])
SIGN = signed_permutation_representation(MIRROR, [[0, 1]] * 2, [[1, 1], [1, -1]])

Case = tuple[nn.Module, tuple[Any, ...]]


class OfDict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 2)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        place = nn.functional.one_hot(x["place"], 6).float()
        values: Tensor = self.layer(torch.cat([place, x["x"]], dim=1))
        return values


class Pixels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = self.layer(x.float().flatten(1) / 255)
        return values


def vectors() -> Tensor:
    x = torch.randn(SAMPLES, 2)
    x[1, 1] = 0  # the mirror leaves it as it is
    x[2, 1] = 1e-15  # and this one nearly: small numbers drown in the sum that the canonical choice looks at
    return x


def dictionary() -> dict[str, Tensor]:
    return {"x": torch.randn(SAMPLES, 2), "place": torch.randint(6, (SAMPLES,))}


def mlp(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, outputs))


def lambda_equitune() -> Case:
    network = mlp(2, 1)
    return LambdaEquitune(mlp(2, 2), SIGN, SWAP, network=network, reads="inputs"), (vectors(),)


def turned(method: Callable[..., nn.Module], n: int = 8) -> Case:
    turns = InterpolatedRotations(n, (1, 4, 4))
    x = torch.rand(SAMPLES, 1, 4, 4)
    x[3] = 1
    return method(nn.Conv2d(1, 1, 3, padding=1), turns, turns), (x,)


def many_outputs() -> Case:
    images = image_representation(MIRROR, (2, 4, 4))
    x = torch.randint(256, (SAMPLES, 2, 4, 4), dtype=torch.uint8)
    x[3] = x[3].flip(2)
    x[4] = x[4] // 2 + x[4].flip(2) // 2
    return Equizero(Pixels(), images, trivial_representation(MIRROR, (3,)), gradient="straight_through"), (x,)


def classifier(group: str, level: str, method: str, **settings: Any) -> Case:
    aggregator = make_image_aggregator(method, 5, **settings)
    for parameter in aggregator.parameters():
        nn.init.normal_(parameter)
    return SymmetrizedClassifier(tiny_classifier(4), group, aggregator, level), (torch.rand(SAMPLES, 3, 4, 4),)


def sequences() -> Case:
    command = TokenRepresentation(MIRROR, [[0, 1, 2, 3, 4, 5], [0, 1, 2, 4, 3, 5]])
    symmetry = SequenceSymmetry("swap", command, command)
    backbone = Transformer(6, 6, hidden=8, layers=1, heads=2)
    aggregator = make_sequence_aggregator("lambda_equitune", 6)
    for parameter in aggregator.parameters():
        nn.init.normal_(parameter)
    model = SymmetrizedSequenceModel(backbone, symmetry, aggregator)
    x = {"command": torch.randint(3, 6, (SAMPLES, 4)), "prefix": torch.randint(3, 6, (SAMPLES, 3))}
    x["command"][1, 2:], x["prefix"][1, 2:], x["prefix"][:, 0] = PAD, PAD, BEGIN
    with pytest.raises(RuntimeError, match="run the model once on actions of this length, 3"):
        recorded_by_export(model.eval(), (x,))
    model(x)
    return model, (x,)


def language_model() -> Case:
    pytest.importorskip("transformers")
    from tiny_lm import tiny_lm, tiny_tokenizer

    from equirl.models.causal_lm import SymmetrizedLM, make_lm_aggregator
    from equirl.models.token_actions import token_action
    from equirl.models.word_groups import load_word_group

    tokenizer = tiny_tokenizer()
    backbone = tiny_lm(len(tokenizer))
    action = token_action(load_word_group("gender"), tokenizer, len(tokenizer))
    model = SymmetrizedLM(backbone, action, make_lm_aggregator("equitune", backbone))

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: Tensor, weights: Tensor) -> Tensor:
            logits: Tensor = self.model(tokens, view_weights=weights, use_cache=False).logits
            return logits

    weights = nn.functional.one_hot(torch.arange(SAMPLES) % 2, 2).float()
    return Logits(), (torch.randint(3, len(tokenizer), (SAMPLES, 5)), weights)


def acting(name: str, network: str, method: str) -> Case:
    model = agent(name, network, method)
    policy = exported_policy(model)
    seen = [policy.acting[0].observation_space.sample() for _ in range(SAMPLES)]
    x = torch.as_tensor(np.stack(seen))
    x[2] = 0
    return policy, (x,)


def masked() -> Case:
    world = Still(KINDS["box"][0], spaces.MultiBinary(2))
    symmetry = symmetry_of("mlp", box=False)
    symmetry = type(symmetry)(
        "mirror", KINDS["box"][1], permutation_representation(KINDS["box"][1].group, [[0, 1], [1, 0]])
    )
    settings = {"symmetry": symmetry, "method": "canonical"}
    model = MaskablePPO(
        EquivariantMaskablePolicy, world, policy_kwargs=settings, n_steps=16, batch_size=16, device="cpu"
    )
    return exported_policy(model), (vectors(),)


def continuous(name: str, method: str, critic: bool) -> Case:
    model = make_continuous(name, method)
    states = torch.randn(SAMPLES, 5)
    states[1] = torch.tensor([1.0, 1.0, 0, 0, 1.0])
    if critic:
        return model.policy.critic, (states, torch.rand(SAMPLES, 3) - 0.5)
    return exported_policy(model), (states,)


def relaxed(aggregator: Aggregator) -> Case:
    for parameter in aggregator.parameters():
        nn.init.normal_(parameter)
    return Symmetrized(mlp(2, 2), SIGN, SWAP, aggregator), (vectors(),)


def partial_dqn() -> Case:
    kwargs = {"symmetry": "cartpole-z2", "method": "partial"}
    model = DQN(EquivariantDQNPolicy, "CartPole-v1", policy_kwargs=kwargs, buffer_size=10, device="cpu")
    for parameter in model.q_net.relaxation.parameters():
        nn.init.normal_(parameter)
    return exported_policy(model), (torch.randn(SAMPLES, 4),)


def plane_frames() -> Case:
    parts = PlaneVectors("vector", "vector", "scalar")
    x = torch.randn(SAMPLES, 5)
    x[4, :4] = 0
    return PlaneFrames(mlp(5, 5), parts, parts, mirrors=True), (x,)


def random_offset() -> Case:
    exact, inputs = plane_frames()  # so that every offset gives the same answer
    parts = PlaneVectors("vector", "vector", "scalar")
    return RandomOffset(exact, parts, parts, mirrors=True), inputs


CASES: dict[str, Callable[[], Case]] = {
    "equitune": lambda: (Equitune(mlp(2, 2), SIGN, SWAP), (vectors(),)),
    "lambda_equitune": lambda_equitune,
    "equizero": many_outputs,
    "canonical": lambda: (Canonical(mlp(2, 2), SIGN, SWAP), (vectors(),)),
    "canonical, tokens": lambda: (
        Canonical(nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 2)), KINDS["discrete"][1], KINDS["multibinary"][1]),
        (torch.randint(6, (SAMPLES,)),),
    ),
    "canonical, dict": lambda: (Canonical(OfDict(), KINDS["dict"][1], KINDS["multibinary"][1]), (dictionary(),)),
    "canonical, interpolated": lambda: turned(Canonical),
    "canonical, margin": lambda: (Canonical(mlp(2, 2), SIGN, SWAP, margin=0.3), (vectors(),)),
    "matrices": lambda: (Equitune(mlp(2, 2), cyclic_irrep(5), cyclic_irrep(5, 2)), (vectors(),)),
    "weights of elements": lambda: relaxed(ElementWeights(MIRROR, 2)),
    "penalty": lambda: relaxed(SoftPenalty(MIRROR)),
    "partial": partial_dqn,
    "frames of the plane": plane_frames,
    "a random offset": random_offset,
    "images, λ": lambda: classifier("flip", "output", "lambda_equitune"),
    "maps, attention": lambda: classifier("flip", "maps", "lambda_equitune", lambda_network="attention"),
    "cosines": lambda: (CosineHead(torch.rand(3, 4), 2.0), (torch.rand(SAMPLES, 4),)),
    "bridge": lambda: (
        Bridge(*(np.random.default_rng(0).random(shape) for shape in ((6, 4), (6, 3), (5, 3)))),
        (torch.rand(SAMPLES, 4),),
    ),
    "sequences": sequences,
    "language model": language_model,
    "dqn": lambda: acting("dqn", "cnn", "canonical"),
    "qrdqn": lambda: acting("qrdqn", "mlp", "equizero"),
    "ppo": lambda: acting("ppo", "mlp", "canonical"),
    "masked": masked,
    "sac": lambda: continuous("sac", "canonical", critic=False),
    "sac, critic": lambda: continuous("sac", "canonical", critic=True),
    "td3": lambda: continuous("td3", "equizero", critic=False),
    "tqc": lambda: continuous("tqc", "lambda_equitune", critic=False),
    "tqc, critic": lambda: continuous("tqc", "equizero", critic=True),
    "crossq": lambda: continuous("crossq", "canonical", critic=False),
    "crossq, critic": lambda: continuous("crossq", "canonical", critic=True),
}

NOT_RECORDED = {
    "EquivariantRecurrentPolicy": "it remembers; equirl.agents.export refuses it",
    "OrbitLSTM": "a part of it",
    "ViewByView": "SymmetrizedSequenceModel of log-probabilities",
    "Seq2Seq": "torch.export refuses packed sequences",
    "GLSTM": "the same",
    "_Embedding": "a part of it",
    "_Convolution": "a part of it",
    "_LSTM": "a part of it",
    "LookAhead": "it reads texts; SymmetrizedLM takes view_weights in its place, and it refuses otherwise",
    "_ClipVector": "a pretrained network's own part",
}
"""Classes that no case holds, and why."""

_CLASSES_SEEN: dict[str, set[type]] = {}


def recorded_by_export(module: nn.Module, inputs: tuple[Any, ...]) -> Any:
    batch = {0: torch.export.Dim("batch", min=1)}
    some = tree_map(lambda t: t[:3], inputs)
    shapes = tree_map(lambda t: batch, inputs)
    with torch.no_grad():
        return torch.export.export(module, some, dynamic_shapes=shapes).module()


def recorded_by_trace(module: nn.Module, inputs: tuple[Any, ...]) -> Any:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.jit.trace(module, tree_map(lambda t: t[:1], inputs), check_trace=False, strict=False)


def seen(case: str, module: nn.Module) -> None:
    _CLASSES_SEEN[case] = {base for part in module.modules() for base in type(part).__mro__}


@pytest.mark.parametrize("case", CASES)
def test_a_module_that_is_recorded_before_it_ran_answers_as_itself(case: str) -> None:
    torch.manual_seed(0)
    module, inputs = CASES[case]()
    module.eval()
    seen(case, module)
    recordings = [recorded_by_export(module, inputs), recorded_by_trace(module, inputs)]
    with torch.no_grad():
        expected = torch.cat([part.flatten(1) for part in tree_leaves(module(*inputs))], dim=1)
        assert torch.isfinite(expected).all()
        assert expected.std(dim=0).max() > 1e-4
        for recorded in recordings:
            for rows in (slice(0, SAMPLES), slice(2, 3), slice(5, 6)):
                found = recorded(*tree_map(lambda t, rows=rows: t[rows], inputs))
                found = torch.cat([part.flatten(1) for part in tree_leaves(found)], dim=1)
                assert torch.allclose(found, expected[rows], atol=1e-5), rows


def test_every_module_of_the_library_is_recorded_by_a_case_or_said_not_to_be() -> None:
    if set(_CLASSES_SEEN) != set(CASES):
        pytest.skip("some cases did not run here")
    # By name: a test before this one may have imported a module anew.
    held = {(base.__module__, base.__qualname__) for classes in _CLASSES_SEEN.values() for base in classes}
    left_out = set()
    for name in MODULES:
        if ".cli" in name or name.endswith("__main__"):
            continue
        if name.startswith(("equirl.experiments", "equirl.integrations")):  # other engines record their modules
            continue
        if name == "equirl.agents.policies":  # of the classes below, with a symmetry built in, made when asked for
            continue
        for label, value in vars(importlib.import_module(name)).items():
            if inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__ == name:
                left_out |= set() if (name, value.__qualname__) in held else {label}
    assert left_out == set(NOT_RECORDED)


def test_what_remembers_is_refused_in_words(tmp_path: Any) -> None:
    settings = {"symmetry": SWAPPED, "method": "equitune", "lstm_hidden_size": 4}
    model = RecurrentPPO(EquivariantRecurrentPolicy, TwoArms(), policy_kwargs=settings, n_steps=8, device="cpu")
    with pytest.raises(TypeError, match=r"RecurrentPPO remembers its episode, .*load_agent and predict"):
        export_program(model, tmp_path / "policy.pt2")
    assert not list(tmp_path.iterdir())
