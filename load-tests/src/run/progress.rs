//! How far a run is: a line on the terminal, and the same for whoever follows the run.

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;

use super::Options;

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// What is done now.
    pub stage: String,
    /// How much of it is done.
    pub done: u64,
    /// Of how much; 0 where that is not known.
    pub of: u64,
    /// More in words.
    pub line: String,
}

/// One stage of a run, while it lasts.
pub(crate) struct Stage<'a> {
    name: &'static str,
    bar: ProgressBar,
    followed: &'a watch::Sender<Standing>,
}

impl<'a> Stage<'a> {
    /// Begins one that has so many steps.
    pub(crate) fn begin(options: &'a Options, name: &'static str, of: usize) -> Self {
        let bar = if options.shown && of > 0 { bar(name) } else { ProgressBar::hidden() };
        let stage = Self { name, bar, followed: &options.followed };
        stage.at(0, of as u64, String::new());
        stage
    }

    /// So much of it is done.
    pub(crate) fn at(&self, done: u64, of: u64, line: String) {
        self.bar.set_length(of);
        self.bar.set_position(done);
        self.bar.set_message(line.clone());
        self.followed.send_replace(Standing { stage: self.name.to_owned(), done, of, line });
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A line on the terminal that begins with this name.
pub(crate) fn bar(name: impl Into<std::borrow::Cow<'static, str>>) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:10} {bar:24} {pos}/{len} {wide_msg}");
    ProgressBar::new(0).with_prefix(name).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
