//! A client that publishes, at little cost to this process: its requests are made before the clock runs.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::server::TOKEN;

pub(crate) struct Publisher {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Publisher {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, answer: Vec::new() }
    }

    /// The request in the dialect of the gateway, which both servers know.
    pub(crate) fn request(message: &str) -> Vec<u8> {
        let length = message.len();
        format!(
            "POST /api/v1/notifications/publish HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{message}"
        )
        .into_bytes()
    }

    /// Sends a request and waits until it is accepted; fails where the server hangs up.
    pub(crate) async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request).await?;
        self.answer.clear();
        while !self.answer.contains(&b'}') {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let answer = String::from_utf8_lossy(&self.answer);
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#""status":"ok""#), "{answer}");
        Ok(())
    }
}
