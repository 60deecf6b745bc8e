#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_server::fuzzing::copy_rows(data));
