//! Configuration: defaults, then one TOML file, then `PLAZA_*` variables, then flags, each over the one before. What is wrong is refused, all
//! of it at once, with the key's name and where it came from. A value is never guessed and an unknown key never ignored.
//!
//! The defaults say which keys there are, so a configuration holds no `Option` and no map: an empty text or a zero means "off". Keys are
//! lowercase words joined by single underscores.

pub mod duration;
mod problem;
mod secret;

use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

pub use problem::{Origin, Problem, Problems};
pub use secret::Secret;

const PREFIX: &str = "PLAZA_";

/// What a configuration is put together from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A TOML file, which must be there.
    pub file: Option<PathBuf>,
    /// Variables: `PLAZA_DATA_DIR` is the key `data_dir`, `PLAZA_GATEWAY__LISTEN` is `gateway.listen`. Others than `PLAZA_*` are ignored.
    /// Kubernetes adds such names for its services unless a pod says `enableServiceLinks: false`; they are refused like any unknown key.
    pub variables: Vec<(String, String)>,
    /// Names of `PLAZA_*` variables that mean something else.
    pub reserved: &'static [&'static str],
    /// `key=value` with a dotted key. The value is TOML; text may go without quotes.
    pub flags: Vec<String>,
}

impl Sources {
    /// The variables of this process, and nothing else yet.
    pub fn of_process() -> Self {
        let variables =
            std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
        Self { variables: variables.filter(|(name, _)| name.starts_with(PREFIX)).collect(), ..Self::default() }
    }
}

/// Says what is wrong with values that have the right type.
pub trait Validate {
    /// Adds a problem for each wrong value, with its key relative to this table.
    fn validate(&self, errors: &mut Vec<Problem>);
}

/// Validates a table within another: its problems get `key` in front.
pub fn validate_table(key: &str, table: &impl Validate, errors: &mut Vec<Problem>) {
    let mut within = Vec::new();
    table.validate(&mut within);
    errors.extend(within.into_iter().map(|problem| problem.under(key)));
}

/// Puts the configuration together.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load<C: Serialize + DeserializeOwned + Default + Validate>(sources: &Sources) -> Result<C, Problems> {
    let mut problems = Vec::new();
    let defaults =
        Table::try_from(C::default()).map_err(|error| Problems(vec![Problem::new("", format!("the defaults are no TOML: {error}"))]))?;
    let mut settings = Settings { defaults: &defaults, found: Vec::new(), problems: &mut problems };
    settings.read(sources);

    let mut merged = defaults.clone();
    let mut origins = Vec::new();
    for Setting { path, value, origin } in settings.found {
        // Each value is tried alone on the defaults, so that every wrong one is found and not only the first.
        match with(&defaults, &path, value.clone()).try_into::<C>() {
            Ok(_) => {
                merged = with(&merged, &path, value);
                origins.push((path.join("."), origin));
            }
            Err(error) => problems.push(Problem::new(path.join("."), error.message()).from(origin)),
        }
    }
    let config: C = merged.try_into().map_err(|error| Problems(vec![Problem::new("", error.message())]))?;

    let mut invalid = Vec::new();
    config.validate(&mut invalid);
    // A value that was refused is not judged again by the default that stands in for it.
    invalid.retain(|problem| !problems.iter().any(|known| known.key == problem.key));
    problems.extend(invalid.into_iter().map(|problem| match origins.iter().rfind(|(key, _)| *key == problem.key) {
        Some((_, origin)) => problem.from(origin.clone()),
        None => problem,
    }));
    if problems.is_empty() { Ok(config) } else { Err(Problems(problems)) }
}

/// A configuration as TOML, complete, with every [`Secret`] replaced.
///
/// # Errors
/// It holds something TOML has no form for.
pub fn to_toml(config: &impl Serialize) -> Result<String, toml::ser::Error> {
    toml::to_string_pretty(config)
}

