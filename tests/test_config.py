from __future__ import annotations

import re
from pathlib import Path

import pytest

from photinus.config import Config, Limits, load
from photinus.engine import Engine
from photinus.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "game.toml"


def test_without_anything_the_defaults_hold() -> None:
    config = load(environment={})
    assert config == Config()
    assert not isinstance(config.engine.threads, int)
    assert config.limits.given() == {}


def test_a_file(file: Path) -> None:
    file.write_text(
        """
        [node]
        name = "north"
        listen = ["tcp://127.0.0.1:0?protocol=pomelo", "tcp://[::1]:0"]
        [engine]
        threads = 2
        [limits]
        max_payload = 1024
        """
    )
    config = load(file, {})
    assert config.node.name == "north"
    assert config.node.listen == ("tcp://127.0.0.1:0?protocol=pomelo", "tcp://[::1]:0")
    assert config.engine.threads == 2
    assert config.limits.given() == {"max_payload": 1024}


def test_the_environment_wins(file: Path) -> None:
    file.write_text("[engine]\nthreads = 2\n[node]\nname = 'north'\n")
    environment = {
        "PHOTINUS_ENGINE__THREADS": "3",
        "PHOTINUS_NODE__LISTEN": "tcp://127.0.0.1:1 tcp://127.0.0.1:2",
        "PHOTINUS_SOMETHING_ELSE": "of another program",
        "HOME": "/",
    }
    config = load(file, environment)
    assert config.engine.threads == 3
    assert config.node.name == "north"
    assert config.node.listen == ("tcp://127.0.0.1:1", "tcp://127.0.0.1:2")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[engine]\nthreds = 2", r"\[engine\] threds; did you mean threads\?"),
        ("[engin]\nthreads = 2", r"section \[engin\]; did you mean engine\?"),
        ("[engine]\nzzz = 2", r"\[engine\] zzz; expected one of threads"),
        ("[engine]\nthreads = '2'", r"\[engine\] threads: expected `int`, got `str`"),
        ("[engine]\nthreads = -1", r"\[engine\] threads: expected `int` >= 0"),
        ("[node]\nlisten = 'tcp://x'", r"\[node\] listen: expected `array`, got `str`"),
        ("[limits]\nmax_payload = -1", r"\[limits\] max_payload: expected `int` >= 1"),
        ("engine = 3", r"engine: expected a section \[engine\]"),
        ("[engine", "expected TOML"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(file: Path, text: str, problem: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match=problem) as raised:
        load(file, {})
    assert str(raised.value).startswith(str(file))


def test_what_is_wrong_in_the_environment_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^environment PHOTINUS_ENGINE__THREADS: \[engine\] threads: expected `int`"):
        load(environment={"PHOTINUS_ENGINE__THREADS": "many"})
    with pytest.raises(ConfigError, match=r"^environment PHOTINUS_ENGINE__THREDS: unknown key"):
        load(environment={"PHOTINUS_ENGINE__THREDS": "1"})


def test_a_file_that_is_not_there(file: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(file, {})


def test_each_limit_is_documented_and_the_engines() -> None:
    table = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)
    documented = table.findall((Path(__file__).parents[1] / "docs" / "limits.md").read_text())
    assert sorted(documented) == sorted(Limits.__struct_fields__)
    with pytest.raises(ValueError, match="there is no limit") as raised:
        Engine(memory=True, limits={"nonsense": 1})
    assert sorted(re.findall(r"\w+", str(raised.value).split("there are ")[1])) == sorted(documented)
