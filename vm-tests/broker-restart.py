start_all()
start_broker(broker, server, publisher)
start_server(server)
start_worker(server, publisher)
alice = new_user(server, server, "alice")
server.wait_until_succeeds(f"{ADMIN} conveyor --output json workers | grep '\"rabbitmq\"'", timeout=60)
path = archive(server, "file", "content")

with subtest("the broker restarts while a job runs: it goes on"):
    held = submit(server, alice, f"-l /held --script {waiting_script(server)}")["job_id"]
    wait_for_script(server, held)
    broker.succeed("systemctl restart rabbitmq-server.service")
    publisher.succeed("touch /etc/go-on")
    server.succeed(f"{alice} conveyor check --wait {held}", timeout=60)
    ended = job(server, alice, held)
    assert (ended["state"], ended["attempt"]) == ("succeeded", 1), ended

with subtest("the broker is killed with offers in it: all are done, each once"):
    ids = [submit(server, alice, f"-l /many/{n} --alone --tarball {path}")["job_id"] for n in range(10)]
    # Started again at once, not after the ten seconds that its unit waits.
    broker.succeed("systemctl kill --signal KILL rabbitmq-server.service")
    broker.succeed("systemctl restart --no-block rabbitmq-server.service")
    ids += [submit(server, alice, f"-l /many/{n} --alone --tarball {path}")["job_id"] for n in range(10, 20)]
    server.succeed(f"{alice} conveyor check --wait {' '.join(ids)}", timeout=120)
    ended = [job(server, alice, job_id) for job_id in ids]
    assert {each["state"] for each in ended} == {"succeeded"}, ended
    revisions = sorted([each["status"]["revision"] for each in ended])
    assert revisions == list(range(3, 23)), revisions
    assert len(batches(publisher)) == 21

with subtest("then offers come by the broker again"):
    server.wait_until_succeeds(f"{AS_SERVER} broker check", timeout=60)
    server.wait_until_succeeds(f"{ADMIN} conveyor --output json workers | grep '\"rabbitmq\"'", timeout=60)
    done = submit(server, alice, f"-l /last --tarball {path} --wait")
    assert done["success"], done
    assert read_published(server, "publisher", "/last/file") == "content"
