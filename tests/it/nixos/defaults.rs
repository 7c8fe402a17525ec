//! `nix/defaults.nix` has the program's own defaults.

use conveyor::config::{ClientFlags, Config, Environment, ServerFlags, WorkerFlags};
use serde_json::{Value, json};

use super::{evaluate, no_nix, write};

/// What a role runs with, as it shows itself; with an error where the settings are refused.
fn roles(settings: &Value) -> [String; 4] {
    let directory = tempfile::tempdir().unwrap();
    let path = write(directory.path(), "settings.json", &settings.to_string());
    let config =
        Config::load(Some(&path), Environment::default()).unwrap_or_else(|error| panic!("{error}: {settings}"));
    let config = config.without_secrets();
    let text = [
        format!("{:?}", config.client(&ClientFlags::default()).unwrap()),
        format!("{:?}", config.server(&ServerFlags::default()).unwrap()),
        format!("{:?}", config.notify_alone(&[], None).unwrap()),
        format!("{:?}", config.worker(&WorkerFlags::default()).unwrap()),
    ];
    // The file itself is among the worker's secrets.
    text.map(|text| text.replace(&path.display().to_string(), "FILE"))
}

fn merge(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                merge(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over.clone(),
    }
}

/// What makes every table count: a broker, and each of the publishers.
fn bases() -> [Value; 2] {
    ["native", "cvmfs-server"].map(|publisher| {
        json!({"worker": {"publisher": publisher}, "broker": {"url": "amqp://localhost/cvmfs", "user": "conveyor"}})
    })
}

#[test]
fn what_nix_takes_for_defaults_are_the_programs() {
    if no_nix() {
        return;
    }
    let defaults = evaluate("import ./nix/defaults.nix");
    for base in bases() {
        let mut with = defaults.clone();
        merge(&mut with, &base);
        assert_eq!(roles(&with), roles(&base));
    }
}

#[test]
fn any_other_default_would_be_noticed() {
    if no_nix() {
        return;
    }
    let defaults = evaluate("import ./nix/defaults.nix");
    for (table, keys) in defaults.as_object().unwrap() {
        for (key, value) in keys.as_object().unwrap() {
            let other = match value {
                Value::Number(number) => json!(number.as_u64().unwrap() + 1),
                Value::String(text) if text == "native" => json!("cvmfs-server"),
                Value::String(text) => json!(format!("{text}x")),
                other => panic!("{table}.{key}: {other}"),
            };
            let differs = bases().into_iter().any(|base| {
                let mut with = base.clone();
                merge(&mut with, &json!({table: {key: other}}));
                roles(&with) != roles(&base)
            });
            assert!(differs, "[{table}] {key} does not change anything");
        }
    }
}
