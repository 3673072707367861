"""Configuration: a TOML file and the environment, decoded into structs; unknown keys are errors.

`PHOTINUS_SECTION__KEY` in the environment wins over the file. Lists are separated by blanks there.
"""

from __future__ import annotations

import difflib
import os
import sys
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from .errors import ConfigError

ENVIRONMENT_PREFIX = "PHOTINUS_"

# The engine itself knows each limit's range; here are those of the units.
Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
AnyCount = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Bytes = Annotated[int, Meta(ge=1, le=2**40)]
AnyBytes = Annotated[int, Meta(ge=0, le=2**40)]
Milliseconds = Annotated[int, Meta(ge=1, le=24 * 3600 * 1000)]
AnyMilliseconds = Annotated[int, Meta(ge=0, le=24 * 3600 * 1000)]
# A name stands in log lines, in addresses (`Bank@world-1`) and in the links' hello, behind one byte of length.
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Role = Literal["proxy", "world"]
ROLES: tuple[Role, ...] = ("proxy", "world")
# More reactors than a large machine has cores is a mistake in the unit.
Threads = Annotated[int, Meta(ge=0, le=256)]
# Leading from the loop's thread is tested where servers run.
DEFAULT_THREADS = 0 if sys.platform == "linux" else 1
# As many reactors as an engine has.
MOST_THREADS = 16


