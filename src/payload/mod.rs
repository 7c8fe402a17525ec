//! Payloads: fetching, verifying, reading archives, running scripts.
