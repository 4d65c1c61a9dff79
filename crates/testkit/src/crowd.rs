//! A crowd of clients: pairs of friends that send, read and watch on several devices while the server is killed under them, and the history
//! they record. They may also be in one group, which some leave and come back to all the time.

mod group;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use plaza_client::{Account, Endpoint, Error, LiveEvent, accounts, chat, graph, new_id, text};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{
    sync::{Mutex, watch},
    task::JoinSet,
    time::{Instant, Interval, MissedTickBehavior, interval, timeout},
};

use crate::{
    history::{Conversation, Device, Entry, Final, History, Message, Sent, What},
    people::{SOON, another_device, befriend, blocked, contacts, newcomer},
    wait::wait_for,
};

/// Pairs of friends.
pub struct Crowd {
    endpoint: Endpoint,
    users: Vec<Account>,
    history: Arc<Mutex<History>>,
    /// Sends acknowledged so far, of each user to their friend.
    acknowledged: watch::Sender<Vec<u64>>,
    /// The group that everybody was in at first, if there is one.
    group: Option<String>,
    /// How often each sends, if not at once after the last answer.
    pace: Option<Duration>,
}

/// Bytes that are added to some texts.
const LONG: usize = 15 << 10;
/// How long nothing comes on a stream that has nothing to say.
const QUIET: Duration = Duration::from_millis(200);
/// A nudge's entries: both messages, the contact, the profile.
const ADDED: usize = 4;

impl Crowd {
    /// Registers `pairs` pairs and makes each pair friends.
    ///
    /// # Errors
    /// Any refusal.
    pub async fn gather(address: &str, pairs: usize) -> anyhow::Result<Self> {
        // The server is away often and never for long.
        let endpoint = Endpoint::new(address)?.with_longest_wait(Duration::from_millis(300));
        let mut users = Vec::new();
        let mut history = History::default();
        for number in 0..pairs * 2 {
            users.push(newcomer(&endpoint, &format!("user{number}")).await?);
            history.finals.push(Final { user_id: users[number].user_id().to_owned(), ..Final::default() });
        }
        for pair in 0..pairs {
            let conversation = befriend(&users[pair * 2], &users[pair * 2 + 1]).await?;
            history.members.insert(conversation, vec![pair * 2, pair * 2 + 1]);
            befriended(&mut history, pair * 2, pair * 2 + 1);
        }
        let acknowledged = watch::Sender::new(vec![0; users.len()]);
        Ok(Self { endpoint, users, history: Arc::new(Mutex::new(history)), acknowledged, group: None, pace: None })
    }

    /// Each sender sends this often, and later when the answer takes longer; without, at once after the last answer. What is asked for then is the
    /// same before a fault and after it.
    #[must_use]
    pub fn paced(self, every: Duration) -> Self {
        Self { pace: Some(every), ..self }
    }

    /// Everybody sends to their friend, resends, marks read, and watches on two devices, until `stop` is set. Calls that fail are tried
    /// again with the same ids until they are decided or `stop` and the grace have passed. Then the devices watch until they were shown
    /// all there is. To be called once: what is judged is where the last one ended.
    ///
    /// # Errors
    /// A refusal where none is due.
    pub async fn busy(&self, seed: u64, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
        let (mut tasks, mut devices) = (JoinSet::new(), JoinSet::new());
        let heads = watch::Sender::new(BTreeMap::new());
        for user in 0..self.users.len() {
            for device in 0..2 {
                devices.spawn(watch(self.device(user, device).await?, user, Arc::clone(&self.history), heads.subscribe()));
            }
            for sender in 0..2 {
                let (account, peer) = (self.users[user].clone(), self.users[user ^ 1].user_id().to_owned());
                let rng = StdRng::seed_from_u64(seed ^ (user as u64 * 2 + sender));
                let (history, acknowledged, pace) = (Arc::clone(&self.history), self.acknowledged.clone(), Pace::new(self.pace));
                let sender = Sending { account, user, peer, rng, history, acknowledged, pace };
                tasks.spawn(sender.run(Arc::clone(&stop)));
            }
        }
        self.busy_in_group(&mut tasks, seed, &stop);
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        let inboxes = self.settled().await?;
        let ends: BTreeMap<_, _> = inboxes.iter().map(|inbox| inbox.len() as u64).enumerate().collect();
        self.history.lock().await.heads = ends.clone();
        heads.send_replace(ends);
        while let Some(ended) = devices.join_next().await {
            ended??;
        }
        Ok(())
    }

