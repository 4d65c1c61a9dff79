//! Accounts, graph and moments as they run, in this process, on one log and one store in a folder of their own, with a clock that stands
//! still unless it is moved. Chat is the shortest thing that opens conversations; people are put into accounts' rows, for a thousand
//! passwords take longer to hash than all that is tested here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context;
use plaza_accounts::{
    domain::{self, Lineage},
    store::Registration,
};
use plaza_embedded_db::{Db, Options};
use plaza_event_log::{EventLog, Reader, Topic, TopicPartition, embedded::EmbeddedLog};
use plaza_processor::{Envelope, Outcome, Replies};
use plaza_proto::{
    chat::v1::{Entry, MomentsNotice, entry},
    moments::v1::{self as moments, moments_service_client::MomentsServiceClient},
};
use plaza_rpc::{Identity, PageTokens, Peer, StackDeps, stack};
use plaza_runtime::{Clock, Rng, Stage, Supervisor};
use plaza_telemetry::RpcMetrics;
use plaza_topics::{CHAT, INBOX, conversation, inbox};
use plaza_types::{ClientId, DeviceId, UserId};
use prost::Message;

const PARTITIONS: u32 = 2;
const START: u64 = 1_700_006_400_000_000;
/// Everything takes so long, so that nothing happens at the same time as something else of its history.
const TICK: Duration = Duration::from_millis(1);

/// What each user's inbox was told of Moments.
type Hints = Arc<Mutex<HashMap<UserId, Vec<MomentsNotice>>>>;

/// What runs.
pub(crate) struct Services {
    pub(crate) accounts: Peer,
    pub(crate) graph: Peer,
    pub(crate) moments: Peer,
    /// Ids of a post and of a comment that are gone.
    pub(crate) gone: (String, String),
    hints: Hints,
    people: Arc<dyn plaza_accounts::store::Store>,
    clock: Clock,
    rng: Rng,
    _folder: tempfile::TempDir,
}

impl Services {
    pub(crate) async fn start() -> anyhow::Result<Arc<Self>> {
        let folder = tempfile::tempdir()?;
        let db = Db::open(folder.path(), Options::default())?;
        let (clock, rng) = (Clock::manual(START), Rng::seeded(START));
        let log_clock = clock.clone();
        let topics: Vec<(Topic, u32)> = plaza_topics::all().map(|topic| (topic, PARTITIONS)).collect();
        let log = EmbeddedLog::open(&db, &topics, move || log_clock.now_micros())?;
        let (replies, supervisor, page_tokens) = (Replies::new(7), Supervisor::new(), PageTokens::new([3; 32]));
        let hints = Hints::default();
        let metrics = StackDeps { metrics: RpcMetrics::new() };
        let (accounts, graph, moments) = (Peer::slot(), Peer::slot(), Peer::slot());
        let people: Arc<dyn plaza_accounts::store::Store> = Arc::new(plaza_accounts::Embedded::open(&db)?);

        let deps = plaza_accounts::Deps {
            store: people.clone(),
            log: log.clone(),
            peers: plaza_accounts::Peers { graph: graph.clone() },
            clock: clock.clone(),
            rng: rng.clone(),
            supervisor: supervisor.clone(),
            page_tokens: page_tokens.clone(),
        };
        let built = plaza_accounts::build(plaza_accounts::Config::default(), deps).await?;
        accounts.bind(Peer::in_process(stack("accounts", built.routes, &metrics)));
        let deps = plaza_graph::Deps {
            store: Arc::new(plaza_graph::Embedded::open(&db)?),
            log: log.clone(),
            replies: replies.clone(),
            peers: plaza_graph::Peers { accounts: accounts.clone() },
            clock: clock.clone(),
            rng: rng.clone(),
            supervisor: supervisor.clone(),
            page_tokens: page_tokens.clone(),
        };
        let built = plaza_graph::build(plaza_graph::Config::default(), deps).await?;
        graph.bind(Peer::in_process(stack("graph", built.routes, &metrics)));
        let deps = plaza_moments::Deps {
            store: Arc::new(plaza_moments::Embedded::open(&db)?),
            log: log.clone(),
            replies: replies.clone(),
            peers: plaza_moments::Peers { graph: graph.clone(), accounts: accounts.clone() },
            clock: clock.clone(),
            rng: rng.clone(),
            supervisor: supervisor.clone(),
            page_tokens,
        };
        let built = plaza_moments::build(plaza_moments::Config::default(), deps).await?;
        moments.bind(Peer::in_process(stack("moments", built.routes, &metrics)));
        for partition in 0..PARTITIONS {
            let reader = log.reader(TopicPartition { topic: CHAT, partition }, 0).await?;
            supervisor.spawn("conversations", Stage::Consumers, open_conversations(reader, replies.clone()));
            let reader = log.reader(TopicPartition { topic: INBOX, partition }, 0).await?;
            supervisor.spawn("inboxes", Stage::Consumers, keep_hints(reader, hints.clone()));
        }
        let mut services = Self { accounts, graph, moments, gone: Default::default(), hints, people, clock, rng, _folder: folder };
        services.gone = services.make_and_delete().await?;
        Ok(Arc::new(services))
    }

