//! `.cvmfsdirtab` in the model: written anew and as simply as it goes, to disagree with the code under test.

/// Rules that ask for catalogs, and rules that take matches out.
pub(super) type Rules = (Vec<Vec<u8>>, Vec<Vec<u8>>);

/// The rules of a file; `None` if they make no sense.
pub(super) fn parse(text: &[u8]) -> Option<Rules> {
    let mut rules = Rules::default();
    for line in text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
        match line.first() {
            None | Some(b'#') => {}
            Some(b'!') => rules.1.push(line[1..].trim_ascii().to_vec()),
            Some(b'/') => rules.0.push(line.to_vec()),
            Some(_) => return None,
        }
    }
    Some(rules)
}

/// Tells whether a catalog is to begin at a directory.
pub(super) fn ask_for((wanted, unwanted): &Rules, directory: &[u8]) -> bool {
    let path = [b"/", directory].concat();
    wanted.iter().any(|rule| matches(rule, &path, false)) && !unwanted.iter().any(|rule| matches(rule, &path, true))
}

/// A star stays within a name unless it is told to cross directories.
fn matches(rule: &[u8], path: &[u8], cross: bool) -> bool {
    match (rule, path) {
        ([], _) => path.is_empty(),
        ([b'*', rest @ ..], _) => {
            matches(rest, path, cross)
                || path.split_first().is_some_and(|(byte, path)| (cross || *byte != b'/') && matches(rule, path, cross))
        }
        ([b'?', rest @ ..], [byte, path @ ..]) => *byte != b'/' && matches(rest, path, cross),
        ([b'\\', escaped, rest @ ..], [byte, path @ ..]) => escaped == byte && matches(rest, path, cross),
        ([byte, rest @ ..], [other, path @ ..]) => byte == other && matches(rest, path, cross),
        _ => false,
    }
}
