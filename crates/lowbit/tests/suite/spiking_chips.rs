//! Networks in the integers of chips: Xylo's against Rockpool's simulation of it
//! (`reference/xylo.jsonl`, which `reference/xylo.py` makes) and against a plain program of integers,
//! Speck's and Loihi's against such programs, sinabs (`reference/speck.py`) and lava-dl
//! (`reference/loihi.py`).

use burn::module::Param;
use burn::nn::PaddingConfig2d;
use burn::tensor::{Device, Tensor, TensorData};
use lowbit::config::QConfig;
use lowbit::nn::{Chip, Conv2dConfig, DecayConfig, Lif, Linear, LinearConfig};
use lowbit::ops::Firing;
use serde::Deserialize;

/// A network as Xylo has it: one hidden population that reads itself, and a readout.
#[derive(Debug, Deserialize)]
struct Network {
    w_in: Vec<Vec<i32>>,
    w_rec: Vec<Vec<i32>>,
    w_out: Vec<Vec<i32>>,
    threshold: Vec<i32>,
    threshold_out: Vec<i32>,
    dash_mem: Vec<u32>,
    dash_mem_out: Vec<u32>,
    dash_syn: Vec<u32>,
    dash_syn_out: Vec<u32>,
    /// Input spikes, `[step][input]`.
    x: Vec<Vec<i32>>,
}

/// What a network did: spikes of the hidden neurons and of the readout, `[step][neuron]`, and the last
/// potentials of the hidden ones.
#[derive(Debug, PartialEq)]
struct Made {
    spikes: Vec<Vec<i32>>,
    out: Vec<Vec<i32>>,
    potentials: Vec<i32>,
}

fn matrix(rows: &[Vec<i32>]) -> Tensor<2> {
    let numbers: Vec<f32> = rows.iter().flatten().map(|&x| x as f32).collect();
    let shape = [rows.len(), rows[0].len()];
    Tensor::from_data(TensorData::new(numbers, shape), &Device::flex())
}

fn vector(values: impl IntoIterator<Item = f32>) -> Param<Tensor<1>> {
    let values: Vec<f32> = values.into_iter().collect();
    Param::from_tensor(Tensor::from_floats(values.as_slice(), &Device::flex()))
}

fn rows(x: Tensor<3>) -> Vec<Vec<i32>> {
    let [_, _, neurons] = x.dims();
    let numbers: Vec<i32> = x.into_data().iter::<f32>().map(|x| x as i32).collect();
    numbers.chunks_exact(neurons).map(<[i32]>::to_vec).collect()
}

/// A layer of Xylo's neurons, of integers as they are.
fn neurons(dashes: [&[u32]; 2], threshold: &[i32], w_rec: Option<&[Vec<i32>]>) -> Lif {
    let count = threshold.len();
    let decay = || DecayConfig::alpha(0.5).with_neurons(Some(count));
    let mut config = Chip::xylo(decay(), decay(), 0).with_recurrent(w_rec.map(|_| count));
    if w_rec.is_some() {
        config.quantization.set("weight", Chip::Xylo.weight(0));
    } else {
        config.firing.most_spikes = 1;
    }
    let mut layer = config.init(&Device::flex());
    let alphas = |dash: &[u32]| vector(dash.iter().map(|&k| 1.0 - 0.5f32.powi(k as i32)));
    let [mem, syn] = dashes;
    layer.mem.alpha = Some(alphas(mem));
    layer.syn.as_mut().unwrap().alpha = Some(alphas(syn));
    layer.threshold = vector(threshold.iter().map(|&t| t as f32));
    layer.weight = w_rec.map(|w| Param::from_tensor(matrix(w)));
    layer
}

fn weights(w: &[Vec<i32>]) -> Linear {
    let config = LinearConfig::new(w.len(), w[0].len()).with_bias(false);
    let quantization = QConfig::new().with("weight", Chip::Xylo.weight(0));
    let mut layer = config.with_quantization(quantization).init(&Device::flex());
    layer.weight = Param::from_tensor(matrix(w));
    layer
}

