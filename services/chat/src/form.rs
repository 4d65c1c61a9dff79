//! Whether a request is well formed: everything that can be said without knowing any state, all of it at once.

pub(crate) mod group;

use bytes::Bytes;
use plaza_proto::chat::v1::{ContactCard, Content, Link, Location, SendMessageRequest, UpdateConversationRequest, content::Kind};
use plaza_rpc::{ApiError, Violations};
use plaza_topics::{conversation, inbox};
use plaza_types::{ClientId, ConversationId, Reason, UserId, limits};
use prost::Message as _;

const MENTIONS: usize = 50;
const URL_BYTES: usize = 2048;
const TITLE: usize = 200;
const DESCRIPTION: usize = 500;
const DRAFT_BYTES: usize = 16 * 1024;
const NOT_A_CONVERSATION: &str = "a conversation id: 'd-' or 'g-' and 32 lowercase hexadecimal digits";
const NOT_A_USER: &str = "a UUID in its hyphenated lowercase form";
const NOT_A_CLIENT_ID: &str = "a UUIDv7 in its hyphenated lowercase form";

/// A message to be sent, well formed.
#[derive(Debug)]
pub(crate) struct Sending {
    /// Where to.
    pub(crate) conversation: ConversationId,
    /// The person was named, not the conversation: that there is none must not look like a missing thing.
    pub(crate) to_person: bool,
    /// The sender's id of it.
    pub(crate) client: ClientId,
    /// The command, encoded.
    pub(crate) payload: Bytes,
}

/// Checks a message to be sent.
pub(crate) fn sending(caller: UserId, request: &SendMessageRequest) -> Result<Sending, ApiError> {
    let by_conversation = request.conversation_id.parse::<ConversationId>();
    let by_person = request.user_id.parse::<UserId>();
    let client = ClientId::parse(&request.client_message_id);
    let mut mentions: Vec<Bytes> = Vec::with_capacity(request.mentions.len().min(MENTIONS));
    for user in request.mentions.iter().take(MENTIONS).filter_map(|user| user.parse::<UserId>().ok()) {
        if mentions.iter().all(|known| known[..] != user.as_bytes()[..]) {
            mentions.push(user.to_key());
        }
    }
    let one_target = request.conversation_id.is_empty() != request.user_id.is_empty();
    let violations = Violations::default()
        .check(one_target, "conversation_id", "exactly one of conversation_id and user_id")
        .check(request.conversation_id.is_empty() || by_conversation.is_ok(), "conversation_id", NOT_A_CONVERSATION)
        .check(request.user_id.is_empty() || by_person.is_ok(), "user_id", NOT_A_USER)
        .check(client.is_ok(), "client_message_id", NOT_A_CLIENT_ID)
        .check(request.quote.is_none_or(|quote| quote.sequence > 0), "quote.sequence", "from 1")
        .check(request.mentions.len() <= MENTIONS, "mentions", "at most 50")
        .check(request.mentions.iter().take(MENTIONS).all(|user| user.parse::<UserId>().is_ok()), "mentions", NOT_A_USER);
    content(violations, request.content.as_ref()).finish()?;
    if by_person == Ok(caller) {
        return Err(ApiError::refused(Reason::Yourself, "user_id", "nobody writes to themself", 0));
    }
    let target = by_conversation.or_else(|_| by_person.map(|person| ConversationId::direct(caller, person)));
    let (Ok(conversation), Ok(client), Some(content)) = (target, client, &request.content) else {
        return Err(ApiError::internal());
    };
    let send = conversation::Send {
        content: content.encode_to_vec().into(),
        quote: request.quote.map(|quote| quote.encode_to_vec().into()).unwrap_or_default(),
        mentions,
        quoted: request.quote.map_or(0, |quote| quote.sequence),
        mentions_all: request.mentions_all,
    };
    let payload = conversation::Payload { kind: Some(conversation::Kind::Send(send)) };
    Ok(Sending { conversation, to_person: request.conversation_id.is_empty(), client, payload: payload.encode_to_vec().into() })
}

fn content(violations: Violations, content: Option<&Content>) -> Violations {
    match content.and_then(|content| content.kind.as_ref()) {
        None => violations.check(false, "content", "exactly one kind"),
        Some(Kind::SystemNotice(_)) => violations.check(false, "content.system_notice", "only the server makes it"),
        Some(Kind::Text(text)) => {
            violations.check((1..=limits::TEXT_BYTES).contains(&text.text.len()), "content.text.text", "1 byte to 16 KiB")
        }
        Some(Kind::Location(location)) => place(violations, location),
        Some(Kind::ContactCard(card)) => contact_card(violations, card),
        Some(Kind::Link(shared)) => link(violations, shared),
    }
}

