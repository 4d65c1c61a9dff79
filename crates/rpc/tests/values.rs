//! A stream behaves the same whether its messages are handed over as they are or encoded; only the bytes tell.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use plaza_proto::chat::v1::{
    Ask, LinkRequest, LinkResponse, Send, Sent, Told, ask,
    live_service_client::LiveServiceClient,
    live_service_server::{LiveService, LiveServiceServer},
    told,
};
use plaza_rpc::{ApiError, Peer, StackDeps, stack, values};
use plaza_telemetry::RpcMetrics;
use plaza_types::Reason;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{
    Code, Request, Response, Status, Streaming,
    service::Routes,
    transport::{Channel, Server},
};

/// Answers each send with what it carries; ends with an error when it is asked to, and refuses a caller who says so.
struct Echo {
    ended: mpsc::UnboundedSender<()>,
}

#[tonic::async_trait]
impl LiveService for Echo {
    type LinkStream = values::Offered<Result<LinkResponse, Status>>;

    async fn link(&self, request: Request<Streaming<LinkRequest>>) -> Result<Response<Self::LinkStream>, Status> {
        if request.metadata().contains_key("x-refuse") {
            return Err(ApiError::new(Reason::Unavailable, "as asked").into());
        }
        let guard = Ended(self.ended.clone());
        let told = values::requested(request).map(move |request| {
            let _ended_with_the_stream = &guard;
            let told = |ask: Ask| match ask.ask {
                Some(ask::Ask::Send(Send { call, request, .. })) => {
                    Ok(Told { session: ask.session, told: Some(told::Told::Sent(Sent { call, response: request })) })
                }
                _ => Err(Status::aborted("as asked")),
            };
            Ok(LinkResponse { told: request?.asks.into_iter().map(told).collect::<Result<_, _>>()?, owned: None })
        });
        Ok(values::response(told))
    }
}

struct Ended(mpsc::UnboundedSender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        // The test may be over.
        let _ = self.0.send(());
    }
}

fn routes() -> (Routes, mpsc::UnboundedReceiver<()>) {
    let (ended, ends) = mpsc::unbounded_channel();
    let routes = Routes::new(LiveServiceServer::new(Echo { ended }));
    (stack("echo", routes, &StackDeps { metrics: RpcMetrics::new() }), ends)
}

fn sending(call: u64, request: Bytes) -> LinkRequest {
    let send = Send { call, request, ..Send::default() };
    LinkRequest { asks: vec![Ask { session: call, ask: Some(ask::Ask::Send(send)) }] }
}

fn sent(response: &LinkResponse) -> (u64, Bytes) {
    match response.told.first().and_then(|told| told.told.as_ref()) {
        Some(told::Told::Sent(sent)) => (sent.call, sent.response.clone()),
        told => panic!("{told:?}"),
    }
}

/// The whole life of some streams. Tells whether the bytes that came back are the very ones that were sent.
async fn lives<T>(mut client: LiveServiceClient<T>, mut ends: mpsc::UnboundedReceiver<()>) -> bool
where
    T: tonic::client::GrpcService<tonic::body::Body> + Clone,
    T::Error: Into<Box<dyn std::error::Error + std::marker::Send + Sync>>,
    T::ResponseBody: http_body::Body<Data = Bytes> + std::marker::Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + std::marker::Send + Sync>> + std::marker::Send,
{
    // Answers come while the requests still go on.
    let (requests, queue) = mpsc::unbounded_channel();
    let mut told = values::responded(client.link(values::request(UnboundedReceiverStream::new(queue))).await.expect("a stream"));
    let bytes = Bytes::from(vec![7; 1000]);
    let mut same = true;
    for call in 1..=3 {
        requests.send(sending(call, bytes.clone())).expect("open");
        let (answered, response) = sent(&told.next().await.expect("an answer").expect("no error"));
        assert_eq!((answered, &response), (call, &bytes));
        same &= response.as_ptr() == bytes.as_ptr();
    }
    // The end of the requests is the end of the answers.
    drop(requests);
    assert!(told.next().await.is_none());
    drop(told);
    end(&mut ends).await;

    // An error ends the stream with its code.
    let bad = LinkRequest { asks: vec![Ask { session: 1, ask: None }] };
    let asks = stream::iter([sending(1, bytes.clone()), bad]);
    let mut told = values::responded(client.link(values::request(asks)).await.expect("a stream"));
    assert_eq!(sent(&told.next().await.expect("an answer").expect("no error")).0, 1);
    assert_eq!(told.next().await.expect("an end").expect_err("an error").code(), Code::Aborted);
    drop(told);
    end(&mut ends).await;

    // A refusal is one.
    let mut refused = values::request(stream::pending());
    refused.metadata_mut().insert("x-refuse", "1".parse().expect("ascii"));
    assert_eq!(client.link(refused).await.map(|_| ()).expect_err("a refusal").code(), Code::Unavailable);
    same
}

async fn end(ends: &mut mpsc::UnboundedReceiver<()>) {
    tokio::time::timeout(Duration::from_secs(10), ends.recv()).await.expect("the other side ends").expect("the service lives");
}

#[tokio::test]
async fn in_one_process_messages_are_handed_over_as_they_are() {
    let (routes, ends) = routes();
    assert!(lives(LiveServiceClient::new(Peer::in_process(routes)), ends).await);
}

#[tokio::test]
async fn in_one_process_a_caller_that_goes_away_ends_the_other_side() {
    let (routes, mut ends) = routes();
    let mut client = LiveServiceClient::new(Peer::in_process(routes));
    let told = values::responded(client.link(values::request(stream::pending())).await.expect("a stream"));
    drop(told);
    end(&mut ends).await;
}

#[tokio::test]
async fn over_a_connection_they_are_encoded() {
    let (routes, ends) = routes();
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let server = Server::builder().serve_with_incoming(routes.prepare(), TcpListenerStream::new(listener));
    let client = async {
        let channel = Channel::from_shared(format!("http://{address}")).expect("an address").connect_lazy();
        lives(LiveServiceClient::new(channel), ends).await
    };
    tokio::select! {
        ended = server => panic!("the server ended: {ended:?}"),
        same = client => assert!(!same),
    }
}
