//! The page as one file.

/// The crate as WebAssembly, packed by gzip, in base64, which `make.sh` makes.
pub const MODULE: &str = include_str!("formats.wasm.gz.base64");

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// The page: HTML that needs no other file and no network.
pub fn page() -> String {
    PAGE.replacen("/*STYLE*/", STYLE, 1)
        .replacen("/*MODULE*/", MODULE, 1)
        .replacen("/*SCRIPT*/", SCRIPT, 1)
}
