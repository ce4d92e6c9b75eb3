//! The only file that names socket types: a listener, a stream, and `Link`, the little the rest of the crate asks of a stream.
//! Tests put a scripted link in the stream's place.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

/// Connections the kernel may hold ready for `accept`; RocketMQ's own number.
const BACKLOG: u32 = 1024;

/// What a connection asks of its socket.
pub(crate) trait Link: Send + Unpin + 'static {
    /// Reads what is there into `buffer`. `Ok(0)`: the other side has finished sending.
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;
    /// Writes as much of `slices` as the socket takes.
    fn poll_write(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;
    /// From now on the runtime around this call tells when the socket is ready.
    fn settle_here(&mut self) -> io::Result<()>;
}

/// One TCP connection.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
}

impl Stream {
    fn from_socket(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let (peer, local) = (socket.peer_addr()?, socket.local_addr()?);
        Ok(Self { socket, peer, local })
    }

    /// Connects to `address` (`host:port`), trying every address the name has.
    pub(crate) async fn connect(address: &str) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for candidate in lookup_host(address).await? {
            match TcpStream::connect(candidate).await {
                Ok(socket) => return Self::from_socket(socket),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Link for Stream {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut target = ReadBuf::new(buffer);
        Pin::new(&mut self.socket).poll_read(context, &mut target).map_ok(|()| target.filled().len())
    }

    fn poll_write(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match slices {
            [one] => Pin::new(&mut self.socket).poll_write(context, one),
            many => Pin::new(&mut self.socket).poll_write_vectored(context, many),
        }
    }

    fn settle_here(&mut self) -> io::Result<()> {
        let same = self.socket.as_fd().try_clone_to_owned()?;
        self.socket = TcpStream::from_std(same.into())?;
        Ok(())
    }
}

/// One listening address.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    pub(crate) local: SocketAddr,
}

impl Listener {
    /// Listens on `address`; needs a tokio runtime around it.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let socket = socket.listen(BACKLOG)?;
        let local = socket.local_addr()?;
        Ok(Self { socket, local })
    }

    /// Waits for the next connection.
    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        let (socket, _) = self.socket.accept().await?;
        Stream::from_socket(socket)
    }
}
