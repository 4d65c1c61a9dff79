//! Generated protocol types, one module per package, and the policy of every method read from the descriptors. Nothing here is written by
//! hand but the module tree and [`policy`]; it must never hold logic of a service.

pub mod policy;

/// The encoded `FileDescriptorSet` of every package, custom options included.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/plaza.bin"));

macro_rules! packages {
    ($($service:ident)*) => { $(
        #[doc = concat!("Package `plaza.", stringify!($service), ".v1`.")]
        pub mod $service {
            #[doc = concat!("Package `plaza.", stringify!($service), ".v1`.")]
            pub mod v1 {
                #![allow(missing_docs, unreachable_pub, clippy::all, clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "generated code")]
                include!(concat!(env!("OUT_DIR"), "/plaza.", stringify!($service), ".v1.rs"));
            }
        }
    )* };
}
packages!(accounts chat common gateway graph internal moments options);
