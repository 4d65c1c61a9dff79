//! Rows as bytes: protobuf, so that columns can be added. Ids are in the keys.

use bytes::Bytes;
use plaza_types::{ClientId, DeviceId, UserId};
use prost::Message;

use super::{Error, Keys, Pending, Registration, Remembered, What};
use crate::domain::{Device, Lineage, MomentsRange, Profile, Settings, User};

#[derive(Clone, PartialEq, Message)]
struct UserRow {
    #[prost(fixed64, tag = "1")]
    version: u64,
    #[prost(string, tag = "2")]
    handle: String,
    #[prost(string, tag = "3")]
    password: String,
    #[prost(uint64, tag = "4")]
    created: u64,
    #[prost(string, tag = "5")]
    display_name: String,
    #[prost(string, optional, tag = "6")]
    region: Option<String>,
    #[prost(string, optional, tag = "7")]
    bio: Option<String>,
    #[prost(string, optional, tag = "8")]
    avatar: Option<String>,
    #[prost(bool, tag = "9")]
    hidden_from_handle_search: bool,
    /// Days; 0 for all.
    #[prost(uint32, tag = "10")]
    moments_days: u32,
}

#[derive(Clone, PartialEq, Message)]
struct DeviceRow {
    #[prost(fixed64, tag = "1")]
    version: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    platform: String,
    #[prost(uint64, tag = "4")]
    created: u64,
    #[prost(uint64, tag = "5")]
    last_seen: u64,
    #[prost(bytes = "vec", tag = "6")]
    family: Vec<u8>,
    #[prost(bytes = "vec", tag = "7")]
    newest: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "8")]
    before: Option<Vec<u8>>,
    #[prost(uint64, tag = "9")]
    rotated: u64,
}

