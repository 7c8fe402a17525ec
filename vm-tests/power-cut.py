start_all()
start_server(server)
start_worker(server, publisher)
alice = new_user(server, server, "alice")
# Who has just been set up has not synced yet.
publisher.succeed("sync")

with subtest("power is cut while a payload runs: published exactly once after the reboot"):
    held = submit(server, alice, f"-l /held --script {waiting_script(server)}")["job_id"]
    wait_for_script(server, held)
    publisher.crash()
    server.wait_until_succeeds(f"{alice} conveyor check {held} | grep recovering", timeout=60)
    publisher.start()
    publisher.wait_for_unit("conveyor-worker.service")
    publisher.succeed("touch /etc/go-on; sync")
    server.succeed(f"{alice} conveyor check --wait {held}", timeout=90)
    ended = job(server, alice, held)
    assert (ended["state"], ended["interruptions"]) == ("succeeded", 1), ended
    assert len(batches(publisher)) == 1, batches(publisher)
    assert read_published(server, "publisher", "/held/result") == "done"

with subtest("power is cut twice while job after job is published: each of them exactly once"):
    path = archive(server, "file", "content")
    ids = [submit(server, alice, f"-l /many/{n} --alone --tarball {path}")["job_id"] for n in range(30)]
    for n in (5, 15):
        server.wait_until_succeeds(f"test $({alice} conveyor list --state succeeded | wc -l) -gt {n}", timeout=60)
        publisher.crash()
        publisher.start()
    server.succeed(f"{alice} conveyor check --wait {' '.join(ids)}", timeout=120)
    ended = [job(server, alice, job_id) for job_id in ids]
    assert {each["state"] for each in ended} == {"succeeded"}, ended
    revisions = sorted([each["status"]["revision"] for each in ended])
    server.log(f"{sum(each['attempt'] > 1 for each in ended)} of them took more than one attempt")
    # The empty repository is revision 1, the first subtest's job 2.
    assert revisions == list(range(3, 33)), revisions
    assert len(batches(publisher)) == 31, batches(publisher)
    publisher.succeed(f"{AS_OWNER} repository check {REPOSITORY}")
    assert read_published(server, "publisher", "/many/29/file") == "content"
