//! Which runtime carries the connections. `smol` has a task for each of them; `std` has threads, and is what is left in
//! a build that has to be small. Everything else is the same with both.

use std::io;

use clap::ValueEnum;
#[cfg(feature = "demo")]
pub(crate) use gesher_core::drive::StopHandle;
pub(crate) use gesher_core::drive::{Options, Stopped};
#[cfg(feature = "smol")]
use gesher_runtime_smol as either;
#[cfg(not(feature = "smol"))]
use gesher_runtime_std as either;

pub(crate) use either::{Listener, Service, bind, bind_everywhere, raise_descriptor_limit, seed};

#[cfg(not(any(feature = "smol", feature = "std")))]
compile_error!("nothing can run without a runtime: enable the feature `smol` or `std`");

/// The version, and the runtimes that are in this build.
pub(crate) const VERSION: &str = match (cfg!(feature = "smol"), cfg!(feature = "std")) {
    (true, true) => concat!(env!("CARGO_PKG_VERSION"), " (runtimes: smol, std)"),
    (true, false) => concat!(env!("CARGO_PKG_VERSION"), " (runtime: smol)"),
    (false, _) => concat!(env!("CARGO_PKG_VERSION"), " (runtime: std)"),
};

#[derive(Clone, Copy, Default, Debug, clap::Args)]
pub(crate) struct RuntimeArgs {
    /// What carries the connections: smol for any number of them, std for at most 512
    #[arg(long, value_name = "NAME", env = "GESHER_RUNTIME", default_value_t, value_enum)]
    pub(crate) runtime: Runtime,
}

/// A runtime of this build.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(crate) enum Runtime {
    #[cfg(feature = "smol")]
    #[default]
    Smol,
    #[cfg(feature = "std")]
    #[cfg_attr(not(feature = "smol"), default)]
    Std,
}

impl Runtime {
    /// The most connections that it carries for one process.
    pub(crate) fn connections_max(self) -> usize {
        match self {
            #[cfg(feature = "smol")]
            Runtime::Smol => gesher_core::limits::CONNECTIONS_MAX as usize,
            #[cfg(feature = "std")]
            Runtime::Std => gesher_runtime_std::CONNECTIONS_MAX,
        }
    }

    /// Runs `services` until they are asked to stop.
    pub(crate) fn run(self, services: Vec<Service>, options: Options) -> io::Result<Stopped> {
        match self {
            #[cfg(feature = "smol")]
            Runtime::Smol => gesher_runtime_smol::run(services, options),
            #[cfg(feature = "std")]
            Runtime::Std => gesher_runtime_std::run(services, options),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_names_the_runtimes_of_this_build() {
        let names: Vec<_> = Runtime::value_variants()
            .iter()
            .filter_map(|runtime| Some(runtime.to_possible_value()?.get_name().to_owned()))
            .collect();
        assert!(VERSION.ends_with(&format!("{})", names.join(", "))), "{VERSION}");
    }
}
