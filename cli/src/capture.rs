//! `--capture`: the file that a run is written into.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;

use gesher_core::capture::Recorder;

use crate::args::CaptureArgs;
use crate::exit::Failure;
use crate::log::Log;

/// What writes the capture that was asked for; none if none was.
pub(crate) fn recorder(args: CaptureArgs, log: &Log) -> Result<Option<Arc<Recorder>>, Failure> {
    let Some(path) = args.capture else { return Ok(None) };
    let shown = path.display().to_string();
    let file = create(&path).map_err(|why| {
        let todo = match why.kind() {
            io::ErrorKind::AlreadyExists => {
                "it is there already: nothing is written over, choose another".into()
            }
            io::ErrorKind::NotFound => "no such folder".into(),
            io::ErrorKind::PermissionDenied => "permission denied".into(),
            _ => why.to_string(),
        };
        Failure::failed(format_args!("--capture {shown}: {todo}"))
    })?;
    log.warning(&format!(
        "{shown} gets all that is sent through here, in plain, until it has {} bytes",
        args.capture_max
    ));
    let log = log.clone();
    let on_stop = move |why| log.warning(&format!("nothing more is written to {shown}: {why}"));
    Ok(Some(Recorder::new(Box::new(file), args.capture_max, on_stop)))
}

/// Makes a file that is there for its owner only, and was not there before.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}
