//! `gesher check`: whether the settings can be used, and what they can cost.

use std::io::{self, Write};

use gesher_core::config::MemoryBound;

use crate::args::CheckArgs;
use crate::exit::{Exit, Failure};
use crate::settings::{Client, Server};

pub(crate) fn run(args: CheckArgs) -> Result<Exit, Failure> {
    let (warnings, bound) = match args {
        CheckArgs::Server(args) => {
            Server::check(args).map(|server| (server.warnings, server.config.memory_bound()))?
        }
        CheckArgs::Client(args) => {
            Client::check(args).map(|client| (client.warnings, client.config.memory_bound()))?
        }
    };
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
        "Memory at most {} MiB: {} MiB for what is under way, {} connections with buffers of {} KiB, and {} links with \
         records of {} KiB.\n",
        bound.total_bytes().div_ceil(MIB),
        bound.pool_bytes / MIB,
        bound.connections,
        MemoryBound::CONNECTION_BYTES / KIB,
        bound.links,
        MemoryBound::LINK_BYTES / KIB,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_says_how_it_comes_about() {
        let bound = MemoryBound { pool_bytes: 64 << 20, connections: 16, links: 2 };
        assert_eq!(
            memory(bound),
            "Memory at most 71 MiB: 64 MiB for what is under way, 16 connections with buffers of 336 KiB, and 2 links with \
             records of 513 KiB.\n"
        );
    }
}
