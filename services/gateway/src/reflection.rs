//! What reflection shows: the descriptors without the services that nobody outside can call.

use std::collections::HashSet;

use plaza_proto::{DESCRIPTORS, policy};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::service::Routes;

/// Adds reflection (v1 and v1alpha) of the public services and of health.
pub(crate) fn add(routes: Routes) -> anyhow::Result<Routes> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_file_descriptor_set(public())
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(routes.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?))
}

/// The public services.
pub(crate) fn services() -> HashSet<&'static str> {
    policy::methods().values().filter(|method| method.is_public()).map(|method| method.service.as_str()).collect()
}

fn public() -> FileDescriptorSet {
    let services = services();
    let mut set = FileDescriptorSet::decode(DESCRIPTORS).expect("the build wrote the descriptors");
    set.file.retain_mut(|file| {
        let declared = file.service.len();
        let package = file.package().to_owned();
        file.service.retain(|service| services.contains(format!("{package}.{}", service.name()).as_str()));
        declared == 0 || !file.service.is_empty()
    });
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_services_are_shown() {
        let text = format!("{:?}", public());
        assert!(text.contains("ChatService") && text.contains("AccountsService") && text.contains("GatewayService"));
        assert!(!text.contains("LiveService") && !text.contains("DirectoryService"));
        add(Routes::default()).expect("every file that is left has its imports");
    }
}
