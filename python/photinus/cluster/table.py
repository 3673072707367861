"""The cluster's table, as the configuration gives it: who this node is in it, and what is wrong or unsafe."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ..config import ROLES, Config, Member, Role
from ..errors import ConfigError

# 16 random bytes cannot be guessed; a shorter secret is refused whatever it is made of.
SECRET_BYTES = 16


def member(config: Config) -> Member | None:
    """This node's own entry in the cluster's table; None if there is no table.

    ConfigError if it is not in it, or is told other roles than there.
    """
    nodes = config.cluster.nodes
    if not nodes:
        return None
    name = config.node.name
    if name is None or name not in nodes:
        which = "this node has no name" if name is None else f"there is no node {name}"
        raise ConfigError(f"[cluster.nodes]: {which}: expected [node] name (or --node) to be one of {', '.join(nodes)}")
    own = nodes[name]
    if config.node.roles and set(config.node.roles) != set(own.roles):
        told, listed = ", ".join(config.node.roles), ", ".join(own.roles)
        raise ConfigError(f"[node] roles: {name} is told to be {told}, and [cluster.nodes.{name}] says {listed}")
    return own


def roles(config: Config) -> tuple[Role, ...]:
    """What this node does; ConfigError as `member`."""
    own = member(config)
    return own.roles if own is not None else config.node.roles or ROLES


def has_tls_links(config: Config) -> bool:
    """Whether nodes show each other certificates."""
    return any(node.link.startswith("tls:") for node in config.cluster.nodes.values())


def check_table(config: Config) -> None:
    """ConfigError if the cluster's table contradicts itself."""
    cluster = config.cluster
    places: dict[str, str] = {}
    for name, node in cluster.nodes.items():
        link = _link(f"[cluster.nodes.{name}] link", node.link)
        first = places.setdefault(link.netloc, name)
        if first != name:
            raise ConfigError(f"[cluster.nodes.{name}] link {node.link}: that is where {first} is reached")
        if not node.roles:
            raise ConfigError(f"[cluster.nodes.{name}] roles: expected proxy, world or both")
        if link.scheme == "tls" and not (config.tls.certificate and config.tls.key and config.tls.client_ca):
            raise ConfigError(
                f"[cluster.nodes.{name}] link {node.link}: a link of tls needs certificate, key and client_ca in [tls]"
            )
    for place, name in cluster.places.items():
        kind, slash, key = place.partition("/")
        if not (kind.isidentifier() and slash and key):
            raise ConfigError(f"[cluster.places] {place}: expected the name of a class, a slash and a key")
        if "world" not in (cluster.nodes[name].roles if name in cluster.nodes else ()):
            worlds = ", ".join(other for other, node in cluster.nodes.items() if "world" in node.roles) or "none"
            raise ConfigError(f"[cluster.places] {place}: expected a world node ({worlds}), got {name}")
    member(config)


def check_safe(config: Config) -> None:
    """What `photinus run` refuses to start with. ConfigError says which setting, and what is safe."""
    check_table(config)
    cluster = config.cluster
    does = roles(config)
    if "world" not in does and not any("world" in node.roles for node in cluster.nodes.values()):
        raise ConfigError("[cluster.nodes]: this node is a proxy, and there is no world node: expected one that is")
    if "proxy" not in does and not cluster.nodes:
        raise ConfigError("[cluster.nodes]: this node is no proxy, and there is no other: expected one that is")
    for name, node in cluster.nodes.items():
        link = _link(f"[cluster.nodes.{name}] link", node.link)
        if _is_loopback(link.hostname or ""):
            continue
        at = f"the link of {name} ({node.link}) can be reached from other machines"
        if len(cluster.secret.encode()) < SECRET_BYTES:
            which = "none" if not cluster.secret else "a shorter one"
            raise ConfigError(f"[cluster] secret: expected {SECRET_BYTES} bytes or more, got {which}: {at}")
        if link.scheme == "tcp" and not cluster.plain_links:
            raise ConfigError(
                f"[cluster.nodes.{name}] link: expected tls://, got tcp://: {at}; in a network that nobody else is in, "
                "[cluster] plain_links = true allows it"
            )


def _link(where: str, url: str) -> Any:
    try:
        link = urlsplit(url)
        port = link.port
    except ValueError:
        link, port = None, None
    options = parse_qs(link.query) if link is not None else {}
    if (
        link is None
        or link.scheme not in ("tcp", "tls")
        or not link.hostname
        or not port
        or link.path
        or options.get("protocol", ["link"]) != ["link"]
    ):
        raise ConfigError(f"{where}: expected tcp://HOST:PORT or tls://HOST:PORT, got {url}")
    return link


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
