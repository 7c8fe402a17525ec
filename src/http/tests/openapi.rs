//! The document says what the routes do.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Server;
use crate::http::access::{Access, TABLE};

fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let mut found = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            found.push((method.to_uppercase(), path.clone(), operation));
        }
    }
    found
}

#[tokio::test]
async fn the_document_names_every_route_and_who_may_use_it() {
    let document = Server::start().await.get("/api/v1/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    let described: BTreeSet<_> = operations(&document)
        .into_iter()
        .filter(|(method, ..)| method != "HEAD")
        .map(|(method, path, operation)| (method, path, operation["security"] == serde_json::json!([{}])))
        .collect();
    let routes: BTreeSet<_> = TABLE
        .iter()
        .map(|(method, path, access)| (method.to_string(), path.replace("{*", "{"), *access == Access::Open))
        .collect();
    assert_eq!(described, routes);
}

#[tokio::test]
async fn every_operation_is_described_and_every_reference_leads_somewhere() {
    let document = Server::start().await.get("/api/v1/openapi.json").await.json();
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let what = format!("{method} {path}");
        assert!(operation["summary"].is_string() && operation["tags"].is_array(), "{what}");
        assert!(!operation["responses"].as_object().unwrap().is_empty(), "{what}");
        ids.insert(operation["operationId"].to_string());
        let named: BTreeSet<_> = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let described: BTreeSet<_> =
            parameters.iter().filter(|p| p["in"] == "path").map(|p| p["name"].as_str().unwrap()).collect();
        assert_eq!(described, named, "{what}");
    }
    assert_eq!(ids.len(), operations(&document).len(), "operation ids are unique");
    let mut left = vec![&document];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
                }
                left.extend(fields.values());
            }
            Value::Array(items) => left.extend(items),
            _ => {}
        }
    }
}