    /// Waits until this many more sends were acknowledged, or for 20 s.
    pub async fn after_sends(&self, more: u64) {
        let mut acknowledged = self.acknowledged.subscribe();
        let until = acknowledged.borrow().iter().sum::<u64>() + more;
        // Nothing acknowledged for so long is for the caller to judge: the history will show it.
        let _ = timeout(Duration::from_secs(20), acknowledged.wait_for(|counts| counts.iter().sum::<u64>() >= until)).await;
    }

    /// Sends to friends acknowledged so far, of each user.
    #[must_use]
    pub fn acknowledged(&self) -> Vec<u64> {
        self.acknowledged.borrow().clone()
    }

    async fn device(&self, user: usize, device: usize) -> anyhow::Result<Account> {
        if device == 0 {
            return Ok(self.users[user].clone());
        }
        Ok(another_device(&self.endpoint, &self.users[user]).await?)
    }

    /// Has every user do something through each topic and waits until all of their inboxes say so: what was to be read again before it has been
    /// read then. Answers how many entries that adds to each inbox.
    ///
    /// # Errors
    /// A refusal, or an entry that does not come.
    pub async fn nudge(&self) -> anyhow::Result<usize> {
        let mut expected = Vec::new();
        for account in &self.users {
            expected.push(inbox(account).await?.len() + ADDED);
        }
        for (user, account) in self.users.iter().enumerate() {
            let peer = self.users[user ^ 1].user_id().to_owned();
            let mut services = account.services().await?;
            let (id, words) = (new_id(), format!("nudge {user}"));
            let send = chat::SendMessageRequest {
                user_id: peer.clone(),
                client_message_id: id.clone(),
                content: Some(text(words.as_str())),
                ..Default::default()
            };
            let sent = services.chat.send_message(send).await?.into_inner();
            let mask = |path: &str| Some(prost_types::FieldMask { paths: vec![path.to_owned()] });
            let star = graph::UpdateContactRequest { user_id: peer, starred: true, update_mask: mask("starred"), ..Default::default() };
            services.graph.update_contact(star).await?;
            let rename =
                accounts::UpdateProfileRequest { display_name: "nudged".into(), update_mask: mask("display_name"), ..Default::default() };
            services.accounts.update_profile(rename).await?;
            let mut history = self.history.lock().await;
            history.sends.push(Sent { from: user, id, conversation: sent.conversation_id, acked: vec![sent.sequence], text: words });
        }
        for (account, expected) in self.users.iter().zip(expected) {
            wait_for("the nudges arrive", SOON, || async {
                let found = inbox(account).await.map_err(|error| error.to_string())?.len();
                if found >= expected { Ok(()) } else { Err(format!("{found} of {expected}")) }
            })
            .await?;
        }
        Ok(ADDED)
    }