fn place(violations: Violations, location: &Location) -> Violations {
    // What is not a number is in no range.
    violations
        .check((-90.0..=90.0).contains(&location.latitude), "content.location.latitude", "-90 to 90")
        .check((-180.0..=180.0).contains(&location.longitude), "content.location.longitude", "-180 to 180")
        .check(at_most(&location.name, TITLE), "content.location.name", "at most 200 characters")
        .check(at_most(&location.address, DESCRIPTION), "content.location.address", "at most 500 characters")
}

fn contact_card(violations: Violations, card: &ContactCard) -> Violations {
    violations.check(card.user_id.parse::<UserId>().is_ok(), "content.contact_card.user_id", NOT_A_USER).check(
        limits::DISPLAY_NAME.contains(&card.display_name.chars().count()),
        "content.contact_card.display_name",
        "1 to 64 characters",
    )
}

fn link(violations: Violations, link: &Link) -> Violations {
    violations
        .check(link.url.len() <= URL_BYTES && web_address(&link.url), "content.link.url", "an http or https address of at most 2,048 bytes")
        .check(at_most(&link.title, TITLE), "content.link.title", "at most 200 characters")
        .check(at_most(&link.description, DESCRIPTION), "content.link.description", "at most 500 characters")
}

fn web_address(text: &str) -> bool {
    text.parse::<http::Uri>()
        .is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty()))
}

fn at_most(text: &str, characters: usize) -> bool {
    text.len() <= characters || text.chars().count() <= characters
}

/// The id of a conversation.
pub(crate) fn conversation(id: &str) -> Result<ConversationId, ApiError> {
    id.parse().map_err(|_| ApiError::invalid("conversation_id", NOT_A_CONVERSATION))
}

/// A request id, if the client made one.
fn request_id(id: &str) -> Option<Result<ClientId, ()>> {
    (!id.is_empty()).then(|| ClientId::parse(id).map_err(|_| ()))
}

/// A conversation and a request id.
pub(crate) fn marking(conversation: &str, request: &str) -> Result<(ConversationId, Option<ClientId>), ApiError> {
    let (conversation, request) = (conversation.parse::<ConversationId>(), request_id(request).transpose());
    Violations::default()
        .check(conversation.is_ok(), "conversation_id", NOT_A_CONVERSATION)
        .check(request.is_ok(), "request_id", NOT_A_CLIENT_ID)
        .finish()?;
    conversation.ok().zip(request.ok()).ok_or_else(ApiError::internal)
}

/// Checks a change of settings.
pub(crate) fn updating(request: &UpdateConversationRequest) -> Result<(ConversationId, Option<ClientId>, inbox::Update), ApiError> {
    let (conversation, id) = (request.conversation_id.parse::<ConversationId>(), request_id(&request.request_id).transpose());
    let paths = request.update_mask.as_ref().map(|mask| &mask.paths[..]).unwrap_or_default();
    let named = |name: &str| paths.iter().any(|path| path == name);
    let known = paths.iter().all(|path| matches!(path.as_str(), "pinned" | "muted" | "hidden" | "draft"));
    Violations::default()
        .check(conversation.is_ok(), "conversation_id", NOT_A_CONVERSATION)
        .check(id.is_ok(), "request_id", NOT_A_CLIENT_ID)
        .check(!paths.is_empty() && known, "update_mask", "one or more of pinned, muted, hidden, draft")
        .check(!named("draft") || request.draft.len() <= DRAFT_BYTES, "draft", "at most 16 KiB")
        .finish()?;
    let (Ok(conversation), Ok(id)) = (conversation, id) else { return Err(ApiError::internal()) };
    let update = inbox::Update {
        conversation: conversation.to_key(),
        pinned: named("pinned").then_some(request.pinned),
        muted: named("muted").then_some(request.muted),
        hidden: named("hidden").then_some(request.hidden),
        draft: named("draft").then(|| request.draft.clone()),
        head: 0,
    };
    Ok((conversation, id, update))
}

#[cfg(test)]
mod tests {
    use plaza_proto::chat::v1::{Quote, Text};
    use plaza_types::Reason;
    use tonic::Status;
    use tonic_types::StatusExt as _;

    use super::*;

    fn user(n: u8) -> UserId {
        UserId::from_bytes([n; 16])
    }

