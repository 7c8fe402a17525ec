//! A stand-in for the C++ client's end of a stream of events: libcurl's part and the parser's, with their weaknesses and no others.
//!
//! Measured with `cvmfs_swissknife notify -s` 2.12: libcurl gives each chunk to the parser by itself, whatever one read brings, and the
//! parser takes the first line of what it is given for a message, to the end of the *read*. So of two events in one chunk the second is
//! lost, and of two chunks in one read none is.

/// The stream ended with the last chunk: libcurl calls that a success, and the client never asks again. Where it ends in any other way it
/// does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finished;

/// What comes on one connection.
#[derive(Default)]
pub(crate) struct CppStream {
    /// What belongs to no chunk yet: the head, or the line before a chunk.
    raw: Vec<u8>,
    has_head: bool,
    /// Bytes that the chunk still has, with the line break behind it.
    left: usize,
    /// Of a message that is not whole yet.
    message: String,
}

impl CppStream {
    pub(crate) fn has_head(&self) -> bool {
        self.has_head
    }

    /// What the client was told by one read.
    #[track_caller]
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Result<Vec<String>, Finished> {
        const BREAK: usize = 2;
        let mut told = Vec::new();
        while !bytes.is_empty() {
            if self.left > BREAK {
                let piece = bytes.len().min(self.left - BREAK);
                told.extend(self.parse(&String::from_utf8_lossy(bytes)));
                self.left -= piece;
                bytes = &bytes[piece..];
            } else if self.left > 0 {
                let piece = bytes.len().min(self.left);
                self.left -= piece;
                bytes = &bytes[piece..];
            } else {
                let end: &[u8] = if self.has_head { b"\r\n" } else { b"\r\n\r\n" };
                self.raw.push(bytes[0]);
                bytes = &bytes[1..];
                if !self.raw.ends_with(end) {
                    continue;
                }
                let text = String::from_utf8(std::mem::take(&mut self.raw)).unwrap().to_ascii_lowercase();
                if self.has_head {
                    match usize::from_str_radix(text.trim_end(), 16).unwrap() {
                        0 => return Err(Finished),
                        size => self.left = size + BREAK,
                    }
                } else {
                    assert!(text.starts_with("http/1.1 200 ok\r\n"), "{text}");
                    assert!(text.contains("\r\ncontent-type: text/event-stream\r\n"), "{text}");
                    assert!(text.contains("\r\ncache-control: no-cache\r\n"), "{text}");
                    assert!(text.contains("\r\ntransfer-encoding: chunked\r\n"), "{text}");
                    self.has_head = true;
                }
            }
        }
        Ok(told)
    }

    /// A call of the parser: `text` begins with a chunk, or the rest of one, and goes on to the end of the read.
    #[track_caller]
    fn parse(&mut self, text: &str) -> Option<String> {
        let line = text.split('\n').next().unwrap_or_default();
        self.message += line.strip_prefix("data: ").unwrap_or(line);
        if !text.contains('\n') {
            return None;
        }
        let message = std::mem::take(&mut self.message);
        // The real one ends the connection where it cannot read a message.
        let keys: serde_json::Value =
            serde_json::from_str(&message).unwrap_or_else(|error| panic!("{error}: no message: {text:?}"));
        for key in ["version", "timestamp", "type", "repository", "manifest"] {
            assert!(keys.get(key).is_some(), "no {key}: {message}");
        }
        Some(message)
    }
}

/// A request to subscribe, as libcurl sends it.
pub(crate) fn cpp_request(address: &str, repository: &str) -> String {
    let body = format!("{{\"version\":1,\"repository\":\"{repository}\"}}");
    format!(
        "GET /api/v1/notifications/subscribe HTTP/1.1\r\nHost: {address}\r\nAccept: */*\r\nContent-Length: {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn the_stand_in_loses_the_second_event_of_a_chunk_and_of_a_read_none() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let event = |number| {
        format!(
            "data: {{\"version\":1,\"timestamp\":\"\",\"type\":\"\",\"repository\":\"\",\"manifest\":{number}}}\n\n"
        )
    };
    let chunk = |data: &str| format!("{:x}\r\n{data}\r\n", data.len());
    let numbers = |told: Vec<String>| -> Vec<u64> {
        let number = |told: &String| serde_json::from_str::<serde_json::Value>(told).unwrap()["manifest"].as_u64();
        told.iter().map(|told| number(told).unwrap()).collect()
    };
    let mut stream = CppStream::default();
    let first = [head, &chunk(&event(1)), &chunk(&event(2)), &chunk(&(event(3) + &event(4)))].concat();
    assert_eq!(numbers(stream.read(first.as_bytes()).unwrap()), [1, 2, 3]);
    let (fifth, mut told) = (chunk(&event(5)), Vec::new());
    for part in fifth.as_bytes().chunks(40) {
        told.extend(stream.read(part).unwrap());
    }
    assert_eq!(numbers(told), [5]);
    assert_eq!(stream.read(b"0\r\n\r\n").unwrap_err(), Finished);
}
