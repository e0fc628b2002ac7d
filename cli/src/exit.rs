//! How a run ends: an exit code, and for a failure one line on stderr that says what, why and what to do.
//! ```text
//! gesher: port 8000 is in use: choose another with --port
//! ```

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// The exit codes; scripts and service files tell by them whether trying again makes sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// Did what was asked.
    Done = 0,
    /// Could not.
    Failed = 1,
    /// What was typed, or set in the environment, cannot be used. clap exits with the same number.
    Usage = 2,
    /// The gateway refused this connector's secret or PIN before it had ever joined.
    Refused = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a run ends before its time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    text: String,
}

impl Failure {
    /// Something did not work out; `text` says what, why and what to do, in one line.
    pub(crate) fn failed(text: impl fmt::Display) -> Self {
        Self { exit: Exit::Failed, text: text.to_string() }
    }

    /// A setting cannot be used; `text` says which, why and what to write instead, in one line.
    pub(crate) fn usage(text: impl fmt::Display) -> Self {
        Self { exit: Exit::Usage, text: text.to_string() }
    }

    /// The gateway refused; `text` says why and what to do, in one line.
    pub(crate) fn refused(text: impl fmt::Display) -> Self {
        Self { exit: Exit::Refused, text: text.to_string() }
    }

    /// Writes the line. A stderr that is closed is no reason to panic: the exit code still tells.
    pub(crate) fn report(self) -> ExitCode {
        let _ = writeln!(io::stderr(), "gesher: {self}");
        self.exit.into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
