start_all()
start_server(server)
start_worker(server, server)
alice = new_user(server, server, "alice")
relay.succeed("install -d -m 0755 /etc/cvmfs/keys")
put_file(server, relay, f"/etc/cvmfs/keys/{REPOSITORY}.pub")
relay.wait_for_unit("conveyor-notify.service")


def publish(name):
    """Publishes a file by a job; gives the repository's revision."""
    done = submit(server, alice, f"-l /releases --tarball {archive(server, name, name)} --wait")
    assert done["success"], done
    return server.succeed(f"grep -a ^S /srv/cvmfs/{REPOSITORY}/.cvmfspublished").strip().removeprefix("S")


def wait_until_heard(revision):
    """Until each subscriber was told."""
    for teller in TELLERS:
        client.wait_until_succeeds(f"grep -x {revision} /tmp/heard.{teller}", timeout=60)
        client.wait_until_succeeds(f"grep -x {revision} /tmp/events.{teller}", timeout=60)


TELLERS = {"server": "conveyor-server", "relay": "conveyor-notify"}
for teller in TELLERS:
    # One of ours, which runs a program, and one that asks as the C++ client does: a curl that is refused ends with 7.
    body = f'{{"version":1,"repository":"{REPOSITORY}"}}'
    read = f"curl -sN -X GET -d '{body}' http://{teller}:4930/api/v1/notifications/subscribe"
    revisions = """grep --line-buffered -o '"manifest":"[^"]*' | while read -r m; do echo "${m##*\\"}" | base64 -d | sed -n s/^S//p; done"""
    scripts = {
        f"note.{teller}": f"echo $CONVEYOR_REVISION >>/tmp/heard.{teller}",
        f"ask.{teller}": f"while true; do {{ {read}; echo $? >>/tmp/ends.{teller}; }} | {revisions} >>/tmp/events.{teller}; done",
    }
    for name, text in scripts.items():
        with tempfile.NamedTemporaryFile("w", suffix=name) as script:
            script.write(f"#!/bin/sh\n{text}\n")
            script.flush()
            client.copy_from_host(script.name, f"/tmp/{name}")
        client.succeed(f"chmod 0755 /tmp/{name}")
    client.succeed(
        f"touch /tmp/ends.{teller} /tmp/heard.{teller} /tmp/events.{teller}",
        f"systemd-run --quiet --unit=hears-{teller} $(command -v conveyor) --url http://{teller}:4930"
        f" notify subscribe {REPOSITORY} --exec /tmp/note.{teller}",
        f"systemd-run --quiet --unit=asks-{teller} --setenv=PATH=$PATH /tmp/ask.{teller}",
    )

with subtest("who subscribes hears what a job published, by the server and by who watches"):
    wait_until_heard(publish("first"))

with subtest("after a restart of each the next one is heard, and nobody was refused"):
    for machine, unit in ((server, TELLERS["server"]), (relay, TELLERS["relay"])):
        machine.succeed(f"systemctl restart {unit}.service")
    wait_until_heard(publish("second"))
    for teller in TELLERS:
        ends = client.succeed(f"cat /tmp/ends.{teller}").split()
        assert ends and "7" not in ends, f"{teller}: {ends}"

with subtest("who comes back starts a service that was stopped"):
    relay.succeed("systemctl stop conveyor-notify.service")
    relay.wait_for_unit("conveyor-notify.service")
    wait_until_heard(publish("third"))

with subtest("the units say how they stand"):
    assert server.get_unit_property("conveyor-server-notify.socket", "Triggers") == "conveyor-server.service"
    relay.wait_until_succeeds(
        "systemctl show -P StatusText conveyor-notify.service | grep '^2 subscribers.* 1 repository announced'",
        timeout=60,
    )
    relay.succeed("curl -sS -f http://localhost:4930/readyz")
    server.succeed("curl -sS -f http://localhost:4930/readyz")
    for machine, unit in ((server, TELLERS["server"]), (relay, TELLERS["relay"])):
        machine.fail(f"journalctl --no-pager -u {unit}.service | grep 'limit of open files'")

with subtest("what comes while the machine boots again is heard as well"):
    relay.shutdown()
    revision = publish("fourth")
    relay.start()
    relay.wait_for_unit("conveyor-notify.service")
    client.wait_until_succeeds(f"grep -x {revision} /tmp/heard.relay", timeout=60)
