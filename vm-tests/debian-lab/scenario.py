"""Runs one scenario, in the lab's namespaces: its nodes, then its script."""

import signal
import subprocess
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

import provision
from container import Container
from journal import Journal
from machine import Machine, retry
from network import PREFIX, Network

# Of a whole scenario. Each takes a minute or so.
LIMIT_S = 300
UNITS = "conveyor-* rabbitmq-server nginx"


def _too_long(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"the scenario takes longer than {LIMIT_S} s")


def make_nodes(scenario: Path, rootfs: Path, programs: provision.Programs, scratch: Path) -> list[Container]:
    """The scenario's nodes, not yet started."""
    machines = provision.evaluate(scenario)
    network = Network()
    hosts = {name: f"{PREFIX}.{number}" for number, name in enumerate(sorted(machines), start=1)}
    tools = provision.tools_layer(scratch / "tools", programs)
    package = provision.package_layer(rootfs, programs.package, scratch / "package")
    nodes: list[Container] = []
    for number, name in enumerate(sorted(machines), start=1):
        own = provision.node_layer(scratch / name / "layer", machines[name], hosts)
        layers = [own, *([package] if provision.has_package(machines[name]) else []), tools, rootfs]
        nodes.append(Container(name, number, network, layers, scratch / name))
    return nodes


def run_script(script: Path, machines: list[Machine], journal: Journal, package: Path) -> None:
    """The test script, with the names that the NixOS test driver gives it, and what is Debian's."""

    def start_all() -> None:
        for machine in machines:
            machine.start()

    symbols: dict[str, Any] = {machine.name.replace("-", "_"): machine for machine in machines}
    symbols |= {
        "start_all": start_all,
        "subtest": journal.subtest,
        "retry": retry,
        "machines": machines,
        "log": journal,
        "package": package,
        "sources": provision.REPOSITORY,
    }
    for part in (provision.REPOSITORY / "vm-tests/common.py", script):
        exec(compile(part.read_text(), str(part), "exec"), symbols)


def show_nodes(nodes: list[Container]) -> None:
    """What helps to find out why a scenario failed."""
    for node in nodes:
        print(f"---- {node.name}: console\n{node.console_tail(2000)}")
        if node.is_up():
            patterns = " ".join(f"-u '{unit}'" for unit in UNITS.split())
            show = (
                f"systemctl --failed --no-legend; journalctl --no-pager --output=short-precise {patterns} | tail -n 40"
            )
            try:
                from_node = node.run_plain(show)
            except (subprocess.SubprocessError, OSError) as error:
                from_node = f"cannot be asked: {error}"
            print(f"---- {node.name}: failed units, and the journal of {UNITS}\n{from_node}", flush=True)


def run(scenario: Path, rootfs: Path, programs: provision.Programs, scratch: Path, *, commands: bool) -> bool:
    """Whether the scenario passed."""
    journal = Journal(scratch, commands=commands)
    signal.signal(signal.SIGALRM, _too_long)
    nodes: list[Container] = []
    signal.alarm(LIMIT_S)
    try:
        nodes = make_nodes(scenario, rootfs, programs, scratch)
        run_script(scenario.with_suffix(".py"), [Machine(node, journal) for node in nodes], journal, programs.package)
    except Exception:
        signal.alarm(0)
        traceback.print_exc(file=sys.stdout)
        show_nodes(nodes)
        return False
    signal.alarm(0)
    return True
