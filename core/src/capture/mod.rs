//! What a process got, as a file; and the same machines run over it again, offline and without any secret.
//!
//! # What it guarantees
//! A replay makes the machines decide what they decided: each call of a machine leaves a hash of its decisions in the
//! file, and the first that differs is told. A file never holds the secret, the PIN, a key, or a seed that one comes
//! from: what the keys decided is in it as verdicts, and what they opened as plain records. So it holds **everything that
//! visitors and apps sent, in plain**.
//!
//! # How
//! A process is wrapped ([`gateway`], [`connector`]), and its machines with it: whatever runs them does not notice. One
//! lock orders all calls of a process, so that a runtime of many threads captures the one order in which everything
//! happened. Randomness is of two kinds: what decides (ids, waits, masks) comes from a seed that is in the file; keys and
//! IVs come from another.
//!
//! # The file
//! ```text
//! file      "gesher capture 1\n" ‖ entries
//! entry     length u32 ‖ check u32 ‖ kind u8 ‖ body           length of kind and body; check: their SHA-256's first bytes
//!   0 start       role u8 ‖ version text ‖ deciding seed 32 B ‖ settings: counted texts and numbers by role
//!   1 supervisor                                              the machine that a connector begins with
//!   2 accept      from text ‖ taken u8                        a connection; not taken: it was closed at once
//!   3 call        machine ‖ now ‖ input ‖ ended u8 ‖ sent ‖ answers ‖ decision     one call of `advance`
//!   4 lost        machine ‖ now ‖ why u8 ‖ answers ‖ decision
//!   5 drain       now                                         the process was asked to stop
//!   6 stop        reason text                                 nothing was captured from here on
//!   7 room        now                                         room for connections ran out, and some were let go
//! machine   number: supervisor, accepted connections and dials, in the order in which they came
//! now       nanoseconds ‖ civil seconds, each less what the entry before had (zigzag)
//! input     bytes that arrived since the last call, as they came
//! sent      number: bytes of output that were taken since the last call
//! answers   number ‖ each: 0 wrong, 1 right (a check by the keys), 2 forged, 3 opened ‖ plaintext
//! decision  8 bytes of a SHA-256, or 0 times 8 if the call panicked
//! ```
//! Integers are big-endian, numbers LEB128 of at most 64 bits; text and bytes have their length before them, a number.

mod format;
mod record;
mod replay;
mod settings;
mod spoken;

#[cfg(test)]
mod tests;

pub use self::format::ReadError;
#[cfg(feature = "sim")]
pub(crate) use self::format::file_of;
pub use self::record::{Recorder, Stop, connector, gateway};
#[cfg(feature = "sim")]
pub(crate) use self::record::{connector_and_hub, gateway_and_hub};
pub use self::replay::{Difference, Replay, ReplayError, Summary};
