//! Whether accounts holds what it acknowledged: pure, so that it can be shown to find what is wrong.

use std::collections::{BTreeMap, BTreeSet};

/// What came of a registration, as whoever asked for it knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The user that was made.
    Made(String),
    /// The handle was another's.
    Taken,
    /// No answer came.
    Unknown,
}

/// Whether a device is signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    In,
    Out,
    /// It was to be signed out, and no answer came.
    Unknown,
}

/// Somebody whose registration was acknowledged.
#[derive(Debug, Clone, Default)]
pub(crate) struct Person {
    /// In lower case.
    pub(crate) handle: String,
    /// The name that was acknowledged last.
    pub(crate) name: String,
    /// Names asked for since without an answer.
    pub(crate) maybe: Vec<String>,
    /// Devices whose sign-in was acknowledged.
    pub(crate) devices: Vec<(String, State)>,
}

/// What is there of a handle once everything is quiet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    /// Whom it signs in.
    pub(crate) user: String,
    pub(crate) name: String,
    /// Devices in the list.
    pub(crate) listed: BTreeSet<String>,
    /// Those whose tokens are good for anything.
    pub(crate) accepted: BTreeSet<String>,
}

/// Everything that is wrong. `claims` are all registrations by handle, in lower case; a handle that signs nobody in is not `found`.
pub(crate) fn judge(claims: &BTreeMap<String, Vec<Answer>>, people: &[Person], found: &BTreeMap<String, Found>) -> Vec<String> {
    let mut violations = Vec::new();
    for (handle, answers) in claims {
        let made: BTreeSet<_> =
            answers.iter().filter_map(|answer| if let Answer::Made(user) = answer { Some(user) } else { None }).collect();
        let owner = found.get(handle).map(|found| &found.user);
        if made.len() > 1 {
            violations.push(format!("the handle {handle} was given to {made:?}"));
        }
        match owner {
            Some(owner) if made.contains(owner) => {}
            Some(owner) if !made.is_empty() => violations.push(format!("the handle {handle} of {made:?} signs {owner} in")),
            None if !made.is_empty() => violations.push(format!("the registration of {handle} was acknowledged and does not sign in")),
            // Somebody whose call was never answered may have it.
            _ if answers.contains(&Answer::Unknown) => {}
            _ => violations.push(format!("the handle {handle} was refused as taken to all who asked, and {owner:?} has it")),
        }
    }
    for person in people {
        // What does not sign in was said above.
        let Some(found) = found.get(&person.handle) else { continue };
        let handle = &person.handle;
        if found.name != person.name && !person.maybe.contains(&found.name) {
            violations.push(format!(
                "{handle} was acknowledged the name {:?} and has {:?}, {:?} unanswered",
                person.name, found.name, person.maybe
            ));
        }
        for (device, state) in &person.devices {
            let (listed, accepted) = (found.listed.contains(device), found.accepted.contains(device));
            match state {
                State::In if !listed || !accepted => {
                    violations.push(format!("a device of {handle} was signed in, listed: {listed}, accepted: {accepted}"));
                }
                State::Out if listed || accepted => {
                    violations.push(format!("a device of {handle} was signed out, listed: {listed}, accepted: {accepted}"));
                }
                _ => {}
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    type History = (BTreeMap<String, Vec<Answer>>, Vec<Person>, BTreeMap<String, Found>);

    /// Ada has her handle before two rivals; her phone is signed in, her tablet out, and of her laptop it is not known. Nobody knows whether Bob
    /// was made.
    fn good() -> History {
        let made = || Answer::Made("user of ada".to_owned());
        let claims = [("ada", vec![Answer::Taken, made(), Answer::Taken]), ("bob", vec![Answer::Unknown, Answer::Taken])];
        let devices = [("phone", State::In), ("tablet", State::Out), ("laptop", State::Unknown)];
        let ada = Person {
            handle: "ada".to_owned(),
            name: "Ada".to_owned(),
            devices: devices.map(|(device, state)| (device.to_owned(), state)).into(),
            ..Person::default()
        };
        let phone = BTreeSet::from(["phone".to_owned()]);
        let found = Found { user: "user of ada".to_owned(), name: "Ada".to_owned(), listed: phone.clone(), accepted: phone };
        let claims = claims.map(|(handle, answers)| (handle.to_owned(), answers));
        (claims.into(), vec![ada], [("ada".to_owned(), found)].into())
    }

    /// What is said after this was done to a good history.
    fn after<T>(plant: impl FnOnce(&mut History) -> T) -> Vec<String> {
        let mut history = good();
        let _ = plant(&mut history);
        judge(&history.0, &history.1, &history.2)
    }

    fn ada(history: &mut History) -> &mut Found {
        history.2.get_mut("ada").expect("there")
    }

    #[track_caller]
    fn finds<T>(words: &str, plant: impl FnOnce(&mut History) -> T) {
        let said = after(plant);
        assert!(matches!(&said[..], [one] if one.contains(words)), "not {words:?}: {said:?}");
    }

    #[test]
    fn what_was_acknowledged_and_what_nobody_knows_is_good() {
        assert_eq!(after(|_| {}), <[String; 0]>::default());
        let unanswered = |history: &mut History| {
            history.1[0].maybe.push("Ada L.".to_owned());
            ada(history).name = "Ada L.".to_owned();
            ada(history).listed.insert("laptop".to_owned());
            history.2.insert("bob".to_owned(), Found { user: "user of bob".to_owned(), ..Found::default() });
        };
        assert_eq!(after(unanswered), <[String; 0]>::default());
    }

    #[test]
    fn a_handle_has_one_owner_whose_registration_was_acknowledged() {
        finds("does not sign in", |history| history.2.remove("ada"));
        finds("was given to", |history| history.0.get_mut("ada").expect("there").push(Answer::Made("another".to_owned())));
        finds("signs another in", |history| ada(history).user = "another".to_owned());
        finds("refused as taken to all", |history| history.0.insert("cyd".to_owned(), vec![Answer::Taken; 2]));
    }

    #[test]
    fn names_sign_ins_and_sign_outs_hold() {
        finds("acknowledged the name", |history| ada(history).name = "before".to_owned());
        finds("was signed out, listed: true, accepted: false", |history| ada(history).listed.insert("tablet".to_owned()));
        finds("was signed out, listed: false, accepted: true", |history| ada(history).accepted.insert("tablet".to_owned()));
        finds("was signed in, listed: false", |history| ada(history).listed.remove("phone"));
        finds("was signed in, listed: true, accepted: false", |history| ada(history).accepted.remove("phone"));
    }
}
