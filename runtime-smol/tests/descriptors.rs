//! What every runtime must do without descriptors. A program of its own: the limit is its process's.

use gesher_runtime_smol as runtime;

#[path = "../../runtime-std/tests/conformance/descriptors.rs"]
mod descriptors;
