//! A proxy before a node that loses one request, or the answer to it, and the connection with it: what makes the outcome of a write unknown. For a
//! cluster of one node, for a driver looks for all nodes at the port it came in by.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};

/// Version, flags, stream (2 bytes), opcode, length (4 bytes).
const HEADER: usize = 9;
const EXECUTE: u8 = 0x0a;
const BATCH: u8 = 0x0d;

/// What gets lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The request: it does not happen.
    Request,
    /// The answer: it happens.
    Answer,
}

/// The proxy, which ends when it is dropped.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    plan: Plan,
    task: JoinHandle<()>,
}

type Plan = Arc<Planned>;

#[derive(Default)]
struct Planned {
    /// How many prepared statements and batches pass before one is lost; nothing is when it is `None`.
    next: Mutex<Option<(usize, Lost)>>,
    lost: Notify,
}

impl Proxy {
    /// Listens before a node.
    ///
    /// # Panics
    /// Nothing can be listened on.
    pub async fn start(node: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (plan, node) = (Plan::default(), node.to_owned());
        let connections = plan.clone();
        #[expect(clippy::disallowed_methods, reason = "a part of tests, ended by its owner")]
        let task = tokio::spawn(async move {
            let mut pumps = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                pumps.spawn(pump(client, node.clone(), connections.clone()));
            }
        });
        Self { address, plan, task }
    }

    /// Loses one request or answer after so many others.
    pub fn lose(&self, after: usize, what: Lost) {
        *lock(&self.plan.next) = Some((after, what));
    }

    /// Loses nothing any more, and says whether it has since it was told to.
    #[must_use]
    pub fn heal(&self) -> bool {
        lock(&self.plan.next).take().is_none()
    }

    /// Until it has lost something, before anybody else can know.
    pub async fn lost(&self) {
        self.plan.lost.notified().await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Until either side ends, or something is to be lost.
async fn pump(client: TcpStream, node: String, plan: Plan) -> io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_node, mut to_node) = TcpStream::connect(node).await?.into_split();
    let unanswered = Mutex::new(None);
    let requests = async {
        loop {
            let frame = read(&mut from_client).await?;
            if matches!(frame[4], EXECUTE | BATCH) {
                match next(&plan) {
                    Some(Lost::Request) => {
                        plan.lost.notify_one();
                        return io::Result::Ok(());
                    }
                    Some(Lost::Answer) => *lock(&unanswered) = Some([frame[2], frame[3]]),
                    None => {}
                }
            }
            write(&mut to_node, &frame).await?;
        }
    };
    let answers = async {
        loop {
            let frame = read(&mut from_node).await?;
            if *lock(&unanswered) == Some([frame[2], frame[3]]) {
                plan.lost.notify_one();
                return io::Result::Ok(());
            }
            write(&mut to_client, &frame).await?;
        }
    };
    tokio::select! { ended = requests => ended, ended = answers => ended }
}

/// What is to be lost of this request.
fn next(plan: &Planned) -> Option<Lost> {
    let mut plan = lock(&plan.next);
    match &mut *plan {
        Some((0, what)) => {
            let what = *what;
            *plan = None;
            Some(what)
        }
        Some((after, _)) => {
            *after -= 1;
            None
        }
        None => None,
    }
}

async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; HEADER];
    from.read_exact(&mut frame).await?;
    let length = u32::from_be_bytes([frame[5], frame[6], frame[7], frame[8]]);
    frame.resize(HEADER + usize::try_from(length).map_err(io::Error::other)?, 0);
    from.read_exact(&mut frame[HEADER..]).await?;
    Ok(frame)
}

async fn write(to: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> io::Result<()> {
    to.write_all(frame).await
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
