//! The clocks, as the core reads them.

use std::time::{Duration, Instant, SystemTime};

use gesher_core::time::{self, Now, UnixSecs};

/// The clocks of a run.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// The monotonic clock begins now.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// What the clocks say.
    pub fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now { mono: time::Instant::from_origin(self.origin.elapsed()), unix: UnixSecs(unix.as_secs()) }
    }

    /// When `at` is by the system's clock; none if that is further away than it can say.
    pub fn instant(&self, at: time::Instant) -> Option<Instant> {
        self.origin.checked_add(at.since_origin())
    }
}
