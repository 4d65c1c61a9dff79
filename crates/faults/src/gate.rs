//! A way in that can be shut: a TCP proxy on loopback in front of one or more addresses. Clients reach the gateways through one, whichever is
//! up; a process reaches the CQL nodes through others that cut it off, slow it down or swallow what is answered.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// How it lets through what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    /// All of it, at once.
    Open,
    /// Nothing: connections end, new ones are closed.
    Shut,
    /// All of it, each way this much later.
    Slow(Duration),
    /// What is asked, not what is answered: whoever asked does not know what became of it.
    Swallowing,
}

/// A proxy. Ends when dropped.
pub(crate) struct Gate {
    pub(crate) address: SocketAddr,
    passage: watch::Sender<Passage>,
    task: JoinHandle<()>,
}

impl Gate {
    /// Listens at an address and leads to the first of these that takes a connection, beginning with another one each time.
    pub(crate) async fn open(listen: SocketAddr, targets: Vec<SocketAddr>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        let address = listener.local_addr()?;
        let (passage, seen) = watch::channel(Passage::Open);
        #[expect(clippy::disallowed_methods, reason = "ends with the gate")]
        let task = tokio::spawn(serve(listener, Arc::new(targets), seen));
        Ok(Self { address, passage, task })
    }

    pub(crate) fn set(&self, passage: Passage) {
        self.passage.send_replace(passage);
    }

    /// Ends it; its address is free then.
    pub(crate) async fn close(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, targets: Arc<Vec<SocketAddr>>, passage: watch::Receiver<Passage>) {
    let next = AtomicUsize::new(0);
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let first = next.fetch_add(1, Ordering::Relaxed);
        let (targets, passage) = (Arc::clone(&targets), passage.clone());
        connections.spawn(async move {
            if *passage.borrow() == Passage::Shut {
                return;
            }
            for place in 0..targets.len() {
                if let Ok(server) = TcpStream::connect(targets[(first + place) % targets.len()]).await {
                    carry(client, server, passage).await;
                    return;
                }
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(client: TcpStream, server: TcpStream, mut passage: watch::Receiver<Passage>) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (ask, answer) = (passage.clone(), passage.clone());
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    tokio::select! {
        () = copy(client_in, server_out, ask, false) => {}
        () = copy(server_in, client_out, answer, true) => {}
        _ = passage.wait_for(|passage| *passage == Passage::Shut) => {}
    }
}

async fn copy(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    passage: watch::Receiver<Passage>,
    answers: bool,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read) = from.read(&mut buffer).await {
        let now = *passage.borrow();
        match now {
            _ if read == 0 => return,
            Passage::Swallowing if answers => continue,
            Passage::Slow(delay) => tokio::time::sleep(delay).await,
            Passage::Open | Passage::Shut | Passage::Swallowing => {}
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
