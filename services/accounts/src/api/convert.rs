//! Between what accounts knows and what callers read.

use plaza_proto::{accounts::v1 as proto, common::v1 as common};
use plaza_types::DeviceId;
use prost_types::{FieldMask, Timestamp};

use crate::{
    domain::{Device, MomentsRange, Settings, User},
    service::Session,
};

pub(super) fn session(session: Session) -> proto::Session {
    proto::Session {
        user: Some(user(session.user)),
        device_id: session.device.to_string(),
        access_token: session.access,
        access_expires_at: Some(timestamp(session.access_expires)),
        refresh_token: session.refresh,
    }
}

pub(super) fn user(user: User) -> common::User {
    common::User {
        user_id: user.id.to_string(),
        handle: user.handle,
        display_name: user.profile.display_name,
        region: user.profile.region,
        bio: user.profile.bio,
        avatar: user.profile.avatar,
    }
}

pub(super) fn device(device: Device, calling: DeviceId) -> proto::DeviceInfo {
    proto::DeviceInfo {
        device_id: device.id.to_string(),
        name: device.name,
        platform: device.platform,
        created: Some(timestamp(device.created)),
        last_seen: Some(timestamp(device.last_seen)),
        current: device.id == calling,
    }
}

pub(super) fn settings(settings: Settings) -> proto::Settings {
    proto::Settings { findable_by_handle: settings.findable_by_handle, moments_range: range(settings.moments_range).into() }
}

pub(super) fn range(range: MomentsRange) -> proto::MomentsRange {
    match range {
        MomentsRange::ThreeDays => proto::MomentsRange::ThreeDays,
        MomentsRange::OneMonth => proto::MomentsRange::OneMonth,
        MomentsRange::SixMonths => proto::MomentsRange::SixMonths,
        MomentsRange::All => proto::MomentsRange::All,
    }
}

/// `None` for a number that nobody knows.
pub(super) fn read_range(number: i32) -> Option<MomentsRange> {
    Some(match proto::MomentsRange::try_from(number).ok()? {
        proto::MomentsRange::ThreeDays => MomentsRange::ThreeDays,
        proto::MomentsRange::OneMonth => MomentsRange::OneMonth,
        proto::MomentsRange::SixMonths => MomentsRange::SixMonths,
        proto::MomentsRange::All | proto::MomentsRange::Unspecified => MomentsRange::All,
    })
}

pub(super) fn paths(mask: Option<&FieldMask>) -> &[String] {
    mask.map_or(&[], |mask| &mask.paths)
}

fn timestamp(micros: u64) -> Timestamp {
    let nanos = i32::try_from(micros % 1_000_000).unwrap_or_default() * 1000;
    Timestamp { seconds: i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX), nanos }
}