/// The network in layers.
fn in_layers(n: &Network) -> Made {
    let hidden = neurons([&n.dash_mem, &n.dash_syn], &n.threshold, Some(&n.w_rec));
    let readout = neurons([&n.dash_mem_out, &n.dash_syn_out], &n.threshold_out, None);
    let x: Tensor<3> = matrix(&n.x).unsqueeze_dim(0);
    let (spikes, state) = hidden.forward_with_state(weights(&n.w_in).forward(x), None);
    let out = readout.forward(weights(&n.w_out).forward(spikes.clone()));
    let potentials = state.membrane().into_data();
    Made {
        spikes: rows(spikes),
        out: rows(out),
        potentials: potentials.iter::<f32>().map(|v| v as i32).collect(),
    }
}

/// What a state loses: itself shifted, and one where that is nothing.
fn decay(state: i32, dash: u32) -> i32 {
    match state >> dash {
        0 => state - state.signum(),
        loss => state - loss,
    }
}

fn limit(x: i32) -> i32 {
    x.clamp(-(1 << 15), (1 << 15) - 1)
}

/// One neuron's step, from Rockpool's "Overview of the Xylo family": 16 bits that saturate, decay by
/// shift, spikes while the threshold is reached, each of which is subtracted.
fn step(
    (i, v): &mut (i32, i32),
    input: i32,
    [dash_mem, dash_syn]: [u32; 2],
    threshold: i32,
    most: i32,
) -> i32 {
    *i = decay(limit(*i + input), dash_syn);
    *v = limit(decay(*v, dash_mem) + *i);
    let mut spikes = 0;
    while *v >= threshold && spikes < most {
        *v -= threshold;
        spikes += 1;
    }
    spikes
}

/// The network as a plain program.
fn in_integers(n: &Network) -> Made {
    let (count, outputs) = (n.threshold.len(), n.threshold_out.len());
    let (mut hidden, mut readout) = (vec![(0, 0); count], vec![(0, 0); outputs]);
    let sum = |x: &[i32], w: &[Vec<i32>], to: usize| -> i32 {
        x.iter().zip(w).map(|(x, row)| x * row[to]).sum()
    };
    let mut spikes = vec![0; count];
    let mut made = Made {
        spikes: Vec::new(),
        out: Vec::new(),
        potentials: Vec::new(),
    };
    for x in &n.x {
        let before = spikes.clone();
        for j in 0..count {
            let input = sum(x, &n.w_in, j) + sum(&before, &n.w_rec, j);
            let dashes = [n.dash_mem[j], n.dash_syn[j]];
            spikes[j] = step(&mut hidden[j], input, dashes, n.threshold[j], 31);
        }
        let out = (0..outputs).map(|j| {
            let dashes = [n.dash_mem_out[j], n.dash_syn_out[j]];
            let input = sum(&spikes, &n.w_out, j);
            step(&mut readout[j], input, dashes, n.threshold_out[j], 1)
        });
        made.out.push(out.collect());
        made.spikes.push(spikes.clone());
    }
    made.potentials = hidden.iter().map(|(_, v)| *v).collect();
    made
}

#[test]
fn xylo_is_that_of_its_simulator() {
    #[derive(Deserialize)]
    struct Reference {
        #[serde(flatten)]
        network: Network,
        spikes: Vec<Vec<i32>>,
        potentials: Vec<Vec<i32>>,
        out: Vec<Vec<i32>>,
    }
    let mut fired = 0;
    for (line, text) in include_str!("../reference/xylo.jsonl").lines().enumerate() {
        let reference: Reference = serde_json::from_str(text).unwrap();
        for made in [
            in_layers(&reference.network),
            in_integers(&reference.network),
        ] {
            assert_eq!(made.spikes, reference.spikes, "network {line}");
            assert_eq!(Some(&made.potentials), reference.potentials.last());
            // The chip's readout sees the spikes a step later.
            let steps = reference.out.len();
            assert_eq!(made.out[..steps - 1], reference.out[1..], "network {line}");
            fired += made.out.iter().flatten().sum::<i32>();
        }
    }
    assert!(fired > 100);
}

/// A generator without a pattern that matters (Numerical Recipes' constants).
struct Draw(u32);

