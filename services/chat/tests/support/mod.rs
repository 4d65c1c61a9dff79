//! The whole service in this process, on an embedded log and store, reached through the generated client.
#![expect(dead_code, reason = "each test file uses its part")]

mod contacts;

use std::{sync::Arc, time::Duration};

use plaza_chat::{Built, Config, Deps, store::embedded::Embedded};
use plaza_embedded_db::{Db, Options};
use plaza_event_log::{EventLog, Record, TopicPartition, embedded::EmbeddedLog};
use plaza_processor::{Caller, Command, Outcome, Replies};
use plaza_proto::chat::v1::{
    Content, Conversation, Entry, GetConversationRequest, SendMessageRequest, SendMessageResponse, SyncRequest, Text,
    chat_service_client::ChatServiceClient, content, live_service_client::LiveServiceClient,
};
use plaza_rpc::{Identity, PageTokens, Peer, StackDeps, stack};
use plaza_runtime::{
    Clock, Rng, Supervisor,
    shutdown::{self, Limits, Signals},
};
use plaza_telemetry::RpcMetrics;
use plaza_testkit::wait::wait_for;
use plaza_topics::{ACCOUNTS, CHAT, INBOX, account, conversation};
use plaza_types::{ClientId, ConversationId, DeviceId, UserId, partition};
use prost::Message as _;
use tempfile::TempDir;
use tonic::{Request, Status};

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    peer: Peer,
    log: Arc<dyn EventLog>,
    replies: Arc<Replies>,
    pub(crate) supervisor: Supervisor,
    pub(crate) rng: Rng,
    pub(crate) contacts: contacts::Contacts,
    folder: Option<TempDir>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Config::default()).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        Self::on(tempfile::tempdir().expect("a folder"), config).await
    }

    async fn on(folder: TempDir, config: Config) -> Self {
        Self::among(folder, config, contacts::Contacts::default()).await
    }

    async fn among(folder: TempDir, config: Config, contacts: contacts::Contacts) -> Self {
        let (clock, rng, supervisor) = (Clock::system(), Rng::system(), Supervisor::new());
        let db = Db::open(folder.path(), Options::default()).expect("a store");
        let time = clock.clone();
        let log: Arc<dyn EventLog> =
            EmbeddedLog::open(&db, &[(CHAT, 2), (INBOX, 2), (ACCOUNTS, 2)], move || time.now_micros()).expect("a log");
        let replies = Replies::new(rng.next_u64());
        let deps = Deps {
            store: Arc::new(Embedded::open(&db).expect("tables")),
            log: Arc::clone(&log),
            replies: Arc::clone(&replies),
            peers: plaza_chat::Peers { graph: contacts.peer() },
            clock,
            rng: rng.clone(),
            supervisor: supervisor.clone(),
            page_tokens: PageTokens::new([7; 32]),
            processors: plaza_processor::Config::default(),
        };
        let Built { routes } = plaza_chat::build(config, deps).await.expect("built");
        let peer = Peer::in_process(stack("chat", routes, &StackDeps { metrics: RpcMetrics::new() }));
        Self { peer, log, replies, supervisor, rng, contacts, folder: Some(folder) }
    }

    /// Ends the service in order and starts it again on the same folder.
    pub(crate) async fn restart(mut self) -> Self {
        let folder = self.folder.take().expect("a folder");
        let (ask, signals) = Signals::manual();
        ask.send(()).await.expect("asked");
        shutdown::run(&self.supervisor, Limits::default(), signals).await.expect("no task failed");
        let contacts = self.contacts.clone();
        drop(self);
        Self::among(folder, Config::default(), contacts).await
    }

    pub(crate) fn client(&self) -> ChatServiceClient<Peer> {
        ChatServiceClient::new(self.peer.clone())
    }

    pub(crate) fn live(&self) -> LiveServiceClient<Peer> {
        LiveServiceClient::new(self.peer.clone())
    }

    pub(crate) fn user(&self) -> UserId {
        UserId::new(now(), self.rng.bytes())
    }

    pub(crate) fn client_id(&self) -> String {
        ClientId::new(now(), self.rng.bytes()).to_string()
    }

    /// What graph says: from now on these two stand to each other so.
    pub(crate) async fn sides(&self, one: UserId, other: UserId, sides: Vec<conversation::Side>) {
        let caller = Caller::new(Arc::clone(&self.log), Arc::clone(&self.replies), 1);
        let answer = Outcome::accepted("done");
        let sides = conversation::Sides { sides, answer_to: one.to_key(), answer: answer.encode_to_vec().into() };
        let now = now();
        let command = Command {
            topic: CHAT,
            key: ConversationId::direct(one, other).to_key(),
            caller: one,
            request: ClientId::new(now, self.rng.bytes()),
            fingerprint: 0,
            payload: conversation::Payload { kind: Some(conversation::Kind::Sides(sides)) }.encode_to_vec().into(),
            now,
            deadline: now + 10_000_000,
            traceparent: None,
        };
        assert_eq!(caller.call(command).await.expect("decided"), answer);
    }

    /// Makes two friends; their conversation is open for both when this returns.
    pub(crate) async fn befriend(&self, one: UserId, other: UserId) -> ConversationId {
        self.sides(one, other, vec![side(one, other, 1, true, false), side(other, one, 1, true, false)]).await;
        let id = ConversationId::direct(one, other);
        for user in [one, other] {
            self.until("the conversation is open", async || self.conversation(user, id).await).await;
        }
        id
    }

    pub(crate) async fn until<T, S: std::fmt::Debug, F: Future<Output = Result<T, S>>>(&self, what: &str, attempt: impl FnMut() -> F) -> T {
        wait_for(what, LIMIT, attempt).await.expect("in time")
    }

    pub(crate) async fn account_event(&self, user: UserId, kind: account::Kind) {
        let event = account::Event { user: user.to_key(), time: now(), kind: Some(kind) };
        let to = TopicPartition { topic: ACCOUNTS, partition: partition::of(user.as_bytes(), self.log.partitions(ACCOUNTS)) };
        let record = Record { key: user.to_key(), value: event.encode_to_vec().into(), headers: Vec::new() };
        self.log.append(to, record).await.expect("appended");
    }

    pub(crate) async fn send(&self, from: UserId, to: UserId, text: &str) -> SendMessageResponse {
        self.try_send(from, message(to, text, &self.client_id())).await.expect("sent")
    }

    pub(crate) async fn try_send(&self, from: UserId, request: SendMessageRequest) -> Result<SendMessageResponse, Status> {
        Ok(self.client().send_message(by(from, request)).await?.into_inner())
    }

    pub(crate) async fn conversation(&self, user: UserId, id: ConversationId) -> Result<Conversation, Status> {
        let request = GetConversationRequest { conversation_id: id.to_string() };
        Ok(self.client().get_conversation(by(user, request)).await?.into_inner().conversation.expect("a conversation"))
    }

    /// The whole inbox, page by page.
    pub(crate) async fn sync(&self, user: UserId, page_size: u32) -> Vec<Entry> {
        let mut entries = Vec::new();
        loop {
            let cursor = entries.len() as u64;
            let page = self.client().sync(by(user, SyncRequest { cursor, page_size })).await.expect("a page").into_inner();
            assert_eq!(page.next_cursor, cursor + page.entries.len() as u64);
            entries.extend(page.entries);
            if !page.more {
                return entries;
            }
        }
    }
}

pub(crate) fn now() -> u64 {
    Clock::system().now_micros()
}

pub(crate) fn by<T>(user: UserId, message: T) -> Request<T> {
    Identity { user, device: DeviceId::new(1, [1; 10]) }.request(message)
}

pub(crate) fn side(user: UserId, other: UserId, version: u64, lists: bool, blocks: bool) -> conversation::Side {
    conversation::Side { user: user.to_key(), other: other.to_key(), version, lists, blocks }
}

pub(crate) fn message(to: UserId, text: &str, client_id: &str) -> SendMessageRequest {
    SendMessageRequest {
        user_id: to.to_string(),
        client_message_id: client_id.to_owned(),
        content: Some(Content { kind: Some(content::Kind::Text(Text { text: text.to_owned() })) }),
        ..SendMessageRequest::default()
    }
}
