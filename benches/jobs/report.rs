//! Printing.

use serde_json::{Value, json};

/// Prints one figure beside its floor or ceiling.
pub(crate) fn figure(name: &str, value: f64, unit: &str, floor: Option<(&str, f64)>, more: Value) {
    let mut line = json!({ "name": name, "value": round(value), "unit": unit });
    let object = line.as_object_mut().unwrap();
    if let Some((what, floor)) = floor {
        object.insert("floor".into(), json!(what));
        object.insert("floor_value".into(), json!(round(floor)));
        object.insert("ratio".into(), json!(round(value / floor)));
    }
    if let Value::Object(more) = more {
        object.extend(more);
    }
    println!("{line}");
}

/// The value in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which this share of them lies.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[at]
}

/// Four digits that count.
fn round(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap()
}
