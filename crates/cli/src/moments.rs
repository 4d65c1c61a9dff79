//! Moments: posting, reading, liking, commenting.

use clap::Subcommand;
use plaza_client::{
    Account, moments,
    moments::{NoticeKind, Post, PostComment, audience::Kind},
    new_id,
};

use crate::people::{find, names};

/// What to do in Moments.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Post something, for all friends unless it is said for whom.
    Post {
        /// What to say.
        text: String,
        /// A page elsewhere.
        #[arg(long)]
        link: Option<String>,
        /// For nobody else.
        #[arg(long, conflicts_with_all = ["only", "except", "only_tag", "except_tag"])]
        private: bool,
        /// Handle of a friend who alone may see it, with others named so.
        #[arg(long, conflicts_with_all = ["except", "except_tag"])]
        only: Vec<String>,
        /// Tag whose bearers alone may see it, with others named so.
        #[arg(long, conflicts_with_all = ["except", "except_tag"])]
        only_tag: Vec<String>,
        /// Handle of a friend who may not see it.
        #[arg(long)]
        except: Vec<String>,
        /// Tag whose bearers may not see it.
        #[arg(long)]
        except_tag: Vec<String>,
    },
    /// Show the newest posts of friends and one's own.
    Timeline {
        /// How many.
        #[arg(long, default_value_t = 20)]
        count: usize,
    },
    /// Like a post.
    Like {
        /// Its id.
        post: String,
    },
    /// Comment on a post.
    Comment {
        /// Its id.
        post: String,
        /// What to say.
        text: String,
        /// Id of the comment to answer.
        #[arg(long)]
        reply_to: Option<String>,
    },
    /// Show who liked, commented, answered or mentioned.
    Notices,
    /// Delete one of one's own posts.
    Delete {
        /// Its id.
        post: String,
    },
}

/// A call that is safe to make again.
macro_rules! call {
    ($account:expr, $method:ident, $request:expr) => {{
        let request = $request;
        let call = $account.call(|mut services| {
            let request = request.clone();
            async move { services.moments.$method(request).await }
        });
        call.await
    }};
}

/// Does it.
pub(crate) async fn run(account: &Account, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Post { text, link, private, only, only_tag, except, except_tag } => {
            let kind = match private {
                true => Kind::Private(moments::OnlyMe {}),
                false if !only.is_empty() || !only_tag.is_empty() => Kind::Only(people(account, &only, only_tag).await?),
                false if !except.is_empty() || !except_tag.is_empty() => Kind::Except(people(account, &except, except_tag).await?),
                false => Kind::All(moments::AllFriends {}),
            };
            let link = link.map(|url| moments::Link { url, ..Default::default() });
            let content = Some(moments::PostContent { text, link, location: None });
            let audience = Some(moments::Audience { kind: Some(kind) });
            let request = moments::CreatePostRequest { request_id: new_id(), content, audience, mentions: Vec::new() };
            println!("{}", call!(account, create_post, request)?.post.unwrap_or_default().post_id);
        }
        Command::Timeline { count } => timeline(account, count).await?,
        Command::Like { post } => {
            let request = moments::LikeRequest { post_id: post, request_id: new_id() };
            let post = call!(account, like, request)?.post.unwrap_or_default();
            println!("{} likes", post.like_count);
        }
        Command::Comment { post, text, reply_to } => {
            let request = moments::CommentRequest { post_id: post, text, reply_to, request_id: new_id() };
            println!("{}", call!(account, comment, request)?.comment.unwrap_or_default().comment_id);
        }
        Command::Notices => notices(account).await?,
        Command::Delete { post } => {
            call!(account, delete_post, moments::DeletePostRequest { post_id: post, request_id: new_id() })?;
            println!("deleted");
        }
    }
    Ok(())
}

async fn people(account: &Account, handles: &[String], tags: Vec<String>) -> anyhow::Result<moments::People> {
    let mut user_ids = Vec::with_capacity(handles.len());
    for handle in handles {
        user_ids.push(find(account, handle).await?);
    }
    Ok(moments::People { user_ids, tags })
}

async fn timeline(account: &Account, count: usize) -> anyhow::Result<()> {
    let (mut left, mut page_token) = (count, String::new());
    while left > 0 {
        let page_size = u32::try_from(left.min(200))?;
        let page = call!(account, list_timeline, moments::ListTimelineRequest { page_size, page_token })?;
        for post in &page.posts {
            show(account, post).await?;
        }
        left = left.saturating_sub(page.posts.len());
        page_token = page.next_page_token;
        if page_token.is_empty() {
            println!("that is all");
            break;
        }
    }
    Ok(())
}

async fn show(account: &Account, post: &Post) -> anyhow::Result<()> {
    let content = post.content.clone().unwrap_or_default();
    let people: Vec<String> =
        std::iter::once(&post.author_id).chain(post.comments.iter().map(|comment| &comment.user_id)).cloned().collect();
    let names = names(account, &people).await?;
    println!("{}: {}", names[0], content.text);
    if let Some(link) = content.link {
        println!("  {}", link.url);
    }
    if let Some(location) = content.location {
        println!("  at {}", location.name);
    }
    println!("  {}: {} likes, {} comments", post.post_id, post.like_count, post.comment_count);
    for (PostComment { text, comment_id, .. }, name) in post.comments.iter().zip(&names[1..]) {
        println!("    {name}: {text} [{comment_id}]");
    }
    Ok(())
}

async fn notices(account: &Account) -> anyhow::Result<()> {
    let page = call!(account, list_notices, moments::ListNoticesRequest::default())?;
    let actors: Vec<String> = page.notices.iter().map(|notice| notice.actor_id.clone()).collect();
    for (notice, name) in page.notices.iter().zip(names(account, &actors).await?) {
        let text = notice.comment.as_ref().map(|comment| comment.text.as_str()).unwrap_or_default();
        let what = match notice.kind() {
            NoticeKind::Like => "likes a post".to_owned(),
            NoticeKind::Comment => format!("commented: {text}"),
            NoticeKind::Reply => format!("answered: {text}"),
            NoticeKind::Mention => "called you".to_owned(),
            NoticeKind::Unspecified => "did something that this version does not know".to_owned(),
        };
        println!("{name} {what} [{}]", notice.post_id);
    }
    Ok(())
}
