//! `gesher check`: whether the settings can be used, and what they can cost.

use std::io::{self, Write};

use gesher_core::config::MemoryBound;
use gesher_core::limits::{DESCRIPTORS_SPARE, LINK_HEAD_BYTES_MAX};

use crate::args::CheckArgs;
use crate::exit::{Exit, Failure};
use crate::runtime::raise_descriptor_limit;
use crate::settings::{Client, Server};

pub(crate) fn run(args: CheckArgs) -> Result<Exit, Failure> {
    let (runtime, warnings, bound) = match args {
        CheckArgs::Server(args) => {
            let runtime = args.runtime.runtime;
            Server::check(args).map(|server| (runtime, server.warnings, server.config.memory_bound()))?
        }
        CheckArgs::Client(args) => {
            let runtime = args.runtime.runtime;
            Client::check(args).map(|client| (runtime, client.warnings, client.config.memory_bound()))?
        }
    };
    let descriptors =
        raise_descriptor_limit().map_or(usize::MAX, |free| free.saturating_sub(DESCRIPTORS_SPARE).max(1));
    let bound = bound.with_connections_max(runtime.connections_max().min(descriptors));
    let mut text = String::from("The settings can be used.\n");
    for warning in warnings {
        text += &format!("Warning: {warning}\n");
    }
    text += &memory(bound);
    io::stdout().write_all(text.as_bytes()).map_err(Failure::failed)?;
    Ok(Exit::Done)
}

/// The bound and how it comes about.
fn memory(bound: MemoryBound) -> String {
    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;
    format!(
        "Memory at most {} MiB: {} MiB for what is under way, {} connections of {} KiB, {} MiB for {} links, {} MiB for {} \
         heads that wait for room, and {} MiB for what is remembered of joins.\n",
        bound.total_bytes().div_ceil(MIB),
        bound.pool_bytes / MIB,
        bound.connections,
        MemoryBound::CONNECTION_BYTES / KIB,
        bound.links_bytes().div_ceil(MIB),
        bound.links,
        (bound.waiting * LINK_HEAD_BYTES_MAX).div_ceil(MIB),
        bound.waiting,
        bound.joining_bytes.div_ceil(MIB),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_says_how_it_comes_about_and_no_more_than_there_can_be() {
        let bound = MemoryBound {
            pool_bytes: 64 << 20,
            connections: 500,
            links: 200,
            waiting: 100,
            joining_bytes: 1,
        };
        assert_eq!(
            memory(bound.with_connections_max(16)),
            "Memory at most 79 MiB: 64 MiB for what is under way, 16 connections of 340 KiB, 9 MiB for 16 links, 2 MiB for 16 \
             heads that wait for room, and 1 MiB for what is remembered of joins.\n"
        );
    }
}
