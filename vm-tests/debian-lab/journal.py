"""What a scenario did, and when: printed as it happens."""

import contextlib
import time
from collections.abc import Generator
from pathlib import Path
from typing import IO


class Journal:
    """The log of one scenario."""

    def __init__(self, scratch: Path, *, commands: bool) -> None:
        self._began = time.monotonic()
        self._scratch = scratch
        self._commands = commands

    def line(self, who: str, what: str) -> None:
        """Says what happens."""
        print(f"{time.monotonic() - self._began:7.1f} s  {who}: {what}", flush=True)

    # What loggers of the NixOS test driver are called with by scripts.
    def info(self, msg: str) -> None:
        """A line of the script itself."""
        self.line("script", msg)

    @contextlib.contextmanager
    def subtest(self, name: str) -> Generator[None]:
        """A part of a scenario, with its time."""
        began = time.monotonic()
        try:
            yield
        except BaseException:
            self.line("FAILED", name)
            raise
        self.line("ok", f"{name} ({time.monotonic() - began:.1f} s)")

    @contextlib.contextmanager
    def command(self, machine: str, command: str) -> Generator[IO[bytes]]:
        """Tells of a command, if asked to; gives where its standard error goes."""
        began = time.monotonic()
        with (self._scratch / f"{machine}.stderr").open("wb") as file:
            yield file
        if self._commands:
            self.line(machine, f"{command} ({time.monotonic() - began:.2f} s)")

    def last_errors(self, machine: str) -> str:
        """What a machine's last command wrote to standard error."""
        file = self._scratch / f"{machine}.stderr"
        return file.read_text(errors="replace")[-3000:] if file.exists() else ""
