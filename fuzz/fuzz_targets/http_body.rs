//! The body is `gesher_core::sim::fuzz::http_body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gesher_core::sim::fuzz::http_body(data));
