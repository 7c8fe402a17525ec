//! TLS with an authority made for the test, and certificates on both sides.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use super::table;
use crate::harness::{Place, Program, Rabbit, no_rabbit, private};

/// Makes an authority, and certificates signed by it: `ca.pem`, `server.pem`, `server.key`, `client.pem`, `client.key`.
fn certificates(directory: &Path) {
    let write = |name: &str, text: &str| private(&directory.join(name), text);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "authority of a test");
    write("ca.pem", &params.self_signed(&key).unwrap().pem());
    let authority = Issuer::new(params, key);
    for (name, purpose) in
        [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)]
    {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // The name must differ from that of the authority, or each seems to have signed itself.
        params.distinguished_name.push(DnType::CommonName, name);
        write(&format!("{name}.pem"), &params.signed_by(&key, &authority).unwrap().pem());
        write(&format!("{name}.key"), &key.serialize_pem());
    }
}

#[test]
fn both_sides_prove_themselves_and_neither_trusts_a_stranger() {
    if no_rabbit() {
        return;
    }
    let (place, other) = (Place::new(), Place::new());
    certificates(place.path());
    certificates(other.path());
    let rabbit = Rabbit::start(Some(place.path()));
    let vhost = rabbit.vhost();
    let config = place.path().join("config.toml");
    let program = Program::new(&config, place.path());
    let with = |host: &str, authority: &Path, client: Option<&Path>| {
        let url = format!("amqps://{host}:{}/", rabbit.tls_port());
        let table =
            table(place.path(), rabbit.port(), &vhost).replace(&format!("amqp://127.0.0.1:{}/", rabbit.port()), &url);
        let file = |directory: &Path, name: &str| format!("{:?}", directory.join(name));
        let mut text = format!("[repositories.\"a.example.org\"]\n{table}ca_file = {}\n", file(authority, "ca.pem"));
        if let Some(client) = client {
            text += &format!(
                "certificate_file = {}\nkey_file = {}\n",
                file(client, "client.pem"),
                file(client, "client.key")
            );
        }
        private(&config, &text);
        program.run(&["broker", "declare"])
    };
    let good = with("localhost", place.path(), Some(place.path()));
    assert_eq!(good.code, 0, "{good:?}");
    for (what, run) in [
        ("a broker of another authority", with("localhost", other.path(), Some(place.path()))),
        ("a broker of another name", with("127.0.0.1", place.path(), Some(place.path()))),
        ("a client without certificate", with("localhost", place.path(), None)),
        ("a client of another authority", with("localhost", place.path(), Some(other.path()))),
    ] {
        assert!(run.code == 1 && run.stderr.contains("cannot connect to the broker"), "{what}: {run:?}");
    }
}
