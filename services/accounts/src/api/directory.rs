//! What other services ask accounts. Never reachable from outside.

use plaza_proto::accounts::v1::{
    GetVerifyingKeyRequest, GetVerifyingKeyResponse, Known, LookupRequest, LookupResponse, directory_service_server::DirectoryService,
};
use plaza_types::UserId;
use tonic::{Request, Response, Status, async_trait};

use super::{Api, checks, convert};
use crate::error::Error;

/// Most ids of one Lookup.
const LOOKUP: usize = 200;

#[async_trait]
impl DirectoryService for Api {
    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        let ids: Vec<UserId> = checks::ids("user_ids", &request.get_ref().user_ids, LOOKUP)?;
        let users = self.accounts.store.users(&ids).await.map_err(Error::from)?;
        let known = users.iter().map(|user| Known {
            user_id: user.id.to_string(),
            findable: user.settings.findable_by_handle,
            moments_range: convert::range(user.settings.moments_range).into(),
        });
        Ok(Response::new(LookupResponse { known: known.collect() }))
    }

    async fn get_verifying_key(&self, _: Request<GetVerifyingKeyRequest>) -> Result<Response<GetVerifyingKeyResponse>, Status> {
        let ed25519_public_key = self.accounts.issuer.public_key().to_vec();
        Ok(Response::new(GetVerifyingKeyResponse { ed25519_public_key }))
    }
}