impl Draw {
    fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((u64::from(self.0) * u64::from(end)) >> 32) as u32
    }

    fn between(&mut self, low: i32, high: i32) -> i32 {
        low + self.below((high - low + 1) as u32) as i32
    }

    fn matrix(&mut self, [rows, columns]: [usize; 2], low: i32, high: i32) -> Vec<Vec<i32>> {
        let mut row = || (0..columns).map(|_| self.between(low, high)).collect();
        (0..rows).map(|_| row()).collect()
    }

    fn network(&mut self) -> Network {
        let [inputs, hidden, outputs] = [4, 6, 3].map(|most| 1 + self.below(most) as usize);
        let mut dashes =
            |count: usize, most| -> Vec<u32> { (0..count).map(|_| self.below(most)).collect() };
        let (dash_mem, dash_mem_out) = (dashes(hidden, 8), dashes(outputs, 8));
        let (dash_syn, dash_syn_out) = (dashes(hidden, 6), dashes(outputs, 6));
        let mut row = |count| self.matrix([1, count], 20, 3000).swap_remove(0);
        Network {
            threshold: row(hidden),
            threshold_out: row(outputs),
            dash_mem,
            dash_mem_out,
            dash_syn,
            dash_syn_out,
            w_in: self.matrix([inputs, hidden], -128, 127),
            w_rec: self.matrix([hidden, hidden], -128, 127),
            w_out: self.matrix([hidden, outputs], -128, 127),
            x: self
                .matrix([10, inputs], -6, 15)
                .into_iter()
                .map(|row| row.into_iter().map(|x| x.max(0)).collect())
                .collect(),
        }
    }
}

/// 10,000 random networks, whose currents and potentials may saturate.
#[test]
fn xylo_is_a_program_of_integers() {
    let mut draw = Draw(1);
    let (mut spikes, mut most) = (0, 0);
    for index in 0..10_000 {
        let network = draw.network();
        let made = in_layers(&network);
        assert_eq!(made, in_integers(&network), "network {index}: {network:?}");
        spikes += made.spikes.iter().flatten().sum::<i32>();
        most = most.max(*made.spikes.iter().flatten().max().unwrap());
    }
    assert!(spikes > 100_000 && most == 31, "{spikes} {most}");
}

/// Weighted inputs of one neuron over time, and what a layer makes of them.
fn currents(draw: &mut Draw, time: usize) -> (Vec<i32>, Tensor<3>) {
    let currents: Vec<i32> = (0..time).map(|_| draw.between(-2000, 3000)).collect();
    let numbers: Vec<f32> = currents.iter().map(|&x| x as f32 / 64.0).collect();
    let x = Tensor::from_data(TensorData::new(numbers, [1, time, 1]), &Device::flex());
    (currents, x)
}

/// Six bits after the point: the integers are the numbers times 64.
#[test]
fn speck_and_loihi_are_programs_of_integers() {
    let mut draw = Draw(7);
    for _ in 0..200 {
        let (x, currents) = currents(&mut draw, 40);
        let mut speck = Chip::speck(6).init(&Device::flex());
        speck.threshold = vector([4000.0 / 64.0]);
        let mut v = 0;
        let expected: Vec<i32> = x
            .iter()
            .map(|&x| {
                v = limit(v + x);
                let fires = v >= 4000;
                v -= if fires { 4000 } else { 0 };
                i32::from(fires)
            })
            .collect();
        assert_eq!(rows(speck.forward(currents.clone())).concat(), expected);

        // Decays of 410 and 205 of 4096: 3686 and 3891 are left; Rust divides toward zero.
        let decay = |left: f64| DecayConfig::alpha(left / 4096.0);
        let mut loihi = Chip::loihi(decay(3686.0), decay(3891.0), 6).init(&Device::flex());
        loihi.threshold = vector([20_000.0 / 64.0]);
        let (mut u, mut v) = (0i64, 0i64);
        let expected: Vec<i32> = x
            .iter()
            .map(|&x| {
                u = u * 3686 / 4096 + i64::from(x);
                v = v * 3891 / 4096 + u;
                let fires = v > 20_000;
                v = if fires { 0 } else { v };
                i32::from(fires)
            })
            .collect();
        assert_eq!(rows(loihi.forward(currents)).concat(), expected);
    }
}

/// Integers of four dimensions.
type Images = Vec<Vec<Vec<Vec<i32>>>>;

fn images(x: &Images) -> Tensor<4> {
    let shape = [x.len(), x[0].len(), x[0][0].len(), x[0][0][0].len()];
    let numbers = x.iter().flatten().flatten().flatten().map(|&x| x as f32);
    let data = TensorData::new(numbers.collect::<Vec<_>>(), shape);
    Tensor::from_data(data, &Device::flex())
}

