//! Tests of the ingest engine.

mod cut;
mod engine;
mod failures;
mod support;