    /// After everything is quiet: reads everything there is and completes the history.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn finish(&self) -> anyhow::Result<History> {
        let inboxes = self.settled().await?;
        let mut history = self.history.lock().await.clone();
        for ((end, account), inbox) in history.finals.iter_mut().zip(&self.users).zip(inboxes) {
            end.inbox = inbox;
            end.conversations = conversations(account).await?;
            for conversation in end.conversations.keys() {
                end.messages.insert(conversation.clone(), messages(account, conversation).await?);
            }
            end.contacts = contacts(account).await?;
            end.blocked = blocked(account).await?;
        }
        Ok(history)
    }

    /// Everybody's inbox with what was acknowledged: delivery follows the answer at once, but not in the same instant. What never comes
    /// is for the checker to say.
    async fn settled(&self) -> anyhow::Result<Vec<Vec<Entry>>> {
        self.group_is_heard().await?;
        let history = self.history.lock().await.clone();
        let mut inboxes = Vec::new();
        for (user, account) in self.users.iter().enumerate() {
            let is_mine = |conversation| history.members.get(conversation).is_some_and(|members| members.contains(&user));
            let acked = history.sends.iter().filter(|sent| !sent.acked.is_empty() && is_mine(&sent.conversation));
            let mine: HashSet<&String> = acked.map(|sent| &sent.id).collect();
            let whole = wait_for("the inbox has every acknowledged message", SOON, || async {
                let inbox = inbox(account).await.map_err(|error| (0, error.to_string()))?;
                let got = inbox.iter().filter(|entry| matches!(&entry.what, What::Message(message) if mine.contains(&message.id))).count();
                if got >= mine.len() { Ok(inbox) } else { Err((mine.len() - got, String::new())) }
            });
            inboxes.push(match whole.await {
                Ok(inbox) => inbox,
                Err(_) => inbox(account).await?,
            });
        }
        Ok(inboxes)
    }
}

fn befriended(history: &mut History, one: usize, other: usize) {
    for (user, friend) in [(one, other), (other, one)] {
        history.friends.entry(user).or_default().insert(friend);
    }
}

/// One device, until it was shown its user's inbox up to what is told to be its head, and nothing comes any more; or a while longer,
/// if that never happens: for the checker to say.
async fn watch(
    account: Account,
    user: usize,
    history: Arc<Mutex<History>>,
    heads: watch::Receiver<BTreeMap<usize, u64>>,
) -> anyhow::Result<()> {
    let mut device = Device { user, ..Device::default() };
    let mut live = account.live(0);
    let mut until = None;
    loop {
        let mut is_quiet = false;
        match timeout(QUIET, live.next()).await {
            Ok(Some(Ok(LiveEvent::Entry(entry)))) => device.shown.push(Entry::from(&*entry)),
            Ok(Some(Ok(LiveEvent::Welcome { .. }))) => {}
            Ok(Some(Err(error))) => return Err(error).context("a live stream ended"),
            Ok(None) => break,
            Err(_) => is_quiet = true,
        }
        let Some(head) = heads.borrow().get(&user).copied() else { continue };
        let shown = device.shown.last().map_or(0, |entry| entry.cursor);
        if (shown >= head && is_quiet) || Instant::now() > *until.get_or_insert_with(|| Instant::now() + SOON) {
            break;
        }
    }
    history.lock().await.devices.push(device);
    Ok(())
}

/// One sender of one user.
struct Sending {
    account: Account,
    user: usize,
    peer: String,
    rng: StdRng,
    history: Arc<Mutex<History>>,
    acknowledged: watch::Sender<Vec<u64>>,
    pace: Pace,
}

/// When somebody's next step is due.
struct Pace(Option<Interval>);

impl Pace {
    fn new(every: Option<Duration>) -> Self {
        Self(every.map(|every| {
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        }))
    }

    async fn due(&mut self) {
        if let Self(Some(ticks)) = self {
            ticks.tick().await;
        }
    }
}

