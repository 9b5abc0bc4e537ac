//! The posits of the plans against extended QPyTorch's own kernel; `fixtures/make_posits.py` wrote the table.

use lowbit::config::QPlan;
use lowbit::quantizers::{FormatQuantizerConfig, QuantizerConfig};
use lowbit_formats::Format;
use lowbit_text::plans;

/// A format's numbers, and what QPyTorch makes of them.
struct Table {
    format: Format,
    /// QPyTorch multiplies by it.
    scale: f32,
    numbers: Vec<f32>,
    theirs: Vec<f32>,
}

fn tables() -> Vec<Table> {
    let bits = |word: &str| f32::from_bits(u32::from_str_radix(word, 16).unwrap());
    let mut tables: Vec<Table> = Vec::new();
    let text = include_str!("../fixtures/posits.txt");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, scale)) = line.split_once(": ") {
            tables.push(Table {
                format: name.parse().unwrap(),
                scale: scale.parse().unwrap(),
                numbers: Vec::new(),
                theirs: Vec::new(),
            });
            continue;
        }
        let table = tables.last_mut().unwrap();
        for (x, y) in line.split(' ').map(|pair| pair.split_once('>').unwrap()) {
            table.numbers.push(bits(x));
            table.theirs.push(bits(y));
        }
    }
    tables
}

/// What rounds weights, inputs and outputs of linear layers by a plan, the last layer's among them.
fn quantizers(plan: &QPlan) -> Vec<&FormatQuantizerConfig> {
    let layers = [&plan.default, &plan.last];
    let slots = layers.into_iter().flat_map(|layer| {
        ["weight", "input", "output"].map(|slot| layer.get(slot).expect("the plan has the slot"))
    });
    let formats = slots.map(|quantizer| match quantizer {
        QuantizerConfig::Format(config) => config,
        other => panic!("{other:?} is no format"),
    });
    formats.collect()
}

/// Equal bits, but for what is no number: QPyTorch makes minus infinity of infinities and NaN, and of what
/// overflows `f32` times its scale; posits here are NaN, and the largest.
#[test]
fn posits_of_the_plans_are_qpytorchs() {
    let plans =
        ["posit-albert", "posit-albert-16"].map(|name| plans::named(name).unwrap().unwrap());
    let used: Vec<_> = plans.iter().flat_map(quantizers).collect();
    let mut checked = 0;
    for table in tables() {
        let Table { format, .. } = &table;
        let Some(quantizer) = used.iter().find(|quantizer| quantizer.format == *format) else {
            panic!("no plan has {format}");
        };
        let rounding = quantizer.rounding;
        let ours = format.quantize_to_vec(&table.numbers, rounding).unwrap();
        let largest = format.round(f32::MAX, rounding, 0);
        for ((&x, ours), theirs) in table.numbers.iter().zip(ours).zip(&table.theirs) {
            let what = format!("{format} of {x:e} is {ours:e}, QPyTorch has {theirs:e}");
            if (x * table.scale).is_finite() {
                assert_eq!(ours.to_bits(), theirs.to_bits(), "{what}");
                checked += 1;
                continue;
            }
            assert_eq!(*theirs, f32::NEG_INFINITY, "{what}");
            match x.is_finite() {
                true => assert_eq!(ours, largest.copysign(x), "{what}"),
                false => assert!(ours.is_nan(), "{what}"),
            }
        }
    }
    assert!(checked > 6000, "{checked} numbers");
    // Nothing that the plans use is left out.
    for quantizer in used {
        let format = &quantizer.format;
        assert!(
            tables().iter().any(|table| table.format == *format),
            "{format}"
        );
    }
}
