"""What a scenario is given by name: scripts/check-nix puts this before each, with its machines, for ruff and ty to judge."""

from contextlib import AbstractContextManager

from journal import Journal
from machine import Machine, retry


def start_all() -> None:
    """Starts all machines."""
    raise NotImplementedError


def subtest(name: str) -> AbstractContextManager[None]:
    """A part of the scenario, with its time."""
    raise NotImplementedError(name)


machines: list[Machine] = []
log: Journal
__all__ = ["retry"]
