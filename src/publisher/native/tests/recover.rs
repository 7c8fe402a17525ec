//! Fence, then look.

use super::*;
use crate::publisher::Evidence;

#[test]
fn a_published_key_is_found_with_its_revision() {
    let world = World::new();
    let revision = world.publish(&[("a", "1")], "cj-1");
    world.publish(&[("a", "2")], "cj-2");
    assert_eq!(world.publisher.recover(&name(), "cj-1").unwrap(), Evidence::Published(revision));
    assert_eq!(world.publisher.recover(&name(), "cj-3").unwrap(), Evidence::NotPublished);
}

#[test]
fn nothing_is_said_while_a_transaction_is_open() {
    let world = World::new();
    let open = world.open("/", "cj-1");
    let error = world.publisher.recover(&name(), "cj-1").unwrap_err();
    assert!(matches!(error, PublisherError::Busy { .. }), "{error:?}");
    drop(open);
    assert_eq!(world.publisher.recover(&name(), "cj-1").unwrap(), Evidence::NotPublished);
}

#[test]
fn a_repository_that_cannot_be_read_gives_no_evidence() {
    let world = World::new();
    let manifest = world.sandbox.stratum0.directory().join(".cvmfspublished");
    let mut bytes = std::fs::read(&manifest).unwrap();
    bytes[3] ^= 1;
    std::fs::write(&manifest, bytes).unwrap();
    assert!(world.publisher.recover(&name(), "cj-1").is_err());
    let other = RepositoryName::new("other.example.org").unwrap();
    let error = world.publisher.recover(&other, "cj-1").unwrap_err();
    assert!(matches!(error, PublisherError::UnknownRepository { .. }), "{error:?}");
}
