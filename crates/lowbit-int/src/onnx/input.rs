//! Inputs whose numbers are rounded otherwise than a quantizer does.

use super::model::Model;
use crate::graph::{Graph, TensorId};
use crate::ops::Rounding;

/// What a quantizer that rounds half to even is given of an input, and its scale: the input itself, or
/// where the graph rounds it otherwise, the whole number of steps to which it is rounded.
///
/// Numbers come from outside and may be any, so that nothing may be lost before they are rounded: half up
/// is `floor((floor(2 x) + 1) / 2)`, whose sum is one of whole numbers (`x + 0.5` rounds the greatest
/// float below a half up), and half away from zero the same of the magnitude.
pub(super) fn rounded(model: &mut Model, graph: &Graph, id: TensorId) -> (String, f64) {
    let tensor = graph.tensor(id);
    let (name, scale) = (tensor.name(), tensor.numbers().scale());
    let value = model.input(tensor);
    match graph.input_rounding(id) {
        None | Some(Rounding::HalfEven) => (value, scale),
        Some(rounding) => (whole(model, name, &value, scale as f32, rounding), 1.0),
    }
}

/// The whole number of steps to which a value is rounded.
fn whole(model: &mut Model, name: &str, value: &str, scale: f32, rounding: Rounding) -> String {
    let unit = match rounding {
        Rounding::HalfUp | Rounding::HalfAway => scale * 0.5,
        Rounding::HalfEven | Rounding::Floor => scale,
    };
    let unit = model.floats(&format!("{name}/unit"), &[], &[unit]);
    let steps = model.node("Div", name, &[value, &unit], vec![]);
    match rounding {
        Rounding::HalfEven => model.node("Round", name, &[&steps], vec![]),
        Rounding::Floor => model.node("Floor", name, &[&steps], vec![]),
        Rounding::HalfUp => half_up(model, name, &steps),
        Rounding::HalfAway => {
            let sign = model.node("Sign", name, &[&steps], vec![]);
            let magnitude = model.node("Abs", name, &[&steps], vec![]);
            let magnitude = half_up(model, name, &magnitude);
            model.node("Mul", name, &[&sign, &magnitude], vec![])
        }
    }
}

/// Half up of what is given in halves.
fn half_up(model: &mut Model, name: &str, halves: &str) -> String {
    let [one, half] = [("one", 1.0), ("half", 0.5)]
        .map(|(what, number)| model.floats(&format!("{name}/{what}"), &[], &[number]));
    let halves = model.node("Floor", name, &[halves], vec![]);
    let above = model.node("Add", name, &[&halves, &one], vec![]);
    let whole = model.node("Mul", name, &[&above, &half], vec![]);
    model.node("Floor", name, &[&whole], vec![])
}
