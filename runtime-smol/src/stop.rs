//! Asking a run to stop, from any thread.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Instant;

use async_io::Timer;

use crate::ports::Flag;

/// Stops one run as signals do, from any thread and at any time, also before it began.
#[derive(Clone, Default)]
pub struct StopHandle(Arc<Asked>);

#[derive(Default)]
struct Asked {
    times: AtomicU32,
    bell: Flag,
}

impl StopHandle {
    /// Asks once more: the first time what is open may finish, the second time everything ends at once.
    pub fn stop(&self) {
        self.0.times.fetch_add(1, Ordering::AcqRel);
        self.ring();
    }

    /// How often it was asked.
    pub(crate) fn times(&self) -> u32 {
        self.0.times.load(Ordering::Acquire)
    }

    /// Lets the run look again at whether it is over.
    pub(crate) fn ring(&self) {
        self.0.bell.raise();
    }

    /// Waits until the bell was rung since the last time, or until `until`.
    pub(crate) async fn rung(&self, until: Option<Instant>) {
        let mut timer = until.map_or_else(Timer::never, Timer::at);
        poll_fn(|cx| {
            self.0.bell.register(cx.waker());
            if self.0.bell.lower() || Pin::new(&mut timer).poll(cx).is_ready() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}