impl Sending {
    async fn run(self, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
        let Self { account, user, peer, mut rng, history, acknowledged, mut pace } = self;
        let live = account.live(u64::MAX);
        let mut sends = Vec::new();
        let mut reads: BTreeMap<String, u64> = BTreeMap::new();
        let mut asked: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        while !stop.load(Ordering::Relaxed) {
            pace.due().await;
            let mut sent = Sent {
                from: user,
                id: new_id(),
                conversation: String::new(),
                acked: Vec::new(),
                text: format!(
                    "{user}/{}{}",
                    rng.random::<u64>(),
                    "-".repeat(if rng.random_ratio(1, 4) { rng.random_range(0..LONG) } else { 0 })
                ),
            };
            let request = chat::SendMessageRequest {
                user_id: peer.clone(),
                client_message_id: sent.id.clone(),
                content: Some(text(sent.text.clone())),
                ..chat::SendMessageRequest::default()
            };
            // Half of the sends go over the stream, half are calls; one in eight is sent a second time after its answer.
            for _ in 0..if rng.random_ratio(1, 8) { 2 } else { 1 } {
                let answer = if rng.random() {
                    let sending = live.sender();
                    timeout(Duration::from_secs(60), sending.send_request(request.clone()))
                        .await
                        .context("no answer on the stream for a minute")?
                        .map(|sent| (sent.conversation_id, sent.sequence))
                } else {
                    let request = &request;
                    account
                        .call(|mut services| {
                            let request = request.clone();
                            async move { services.chat.send_message(request).await }
                        })
                        .await
                        .map(|sent| (sent.conversation_id, sent.sequence))
                };
                match answer {
                    Ok((conversation, sequence)) => {
                        sent.conversation = conversation;
                        sent.acked.push(sequence);
                        acknowledged.send_modify(|counts| counts[user] += 1);
                    }
                    Err(Error::Unavailable(_)) => {}
                    Err(error) => return Err(error).context("a send between friends was refused"),
                }
            }
            if let (Some(sequence), true) = (sent.acked.first(), rng.random_ratio(1, 10)) {
                let request =
                    chat::MarkReadRequest { conversation_id: sent.conversation.clone(), sequence: *sequence, request_id: new_id() };
                let asked = asked.entry(sent.conversation.clone()).or_default();
                asked.insert(*sequence);
                let read = account
                    .call(|mut services| {
                        let request = request.clone();
                        async move { services.chat.mark_read(request).await }
                    })
                    .await;
                match read {
                    Ok(answer) => {
                        highest(&mut reads, &sent.conversation, answer.read);
                        // A server that has not heard of the message reads as far as it knows.
                        if answer.read < *sequence {
                            asked.insert(answer.read);
                        }
                    }
                    Err(Error::Unavailable(_)) => {}
                    Err(error) => return Err(error).context("reading was refused"),
                }
            }
            sends.push(sent);
        }
        let mut history = history.lock().await;
        let history = &mut *history;
        history.sends.extend(sends);
        let all = history.reads.entry(user).or_default();
        reads.into_iter().for_each(|(conversation, read)| highest(all, &conversation, read));
        let all = history.asked.entry(user).or_default();
        asked.into_iter().for_each(|(conversation, positions)| all.entry(conversation).or_default().extend(positions));
        Ok(())
    }
}

fn highest(reads: &mut BTreeMap<String, u64>, conversation: &str, read: u64) {
    let most = reads.entry(conversation.to_owned()).or_default();
    *most = read.max(*most);
}

async fn inbox(account: &Account) -> anyhow::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut cursor = 0;
    loop {
        let page =
            account.call(|mut services| async move { services.chat.sync(chat::SyncRequest { cursor, page_size: 200 }).await }).await?;
        entries.extend(page.entries.iter().map(Entry::from));
        cursor = page.next_cursor;
        if !page.more {
            return Ok(entries);
        }
    }
}

async fn conversations(account: &Account) -> anyhow::Result<BTreeMap<String, Conversation>> {
    let page = account
        .call(|mut services| async move {
            services.chat.list_conversations(chat::ListConversationsRequest { page_size: 200, page_token: String::new() }).await
        })
        .await?;
    let shown = page.conversations.into_iter().map(|c| (c.conversation_id, Conversation { head: c.head, read: c.read, unread: c.unread }));
    Ok(shown.collect())
}

async fn messages(account: &Account, conversation: &str) -> anyhow::Result<Vec<Message>> {
    let mut messages = Vec::new();
    let mut after = 0;
    loop {
        let request =
            chat::ListMessagesRequest { conversation_id: conversation.to_owned(), before: None, after: Some(after), page_size: 200 };
        let page = account
            .call(|mut services| {
                let request = request.clone();
                async move { services.chat.list_messages(request).await }
            })
            .await?;
        let Some(last) = page.messages.last() else {
            return Ok(messages);
        };
        after = last.sequence;
        messages.extend(page.messages.iter().map(Message::from));
    }
}
