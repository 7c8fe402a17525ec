//! A client that is told, in either dialect.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::repositories::name;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sse,
    WebSocket,
}

impl Dialect {
    /// Half of them each.
    pub(crate) fn of(number: usize) -> Self {
        if number.is_multiple_of(2) { Self::Sse } else { Self::WebSocket }
    }

    /// Where the first message begins and ends, and where what follows it begins, once all of it is there.
    fn first(self, bytes: &[u8]) -> Option<(usize, usize, usize)> {
        let (start, end, next) = match self {
            // One chunk is one event: `data: `, the message, two line breaks.
            Self::Sse => {
                let head = bytes.windows(2).position(|two| two == b"\r\n")?;
                let length = usize::from_str_radix(std::str::from_utf8(&bytes[..head]).unwrap(), 16).unwrap();
                let start = head + 2;
                (start + b"data: ".len(), start + length - 2, start + length + 2)
            }
            // A frame of a server has no mask.
            Self::WebSocket => {
                assert_eq!(*bytes.first()?, 0x82, "a binary frame");
                let (start, length) = match *bytes.get(1)? {
                    126 => (4, u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()).into()),
                    127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap())).unwrap()),
                    short => (2, short.into()),
                };
                (start, start + length, start + length)
            }
        };
        (bytes.len() >= next).then_some((start, end, next))
    }
}

pub(crate) struct Subscriber {
    dialect: Dialect,
    stream: TcpStream,
    /// What is read and not taken.
    bytes: Vec<u8>,
}

impl Subscriber {
    /// Asks for the messages about a repository. `window` limits the bytes that the kernel takes for it.
    pub(crate) async fn connect(dialect: Dialect, server: SocketAddr, number: usize, window: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = window {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let mut stream = socket.connect(server).await.unwrap();
        let body = format!("{{\"version\":1,\"repository\":\"{}\"}}", name(number));
        let request = match dialect {
            Dialect::Sse => format!(
                "GET /api/v1/notifications/subscribe HTTP/1.1\r\nHost: bench\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
            Dialect::WebSocket => "GET /api/v1/subscribe HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\n\
                 Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                .to_owned(),
        };
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let end = loop {
            assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "the server hung up");
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let status = if dialect == Dialect::Sse { "HTTP/1.1 200 " } else { "HTTP/1.1 101 " };
        assert!(bytes.starts_with(status.as_bytes()), "{}", String::from_utf8_lossy(&bytes));
        bytes.drain(..end);
        if dialect == Dialect::WebSocket {
            // A text frame with a mask of zeros.
            let length = u8::try_from(body.len()).unwrap();
            let frame = [&[0x81, 0x80 | length, 0, 0, 0, 0][..], body.as_bytes()].concat();
            stream.write_all(&frame).await.unwrap();
        }
        Self { dialect, stream, bytes }
    }

    /// Waits for the next message; no more come where the server ends the stream.
    pub(crate) async fn event(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some((start, end, next)) = self.dialect.first(&self.bytes) {
                let message = self.bytes[start..end].to_vec();
                self.bytes.drain(..next);
                // Ten thousand of them are to fit.
                self.bytes.shrink_to(0);
                return Some(message);
            }
            if !matches!(self.stream.read_buf(&mut self.bytes).await, Ok(count) if count > 0) {
                return None;
            }
        }
    }
}
