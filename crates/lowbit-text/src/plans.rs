//! Plans for transformers.

use lowbit::config::{Override, QConfig, QPlan};
use lowbit::quantizers::{FormatQuantizerConfig, QuantizerConfig, Slot};
use lowbit_formats::Format;

use crate::Error;

/// Plans by name.
pub const NAMES: &str = "posit-albert or posit-albert-16";

/// The plan of that name, if there is one:
///
/// - `posit-albert`: what the question answering of extended QPyTorch assigns (its script `bert_squad.py`):
///   weights of linear layers in `posit(6,1)`, times 32 before; their inputs in `posit(6,1)`, their outputs in
///   `posit(8,1)`; weights of embeddings and normalizations, what normalizations read, and what both make, in
///   `posit(8,1)`. Biases and the products inside attention stay in float.
/// - `posit-albert-16`: the same with the first and the last linear layer of ALBERT in `posit(16,1)`, as its
///   script `run_squad-posit.py` has them.
///
/// # Errors
/// If the plan cannot be read, which a test excludes.
pub fn named(name: &str) -> Result<Option<QPlan>, Error> {
    let text = include_str!("plans/posit-albert.toml");
    Ok(match name {
        "posit-albert" => Some(QPlan::from_toml(text)?),
        "posit-albert-16" => {
            let mut plan = QPlan::from_toml(text)?;
            let wide = "posit(16,1)".parse();
            let wide = of(&wide.map_err(|error| Error::field("posit-albert-16", error))?);
            for (_, quantizer) in plan.last.slots_mut() {
                *quantizer = wide.clone();
            }
            let mut mapping = QConfig::new();
            for slot in [Slot::WEIGHT, Slot::INPUT, Slot::OUTPUT] {
                mapping.set(slot, wide.clone());
            }
            plan.overrides.push(Override {
                path: Some("encoder.mapping".into()),
                optional: true,
                set: Some(mapping),
                ..Override::default()
            });
            Some(plan)
        }
        _ => None,
    })
}

/// Every operand of every product in a format: weights and inputs of linear layers, tables of vectors, and
/// queries, keys, probabilities and values. Sums, normalizations and what is between products stay in float.
///
/// Blocks of a format that has them along the last dimension lie along what a product sums, which is that of
/// inputs, queries, keys and probabilities, but the first of weights, `[in, out]`, and that of positions of
/// values.
pub fn of_operands(format: &Format) -> QPlan {
    let both = || {
        QConfig::new()
            .with(Slot::WEIGHT, of(&format.with_blocks_along(0)))
            .with(Slot::INPUT, of(format))
    };
    let mut attention = QConfig::new().with("value", of(&format.with_blocks_along(2)));
    for slot in ["query", "key", "probabilities"] {
        attention.set(slot, of(format));
    }
    let tables = QConfig::new().with(Slot::WEIGHT, of(format));
    QPlan {
        default: both(),
        first: QConfig::new().with(Slot::WEIGHT, of(format)),
        last: both(),
        overrides: vec![
            of_type("Embedding", tables),
            of_type("DotProductAttention", attention),
        ],
        ..QPlan::float()
    }
}

fn of_type(layer_type: &str, slots: QConfig) -> Override {
    Override {
        layer_type: Some(layer_type.into()),
        set: Some(slots),
        ..Override::default()
    }
}

fn of(format: &Format) -> QuantizerConfig {
    QuantizerConfig::Format(FormatQuantizerConfig::new(format.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_lie_along_sums() {
        let of = |text: &str| {
            let plan = of_operands(&text.parse().unwrap());
            let attention = plan.overrides[1].set.clone().unwrap();
            let tables = plan.overrides[0].set.clone().unwrap();
            let text = |config: &QConfig, slot: &str| match config.get(slot) {
                Some(QuantizerConfig::Format(config)) => config.format.to_string(),
                other => panic!("{slot} is {other:?}"),
            };
            [
                text(&plan.default, "weight"),
                text(&plan.last, "input"),
                text(&attention, "value"),
                text(&tables, "weight"),
            ]
        };
        assert_eq!(
            of("mxfp4"),
            ["mxfp4(dim=0)", "mxfp4", "mxfp4(dim=2)", "mxfp4"]
        );
        let with_options = ["affine(4,block=64,dim=0)", "affine(4,block=64)"];
        assert_eq!(of("affine(4,block=64)")[..2], with_options);
        // One scale, and a scale for each index, are what they are.
        for text in ["bfp(8)", "bfp(8,dim=0)", "e4m3"] {
            assert_eq!(of(text), [text; 4]);
        }
    }

    #[test]
    fn named_plans_are_read() {
        for name in NAMES.split(" or ") {
            assert!(named(name).unwrap().is_some(), "{name}");
        }
        assert!(named("posit").unwrap().is_none());
        let plan = named("posit-albert-16").unwrap().unwrap();
        assert_eq!(plan.last.get("weight").unwrap().bits(), 16);
        assert_eq!(plan.default.get("weight").unwrap().bits(), 6);
    }
}
