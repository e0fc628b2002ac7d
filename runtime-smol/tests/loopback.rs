//! What every runtime must do, on real loopback sockets.

use gesher_runtime_smol as runtime;

#[path = "../../runtime-std/tests/conformance/mod.rs"]
mod conformance;
