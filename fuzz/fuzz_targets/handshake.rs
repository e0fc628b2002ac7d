//! The body is `gesher_core::sim::fuzz::handshake`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gesher_core::sim::fuzz::handshake(data));
