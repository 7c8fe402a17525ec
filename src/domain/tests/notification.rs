use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::domain::names::RepositoryName;
use crate::domain::notification::Message;

fn body(version: &str, kind: &str, repository: &str, manifest: &str) -> String {
    format!(
        "{{\"version\":{version},\n \"timestamp\":\"Sat, 21 Nov 2026 20:00:00 GMT\",\r\n\"type\":{kind},\
         \"repository\":{repository},\"manifest\":{manifest}, \"more\": \"\\n kept\"}}\n"
    )
}

#[test]
fn a_message_is_kept_as_it_came_on_one_line() {
    let manifest = format!("{:?}", STANDARD.encode(b"bytes"));
    let message = Message::parse(body("1", "\"activity\"", "\"a.example.org\"", &manifest).as_bytes()).unwrap();
    assert_eq!((message.repository().as_str(), message.manifest()), ("a.example.org", &b"bytes"[..]));
    assert!(!message.text().contains(['\n', '\r']) && message.text().ends_with(r#""more": "\n kept"}"#));
    assert_eq!(Message::parse(message.text().as_bytes()).unwrap(), message);
}

#[test]
fn what_clients_cannot_read_is_refused() {
    for (version, kind, repository, manifest, key) in [
        ("\"1\"", "\"activity\"", "\"a.example.org\"", "\"YQ==\"", "string \"1\""),
        ("5000000000", "\"activity\"", "\"a.example.org\"", "\"YQ==\"", "version"),
        ("1", "\"other\"", "\"a.example.org\"", "\"YQ==\"", "type"),
        ("1", "\"activity\"", "\"../b\"", "\"YQ==\"", "repository"),
        ("1", "\"activity\"", "7", "\"YQ==\"", "integer `7`"),
        ("1", "\"activity\"", "\"a.example.org\"", "\"YQ\"", "manifest"),
        ("1", "\"activity\"", "\"a.example.org\"", "null", "null"),
        ("1", "\"activity\"", "\"a.example.org\",\"repository\":\"b.example.org\"", "\"YQ==\"", "duplicate"),
    ] {
        let error = Message::parse(body(version, kind, repository, manifest).as_bytes()).unwrap_err();
        assert!(error.to_string().contains(key), "{error}");
    }
    for missing in ["", "[]", "{}", "null", "\u{0}", r#"{"version":1,"type":"activity","repository":"a.example.org"}"#]
    {
        assert!(Message::parse(missing.as_bytes()).is_err(), "{missing:?}");
    }
}

#[test]
fn a_message_of_ours_has_what_clients_demand() {
    let message = Message::about(RepositoryName::new("a.example.org").unwrap(), b"\x00\xff", "now");
    let json: serde_json::Value = serde_json::from_str(message.text()).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["type"], "activity");
    assert_eq!(Message::parse(message.text().as_bytes()).unwrap(), message);
}
