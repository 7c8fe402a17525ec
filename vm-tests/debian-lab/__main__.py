"""The Debian lab: runs the scenarios of vm-tests/ on Debian nodes with real systemd, in containers.

    scripts/lab [--list] [NAME…]

Ends with 0 when all passed, 1 when one failed, 77 where this machine lacks the means.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import means
import namespaces
import provision
import rootfs
import scenario

SCENARIOS = Path(__file__).resolve().parents[1]
NO_MEANS = 77


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/lab", description="The Debian lab: scenarios of vm-tests/ on Debian nodes."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="scenarios to run; all where none is named")
    parser.add_argument("--list", action="store_true", help="print the scenarios' names and end")
    parser.add_argument("--check-means", action="store_true", help="say what this machine lacks, and end")
    parser.add_argument(
        "--commands", action="store_true", help="print each command that a script has run, and its time"
    )
    parser.add_argument("--package", type=Path, required=True, help="the Debian package that is tested")
    parser.add_argument("--client", type=Path, required=True, help="the independent client, cvmfs-cli")
    parser.add_argument(
        "--cache", type=Path, required=True, help="where root file systems are kept and scratch files made"
    )
    parser.add_argument("--inside", nargs=2, type=Path, metavar=("ROOTFS", "SCRATCH"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Runs what was asked for."""
    asked = arguments()
    programs = provision.Programs(asked.package, asked.client)
    known = sorted(file.stem for file in SCENARIOS.glob("*.nix") if file.with_suffix(".py").exists())
    if asked.list:
        print("\n".join(known))
        return 0
    if unknown := set(asked.names) - set(known):
        print(f"lab: no scenario {', '.join(sorted(unknown))}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    if asked.inside is not None:
        file, (root, scratch) = SCENARIOS / f"{asked.names[0]}.nix", asked.inside
        return 0 if scenario.run(file, root, programs, scratch, commands=asked.commands) else 1
    if lacks := means.missing():
        print("lab: this machine lacks the means:\n" + "\n".join(f"  {lack}" for lack in lacks), file=sys.stderr)
        return NO_MEANS
    if asked.check_means:
        return 0
    return run_all(asked.names or known, asked)


def run_all(names: list[str], asked: argparse.Namespace) -> int:
    """Runs scenarios one after the other, and says how each ended."""
    results: list[tuple[str, bool, float]] = []
    with namespaces.session(asked.cache / f"run.{os.getpid()}") as session:
        root = rootfs.build(asked.cache, session)
        for name in names:
            print(f"== {name}", flush=True)
            began = time.monotonic()
            command = [sys.executable, str(Path(__file__).parent), *sys.argv[1:]]
            command = [word for word in command if word not in names] + [name]
            command += ["--inside", str(root), str(session.scratch / name)]
            (session.scratch / name).mkdir()
            passed = session.popen(command, name).wait() == 0
            results.append((name, passed, time.monotonic() - began))
    print()
    for name, passed, took in results:
        print(f"Debian lab: {name}: {'passed' if passed else 'FAILED'}, {took:.0f} s")
    failed = sum(not passed for _, passed, _ in results)
    print(f"Debian lab: {len(results) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
