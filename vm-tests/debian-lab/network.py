"""The nodes' network: a bridge in the lab's own network namespace, and a namespace for each node and boot."""

import subprocess

PREFIX = "192.168.1"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, stdin=subprocess.DEVNULL)


class Network:
    """The bridge. Addresses are as in a NixOS test: 192.168.1.1 for the first node by name, and so on."""

    def __init__(self) -> None:
        _ip("link", "add", "br1", "type", "bridge", "forward_delay", "0")
        _ip("link", "set", "br1", "up")

    def plug_in(self, node: str, number: int) -> None:
        """A new namespace for a node. One for each boot: what a dead machine had sent must not be sent again."""
        _ip("netns", "add", node)
        mac = f"52:54:00:12:01:{number:02x}"
        _ip("link", "add", f"v-{number}", "type", "veth", "peer", "name", "eth1", "address", mac, "netns", node)
        _ip("link", "set", f"v-{number}", "master", "br1", "up")
        _ip("-n", node, "addr", "add", f"{PREFIX}.{number}/24", "dev", "eth1")
        _ip("-n", node, "link", "set", "eth1", "up")
        _ip("-n", node, "link", "set", "lo", "up")

    def cable(self, number: int, *, connected: bool) -> None:
        """Pulls or plugs a node's cable; whoever talks to it is told nothing."""
        _ip("link", "set", f"v-{number}", "up" if connected else "down")

    def remove(self, node: str, number: int) -> None:
        """Drops a node's namespace with all its connections."""
        _ip("link", "del", f"v-{number}")
        _ip("netns", "del", node)
