//! How one service calls another: as a generated client over a [`Peer`]. In one process that is a plain call of the other's routes, which
//! enforce the deadline themselves; caller and callee cannot tell the difference from a channel to [another process](crate::remote).

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use plaza_telemetry::propagation;
use plaza_types::Reason;
use tonic::{Status, body::Body, service::Routes};
use tower::Service;

use crate::{
    ApiError, deadline,
    remote::{Fleet, Instance, Instances, Source},
};

/// A service as others reach it. Cheap to clone.
#[derive(Clone)]
pub struct Peer(Kind);

#[derive(Clone)]
enum Kind {
    InProcess(Routes),
    Remote(Arc<Instances>),
    Instance(Arc<Instance>),
    Slot(Arc<OnceLock<Peer>>),
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.bound() {
            Some(Kind::InProcess(_)) => "Peer(in process)",
            Some(Kind::Remote(_)) => "Peer(remote)",
            Some(Kind::Instance(_)) => "Peer(instance)",
            Some(Kind::Slot(_)) | None => "Peer(not bound)",
        })
    }
}

impl Peer {
    /// The service behind these routes, in this process. They must have gone through [`crate::stack()`].
    #[must_use]
    pub fn in_process(routes: Routes) -> Self {
        Self(Kind::InProcess(routes.prepare()))
    }

    /// A peer that is bound later, for services that call each other. Until then every call is UNAVAILABLE.
    #[must_use]
    pub fn slot() -> Self {
        Self(Kind::Slot(Arc::default()))
    }

    /// Says where a slot leads. A second binding and one of a peer that is no slot have no effect.
    pub fn bind(&self, peer: Peer) {
        if let Kind::Slot(slot) = &self.0 {
            // Whoever came first decides.
            let _ = slot.set(peer);
        }
    }

    pub(crate) fn remote(instances: Arc<Instances>) -> Self {
        Self(Kind::Remote(instances))
    }

    pub(crate) fn instance(instance: Arc<Instance>) -> Self {
        Self(Kind::Instance(instance))
    }

    /// Every instance of the service by itself.
    #[must_use]
    pub fn fleet(&self) -> Fleet {
        Fleet(match self.bound() {
            Some(Kind::Remote(instances)) => Source::Instances { changes: instances.follow(), told: false },
            _ => Source::Here(Some(self.clone())),
        })
    }

    /// What a slot leads to.
    fn bound(&self) -> Option<&Kind> {
        match &self.0 {
            Kind::Slot(slot) => slot.get()?.bound(),
            kind => Some(kind),
        }
    }
}

impl Service<Request<Body>> for Peer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Some(kind) = self.bound() else {
            let error = ApiError::new(Reason::Unavailable, "the service is starting").retry_after(Duration::from_millis(100));
            return std::future::ready(Ok(Status::from(error).into_http())).boxed();
        };
        deadline::propagate(request.headers_mut());
        propagation::inject(request.headers_mut());
        match kind.clone() {
            // Routes are always ready and their call only clones what it needs.
            Kind::InProcess(mut routes) => routes.call(request).boxed(),
            Kind::Remote(instances) => async move { Ok(instances.call(request).await) }.boxed(),
            Kind::Instance(instance) => async move { Ok(instance.call(request).await) }.boxed(),
            Kind::Slot(_) => unreachable!("bound leads to no slot"),
        }
    }
}
