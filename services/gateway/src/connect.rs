//! `GatewayService.Connect`: the live streams of devices.

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use plaza_proto::gateway::v1::{Refused, connect_response::Frame};
use tonic::{Request, Response, Status, Streaming, body::Body, server::StreamingService};
use tonic_types::StatusExt;

pub(crate) mod codec;
pub(crate) mod device;
pub(crate) mod directory;
pub(crate) mod hub;
pub(crate) mod link;
pub(crate) mod session;

use codec::{FrameCodec, Out};
use hub::Hub;
use session::{CallId, DeviceStream};

use crate::tokens::Access;

/// The path of the method.
pub(crate) const PATH: &str = "/plaza.gateway.v1.GatewayService/Connect";

/// Opens a device's stream.
pub(crate) async fn open<B>(hub: Arc<Hub>, access: Access, max_frame_bytes: usize, request: http::Request<B>) -> http::Response<Body>
where
    B: http_body::Body<Error: Into<tonic::codegen::StdError> + Send> + Send + 'static,
{
    let mut server = tonic::server::Grpc::new(FrameCodec).max_decoding_message_size(max_frame_bytes);
    server.streaming(Opening { hub, access }, request).await
}

struct Opening {
    hub: Arc<Hub>,
    access: Access,
}

impl StreamingService<codec::Frame> for Opening {
    type Response = Out;
    type ResponseStream = DeviceStream;
    type Future = Ready<Result<Response<DeviceStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<codec::Frame>>) -> Self::Future {
        let opened = self.hub.open(self.access);
        let stream = opened.map(|session| DeviceStream::new(Arc::clone(&self.hub), session, request.into_inner()));
        ready(stream.map(Response::new).map_err(Status::from))
    }
}

/// The frame that refuses a call of a device.
fn refused(id: CallId, status: &Status) -> Frame {
    let details = status.get_error_details();
    let (client_message_id, request_id) = match id {
        CallId::Send(id) => (id, String::new()),
        CallId::Read(id) => (String::new(), id),
    };
    Frame::Refused(Refused {
        client_message_id,
        code: status.code() as i32,
        message: status.message().to_owned(),
        reason: details.error_info().map(|info| info.reason.clone()).unwrap_or_default(),
        retry_after: details.retry_info().and_then(|retry| retry.retry_delay).and_then(|delay| delay.try_into().ok()),
        request_id,
    })
}
