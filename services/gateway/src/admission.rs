//! How often a caller may call, as the descriptors say it: per user, or per address where nobody is signed in.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    time::Duration,
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use plaza_proto::{options::v1::Rate, policy};
use plaza_rpc::ApiError;
use plaza_types::{Reason, UserId};

/// The rates of every public method.
pub(crate) struct Admission {
    methods: HashMap<&'static str, Limits>,
}

struct Limits {
    user: Option<DefaultKeyedRateLimiter<UserId>>,
    address: Option<DefaultKeyedRateLimiter<IpAddr>>,
}

impl Admission {
    pub(crate) fn new(enforce: bool) -> Self {
        let limited = policy::methods().values().filter(|method| enforce && method.is_public());
        let limits =
            |method: &'static policy::Method| Limits { user: limiter(method.policy.per_user), address: limiter(method.policy.per_address) };
        Self { methods: limited.map(|method| (method.path.as_str(), limits(method))).collect() }
    }

    /// Counts a call of a user.
    ///
    /// # Errors
    /// `RATE_LIMITED`, with the time after which there is room for one.
    pub(crate) fn user(&self, path: &str, user: UserId) -> Result<(), ApiError> {
        check(self.methods.get(path).and_then(|limits| limits.user.as_ref()), &user)
    }

    /// Counts a call from an address. Hosts that share an IPv6 network of 64 bits count as one. The loopback addresses are not counted: they
    /// are everybody on this machine, such as a proxy in front or the operator's own load test.
    ///
    /// # Errors
    /// As [`Admission::user`].
    pub(crate) fn address(&self, path: &str, address: IpAddr) -> Result<(), ApiError> {
        if address.to_canonical().is_loopback() {
            return Ok(());
        }
        let address = match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
            address @ IpAddr::V4(_) => address,
        };
        check(self.methods.get(path).and_then(|limits| limits.address.as_ref()), &address)
    }

    /// Forgets callers whose budget is full again; called regularly, it bounds what is remembered by what was asked lately.
    pub(crate) fn forget_idle(&self) {
        for limits in self.methods.values() {
            if let Some(limiter) = &limits.user {
                limiter.retain_recent();
                limiter.shrink_to_fit();
            }
            if let Some(limiter) = &limits.address {
                limiter.retain_recent();
                limiter.shrink_to_fit();
            }
        }
    }
}

fn limiter<K: Hash + Eq + Clone>(rate: Option<Rate>) -> Option<DefaultKeyedRateLimiter<K>> {
    let rate = rate?;
    let per_minute = NonZeroU32::new(rate.per_minute)?;
    let quota = Quota::with_period(Duration::from_secs(60) / per_minute.get())?;
    Some(RateLimiter::hashmap(quota.allow_burst(NonZeroU32::new(rate.burst).unwrap_or(per_minute))))
}

fn check<K: Hash + Eq + Clone>(limiter: Option<&DefaultKeyedRateLimiter<K>>, key: &K) -> Result<(), ApiError> {
    let Some(limiter) = limiter else { return Ok(()) };
    limiter.check_key(key).map_err(|until| {
        let wait = until.wait_time_from(DefaultClock::default().now());
        ApiError::new(Reason::RateLimited, "too many calls").retry_after(wait)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGIN: &str = "/plaza.accounts.v1.AccountsService/Login";

    #[test]
    fn each_address_has_its_own_budget_and_networks_share_one() {
        let admission = Admission::new(true);
        let burst = policy::methods()[LOGIN].policy.per_address.expect("login is limited").burst;
        let one: IpAddr = "2001:db8::1".parse().expect("address");
        let neighbour: IpAddr = "2001:db8::2".parse().expect("address");
        for _ in 0..burst {
            assert_eq!(admission.address(LOGIN, one), Ok(()));
        }
        let mut refused = 0;
        while refused == 0 {
            refused += u32::from(admission.address(LOGIN, neighbour).is_err_and(|error| error.reason() == Reason::RateLimited));
        }
        assert_eq!(admission.address(LOGIN, "192.0.2.1".parse().expect("address")), Ok(()));
        let loopback = "127.0.0.1".parse().expect("address");
        assert!((0..=burst).all(|_| admission.address(LOGIN, loopback).is_ok()));
        admission.forget_idle();
        assert!(Admission::new(false).address(LOGIN, one).is_ok());
    }

    #[test]
    fn users_are_counted_per_method() {
        let admission = Admission::new(true);
        let (path, other) = ("/plaza.accounts.v1.AccountsService/ChangePassword", "/plaza.accounts.v1.AccountsService/GetMe");
        let user = UserId::new(1, [1; 10]);
        let allowed = (0..1000).take_while(|_| admission.user(path, user).is_ok()).count();
        assert!((20..1000).contains(&allowed), "{allowed}");
        assert_eq!(admission.user(other, user), Ok(()));
        assert_eq!(admission.user(path, UserId::new(1, [2; 10])), Ok(()));
    }
}
