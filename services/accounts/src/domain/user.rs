//! A user: profile and settings, and how the masked changes of both are applied.

use plaza_types::UserId;

use super::rules::{self, Refusal};

/// An account.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Chosen anew at each write of the row. Every change but a refresh writes it, so it also guards the set of devices.
    pub version: u64,
    /// The handle as its owner wrote it.
    pub handle: String,
    /// The password's hash, as a PHC string.
    pub password: String,
    /// When it was registered, microseconds since the epoch.
    pub created: u64,
    /// What others may see.
    pub profile: Profile,
    /// What its owner chose.
    pub settings: Settings,
}

/// What others may see of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// The name shown.
    pub display_name: String,
    /// Where they say they live.
    pub region: Option<String>,
    /// What they say about themselves.
    pub bio: Option<String>,
    /// Content hash of the picture.
    pub avatar: Option<String>,
}

/// What a user chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Whether a stranger who knows the handle finds this user.
    pub findable_by_handle: bool,
    /// How far back friends may look.
    pub moments_range: MomentsRange,
}

impl Default for Settings {
    fn default() -> Self {
        Self { findable_by_handle: true, moments_range: MomentsRange::All }
    }
}

/// How far back friends may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MomentsRange {
    /// Three days.
    ThreeDays,
    /// 30 days.
    OneMonth,
    /// 183 days.
    SixMonths,
    /// Everything.
    All,
}

/// A field of an update and why it is refused.
pub type FieldRefusal = (String, Refusal);

const UNKNOWN_PATH: Refusal = "no such field can be changed";
const NO_PATH: Refusal = "must name at least one field";

/// New values of a profile's fields, as entered; only those that the mask names count.
#[derive(Debug, Clone, Copy)]
pub struct ProfileInput<'a> {
    /// For `display_name`.
    pub display_name: &'a str,
    /// For `region`.
    pub region: Option<&'a str>,
    /// For `bio`.
    pub bio: Option<&'a str>,
    /// For `avatar`.
    pub avatar: Option<&'a str>,
}

/// A change of a profile that keeps the rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileChange {
    display_name: Option<String>,
    region: Option<Option<String>>,
    bio: Option<Option<String>>,
    avatar: Option<Option<String>>,
}

impl ProfileChange {
    /// The change of the fields that the mask names.
    ///
    /// # Errors
    /// Every path that is unknown and every value that breaks its rule.
    pub fn new(input: ProfileInput<'_>, mask: &[String]) -> Result<Self, Vec<FieldRefusal>> {
        let mut change = Self::default();
        checked(mask, |path| {
            match path {
                "display_name" => change.display_name = Some(rules::display_name(input.display_name)?),
                "region" => change.region = Some(rules::region(input.region)?),
                "bio" => change.bio = Some(rules::bio(input.bio)?),
                "avatar" => change.avatar = Some(rules::avatar(input.avatar)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(change)
    }

    /// The profile after the change.
    #[must_use]
    pub fn applied(&self, to: &Profile) -> Profile {
        let or = |new: &Option<Option<String>>, old: &Option<String>| new.clone().unwrap_or_else(|| old.clone());
        Profile {
            display_name: self.display_name.clone().unwrap_or_else(|| to.display_name.clone()),
            region: or(&self.region, &to.region),
            bio: or(&self.bio, &to.bio),
            avatar: or(&self.avatar, &to.avatar),
        }
    }
}

/// A change of settings that keeps the rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SettingsChange {
    findable_by_handle: Option<bool>,
    moments_range: Option<MomentsRange>,
}

impl SettingsChange {
    /// The change of the fields that the mask names; `moments_range` is `None` for a value that nobody knows.
    ///
    /// # Errors
    /// Every path that is unknown and every value that breaks its rule.
    pub fn new(findable_by_handle: bool, moments_range: Option<MomentsRange>, mask: &[String]) -> Result<Self, Vec<FieldRefusal>> {
        let mut change = Self::default();
        checked(mask, |path| {
            match path {
                "findable_by_handle" => change.findable_by_handle = Some(findable_by_handle),
                "moments_range" => change.moments_range = Some(moments_range.ok_or("not a known range")?),
                _ => return Ok(false),
            }
            Ok(true)
        })
        .map_err(|refusals| refusals.into_iter().map(in_settings).collect::<Vec<_>>())?;
        Ok(change)
    }

    /// The settings after the change.
    #[must_use]
    pub fn applied(&self, to: Settings) -> Settings {
        Settings {
            findable_by_handle: self.findable_by_handle.unwrap_or(to.findable_by_handle),
            moments_range: self.moments_range.unwrap_or(to.moments_range),
        }
    }
}

fn in_settings((field, refusal): FieldRefusal) -> FieldRefusal {
    if field.starts_with("update_mask") { (field, refusal) } else { (format!("settings.{field}"), refusal) }
}

// `take` says whether the path names a field, or why the field's value is refused.
fn checked(mask: &[String], mut take: impl FnMut(&str) -> Result<bool, Refusal>) -> Result<(), Vec<FieldRefusal>> {
    let mut refusals = Vec::new();
    if mask.is_empty() {
        refusals.push(("update_mask".to_owned(), NO_PATH));
    }
    for path in mask {
        match take(path) {
            Ok(true) => {}
            Ok(false) => refusals.push((format!("update_mask.{path}"), UNKNOWN_PATH)),
            Err(refusal) => refusals.push((path.clone(), refusal)),
        }
    }
    if refusals.is_empty() { Ok(()) } else { Err(refusals) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(paths: &[&str]) -> Vec<String> {
        paths.iter().map(|path| (*path).to_owned()).collect()
    }

    #[test]
    fn only_named_fields_change_and_absent_ones_are_cleared() {
        let old = Profile { display_name: "Mei".into(), region: Some("Xi'an".into()), bio: Some("hello".into()), avatar: None };
        let input = ProfileInput { display_name: "", region: None, bio: Some("bye"), avatar: Some("not a hash") };
        let new = ProfileChange::new(input, &mask(&["region", "bio"])).expect("both are good").applied(&old);
        assert_eq!(new, Profile { region: None, bio: Some("bye".into()), ..old });
    }

    #[test]
    fn every_mistake_is_named() {
        let input = ProfileInput { display_name: "", region: None, bio: None, avatar: Some("x") };
        let refusals = ProfileChange::new(input, &mask(&["display_name", "handle", "avatar", "bio"])).expect_err("three mistakes");
        let fields: Vec<_> = refusals.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["display_name", "update_mask.handle", "avatar"]);
        assert_eq!(ProfileChange::new(input, &[]).expect_err("nothing named")[0].0, "update_mask");
        let refusals = SettingsChange::new(true, None, &mask(&["moments_range", "x"])).expect_err("two mistakes");
        assert_eq!(refusals.iter().map(|(field, _)| field.as_str()).collect::<Vec<_>>(), ["settings.moments_range", "update_mask.x"]);
    }

    #[test]
    fn settings_start_open_and_change_by_mask() {
        let change = SettingsChange::new(false, Some(MomentsRange::OneMonth), &mask(&["moments_range"])).expect("good");
        assert_eq!(change.applied(Settings::default()), Settings { findable_by_handle: true, moments_range: MomentsRange::OneMonth });
    }
}
