start_all()
start_server(server)
start_worker(server, server)
alice = new_user(server, server, "alice")

with subtest("an ordinary user submits, the independent client reads"):
    done = submit(server, alice, f"-l /releases --tarball {archive(server, 'first', 'one')} --wait")
    assert done["success"], done
    assert read_published(server, "localhost", "/releases/first") == "one"

with subtest("both units say what they do"):
    for unit in ("conveyor-server.service", "conveyor-worker.service"):
        assert server.get_unit_property(unit, "StatusText") != "", unit
        server.log(f"{unit}: {server.get_unit_property(unit, 'StatusText')}")
    server.succeed("conveyor -c /etc/cvmfs/conveyor/worker.toml worker status")

with subtest("the worker has the machine's mounts, the server does not"):
    for unit, same in (("conveyor-worker.service", True), ("conveyor-server.service", False)):
        pid = server.get_unit_property(unit, "MainPID")
        namespaces = server.succeed(f"readlink /proc/{pid}/ns/mnt /proc/1/ns/mnt").split()
        assert (namespaces[0] == namespaces[1]) == same, f"{unit}: {namespaces}"
    pid = server.get_unit_property("conveyor-worker.service", "MainPID")
    server.succeed(f"grep -Eq '^NoNewPrivs:\\s+0$' /proc/{pid}/status")

with subtest("the server reads no keys and writes nothing but its state"):
    pid = server.get_unit_property("conveyor-server.service", "MainPID")
    account = server.succeed("id -u conveyor").strip()
    as_server = f"nsenter --target {pid} --mount --setuid {account} --setgid {account} --"
    key = f"/etc/cvmfs/keys/{REPOSITORY}.key"
    server.succeed(f"test -s {key}")
    server.fail(f"{as_server} cat {key}")
    for path in ("/etc", "/usr", "/srv/cvmfs", "/var/lib", "/var/lib/conveyor-worker", "/home"):
        server.fail(f"{as_server} touch {path}/written-by-the-server")
    server.succeed(f"{as_server} touch /var/lib/conveyor/written-by-the-server")
    # Root without the machine's rights cannot either: the file system is read-only there.
    server.fail(f"nsenter --target {pid} --mount -- touch /etc/written-by-the-server")

with subtest("a request starts the server, and waits for it"):
    # A worker asks for offers all the time.
    server.succeed("systemctl stop conveyor-worker.service conveyor-server.service")
    server.require_unit_state("conveyor-server.service", "inactive")
    server.require_unit_state("conveyor-server.socket", "active")
    second = submit(server, alice, f"-l /releases --tarball {archive(server, 'second', 'two')}")
    server.require_unit_state("conveyor-server.service", "active")
    server.succeed("systemctl start conveyor-worker.service")
    server.succeed(f"{alice} conveyor check --wait {second['job_id']}")
    assert read_published(server, "localhost", "/releases/second") == "two"

with subtest("a reload takes new settings, and goes on with the same process"):
    pid = server.get_unit_property("conveyor-server.service", "MainPID")
    settings = "/etc/cvmfs/conveyor/server.toml"
    server.succeed(f"cp {settings} /tmp/settings")
    # On NixOS it is a link into the store.
    server.succeed(f"rm {settings}; printf '[repositories.\"other.example.org\"]\\n' >{settings}")
    server.succeed("systemctl reload conveyor-server.service")
    server.wait_until_succeeds(f"{alice} conveyor --output json repositories | grep other.example.org", timeout=30)
    server.succeed(f"printf 'no settings at all' >{settings}; systemctl reload conveyor-server.service || true")
    server.succeed(f"{alice} conveyor --output json repositories | grep other.example.org")
    server.succeed(f"cp /tmp/settings {settings}; systemctl reload conveyor-server.service")
    server.wait_until_succeeds(f"{alice} conveyor --output json repositories | grep {REPOSITORY}", timeout=30)
    server.require_unit_state("conveyor-server.service", "active")
    assert server.get_unit_property("conveyor-server.service", "MainPID") == pid
    done = submit(server, alice, f"-l /releases --tarball {archive(server, 'third', 'three')} --wait")
    assert done["success"], done

with subtest("after a reboot everything comes by itself"):
    server.shutdown()
    server.start()
    server.wait_for_unit("conveyor-worker.service")
    server.wait_for_unit("conveyor-server.service")
    done = submit(server, alice, f"-l /releases --tarball {archive(server, 'fourth', 'four')} --wait")
    assert done["success"], done
    assert read_published(server, "localhost", "/releases/fourth") == "four"