/// One value that somebody set.
struct Setting {
    path: Vec<String>,
    value: Value,
    origin: Origin,
}

/// Reads the sources in the order of their precedence.
struct Settings<'a> {
    defaults: &'a Table,
    found: Vec<Setting>,
    problems: &'a mut Vec<Problem>,
}

impl Settings<'_> {
    fn read(&mut self, sources: &Sources) {
        if let Some(path) = &sources.file {
            let origin = Origin::File(path.clone());
            match read_file(path) {
                Ok(table) => self.take_table(&[], table, &origin),
                Err(error) => self.problems.push(Problem::new("", error).from(origin)),
            }
        }
        for (name, text) in &sources.variables {
            if let Some(key) = name.strip_prefix(PREFIX).filter(|_| !sources.reserved.contains(&name.as_str())) {
                let path: Vec<_> = key.to_lowercase().split("__").map(str::to_owned).collect();
                self.take_text(path, text, &Origin::Variable(name.clone()), |text| Value::String(text.to_owned()));
            }
        }
        for flag in &sources.flags {
            match flag.split_once('=') {
                Some((key, text)) => {
                    let path = key.trim().split('.').map(str::to_owned).collect();
                    self.take_text(path, text.trim(), &Origin::Flag, |text| match text.starts_with(['"', '\'']) {
                        true => parse(text),
                        false => Value::String(text.to_owned()),
                    });
                }
                None => self.problems.push(Problem::new(flag, "is not of the form key=value").from(Origin::Flag)),
            }
        }
    }

    /// Takes a value that is written as text: as it is where the default is text, as TOML elsewhere.
    fn take_text(&mut self, path: Vec<String>, text: &str, origin: &Origin, as_text: impl Fn(&str) -> Value) {
        let value = match lookup(self.defaults, &path) {
            Some(Value::String(_)) => as_text(text),
            _ => parse(text),
        };
        self.take(path, value, origin);
    }

    fn take_table(&mut self, at: &[String], table: Table, origin: &Origin) {
        for (key, value) in table {
            self.take([at, &[key]].concat(), value, origin);
        }
    }

    fn take(&mut self, path: Vec<String>, value: Value, origin: &Origin) {
        match (lookup(self.defaults, &path), value) {
            (None, _) => self.problems.push(Problem::new(path.join("."), "unknown key").from(origin.clone())),
            (Some(Value::Table(_)), Value::Table(table)) => self.take_table(&path, table, origin),
            (Some(Value::Table(_)), _) => self.problems.push(Problem::new(path.join("."), "must be a table").from(origin.clone())),
            (Some(_), value) => self.found.push(Setting { path, value, origin: origin.clone() }),
        }
    }
}

fn read_file(path: &PathBuf) -> Result<Table, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    // Not the error's own text: it quotes the line, which may hold a secret.
    text.parse::<Table>().map_err(|error| match error.span() {
        Some(span) => format!("line {}: {}", text[..span.start].matches('\n').count() + 1, error.message()),
        None => error.message().to_owned(),
    })
}

/// TOML if it is, else text, whose type is then refused if it is not the right one.
fn parse(text: &str) -> Value {
    let document: Result<Table, _> = format!("value = {text}").parse();
    document.ok().and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn lookup<'a>(table: &'a Table, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    match (table.get(first)?, rest) {
        (value, []) => Some(value),
        (Value::Table(within), rest) => lookup(within, rest),
        _ => None,
    }
}

/// `table` with `value` at `path`, whose tables are there.
fn with(table: &Table, path: &[String], value: Value) -> Table {
    let mut table = table.clone();
    if let Some((last, parents)) = path.split_last() {
        let parent = parents.iter().try_fold(&mut table, |table, key| table.get_mut(key)?.as_table_mut());
        if let Some(parent) = parent {
            parent.insert(last.clone(), value);
        }
    }
    table
}

#[cfg(test)]
mod tests;
