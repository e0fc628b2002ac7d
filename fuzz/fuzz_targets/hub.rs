//! The body is `gesher_core::sim::fuzz::hub`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gesher_core::sim::fuzz::hub(data));
