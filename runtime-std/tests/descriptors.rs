//! What every runtime must do without descriptors. A program of its own: the limit is its process's.

use gesher_runtime_std as runtime;

#[path = "conformance/descriptors.rs"]
mod descriptors;
