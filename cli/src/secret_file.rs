//! A secret from a file or from standard input.
//!
//! One line end at the end is dropped, as editors and `echo` leave one; every other byte counts. Not more is read
//! than a secret may have. A file that others may read or write is used, with a warning.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use gesher_core::limits::SECRET_BYTES_MAX;

use crate::exit::Failure;

/// What a file held, and what to warn about.
#[derive(Debug)]
pub(crate) struct SecretFile {
    pub(crate) bytes: Vec<u8>,
    pub(crate) warning: Option<String>,
}

/// Reads the secret in the file at `path`; `-` is standard input.
pub(crate) fn read(path: &Path) -> Result<SecretFile, Failure> {
    if path.as_os_str() == "-" {
        let bytes = read_bounded(io::stdin().lock())
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
fn read_bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let with_line_end = SECRET_BYTES_MAX as u64 + 2;
    let mut bytes = Vec::new();
    from.take(with_line_end + 1).read_to_end(&mut bytes)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(bytes)
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
            assert_eq!(read_bounded(held).unwrap(), secret, "{held:?}");
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
            assert_eq!(file.bytes, b"a secret");
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
