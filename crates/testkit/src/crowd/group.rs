//! The crowd in one group: everybody talks, all but the owner leave or are removed and are added again, without a pause.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use plaza_client::{Account, Error, chat, new_id, text};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{sync::Mutex, task::JoinSet};

use super::{Crowd, Pace, befriended, inbox};
use crate::{
    checker::groups,
    history::{Changes, Group, History, Message, Sent, What},
    people::{SOON, befriend},
    wait::wait_for,
};

/// The place of everybody's friend, who owns the group.
const OWNER: usize = 0;

impl Crowd {
    /// Makes everybody the owner's friend, and puts them all into a group.
    ///
    /// # Errors
    /// Any refusal.
    pub async fn meet(&mut self) -> anyhow::Result<()> {
        let owner = &self.users[OWNER];
        // The owner's pair are friends already.
        for (user, other) in self.users.iter().enumerate().skip(2) {
            befriend(owner, other).await?;
            befriended(&mut *self.history.lock().await, OWNER, user);
        }
        let others: Vec<String> = self.users[1..].iter().map(|user| user.user_id().to_owned()).collect();
        let group = owner.create_group("the crowd", others).await?.conversation_id;
        let joined = Changes { joins: 1, ..Changes::default() };
        let changes = (1..self.users.len()).map(|user| (user, joined)).collect();
        self.history.lock().await.groups.insert(group.clone(), Group { owner: OWNER, changes });
        self.group = Some(group);
        Ok(())
    }

    /// What goes on in the group until `stop` is set.
    pub(super) fn busy_in_group(&self, tasks: &mut JoinSet<anyhow::Result<()>>, seed: u64, stop: &Arc<AtomicBool>) {
        let Some(group) = &self.group else { return };
        for (user, account) in self.users.iter().enumerate() {
            let rng = StdRng::seed_from_u64(seed ^ (1 << 32) ^ user as u64);
            let member = Member {
                account: account.clone(),
                owner: self.users[OWNER].clone(),
                group: group.clone(),
                user,
                history: Arc::clone(&self.history),
                pace: self.pace,
            };
            tasks.spawn(member.clone().talk(rng.clone(), Arc::clone(stop)));
            if user != OWNER {
                tasks.spawn(member.come_and_go(rng, Arc::clone(stop)));
            }
        }
    }

    /// Waits until everybody heard what was theirs to hear; what never comes is for the checker to say.
    pub(super) async fn group_is_heard(&self) -> anyhow::Result<()> {
        let Some(group) = &self.group else { return Ok(()) };
        let heard = wait_for("the group is heard", SOON, || async {
            let all = self.heard_in(group).await.map_err(|error| error.to_string())?;
            let order: Vec<&Message> = all[OWNER].iter().collect();
            let times = groups::times(&order);
            for (user, heard) in all.iter().enumerate() {
                let own = times.get(self.users[user].user_id()).map_or(&[][..], Vec::as_slice);
                let expected = order.iter().filter(|message| groups::covers(own, message.sequence)).count();
                if heard.len() < expected {
                    return Err(format!("user {user} heard {} of {expected}", heard.len()));
                }
            }
            let head = self.head_of(group).await.map_err(|error| error.to_string())?;
            if head == order.len() as u64 { Ok(()) } else { Err(format!("the owner heard {} of {head}", order.len())) }
        });
        // The checker names what is missing.
        _ = heard.await;
        Ok(())
    }

    async fn heard_in(&self, group: &str) -> anyhow::Result<Vec<Vec<Message>>> {
        let mut all = Vec::new();
        for account in &self.users {
            let messages = inbox(account).await?.into_iter().filter_map(|entry| match entry.what {
                What::Message(message) if message.conversation == group => Some(message),
                _ => None,
            });
            all.push(messages.collect());
        }
        Ok(all)
    }

