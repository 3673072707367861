"""Machines that are network namespaces of this one, each joined to each by a wire of its own, and what can happen to a
wire.

A namespace lives as long as its holder, a process that ends when its standard input does: whatever becomes of the
tests, nothing of theirs stays behind. None has a name that another could have. Being root is enough, or being allowed
to be it in a user namespace; where neither is so the tests are skipped, and with CI=true they fail.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from tests.clients.programs import absent

# Nothing that is done to a namespace takes a second.
DEADLINE = 20.0
# Of the namespaces' own: no packet leaves them.
NETWORK = "10.77.0"
# Of what is used, what Debian does not have on every machine. It is not where everybody's PATH leads.
PROGRAMS = {"ip": "iproute2", "nft": "nftables"}
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"

HOLDER = ("sh", "-c", "echo there && exec cat")
# What nothing is told of; and what both ends are told of, whichever says something first.
DROP, REJECT = "drop", "meta l4proto tcp reject with tcp reset"
RULES = """
add table inet fault
flush table inet fault
table inet fault {{
    chain to {{ type filter hook output priority 0; oifname "{wire}" {what}; }}
    chain from {{ type filter hook input priority 0; iifname "{wire}" {what}; }}
}}
"""


class Machine:
    """A network namespace: its name, its address on all wires, and how commands get in."""

    def __init__(self, name: str, number: int, prefix: Sequence[str], holder: int) -> None:
        self.name = name
        self.address = f"{NETWORK}.{number}"
        self.holder = holder
        self._prefix = prefix

    def command(self, *command: str) -> list[str]:
        """This command in here. It keeps the process that it is run in, which is killed when the test's is gone."""
        return [*self._prefix, "setpriv", "--pdeathsig", "KILL", "--", *command]

    def ip(self, batch: str) -> None:
        """Commands of ip, one a line."""
        self._do("ip", "-batch", "-", given=batch)

    def drop(self, to: Machine) -> None:
        """Whatever is sent on the wire to that machine, either way, is lost."""
        self._fault(to, DROP)

    def reject(self, to: Machine) -> None:
        """Whatever is sent on that wire is answered with a reset, and so is each connection that is tried."""
        self._fault(to, REJECT)

    def heal(self) -> None:
        """All wires of this machine are whole."""
        self._do("nft", "-f", "-", given="add table inet fault\ndelete table inet fault\n")

    def _fault(self, to: Machine, what: str) -> None:
        self._do("nft", "-f", "-", given=RULES.format(wire=wire(to), what=what))

    def _do(self, program: str, *arguments: str, given: str) -> None:
        command = self.command(shutil.which(program, path=PATH) or program, *arguments)
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=DEADLINE, check=False)
        assert not done.returncode, f"{program}: {done.stderr}\n{given}"


@contextmanager
def machines(*names: str) -> Iterator[dict[str, Machine]]:
    """Machines of these names, each with a wire to each."""
    for program, package in PROGRAMS.items():
        if shutil.which(program, path=PATH) is None:
            absent(f"{program} is not installed: apt-get install {package}")
    with ExitStack() as stack:
        there = _held(stack, names)
        for machine in there.values():
            machine.ip("link set lo up\n")
        for one, other in itertools.combinations(there.values(), 2):
            one.ip(f"link add {wire(other)} type veth peer name {wire(one)} netns {other.holder}\n")
            for near, far in ((one, other), (other, one)):
                near.ip(
                    f"address add {near.address}/32 peer {far.address}/32 dev {wire(far)}\nlink set {wire(far)} up\n"
                )
        _check_kernel(there[names[0]])
        yield there


def wire(to: Machine) -> str:
    """The name of the near end of a wire; the kernel allows 15 bytes."""
    return f"to-{to.name}"


def _check_kernel(machine: Machine) -> None:
    """It may have been built without what nft asks it for."""
    try:
        machine.reject(machine)
        machine.heal()
    except AssertionError as error:
        absent(f"this kernel's nftables are of no use here: {error}")


def _held(stack: ExitStack, names: Sequence[str]) -> dict[str, Machine]:
    there: dict[str, Machine] = {}
    user: list[str] = []
    make = ["unshare", "--net"]
    if os.geteuid() != 0 or not _works(make):
        # As root of a user namespace, which the first makes and the others join.
        make = ["unshare", "--user", "--map-root-user", "--net"]
        user = ["--user", "--preserve-credentials"]
        if not _works(make):
            absent("no network namespaces: neither root nor `unshare --user --map-root-user --net` may make them")
    for number, name in enumerate(names, 1):
        holder = stack.enter_context(_holder([*make, *HOLDER]))
        there[name] = Machine(name, number, ("nsenter", "--target", str(holder), *user, "--net", "--"), holder)
        if user:
            make = ["nsenter", "--target", str(holder), *user, "--", "unshare", "--net"]
    return there


def _works(make: list[str]) -> bool:
    return subprocess.run([*make, "true"], capture_output=True, timeout=DEADLINE, check=False).returncode == 0


@contextmanager
def _holder(command: list[str]) -> Iterator[int]:
    """The process of this command, as soon as it has got where it holds."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"there\n"
        yield process.pid
        process.stdin.close()
        process.wait(DEADLINE)
