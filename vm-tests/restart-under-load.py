import time

# What curl does where clients try again.
AGAIN = "'retry = 20' retry-all-errors 'retry-delay = 1'"


def begin(name, count, options):
    """Starts to submit."""
    run = f"systemd-run --quiet --unit={name} --uid=alice --setenv=CONVEYOR_TOKEN_FILE=/home/alice/token"
    server.succeed(f"{run} $(command -v bash) -l /etc/load.sh {name} {count} {options}")
    server.wait_for_file(f"/tmp/{name}/ready", timeout=60)
    return time.monotonic()


def wait_for_more(name, count):
    """Until some more requests were answered; false once all are."""
    so_far = int(server.succeed(f"cat /tmp/{name}/*.results | wc -l"))
    more = min(so_far + 300, count)
    server.wait_until_succeeds(f"test $(cat /tmp/{name}/*.results | wc -l) -ge {more}", timeout=60)
    return more < count


def judge(name, count, began):
    """Every request was answered well, and every job is there."""
    server.wait_until_fails(f"systemctl is-active --quiet {name}", timeout=120)
    seconds = time.monotonic() - began
    lines = [line.split() for line in server.succeed(f"cat /tmp/{name}/*.results").splitlines()]
    failed = [line for line in lines if line[0] not in ("200", "201") or line[1] != "0"]
    slowest = max([float(line[2]) for line in lines])
    jobs = int(
        server.succeed(
            f"sqlite3 -readonly /var/lib/conveyor/conveyor.db \"SELECT count(*) FROM jobs WHERE name = '{name}'\""
        )
    )
    server.log(
        f"{name}: {len(lines)} requests in {seconds:.1f} s ({len(lines) / seconds:.0f} a second), {len(failed)} failed,"
        f" {count - jobs} lost; the slowest took {slowest:.2f} s"
    )
    assert len(lines) == count and not failed, failed[:10]
    assert jobs == count, jobs


start_all()
start_server(server)
new_user(server, server, "alice")

with subtest("restarts drop no request and lose no job: no client tries again"):
    began = begin("restarts", 4000, "")
    restarts = 0
    while wait_for_more("restarts", 4000):
        server.succeed("systemctl restart conveyor-server.service")
        restarts += 1
    judge("restarts", 4000, began)
    server.log(f"restarted {restarts} times")
    assert restarts >= 5, restarts

with subtest("kills drop what was being answered; clients that try again miss nothing"):
    began = begin("kills", 2500, AGAIN)
    kills = 0
    while wait_for_more("kills", 2500):
        server.succeed("systemctl kill --signal KILL conveyor-server.service")
        kills += 1
    judge("kills", 2500, began)
    server.log(f"killed {kills} times")
    assert kills >= 5, kills

with subtest("the database is whole"):
    server.succeed("conveyor -c /etc/cvmfs/conveyor/server.toml check-db --state-dir /var/lib/conveyor")
