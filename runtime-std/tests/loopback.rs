//! What every runtime must do, on real loopback sockets.

use gesher_runtime_std as runtime;

mod conformance;
