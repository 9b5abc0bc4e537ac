//! Sweeps: many runs that differ in a few settings, each in a folder of its own.
//!
//! A [`Sweep`] is a file, its [`Cell`]s are what it lists, a [`SweepFolder`] is where they lie. A
//! cell is one ordinary run folder, so that it can be started anywhere, stopped anywhere and gone on
//! with anywhere; [`CellLock`] keeps two workers out of one.

mod file;
mod folder;
mod grid;
mod lock;

pub use file::Sweep;
pub use folder::{CellFolder, CellState, SweepFolder};
pub use grid::Cell;
pub use lock::CellLock;
