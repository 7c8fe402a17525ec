STATE = "/var/lib/conveyor"
# What Conveyor of database version 1 was asked for, and what had become of it.
LEFT = {
    "greeting": "succeeded",
    "broken": "failed",
    "to be done after the upgrade": "queued",
    "and this after it": "waiting",
}


def jobs():
    listing = server.succeed(f"{ADMIN} conveyor --output json list")
    return {found["name"]: found for found in map(json.loads, listing.splitlines())}


start_all()
server.succeed("systemctl stop conveyor-server.socket conveyor-server.service conveyor-worker.service")
server.succeed(f"install -d -o conveyor -g conveyor -m 0700 {STATE}; rm -rf {STATE}/*")
for name in ("conveyor", "logs"):
    file = f"{STATE}/{name}.db"
    server.succeed(f"sqlite3 {file} </etc/upgrade/{name}.sql; chown conveyor: {file}; chmod 0600 {file}")
    assert server.succeed(f"sqlite3 {file} 'PRAGMA user_version'") == "1\n"
start_server(server)

with subtest("all jobs of the older version are there, as they stood"):
    found = jobs()
    assert set(found) == set(LEFT), found
    for name, state in LEFT.items():
        assert found[name]["state"] in (state, "offered"), found[name]
    assert int(server.succeed(f"sqlite3 -readonly {STATE}/conveyor.db 'PRAGMA user_version'")) > 1
    server.succeed(f"conveyor -c /etc/cvmfs/conveyor/server.toml check-db --state-dir {STATE} --verify")
    log = server.succeed(f"{ADMIN} conveyor logs {found['broken']['job_id']}")
    assert "this one fails" in log, log

with subtest("what was left to do is done"):
    start_worker(server, server)
    ids = [jobs()[name]["job_id"] for name in list(LEFT)[2:]]
    server.succeed(f"{ADMIN} conveyor check --wait {' '.join(ids)}", timeout=60)
    found = jobs()
    assert [found[name]["state"] for name in LEFT] == ["succeeded", "failed", "succeeded", "succeeded"], found
    assert len(batches(server)) == 2, batches(server)
