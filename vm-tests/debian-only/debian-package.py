import re

UNITS = (
    "conveyor-server.socket conveyor-server-notify.socket conveyor-server.service conveyor-worker.service"
    " conveyor-notify.socket conveyor-notify.service"
)


def commands_of(document):
    """The shell commands of its Debian part, and the files that it shows, as one script."""
    script = ["set -ex", "cd /root"]
    part = document.split("\n## Debian\n")[1].split("\n## NixOS")[0]
    for kind, body in re.findall(r"^```(\w+)\n(.*?)^```$", part, re.DOTALL | re.MULTILINE):
        first = body.split("\n", 1)[0]
        if kind == "sh":
            script.append(body)
        elif kind in ("toml", "nginx"):
            to = ">>" if "at the end of" in first else ">"
            script.append(f"cat {to}{first.split()[-1]} <<'END-OF-FILE'\n{body}END-OF-FILE\n")
    assert len(script) > 10, script
    return "\n".join(script)


def newer(machine, package):
    """The same package with a version that is higher."""
    machine.succeed(
        f"rm -rf /tmp/newer && dpkg-deb -R {package} /tmp/newer",
        "sed -i 's/^Version: .*/&+newer/' /tmp/newer/DEBIAN/control",
        "dpkg-deb -Zgzip -z1 -b /tmp/newer /tmp/newer.deb",
    )
    return "/tmp/newer.deb"


publisher.start()
publisher.copy_from_host(str(package), "/root/conveyor_1_all.deb")

with subtest("what install.md says ends with a published file"):
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as script:
        script.write(commands_of((sources / "docs/install.md").read_text()))
        script.flush()
        publisher.copy_from_host(script.name, "/root/install.sh")
    publisher.succeed("bash /root/install.sh >&2", timeout=200)
    key = "/etc/cvmfs/keys/software.example.org.pub"
    publisher.succeed("mkdir -p /root/mount /root/cache")
    publisher.succeed(
        "systemd-run --quiet --collect $(command -v cvmfs-cli) http://localhost/cvmfs/software.example.org /root/mount /root/cache",
        f"test -s {key}",
    )
    publisher.wait_until_succeeds("mountpoint -q /root/mount", timeout=60)
    assert publisher.succeed("cat /root/mount/greeting/1.0/hello.txt") == "Hello from CernVM-FS\n"
    publisher.succeed("umount /root/mount")

with subtest("an upgrade restarts what runs, and drops no request"):
    before = {unit: publisher.get_unit_property(unit, "InvocationID") for unit in UNITS.split()}
    publisher.succeed(
        "systemd-run --quiet --collect --unit=asker bash -c 'until [ -e /tmp/enough ]; do"
        " curl -sS -f -m 30 -o /dev/null http://localhost:8080/readyz && echo answered || echo refused; done >/tmp/asked'"
    )
    publisher.wait_until_succeeds("test $(wc -l </tmp/asked) -gt 5", timeout=60)
    publisher.succeed(f"dpkg -i {newer(publisher, '/root/conveyor_1_all.deb')}")
    now = {unit: publisher.get_unit_property(unit, "InvocationID") for unit in UNITS.split()}
    for socket in ("conveyor-server.socket", "conveyor-server-notify.socket"):
        assert now[socket] == before[socket] != "", socket
    # One of the two has port 4930.
    publisher.require_unit_state("conveyor-notify.service", "inactive")
    assert now["conveyor-server.service"] != before["conveyor-server.service"]
    worker = before["conveyor-worker.service"]
    publisher.wait_until_succeeds(
        f"systemctl is-active -q conveyor-worker && test $(systemctl show -P InvocationID conveyor-worker) != {worker}",
        timeout=60,
    )
    publisher.wait_until_succeeds(
        f"test $(wc -l </tmp/asked) -gt {int(publisher.succeed('wc -l </tmp/asked')) + 5}", timeout=60
    )
    publisher.succeed("touch /tmp/enough")
    publisher.wait_until_succeeds("! systemctl is-active -q asker", timeout=60)
    publisher.fail("grep refused /tmp/asked")

with subtest("settings that are wrong end the server, which comes back when they are mended"):
    publisher.succeed(
        "cp -p /etc/cvmfs/conveyor/config.toml /root/good.toml", "echo 'wrong = 1' >/etc/cvmfs/conveyor/config.toml"
    )
    publisher.fail("systemctl restart conveyor-server.service")
    assert publisher.get_unit_property("conveyor-server.service", "ExecMainStatus") == "78"
    publisher.wait_until_succeeds(
        "curl -s -m 5 http://localhost:8080/readyz || systemctl is-failed -q conveyor-server.socket", timeout=60
    )
    publisher.succeed(
        "cp -p /root/good.toml /etc/cvmfs/conveyor/config.toml", "systemctl start conveyor-server.service"
    )
    publisher.succeed("curl -sS -f http://localhost:8080/readyz")

with subtest("removal stops everything and keeps settings and state"):
    publisher.succeed("dpkg -r conveyor")
    for unit in UNITS.split():
        publisher.require_unit_state(unit, "inactive")
    publisher.fail("nc -z localhost 8080 || nc -z localhost 4930")
    publisher.succeed("test -s /etc/cvmfs/conveyor/config.toml && test -s /var/lib/conveyor/conveyor.db")

with subtest("purging removes the settings, and no job"):
    publisher.succeed("dpkg -P conveyor")
    publisher.fail("test -e /etc/cvmfs/conveyor")
    publisher.fail("find /etc/systemd -name 'conveyor-*.service' -o -name 'conveyor-*.socket' | grep .")
    publisher.succeed("test -s /var/lib/conveyor/conveyor.db && test -d /var/lib/conveyor-worker")

with subtest("installed again, nothing runs until somebody says so; then the jobs are there"):
    publisher.succeed("dpkg -i /tmp/newer.deb")
    for unit in UNITS.split():
        assert publisher.execute(f"systemctl is-enabled {unit}")[1] == "disabled\n", unit
        publisher.require_unit_state(unit, "inactive")
    publisher.succeed("cp -p /root/good.toml /etc/cvmfs/conveyor/config.toml", "systemctl enable --now conveyor-server")
    jobs = publisher.succeed("CONVEYOR_TOKEN_FILE=/etc/credstore/conveyor-server.token conveyor list --output json")
    assert len(jobs.splitlines()) == 2, jobs
