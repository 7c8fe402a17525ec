"""What a node is given before it boots: layers of files below its own disk.

`nix/machine.nix` says what a machine with certain options has: files, drop-ins, which units are started. The same is
what the NixOS modules take from there, so that a scenario has the same settings on both. Units and accounts come with
the package.
"""

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import disk

REPOSITORY = Path(__file__).resolve().parents[2]
TARGETS = {".socket": "sockets.target", ".timer": "timers.target"}


@dataclasses.dataclass(frozen=True)
class Programs:
    """What is tested, and what looks at it."""

    package: Path
    client: Path


def package_layer(rootfs: Path, package: Path, scratch: Path) -> Path:
    """What the Debian package makes of a node, its maintainer scripts included."""
    upper, work, root = (scratch / name for name in ("layer/upper", "layer/work", "root"))
    (scratch / "layer").mkdir(parents=True)
    root.mkdir()
    disk.make(scratch / "disk.img", 1024)
    _run("mount", "-o", "loop", scratch / "disk.img", scratch / "layer")
    upper.mkdir()
    work.mkdir()
    _run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={rootfs},upperdir={upper},workdir={work}", root)
    shutil.copyfile(package, root / "conveyor.deb")
    _run("chroot", root, "env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--install", "/conveyor.deb")
    (root / "conveyor.deb").unlink()
    _run("umount", root)
    return upper


def _run(*words: str | Path) -> None:
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(map(str, words))}` failed with {done.returncode}:\n{done.stdout}")


def tools_layer(layer: Path, programs: Programs) -> Path:
    """The independent client, which every node may use."""
    client = layer / "usr/local/bin/cvmfs-cli"
    client.parent.mkdir(parents=True)
    shutil.copyfile(programs.client, client)
    client.chmod(0o755)
    return layer


def evaluate(scenario: Path) -> dict[str, Any]:
    """What each node of a scenario has, by its name."""
    answer = subprocess.run(
        ["nix-instantiate", "--eval", "--strict", "--json", str(REPOSITORY / "vm-tests/debian-lab/nodes.nix")]
        + ["--arg", "scenario", str(scenario)],
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        raise RuntimeError(f"{scenario} cannot be evaluated:\n{answer.stderr}")
    return json.loads(answer.stdout)


def has_package(machine: dict[str, Any]) -> bool:
    """Whether a node has Conveyor: it runs something of it, or commands find their settings."""
    return bool(machine.get("units")) or any(
        path.startswith("/etc/cvmfs/conveyor/") for path in machine.get("files", {})
    )


def node_layer(layer: Path, machine: dict[str, Any], hosts: dict[str, str]) -> Path:
    """Writes what Nix says of a machine."""
    known = {"files", "units", "wanted", "openPorts"}
    if unknown := set(machine) - known:
        raise RuntimeError(f"nix/machine.nix gives what the Debian lab does not know: {', '.join(sorted(unknown))}")
    system = layer / "etc/systemd/system"
    for path, file in machine.get("files", {}).items():
        _write(layer / path.lstrip("/"), file["text"], int(file.get("mode", "0644"), 8))
    for name, unit in machine.get("units", {}).items():
        place = system / f"{name}.d/10-machine.conf" if unit.get("dropin") else system / name
        _write(place, unit_text(unit["sections"]))
    for name in machine.get("wanted", []):
        wants = system / f"{TARGETS.get(Path(name).suffix, 'multi-user.target')}.wants" / name
        wants.parent.mkdir(parents=True, exist_ok=True)
        own = (system / name).exists()
        wants.symlink_to(f"{'/etc' if own else '/usr/lib'}/systemd/system/{name}")
    lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in hosts.items())]
    _write(layer / "etc/hosts", "\n".join(lines) + "\n")
    return layer


def unit_text(sections: dict[str, dict[str, Any]]) -> str:
    """A unit file: a list is a directive that is there several times."""
    lines: list[str] = []
    for section, directives in sections.items():
        lines.append(f"[{section}]")
        for name, value in directives.items():
            lines.extend(f"{name}={_plain(item)}" for item in (value if isinstance(value, list) else [value]))
        lines.append("")
    return "\n".join(lines)


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _write(target: Path, text: str, mode: int = 0o644) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    target.chmod(mode)
