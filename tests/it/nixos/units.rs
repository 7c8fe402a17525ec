//! systemd's judgement of the drop-ins and units that `nix/machine.nix` gives, on top of those of `systemd/`.

use serde_json::Value;

use super::{evaluate, no_nix};
use crate::harness::Run;
use crate::units::{Root, forbidden, no_systemd};

/// A machine with all roles, each with what adds something to its units.
const EVERYTHING: &str = r#"import ./nix/machine.nix { services.conveyor = {
  server = { enable = true; tokenFile = "/run/secrets/a"; listenStreams = [ "[::]:8080" "127.0.0.1:80" "/run/conveyor/a" ];
    notify = { enable = true; listenStreams = [ "127.0.0.1:4931" ]; }; };
  notify = { enable = true; tokenFile = "/run/secrets/c"; };
  worker = { enable = true; brokerPasswordFile = "/run/secrets/b"; settings.worker.drain_timeout_s = 5; };
  rabbitmq = { enable = true; users.a.role = "server"; tls = { enable = true; certificateFile = "/etc/a.pem"; }; };
  gateway = { enable = true; package = "/usr"; keyFiles.key = "/run/secrets/key"; };
}; }"#;

fn text(sections: &Value) -> String {
    let mut text = String::new();
    for (section, directives) in sections.as_object().unwrap() {
        text += &format!("[{section}]\n");
        for (name, value) in directives.as_object().unwrap() {
            for value in value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]) {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                text += &format!("{name}={value}\n");
            }
        }
    }
    text
}

/// What systemd says of a machine's units.
fn verify(machine: &Value) -> Run {
    let root = Root::new();
    let mut own = Vec::new();
    for (name, unit) in machine["units"].as_object().unwrap() {
        let place = if unit["dropin"] == true { format!("{name}.d/10-machine.conf") } else { name.clone() };
        root.write(&format!("etc/systemd/system/{place}"), &text(&unit["sections"]));
        if unit["dropin"] == false {
            own.push(name.as_str());
        }
    }
    for program in ["usr/lib/conveyor/rabbitmq-setup.sh", "usr/bin/cvmfs_gateway"] {
        root.program(program);
    }
    root.verify_with(&own)
}

#[test]
fn systemd_has_nothing_to_say_about_any_machine() {
    if no_nix() || no_systemd() {
        return;
    }
    let mut machines = vec![evaluate(EVERYTHING)];
    for scenario in evaluate("import ./nix/scenarios.nix").as_object().unwrap().values() {
        machines.extend(scenario.as_object().unwrap().values().cloned());
    }
    for machine in machines {
        let said = verify(&machine);
        assert!(said.code == 0 && said.stdout.is_empty() && said.stderr.is_empty(), "{said:?}");
    }
}

#[test]
fn no_machine_gives_a_worker_mounts_of_its_own_or_takes_privileges_away() {
    if no_nix() {
        return;
    }
    let native = evaluate(EVERYTHING);
    let cvmfs = evaluate(
        r#"import ./nix/machine.nix { services.conveyor.worker = { enable = true; publisher = "cvmfs-server"; cvmfsPackage = "/usr"; }; }"#,
    );
    for machine in [native, cvmfs] {
        let unit = text(&machine["units"]["conveyor-worker.service"]["sections"]);
        assert_eq!(forbidden(&unit), [""; 0]);
    }
}

#[test]
fn a_wrong_directive_would_be_found() {
    if no_nix() || no_systemd() {
        return;
    }
    for (unit, directive) in [("conveyor-worker.service", "TimeoutStopsec"), ("conveyor-rabbitmq.service", "ExecStrat")]
    {
        let mut machine = evaluate(EVERYTHING);
        machine["units"][unit]["sections"]["Service"][directive] = "1".into();
        let said = verify(&machine);
        assert!(said.code != 0 && said.stderr.contains(directive), "{said:?}");
    }
}
