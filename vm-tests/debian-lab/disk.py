"""Disks: ext4 in loop devices, which lose at a power cut what was not synced."""

import fcntl
import os
import struct
import subprocess
import time
from pathlib import Path

# EXT4_IOC_SHUTDOWN with NOLOGFLUSH: nothing reaches the disk from here on, not even what the journal holds.
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2


def make(image: Path, megabytes: int) -> None:
    """An empty file system in a sparse file."""
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-E", "nodiscard,lazy_itable_init=1", image], check=True)


def cut_off(mounted_at: str) -> None:
    """The disk is as if it had no power any more."""
    directory = os.open(mounted_at, os.O_RDONLY)
    try:
        fcntl.ioctl(directory, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        os.close(directory)


def wait_until_free(image: Path, timeout: float) -> None:
    """While the loop device lives, so does its cache, and a new mount would find in it what was never written."""
    end = time.monotonic() + timeout
    while subprocess.run(["losetup", "--noheadings", "-j", image], capture_output=True, check=True).stdout:
        if time.monotonic() > end:
            raise RuntimeError(f"something still holds {image}")
        time.sleep(0.02)
