//! A secret from a file or from standard input.
//!
//! One line end at the end is dropped, as editors and `echo` leave one; every other byte counts. Not more is read
//! than a secret may have, into memory that erases itself and never moves. A file that others may read or write is used,
//! with a warning.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use gesher_core::limits::SECRET_BYTES_MAX;
use zeroize::Zeroizing;

use crate::exit::Failure;

/// CR and LF.
const LINE_END_BYTES_MAX: usize = 2;

/// What a file held, and what to warn about.
pub(crate) struct SecretFile {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) warning: Option<String>,
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretFile(..)")
    }
}

/// Reads the secret in the file at `path`; `-` is standard input.
pub(crate) fn read(path: &Path) -> Result<SecretFile, Failure> {
    if path.as_os_str() == "-" {
        let bytes = standard_input()
            .and_then(read_bounded)
            .map_err(|why| Failure::failed(format_args!("--secret-file -: standard input: {why}")))?;
        return Ok(SecretFile { bytes, warning: None });
    }
    let file = path.display();
    let unusable = |why: io::Error| {
        let todo = match why.kind() {
            io::ErrorKind::NotFound => {
                "no such file: make one with `(umask 077; gesher keygen > FILE)`".into()
            }
            io::ErrorKind::PermissionDenied => "permission denied: it must belong to who runs gesher".into(),
            io::ErrorKind::IsADirectory => "that is a folder: give a file".into(),
            _ => why.to_string(),
        };
        Failure::failed(format_args!("--secret-file {file}: {todo}"))
    };
    let open = File::open(path).map_err(unusable)?;
    // The list that lets a service read its credential shows as a right of the file's group.
    let is_credential =
        std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(|folder| path.starts_with(folder));
    let [reads, writes] = rights_of_others(&open);
    let can = match (reads, writes) {
        (true, true) => "read and changed",
        (true, false) => "read",
        _ => "changed",
    };
    let warning = (!is_credential && (reads || writes))
        .then(|| format!("{file} can be {can} by others on this machine: chmod 600 {file}"));
    Ok(SecretFile { bytes: read_bounded(open).map_err(unusable)?, warning })
}

/// Reads at most a byte more than a secret may have, so that one that is too long is known as such.
fn read_bounded(mut from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // All the room at once: growing would leave copies behind, as would a reader with a buffer of its own.
    let mut bytes = Zeroizing::new(vec![0; SECRET_BYTES_MAX + LINE_END_BYTES_MAX + 1]);
    let mut length = 0;
    while length < bytes.len() {
        match from.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
    bytes.truncate(length);
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(bytes)
}

/// Standard input, without the buffer that [`io::stdin`] keeps to the end of the process.
#[cfg(unix)]
fn standard_input() -> io::Result<File> {
    use std::os::fd::AsFd;
    io::stdin().as_fd().try_clone_to_owned().map(File::from)
}

#[cfg(not(unix))]
fn standard_input() -> io::Result<io::StdinLock<'static>> {
    Ok(io::stdin().lock())
}

#[cfg(unix)]
/// Whether others may read it, and write it.
fn rights_of_others(file: &File) -> [bool; 2] {
    use std::os::unix::fs::PermissionsExt;
    // Only regular files: a pipe (`--secret-file <(pass show gesher)`) is as private as its file descriptor.
    let regular = file.metadata().ok().filter(|about| about.is_file());
    let mode = regular.map_or(0, |about| about.permissions().mode());
    [mode & 0o044 != 0, mode & 0o022 != 0]
}

#[cfg(not(unix))]
fn rights_of_others(_: &File) -> [bool; 2] {
    [false; 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn exactly_one_line_end_is_dropped() {
        for (held, secret) in [
            (&b"a secret"[..], &b"a secret"[..]),
            (b"a secret\n", b"a secret"),
            (b"a secret\r\n", b"a secret"),
            (b"a secret\n\n", b"a secret\n"),
            (b"a secret\r", b"a secret\r"),
            (b" a\nsecret \n", b" a\nsecret "),
            (b"\xff\x00\n", b"\xff\x00"),
            (b"\n", b""),
        ] {
            assert_eq!(**read_bounded(held).unwrap(), *secret, "{held:?}");
        }
    }

    #[test]
    fn no_more_is_read_than_tells_that_it_is_too_long() {
        let bytes = read_bounded(io::repeat(b'a')).unwrap();
        assert!(bytes.len() > SECRET_BYTES_MAX && bytes.len() < SECRET_BYTES_MAX + 10);
        let longest = [vec![b'a'; SECRET_BYTES_MAX], b"\r\n".to_vec()].concat();
        assert_eq!(read_bounded(&longest[..]).unwrap().len(), SECRET_BYTES_MAX);
    }

    #[test]
    fn what_is_read_never_moves_and_is_not_printed() {
        struct OneByOne(Vec<u8>);
        impl Read for OneByOne {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                into[0] = self.0.pop().unwrap_or(0);
                Ok(1)
            }
        }
        let bytes = read_bounded(OneByOne(vec![7; 10])).unwrap();
        assert_eq!(bytes.capacity(), SECRET_BYTES_MAX + LINE_END_BYTES_MAX + 1, "it has not grown");
        assert_eq!(format!("{:?}", SecretFile { bytes, warning: None }), "SecretFile(..)");
    }

    #[test]
    fn a_missing_file_and_a_folder_are_failures_that_name_it() {
        for path in [Path::new("/no/such/file"), &std::env::temp_dir()] {
            let failure = read(path).unwrap_err();
            assert_eq!(failure.exit, Exit::Failed);
            assert!(failure.to_string().contains(path.to_str().unwrap()), "{failure}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_may_read_or_write_gets_a_warning() {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("gesher-secret-{}", std::process::id()));
        std::fs::write(&path, "a secret\n").unwrap();
        let mut warned = Vec::new();
        for mode in [0o600, 0o400, 0o640, 0o604, 0o620, 0o602, 0o666] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let file = read(&path).unwrap();
            assert_eq!(**file.bytes, *b"a secret");
            warned.push(
                file.warning
                    .map(|text| text.split(" by ").next().unwrap().split(" be ").last().unwrap().to_owned()),
            );
        }
        std::fs::remove_file(&path).unwrap();
        let warned: Vec<_> = warned.iter().map(Option::as_deref).collect();
        let (read, changed) = (Some("read"), Some("changed"));
        assert_eq!(warned, [None, None, read, read, changed, changed, Some("read and changed")]);
    }
}
