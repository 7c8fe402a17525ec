# What a scenario is given: scripts/check-nix puts this before each, for ruff and ty to judge.
from collections.abc import Callable
from contextlib import AbstractContextManager

from journal import Journal
from machine import Machine, retry

start_all: Callable[[], None]
subtest: Callable[[str], AbstractContextManager[None]]
machines: list[Machine]
log: Journal
__all__ = ["retry"]
