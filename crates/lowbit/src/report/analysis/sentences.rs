//! What an analysis says first: what is wrong, where, and what would help most.

use crate::analysis::{
    Analysis, Defect, Finding, LayerAnalysis, Problem, RunAnalysis, WidthKind, WidthPlan,
};
use crate::quantizers::Slot;
use crate::report::page::text::{short, width};
use crate::report::table::percent;

/// The sentences, the most important first.
pub(super) fn sentences(run: &RunAnalysis) -> Vec<String> {
    let analysis = &run.analysis;
    let mut sentences = vec![whole(run)];
    let Some(first) = analysis.findings.first() else {
        sentences.push("No layer quantizes anything.".into());
        sentences.extend(widths(run));
        return sentences;
    };
    sentences.extend(alone_says_little(analysis));
    sentences.extend(next_to_nothing(analysis));
    sentences.push(guilty(analysis, first));
    sentences.push(help(analysis, first));
    sentences.extend(others(analysis));
    sentences.extend(repair(run));
    sentences.extend(widths(run));
    sentences.extend(lost(analysis));
    sentences.extend(integers(run));
    sentences
}

/// What quantization costs.
fn whole(run: &RunAnalysis) -> String {
    let Analysis {
        images,
        float,
        quantized,
        ..
    } = &run.analysis;
    let of = match run.against {
        Some(_) => "the float run",
        None => "the same network with its quantizers off",
    };
    let change = quantized.loss - float.loss;
    let points = 100.0 * (quantized.accuracy - float.accuracy);
    let change = match change {
        more if more >= 0.0 => format!("{} more loss", short(more)),
        less if less < 0.0 => format!("{} less loss", short(-less)),
        _ => "their losses cannot be compared".into(),
    };
    format!(
        "On {images} test images {} ({} on {}) has an accuracy of {} and a loss of {}; {of} has {} and {}: {change}, {points:+.2} points of accuracy.",
        run.run,
        run.network,
        run.data,
        percent(quantized.accuracy),
        short(quantized.loss),
        percent(float.accuracy),
        short(float.loss),
    )
}

/// That a network cannot be judged layer by layer.
fn alone_says_little(analysis: &Analysis) -> Option<String> {
    let off = analysis.switched_off;
    let worse = off.loss > 2.0 * analysis.quantized.loss + 0.1;
    worse.then(|| {
        format!(
            "With its quantizers off it has an accuracy of {} and a loss of {}: it has learned to be quantized, so that what a \
             layer costs by itself says little.",
            percent(off.accuracy),
            short(off.loss)
        )
    })
}

/// That little is to be gained.
fn next_to_nothing(analysis: &Analysis) -> Option<String> {
    let Analysis {
        float, quantized, ..
    } = analysis;
    let broken = analysis
        .findings
        .first()
        .is_some_and(|finding| finding.cost.is_infinite());
    let little = quantized.loss - float.loss < 1e-3 && quantized.accuracy >= float.accuracy;
    (little && !broken).then(|| "Quantization costs next to nothing on these images.".into())
}

/// Where most of it is made.
fn guilty(analysis: &Analysis, finding: &Finding) -> String {
    let Finding {
        layer, layer_type, ..
    } = finding;
    match &finding.problem {
        Problem::NotFinite { tensor, values } => format!(
            "{layer} ({layer_type}) is broken: {values} numbers of {tensor} are NaN or infinite."
        ),
        Problem::DeadChannels { tensor, channels } => format!(
            "{layer} ({layer_type}) is damaged: {} of the channels of {tensor} {} nothing but zeros ({}).",
            channels.len(),
            if channels.len() == 1 { "holds" } else { "hold" },
            listed(channels)
        ),
        _ => {
            let total: f64 = analysis.findings.iter().map(|f| f.cost).sum();
            let share = if total > 0.0 {
                finding.cost / total
            } else {
                0.0
            };
            format!(
                "The layer to look at first is {layer} ({layer_type}): its quantization adds {} of loss, {:.0} % of what all \
                 layers add by themselves.{}",
                short(finding.cost),
                100.0 * share,
                noise(analysis, layer)
            )
        }
    }
}

fn listed(channels: &[usize]) -> String {
    let shown: Vec<String> = channels.iter().take(8).map(usize::to_string).collect();
    let more = if channels.len() > 8 { ", ..." } else { "" };
    format!("{}{more}", shown.join(", "))
}

