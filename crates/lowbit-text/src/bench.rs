//! The speed of inference.

use std::time::Instant;

use burn::tensor::{Device, Int, Tensor, TensorData};
use lowbit::config::{Planner, QPlan};

use crate::Error;
use crate::models::{
    Architecture, Cache, EncoderInput, LanguageModel, ModelConfig, QuestionAnswering,
};

/// Networks in the sizes of their papers, by name, with what their `config.json` says.
const SIZES: [(&str, &str); 3] = [
    (
        "albert-base",
        r#"{ "model_type": "albert", "vocab_size": 30000, "embedding_size": 128, "hidden_size": 768,
            "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
            "max_position_embeddings": 512 }"#,
    ),
    (
        "bert-base",
        r#"{ "model_type": "bert", "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12,
            "num_attention_heads": 12, "intermediate_size": 3072, "max_position_embeddings": 512 }"#,
    ),
    (
        "gpt2",
        r#"{ "model_type": "gpt2", "vocab_size": 50257, "n_positions": 1024, "n_embd": 768,
            "n_layer": 12, "n_head": 12 }"#,
    ),
];

/// What is timed.
#[derive(Debug, Clone)]
pub struct Inference {
    /// One of [`names`].
    pub model: String,
    /// Sequences in a pass.
    pub batch: usize,
    /// Tokens of a sequence.
    pub length: usize,
    /// Passes that count, of each way.
    pub rounds: usize,
}

/// The names of networks that [`inference`] times.
pub fn names() -> Vec<&'static str> {
    SIZES.iter().map(|(name, _)| *name).collect()
}

/// Seconds of each pass of a network whose weights are drawn, for each of the plans, which take turns in each
/// round; a round before them does not count.
///
/// # Errors
/// If there is no network of that name, it knows fewer positions, or a plan does not fit.
pub fn inference(
    workload: &Inference,
    plans: &[QPlan],
    device: &Device,
) -> Result<Vec<Vec<f64>>, Error> {
    let config = config(workload)?;
    let networks: Vec<Network> = plans
        .iter()
        .map(|plan| Network::of(&config, plan, device))
        .collect::<Result<_, _>>()?;
    let mut seconds = vec![Vec::new(); plans.len()];
    for round in 0..=workload.rounds {
        for (network, seconds) in networks.iter().zip(&mut seconds) {
            let tokens = tokens(workload, config.vocabulary(), round, device);
            let started = Instant::now();
            network.pass(tokens);
            if round > 0 {
                seconds.push(started.elapsed().as_secs_f64());
            }
        }
    }
    Ok(seconds)
}

fn config(workload: &Inference) -> Result<ModelConfig, Error> {
    let found = SIZES.iter().find(|(name, _)| *name == workload.model);
    let Some((_, text)) = found else {
        let message = format!("is `{}`, expected {}", workload.model, names().join(", "));
        return Err(Error::field("model", message));
    };
    let config = ModelConfig::parse(text)?;
    let positions = config.positions();
    if !(1..=positions).contains(&workload.length) {
        let message = format!("is {}, expected 1 to {positions}", workload.length);
        return Err(Error::field("length", message));
    }
    Ok(config)
}

/// Numbers that differ from round to round, evenly spread by a multiplication (Knuth, TAOCP 6.4).
fn tokens(
    workload: &Inference,
    vocabulary: usize,
    round: usize,
    device: &Device,
) -> Tensor<2, Int> {
    let count = workload.batch * workload.length;
    let spread = |i: usize| ((i + round * count) as u32).wrapping_mul(2_654_435_769);
    let ids: Vec<i64> = (0..count)
        .map(|i| i64::from(spread(i) % vocabulary as u32))
        .collect();
    let data = TensorData::new(ids, [workload.batch, workload.length]);
    Tensor::from_data(data, device)
}

enum Network {
    Encoder(Box<QuestionAnswering>),
    Decoder(Box<LanguageModel>),
}

impl Network {
    fn of(config: &ModelConfig, plan: &QPlan, device: &Device) -> Result<Self, Error> {
        let mut planner = Planner::new(plan)?;
        let network = match &config.architecture {
            Architecture::Encoder(config) => {
                let network = QuestionAnswering::init_planned(config, &mut planner, device)?;
                Self::Encoder(Box::new(network))
            }
            Architecture::Decoder(config) => {
                let network = LanguageModel::init_planned(config, &mut planner, device)?;
                Self::Decoder(Box::new(network))
            }
        };
        planner.finish()?;
        Ok(network)
    }

    /// One pass, whose results are read.
    fn pass(&self, tokens: Tensor<2, Int>) {
        match self {
            Self::Encoder(network) => {
                let [starts, _] = network.forward(EncoderInput {
                    types: tokens.zeros_like(),
                    tokens,
                    padding: None,
                });
                starts.into_data();
            }
            Self::Decoder(network) => {
                network
                    .forward(tokens, None, &mut Cache::default())
                    .into_data();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_refused() {
        let workload = Inference {
            model: "albert-base".into(),
            batch: 1,
            length: 513,
            rounds: 1,
        };
        let refused = inference(&workload, &[], &Device::flex()).unwrap_err();
        assert_eq!(refused.to_string(), "length: is 513, expected 1 to 512");
        let workload = Inference {
            model: "t5".into(),
            ..workload
        };
        let refused = inference(&workload, &[], &Device::flex()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "model: is `t5`, expected albert-base, bert-base, gpt2"
        );
    }
}
