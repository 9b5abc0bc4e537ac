//! What is handed on later.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Int, Tensor};

/// The most steps of a delay.
const MOST: f64 = (1 << 24) as f64;

/// Features that come so many steps later, each after its own; before, they are zero.
#[derive(Module, Debug)]
pub(super) struct Delay {
    /// The features of each number of steps.
    #[module(skip)]
    alike: BTreeMap<usize, Vec<i32>>,
    /// Where each feature is among all of these.
    #[module(skip)]
    places: Vec<i32>,
}

impl Delay {
    /// Delays in the unit of `dt`, of which each is a whole number of steps.
    pub(super) fn new(delays: &[f64], dt: f64) -> Result<Self, String> {
        let steps = |&delay: &f64| {
            let steps = delay / dt;
            let whole = steps.round();
            // As near as numbers of 32 bits say it.
            let near = (steps - whole).abs() <= 1e-5 * whole.max(1.0);
            match near && (0.0..=MOST).contains(&whole) {
                true => Ok(whole as usize),
                false => Err(format!("delay is {delay}, expected whole steps of {dt}")),
            }
        };
        let mut alike: BTreeMap<usize, Vec<i32>> = BTreeMap::new();
        for (feature, delay) in delays.iter().enumerate() {
            alike.entry(steps(delay)?).or_default().push(feature as i32);
        }
        let mut places = vec![0; delays.len()];
        for (at, &feature) in alike.values().flatten().enumerate() {
            places[feature as usize] = at as i32;
        }
        Ok(Self { alike, places })
    }

    /// `[batch * time, features]` in and out.
    pub(super) fn forward_folded(&self, x: Tensor<2>, time: usize) -> Tensor<2> {
        let dims = x.dims();
        let x: Tensor<3> = x.reshape([dims[0] / time, time, dims[1]]);
        let indices = |of: &[i32]| Tensor::<1, Int>::from_ints(of, &x.device());
        let later = self.alike.iter().map(|(&steps, features)| {
            let features = x.clone().select(2, indices(features));
            after(features, steps)
        });
        let all = Tensor::cat(later.collect(), 2);
        all.select(2, indices(&self.places)).reshape(dims)
    }
}

/// `[batch, time, features]` in and out.
fn after(x: Tensor<3>, steps: usize) -> Tensor<3> {
    let [batch, time, features] = x.dims();
    let zeros = Tensor::zeros([batch, steps.min(time), features], &x.device());
    if steps >= time {
        return zeros;
    }
    Tensor::cat(vec![zeros, x.narrow(1, 0, time - steps)], 1)
}
