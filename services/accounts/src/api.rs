//! The gRPC face of accounts: decodes and checks everything a caller sends, all mistakes at once, then asks the service. No rule is decided here.

mod checks;
mod convert;
mod directory;

use std::sync::Arc;

use plaza_proto::accounts::v1::{
    self as proto, accounts_service_server::AccountsServiceServer, directory_service_server::DirectoryServiceServer,
};
use plaza_rpc::{ApiError, Identity, PageTokens, deadline, page};
use plaza_types::{ClientId, DeviceId, Reason, UserId};
use tonic::{Request, Response, Status, async_trait, service::Routes};

use self::checks::Checks;
use crate::{
    domain::{
        rules,
        user::{ProfileChange, ProfileInput, SettingsChange},
    },
    service::{Accounts, DeviceInput, Registrant},
};

/// Most ids of one GetUsers.
const GET_USERS: usize = 100;
/// What page tokens of ListDevices are sealed for.
const DEVICES_QUERY: &str = "accounts.devices";

#[derive(Clone)]
pub(crate) struct Api {
    accounts: Arc<Accounts>,
    page_tokens: PageTokens,
}

impl Api {
    pub(crate) fn new(accounts: Accounts, page_tokens: PageTokens) -> Self {
        Self { accounts: Arc::new(accounts), page_tokens }
    }

    pub(crate) fn routes(self) -> Routes {
        Routes::new(AccountsServiceServer::new(self.clone())).add_service(DirectoryServiceServer::new(self))
    }
}

fn device(checks: &mut Checks, device: Option<proto::Device>) -> Option<DeviceInput> {
    let Some(device) = device else {
        checks.refuse("device", "must be given");
        return None;
    };
    let id = device.device_id.filter(|id| !id.is_empty()).map(|id| checks.id::<DeviceId>("device.device_id", &id));
    let name = checks.take("device.name", rules::device_name(&device.name));
    let platform = checks.take("device.platform", rules::platform(&device.platform));
    let id = match id {
        Some(id) => Some(id?),
        None => None,
    };
    Some(DeviceInput { id, name: name?, platform: platform? })
}

#[async_trait]
impl proto::accounts_service_server::AccountsService for Api {
    async fn register(&self, request: Request<proto::RegisterRequest>) -> Result<Response<proto::RegisterResponse>, Status> {
        let within = deadline::remaining(&request);
        let message = request.into_inner();
        let mut checks = Checks::default();
        let request_id = checks.take("request_id", ClientId::parse(&message.request_id).map_err(|_| "must be a UUIDv7"));
        let handle = checks.take("handle", rules::handle(&message.handle));
        let password = checks.take("password", rules::new_password(&message.password));
        let display_name = checks.take("display_name", rules::display_name(&message.display_name));
        let device = device(&mut checks, message.device);
        if device.as_ref().is_some_and(|device| device.id.is_some()) {
            checks.refuse("device.device_id", "must be absent for a new account");
        }
        let (Some(request), Some(handle), Some(password), Some(display_name), Some(device)) =
            (request_id, handle, password, display_name, device)
        else {
            return Err(checks.error().into());
        };
        checks.finish()?;
        if !rules::request_time(request.micros(), self.accounts.clock.now_micros()) {
            let why = "its time is more than 10 minutes ahead or older than 24 hours";
            return Err(ApiError::refused(Reason::RequestIdTime, "request_id", why, 0).into());
        }
        let who = Registrant { request, handle, password, display_name, device };
        let session = self.accounts.register(who, within).await?;
        Ok(Response::new(proto::RegisterResponse { session: Some(convert::session(session)) }))
    }

    async fn login(&self, request: Request<proto::LoginRequest>) -> Result<Response<proto::LoginResponse>, Status> {
        let within = deadline::remaining(&request);
        let message = request.into_inner();
        let mut checks = Checks::default();
        let handle = checks.take("handle", rules::handle(&message.handle));
        let password = checks.take("password", rules::password(&message.password));
        let device = device(&mut checks, message.device);
        let (Some(handle), Some(password), Some(device)) = (handle, password, device) else { return Err(checks.error().into()) };
        let session = self.accounts.login(&handle, password, device, within).await?;
        Ok(Response::new(proto::LoginResponse { session: Some(convert::session(session)) }))
    }

    async fn refresh(&self, request: Request<proto::RefreshRequest>) -> Result<Response<proto::RefreshResponse>, Status> {
        let session = self.accounts.refresh(&request.get_ref().refresh_token).await?;
        Ok(Response::new(proto::RefreshResponse { session: Some(convert::session(session)) }))
    }

    async fn logout(&self, request: Request<proto::LogoutRequest>) -> Result<Response<proto::LogoutResponse>, Status> {
        let caller = Identity::of(&request)?;
        // Signed out already is signed out.
        self.accounts.sign_out(caller.user, caller.device).await?;
        Ok(Response::new(proto::LogoutResponse {}))
    }

    async fn revoke_device(&self, request: Request<proto::RevokeDeviceRequest>) -> Result<Response<proto::RevokeDeviceResponse>, Status> {
        let caller = Identity::of(&request)?;
        let mut checks = Checks::default();
        let Some(device) = checks.id("device_id", &request.get_ref().device_id) else { return Err(checks.error().into()) };
        if !self.accounts.sign_out(caller.user, device).await? {
            return Err(ApiError::not_found("device").into());
        }
        Ok(Response::new(proto::RevokeDeviceResponse {}))
    }

