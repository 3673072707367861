from __future__ import annotations

from pathlib import Path

import pytest

from photinus.cluster.table import check_safe, check_table, member, roles
from photinus.config import Config, load
from photinus.errors import ConfigError

SECRET = "0123456789abcdef"
TABLE = """
[node]
name = "world-1"
[cluster.nodes.proxy-1]
link = "tcp://127.0.0.1:7800"
roles = ["proxy"]
[cluster.nodes.world-1]
link = "tcp://127.0.0.1:7801"
roles = ["world"]
[cluster.nodes.world-2]
link = "tcp://127.0.0.1:7802"
[cluster.places]
"Station/station-7" = "world-1"
"""


def config(tmp_path: Path, text: str, **environment: str) -> Config:
    file = tmp_path / "game.toml"
    file.write_text(text)
    return load(file, environment)


def test_a_table(tmp_path: Path) -> None:
    found = config(tmp_path, TABLE)
    check_safe(found)
    assert found.cluster.nodes["world-2"].roles == ("proxy", "world")
    assert found.cluster.places == {"Station/station-7": "world-1"}
    own = member(found)
    assert own is not None
    assert own.link == "tcp://127.0.0.1:7801"
    assert roles(found) == ("world",)


def test_without_a_table_a_node_is_alone_and_does_everything() -> None:
    assert member(Config()) is None
    assert roles(Config()) == ("proxy", "world")
    check_safe(Config())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (('name = "world-1"', ""), r"\[cluster.nodes\]: this node has no name.*one of proxy-1, world-1, world-2"),
        (('name = "world-1"', 'name = "world-9"'), "there is no node world-9"),
        (('name = "world-1"', 'name = "world-1"\nroles = ["proxy"]'), r"\[node\] roles: world-1 is told to be proxy"),
        (
            ("127.0.0.1:7802", "127.0.0.1:7801"),
            r"\[cluster.nodes.world-2\] link .*7801: that is where world-1 is reached",
        ),
        (("tcp://127.0.0.1:7802", "127.0.0.1:7802"), r"\[cluster.nodes.world-2\] link: expected tcp://HOST:PORT"),
        (("tcp://127.0.0.1:7802", "tcp://127.0.0.1"), "expected tcp://HOST:PORT"),
        (("tcp://127.0.0.1:7802", "tcp://127.0.0.1:0"), "expected tcp://HOST:PORT"),
        (("tcp://127.0.0.1:7802", "tcp://127.0.0.1:99999"), "expected tcp://HOST:PORT"),
        (("tcp://127.0.0.1:7802", "ws://127.0.0.1:7802"), "expected tcp://HOST:PORT"),
        (("tcp://127.0.0.1:7802", "tcp://127.0.0.1:7802?protocol=pomelo"), "expected tcp://HOST:PORT"),
        (("tcp://127.0.0.1:7802", "tls://127.0.0.1:7802"), r"needs certificate, key and client_ca in \[tls\]"),
        (('roles = ["world"]', "roles = []"), r"\[cluster.nodes.world-1\] roles: expected proxy, world or both"),
        (('= "world-1"\n"Sta', '= "world-1"\n"Sta'), None),
        (('"Station/station-7"', '"Station"'), r"\[cluster.places\] Station: expected the name of a class, a slash"),
        (
            ('station-7" = "world-1"', 'station-7" = "proxy-1"'),
            r"expected a world node \(world-1, world-2\), got proxy-1",
        ),
        (('station-7" = "world-1"', 'station-7" = "world-9"'), "got world-9"),
    ],
)
def test_a_table_that_contradicts_itself(tmp_path: Path, change: tuple[str, str], problem: str | None) -> None:
    found = config(tmp_path, TABLE.replace(*change))
    if problem is None:
        check_table(found)
        return
    with pytest.raises(ConfigError, match=problem):
        check_table(found)


@pytest.mark.parametrize(
    ("change", "more", "problem"),
    [
        (
            ("127.0.0.1:7802", "10.0.0.2:7802"),
            "",
            r"\[cluster\] secret: expected 16 bytes or more, got none: the link of world-2",
        ),
        (("127.0.0.1:7802", "game.example:7802"), "", "game.example:7802.* can be reached from other machines"),
        (("127.0.0.1:7802", "10.0.0.2:7802"), "[cluster]\nsecret = 'short'", "got a shorter one"),
        (
            ("127.0.0.1:7802", "10.0.0.2:7802"),
            f"[cluster]\nsecret = '{SECRET}'",
            "expected tls://, got tcp://.*plain_links = true",
        ),
        (("127.0.0.1:7802", "10.0.0.2:7802"), f"[cluster]\nsecret = '{SECRET}'\nplain_links = true", None),
        (("127.0.0.1:7802", "[::1]:7802"), "", None),
        (("127.0.0.1:7802", "localhost:7802"), "", None),
    ],
)
def test_what_is_unsafe_is_refused_and_named(
    tmp_path: Path, change: tuple[str, str], more: str, problem: str | None
) -> None:
    found = config(tmp_path, more + TABLE.replace(*change))
    check_table(found)
    if problem is None:
        check_safe(found)
        return
    with pytest.raises(ConfigError, match=problem):
        check_safe(found)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[node]\nroles = ['proxy']", "this node is a proxy, and there is no world node"),
        ("[node]\nroles = ['world']", "this node is no proxy, and there is no other"),
        (
            "[node]\nname = 'a'\n[cluster.nodes.a]\nlink = 'tcp://127.0.0.1:7800'\nroles = ['proxy']",
            "there is no world node",
        ),
    ],
)
def test_one_half_of_a_cluster_serves_nobody(tmp_path: Path, text: str, problem: str) -> None:
    found = config(tmp_path, text)
    check_table(found)
    with pytest.raises(ConfigError, match=problem):
        check_safe(found)


def test_the_secret_may_be_in_the_environment(tmp_path: Path) -> None:
    text = "[cluster]\nplain_links = true\n" + TABLE.replace("127.0.0.1:7802", "10.0.0.2:7802")
    check_safe(config(tmp_path, text, PHOTINUS_CLUSTER__SECRET=SECRET))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[cluster.nodes.a]\nlinks = 'tcp://x:1'", r"unknown key \[cluster.nodes.a\] links; did you mean link\?"),
        ("[cluster.nodes.a]\nroles = ['world']", r"\[cluster.nodes.a\] link: it has none"),
        (
            "[cluster.nodes.a]\nlink = 'tcp://x:1'\nroles = ['wolrd']",
            r"\[cluster.nodes.a\] roles: invalid enum value 'wolrd'",
        ),
        ("[cluster.nodes.'a b']\nlink = 'tcp://x:1'", r"\[cluster.nodes\] the name 'a b'"),
        ("[cluster]\nnodes = 3", r"\[cluster\] nodes: expected a table"),
        ("[cluster.nodes]\na = 3", r"\[cluster.nodes\] a: expected a section \[cluster.nodes.a\]"),
        ("[cluster.places]\n'A/b' = 3", r"\[cluster.places\] A/b: expected `str`, got `int`"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        config(tmp_path, text)


def test_a_table_is_for_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"PHOTINUS_CLUSTER__NODES.*only a file can hold"):
        config(tmp_path, TABLE, PHOTINUS_CLUSTER__NODES="world-1")
