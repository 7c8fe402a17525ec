start_all()
start_server(server)
start_worker(server, publisher)
alice = new_user(server, server, "alice")

with subtest("the claim of a publisher that is cut off expires"):
    held = submit(server, alice, f"-l /held --script {waiting_script(server)}")["job_id"]
    wait_for_script(server, held)
    publisher.block()
    server.wait_until_succeeds(f"{alice} conveyor check {held} | grep recovering", timeout=60)

with subtest("what it finishes meanwhile is not published"):
    publisher.succeed("touch /etc/go-on")
    publisher.wait_until_succeeds(
        "journalctl -u conveyor-worker | grep 'cannot ask for the permission to publish'", timeout=60
    )
    assert batches(publisher) == []

with subtest("once it is back the job is done, and published once"):
    publisher.unblock()
    server.succeed(f"{alice} conveyor check --wait {held}", timeout=90)
    ended = job(server, alice, held)
    assert ended["state"] == "succeeded", ended
    assert ended["interruptions"] == 1, ended
    assert len(batches(publisher)) == 1, batches(publisher)
    assert read_published(server, "publisher", "/held/result") == "done"
