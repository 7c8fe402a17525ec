//! Subscribers that cost this process little: they count ends of messages and read nothing else.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sse,
    WebSocket,
}

pub(crate) struct Subscriber {
    stream: TcpStream,
}

impl Subscriber {
    /// Asks for a repository, of which nothing was published yet.
    pub(crate) async fn connect(dialect: Dialect, address: SocketAddr, repository: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let body = format!("{{\"version\":1,\"repository\":\"{repository}\"}}");
        let request = match dialect {
            Dialect::Sse => format!(
                "GET /api/v1/notifications/subscribe HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
            Dialect::WebSocket => format!(
                "GET /api/v1/subscribe HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            ),
        };
        stream.write_all(request.as_bytes()).await.expect("it takes the request");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("an answer"));
        }
        if dialect == Dialect::WebSocket {
            // A text frame with a mask of zeros.
            let length = u8::try_from(body.len()).expect("a short request");
            let frame = [&[0x81, 0x80 | length, 0, 0, 0, 0][..], body.as_bytes()].concat();
            stream.write_all(&frame).await.expect("it takes the frame");
        }
        Self { stream }
    }

    /// Waits for an event; no more come where the connection ends.
    pub(crate) async fn event(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let mut seen = false;
        loop {
            match self.stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return false,
                // The message is the only thing that has a brace.
                Ok(count) => seen |= buffer[..count].contains(&b'}'),
            }
            if seen {
                return true;
            }
        }
    }
}
