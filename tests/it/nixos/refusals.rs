//! What is refused at evaluation, by the functions that NixOS modules and the Debian lab share: each message names the option.

use super::{evaluation, no_nix};

/// What a machine has under `services.conveyor`, and what is said of it.
const REFUSED: [(&str, &str); 24] = [
    ("server.enabel = true;", "services.conveyor.server has no enabel"),
    ("sever.enable = true;", "services.conveyor has no sever"),
    ("worker.webServer.prot = 80;", "services.conveyor.worker.webServer has no prot"),
    (r#"rabbitmq = { enable = true; users.a.rol = "server"; };"#, "services.conveyor.rabbitmq.users.a has no rol"),
    (
        r#"server = { enable = true; listenStreams = [ "127.0.0.1:80800" ]; };"#,
        r#"services.conveyor.server.listenStreams has "127.0.0.1:80800""#,
    ),
    (
        r#"server = { enable = true; listenStreams = [ "http" ]; };"#,
        r#"services.conveyor.server.listenStreams has "http""#,
    ),
    ("server = { enable = true; listenStreams = [ ]; };", "services.conveyor.server.listenStreams is empty"),
    (
        "worker = { enable = true; webServer = { enable = true; port = 0; }; };",
        "services.conveyor.worker.webServer.port must be a port",
    ),
    (
        r#"server = { enable = true; tokenFile = "${builtins.storeDir}/0-secret"; };"#,
        "services.conveyor.server.tokenFile is in the Nix store",
    ),
    (
        "worker = { enable = true; brokerPasswordFile = ./Cargo.toml; };",
        "services.conveyor.worker.brokerPasswordFile must be an absolute path of the machine",
    ),
    (
        r#"server = { enable = true; tokenFile = "token"; };"#,
        "services.conveyor.server.tokenFile must be an absolute path of the machine",
    ),
    (
        r#"server = { enable = true; settings.broker.password_file = "${builtins.storeDir}/0-secret"; };"#,
        "services.conveyor.server.settings.broker.password_file is in the Nix store",
    ),
    (
        r#"worker = { enable = true; settings.client.token = "word"; };"#,
        "services.conveyor.worker.settings.client.token would be in the Nix store",
    ),
    (r#"worker = { enable = true; publisher = "cvmfs-server"; };"#, "services.conveyor.worker.cvmfsPackage is not set"),
    ("gateway.enable = true;", "services.conveyor.gateway.package is not set"),
    (
        r#"server = { enable = true; settings.server.state_dir = "/data"; };"#,
        "services.conveyor.server.settings.server.state_dir",
    ),
    (
        "server = { enable = true; settings.notify.listen = [ \"0.0.0.0:4930\" ]; };",
        "services.conveyor.server.settings.notify.listen would refuse clients",
    ),
    (
        "server = { enable = true; notify = { enable = true; listenStreams = [ ]; }; };",
        "services.conveyor.server.notify.listenStreams is empty",
    ),
    (
        "server = { enable = true; notify.enable = true; }; notify.enable = true;",
        "services.conveyor.notify.listenStreams and services.conveyor.server.notify.listenStreams both have 4930",
    ),
    (
        "notify = { enable = true; openFirewall = true; listenStreams = [ \"127.0.0.1:4930\" ]; };",
        "services.conveyor.notify.openFirewall has nothing to open",
    ),
    (
        "notify = { enable = true; settings.notify.state_dir = \"/data\"; };",
        "services.conveyor.notify.settings.notify.state_dir",
    ),
    (
        "notify = { enable = true; tokenFile = \"token\"; };",
        "services.conveyor.notify.tokenFile must be an absolute path of the machine",
    ),
    ("rabbitmq.enable = true;", "services.conveyor.rabbitmq.users is empty"),
    (r#"rabbitmq = { enable = true; users.a.role = "admin"; };"#, "services.conveyor.rabbitmq.users.a.role must be"),
];

#[test]
fn what_cannot_be_is_refused_by_a_message_that_names_the_option() {
    if no_nix() {
        return;
    }
    for (options, message) in REFUSED {
        let output = evaluation(&format!("import ./nix/machine.nix {{ services.conveyor = {{ {options} }}; }}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{options}");
        assert!(said.contains(message), "{options}: {said}");
    }
}