#[test]
fn speck_is_that_of_sinabs() {
    #[derive(Deserialize)]
    struct Layer {
        weight: Images,
        bias: Vec<i32>,
        stride: usize,
        padding: usize,
        threshold: i32,
        min_v: i32,
        spikes: Images,
    }
    #[derive(Deserialize)]
    struct Reference {
        x: Images,
        /// Whether a step may have several spikes.
        several: bool,
        layers: Vec<Layer>,
    }
    let mut fired = 0.0;
    for (line, text) in include_str!("../reference/speck.jsonl").lines().enumerate() {
        let reference: Reference = serde_json::from_str(text).unwrap();
        let mut x = images(&reference.x);
        for (at, layer) in reference.layers.iter().enumerate() {
            let channels = [layer.weight[0].len(), layer.weight.len()];
            let p = layer.padding;
            let config = Conv2dConfig::new(channels, [3, 3])
                .with_stride([layer.stride; 2])
                .with_padding(PaddingConfig2d::Explicit(p, p, p, p))
                .with_quantization(QConfig::new().with("weight", Chip::Speck.weight(0)));
            let mut conv = config.init(&Device::flex());
            conv.weight = Param::from_tensor(images(&layer.weight));
            conv.bias = Some(vector(layer.bias.iter().map(|&b| b as f32)));
            let firing = Firing {
                most_spikes: if reference.several { u32::MAX } else { 1 },
                ..Firing::default()
            };
            let config = Chip::speck(0)
                .with_firing(firing)
                .with_min_v(Some(layer.min_v as f32));
            let mut neurons = config.init(&Device::flex());
            neurons.threshold = vector([layer.threshold as f32]);
            x = neurons.forward_folded(conv.forward(x), reference.x.len());
            let (made, expected) = (x.to_data(), images(&layer.spikes).into_data());
            assert_eq!(made, expected, "layer {at} of network {line}");
            fired += made.iter::<f32>().sum::<f32>();
        }
    }
    assert!(fired > 1000.0, "{fired}");
}

/// Weights of 8 bits are times 64 in the chip's currents and potentials.
#[test]
fn loihi_is_that_of_lava() {
    #[derive(Deserialize)]
    struct Reference {
        weight: Vec<Vec<i32>>,
        x: Vec<Vec<i32>>,
        current_decay: i32,
        voltage_decay: i32,
        threshold: i32,
        spikes: Vec<Vec<i32>>,
        potentials: Vec<i32>,
    }
    let mut fired = 0;
    for (line, text) in include_str!("../reference/loihi.jsonl").lines().enumerate() {
        let reference: Reference = serde_json::from_str(text).unwrap();
        let (w, x) = (&reference.weight, &reference.x);
        let config = LinearConfig::new(w.len(), w[0].len()).with_bias(false);
        let quantization = QConfig::new().with("weight", Chip::Loihi.weight(-6));
        let mut linear = config.with_quantization(quantization).init(&Device::flex());
        linear.weight = Param::from_tensor(matrix(w) * 64.0);
        let decay = |lost: i32| DecayConfig::alpha(f64::from(4096 - lost) / 4096.0);
        let decays = [reference.current_decay, reference.voltage_decay].map(decay);
        let [syn, mem] = decays;
        let mut neurons = Chip::loihi(syn, mem, 0).init(&Device::flex());
        neurons.threshold = vector([reference.threshold as f32 * 64.0]);
        let currents = linear.forward(matrix(x).unsqueeze_dim::<3>(0));
        let (spikes, state) = neurons.forward_with_state(currents, None);
        let spikes = rows(spikes);
        assert_eq!(spikes, reference.spikes, "layer {line}");
        fired += spikes.iter().flatten().sum::<i32>();
        // A potential that fires is zero after its step.
        let expected = reference.potentials.iter().zip(&spikes[x.len() - 1]);
        let expected = expected.map(|(v, spike)| if *spike > 0 { 0 } else { *v });
        let potentials = state.membrane().into_data();
        let potentials = potentials.iter::<f32>().map(|v| v as i32);
        assert!(potentials.eq(expected), "layer {line}");
    }
    assert!(fired > 1000, "{fired}");
}