/// How its operands look.
fn noise(analysis: &Analysis, path: &str) -> String {
    let layer = analysis.layers.iter().find(|layer| layer.path == path);
    let tensors = layer.into_iter().flat_map(|layer| &layer.tensors);
    let said = tensors.filter(|tensor| tensor.slot == Slot::WEIGHT || tensor.slot == Slot::INPUT);
    let said = said.filter_map(|tensor| {
        let sqnr = tensor.alone?.sqnr?;
        let (clipped, zero) = (tensor.clipped?, tensor.rounded_to_zero?);
        Some(format!(
            " Its {} has {sqnr:.1} dB of signal to noise in {} bits ({} clipped, {} rounded to zero).",
            tensor.slot,
            width(tensor.bits),
            percent(clipped),
            percent(zero)
        ))
    });
    said.collect()
}

/// What would help most.
fn help(analysis: &Analysis, finding: &Finding) -> String {
    let layer = analysis
        .layers
        .iter()
        .find(|layer| layer.path == finding.layer);
    match &finding.problem {
        Problem::NotFinite { tensor, .. } => {
            format!(
                "What helps: weights of {tensor} that are numbers; look at the training that made them."
            )
        }
        Problem::DeadChannels { tensor, .. } => format!(
            "What helps: nothing that quantizes; {tensor} has lost those channels before, so train again from weights that have \
             them, or build the layer without them."
        ),
        Problem::Threshold {
            tensor,
            channel,
            now,
            best,
            ratio,
        } => {
            let place = channel.map_or(String::new(), |channel| format!(" in channel {channel}"));
            let now = now.map_or("is".into(), |now| format!("is {}", short(now)));
            format!(
                "What helps most: calibrate {tensor} again. Its threshold{place} {now}; {} has {} times less noise in the same \
                 bits.{}",
                short(*best),
                short(*ratio),
                gain(layer, tensor)
            )
        }
        Problem::Swapped {
            tensor,
            channels: [a, b],
            thresholds: [of_a, of_b],
            ratio,
        } => format!(
            "What helps most: exchange the thresholds of channels {a} ({}) and {b} ({}) of {tensor}, or calibrate it again: \
             with each other's both have {} times less noise.{}",
            short(*of_a),
            short(*of_b),
            short(*ratio),
            gain(layer, tensor)
        ),
        Problem::Width { tensor, bits } => {
            format!(
                "What helps most: more bits for {tensor}, which has {}.{}",
                width(Some(*bits)),
                wider(layer, tensor, *bits)
            )
        }
        Problem::None => "Nothing stands out in it.".into(),
    }
}

fn gain(layer: Option<&LayerAnalysis>, tensor: &str) -> String {
    let known = layer.and_then(|layer| layer.predicted.iter().find(|p| p.path == tensor));
    let pair = known.and_then(|known| Some((known.now?, known.refit?)));
    pair.map_or(String::new(), |(now, refit)| {
        format!(
            " The loss it adds is predicted to fall from {} to {}.",
            short(now),
            short(refit)
        )
    })
}

/// What the next width would do.
fn wider(layer: Option<&LayerAnalysis>, tensor: &str, bits: f64) -> String {
    let known = layer.and_then(|layer| layer.predicted.iter().find(|p| p.path == tensor));
    let Some((known, now)) = known.and_then(|known| Some((known, known.now?))) else {
        return String::new();
    };
    let widths = known.formats.iter().filter_map(|(name, loss)| {
        let width: u32 = name.strip_prefix("int")?.parse().ok()?;
        (f64::from(width) > bits && *loss < now).then_some((width, *loss))
    });
    let next = widths.min_by_key(|(width, _)| *width);
    next.map_or(String::new(), |(width, loss)| {
        format!(
            " With {width}, the loss it adds is predicted to fall from {} to {}.",
            short(now),
            short(loss)
        )
    })
}

/// The next layers.
fn others(analysis: &Analysis) -> Option<String> {
    let next = analysis.findings.iter().skip(1).take(3);
    let next = next.filter(|finding| finding.cost > 0.0);
    let said = next.map(|finding| {
        let why = match &finding.problem {
            Problem::Threshold { tensor, .. } => format!(", whose {} fits badly", slot(tensor)),
            Problem::Swapped { tensor, .. } => {
                format!(", with thresholds of its {} exchanged", slot(tensor))
            }
            Problem::Width { tensor, bits } => {
                format!(
                    ", mostly its {} in {} bits",
                    slot(tensor),
                    width(Some(*bits))
                )
            }
            Problem::DeadChannels { .. } => ", with dead channels".into(),
            Problem::NotFinite { .. } => ", with numbers that are none".into(),
            Problem::None => String::new(),
        };
        format!("{} ({}{why})", finding.layer, short(finding.cost))
    });
    let said: Vec<String> = said.collect();
    (!said.is_empty()).then(|| format!("After it come {}.", said.join("; ")))
}

