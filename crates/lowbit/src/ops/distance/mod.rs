//! How far what one network computes is from what another does. The second one is a constant: no
//! gradient reaches it.

mod attention;
mod kl_divergence;
mod mean_square;

pub use attention::attention_distance;
pub use kl_divergence::kl_divergence;
pub use mean_square::mean_square;