    async fn make_and_delete(&self) -> anyhow::Result<(String, String)> {
        let founder = self.newcomer().await?;
        let mut moments = MomentsServiceClient::new(self.moments.clone());
        let content = Some(moments::PostContent { text: "the first".to_owned(), ..Default::default() });
        let create = moments::CreatePostRequest { request_id: self.new_id(), content, ..Default::default() };
        let post_id = moments.create_post(founder.request(create)).await?.into_inner().post.context("no post")?.post_id;
        let text = "the first".to_owned();
        let comment = moments::CommentRequest { post_id: post_id.clone(), text, request_id: self.new_id(), reply_to: None };
        let comment_id = moments.comment(founder.request(comment)).await?.into_inner().comment.context("no comment")?.comment_id;
        let delete = moments::DeleteCommentRequest { comment_id: comment_id.clone(), request_id: self.new_id() };
        moments.delete_comment(founder.request(delete)).await?;
        let delete = moments::DeletePostRequest { post_id: post_id.clone(), request_id: self.new_id() };
        moments.delete_post(founder.request(delete)).await?;
        Ok((post_id, comment_id))
    }

    /// Somebody with an account.
    pub(crate) async fn newcomer(&self) -> anyhow::Result<Identity> {
        let now = self.clock.now_micros();
        let (user, device) = (UserId::new(now, self.rng.bytes()), DeviceId::new(now, self.rng.bytes()));
        let registration = Registration {
            request: ClientId::new(now, self.rng.bytes()),
            fingerprint: [0; 32],
            handle_key: user.to_string(),
            user: domain::User {
                id: user,
                version: 1,
                handle: user.to_string(),
                password: String::new(),
                created: now,
                profile: domain::Profile::default(),
                settings: domain::Settings::default(),
            },
            device: domain::Device {
                id: device,
                version: 1,
                name: String::new(),
                platform: String::new(),
                created: now,
                last_seen: now,
                lineage: Lineage::new([0; 32], [0; 32], now),
            },
        };
        self.people.register(&registration).await?;
        Ok(Identity { user, device })
    }

    /// What somebody's inbox was told of Moments.
    pub(crate) fn hints(&self, user: UserId) -> Vec<MomentsNotice> {
        self.hints.lock().expect("nobody panicked").get(&user).cloned().unwrap_or_default()
    }

    pub(crate) fn new_id(&self) -> String {
        ClientId::new(self.clock.now_micros(), self.rng.bytes()).to_string()
    }

    pub(crate) fn tick(&self) {
        self.clock.advance(TICK);
    }

    pub(crate) fn wait(&self, time: Duration) {
        self.clock.advance(time);
    }
}

/// What chat does with what graph says, as far as graph can tell: it answers whoever waits.
async fn open_conversations(mut reader: Box<dyn Reader>, replies: Arc<Replies>) -> anyhow::Result<()> {
    loop {
        for stored in reader.next(100).await? {
            let envelope = Envelope::decode(stored.record.value)?;
            let Some(conversation::Kind::Sides(told)) = conversation::Payload::decode(envelope.payload)?.kind else {
                anyhow::bail!("graph sends sides")
            };
            if let Some(to) = envelope.reply_to.filter(|_| !told.answer_to.is_empty()) {
                replies.deliver(to, Outcome::decode(told.answer)?);
            }
        }
    }
}

/// Keeps what inboxes are told of Moments.
async fn keep_hints(mut reader: Box<dyn Reader>, hints: Hints) -> anyhow::Result<()> {
    loop {
        for stored in reader.next(100).await? {
            let payload = Envelope::decode(stored.record.value)?.payload;
            let Some(inbox::Kind::Event(told)) = inbox::Payload::decode(payload)?.kind else { continue };
            if let Some(entry::Event::MomentsNotice(hint)) = Entry::decode(told.event)?.event {
                let user = UserId::from_slice(&told.user).context("an inbox of nobody")?;
                hints.lock().expect("nobody panicked").entry(user).or_default().push(hint);
            }
        }
    }
}
