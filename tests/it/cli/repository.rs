//! `conveyor repository`.

use std::os::unix::fs::MetadataExt;

use crate::harness::{Place, Run, bare};

#[test]
fn a_repository_is_made_listed_shown_and_signed_anew() {
    let place = Place::new();
    let (repositories, keys) = (place.path().join("repositories"), place.path().join("keys"));
    let run = |arguments: &[&str]| {
        let mut command = bare(place.path());
        command
            .arg("repository")
            .args(arguments)
            .arg("--repositories-dir")
            .arg(&repositories)
            .arg("--keys-dir")
            .arg(&keys);
        Run::of(&command.output().unwrap())
    };
    let good = |arguments: &[&str]| {
        let run = run(arguments);
        assert_eq!(run.code, 0, "{run:?}");
        run
    };
    for directory in [&repositories, &keys] {
        std::fs::create_dir(directory).unwrap();
    }
    let made = good(&["create", "b.example.org"]).last();
    assert_eq!(made["repository"], "b.example.org");
    good(&["create", "a.example.org"]);
    let listed: Vec<_> = good(&["list"]).lines().iter().map(|line| line["repository"].clone()).collect();
    assert_eq!(listed, ["a.example.org", "b.example.org"]);
    assert_eq!(good(&["show", "b.example.org"]).last(), made);
    let signed = good(&["resign", "b.example.org"]).last();
    assert_eq!((&signed["revision"], &signed["root_hash"]), (&made["revision"], &made["root_hash"]));

    for key in ["b.example.org.key", "b.example.org.masterkey"] {
        if let Ok(metadata) = std::fs::metadata(keys.join(key)) {
            assert_eq!(metadata.mode() & 0o077, 0, "{key} is for its owner alone");
        }
    }
    let checked = good(&["check", "b.example.org", "--data", "verify"]).last();
    assert_eq!((&checked["clean"], &checked["catalogs"], &checked["entries"]), (&true.into(), &1.into(), &1.into()));
    let root_hash = made["root_hash"].as_str().unwrap();
    assert_eq!(good(&["diff", "b.example.org", root_hash, "1"]).stdout, "");
    let unknown = run(&["diff", "b.example.org", "1", "release"]);
    assert!(unknown.code == 1 && unknown.stderr.contains("\"release\""), "{unknown:?}");
    std::fs::remove_file(repositories.join("a.example.org/.cvmfsreflog")).unwrap();
    let warned = good(&["check", "a.example.org"]).lines();
    assert_eq!((&warned[0]["code"], &warned[0]["severity"]), (&"reflog-missing".into(), &"warning".into()));
    std::fs::write(repositories.join("a.example.org/.cvmfsreflog"), "").unwrap();
    let damaged = run(&["check", "a.example.org"]);
    assert_eq!((damaged.code, &damaged.last()["clean"]), (1, &false.into()), "{damaged:?}");

    for wrong in [&["create", "b.example.org"][..], &["show", "c.example.org"], &["resign", "c.example.org"]] {
        let run = run(wrong);
        assert_eq!(run.code, 1, "{run:?}");
        assert!(run.stderr.contains(wrong[1]), "{run:?}");
    }
    assert_eq!(run(&["create", "../x"]).code, 2);
    assert_eq!(good(&["show", "b.example.org"]).last()["revision"], made["revision"]);
}
