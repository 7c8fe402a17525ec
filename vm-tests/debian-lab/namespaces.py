"""Namespaces that are thrown away, with all that ran in them.

A command is run as process 1 of its own namespaces and in its own cgroup. A sweeper, in a session of its own, holds one
end of a pipe: when the other end closes, because the lab ended or was killed in whatever way, it ends what is left in
the cgroup and removes that and the lab's scratch directory. Mounts and loop devices go with the mount namespace,
networks with theirs.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import means

ENTER = 'echo 0 >"$1/cgroup.procs"; shift; exec "$@"'

# Process 1 of the lab: cgroup v2 alone, whatever the machine has, and a /run of its own.
SET_UP = """
set -e
umount -l /sys/fs/cgroup 2>/dev/null || true
if [ "$1" = own-network ]; then mount -t sysfs sysfs /sys; ip link set lo up; fi
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/netns
shift
exec "$@"
"""


class Session:
    """A cgroup and a scratch directory that are gone when the session is over."""

    def __init__(self, scratch: Path) -> None:
        place = means.unified_cgroups()
        if place is None:
            raise RuntimeError("no cgroup v2 on this machine")
        self.scratch = scratch
        self.cgroup = place / f"conveyor-lab.{os.getpid()}"
        self._kept, sweeper_end = os.pipe()[::-1]
        self._sweeper = subprocess.Popen(
            [sys.executable, __file__, str(self.cgroup), str(scratch)],
            stdin=sweeper_end,
            start_new_session=True,
        )
        os.close(sweeper_end)
        scratch.mkdir(parents=True)
        self.cgroup.mkdir()

    def popen(
        self, command: Sequence[str], name: str, *, own_network: bool = True, output: int | None = None
    ) -> subprocess.Popen[str]:
        """Starts `command` as process 1 of new namespaces."""
        cgroup = self.cgroup / name
        cgroup.mkdir()
        kinds = "--mount --cgroup --pid --ipc --uts --fork --kill-child --mount-proc --propagation private".split()
        network = "own-network" if own_network else "machine-network"
        return subprocess.Popen(
            ["sh", "-c", ENTER, "lab", str(cgroup), "unshare", *kinds, *(["--net"] if own_network else [])]
            + ["bash", "-c", SET_UP, "lab", network, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            text=True,
        )

    def close(self) -> None:
        """Waits until everything is gone."""
        os.close(self._kept)
        self._sweeper.wait()


@contextlib.contextmanager
def session(scratch: Path) -> Generator[Session]:
    """A session that is closed whatever happens."""
    opened = Session(scratch)
    try:
        yield opened
    finally:
        opened.close()


def sweep(cgroup: Path, scratch: Path) -> None:
    """Waits for the end of standard input, then leaves nothing of the session."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    end = time.monotonic() + 30
    while cgroup.exists() and time.monotonic() < end:
        with contextlib.suppress(OSError):
            (cgroup / "cgroup.kill").write_text("1")
        for directory, _, _ in os.walk(cgroup, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
        time.sleep(0.02)
    if cgroup.exists():
        print(f"lab: {cgroup} could not be removed", file=sys.stderr)
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    sweep(Path(sys.argv[1]), Path(sys.argv[2]))