#[derive(Clone, PartialEq, Message)]
struct RememberedRow {
    #[prost(bytes = "vec", tag = "1")]
    fingerprint: Vec<u8>,
    #[prost(string, tag = "2")]
    password: String,
    #[prost(bytes = "vec", tag = "3")]
    user: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    device: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct KeysRow {
    #[prost(bytes = "vec", tag = "1")]
    signing: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    refresh: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RegistrationRow {
    #[prost(bytes = "vec", tag = "1")]
    request: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    fingerprint: Vec<u8>,
    #[prost(string, tag = "3")]
    handle_key: String,
    #[prost(bytes = "vec", tag = "4")]
    user: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    user_row: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    device: Vec<u8>,
    #[prost(bytes = "vec", tag = "7")]
    device_row: Vec<u8>,
}

const DAYS: [(MomentsRange, u32); 4] =
    [(MomentsRange::All, 0), (MomentsRange::ThreeDays, 3), (MomentsRange::OneMonth, 30), (MomentsRange::SixMonths, 183)];

pub(super) fn user(user: &User) -> Bytes {
    let profile = user.profile.clone();
    let row = UserRow {
        version: user.version,
        handle: user.handle.clone(),
        password: user.password.clone(),
        created: user.created,
        display_name: profile.display_name,
        region: profile.region,
        bio: profile.bio,
        avatar: profile.avatar,
        hidden_from_handle_search: !user.settings.findable_by_handle,
        moments_days: DAYS.iter().find(|(range, _)| *range == user.settings.moments_range).map_or(0, |(_, days)| *days),
    };
    row.encode_to_vec().into()
}

pub(super) fn read_user(id: UserId, bytes: &[u8]) -> Result<User, Error> {
    let damaged = Error::Damaged("user");
    let row = UserRow::decode(bytes).map_err(|_| damaged.clone())?;
    let moments_range = DAYS.iter().find(|(_, days)| *days == row.moments_days).map(|(range, _)| *range).ok_or(damaged)?;
    Ok(User {
        id,
        version: row.version,
        handle: row.handle,
        password: row.password,
        created: row.created,
        profile: Profile { display_name: row.display_name, region: row.region, bio: row.bio, avatar: row.avatar },
        settings: Settings { findable_by_handle: !row.hidden_from_handle_search, moments_range },
    })
}

pub(super) fn device(device: &Device) -> Bytes {
    let row = DeviceRow {
        version: device.version,
        name: device.name.clone(),
        platform: device.platform.clone(),
        created: device.created,
        last_seen: device.last_seen,
        family: device.lineage.family.to_vec(),
        newest: device.lineage.newest.to_vec(),
        before: device.lineage.before.map(|digest| digest.to_vec()),
        rotated: device.lineage.rotated,
    };
    row.encode_to_vec().into()
}

pub(super) fn read_device(id: DeviceId, bytes: &[u8]) -> Result<Device, Error> {
    let damaged = || Error::Damaged("device");
    let row = DeviceRow::decode(bytes).map_err(|_| damaged())?;
    let digest = |bytes: Vec<u8>| bytes.try_into().map_err(|_| damaged());
    let lineage = Lineage {
        family: digest(row.family)?,
        newest: digest(row.newest)?,
        before: row.before.map(digest).transpose()?,
        rotated: row.rotated,
    };
    Ok(Device { id, version: row.version, name: row.name, platform: row.platform, created: row.created, last_seen: row.last_seen, lineage })
}

pub(super) fn remembered(remembered: &Remembered) -> Bytes {
    let row = RememberedRow {
        fingerprint: remembered.fingerprint.to_vec(),
        password: remembered.password.clone(),
        user: remembered.user.as_bytes().to_vec(),
        device: remembered.device.as_bytes().to_vec(),
    };
    row.encode_to_vec().into()
}

pub(super) fn read_remembered(bytes: &[u8]) -> Result<Remembered, Error> {
    let read = || {
        let row = RememberedRow::decode(bytes).ok()?;
        Some(Remembered {
            fingerprint: row.fingerprint.try_into().ok()?,
            password: row.password,
            user: UserId::from_slice(&row.user)?,
            device: DeviceId::from_slice(&row.device)?,
        })
    };
    read().ok_or(Error::Damaged("remembered registration"))
}

pub(super) fn registration(registration: &Registration) -> Bytes {
    let row = RegistrationRow {
        request: registration.request.as_bytes().to_vec(),
        fingerprint: registration.fingerprint.to_vec(),
        handle_key: registration.handle_key.clone(),
        user: registration.user.id.as_bytes().to_vec(),
        user_row: user(&registration.user).into(),
        device: registration.device.id.as_bytes().to_vec(),
        device_row: device(&registration.device).into(),
    };
    row.encode_to_vec().into()
}

pub(super) fn read_registration(bytes: &[u8]) -> Result<Registration, Error> {
    let damaged = || Error::Damaged("registration");
    let row = RegistrationRow::decode(bytes).map_err(|_| damaged())?;
    let user = UserId::from_slice(&row.user).ok_or_else(damaged)?;
    let device = DeviceId::from_slice(&row.device).ok_or_else(damaged)?;
    Ok(Registration {
        request: ClientId::from_slice(&row.request).ok_or_else(damaged)?,
        fingerprint: row.fingerprint.try_into().map_err(|_| damaged())?,
        handle_key: row.handle_key,
        user: read_user(user, &row.user_row)?,
        device: read_device(device, &row.device_row)?,
    })
}

pub(super) fn keys(keys: &Keys) -> Bytes {
    KeysRow { signing: keys.signing.clone(), refresh: keys.refresh.to_vec() }.encode_to_vec().into()
}

pub(super) fn read_keys(bytes: &[u8]) -> Result<Keys, Error> {
    let read = || {
        let row = KeysRow::decode(bytes).ok()?;
        Some(Keys { signing: row.signing, refresh: row.refresh.try_into().ok()? })
    };
    read().ok_or(Error::Damaged("keys"))
}

/// User, time and id: a user's events are beside each other, oldest first.
pub(super) fn pending_key(event: &Pending) -> Bytes {
    [event.user.as_bytes().as_slice(), &event.time.to_be_bytes(), &event.id.to_be_bytes()].concat().into()
}

/// The revoked device; empty for a changed profile.
pub(super) fn pending(event: &Pending) -> Bytes {
    match event.what {
        What::DeviceRevoked(device) => Bytes::copy_from_slice(device.as_bytes()),
        What::ProfileChanged => Bytes::new(),
    }
}

pub(super) fn read_pending(key: &[u8], value: &[u8]) -> Result<Pending, Error> {
    let read = || {
        let (user, rest) = key.split_at_checked(16)?;
        let (time, id) = rest.split_first_chunk()?;
        let what = match value {
            [] => What::ProfileChanged,
            device => What::DeviceRevoked(DeviceId::from_slice(device)?),
        };
        Some(Pending {
            user: UserId::from_slice(user)?,
            time: u64::from_be_bytes(*time),
            id: u64::from_be_bytes(id.try_into().ok()?),
            what,
        })
    };
    read().ok_or(Error::Damaged("pending event"))
}
