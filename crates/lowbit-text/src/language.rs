//! What a language model makes of text: how well it expects one, and how it goes on.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};
use lowbit_formats::philox::philox_4x32_10;
use rayon::prelude::*;

use crate::Error;
use crate::models::{Cache, LanguageModel};

/// A language model where it is.
pub struct Language<'a> {
    /// The network.
    pub network: &'a LanguageModel,
    /// Positions that it knows.
    pub positions: usize,
    /// Where it is.
    pub device: Device,
}

/// How well a text was expected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Perplexity {
    /// Tokens that were expected.
    pub tokens: usize,
    /// The mean of `-ln p` of a token, given those before it in its window.
    pub loss: f64,
}

impl Perplexity {
    /// `e^loss`.
    pub fn perplexity(&self) -> f64 {
        self.loss.exp()
    }
}

/// How a text goes on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Tokens to add, at most.
    pub tokens: usize,
    /// Scores are divided by it before one is drawn; with 0 the most likely is taken.
    pub temperature: f64,
    /// How many of the most likely are drawn from; 0 for all.
    pub top: usize,
    /// What is drawn depends on it and on the position alone.
    pub seed: u64,
}

impl Language<'_> {
    /// How well the network expects each token after the first, in windows of `length` tokens of which
    /// each begins `stride` after the one before; in a window only those are counted that the one before
    /// had not (the sliding window of `transformers`' page on perplexity).
    ///
    /// # Errors
    /// If there are not two tokens, a window is longer than the network knows positions or shorter than two, or
    /// the stride is not from 1 to the length.
    pub fn perplexity(
        &self,
        tokens: &[u32],
        length: usize,
        stride: usize,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Perplexity, Error> {
        let positions = self.positions;
        if !(2..=positions).contains(&length) {
            let message =
                format!("is {length}, expected 2 to {positions}, the network's positions");
            return Err(Error::field("length", message));
        }
        if !(1..=length).contains(&stride) {
            let message = format!("is {stride}, expected 1 to {length}, the length");
            return Err(Error::field("stride", message));
        }
        if tokens.len() < 2 {
            let message = format!("has {} tokens, expected at least 2", tokens.len());
            return Err(Error::field("text", message));
        }
        let (mut sum, mut expected, mut seen) = (0.0, 0, 1);
        for begin in (0..tokens.len()).step_by(stride) {
            let end = (begin + length).min(tokens.len());
            progress(seen, tokens.len());
            // A token is expected by the position before it, which the first of a window has not.
            let first = seen.max(begin + 1);
            let asked = first - 1 - begin..end - 1 - begin;
            let window = &tokens[begin..end];
            let scores = self.scores(window, &mut Cache::default(), asked);
            let rows = scores.par_chunks(scores.len() / (end - first).max(1));
            let each = rows.zip(&tokens[first..end]);
            let each = each.map(|(row, &token)| -log_probability(row, token as usize));
            sum += each.collect::<Vec<f64>>().iter().sum::<f64>();
            expected += end - first;
            seen = end;
            if end == tokens.len() {
                break;
            }
        }
        progress(tokens.len(), tokens.len());
        Ok(Perplexity {
            tokens: expected,
            loss: sum / expected as f64,
        })
    }

    /// Tokens that follow, up to one of `ends`, which is not among them.
    ///
    /// # Errors
    /// If there is no token to begin with, or there are more positions than the network knows.
    pub fn go_on(
        &self,
        tokens: &[u32],
        sampling: &Sampling,
        ends: &[u32],
    ) -> Result<Vec<u32>, Error> {
        if tokens.is_empty() {
            return Err(Error::field(
                "prompt",
                "is empty, expected at least one token",
            ));
        }
        let (all, positions) = (tokens.len() + sampling.tokens, self.positions);
        if all > positions {
            let begun = tokens.len();
            let message = format!(
                "of {begun} tokens goes on to {all}, the network knows {positions} positions"
            );
            return Err(Error::field("prompt", message));
        }
        let mut cache = Cache::default();
        let mut last = self.scores(tokens, &mut cache, tokens.len() - 1..tokens.len());
        let mut made = Vec::new();
        while made.len() < sampling.tokens {
            let token = sampling.choose(&last, made.len());
            if ends.contains(&token) {
                break;
            }
            made.push(token);
            if made.len() < sampling.tokens {
                last = self.scores(&[token], &mut cache, 0..1);
            }
        }
        Ok(made)
    }

    /// Scores of what follows each of the tokens that are asked, one after the other.
    fn scores(&self, tokens: &[u32], cache: &mut Cache, asked: Range<usize>) -> Vec<f32> {
        if asked.is_empty() {
            return Vec::new();
        }
        let ids: Vec<i64> = tokens.iter().map(|&id| i64::from(id)).collect();
        let data = TensorData::new(ids, [1, tokens.len()]);
        let tokens = Tensor::<2, Int>::from_data(data, &self.device);
        let positions = self.network.decoder.forward(tokens, None, cache);
        let positions = positions.narrow(1, asked.start, asked.len());
        let scores = self.network.head.forward(positions).into_data();
        match scores.as_slice::<f32>() {
            Ok(scores) => scores.to_vec(),
            Err(_) => scores.iter::<f32>().collect(),
        }
    }
}

