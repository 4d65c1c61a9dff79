//! A way to the brokers that can be cut, and on which they speak TLS. Each broker gets an address of the proxy's own, and whatever a broker
//! says of addresses is rewritten to these, so that a client that begins here stays here.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::{
    io::{self, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// As long as it lives.
pub(crate) struct Proxy {
    addresses: Vec<SocketAddr>,
    state: Arc<watch::Sender<State>>,
    _tasks: JoinSet<()>,
}

/// Connections live as long as it does not change.
#[derive(Clone, Copy, PartialEq)]
struct State {
    cuts: u64,
    is_blocked: bool,
}

/// A broker's address in an answer, and what is put in its place.
type Rewrite = (Vec<u8>, Vec<u8>);

impl Proxy {
    /// In front of these brokers, `host:port` separated by commas, whose hosts are addresses and are what the brokers call themselves.
    pub(crate) async fn start(brokers: &str) -> Self {
        Self::before(brokers, None).await
    }

    /// In front of these brokers, encrypted on the side of the clients.
    #[cfg(feature = "tls")]
    pub(crate) async fn encrypted(brokers: &str, acceptor: TlsAcceptor) -> Self {
        Self::before(brokers, Some(acceptor)).await
    }

    async fn before(brokers: &str, acceptor: Option<TlsAcceptor>) -> Self {
        let brokers: Vec<SocketAddr> = brokers.split(',').map(|broker| broker.trim().parse().expect("an address")).collect();
        let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
        for _ in &brokers {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
            addresses.push(listener.local_addr().expect("an address"));
            listeners.push(listener);
        }
        let named = |address: &SocketAddr, port: u16| {
            let host = address.ip().to_string().into_bytes();
            [host, u32::from(port).to_be_bytes().to_vec()].concat()
        };
        // The host stays, since another length would change more than the address.
        let rewrites: Vec<Rewrite> =
            brokers.iter().zip(&addresses).map(|(broker, own)| (named(broker, broker.port()), named(broker, own.port()))).collect();
        let rewrites: Arc<[Rewrite]> = rewrites.into();
        let state = Arc::new(watch::Sender::new(State { cuts: 0, is_blocked: false }));
        let mut tasks = JoinSet::new();
        for (listener, broker) in listeners.into_iter().zip(brokers) {
            tasks.spawn(accept(listener, broker, acceptor.clone(), Arc::clone(&state), Arc::clone(&rewrites)));
        }
        Self { addresses, state, _tasks: tasks }
    }

    /// Where clients begin.
    pub(crate) fn brokers(&self) -> String {
        self.addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",")
    }

    /// Ends every connection wherever it is; new ones are taken.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Ends every connection and takes no new one, or takes them again.
    pub(crate) fn block(&self, is_blocked: bool) {
        self.state.send_modify(|state| state.is_blocked = is_blocked);
    }
}

async fn accept(
    listener: TcpListener,
    broker: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    state: Arc<watch::Sender<State>>,
    rewrites: Arc<[Rewrite]>,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let mut state = state.subscribe();
        let began = *state.borrow_and_update();
        if began.is_blocked {
            continue;
        }
        let (rewrites, acceptor) = (Arc::clone(&rewrites), acceptor.clone());
        let joined = async move {
            client.set_nodelay(true)?;
            match acceptor {
                Some(acceptor) => join(acceptor.accept(client).await?, broker, &rewrites).await,
                None => join(client, broker, &rewrites).await,
            }
        };
        connections.spawn(async move {
            tokio::select! {
                _ = state.wait_for(|state| *state != began) => {}
                _ = joined => {}
            }
        });
    }
}

async fn join(client: impl AsyncRead + AsyncWrite, broker: SocketAddr, rewrites: &[Rewrite]) -> io::Result<()> {
    let broker = TcpStream::connect(broker).await?;
    broker.set_nodelay(true)?;
    let ((mut asking, told), (answering, mut asked)) = (io::split(client), broker.into_split());
    tokio::select! {
        ended = io::copy(&mut asking, &mut asked) => ended.map(|_| ()),
        ended = answer(answering, told, rewrites) => ended,
    }
}

/// Passes answers on, each whole: a length and as many bytes.
async fn answer(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, rewrites: &[Rewrite]) -> io::Result<()> {
    loop {
        let length = from.read_u32().await?;
        let mut answer = vec![0; length as usize];
        from.read_exact(&mut answer).await?;
        for (named, own) in rewrites {
            let places: Vec<usize> =
                answer.windows(named.len()).enumerate().filter(|(_, bytes)| bytes == named).map(|(place, _)| place).collect();
            for place in places {
                answer[place..place + own.len()].copy_from_slice(own);
            }
        }
        to.write_u32(length).await?;
        to.write_all(&answer).await?;
        to.flush().await?;
    }
}
