"""One node: Debian with systemd as process 1, in a container with a disk and a network of its own.

What a node writes is on its disk, a file system in a loop device of which a power cut loses all that was not synced.
The layers below are only read: what was provisioned for this node, the package, the tools, Debian.
"""

import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import disk
from network import Network

DISK_MEGABYTES = 2048

# Everything is mounted in the node's own mount namespace: a container that starts later would hold on to it otherwise,
# and with the file system its cache, in which unsynced data outlive the power cut.
MOUNT = """
set -e
echo $$ >"$1/cgroup.procs"
mount -o loop,noatime "$2/disk.img" "$2/disk"
mkdir -p "$2/disk/upper" "$2/disk/work"
mount -t overlay overlay -o "lowerdir=$3,upperdir=$2/disk/upper,workdir=$2/disk/work" "$2/root"
shift 3
exec "$@"
"""


class Container:
    """A node's life: started, powered off, cut off from power, cut off from the network."""

    def __init__(self, name: str, number: int, network: Network, layers: Sequence[Path], scratch: Path) -> None:
        self.name = name
        self.number = number
        self.leader = 0
        self.console = scratch / "console.log"
        self._network = network
        self._layers = ":".join(map(str, layers))
        self._scratch = scratch
        self._process: subprocess.Popen[bytes] | None = None
        self._cgroup = Path()
        self._notify: socket.socket | None = None
        for directory in ("disk", "root"):
            (scratch / directory).mkdir(parents=True)
        disk.make(scratch / "disk.img", DISK_MEGABYTES)

    def is_up(self) -> bool:
        """Whether its process 1 is there."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout: float = 60) -> None:
        """Boots it, until systemd is reached."""
        if self.is_up():
            return
        self._network.plug_in(self.name, self.number)
        self._cgroup = Path(f"/sys/fs/cgroup/{self.name}.{time.monotonic_ns()}")
        self._cgroup.mkdir()
        told = Path(f"/run/{self.name}.notify")
        told.unlink(missing_ok=True)
        # It stays open for as long as the node lives: what nobody reads in the end is that it is ready.
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(told))
        with self.console.open("ab") as console:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", MOUNT, "node"]
                + [str(self._cgroup), str(self._scratch), self._layers, *self._nspawn()],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env={**os.environ, "NOTIFY_SOCKET": str(told), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            )
        self.leader = self._find_leader(self._notify, time.monotonic() + timeout)

    def _nspawn(self) -> list[str]:
        return [
            "systemd-nspawn",
            "--quiet",
            f"--directory={self._scratch}/root",
            "--boot",
            f"--machine={self.name}",
            f"--hostname={self.name}",
            "--register=no",
            "--keep-unit",
            "--notify-ready=yes",
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
            "--capability=all",
            f"--network-namespace-path=/run/netns/{self.name}",
            "--bind=/dev/fuse",
            "--console=pipe",
            "systemd.unit=multi-user.target",
            "systemd.show_status=1",
        ]

    def _find_leader(self, notify: socket.socket, end: float) -> int:
        while time.monotonic() < end and self.is_up():
            if select.select([notify], [], [], 0.2)[0]:
                for line in notify.recv(4096).decode().splitlines():
                    if line.startswith("X_NSPAWN_LEADER_PID="):
                        return int(line.partition("=")[2])
        raise RuntimeError(f"{self.name} does not boot:\n{self.console_tail()}")

    def console_tail(self, size: int = 3000) -> str:
        """The end of what it wrote to its console."""
        return self.console.read_text(errors="replace")[-size:] if self.console.exists() else ""

    def command(self, *words: str) -> list[str]:
        """What runs a program in it."""
        if not self.is_up():
            raise RuntimeError(f"{self.name} is not running")
        return ["nsenter", f"--target={self.leader}", *"-m -u -i -n -p -C -r -w".split(), *words]

    def plug(self, *, connected: bool) -> None:
        """Pulls or plugs its network cable."""
        self._network.cable(self.number, connected=connected)

    def power_off(self, timeout: float = 90) -> None:
        """As its power button does: systemd stops everything."""
        if self.is_up():
            os.kill(self.leader, signal.SIGRTMIN + 4)
            self._gone(timeout)

    def wait_for_end(self, timeout: float = 90) -> None:
        """Until it has powered itself off."""
        if self._process is not None:
            self._gone(timeout)

    def power_cut(self) -> None:
        """Nothing more is sent, nothing more is written, nobody gets to tidy up."""
        if self._process is None or not self.is_up():
            return
        self.plug(connected=False)
        disk.cut_off(f"/proc/{self._process.pid}/root{self._scratch}/disk")
        os.kill(self.leader, signal.SIGKILL)
        self._gone(20)

    def _gone(self, timeout: float) -> None:
        process, self._process, self.leader = self._process, None, 0
        if process is None:
            return
        process.wait(timeout)
        if self._notify is not None:
            self._notify.close()
        self._network.remove(self.name, self.number)
        disk.wait_until_free(self._scratch / "disk.img", timeout)
        for directory, _, _ in os.walk(self._cgroup, topdown=False):
            os.rmdir(directory)

    def run_plain(self, script: str) -> str:
        """Output of a command in it, whatever becomes of it: for looking into it after a failure."""
        done = subprocess.run(
            self.command("sh", "-c", script),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=30,
            check=False,
        )
        return done.stdout.decode(errors="replace")