/// `ln softmax(scores)[index]`
fn log_probability(scores: &[f32], index: usize) -> f64 {
    let most = scores.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let all: f64 = scores.iter().map(|&s| f64::from(s - most).exp()).sum();
    f64::from(scores[index] - most) - all.ln()
}

impl Sampling {
    /// The token after so many that were made; of equal scores the first.
    fn choose(&self, scores: &[f32], made: usize) -> u32 {
        if self.temperature <= 0.0 {
            let better = |best: usize, at: usize| match scores[at] > scores[best] {
                true => at,
                false => best,
            };
            return (0..scores.len()).reduce(better).unwrap_or(0) as u32;
        }
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let top = match self.top {
            0 => order.len(),
            top => top.min(order.len()),
        };
        let most = f64::from(scores[order[0]]);
        let weight = |&i: &usize| ((f64::from(scores[i]) - most) / self.temperature).exp();
        let weights: Vec<f64> = order[..top].iter().map(weight).collect();
        let all: f64 = weights.iter().sum();
        let mut left = drawn(self.seed, made as u64) * all;
        for (index, weight) in order.iter().zip(weights) {
            left -= weight;
            if left < 0.0 {
                return *index as u32;
            }
        }
        order[top - 1] as u32
    }
}

/// The highest counter word, "text" in ASCII, which keeps this sequence apart from others of the same seed.
const TEXT: u32 = 0x7465_7874;

/// A number from 0 to below 1, of a seed and an index.
fn drawn(seed: u64, index: u64) -> f64 {
    let key = [seed as u32, (seed >> 32) as u32];
    let [word, ..] = philox_4x32_10([index as u32, (index >> 32) as u32, 0, TEXT], key);
    f64::from(word) / 2.0_f64.powi(32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_become_probabilities() {
        // 1/4 and 3/4.
        let loss = log_probability(&[0.0, 3.0_f32.ln()], 1);
        assert!((loss - 0.75_f64.ln()).abs() < 1e-7);
    }

    #[test]
    fn the_most_likely_or_one_that_is_drawn() {
        let scores = [0.0, 2.0, 2.0, -1.0];
        let sampling = Sampling {
            tokens: 1,
            temperature: 0.0,
            top: 0,
            seed: 1,
        };
        assert_eq!(sampling.choose(&scores, 0), 1);
        let drawn = Sampling {
            temperature: 1.0,
            top: 2,
            ..sampling
        };
        let tokens: Vec<u32> = (0..400).map(|i| drawn.choose(&scores, i)).collect();
        let ones = tokens.iter().filter(|&&token| token == 1).count();
        // Both are as likely: within five deviations of 200, which are 10 each.
        assert!((150..=250).contains(&ones), "{ones}");
        assert!(tokens.iter().all(|token| [1, 2].contains(token)));
    }
}
