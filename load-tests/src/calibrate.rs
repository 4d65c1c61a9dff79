//! What the generator itself can do on this machine: it drives a floor's server, which does almost nothing, and looks at its own CPU and memory.
//! A server whose figures come near these is no longer what is measured.

use std::path::Path;

use crate::{
    bare::{self, Load},
    floor::Server,
    report::Report,
    run::{Options, Stop},
};

/// Holds so many connections and sends at so high a rate for so long, to a floor's server with its data in `folder`.
///
/// # Errors
/// The server does not start, or the streams cannot be opened.
pub async fn calibrate(program: &Path, folder: &Path, connections: usize, rate: f64, seconds: f64, stop: &Stop) -> anyhow::Result<Report> {
    let server = Server::start(program, folder).await?;
    let load = Load { people: connections, sends: rate, seconds, call_connections: 4, ..Load::default() };
    let options = Options { name: "calibrate".to_owned(), shown: true, ..bare::options(&server, &load) };
    let outcome = bare::drive(&options, stop).await?;
    Ok(Report::new(&options, &outcome))
}
