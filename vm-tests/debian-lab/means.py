"""What a machine must have so that the lab can run on it."""

import os
import shutil
from pathlib import Path

# program -> Debian's package
PROGRAMS = {
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "losetup": "mount",
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "mke2fs": "e2fsprogs",
    "nix-instantiate": "nix-bin",
}


def unified_cgroups() -> Path | None:
    """Where this machine has its cgroup v2 tree: alone, or beside those of v1."""
    for place in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
        if (place / "cgroup.controllers").exists():
            return place
    return None


def missing() -> list[str]:
    """What this machine lacks, each with the next step."""
    if os.geteuid() != 0:
        return ["the lab makes namespaces, mounts and loop devices: run it as root"]
    lacks = [
        f"no {program}: apt-get install {package}"
        for program, package in PROGRAMS.items()
        if shutil.which(program) is None
    ]
    place = unified_cgroups()
    if place is None:
        lacks.append("no cgroup v2 at /sys/fs/cgroup or /sys/fs/cgroup/unified")
    elif not os.access(place, os.W_OK):
        lacks.append(f"{place} cannot be written: the lab needs a cgroup of its own")
    for device, use in (
        ("/dev/loop-control", "the nodes' disks"),
        ("/dev/fuse", "mounting repositories"),
    ):
        if not Path(device).exists():
            lacks.append(f"no {device}, which is needed for {use}")
    return lacks
