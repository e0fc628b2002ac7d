//! `gesher keygen`: one strong secret on standard output, and nothing else.

use std::io::{self, Write};

use gesher_core::secret::Secret;

use crate::exit::{Exit, Failure};
use crate::settings;

pub(crate) fn run() -> Result<Exit, Failure> {
    let secret = Secret::generate(&mut settings::random()?);
    let mut stdout = io::stdout();
    writeln!(stdout, "{secret}")
        .and_then(|()| stdout.flush())
        .map_err(|why| Failure::failed(format_args!("the secret could not be written: {why}")))?;
    Ok(Exit::Done)
}
