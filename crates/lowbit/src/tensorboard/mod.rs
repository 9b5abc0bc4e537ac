//! Event files that TensorBoard opens: numbers, distributions, pictures, texts and hyperparameters over
//! steps. [`EventWriter`] writes them, [`TensorBoardLogger`] hands it the metrics of Burn's own learner, and
//! [`train::TensorBoard`](crate::train::TensorBoard) all that training has.

mod histogram;
mod hparams;
mod logger;
pub(crate) mod proto;
#[cfg(test)]
pub(crate) mod reader;
mod record;
mod writer;

pub use histogram::Counted;
pub use hparams::Hparam;
pub use logger::TensorBoardLogger;
pub use writer::EventWriter;
