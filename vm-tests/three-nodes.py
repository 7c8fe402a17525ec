start_all()
start_broker(broker, server, publisher)
start_server(server)
start_worker(server, publisher)
alice = new_user(server, server, "alice")

with subtest("the worker listens at the broker, over TLS"):
    server.wait_until_succeeds(f"{ADMIN} conveyor --output json workers | grep '\"rabbitmq\"'", timeout=60)
    server.succeed(f"{AS_SERVER} broker check")
    client.fail("nc -z -w 2 broker 5672")

with subtest("a transaction by way of broker, server and publisher is read by a client"):
    done = submit(server, alice, f"-l /releases --tarball {archive(server, 'first', 'one')} --wait")
    assert done["success"], done
    assert read_published(client, "publisher", "/releases/first") == "one"
    assert len(batches(publisher)) == 1

with subtest("what is published next is read, too, and what is removed is gone"):
    second = submit(server, alice, f"-l /releases --tarball {archive(server, 'second', 'two')} --wait")
    assert second["revision"] == done["revision"] + 1, second
    removed = submit(server, alice, "-l /releases --delete /releases/first --wait")
    assert removed["success"], removed
    assert read_published(client, "publisher", "/releases/second") == "two"
    client.succeed("test ! -e $(ls -td /tmp/tmp.*/ | head -n 1)/mount/releases/first")

with subtest("a client machine has nothing but the client"):
    client.fail("command -v conveyor")
    client.fail("getent passwd conveyor conveyor-worker")
