//! What else a process needs of its system: random bytes, descriptors, threads.

use std::fs;
use std::io;
use std::thread::{self, JoinHandle};

use gesher_core::hub::Seed;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The stack of every thread. No more than 24 KiB of it were seen in use, 32 with the backtrace of a panic; what is not
/// used is not there.
const STACK_BYTES: usize = 128 * 1024;

/// Starts a thread with a small stack.
pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    // One type for all work: what the standard library makes of each is 2 KB of program.
    let work: Box<dyn FnOnce() + Send> = Box::new(work);
    thread::Builder::new().name(name.into()).stack_size(STACK_BYTES).spawn(work)
}

/// Draws a seed for the random numbers of a process.
///
/// # Errors
/// If the system has no entropy to give.
pub fn seed() -> io::Result<Seed> {
    Seed::fill(|seed| getrandom::fill(seed).map_err(|error| io::Error::other(error.to_string())))
}

/// Raises the limit of open descriptors as far as the system allows (RLIMIT_NOFILE to its hard limit), and says how many
/// more this process can open then; none if there is no limit. A system that refuses leaves the limit where it is.
pub fn raise_descriptor_limit() -> Option<usize> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
    let limit = usize::try_from(getrlimit(Resource::Nofile).current?).ok()?;
    // Not every system shows them; most processes have fewer than the spare ones (`limits::DESCRIPTORS_SPARE`).
    let open = fs::read_dir("/dev/fd").map_or(0, Iterator::count);
    Some(limit.saturating_sub(open))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_seeds_differ() {
        assert_ne!(seed().unwrap().bytes(), seed().unwrap().bytes());
    }

    #[test]
    fn the_descriptor_limit_is_raised_to_its_maximum() {
        let free = raise_descriptor_limit();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        // Three at least are open.
        assert!(free < limit.current.map(|limit| limit as usize - 2), "{free:?} of {:?}", limit.current);
    }
}
