//! What a run is given.

use std::sync::Arc;

use gesher_core::event::Event;
use gesher_core::machine::Process;

use super::listen::Listener;

/// A process to run, and what it listens on.
pub struct Service {
    /// What makes its machines.
    pub process: Arc<dyn Process>,
    /// Where its connections come from; a connector without a dashboard has none.
    pub listeners: Vec<Listener>,
    /// Is told everything that happens, on the thread where it happened; it should not block.
    pub on_event: Arc<dyn Fn(Event) + Send + Sync>,
}
