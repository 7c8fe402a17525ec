"""The nodes' common root file system: Debian with real systemd, from the archive that this machine's apt uses."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import namespaces

SUITE = "bookworm"
PACKAGES = (
    "systemd systemd-sysv dbus udev iproute2 iputils-ping procps netcat-openbsd fuse3 ca-certificates curl openssl "
    "sqlite3 nginx-light rabbitmq-server"
).split()
OPTIONS = (
    "--variant=minbase",
    "--mode=root",
    "--skip=check/empty",
    '--aptopt=APT::Install-Recommends "false"',
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=force-unsafe-io",
)
# Run on the new root. Which services a node has is for its provisioning to say; none comes with its package.
FINISH = """#!/bin/sh
set -e
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \\
  fstrim.timer; do
  ln -sf /dev/null "$1/etc/systemd/system/$unit"
done
chroot "$1" systemctl disable --quiet nginx.service rabbitmq-server.service epmd.service epmd.socket
: >"$1/etc/machine-id"
rm -f "$1/etc/hostname" "$1/etc/resolv.conf" "$1/var/lib/dbus/machine-id"
rm -rf "$1/var/cache/apt" "$1/var/lib/apt/lists" "$1/var/log/"*.log
"""


def recipe() -> str:
    """What decides how the root file system looks; its hash is the name that it is kept by."""
    return "\n".join((SUITE, *PACKAGES, *OPTIONS, FINISH))


def archive() -> str | None:
    """The Debian archive that this machine's apt uses, if any."""
    answer = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(CODENAME)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    sites = [line.split()[0] for line in answer.stdout.splitlines() if line.endswith(f" {SUITE}")]
    return next((site for site in sites if site.rstrip("/").endswith("/debian")), None)


def build(cache: Path, session: namespaces.Session) -> Path:
    """The root file system's directory: made where it is not there yet, which takes about a minute."""
    ready = cache / f"rootfs-{hashlib.sha256(recipe().encode()).hexdigest()[:16]}"
    if ready.exists():
        return ready
    print(f"building the nodes' root file system ({SUITE})", flush=True)
    part = session.scratch / "rootfs"
    finish = session.scratch / "finish"
    finish.write_text(FINISH)
    finish.chmod(0o755)
    site = archive()
    command = ["mmdebstrap", "--quiet", *OPTIONS, f"--include={','.join(PACKAGES)}", f"--customize-hook={finish}"]
    command += [SUITE, str(part)] + ([site] if site else [])
    if session.popen(command, "rootfs", own_network=False).wait() != 0:
        raise RuntimeError("mmdebstrap could not make the nodes' root file system: its messages are above")
    finish.unlink()
    for old in cache.glob("rootfs-*"):
        shutil.rmtree(old)
    part.rename(ready)
    return ready
