"""What `photinus` offers is what is written here: a change of it is a change of the interface."""

from __future__ import annotations

import photinus
import photinus.client
import photinus.testing


def test_the_package() -> None:
    assert photinus.__all__ == [
        "Address",
        "App",
        "Call",
        "CallFailed",
        "CallMismatch",
        "CallTimeout",
        "Closed",
        "Group",
        "Node",
        "Outcome",
        "PhotinusError",
        "Rate",
        "Refused",
        "RemoteError",
        "Routes",
        "Service",
        "Session",
        "SessionRef",
        "Space",
        "Unreachable",
        "__version__",
        "call",
        "on",
    ]


def test_the_client() -> None:
    assert photinus.client.__all__ == [
        "Change",
        "Client",
        "Cut",
        "Gap",
        "Redirected",
        "Renewed",
        "Resumed",
        "Subscription",
        "Waiting",
        "connect",
    ]


def test_the_test_kit() -> None:
    assert photinus.testing.__all__ == ["PhotinusClient", "PlainClient", "Player", "PomeloClient", "TestCluster"]


def test_all_that_is_promised_is_there() -> None:
    for module in (photinus, photinus.client, photinus.testing):
        for name in module.__all__:
            assert hasattr(module, name)


def test_no_builtin_is_shadowed() -> None:
    import builtins

    from photinus import errors

    ours = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert not ours & set(dir(builtins))
