def refused(user, status, words):
    """A submission that must be refused, by the program and over HTTP."""
    said = server.fail(f"{user} conveyor submit -r {REPOSITORY} -p '' 2>&1")
    for word in words:
        assert word in said, said
    with_header = f'{user} sh -c \'printf "Authorization: Bearer %s" $(cat $CONVEYOR_TOKEN_FILE) | curl'
    options = "-s -o /dev/null -w %{http_code} -H @- --json {} http://localhost:8080/api/v1/jobs"
    assert server.succeed(f"{with_header} {options}'") == str(status)


start_all()
start_server(server)
alice = new_user(server, server, "alice")
mallory = new_user(server, server, "mallory")

with subtest("a wrong token is refused"):
    put_secret(secrets.token_hex(32), server, "/home/mallory/token", owner="mallory")
    refused(mallory, 401, ["unauthorized"])
    assert server.succeed("curl -s -o /dev/null -w %{http_code} http://localhost:8080/api/v1/jobs") == "401"

with subtest("a revoked token is refused, at once"):
    assert submit(server, alice, "-p ''")["created"]
    server.succeed(f"{ADMIN} conveyor token revoke $(cut -d _ -f 2 /home/alice/token)")
    refused(alice, 401, ["unauthorized", "revoked"])

with subtest("a role that is not enough is refused, and named"):
    put_secret(new_token(server, "read", "mallory"), server, "/home/mallory/token", owner="mallory")
    refused(mallory, 403, ["forbidden", "submit"])
    server.succeed(f"{mallory} conveyor list")

with subtest("nothing of it was accepted"):
    listing = server.succeed(f"{ADMIN} conveyor --output json list").splitlines()
    assert len(listing) == 1, listing

with subtest("a worker with a wrong token says so, waits, and works once it has the right one"):
    put_secret(secrets.token_hex(32), publisher, f"{CREDENTIALS}/conveyor-worker.token")
    publisher.succeed("systemctl restart conveyor-worker.service")
    publisher.wait_for_unit("conveyor-worker.service")
    publisher.wait_until_succeeds("systemctl show -P StatusText conveyor-worker | grep -i token", timeout=60)
    publisher.log(publisher.get_unit_property("conveyor-worker.service", "StatusText"))
    publisher.wait_until_succeeds("journalctl -u conveyor-worker | grep -i unauthorized", timeout=60)
    assert publisher.get_unit_property("conveyor-worker.service", "NRestarts") == "0"
    start_worker(server, publisher)
    waiting = json.loads(listing[0])["job_id"]
    server.succeed(f"{ADMIN} conveyor check --wait {waiting}", timeout=60)
    assert len(batches(publisher)) == 1
