//! Signing in: the floor is one argon2id of the same parameters, in this process.

use std::{path::Path, time::Instant};

use argon2::{Algorithm, Argon2, Params, Version};
use plaza_proto::accounts::v1::{Device, LoginRequest, accounts_service_client::AccountsServiceClient};

use crate::{
    measure::Report,
    target::{PASSWORD, Target},
};

const ROUNDS: usize = 41;

pub(crate) async fn run(server: &Path, report: &mut Report) -> anyhow::Result<()> {
    let ours = Target::plaza(server).await?;
    ours.friends(0).await?;
    let mut client = AccountsServiceClient::new(ours.channel()?);
    let params = Params::new(19 * 1024, 2, 1, None).map_err(|error| anyhow::anyhow!("{error}"))?;
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let mut hash = [0; 32];
        argon.hash_password_into(PASSWORD.as_bytes(), b"sixteen bytes ok", &mut hash).map_err(|error| anyhow::anyhow!("{error}"))?;
        let floor = started.elapsed().as_secs_f64() * 1000.0;
        let device = Device { device_id: None, name: "bench".into(), platform: "bench".into() };
        let request = LoginRequest { handle: "bench_a000000".into(), password: PASSWORD.into(), device: Some(device) };
        let started = Instant::now();
        client.login(request).await?;
        rounds.push((floor, started.elapsed().as_secs_f64() * 1000.0));
    }
    report.ratio("Login, median", "ms", &rounds, 1.1, 1.03);
    Ok(())
}
