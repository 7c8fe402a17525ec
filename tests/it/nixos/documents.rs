//! docs/nixos-options.md is made from the modules where there is a nixpkgs (`nix/options-page.nix`); here it is compared with what
//! is known without.

use serde_json::Value;

use super::{evaluate, no_nix, root};

fn leaves(prefix: &str, value: &Value, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(table) if !table.is_empty() => {
            for (name, inner) in table {
                leaves(&format!("{prefix}.{name}"), inner, found);
            }
        }
        _ => found.push((prefix.to_owned(), value.clone())),
    }
}

#[test]
fn the_page_of_options_has_all_options_with_their_defaults() {
    if no_nix() {
        return;
    }
    let page = std::fs::read_to_string(root().join("docs/nixos-options.md")).unwrap();
    let mut options = Vec::new();
    leaves("services.conveyor", &evaluate("import ./nix/options.nix"), &mut options);
    assert!(options.len() > 30);
    for (option, default) in options {
        let heading = format!("## `{option}`\n");
        let Some((_, entry)) = page.split_once(&heading) else { panic!("docs/nixos-options.md has no {option}") };
        let entry = entry.split("\n## ").next().unwrap_or_default();
        // As Nix writes it: lists without commas, tables with `=`; the others as JSON does.
        if !default.is_array() && !default.is_object() {
            assert!(entry.contains(&format!("Default: `{default}`")), "{option} is {default}: {entry}");
        }
    }
}

#[test]
fn every_option_of_the_page_is_in_a_module() {
    let page = std::fs::read_to_string(root().join("docs/nixos-options.md")).unwrap();
    let modules: String = ["client", "server", "notify", "worker", "rabbitmq", "gateway"]
        .map(|name| std::fs::read_to_string(root().join(format!("nixos-modules/{name}.nix"))).unwrap())
        .concat();
    let options = page.lines().filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`'));
    let mut seen = 0;
    for option in options {
        let name = option.rsplit('.').next().unwrap_or_default();
        let declared = [format!("{name} = "), format!("inherit (shared) {name};")];
        assert!(declared.iter().any(|text| modules.contains(text.as_str())), "{option}");
        seen += 1;
    }
    assert!(seen > 30);
}
