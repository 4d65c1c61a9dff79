//! Access tokens that are none, not ours, no longer good, or of somebody who was signed out.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use plaza_client::{Account, Endpoint, LiveEvent, accounts};
use plaza_embedded_db::{Db, Options};
use plaza_testkit::{
    people::{PASSWORD, SOON, another_device, newcomer},
    raw::{self, Connection},
    server::Server,
};
use prost::Message;
use serde_json::json;
use tokio::time::timeout;
use tonic::Code;

use super::{ARGUMENTS, BINARY, World, call, refused, seen};

const GET_ME: &str = "/plaza.accounts.v1.AccountsService/GetMe";

#[tokio::test]
async fn a_token_that_is_not_ours_is_refused() -> anyhow::Result<()> {
    let world = World::new().await?;
    let bob = world.newcomer("bob").await?;
    let (ada, bobs) = (world.token.clone(), bob.access_token().await?);
    let part = |token: &str, number: usize| token.split('.').nth(number).unwrap_or_default().to_owned();
    let mut flipped = ada.clone().into_bytes();
    let last = flipped.len() - 10;
    flipped[last] = if flipped[last] == b'A' { b'B' } else { b'A' };
    // {"typ":"JWT","alg":"none"} in base64url.
    let none = "eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0";
    let forged = [
        String::from_utf8(flipped)?,
        format!("{}.{}.{}", part(&ada, 0), part(&bobs, 1), part(&ada, 2)),
        format!("{none}.{}.", part(&bobs, 1)),
        format!("{none}.{}.{}", part(&bobs, 1), part(&bobs, 2)),
        part(&ada, 1),
        "x".repeat(4000),
        "..".to_owned(),
        world.ada.credentials().await.refresh_token,
    ];
    for token in forged {
        let answer = call(&world.connection, GET_ME, &accounts::GetMeRequest {}, Some(&token)).await;
        refused(answer, Code::Unauthenticated, "TOKEN_INVALID", &token)?;
    }
    for header in ["", "Bearer", "Bearer ", "Basic YWRhOmFkYQ==", &ada] {
        let mut request = raw::request(Bytes::new(), None)?;
        request.metadata_mut().insert("authorization", header.parse()?);
        refused(world.connection.unary(GET_ME, request).await, Code::Unauthenticated, "TOKEN_INVALID", header)?;
    }
    world.close(&[&bob]).await
}

#[tokio::test]
async fn a_token_of_ours_that_expired_or_says_something_else_is_refused() -> anyhow::Result<()> {
    let mut server = Server::temporary(BINARY, &ARGUMENTS).await?;
    let ada = newcomer(&Endpoint::new(&server.address())?, "ada").await?;
    server.stop(SOON).await?;
    let key = signing_key(&server).await?;
    server.restart().await?;
    let connection = Connection::open(&server.address()).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let good = json!({
        "iss": "plaza", "sub": ada.user_id(), "dev": ada.device_id(), "iat": now, "exp": now + 600, "iau": now * 1_000_000, "jti": "1",
    });
    let sign = |changes: serde_json::Value, without: &str| {
        let mut claims = good.clone();
        let (Some(claims_map), serde_json::Value::Object(changes)) = (claims.as_object_mut(), changes) else { unreachable!("objects") };
        claims_map.extend(changes);
        claims_map.remove(without);
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &EncodingKey::from_ed_der(&key))
    };
    let ask = async |token: String| call(&connection, GET_ME, &accounts::GetMeRequest {}, Some(&token)).await;
    assert!(ask(sign(json!({}), "")?).await.is_ok(), "the key is not the server's: the rest would prove nothing");
    let cases = [
        (json!({ "exp": now - 1 }), "", "TOKEN_EXPIRED"),
        (json!({ "exp": 0 }), "", "TOKEN_EXPIRED"),
        (json!({ "iss": "somebody else" }), "", "TOKEN_INVALID"),
        (json!({ "sub": "nobody" }), "", "TOKEN_INVALID"),
        (json!({ "dev": "nothing" }), "", "TOKEN_INVALID"),
        (json!({ "exp": "tomorrow" }), "", "TOKEN_INVALID"),
        (json!({}), "iss", "TOKEN_INVALID"),
        (json!({}), "exp", "TOKEN_INVALID"),
        (json!({}), "dev", "TOKEN_INVALID"),
        (json!({}), "iau", "TOKEN_INVALID"),
    ];
    for (changes, without, expected) in cases {
        let what = format!("with {changes}, without {without:?}");
        refused(ask(sign(changes, without)?).await, Code::Unauthenticated, expected, &what)?;
    }
    server.assert_quiet_log(&[])
}

