//! One trace follows a message: from the call at the gateway through the log to where it enters its readers' inboxes.

use anyhow::{Context, ensure};
use plaza::config::Config;
use plaza_client::{Account, Endpoint, LiveEvent, To, chat::entry::Event, text};
use plaza_runtime::{Supervisor, shutdown};
use plaza_telemetry::testing::{self, Spans};
use plaza_testkit::{
    people::{SOON, befriend, newcomer},
    wait::wait_for,
};
use tokio::time::timeout;

/// A span as far as its place in a trace goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    parent: Option<String>,
    name: String,
    kind: String,
    service: Option<String>,
}

/// The trace whose root has this name, parents by their names and services; empty while there is none.
fn trace(spans: &Spans, root: &str) -> Vec<Shape> {
    let spans = spans.finished();
    let Some(root) = spans.iter().find(|span| span.name == root && format!("{:?}", span.parent_span_id) == "0000000000000000") else {
        return Vec::new();
    };
    let service = |span: &opentelemetry_sdk::trace::SpanData| {
        span.attributes.iter().find(|attribute| attribute.key.as_str() == "plaza.service").map(|attribute| attribute.value.to_string())
    };
    let same = spans.iter().filter(|span| span.span_context.trace_id() == root.span_context.trace_id());
    let mut shapes: Vec<_> = same
        .clone()
        .map(|span| Shape {
            parent: same.clone().find(|parent| parent.span_context.span_id() == span.parent_span_id).map(|parent| match service(parent) {
                Some(service) => format!("{} of {service}", parent.name),
                None => parent.name.to_string(),
            }),
            name: span.name.to_string(),
            kind: format!("{:?}", span.span_kind),
            service: service(span),
        })
        .collect();
    shapes.sort();
    shapes
}

/// A trace that is not complete yet is waited for. Both readers may have their inboxes in one partition or in two.
async fn expect(spans: &Spans, root: &str, expected: &[Shape]) -> anyhow::Result<()> {
    wait_for("the trace has its shape", SOON, || async {
        let mut found = trace(spans, root);
        found.dedup();
        if found == expected { Ok(()) } else { Err(found) }
    })
    .await
    .context(root.to_owned())
}

fn shape(parent: Option<&str>, name: &str, kind: &str, service: Option<&str>) -> Shape {
    Shape { parent: parent.map(str::to_owned), name: name.to_owned(), kind: kind.to_owned(), service: service.map(str::to_owned) }
}

/// What is the same however the message was sent.
fn processed(sent: &str) -> [Shape; 2] {
    [shape(Some("process chat"), "process inbox", "Consumer", None), shape(Some(sent), "process chat", "Consumer", None)]
}

async fn delivered(account: &Account, count: usize) -> anyhow::Result<()> {
    let mut live = account.live(0);
    let mut messages = 0;
    while messages < count {
        let event = timeout(SOON, live.next()).await.context("the message was not delivered")?.context("the stream ended")??;
        messages += usize::from(matches!(event, LiveEvent::Entry(entry) if matches!(entry.event, Some(Event::Message(_)))));
    }
    Ok(())
}

// On one thread, for the spans of one thread are collected.
#[tokio::test(flavor = "current_thread")]
async fn one_trace_follows_a_send_through_the_log_to_its_delivery() -> anyhow::Result<()> {
    let (_guard, spans) = testing::collect();
    let folder = tempfile::tempdir()?;
    let mut config = Config { data_dir: folder.path().join("data"), ..Config::default() };
    config.gateway.listen = "127.0.0.1:0".to_owned();
    let supervisor = Supervisor::new();
    let running = plaza::assemble(config.clone(), supervisor.clone()).await?;
    let endpoint = Endpoint::new(&format!("http://{}", running.address().context("the gateway does not run")?))?;
    let (ada, bob) = (newcomer(&endpoint, "ada").await?, newcomer(&endpoint, "bob").await?);
    befriend(&ada, &bob).await?;

    ada.send(To::User(bob.user_id().into()), text("by a call")).await?;
    delivered(&bob, 1).await?;
    const SEND: &str = "plaza.chat.v1.ChatService/SendMessage";
    let (gateway, chat) = (format!("{SEND} of gateway"), format!("{SEND} of chat"));
    let [inbox, conversation] = processed(&chat);
    let mut expected =
        vec![shape(None, SEND, "Server", Some("gateway")), shape(Some(&gateway), SEND, "Server", Some("chat")), conversation, inbox];
    expected.sort();
    expect(&spans, SEND, &expected).await?;

    let live = ada.live(u64::MAX);
    live.sender().send(To::User(bob.user_id().into()), text("on the stream")).await?;
    delivered(&bob, 2).await?;
    const FRAME: &str = "plaza.gateway.v1.GatewayService/Connect send";
    let mut expected = processed(FRAME).to_vec();
    expected.push(shape(None, FRAME, "Server", None));
    expected.sort();
    expect(&spans, FRAME, &expected).await?;

    let private =
        spans.finished().iter().any(|span| format!("{span:?}").contains("by a call") || format!("{span:?}").contains("on the stream"));
    ensure!(!private, "a span says what a message says");
    drop(live);
    shutdown::shut_down(&supervisor, config.shutdown).await;
    running.close().await;
    Ok(())
}