    fn request(kind: Kind) -> SendMessageRequest {
        SendMessageRequest {
            user_id: user(2).to_string(),
            client_message_id: ClientId::new(1_700_000_000_000_000, [1; 10]).to_string(),
            content: Some(Content { kind: Some(kind) }),
            ..SendMessageRequest::default()
        }
    }

    fn text(length: usize) -> Kind {
        Kind::Text(Text { text: "x".repeat(length) })
    }

    fn link_to(url: &str) -> Kind {
        Kind::Link(Link { url: url.to_owned(), ..Link::default() })
    }

    fn fields(request: &SendMessageRequest) -> Vec<String> {
        match sending(user(1), request) {
            Ok(_) => Vec::new(),
            Err(error) => {
                let details = Status::from(error).get_error_details();
                details
                    .bad_request()
                    .map(|bad| bad.field_violations.iter().map(|violation| violation.field.clone()).collect())
                    .unwrap_or_default()
            }
        }
    }

    #[test]
    fn every_kind_has_its_limits() {
        let place = |latitude, longitude| Kind::Location(Location { latitude, longitude, ..Location::default() });
        let card =
            |user_id: &str, name: &str| Kind::ContactCard(ContactCard { user_id: user_id.to_owned(), display_name: name.to_owned() });
        let id = user(3).to_string();
        let good = [
            text(1),
            text(limits::TEXT_BYTES),
            place(-90.0, 180.0),
            card(&id, &"ü".repeat(64)),
            link_to("https://example.org/a?b#c"),
            link_to("http://127.0.0.1:80"),
        ];
        for kind in good {
            assert_eq!(fields(&request(kind.clone())), Vec::<String>::new(), "{kind:?}");
        }
        let long = Kind::Location(Location { name: "ü".repeat(201), address: "ü".repeat(501), ..Location::default() });
        let bad = [
            (text(0), vec!["content.text.text"]),
            (text(limits::TEXT_BYTES + 1), vec!["content.text.text"]),
            (place(f64::NAN, f64::INFINITY), vec!["content.location.latitude", "content.location.longitude"]),
            (place(90.1, -180.1), vec!["content.location.latitude", "content.location.longitude"]),
            (long, vec!["content.location.name", "content.location.address"]),
            (card("x", ""), vec!["content.contact_card.user_id", "content.contact_card.display_name"]),
            (card(&id, &"n".repeat(65)), vec!["content.contact_card.display_name"]),
        ];
        for (kind, expected) in bad {
            assert_eq!(fields(&request(kind.clone())), expected, "{kind:?}");
        }
        for url in [
            "",
            "example.org",
            "ftp://example.org",
            "javascript:alert(1)",
            "http://",
            "https:///x",
            "http://a b",
            &format!("https://example.org/{}", "x".repeat(2048)),
        ] {
            assert_eq!(fields(&request(link_to(url))), ["content.link.url"], "{url}");
        }
    }

    #[test]
    fn all_violations_come_at_once() {
        let request = SendMessageRequest {
            conversation_id: "nonsense".into(),
            user_id: "nobody".into(),
            client_message_id: "6ba7b810-9dad-11d1-80b4-00c04fd430c8".into(),
            content: None,
            quote: Some(Quote { sequence: 0 }),
            mentions: vec!["x".into(); 51],
            ..SendMessageRequest::default()
        };
        let expected =
            ["conversation_id", "conversation_id", "user_id", "client_message_id", "quote.sequence", "mentions", "mentions", "content"];
        assert_eq!(fields(&request), expected);
        assert_eq!(
            fields(&SendMessageRequest { conversation_id: String::new(), user_id: String::new(), ..super::tests::request(text(1)) }),
            ["conversation_id"]
        );
        let to_self = SendMessageRequest { user_id: user(1).to_string(), ..super::tests::request(text(1)) };
        assert_eq!(sending(user(1), &to_self).map_err(|error| error.reason()).err(), Some(Reason::Yourself));
    }

    #[test]
    fn a_person_and_the_conversation_with_them_are_the_same_target() {
        let by_person = sending(user(1), &request(text(1))).expect("well formed");
        let id = ConversationId::direct(user(1), user(2));
        let request = SendMessageRequest { conversation_id: id.to_string(), user_id: String::new(), ..request(text(1)) };
        let by_conversation = sending(user(1), &request).expect("well formed");
        assert_eq!((by_person.conversation, &by_person.payload), (by_conversation.conversation, &by_conversation.payload));
        assert!(by_person.to_person && !by_conversation.to_person);
    }
}