#[derive(Clone, PartialEq, prost::Message)]
struct Keys {
    #[prost(bytes = "vec", tag = "1")]
    signing: Vec<u8>,
}

/// Of a server that is stopped.
async fn signing_key(server: &Server) -> anyhow::Result<Vec<u8>> {
    let db = Db::open(server.data(), Options::default())?;
    let row = db.keyspace("accounts.service")?.get(b"keys")?.unwrap_or_default();
    db.close().await?;
    Ok(Keys::decode(row)?.signing)
}

/// How a device is signed out.
#[derive(Debug, Clone, Copy)]
enum Way {
    Logout,
    RevokeDevice,
    ChangePassword,
    ReuseOfARefreshToken,
}

#[tokio::test]
async fn who_was_signed_out_is_refused_with_the_next_call_and_the_stream_ends() -> anyhow::Result<()> {
    let world = World::new().await?;
    let mut people = Vec::new();
    for way in [Way::Logout, Way::RevokeDevice, Way::ChangePassword, Way::ReuseOfARefreshToken] {
        for _ in 0..3 {
            let main = world.newcomer("signs").await?;
            let other = another_device(&world.endpoint, &main).await?;
            signed_out(&world, way, &main, &other).await.map_err(|error| error.context(format!("{way:?}")))?;
            people.push(main);
        }
    }
    let people: Vec<_> = people.iter().collect();
    world.close(&people).await
}

async fn signed_out(world: &World, way: Way, main: &Account, other: &Account) -> anyhow::Result<()> {
    let (token, refresh) = (other.access_token().await?, other.credentials().await.refresh_token);
    let mut live = other.live(0);
    while !matches!(timeout(SOON, live.next()).await?, Some(Ok(LiveEvent::Welcome { .. }))) {}
    let before = seen(main).await?;
    let refresh_with = async |refresh_token: String| {
        let request = accounts::RefreshRequest { refresh_token };
        call(&world.connection, "/plaza.accounts.v1.AccountsService/Refresh", &request, None).await
    };
    match way {
        Way::Logout => drop(other.services().await?.accounts.logout(accounts::LogoutRequest {}).await?),
        Way::RevokeDevice => {
            let revoke = accounts::RevokeDeviceRequest { device_id: other.device_id().into() };
            main.services().await?.accounts.revoke_device(revoke).await?;
        }
        Way::ChangePassword => {
            let change = accounts::ChangePasswordRequest { old_password: PASSWORD.into(), new_password: format!("another {PASSWORD}") };
            let session = main.services().await?.accounts.change_password(change).await?.into_inner().session;
            main.adopt(session.unwrap_or_default()).await?;
        }
        Way::ReuseOfARefreshToken => {
            let mut newest = refresh.clone();
            for _ in 0..2 {
                let answer = accounts::RefreshResponse::decode(refresh_with(newest).await?)?;
                newest = answer.session.unwrap_or_default().refresh_token;
            }
            refused(refresh_with(refresh.clone()).await, Code::Unauthenticated, "REFRESH_INVALID", "a token used before the last")?;
        }
    }
    let next = call(&world.connection, GET_ME, &accounts::GetMeRequest {}, Some(&token)).await;
    refused(next, Code::Unauthenticated, "TOKEN_REVOKED", "the next call")?;
    refused(refresh_with(refresh).await, Code::Unauthenticated, "REFRESH_INVALID", "the next refresh")?;
    // Entries may come before the end.
    let ended = async { while live.next().await.is_some_and(|event| event.is_ok()) {} };
    timeout(SOON, ended).await.map_err(|_| anyhow::anyhow!("the stream did not end"))?;
    let mut devices = main.services().await?.accounts.list_devices(accounts::ListDevicesRequest::default()).await?.into_inner().devices;
    devices.retain(|device| device.device_id == other.device_id());
    anyhow::ensure!(devices.is_empty(), "the device is still listed");
    // Nothing else: the profile, settings, contacts are what they were.
    anyhow::ensure!(seen(main).await?[..7] == before[..7], "something else changed");
    Ok(())
}
