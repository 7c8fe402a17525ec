"""A node as test scripts see it: the part of the NixOS test driver's `Machine` that scenarios use.

Names, parameters and meaning are those of nixos/lib/test-driver. What is missing here is refused by name, so that a
scenario cannot seem to pass by a call that did nothing.
"""

import re
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from container import Container
from journal import Journal

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def retry(fn: Callable[[bool], bool], timeout: int = 900) -> None:
    """Calls `fn` until it is true; its argument says whether it is the last time."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if fn(False):
            return
        time.sleep(0.1)
    if not fn(True):
        raise TimeoutError(f"action timed out after {timeout} seconds")


class Machine:
    """One node."""

    def __init__(self, container: Container, journal: Journal) -> None:
        self.name = container.name
        self._container = container
        self._journal = journal
        self._connected = False

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"the Debian lab has no {name} for machines: vm-tests/debian-lab/machine.py is all that it has"
        )

    def __repr__(self) -> str:
        return f"Machine({self.name})"

    # Power and network

    def is_up(self) -> bool:
        """Whether it runs."""
        return self._container.is_up()

    def start(self, allow_reboot: bool = False) -> None:
        """Starts it where it does not run; all can be started again here, whatever `allow_reboot` says."""
        del allow_reboot
        self._container.start()

    def connect(self) -> None:
        """Waits until it can be worked in: where the system's basic units are up, services may still start."""
        if self._connected:
            return
        self.start()

        def basic(_: bool) -> bool:
            if not self.is_up():
                raise RuntimeError(f"{self.name} ended while it booted:\n{self._container.console_tail()}")
            return self._run("systemctl is-active --quiet basic.target", 10)[0] == 0

        retry(basic, 60)
        self._connected = True

    def shutdown(self) -> None:
        """Powers it off in good order, and waits for its end."""
        self._journal.line(self.name, "shutdown")
        self._container.power_off()
        self._connected = False

    def wait_for_shutdown(self) -> None:
        """Waits until it has powered itself off."""
        self._container.wait_for_end()
        self._connected = False

    def crash(self) -> None:
        """A power cut: peers hear nothing, and what was not synced is lost."""
        self._journal.line(self.name, "power cut")
        self._container.power_cut()
        self._connected = False

    def reboot(self) -> None:
        """In good order, and up again."""
        self.shutdown()
        self.start()

    def block(self) -> None:
        """Pulls its network cable."""
        self._journal.line(self.name, "network cable pulled")
        self._container.plug(connected=False)

    def unblock(self) -> None:
        """Plugs its network cable in again."""
        self._journal.line(self.name, "network cable plugged in")
        self._container.plug(connected=True)

    # Commands

    def _run(self, command: str, timeout: float | None) -> tuple[int, str]:
        variables = [f"PATH={PATH}", "HOME=/root", "USER=root", "LANG=C.UTF-8"]
        script = f"cd /tmp; set -euo pipefail; {command}"
        with self._journal.command(self.name, command) as errors:
            try:
                done = subprocess.run(
                    self._container.command("env", "-i", *variables, "bash", "-c", script),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    timeout=timeout,
                    check=False,
                )
            except subprocess.TimeoutExpired as expired:
                return 124, (expired.stdout or b"").decode(errors="replace")
        return done.returncode, done.stdout.decode(errors="replace")

    def execute(
        self, command: str, check_return: bool = True, check_output: bool = True, timeout: int | None = 900
    ) -> tuple[int, str]:
        """Status and standard output of a command in bash, with `set -euo pipefail`."""
        if not (check_return and check_output):
            raise NotImplementedError(
                "the Debian lab always waits for a command's end: no check_return, no check_output"
            )
        self.connect()
        return self._run(command, timeout)

    def succeed(self, *commands: str, timeout: int | None = None) -> str:
        """Output of commands that must end with 0."""
        output = ""
        for command in commands:
            status, out = self.execute(command, timeout=timeout)
            if status != 0:
                raise RuntimeError(
                    f"{self.name}: `{command}` failed with {status}:\n{out}{self._journal.last_errors(self.name)}"
                )
            output += out
        return output

    def fail(self, *commands: str, timeout: int | None = None) -> str:
        """Output of commands that must not end with 0."""
        output = ""
        for command in commands:
            status, out = self.execute(command, timeout=timeout)
            if status == 0:
                raise RuntimeError(f"{self.name}: `{command}` succeeded, which it must not:\n{out}")
            output += out
        return output

    def _repeat(self, command: str, timeout: int, good: Callable[[int], bool]) -> str:
        output, status = "", 0

        def attempt(last: bool) -> bool:
            nonlocal output, status
            status, output = self.execute(command, timeout=timeout)
            if last and not good(status):
                errors = self._journal.last_errors(self.name)
                raise TimeoutError(f"{self.name}: `{command}` ended with {status} for {timeout} s:\n{output}{errors}")
            return good(status)

        retry(attempt, timeout)
        return output

    def wait_until_succeeds(self, command: str, timeout: int = 900) -> str:
        """Repeats a command until it ends with 0."""
        return self._repeat(command, timeout, lambda status: status == 0)

    def wait_until_fails(self, command: str, timeout: int = 900) -> str:
        """Repeats a command until it does not end with 0."""
        return self._repeat(command, timeout, lambda status: status != 0)

    # systemd

    def systemctl(self, q: str, user: str | None = None) -> tuple[int, str]:
        """Status and output of `systemctl`."""
        _system_only(user)
        return self.execute(f"systemctl {q}")

    def get_unit_info(self, unit: str, user: str | None = None) -> dict[str, str]:
        """All properties of a unit."""
        _system_only(user)
        lines = self.succeed(f"systemctl --no-pager show {shlex.quote(unit)}").splitlines()
        return {name: value for name, equals, value in (line.partition("=") for line in lines) if equals}

    def get_unit_property(self, unit: str, property: str, user: str | None = None) -> str:
        """One property of a unit."""
        _system_only(user)
        line = self.succeed(f"systemctl --no-pager show {shlex.quote(unit)} --property={shlex.quote(property)}")
        match = re.match(r"^([^=]+)=(.*)$", line)
        if match is None or match[1] != property:
            raise RuntimeError(f"{self.name}: unit {unit} has no {property}: {line!r}")
        return match[2]

    def wait_for_unit(self, unit: str, user: str | None = None, timeout: int = 900) -> None:
        """Waits until a unit is active. That it failed, or is inactive and nobody starts it, ends the wait."""
        _system_only(user)

        def active(_: bool) -> bool:
            state = self.get_unit_property(unit, "ActiveState")
            if state == "failed" or (state == "inactive" and self._at_rest(unit)):
                raise RuntimeError(f"{self.name}: unit {unit} is {state}")
            return state == "active"

        retry(active, timeout)

    def _at_rest(self, unit: str) -> bool:
        jobs = self.systemctl("list-jobs --full 2>&1")[1]
        return "No jobs" in jobs and self.get_unit_property(unit, "ActiveState") == "inactive"

    def require_unit_state(self, unit: str, require_state: str = "active") -> None:
        """Fails where a unit is in another state."""
        state = self.get_unit_property(unit, "ActiveState")
        if state != require_state:
            raise RuntimeError(f"{self.name}: unit {unit} is {state}, not {require_state}")

    # Files and ports

    def wait_for_file(self, filename: str, timeout: int = 900) -> None:
        """Waits until there is such a file."""
        self._repeat(f"test -e {filename}", timeout, lambda status: status == 0)

    def wait_for_open_port(self, port: int, addr: str = "localhost", timeout: int = 900) -> None:
        """Waits until somebody listens there."""
        self._repeat(f"nc -z {addr} {port}", timeout, lambda status: status == 0)

    def wait_for_closed_port(self, port: int, addr: str = "localhost", timeout: int = 900) -> None:
        """Waits until nobody listens there."""
        self._repeat(f"nc -z {addr} {port}", timeout, lambda status: status != 0)

    def copy_from_host(self, source: str, target: str) -> None:
        """Copies a file or directory into the node, with its mode."""
        self.connect()
        self.succeed(f"mkdir -p {shlex.quote(str(Path(target).parent))}")
        inside = f"/proc/{self._container.leader}/root/{target.lstrip('/')}"
        subprocess.run(["cp", "-rL", "--preserve=mode", source, inside], check=True)

    def log(self, msg: str) -> None:
        """A line in the scenario's log."""
        self._journal.line(self.name, msg)


def _system_only(user: str | None) -> None:
    if user is not None:
        raise NotImplementedError("the Debian lab has no user's systemd: leave `user` out")