def load(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Config:
    """The configuration in this file (or none) under this environment (or the process's).

    ConfigError names the file or the variable, the key, and what was expected.
    """
    settings = {} if path is None else _file_settings(path)
    settings |= _environment_settings(os.environ if environment is None else environment)
    kinds = _types(Config)
    sections: dict[str, dict[str, object]] = {name: {} for name in kinds}
    for (section, key), (source, value, is_text) in settings.items():
        kind = kinds.get(section)
        if kind is None:
            raise ConfigError(f"{source}: unknown section [{section}]{_did_you_mean(section, kinds)}")
        keys = _types(kind)
        if key not in keys:
            raise ConfigError(f"{source}: unknown key [{section}] {key}{_did_you_mean(key, keys)}")
        sections[section][key] = _convert(source, f"[{section}] {key}", keys[key], value, is_text)
    return Config(**{name: kinds[name](**values) for name, values in sections.items()})


class NodeSection(Struct, frozen=True, forbid_unknown_fields=True):
    """[node]: who this node is and where clients reach it."""

    name: str | None = None
    """The node's name in logs and statistics, and in the cluster's table; the application's if none is given."""
    roles: tuple[Role, ...] = ()
    """What it does: `proxy` holds clients, `world` runs the game. Those of its entry in the cluster's table if
    none are given, and both if it has none."""
    listen: tuple[str, ...] = ()
    """URLs of the listeners, such as `tcp://0.0.0.0:7000` or `wss://0.0.0.0:7443?protocol=pomelo`."""


class EngineSection(Struct, frozen=True, forbid_unknown_fields=True):
    """[engine]: the native engine."""

    threads: Threads | UnsetType = UNSET
    """Native threads that lead reactors; left out, 0, and on a node that is only a proxy one for each core but
    one. With 0 the event loop's own thread leads while it has nothing
    else to do, and a native thread stands by for when it has: the shortest way from a packet to its
    handler and back. On a loop that Photinus did not make that native thread always leads."""


class TlsSection(Struct, frozen=True, forbid_unknown_fields=True):
    """[tls]: what listeners of `tls` and `wss` show, in PEM files. They are read again when they change:
    new connections get the new certificate, and nobody is dropped."""

    certificate: Path | None = None
    """The server's certificate, and behind it those between it and its authority."""
    key: Path | None = None
    """Its private key."""
    client_ca: Path | None = None
    """Authorities whose certificates are taken from clients, and from other nodes where links are `tls`."""
    client: Literal["none", "optional", "required"] = "none"
    """Whether clients show a certificate: they are not asked, may, or must."""


class Member(Struct, frozen=True, forbid_unknown_fields=True):
    """[cluster.nodes.NAME]: a node of the cluster, as all others know it."""

    link: str
    """Where other nodes reach it: `tcp://HOST:PORT`, or `tls://HOST:PORT` with [tls] of both sides."""
    roles: tuple[Role, ...] = ROLES


class ClusterSection(Struct, frozen=True, forbid_unknown_fields=True):
    """[cluster]: which nodes there are. The same on all of them."""

    name: Name = "photinus"
    """Nodes of clusters with different names refuse each other."""
    secret: str = ""
    """What nodes prove to each other that they know. Needed where a link leaves this machine."""
    plain_links: bool = False
    """Links of `tcp` may leave this machine: what they carry can be read and changed on the way."""
    nodes: dict[Name, Member] = {}
    places: dict[str, Name] = {}
    """Spaces and services that have a place of their own: `"Station/station-7" = "world-1"`. All others
    are spread over the world nodes by their names."""


class NativeSection(Struct, frozen=True, forbid_unknown_fields=True):
    """[native]: applications that get their packets without Python."""

    apps: tuple[str, ...] = ()
    """Their names. `echo` answers every packet without a route, and the route `native.echo`, with its own bytes:
    how far it is to a node and back. What comes under `native.tell` it tells the application (`Routes.told`)."""


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """[limits]: what bounds the engine's memory and patience. Left out: the defaults,
    which docs/limits.md gives with the reasons."""

    max_payload: Bytes | UnsetType = UNSET
    """Bytes of the longest payload that a client may send."""
    inbound_session_bytes: Bytes | UnsetType = UNSET
    """Bytes that wait for handlers, of one session; above it that socket is not read."""
    inbound_total_bytes: Bytes | UnsetType = UNSET
    """Bytes that wait for handlers, of all sessions; above it no socket is read."""
    outbound_session_bytes: Bytes | UnsetType = UNSET
    """Bytes that wait for one slow reader; above it the session ends."""
    outbound_total_bytes: Bytes | UnsetType = UNSET
    """Bytes that wait for all readers."""
    outbox_bytes: Bytes | UnsetType = UNSET
    """Bytes that were sent and that a reactor has not yet looked at; above it the sender waits."""
    sessions: Count | UnsetType = UNSET
    """Sessions at one time; more are turned away."""
    connections: AnyCount | UnsetType = UNSET
    """Connections at one time, with those that are no sessions yet or any more; more are reset. 0: as many as
    the process may have open files, less some for itself."""
    connections_per_address: AnyCount | UnsetType = UNSET
    """Connections at one time from one address, of IPv6 from one /64; more are reset. 0: any number."""
    accepts_per_address: AnyCount | UnsetType = UNSET
    """New connections a second from one address, four seconds' worth at once; more are reset. 0: any number."""
    limit_loopback: bool | UnsetType = UNSET
    """Whether these two also hold for this machine's own addresses (127.0.0.0/8 and ::1)."""
    handshakes: Count | UnsetType = UNSET
    """Connections at one time whose handshake is not done; more are reset."""
    session_packets_per_s: AnyCount | UnsetType = UNSET
    """Frames a second from one session, ten seconds' worth at once; above it the session ends. 0: any number."""
    session_bytes_per_s: AnyBytes | UnsetType = UNSET
    """The same in bytes. 0: any number."""
    overload_drop_ms: AnyMilliseconds | UnsetType = UNSET
    """Milliseconds that packets may wait for handlers before clients' droppable messages are dropped. 0: any time."""
    overload_wait_ms: AnyMilliseconds | UnsetType = UNSET
    """The same before new sessions have to wait. 0: any time."""
    login_queue: AnyCount | UnsetType = UNSET
    """Clients that may stand in line for a session; more are refused. 0: nobody waits."""
    resume_session_bytes: Bytes | UnsetType = UNSET
    """Bytes kept of what was sent to one session, until its client has them, for a resume; above it the oldest are
    dropped."""
    resume_total_bytes: Bytes | UnsetType = UNSET
    """The same of all sessions; above it all that is kept of one is dropped."""
    handshake_ms: Milliseconds | UnsetType = UNSET
    """Milliseconds in which a handshake must be done."""
    frame_ms: Milliseconds | UnsetType = UNSET
    """Milliseconds in which a frame, once begun, must be whole."""
    link_kept_bytes: Bytes | UnsetType = UNSET
    """Bytes that a link to another node keeps, until that node is known to have them; above it the node is lost."""
    link_frame_bytes: Bytes | UnsetType = UNSET
    """Bytes of the longest frame between nodes."""
    link_silence_ms: Milliseconds | UnsetType = UNSET
    """Milliseconds of silence after which a node is lost."""
    link_ping_ms: Milliseconds | UnsetType = UNSET
    """Milliseconds between two pings of a link."""
    linger_ms: Milliseconds | UnsetType = UNSET
    """Milliseconds that a client has to read what was sent to it last."""

    def given(self) -> dict[str, int]:
        """The limits that were set."""
        values = cast(dict[str, int | UnsetType], msgspec.structs.asdict(self))
        return {name: value for name, value in values.items() if isinstance(value, int)}


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """A node's whole configuration."""

    node: NodeSection = NodeSection()
    engine: EngineSection = EngineSection()
    cluster: ClusterSection = ClusterSection()
    tls: TlsSection = TlsSection()
    limits: Limits = Limits()
    native: NativeSection = NativeSection()


# (section, key) -> (where it was found, the value, whether it is text to be read as the type)
_Settings = dict[tuple[str, str], tuple[str, object, bool]]


def _file_settings(path: Path) -> _Settings:
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected TOML: {error}") from error
    settings: _Settings = {}
    for section, values in document.items():
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: {section}: expected a section [{section}], got a value")
        for key, value in cast(dict[str, object], values).items():
            settings[section, key] = (str(path), value, False)
    return settings


def _environment_settings(environment: Mapping[str, str]) -> _Settings:
    settings: _Settings = {}
    for variable, text in environment.items():
        section, separator, key = variable.removeprefix(ENVIRONMENT_PREFIX).partition("__")
        # Without the double underscore it is somebody else's variable that begins like ours.
        if variable.startswith(ENVIRONMENT_PREFIX) and separator:
            source = f"environment {variable}"
            settings[section.lower(), key.lower()] = (source, text, True)
    return settings


def _types(struct: type[Struct]) -> dict[str, Any]:
    return typing.get_type_hints(struct, include_extras=True)


def _convert(source: str, key: str, kind: object, value: object, is_text: bool) -> object:
    if typing.get_origin(kind) is dict:
        return _convert_table(source, key, kind, value, is_text)
    if is_text and typing.get_origin(kind) is tuple:
        value = str(value).split()
    try:
        return msgspec.convert(value, kind, strict=not is_text, dec_hook=_path)
    except msgspec.ValidationError as error:
        problem = str(error)
        raise ConfigError(f"{source}: {key}: {problem[0].lower()}{problem[1:]}") from None


def _convert_table(source: str, key: str, kind: object, value: object, is_text: bool) -> object:
    """One by one, so that what is wrong is named with its own name."""
    name_kind, entry_kind = typing.get_args(kind)
    if is_text or not isinstance(value, dict):
        raise ConfigError(f"{source}: {key}: expected a table, which only a file can hold")
    section, name = key[1:].split("] ")
    section = f"{section}.{name}"
    table: dict[object, object] = {}
    for entry, content in cast(dict[str, object], value).items():
        _convert(source, f"[{section}] the name {entry!r}", name_kind, entry, is_text=False)
        if entry_kind is not Member:
            table[entry] = _convert(source, f"[{section}] {entry}", entry_kind, content, is_text=False)
            continue
        where, keys = f"[{section}.{entry}]", _types(Member)
        if not isinstance(content, dict):
            raise ConfigError(f"{source}: [{section}] {entry}: expected a section {where}, got a value")
        given = cast(dict[str, object], content)
        for word in given:
            if word not in keys:
                raise ConfigError(f"{source}: unknown key {where} {word}{_did_you_mean(word, keys)}")
        values = {
            word: _convert(source, f"{where} {word}", keys[word], one, is_text=False) for word, one in given.items()
        }
        for field in msgspec.structs.fields(Member):
            if field.required and field.name not in values:
                raise ConfigError(f"{source}: {where} {field.name}: it has none")
        table[entry] = Member(**cast(dict[str, Any], values))
    return table


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(f"a value of type {kind}")


def _did_you_mean(word: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; expected one of {', '.join(known)}"