fn slot(tensor: &str) -> &str {
    tensor.rsplit('.').next().unwrap_or(tensor)
}

/// Whether the network of integers is the simulation.
fn integers(run: &RunAnalysis) -> Option<String> {
    let found = run.integers.as_ref()?;
    let items = found.items;
    if found.is_equal() {
        let tensors = found.tensors.len();
        return Some(format!(
            "In integers it has the same bits on {items} images, in each of {tensors} tensors."
        ));
    }
    let first = found.tensors.iter().find(|tensor| tensor.different > 0);
    let first = first.map_or(String::new(), |tensor| {
        format!(
            "; the first tensor that does is {}, in {} of {} numbers",
            tensor.place, tensor.different, tensor.numbers
        )
    });
    Some(format!(
        "In integers {} of {items} results differ from the simulation{first}.",
        found.different
    ))
}

/// The repair that helps most, why, and how it is made.
fn repair(run: &RunAnalysis) -> Option<String> {
    let found = run.repair.as_ref()?;
    let reasons: Vec<String> = found.reasons.iter().map(reason).collect();
    let names: Vec<&str> = found.algorithms.iter().map(|a| a.name()).collect();
    let measured = found.measured;
    Some(format!(
        "Without training, {} helps: {}. The network has an accuracy of {} and a loss of {} then, tried on the same \
         images. To make it: {}",
        names.join(" with "),
        reasons.join("; "),
        percent(measured.accuracy),
        short(measured.loss),
        found.command
    ))
}

/// What was measured that a repair is made for.
fn reason(defect: &Defect) -> String {
    match defect {
        Defect::UnequalChannels { tensor, share } => format!(
            "the channels of {tensor} reach {} of its range on average, and have one step",
            percent(*share)
        ),
        Defect::RoundedWeights {
            tensor,
            bits,
            loss,
            share,
        } => format!(
            "rounding weights is predicted to add {} of loss, {:.0} % of what all tensors add, and {tensor} in {} \
             bits most of it",
            short(*loss),
            100.0 * share,
            width(Some(*bits))
        ),
        Defect::BiasedOutputs { tensor, share } => format!(
            "{:.0} % of the noise of {tensor} is a mean error of its channels, which does not average out",
            100.0 * share
        ),
    }
}

/// What the suggested widths promise.
fn widths(run: &RunAnalysis) -> Option<String> {
    let found = run.suggested.as_ref()?;
    let best = &found.best;
    let measured = best.measured.map_or(String::new(), |tested| {
        format!(
            ": calibrated and not trained, they have an accuracy of {} and a loss of {}",
            percent(tested.accuracy),
            short(tested.loss)
        )
    });
    let other = found.other.as_ref().and_then(|other| {
        let tested = other.measured?;
        Some(format!(
            "; {} have {} and {}",
            width_name(found.kind.other(), other),
            percent(tested.accuracy),
            short(tested.loss)
        ))
    });
    Some(format!(
        "For {}, {} are suggested{measured}{}.",
        found.budget,
        width_name(found.kind, best),
        other.unwrap_or_default()
    ))
}

/// Widths in words.
pub(super) fn width_name(kind: WidthKind, plan: &WidthPlan) -> String {
    match (kind, plan.layers.first()) {
        (WidthKind::Uniform, Some(all)) if all.weight == all.input => {
            format!("{} bits everywhere", all.weight)
        }
        (WidthKind::Uniform, Some(all)) => {
            format!(
                "{} bits for every weight and {} for every input",
                all.weight, all.input
            )
        }
        _ => format!(
            "widths of their own ({:.2} bits of a weight and {:.2} of an input on average)",
            plan.weight_bits, plan.input_bits
        ),
    }
}

fn lost(analysis: &Analysis) -> Option<String> {
    let worst = analysis.lost.first()?;
    let right = match worst.right_quantized {
        true => "; with all of them it is right",
        false => "",
    };
    Some(format!(
        "The image lost most often is no. {}, a {} taken for a {}: {} of {} networks with some layers quantized get it wrong{right}.",
        worst.image, worst.class, worst.taken_for, worst.times, worst.of
    ))
}
