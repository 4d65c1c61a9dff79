//! How far the deployment's processors are behind their logs, as its processes' metrics tell.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use futures::future::join_all;
use http::{Request, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::target::Target;

const EVERY: Duration = Duration::from_secs(1);
const RECORDS: &str = "plaza_processor_lag_records";
const SECONDS: &str = "plaza_processor_lag_seconds";

/// One look at all processes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Lag {
    /// Seconds from the start of the run.
    pub at: f64,
    /// Records that are not applied, of all partitions together. The processes count them every 5 s.
    pub records: f64,
    /// The age of the oldest of them, seconds.
    pub seconds: f64,
}

/// Looks at the processes behind these addresses until dropped; those that do not answer are left out.
pub(crate) async fn watch(processes: &[Target], began: Instant, seen: &Mutex<Vec<Lag>>) -> Infallible {
    if processes.is_empty() {
        return std::future::pending().await;
    }
    loop {
        let answers = join_all(processes.iter().map(|process| timeout(EVERY, metrics(process)))).await;
        let texts: Vec<_> = answers.into_iter().filter_map(|answer| answer.ok()?.ok()).collect();
        if !texts.is_empty() {
            let values = |name| texts.iter().flat_map(move |text| values(text, name));
            let lag =
                Lag { at: began.elapsed().as_secs_f64(), records: values(RECORDS).sum(), seconds: values(SECONDS).fold(0.0, f64::max) };
            seen.lock().push(lag);
        }
        sleep(EVERY).await;
    }
}

/// What a process tells.
async fn metrics(process: &Target) -> anyhow::Result<String> {
    let stream = TcpStream::connect(process.socket).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/metrics").header(header::HOST, process.socket.to_string()).body(Empty::<Bytes>::new())?;
    let answer = async move { anyhow::Ok(sender.send_request(request).await?.into_body().collect().await?.to_bytes()) };
    // The connection ends when nobody can ask any more.
    let (answer, _) = tokio::join!(answer, connection);
    String::from_utf8(answer?.to_vec()).context("metrics are text")
}

/// The values of one metric.
fn values<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = f64> + 'a {
    let of = move |line: &'a str| {
        let rest = line.strip_prefix(name)?;
        let value = rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next())??;
        value.parse().ok()
    };
    text.lines().filter_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_metric_alone() {
        let text = "# TYPE plaza_processor_lag_records gauge\nplaza_processor_lag_records{processor=\"chat\",partition=\"1\"} 3\n\
                    plaza_processor_lag_records{processor=\"chat\",partition=\"2\"} 4\nplaza_processor_lag_records_total 9\nother 1\n";
        assert_eq!(values(text, RECORDS).collect::<Vec<_>>(), [3.0, 4.0]);
    }
}
