#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lowbit_formats_fuzz::kernels(bytes));
