start_all()
start_server(server)
alice = new_user(server, server, "alice")

with subtest("a repository of cvmfs_server, without a web server of its own"):
    server.wait_for_open_port(8000)
    server.succeed(f"cvmfs_server mkfs -p -o root -w http://localhost:8000/cvmfs/{REPOSITORY} {REPOSITORY}")

with subtest("the worker starts in the machine's mount namespace, as the publisher wants it"):
    put_secret(new_token(server, "worker", "server"), server, f"{CREDENTIALS}/conveyor-worker.token")
    server.succeed("systemctl restart conveyor-worker.service")
    server.wait_for_unit("conveyor-worker.service")

with subtest("a job is one transaction and one publish"):
    done = submit(server, alice, f"-l /releases --tarball {archive(server, 'first', 'one')} --wait")
    assert done["success"], done
    tags = server.succeed(f"cvmfs_server tag -l -x {REPOSITORY}").splitlines()
    assert sum(tag.startswith("cj-") for tag in tags) == 1, tags
    assert read_published(server, "localhost", "/releases/first") == "one"

with subtest("somebody's own transaction is left alone, and waited for"):
    server.succeed(f"cvmfs_server transaction {REPOSITORY}")
    second = submit(server, alice, f"-l /releases --tarball {archive(server, 'second', 'two')}")
    server.wait_until_succeeds(f"{alice} conveyor check --full-status {second['job_id']} | grep -q 'not Conveyor'", timeout=120)
    server.succeed(f"cvmfs_server abort -f {REPOSITORY}")
    server.succeed(f"{alice} conveyor check --wait {second['job_id']}")
    assert read_published(server, "localhost", "/releases/second") == "two"
