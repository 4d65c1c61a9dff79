//! Groups: making them, who is in them, leaving them.

use clap::Subcommand;
use plaza_client::{Account, chat, new_id};

use crate::people;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a group with friends; prints its id, by which `chat` and `send` find it.
    Create {
        /// Its title.
        title: String,
        /// Handles of friends.
        #[arg(required = true)]
        handles: Vec<String>,
    },
    /// Add friends.
    Add {
        /// The group's id.
        group: String,
        /// Their handles.
        #[arg(required = true)]
        handles: Vec<String>,
    },
    /// Remove members.
    Remove {
        /// The group's id.
        group: String,
        /// Their handles.
        #[arg(required = true)]
        handles: Vec<String>,
    },
    /// Leave a group.
    Leave {
        /// The group's id.
        group: String,
    },
    /// Show the members.
    Members {
        /// The group's id.
        group: String,
    },
    /// Give a group another title.
    Title {
        /// The group's id.
        group: String,
        /// The title.
        title: String,
    },
    /// Show the groups that wait for your answer.
    Invitations,
    /// Accept an invitation.
    Accept {
        /// The group's id.
        group: String,
    },
    /// Dissolve a group.
    Dissolve {
        /// The group's id.
        group: String,
    },
}

/// A call that is safe to try again: its request carries its id.
macro_rules! call {
    ($account:expr, $method:ident, $request:expr) => {{
        let request = $request;
        $account
            .call(|mut services| {
                let request = request.clone();
                async move { services.chat.$method(request).await }
            })
            .await?
    }};
}

pub(crate) async fn run(account: &Account, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Create { title, handles } => {
            let group = account.create_group(&title, found(account, &handles).await?).await?;
            println!("{} ({} members)", group.conversation_id, group.member_count);
        }
        Command::Add { group, handles } => {
            let added = account.add_members(&group, found(account, &handles).await?).await?;
            println!("{} came in, {} must accept, {} wait for approval", added.joined.len(), added.invited.len(), added.waiting.len());
        }
        Command::Remove { group, handles } => {
            let user_ids = found(account, &handles).await?;
            call!(account, remove_members, chat::RemoveMembersRequest { conversation_id: group, user_ids, request_id: new_id() });
            println!("removed");
        }
        Command::Leave { group } => {
            call!(account, leave_group, chat::LeaveGroupRequest { conversation_id: group, request_id: new_id() });
            println!("you left");
        }
        Command::Members { group } => members(account, group).await?,
        Command::Title { group, title } => {
            let update_mask = Some(prost_types::FieldMask { paths: vec!["title".into()] });
            let request =
                chat::UpdateGroupRequest { conversation_id: group, title, update_mask, request_id: new_id(), ..Default::default() };
            call!(account, update_group, request);
            println!("renamed");
        }
        Command::Invitations => {
            let page = call!(account, list_invitations, chat::ListInvitationsRequest { page_size: 200, page_token: String::new() });
            for invitation in page.invitations {
                println!("{}: {}", invitation.conversation_id, invitation.title);
            }
        }
        Command::Accept { group } => {
            let request = chat::AnswerInvitationRequest { conversation_id: group, accept: true, request_id: new_id() };
            let group = call!(account, answer_invitation, request).group.unwrap_or_default();
            println!("you are in {}", group.title);
        }
        Command::Dissolve { group } => {
            call!(account, dissolve_group, chat::DissolveGroupRequest { conversation_id: group, request_id: new_id() });
            println!("dissolved");
        }
    }
    Ok(())
}

async fn found(account: &Account, handles: &[String]) -> anyhow::Result<Vec<String>> {
    let mut ids = Vec::with_capacity(handles.len());
    for handle in handles {
        ids.push(people::find(account, handle).await?);
    }
    Ok(ids)
}

async fn members(account: &Account, group: String) -> anyhow::Result<()> {
    let mut page_token = String::new();
    loop {
        let page = call!(account, list_members, chat::ListMembersRequest { conversation_id: group.clone(), page_size: 200, page_token });
        let ids: Vec<_> = page.members.iter().map(|member| member.user_id.clone()).collect();
        for (member, name) in page.members.iter().zip(people::names(account, &ids).await?) {
            let role = member.role().as_str_name().trim_start_matches("GROUP_ROLE_").to_lowercase();
            println!("{name} {} [{role}]", member.nickname);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(());
        }
    }
}
