//! Ports that stay a test's own while nobody listens there.

use tokio::net::TcpSocket;

/// A port of 127.0.0.1, bound and not listened at: who connects is refused, who asks for any free port gets another one, and
/// whoever sets `SO_REUSEADDR`, as servers do, may listen there, again and again.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _bound: TcpSocket,
}

impl Port {
    pub(crate) fn reserve() -> Self {
        let bound = TcpSocket::new_v4().unwrap();
        bound.set_reuseaddr(true).unwrap();
        bound.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self { number: bound.local_addr().unwrap().port(), _bound: bound }
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// What to listen at.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}

#[test]
fn a_reserved_port_is_nobodys_and_can_be_listened_at_again_and_again() {
    use std::net::{TcpListener, TcpStream};
    let port = Port::reserve();
    for _ in 0..3 {
        assert!(TcpStream::connect(port.address()).is_err());
        let listener = TcpListener::bind(port.address()).unwrap();
        let (client, server) = (TcpStream::connect(port.address()).unwrap(), listener.accept().unwrap());
        // The server's end goes first, so that what is left of the connection is at its port.
        drop(server);
        drop((client, listener));
    }
}
