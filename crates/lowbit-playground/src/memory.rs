//! How a page asks: it writes a request into memory and reads the reply there.
//!
//! `reserve(n)` makes room for a request of `n` bytes of UTF-8 and says where; `reply()` answers it and says
//! how many bytes the reply has, `reply_place()` where they are.

// Names that a page finds must not be mangled, which the compiler calls unsafe, since another crate could
// define them, too. Nothing here follows a pointer.
#![allow(unsafe_code)]

use std::sync::Mutex;

use crate::answer;

static REQUEST: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static REPLY: Mutex<String> = Mutex::new(String::new());

/// Room for a request of `bytes` bytes.
#[unsafe(no_mangle)]
extern "C" fn reserve(bytes: usize) -> *mut u8 {
    let Ok(mut request) = REQUEST.lock() else {
        return std::ptr::null_mut();
    };
    request.clear();
    request.resize(bytes, 0);
    request.as_mut_ptr()
}

/// Answers the request; the reply has so many bytes.
#[unsafe(no_mangle)]
extern "C" fn reply() -> usize {
    let (Ok(request), Ok(mut reply)) = (REQUEST.lock(), REPLY.lock()) else {
        return 0;
    };
    *reply = answer(&String::from_utf8_lossy(&request));
    reply.len()
}

/// Where the reply is.
#[unsafe(no_mangle)]
extern "C" fn reply_place() -> *const u8 {
    REPLY
        .lock()
        .map_or(std::ptr::null(), |reply| reply.as_ptr())
}
