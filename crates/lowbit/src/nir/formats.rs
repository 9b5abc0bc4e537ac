//! Formats among a node's metadata: of a layer's input, output and state, for which NIR has no field.

use super::graph::{Node, Values};
use crate::Error;
use crate::config::QConfig;
use crate::quantizers::{
    FormatQuantizerConfig, Number, Quantizer, QuantizerConfig, Quantizers, Slot,
};

/// What our keys begin with: `lowbit.state`.
const PREFIX: &str = "lowbit.";

/// The slots whose formats are kept.
const SLOTS: [&str; 3] = [Slot::INPUT, Slot::OUTPUT, Slot::STATE];

/// The node with the formats for which it has no field.
pub(super) fn with_formats(
    mut node: Node,
    layer: &str,
    quantizers: &Quantizers,
) -> Result<Node, Error> {
    let refused = |what: &str| {
        let message = format!("{what}, which neither fields nor metadata say");
        Err(Error::config(layer, message))
    };
    if quantizers.accumulator.is_some() || quantizers.sums().is_some() {
        return refused("its sums are quantized");
    }
    for slot in SLOTS {
        node = match quantizers.get(slot) {
            None => node,
            Some(Quantizer::Format(format)) => {
                node.with_metadata(&format!("{PREFIX}{slot}"), format.number().to_string())
            }
            Some(_) => return refused(&format!("{slot} has more than a format")),
        };
    }
    Ok(node)
}

/// What [`with_formats`] has written.
pub(super) fn formats(node: &Node) -> Result<QConfig, String> {
    let ours = node.metadata.iter().filter_map(|(key, value)| {
        let slot = key.strip_prefix(PREFIX)?;
        Some((slot, value))
    });
    let mut config = QConfig::new();
    for (slot, value) in ours {
        let Some(slot) = SLOTS.into_iter().find(|name| *name == slot) else {
            return Err(format!("has {PREFIX}{slot}, expected one of {SLOTS:?}"));
        };
        let Values::Text(texts) = &value.values else {
            return Err(format!("{PREFIX}{slot} is no text"));
        };
        let text = texts.first().map_or("", String::as_str);
        let number: Number = text
            .parse()
            .map_err(|error| format!("{PREFIX}{slot}: {error}"))?;
        let quantizer = FormatQuantizerConfig {
            rounding: number.rounding,
            ..FormatQuantizerConfig::new(number.format)
        };
        config.set(slot, QuantizerConfig::Format(quantizer));
    }
    Ok(config)
}

/// Whether a node that quantizes nothing has none.
pub(super) fn without_formats(node: &Node) -> Result<(), String> {
    match formats(node)?.slots().next() {
        Some((slot, _)) => Err(format!(
            "has {PREFIX}{slot}, and a {} quantizes nothing",
            node.kind
        )),
        None => Ok(()),
    }
}
