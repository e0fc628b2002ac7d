//! `gesher replay`: the machines of a process over what it once got; the transcript goes to stdout.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};

use gesher_core::capture::Replay;

use crate::args::ReplayArgs;
use crate::escape::escape;
use crate::exit::{Exit, Failure};

pub(crate) fn run(args: ReplayArgs) -> Result<Exit, Failure> {
    let file = args.file.display();
    let failed = |why: &dyn std::fmt::Display| Failure::failed(format_args!("{file}: {why}"));
    let reader = File::open(&args.file).map_err(|why| failed(&why))?;
    let replay = Replay::open(BufReader::new(reader)).map_err(|why| failed(&why))?;
    if replay.version() != env!("CARGO_PKG_VERSION") {
        let version = escape(replay.version().as_bytes());
        note(format_args!("{file} was written by version {version}, which may decide otherwise"));
    }
    let mut stdout = BufWriter::new(io::stdout().lock());
    // Who closes the pipe has seen enough; what was decided is of interest all the same.
    let mut show = |lines: &str| {
        for line in lines.lines() {
            let _ = writeln!(stdout, "{}", escape(line.as_bytes()));
        }
    };
    let result = replay.run(&mut show);
    let _ = stdout.flush();
    let summary = result.map_err(|why| failed(&why))?;
    let (calls, connections, secs) = (summary.calls, summary.connections, summary.time.as_secs_f64());
    note(format_args!(
        "{calls} calls, {connections} connections, {secs:.1} s: everything was decided as it was"
    ));
    Ok(Exit::Done)
}

fn note(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "gesher: {text}");
}
