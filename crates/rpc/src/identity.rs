//! Who calls: what the gateway took from the access token and stamped into the metadata. Services trust it because nobody outside can set it.

use http::{HeaderMap, HeaderValue};
use plaza_types::{DeviceId, Reason, UserId};

use crate::{ApiError, metadata};

/// The caller of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The user.
    pub user: UserId,
    /// The device the user signed in on.
    pub device: DeviceId,
}

impl Identity {
    /// The caller of this request.
    ///
    /// # Errors
    /// UNAUTHENTICATED when nobody is signed in.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, ApiError> {
        let read = |name: http::HeaderName| request.metadata().get(name.as_str())?.to_str().ok();
        let identity = || Some(Self { user: read(metadata::USER)?.parse().ok()?, device: read(metadata::DEVICE)?.parse().ok()? });
        identity().ok_or_else(|| ApiError::new(Reason::TokenMissing, "an access token is needed"))
    }

    /// Puts it into the headers of a call to a service.
    pub fn stamp(&self, headers: &mut HeaderMap) {
        let value = |text: String| HeaderValue::try_from(text).expect("a UUID is ASCII");
        headers.insert(metadata::USER, value(self.user.to_string()));
        headers.insert(metadata::DEVICE, value(self.device.to_string()));
    }

    /// A request to a service in this caller's name.
    #[must_use]
    pub fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        self.stamp(request.metadata_mut().as_mut());
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn travels_in_metadata() {
        let identity = Identity { user: UserId::new(1, [1; 10]), device: DeviceId::new(2, [2; 10]) };
        assert_eq!(Identity::of(&identity.request(())), Ok(identity));
        assert_eq!(Identity::of(&tonic::Request::new(())).map_err(|error| error.reason()), Err(Reason::TokenMissing));
        let mut half = identity.request(());
        half.metadata_mut().insert("x-plaza-device", "x".parse().expect("ascii"));
        assert!(Identity::of(&half).is_err());
    }
}
