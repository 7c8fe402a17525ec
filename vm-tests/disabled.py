machine.start()

with subtest("no unit, account, file or port of Conveyor"):
    machine.fail("systemctl list-unit-files --no-legend | grep conveyor")
    machine.fail("getent passwd conveyor conveyor-worker conveyor-notify")
    machine.fail("getent group conveyor conveyor-worker conveyor-notify")
    for path in ("/etc/cvmfs", "/run/conveyor", "/srv/cvmfs"):
        machine.fail(f"test -e {path}")
    for path in ("/var/lib/conveyor", "/var/lib/conveyor-worker", "/var/lib/conveyor-notify"):
        machine.fail(f"test -e {path}")
    for port in (8080, 8000, 5672, 5671, 4929, 4930):
        machine.fail(f"nc -z localhost {port}")
