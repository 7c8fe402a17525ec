use std::fs;

use super::*;
use crate::cvmfs::keys::NewKeys;
use crate::cvmfs::tests::support::{NAME as REPOSITORY, NOW, Sandbox};

fn repository() -> RepositoryName {
    RepositoryName::new(REPOSITORY).unwrap()
}

fn verifier(sandbox: &Sandbox, url: bool) -> Verifier {
    Verifier::new(Sources {
        verify: true,
        keys_dir: sandbox.keys(),
        urls: BTreeMap::new(),
        pattern: url.then(|| sandbox.root().join("@fqrn@").display().to_string()),
    })
}

fn manifest(sandbox: &Sandbox) -> Vec<u8> {
    fs::read(sandbox.stratum0.directory().join(".cvmfspublished")).unwrap()
}

fn proof(sandbox: &Sandbox) -> Proof {
    Proof {
        whitelist: fs::read(sandbox.stratum0.directory().join(".cvmfswhitelist")).unwrap(),
        certificate: fs::read(sandbox.keys().join(format!("{REPOSITORY}.crt"))).unwrap(),
    }
}

fn message(manifest: &[u8]) -> Message {
    Message::about(repository(), manifest, "now")
}

#[tokio::test]
async fn a_manifest_is_believed_by_what_the_repository_serves_and_then_by_what_is_known() {
    let sandbox = Sandbox::new();
    let verifier = verifier(&sandbox, true);
    let first = message(&manifest(&sandbox));
    assert_eq!(verifier.verify(&first, None, NOW).await.unwrap().revision, 1);
    sandbox.publish("file", "content", "one");
    let second = message(&manifest(&sandbox));
    // Nothing is read again for ten minutes.
    let whitelist = sandbox.stratum0.directory().join(".cvmfswhitelist");
    fs::rename(&whitelist, sandbox.root().join("aside")).unwrap();
    assert_eq!(verifier.verify(&second, None, NOW).await.unwrap().revision, 2);
    let error = verifier.verify(&second, None, NOW + MAX_AGE).await.unwrap_err();
    assert!(matches!(&error, Refusal::Manifest { source, .. } if matches!(**source, Error::Missing(_))), "{error:?}");
}

#[tokio::test]
async fn a_manifest_is_believed_by_the_proof_that_comes_with_it() {
    let sandbox = Sandbox::new();
    let verifier = verifier(&sandbox, false);
    let message = message(&manifest(&sandbox));
    assert!(matches!(verifier.verify(&message, None, NOW).await, Err(Refusal::NoSource { .. })));
    assert_eq!(verifier.verify(&message, Some(&proof(&sandbox)), NOW).await.unwrap().revision, 1);
    assert_eq!(verifier.verify(&message, None, NOW).await.unwrap().revision, 1);
}

#[tokio::test]
async fn what_nobody_vouches_for_is_refused() {
    let sandbox = Sandbox::new();
    let verifier = verifier(&sandbox, true);
    let good = manifest(&sandbox);
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    let error = verifier.verify(&message(&bad), None, NOW).await.unwrap_err();
    assert!(
        matches!(&error, Refusal::Manifest { source, .. } if matches!(**source, Error::Untrusted { .. })),
        "{error:?}"
    );
    // Also when the repository is known already.
    verifier.verify(&message(&good), None, NOW).await.unwrap();
    assert!(verifier.verify(&message(&bad), None, NOW).await.is_err());
    let other = Message::about(RepositoryName::new("other.example.org").unwrap(), &good, "now");
    assert!(verifier.verify(&other, None, NOW).await.is_err());
    for garbage in [&b""[..], b"Cx\n--\nx\n", &good[..good.len() / 2]] {
        assert!(verifier.verify(&message(garbage), None, NOW).await.is_err());
    }
    let mut wrong = proof(&sandbox);
    wrong.certificate = NewKeys::generate(REPOSITORY, NOW).unwrap().signing.certificate.pem().into();
    let alone = self::verifier(&sandbox, false);
    assert!(alone.verify(&message(&good), Some(&wrong), NOW).await.is_err());
    fs::remove_file(sandbox.keys().join(format!("{REPOSITORY}.pub"))).unwrap();
    let error = alone.verify(&message(&good), Some(&proof(&sandbox)), NOW).await.unwrap_err();
    assert!(matches!(error, Refusal::NoKey { .. }), "{error:?}");
}

#[tokio::test]
async fn a_whitelist_whose_time_is_over_vouches_for_nothing() {
    let sandbox = Sandbox::new();
    let verifier = verifier(&sandbox, true);
    let message = message(&manifest(&sandbox));
    verifier.verify(&message, None, NOW).await.unwrap();
    let error = verifier.verify(&message, None, NOW + 400 * 86_400).await.unwrap_err();
    assert!(
        matches!(&error, Refusal::Manifest { source, .. } if matches!(**source, Error::Expired { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_key_of_a_domain_is_found_in_a_file_and_in_a_directory() {
    let sandbox = Sandbox::new();
    let (keys, message) = (sandbox.keys(), message(&manifest(&sandbox)));
    let own = keys.join(format!("{REPOSITORY}.pub"));
    fs::rename(&own, keys.join("example.org.pub")).unwrap();
    assert!(verifier(&sandbox, true).verify(&message, None, NOW).await.is_ok());
    fs::create_dir(keys.join("example.org")).unwrap();
    fs::rename(keys.join("example.org.pub"), keys.join("example.org/key-1.example.org.pub")).unwrap();
    assert!(verifier(&sandbox, true).verify(&message, None, NOW).await.is_ok());
}

#[tokio::test]
async fn a_repository_that_was_made_anew_is_told_from_one_that_was_late() {
    let sandbox = Sandbox::new();
    let first = message(&manifest(&sandbox));
    sandbox.publish("file", "content", "one");
    let second = message(&manifest(&sandbox));
    let verifier = verifier(&sandbox, true);
    let (old, new) =
        (verifier.verify(&first, None, NOW).await.unwrap(), verifier.verify(&second, None, NOW).await.unwrap());
    assert!(!verifier.is_void(&second, old).await, "the first was only late");
    assert!(!verifier.is_void(&first, new).await, "its certificate has its right");
    // Other keys, published later.
    let anew = Sandbox::with_new_keys(NOW + 60);
    fs::remove_dir_all(sandbox.root()).unwrap();
    fs::rename(anew.root(), sandbox.root()).unwrap();
    fs::remove_dir_all(sandbox.keys()).unwrap();
    fs::rename(anew.keys(), sandbox.keys()).unwrap();
    let third = message(&fs::read(sandbox.root().join(REPOSITORY).join(".cvmfspublished")).unwrap());
    let third = verifier.verify(&third, None, NOW + 60).await.unwrap();
    assert!(third.revision < new.revision && verifier.is_void(&second, third).await);
}
