//! Payloads from this machine: archives, scripts, paths to remove.

use std::io::Write;
use std::path::PathBuf;

use crate::harness::{Dev, REPOSITORY, packed};

fn write(dev: &Dev, name: &str, content: &[u8]) -> String {
    let path: PathBuf = dev.base().join(name);
    std::fs::write(&path, content).unwrap();
    path.into_os_string().into_string().unwrap()
}

#[test]
fn an_archive_is_taken_in_every_compression() {
    let dev = Dev::start();
    let plain = |name: &str| packed(&[("folder/name", name)]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&plain("gz")).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 6);
    xz.write_all(&plain("xz")).unwrap();
    let archives = [
        ("tar", plain("tar")),
        ("gz", gzip.finish().unwrap()),
        ("zst", zstd::encode_all(&plain("zst")[..], 3).unwrap()),
        ("xz", xz.finish().unwrap()),
    ];
    for (name, archive) in archives {
        // The name says nothing: the content does.
        let path = write(&dev, &format!("archive-{name}"), &archive);
        let lease = format!("/packed/{name}");
        let run = dev.program().good(&["submit", "-r", REPOSITORY, "-l", &lease, "--tarball", &path, "--wait"]);
        assert_eq!(run.last()["name"], format!("archive-{name}").as_str());
        assert_eq!(dev.published(&format!("packed/{name}/folder/name")).unwrap(), name.as_bytes());
    }
}

#[test]
fn a_file_that_is_not_its_checksum_is_not_even_uploaded() {
    let dev = Dev::start();
    let archive = packed(&[("a", "a")]);
    let path = write(&dev, "a.tar", &archive);
    let digest = conveyor::domain::digest::Sha256Digest::of(&archive);
    let submit = |checksum: &str| {
        dev.program().run(&["submit", "-r", REPOSITORY, "--tarball", &path, "--checksum", checksum, "-w"])
    };
    let run = submit(&"0".repeat(40));
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("nothing was submitted") && run.stdout.is_empty(), "{run:?}");
    assert!(!dev.state().join("blobs").join(&digest.to_hex()[..2]).exists());
    assert_eq!(dev.program().good(&["list"]).stdout, "");
    assert_eq!(submit(&digest.to_string()).code, 0);
}

#[test]
fn a_script_gets_its_arguments_and_a_delete_removes_its_paths() {
    let dev = Dev::start();
    let text = "#!/bin/sh\nset -e\necho \"$@\" >deep/lease/arguments\necho 1 >deep/lease/a\nmkdir deep/lease/d\necho 2 >deep/lease/d/b\n";
    let script = write(&dev, "install.sh", text.as_bytes());
    let lease = "/deep/lease";
    dev.program().good(&[
        "submit",
        "-r",
        REPOSITORY,
        "-l",
        lease,
        "--script",
        &script,
        "-w",
        "1.0",
        "--",
        "--with docs",
    ]);
    let arguments = dev.published("deep/lease/arguments").unwrap();
    assert_eq!(arguments, format!("{REPOSITORY} {lease} 1.0 --with docs\n").as_bytes());

    let paths = ["/deep/lease/a", "deep/lease/d", "/deep/lease/absent"];
    let delete = ["--delete", paths[0], "--delete", paths[1], "--delete", paths[2]];
    let run = dev.program().good(&[&["submit", "-r", REPOSITORY, "-l", lease, "-w"][..], &delete].concat());
    assert!(dev.log(run.job_id()).contains("/deep/lease/absent was not there"));
    assert!(dev.published("deep/lease/a").is_none() && dev.published("deep/lease/d/b").is_none());
    assert!(dev.published("deep/lease/arguments").is_some());
}
