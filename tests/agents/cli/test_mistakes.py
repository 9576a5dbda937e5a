"""A mistake on the command line is one line that names it, and exit status 2, before anything is made."""

import pickle
import re
import shlex
import sys
from pathlib import Path

import pytest
from command_line import here, in_process
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from equirl.agents.cli.arguments import CommandParser, StoreSettings

_FILES = {
    "broken.yml": "CartPole-v1:\n  n_timesteps: [1\n  policy: 'MlpPolicy'\n",
    "empty.yml": "",
    "list.yml": "- a\n- b\n",
    "other.yml": "Foo-v0:\n  policy: MlpPolicy\n",
    "text.yml": "CartPole-v1: hello\n",
    "nopolicy.yml": "CartPole-v1:\n  n_timesteps: 100\n",
    "nosteps.yml": "CartPole-v1:\n  policy: MlpPolicy\n",
    "nomodule.yml": "CartPole-v1:\n  n_timesteps: 100\n  policy: no.such.Policy\n",
    "nocallback.yml": "CartPole-v1:\n  n_timesteps: 100\n  policy: MlpPolicy\n  callback: no.Such\n",
    "kwargs.yml": "CartPole-v1:\n  n_timesteps: 100\n  policy: MlpPolicy\n  policy_kwargs: 'dict(net_arch=[64)'\n",
    "unclosed.py": "hyperparams = {\n",
    "failing.py": "1 / 0\n",
    "text.pkl": "hello",
    "junk.zip": "no archive",
    "file": "x",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of agents, of files that are none, and of files of the wrong kind."""
    folder = tmp_path_factory.mktemp("mistakes")
    for name, text in _FILES.items():
        (folder / name).write_text(text)
    (folder / "folder").mkdir()
    (folder / "utf16.yml").write_bytes("CartPole-v1:\n  policy: MlpPolicy\n".encode("utf-16"))
    (folder / "latin.yml").write_bytes("# Größe\nCartPole-v1:\n  policy: MlpPolicy\n".encode("latin-1"))
    (folder / "junk.pkl").write_bytes(b"\x80\x04junk")
    (folder / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    DQN("MlpPolicy", "CartPole-v1", device="cpu", buffer_size=100).save(folder / "dqn.zip")
    PPO("MlpPolicy", "CartPole-v1", device="cpu").save(folder / "ppo.zip")
    SAC("MlpPolicy", "Pendulum-v1", device="cpu", buffer_size=10).save(folder / "sac.zip")
    (folder / "cut.zip").write_bytes((folder / "dqn.zip").read_bytes()[:500])
    VecNormalize(make_vec_env("Acrobot-v1")).save(str(folder / "acrobot.pkl"))
    model = DQN("MlpPolicy", "Acrobot-v1", device="cpu", buffer_size=50, learning_starts=10).learn(20)
    model.save_replay_buffer(folder / "buffer.pkl")
    return folder


_SHORT = "-n 40 --summary-episodes 0 --eval-freq -1 --verbose 0"
_ABOUT = {
    "T": f"train --env CartPole-v1 {_SHORT}",
    "G": f"train {_SHORT}",
    "C": "train --env CartPole-v1 --summary-episodes 0 -conf",
    "A": "audit dqn.zip --env CartPole-v1 --symmetry cartpole-z2",
    "S": "symmetrize dqn.zip --env CartPole-v1 --symmetry cartpole-z2 -o out.zip",
}

_MISTAKES = r"""
trian                                     | equirl: command 'trian' is unknown; known: .* Did you mean 'train'\?
train --methd plain                       | option --methd is unknown. Did you mean --method\?
train stray                               | 'stray' belongs to no option
T --algo pppo                             | argument --algo: invalid choice: 'pppo'
T -n 0                                    | -n/--n-timesteps: '0' is not a whole number from 1
T -n -5                                   | '-5' is not
T -n 1.5                                  | '1.5' is not
T --num-threads 0                         | --num-threads: '0' is not
T --seed -7                               | --seed: '-7' is not
T --eval-freq 0                           | --eval-freq: '0' is not .* or -1
T --eval-episodes 0                       | --eval-episodes: '0' is not
T --n-eval-envs 0                         | --n-eval-envs: '0' is not
T --save-freq 0                           | --save-freq: '0' is not
T --log-interval 0                        | --log-interval: '0' is not
T --summary-episodes -2                   | --summary-episodes: '-2' is not
T --n-trials 0                            | --n-trials: '0' is not
T --n-jobs 0                              | --n-jobs: '0' is not
T --device nonsense                       | device 'nonsense' cannot be used here
T --device cuda:99                        | device 'cuda:99' cannot be used here
T --device meta                           | device 'meta' cannot be used here
T --method equitone                       | method 'equitone' is unknown; .* Did you mean 'equitune'\?
T --method plain --symmetry cartpole-z2   | --method plain .* --symmetry cartpole-z2 says the contrary
T --symmetry grid-d4                      | acts on images \[C, H, W\]
T --symmetry cartpole                     | symmetry 'cartpole' is unknown; .* Did you mean 'cartpole-z2'\?
T --algo sac --symmetry cartpole-z2       | --algo sac acts in Box spaces; got Discrete\(2\)
T --algo ars --symmetry cartpole-z2       | are for --algo dqn, qrdqn, ppo, a2c, trpo, sac
G --env MountainCar-v0 --method equitune  | pass --symmetry NAME
G --env equirl/GridWrld-v0                | 'equirl/GridWrld-v0' is not .* mean 'equirl/GridWorld-v0'\?
G --env LunarLander-v2                    | 'LunarLander-v2' is not registered
G --env Pendulum-v1 --algo dqn            | supports .*Discrete.* but Box
T -params frame_stack:4                   | `frame_stack` makes the observation
T -params gamma                           | 'gamma' is not KEY:VALUE
T -params gama:0.9                        | hyperparameter of dqn 'gama' is unknown; .* Did you mean 'gamma'\?
T -params gamma:2                         | gamma is a number from 0 to 1; got 2
T -params learning_rate:fast              | learning_rate is a number above 0.* got 'fast'
T -params batch_size:0                    | batch_size is a whole number from 1; got 0
T -params n_envs:0                        | n_envs is a whole number from 1; got 0
T -params train_freq:0                    | train_freq is a whole number from 1.* got 0
T -params gradient_steps:x                | gradient_steps is a whole number from 1.* got 'x'
T -params seed:3                          | seed is an option of the command
T -params policy:NoPolicy                 | Policy NoPolicy unknown \(given: -params policy:NoPolicy\)
T -params policy_kwargs:dict(net=[8])     | unexpected keyword argument 'net' \(given: -params policy_kwargs
T -params "policy_kwargs:dict(net=[8)"    | the value of policy_kwargs:dict\(net=\[8\) is no Python expression
T -params env_wrapper:no.Such             | No module named 'no' \(given: -params env_wrapper:no.Such\)
T -params replay_buffer_class:NoBuffer    | name 'NoBuffer' is not defined \(given: .*NoBuffer\)
T --env-kwargs reward:1                   | CartPole-v1 with reward:1 cannot be made: .*'reward'
T --env-kwargs "render_mode:(1"           | render_mode:\(1 is no Python expression
G --env-kwargs slip:2.0                   | with slip:2.0 cannot be made: .*slip .* 2.0
G --env-kwargs size:big                   | with size:big cannot be made
G --env-kwargs goal:north                 | with goal:north cannot be made: .*region 'north' is unknown
T --gym-packages no_such_module           | --gym-packages no_such_module: no module of the name no_such_module
T -conf nothere.yml                       | -conf nothere.yml cannot be read: No such file
T -conf nothere                           | -conf nothere: no file, and no module
T -conf folder                            | -conf folder is a folder
T -conf file                              | -conf file: the name of a file of hyperparameters ends in .yml
T -conf broken.yml                        | -conf broken.yml, line 3, column 9: this is no YAML
T -conf utf16.yml                         | -conf utf16.yml is not text in UTF-8
T -conf latin.yml                         | -conf latin.yml is not text in UTF-8
T -conf empty.yml                         | -conf empty.yml holds nothing
T -conf list.yml                          | -conf list.yml holds \['a', 'b'\]
T -conf other.yml                         | other.yml has no hyperparameters for CartPole-v1, only for Foo-v0
T -conf text.yml                          | text.yml holds 'hello' for CartPole-v1
T -conf nopolicy.yml                      | no policy: add `policy: MlpPolicy` in nopolicy.yml
C nosteps.yml                             | no n_timesteps: add `n_timesteps: 50000` in nosteps.yml
T -conf nomodule.yml                      | policy 'no.such.Policy' cannot be imported.*nomodule.yml
T -conf nocallback.yml                    | No module named 'no' \(given: -conf nocallback.yml\)
T -conf kwargs.yml                        | policy_kwargs 'dict\(net_arch=\[64\)' does not evaluate.*kwargs.yml
T -conf unclosed.py                       | -conf unclosed.py fails when it is run \(SyntaxError
T -conf failing.py                        | -conf failing.py fails when it is run \(ZeroDivisionError
T -i nothere.zip                          | -i nothere.zip: there is no such file
T -i folder                               | -i folder is a folder
T -i text.pkl                             | -i text.pkl: the name of an agent's file ends in .zip
T -i junk.zip                             | junk.zip is not a zip file
T -i cut.zip                              | cut.zip is not a zip file
T -i ppo.zip                              | ppo.zip was saved by PPO, not by DQN
T -i dqn.zip --method equizero            | dqn.zip keeps the policy it was trained with
T -i dqn.zip -optimize                    | leave out -optimize, or -i dqn.zip
G --env Acrobot-v1 -i dqn.zip             | dqn.zip cannot be trained further by dqn in Acrobot-v1
T --algo sac -i dqn.zip                   | dqn.zip was saved by DQN, not by SAC
T -f file                                 | file is a file; give another name
T -f file/logs                            | file/logs cannot be written: file is not a folder
T -tb file                                | file is a file; give another name
T --trial-id 3                            | --trial-id 3 is read from a study
T --trial-id 1 --storage sqlite:///no.db --study-name s  | there is no file no.db
T -optimize --storage nonsense            | --storage nonsense is no database
T -optimize --storage foo://x             | --storage foo://x is no database
T -optimize --storage sqlite:///no/x.db   | --storage sqlite:///no/x.db: there is no folder no
T -optimize --sampler auto                | --sampler auto needs the package optunahub
T --track                                 | --track needs the package wandb
enjoy                                     | there are no runs .*in logs/dqn.* train one with `equirl train`
enjoy --no-rendr                          | option --no-rendr is unknown. Did you mean --no-render\?
enjoy -n 0                                | '0' is not
enjoy --device nonsense                   | device 'nonsense' cannot be used here
enjoy --run folder                        | --run folder is not the folder of one run
record -f nothere                         | there are no runs in nothere/dqn
plot -f nothere                           | there are no runs in nothere/dqn
plot -w 0                                 | '0' is not
plot -o folder                            | folder is a folder
envs stray                                | no environment has 'stray' in its name
envs cartpole stray                       | 'stray' belongs to no option
A --episodes 0                            | --episodes: '0' is not
A --states 0                              | --states: '0' is not
A --n-envs 0                              | --n-envs: '0' is not
A --seed -1                               | --seed: '-1' is not
A --device nonsense                       | device 'nonsense' cannot be used here
A --num-threads 0                         | --num-threads: '0' is not
A --proxy-loss nope                       | proxy loss 'nope' is unknown
A --csv folder                            | folder is a folder
A --png file/a.png                        | file/a.png cannot be written
A --algo ppo                              | dqn.zip was saved by DQN, not by PPO
A --env Acrobot-v1                        | dqn.zip: Observation spaces do not match
A --env NoWorld-v0                        | 'NoWorld-v0' is not registered
A --env-kwargs reward:1                   | CartPole-v1.*'reward'
A --view-kwargs mission:True              | settings of a view are for MiniGrid
A --symmetry acrobot-z2                   | symmetry 'acrobot-z2' acts on observations \[6\]
A --symmetry cartpole                     | symmetry 'cartpole' is unknown
A --vecnormalize nothere.pkl              | there is no file 'nothere.pkl'
A --vecnormalize folder                   | 'folder' is a folder
A --vecnormalize junk.pkl                 | junk.pkl holds no statistics of VecNormalize
A --vecnormalize list.pkl                 | list.pkl holds a list, not the statistics
A --vecnormalize dqn.zip                  | dqn.zip holds no statistics of VecNormalize
A --vecnormalize acrobot.pkl              | acrobot.pkl holds statistics of observations of shape \(6,\)
A --replay-buffer junk.pkl                | junk.pkl holds no replay buffer
A --replay-buffer text.pkl                | text.pkl holds no replay buffer
A --replay-buffer list.pkl                | list.pkl holds no replay buffer
A --replay-buffer acrobot.pkl             | acrobot.pkl holds no replay buffer
A --replay-buffer buffer.pkl              | buffer.pkl holds observations of shape \(6,\)
audit nothere.zip --env CartPole-v1 --symmetry cartpole-z2  | there is no file 'nothere.zip'
audit cut.zip --env CartPole-v1 --symmetry cartpole-z2      | cut.zip is not a zip file
audit sac.zip --env CartPole-v1 --symmetry cartpole-z2      | sac.zip: Observation spaces do not match
audit dqn.zip --env CartPole-v1           | required: --symmetry
S --algo ppo                              | dqn.zip was saved by DQN, not by PPO
S --device nonsense                       | device 'nonsense' cannot be used here
S --method-kwargs foo:1                   | 'equitune' takes no method_kwargs; got 'foo'
S --method lambda_equitune --method-kwargs reads:x  | reads 'x' is unknown
S --objective nope                        | objective 'nope' is unknown
S --states 0                              | --states: '0' is not
S -o folder                               | folder is a folder
symmetrize ppo.zip --env CartPole-v1 --symmetry cartpole-z2 -o o.zip --replay-buffer buffer.pkl  | PPO has no replay
study lr                                  | study 'lr' is unknown; known: control, minigrid, own, rl, tune, zero-shot
study minigrid --tasks empty-rom          | --tasks 'empty-rom' is unknown; .*'empty-room'
study zero-shot --variants equitun        | --variants 'equitun' is unknown
study control --environments CartPole-v2      | --environments 'CartPole-v2' is unknown
study rl --agents grid-d4/equitone        | method 'equitone' is unknown
study rl --report-only --out nowhere      | nowhere
"""


def _arguments(line: str) -> list[str]:
    first, _, rest = line.partition(" ")
    return shlex.split(f"{_ABOUT.get(first, first)} {rest}")


@pytest.mark.parametrize("line", _MISTAKES.strip().splitlines(), ids=lambda line: line.partition("|")[0].strip())
def test_a_mistake_is_one_line_and_status_2(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    command, _, message = line.partition("| ")
    outcome = here(*_arguments(command.strip()))
    assert outcome.status == 2
    (told,) = outcome.err
    assert re.search(message, told), told
    assert "EQUIRL_TRACEBACK" not in told
    assert not list(folder.glob("logs/*/*"))  # nothing was trained, and no empty run is left


def test_a_package_that_is_missing_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setitem(sys.modules, "Box2D", None)
    for module in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, module)  # another test may have imported it
    outcome = here(*_arguments("G --algo ppo --env LunarLander-v3"))
    assert outcome.status == 2
    assert "environment LunarLander-v3 cannot be made" in outcome.err[-1]


def test_a_mistake_shows_no_traceback_in_a_process_either(tmp_path: Path) -> None:
    output = in_process("train", "--method", "equitone", cwd=tmp_path, status=2, fresh=True)
    assert output.count("\n") == 1
    assert "Traceback" not in output


def test_a_run_that_does_not_exist_or_has_no_agent_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs/ppo/CartPole-v1_3").mkdir(parents=True)
    cartpole = ["--algo", "ppo", "--env", "CartPole-v1", "--no-render"]
    for options, told in (
        ([], "there are runs of ppo: --algo ppo"),
        ([*cartpole, "--exp-id", "9"], "there is no run 9 of CartPole-v1 in logs/ppo: --exp-id is one of 3"),
        (cartpole, "there is no agent in logs/ppo/CartPole-v1_3"),
        ([*cartpole[:2], "--env", "Acrobot-v1"], "no runs of Acrobot-v1 in logs/ppo; there are runs of: CartPole-v1"),
    ):
        outcome = here("enjoy", *options)
        assert outcome.status == 2
        assert told.lower() in outcome.err[-1].lower()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("goal:north-west", "north-west"),
        ("goal:'north west'", "north west"),
        ("color:all", "all"),
        ("mode:time", "time"),
        ("path:a/b.txt", "a/b.txt"),
        ("when:2024-01-01", "2024-01-01"),
        ("url:http://host:80/x", "http://host:80/x"),
        ("size:9", 9),
        ("flag:True", True),
        ("nothing:None", None),
        ("rate:1e-3", 1e-3),
        ("net:[64, 64]", [64, 64]),
        ("kwargs:dict(a=1)", {"a": 1}),
    ],
)
def test_a_word_is_a_string_and_an_expression_is_evaluated(text: str, value: object) -> None:
    parser = CommandParser()
    parser.add_argument("--settings", nargs="+", action=StoreSettings)
    parsed = parser.parse_args(["--settings", text])
    assert parsed.settings == {text.partition(":")[0]: value}
