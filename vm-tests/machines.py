start_all()

with subtest("machines reach each other by name, until a cable is pulled"):
    two.succeed("ping -c 1 one")
    one.block()
    two.fail("ping -c 1 -W 1 one")
    one.unblock()
    two.wait_until_succeeds("ping -c 1 -W 1 one", timeout=30)

with subtest("a power cut keeps what was synced, and nothing else is promised"):
    one.succeed("mkdir /var/lib/cut; cd /var/lib/cut; echo kept >kept; sync")
    one.succeed("cd /var/lib/cut; echo lost >lost; mv kept moved")
    one.crash()
    two.fail("ping -c 1 -W 1 one")
    one.start()
    assert one.succeed("cat /var/lib/cut/*") == "kept\n"

with subtest("a reboot keeps everything"):
    one.succeed("echo more >/var/lib/cut/more")
    one.shutdown()
    one.start()
    one.succeed("grep -q more /var/lib/cut/more")
