//! What a script says: passed on in chunks while it runs, bounded in memory and in total.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How much of the end is kept for the report.
pub(super) const TAIL_BYTES: usize = 8 << 10;
/// How long a pipe is read after the last process that was known to write to it has ended.
const DRAIN: Duration = Duration::from_secs(2);
const CHUNK: usize = 16 << 10;

/// What is known of the output when it has ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Output {
    /// The last bytes, at most [`TAIL_BYTES`].
    pub(super) tail: Vec<u8>,
    /// All bytes written.
    pub(super) bytes: u64,
    /// Those beyond the limit, which were not passed on.
    pub(super) dropped: u64,
}

/// Reads a pipe to its end and passes on what is within the limit.
///
/// A slow receiver slows the script down rather than filling memory; one that is gone does not. `ended` says that no
/// process is left, so that a pipe which is still open then, in hands unknown, is not waited for.
pub(super) async fn pump(
    mut pipe: Receiver,
    sink: mpsc::Sender<Bytes>,
    limit: u64,
    ended: CancellationToken,
) -> Output {
    let mut output = Output::default();
    let mut buffer = vec![0; CHUNK];
    let given_up = async {
        ended.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::pin!(given_up);
    loop {
        let read = tokio::select! {
            read = pipe.read(&mut buffer) => read,
            () = &mut given_up => break,
        };
        let chunk = match read {
            Ok(n @ 1..) => &buffer[..n],
            Ok(0) | Err(_) => break,
        };
        let room = usize::try_from(limit.saturating_sub(output.bytes)).unwrap_or(usize::MAX);
        let (within, beyond) = chunk.split_at(room.min(chunk.len()));
        let first_beyond = output.dropped == 0 && !beyond.is_empty();
        output.bytes += chunk.len() as u64;
        output.dropped += beyond.len() as u64;
        keep_tail(&mut output.tail, chunk);
        if !within.is_empty() {
            // Nobody listens any more: then the tail has to do.
            let _ = sink.send(Bytes::copy_from_slice(within)).await;
        }
        if first_beyond {
            let note =
                format!("\n[conveyor: the output exceeds the limit of {limit} bytes, what follows is left out]\n");
            let _ = sink.send(note.into()).await;
        }
    }
    if output.dropped > 0 {
        let _ = sink.send(format!("[conveyor: {} bytes of output were left out]\n", output.dropped).into()).await;
    }
    output
}

fn keep_tail(tail: &mut Vec<u8>, chunk: &[u8]) {
    tail.extend_from_slice(&chunk[chunk.len().saturating_sub(TAIL_BYTES)..]);
    tail.drain(..tail.len().saturating_sub(TAIL_BYTES));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use super::*;

    async fn pumped(limit: u64, said: &'static [u8]) -> (Output, Vec<u8>) {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let reader = Receiver::from_owned_fd(reader.into()).unwrap();
        let (sender, mut receiver) = mpsc::channel::<Bytes>(1);
        let writing = tokio::task::spawn_blocking(move || writer.write_all(said).unwrap());
        let listening = async {
            let mut heard = Vec::new();
            while let Some(chunk) = receiver.recv().await {
                heard.extend_from_slice(&chunk);
            }
            heard
        };
        let (output, heard) = tokio::join!(pump(reader, sender, limit, CancellationToken::new()), listening);
        writing.await.unwrap();
        (output, heard)
    }

    #[tokio::test]
    async fn everything_within_the_limit_is_passed_on() {
        let (output, heard) = pumped(5, b"hello").await;
        assert_eq!(heard, b"hello");
        assert_eq!(output, Output { tail: b"hello".to_vec(), bytes: 5, dropped: 0 });
    }

    #[tokio::test]
    async fn beyond_the_limit_there_is_a_note_and_the_tail() {
        const SAID: &[u8] = &[b'x'; 1 << 20];
        let (output, heard) = pumped(100_000, SAID).await;
        assert_eq!((output.bytes, output.dropped), (1 << 20, (1 << 20) - 100_000));
        assert_eq!(output.tail.len(), TAIL_BYTES);
        let text = String::from_utf8(heard).unwrap();
        assert_eq!(text.matches('x').count() - text.matches("exceeds").count(), 100_000);
        assert!(text.contains("limit of 100000 bytes") && text.ends_with("948576 bytes of output were left out]\n"));
    }

    #[tokio::test]
    async fn a_listener_that_left_does_not_stop_the_script() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let reader = Receiver::from_owned_fd(reader.into()).unwrap();
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        let writing = tokio::task::spawn_blocking(move || writer.write_all(&[b'y'; 1 << 20]).unwrap());
        let output = pump(reader, sender, u64::MAX, CancellationToken::new()).await;
        writing.await.unwrap();
        assert_eq!((output.bytes, output.dropped, output.tail.len()), (1 << 20, 0, TAIL_BYTES));
    }

    #[tokio::test]
    async fn a_pipe_in_unknown_hands_is_not_waited_for() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let reader = Receiver::from_owned_fd(reader.into()).unwrap();
        let (sender, mut receiver) = mpsc::channel(8);
        writer.write_all(b"last words").unwrap();
        let ended = CancellationToken::new();
        ended.cancel();
        let output = pump(reader, sender, 100, ended).await;
        assert_eq!(output.tail, b"last words");
        assert_eq!(receiver.recv().await.unwrap(), "last words");
        drop(writer);
    }
}
