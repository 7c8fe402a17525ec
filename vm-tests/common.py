# What all scenarios share: put before each of them, on NixOS and in the Debian lab.
import json
import secrets
import tempfile
from pathlib import Path

REPOSITORY = "test.example.org"
CREDENTIALS = "/etc/credstore"
ADMIN = f"CONVEYOR_TOKEN_FILE={CREDENTIALS}/conveyor-server.token"

# With the server's secrets, as its unit is given them.
AS_SERVER = (
    "systemd-run --quiet --wait --pipe --property LoadCredential=token:conveyor-server.token"
    " --property LoadCredential=broker-password:conveyor-server.broker-password"
    " $(command -v conveyor) -c /etc/cvmfs/conveyor/server.toml"
)
AS_OWNER = "runuser -u conveyor-worker -- conveyor -c /etc/cvmfs/conveyor/worker.toml"


def put_secret(value, machine, path, owner="root"):
    """Writes a secret, of which neither a log nor an argument is told."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "secret"
        file.touch(mode=0o600)
        file.write_text(f"{value}\n")
        machine.succeed(f"mkdir -p -m 0755 {Path(path).parent}")
        machine.copy_from_host(str(file), path)
    machine.succeed(f"chown {owner}: {path}", f"test $(stat -c %a {path}) = 600")


def put_file(source, target, path):
    """Copies a small file, which is no secret, from one machine to another."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "file"
        file.write_text(source.succeed(f"cat {path}"))
        file.chmod(0o644)
        target.copy_from_host(str(file), path)


def start_broker(broker, server, worker):
    """Starts a RabbitMQ whose authority, certificate and passwords are only made now; server and worker can log in."""
    authority, certificate = "/etc/conveyor-ca.pem", "/etc/conveyor-broker.pem"
    new_key = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    broker.succeed(
        f"install -d -m 0755 {CREDENTIALS}; umask 077; cd $(mktemp -d)"
        f" && {new_key} -keyout ca.key -out ca.pem -subj '/CN=lab authority' 2>&1"
        f" && {new_key} -keyout key -out certificate -CA ca.pem -CAkey ca.key -subj /CN=broker"
        " -addext subjectAltName=DNS:broker -addext basicConstraints=critical,CA:false 2>&1"
        f" && install -m 0644 ca.pem {authority} && install -m 0644 certificate {certificate}"
        f" && install -m 0600 key {CREDENTIALS}/conveyor-rabbitmq.tls-key && rm -r $PWD"
    )
    for machine, unit in ((server, "conveyor-server"), (worker, "conveyor-worker")):
        password = secrets.token_hex(32)
        put_secret(password, broker, f"{CREDENTIALS}/conveyor-rabbitmq.password.{machine.name}")
        put_secret(password, machine, f"{CREDENTIALS}/{unit}.broker-password")
        put_file(broker, machine, authority)
    broker.succeed("systemctl restart rabbitmq-server.service conveyor-rabbitmq.service")
    broker.wait_for_open_port(5671)


def start_server(server):
    """Starts a server whose secrets are only made now."""
    put_secret(secrets.token_hex(32), server, f"{CREDENTIALS}/conveyor-server.token")
    server.succeed("systemctl restart conveyor-server.socket conveyor-server.service")
    server.wait_for_unit("conveyor-server.service")


def new_token(server, role, name):
    """A token of this role, made on the server's machine by its admin."""
    made = server.succeed(f"{ADMIN} conveyor --output json token create --role {role} --name {name}")
    return json.loads(made)["token"]


def start_worker(server, worker):
    """Starts a worker with a repository that is empty."""
    put_secret(new_token(server, "worker", worker.name), worker, f"{CREDENTIALS}/conveyor-worker.token")
    worker.succeed("systemd-tmpfiles --create")
    worker.succeed(f"{AS_OWNER} repository create {REPOSITORY}")
    # The independent client asks for what replicas have, and repeats each for 23 s where it is not there.
    worker.succeed(f"cd /srv/cvmfs/{REPOSITORY} && date | tee .cvmfs_last_snapshot >.cvmfs_is_snapshotting")
    worker.succeed("systemctl restart conveyor-worker.service")
    worker.wait_for_unit("conveyor-worker.service")


def new_user(server, machine, name, url="http://localhost:8080"):
    """An ordinary account with a token to submit; gives what its commands begin with."""
    machine.succeed(f"useradd --create-home {name}")
    put_secret(new_token(server, "submit", name), machine, f"/home/{name}/token", owner=name)
    return f"runuser -u {name} -- env CONVEYOR_URL={url} CONVEYOR_TOKEN_FILE=/home/{name}/token"


def archive(machine, name, text):
    """An archive with one file, `NAME`; gives its path."""
    path = f"/tmp/{name}.tar"
    machine.succeed(f"cd $(mktemp -d) && printf %s '{text}' >{name} && tar cf {path} {name} && chmod 0644 {path}")
    return path


def submit(machine, user, options):
    """Submits a job and gives what the last line says of it; with `--wait`, how it ended."""
    lines = machine.succeed(f"{user} conveyor submit -r {REPOSITORY} {options}").splitlines()
    return json.loads(lines[-1])


def job(machine, user, job_id):
    """All that is known of a job."""
    return json.loads(machine.succeed(f"{user} conveyor check --full-status {job_id}"))


def waiting_script(machine):
    """A script that ends when the worker's machine has /etc/go-on; gives its path."""
    text = "#!/bin/sh\\necho waiting\\nuntil test -e /etc/go-on; do sleep 0.2; done\\nprintf done >held/result\\n"
    machine.succeed(f"printf '{text}' >/tmp/waiting && chmod 0755 /tmp/waiting")
    return "/tmp/waiting"


def wait_for_script(server, job_id):
    """Until that script runs."""
    server.wait_until_succeeds(f"{ADMIN} conveyor logs {job_id} | grep -x waiting", timeout=60)


def batches(worker):
    """The tags that batches left in the repository's history: one for each publish."""
    listing = worker.succeed(f"{AS_OWNER} --output json repository tag {REPOSITORY}")
    names = [json.loads(line)["name"] for line in listing.splitlines()]
    return [name for name in names if name.startswith("cj-")]


def read_published(machine, web_server, path):
    """A file's content, as the independent client shows it in a new mount."""
    at = machine.succeed("mktemp -d").strip()
    address = f"http://{web_server}:8000/cvmfs/{REPOSITORY}"
    unit = f"client-{Path(at).name.replace('.', '-')}"
    machine.succeed(
        f"mkdir {at}/mount {at}/cache",
        f"systemd-run --quiet --collect --unit={unit} $(command -v cvmfs-cli) {address} {at}/mount {at}/cache",
    )
    machine.wait_until_succeeds(f"mountpoint -q {at}/mount", timeout=60)
    content = machine.succeed(f"cat {at}/mount{path}")
    machine.succeed(f"umount {at}/mount")
    return content
