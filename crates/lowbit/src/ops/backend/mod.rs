//! What every operator stands on: tensors of a backend, gradients added up, and who looks at them.

pub(crate) mod accumulate;
pub(crate) mod buffer;
pub(crate) mod capture;
pub(crate) mod composed;
pub(crate) mod flex;
pub(crate) mod mark;
pub(crate) mod operator;
pub(crate) mod profile;
pub(crate) mod watch;