    async fn list_devices(&self, request: Request<proto::ListDevicesRequest>) -> Result<Response<proto::ListDevicesResponse>, Status> {
        let caller = Identity::of(&request)?;
        let message = request.get_ref();
        let size = page::size(message.page_size)?;
        let after = match message.page_token.as_str() {
            "" => None,
            token => DeviceId::from_slice(&self.page_tokens.open(caller.user, DEVICES_QUERY, token)?),
        };
        let devices = self.accounts.devices(caller.user).await?;
        let mut rest = devices.into_iter().filter(|device| after.is_none_or(|after| device.id > after));
        let shown: Vec<_> = rest.by_ref().take(size).collect();
        let next_page_token = match (shown.last(), rest.next()) {
            (Some(last), Some(_)) => self.page_tokens.seal(caller.user, DEVICES_QUERY, last.id.as_bytes()),
            _ => String::new(),
        };
        let devices = shown.into_iter().map(|device| convert::device(device, caller.device)).collect();
        Ok(Response::new(proto::ListDevicesResponse { devices, next_page_token }))
    }

    async fn change_password(
        &self,
        request: Request<proto::ChangePasswordRequest>,
    ) -> Result<Response<proto::ChangePasswordResponse>, Status> {
        let caller = Identity::of(&request)?;
        let within = deadline::remaining(&request);
        let message = request.into_inner();
        let mut checks = Checks::default();
        let old = checks.take("old_password", rules::password(&message.old_password));
        let new = checks.take("new_password", rules::new_password(&message.new_password));
        let (Some(old), Some(new)) = (old, new) else { return Err(checks.error().into()) };
        let session = self.accounts.change_password(caller.user, caller.device, old, new, within).await?;
        Ok(Response::new(proto::ChangePasswordResponse { session: Some(convert::session(session)) }))
    }

    async fn get_me(&self, request: Request<proto::GetMeRequest>) -> Result<Response<proto::GetMeResponse>, Status> {
        let caller = Identity::of(&request)?;
        let user = self.accounts.user(caller.user).await?;
        Ok(Response::new(proto::GetMeResponse { user: Some(convert::user(user)) }))
    }

    async fn update_profile(
        &self,
        request: Request<proto::UpdateProfileRequest>,
    ) -> Result<Response<proto::UpdateProfileResponse>, Status> {
        let caller = Identity::of(&request)?;
        let message = request.get_ref();
        let input = ProfileInput {
            display_name: &message.display_name,
            region: message.region.as_deref(),
            bio: message.bio.as_deref(),
            avatar: message.avatar.as_deref(),
        };
        let change = ProfileChange::new(input, convert::paths(message.update_mask.as_ref())).map_err(checks::refusals)?;
        let user = self.accounts.update_profile(caller.user, &change).await?;
        Ok(Response::new(proto::UpdateProfileResponse { user: Some(convert::user(user)) }))
    }

    async fn get_users(&self, request: Request<proto::GetUsersRequest>) -> Result<Response<proto::GetUsersResponse>, Status> {
        let caller = Identity::of(&request)?;
        let ids: Vec<UserId> = checks::ids("user_ids", &request.get_ref().user_ids, GET_USERS)?;
        let users = self.accounts.visible_users(caller.user, &ids).await?;
        Ok(Response::new(proto::GetUsersResponse { users: users.into_iter().map(convert::user).collect() }))
    }

    async fn find_by_handle(&self, request: Request<proto::FindByHandleRequest>) -> Result<Response<proto::FindByHandleResponse>, Status> {
        let caller = Identity::of(&request)?;
        let mut checks = Checks::default();
        let Some(handle) = checks.take("handle", rules::handle(&request.get_ref().handle)) else { return Err(checks.error().into()) };
        let user = self.accounts.find(caller.user, &handle).await?;
        Ok(Response::new(proto::FindByHandleResponse { user: Some(convert::user(user)) }))
    }

    async fn get_settings(&self, request: Request<proto::GetSettingsRequest>) -> Result<Response<proto::GetSettingsResponse>, Status> {
        let caller = Identity::of(&request)?;
        let user = self.accounts.user(caller.user).await?;
        Ok(Response::new(proto::GetSettingsResponse { settings: Some(convert::settings(user.settings)) }))
    }

    async fn update_settings(
        &self,
        request: Request<proto::UpdateSettingsRequest>,
    ) -> Result<Response<proto::UpdateSettingsResponse>, Status> {
        let caller = Identity::of(&request)?;
        let message = request.get_ref();
        let Some(settings) = &message.settings else { return Err(ApiError::invalid("settings", "must be given").into()) };
        let range = convert::read_range(settings.moments_range);
        let paths = convert::paths(message.update_mask.as_ref());
        let change = SettingsChange::new(settings.findable_by_handle, range, paths).map_err(checks::refusals)?;
        let user = self.accounts.update_settings(caller.user, change).await?;
        Ok(Response::new(proto::UpdateSettingsResponse { settings: Some(convert::settings(user.settings)) }))
    }
}
