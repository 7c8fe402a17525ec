//! What `nix/package.nix` relies on.

use super::root;

/// Lines that it rewrites: a build fails where one of them is not in each of the units.
#[test]
fn units_have_the_paths_that_the_package_replaces() {
    let package = std::fs::read_to_string(root().join("nix/package.nix")).unwrap();
    let mut units = 0;
    for entry in std::fs::read_dir(root().join("systemd")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "service") {
            continue;
        }
        let unit = std::fs::read_to_string(&path).unwrap();
        for replaced in ["/usr/bin/conveyor", "/bin/kill"] {
            assert!(package.contains(&format!("--replace-fail {replaced} ")), "{replaced}");
            assert!(unit.contains(replaced), "{} has no {replaced}", path.display());
        }
        // NixOS has no other program at a path like these.
        let rest = unit.replace("/usr/bin/conveyor", "").replace("/bin/kill", "");
        let foreign = rest.lines().filter(|line| line.starts_with("Exec")).find(|line| line.contains("/bin/"));
        assert_eq!(foreign, None, "{}", path.display());
        units += 1;
    }
    assert!(units > 1);
}