    async fn head_of(&self, group: &str) -> anyhow::Result<u64> {
        let request = chat::GetConversationRequest { conversation_id: group.to_owned() };
        let answer = self.users[OWNER].call(|mut services| {
            let request = request.clone();
            async move { services.chat.get_conversation(request).await }
        });
        Ok(answer.await?.conversation.unwrap_or_default().head)
    }
}

/// Somebody in the group, or out of it for a moment.
#[derive(Clone)]
struct Member {
    account: Account,
    owner: Account,
    group: String,
    user: usize,
    history: Arc<Mutex<History>>,
    pace: Option<Duration>,
}

impl Member {
    async fn talk(self, mut rng: StdRng, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
        let (mut sends, mut pace, mut known) = (Vec::new(), Pace::new(self.pace), false);
        while !stop.load(Ordering::Relaxed) {
            pace.due().await;
            let words = format!("to all {}/{}", self.user, rng.random::<u64>());
            let mut sent = Sent { from: self.user, id: new_id(), conversation: self.group.clone(), acked: Vec::new(), text: words };
            let request = chat::SendMessageRequest {
                conversation_id: self.group.clone(),
                client_message_id: sent.id.clone(),
                content: Some(text(sent.text.clone())),
                ..Default::default()
            };
            // One in eight is sent a second time after its answer.
            for _ in 0..if rng.random_ratio(1, 8) { 2 } else { 1 } {
                let answer = self.account.call(|mut services| {
                    let request = request.clone();
                    async move { services.chat.send_message(request).await }
                });
                match answer.await {
                    Ok(answer) => sent.acked.push(answer.sequence),
                    Err(Error::Unavailable(_)) => {}
                    // Out for the moment.
                    Err(error) if error.reason() == "NOT_A_MEMBER" => known = true,
                    // So soon after coming in that their own inbox does not know yet that they ever were.
                    Err(error) if error.reason() == "NOT_FOUND" && !known && self.user != OWNER => {}
                    Err(error) => return Err(error).context("a send to the group was refused"),
                }
            }
            sends.push(sent);
        }
        self.history.lock().await.sends.extend(sends);
        Ok(())
    }

    async fn come_and_go(self, mut rng: StdRng, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
        let mut pace = Pace::new(self.pace);
        while !stop.load(Ordering::Relaxed) {
            pace.due().await;
            let left = if rng.random() { self.leave().await } else { self.be_removed().await };
            if !self.note(left, |changes| changes.leaves += 1).await? {
                break;
            }
            let added = self.owner.add_members(&self.group, vec![self.account.user_id().to_owned()]).await;
            if let Ok(added) = &added {
                ensure!(added.joined == [self.account.user_id()], "added {added:?}");
            }
            if !self.note(added.map(drop), |changes| changes.joins += 1).await? {
                break;
            }
        }
        Ok(())
    }

    /// Notes a change that was answered; false when it was not.
    async fn note(&self, answer: Result<(), Error>, count: impl FnOnce(&mut Changes)) -> anyhow::Result<bool> {
        let mut history = self.history.lock().await;
        let changes = history.groups.entry(self.group.clone()).or_default().changes.entry(self.user).or_default();
        match answer {
            Ok(()) => count(changes),
            Err(Error::Unavailable(_)) => changes.unanswered = true,
            Err(error) => return Err(error).context("a change of the group was refused"),
        }
        Ok(!changes.unanswered)
    }

    async fn leave(&self) -> Result<(), Error> {
        let request = chat::LeaveGroupRequest { conversation_id: self.group.clone(), request_id: new_id() };
        let answer = self.account.call(|mut services| {
            let request = request.clone();
            async move { services.chat.leave_group(request).await }
        });
        answer.await.map(drop)
    }

    async fn be_removed(&self) -> Result<(), Error> {
        let user_ids = vec![self.account.user_id().to_owned()];
        let request = chat::RemoveMembersRequest { conversation_id: self.group.clone(), user_ids, request_id: new_id() };
        let answer = self.owner.call(|mut services| {
            let request = request.clone();
            async move { services.chat.remove_members(request).await }
        });
        answer.await.map(drop)
    }
}
