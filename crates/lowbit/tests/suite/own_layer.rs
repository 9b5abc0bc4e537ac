//! A layer of a user's own takes part in plans, calibration, switching, taps, tables and reports
//! like the library's.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use lowbit::analysis::accumulator_bits;
use lowbit::calibrate::{calibrate, measure};
use lowbit::config::{Describe, Description, Layer, Planner, QConfig, QPlan, TqtPlan};
use lowbit::nn::{Linear, LinearConfig};
use lowbit::quantizers::{
    Channels, Quantizers, Selection, Sums, Taps, set_quantization, set_retraining,
};

/// A leaky integrator: `v[t] = decay v[t - 1] + x[t]`, the membrane of a spiking neuron.
#[derive(Debug, Clone)]
struct IntegratorConfig {
    channels: usize,
    decay: f32,
    quantization: QConfig,
}

impl IntegratorConfig {
    fn new(channels: usize, decay: f32) -> Self {
        Self {
            channels,
            decay,
            quantization: QConfig::default(),
        }
    }

    fn init(&self, device: &Device) -> Integrator {
        Integrator {
            quantizers: self.init_quantizers(device),
            weight: Param::from_tensor(Tensor::full([self.channels], self.decay, device)),
        }
    }
}

impl Describe for IntegratorConfig {
    fn describe(&self) -> Description {
        Description {
            slots: vec!["input", "weight", "output"],
            weight: Some(Channels {
                axis: 0,
                count: self.channels,
            }),
            ..Description::new("Integrator")
        }
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }

    fn check_fields(&self) -> Result<(), lowbit::Error> {
        if (0.0..=1.0).contains(&self.decay) {
            return Ok(());
        }
        Err(lowbit::Error::Config {
            field: "decay".into(),
            message: format!("is {}, expected 0 to 1", self.decay),
        })
    }
}

#[derive(Module, Debug)]
struct Integrator {
    /// The decays, `[channels]`.
    weight: Param<Tensor<1>>,
    quantizers: Quantizers,
}

impl Integrator {
    /// `[time, channels]` in and out.
    fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        let input = self.quantizers.input(input).quantized();
        let decay = self.quantizers.weight(self.weight.val()).quantized();
        let decay = decay.unsqueeze::<2>();
        let mut states: Vec<Tensor<2>> = Vec::new();
        for x in input.split(1, 0) {
            states.push(match states.last() {
                Some(state) => state.clone() * decay.clone() + x,
                None => x,
            });
        }
        self.quantizers.output(Tensor::cat(states, 0))
    }
}

#[derive(Module, Debug)]
struct Net {
    fc: Linear,
    membrane: Integrator,
}

impl Net {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.membrane.forward(self.fc.forward(x))
    }
}

fn build(plan: &QPlan, decay: f32, device: &Device) -> Result<(Net, Vec<Layer>), lowbit::Error> {
    let mut planner = Planner::new(plan)?;
    let net = Net {
        fc: planner.first("fc", LinearConfig::new(2, 2))?.init(device),
        membrane: planner
            .last("membrane", IntegratorConfig::new(2, decay))?
            .init(device),
    };
    Ok((net, planner.finish()?))
}

/// Its weight and its input have the widths of a last layer with a weight; the result has eight
/// bits, as a network's result. It sums nothing that an accumulator could hold.
#[test]
fn a_plan_gives_it_the_slots_that_it_has() {
    let plan = TqtPlan::new(4, 4).all_tensors().plan();
    let (net, layers) = build(&plan, 0.5, &Device::flex()).unwrap();
    let membrane = &layers[1];
    assert_eq!(
        (membrane.path.as_str(), membrane.description.name),
        ("membrane", "Integrator")
    );
    let config = &membrane.config;
    let bits = |slot| config.get(slot).map(|quantizer| quantizer.bits());
    assert_eq!(
        ["input", "weight", "bias", "output"].map(bits),
        [Some(8), Some(8), None, Some(8)]
    );
    assert_eq!(config.accumulator, None);
    assert!(net.membrane.quantizers.get("weight").is_some());
    // The report is about sums: the linear layer's, and none of the integrator's.
    let reported = accumulator_bits(&net, &layers);
    let paths: Vec<&str> = reported.iter().map(|layer| layer.path.as_str()).collect();
    assert_eq!(paths, ["fc"]);
}

#[test]
fn it_is_calibrated_measured_tapped_and_switched() {
    let plan = TqtPlan::new(8, 8).all_tensors().plan();
    let (net, _) = build(&plan, 0.7, &Device::flex()).unwrap();
    let x = Tensor::<2>::from_floats([[0.5, -0.25], [1.0, 0.75]], &Device::flex());
    let forward = |net: &Net| {
        net.forward(x.clone());
    };
    let (net, found) = calibrate(net, |place| place.layer_type == "Integrator", forward).unwrap();
    let paths: Vec<&str> = found.iter().map(|found| found.path.as_str()).collect();
    assert_eq!(
        paths,
        ["membrane.input", "membrane.weight", "membrane.output"]
    );
    let measured = measure(&net, forward);
    let weight = measured.iter().find(|m| m.path == "membrane.weight");
    // Signed, as parameters are, with the threshold 1, as calibrated: 0.7 is 89.6 steps of 1/128, of
    // which 0.4 are added: 20 log10(89.6 / 0.4) = 47.0 dB.
    assert!((weight.unwrap().sqnr.unwrap() - 47.0).abs() < 0.1);

    let taps = Taps::attach(&net, Selection::all().layer_type("Integrator"));
    forward(&net);
    let seen: Vec<String> = taps.detach().iter().map(|seen| seen.path()).collect();
    assert_eq!(seen, paths);
    let of_membrane = |place: &lowbit::quantizers::Place| place.layer == "membrane";
    let (_, changed) = set_quantization(net, false, of_membrane);
    assert_eq!(changed, paths);
    let (in_training, _) = build(&plan, 0.7, &Device::flex().autodiff()).unwrap();
    let (_, changed) = set_retraining(in_training, false, of_membrane);
    assert_eq!(changed, paths);
}

#[test]
fn what_it_lacks_or_cannot_be_is_refused_in_one_line() {
    let refused = |plan: &str, decay| {
        let plan = QPlan::from_toml(plan).unwrap();
        build(&plan, decay, &Device::flex())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused(
            "[[overrides]]\ntype = \"Integrator\"\nconfig.accumulator = { bits = 32 }",
            0.5
        ),
        "membrane: a Integrator has no accumulator to quantize"
    );
    assert_eq!(
        refused(
            "[last]\nweight = { method = \"tqt\", bits = 8 }\n\
             [[widths]]\ntype = \"Integrator\"\nweight = 77",
            0.5
        ),
        "membrane.weight: bits is 77, expected 2 to 24 (tqt)"
    );
    assert_eq!(refused("", 1.5), "membrane.decay: is 1.5, expected 0 to 1");
}

/// A matrix product of the user's own, of which each sum adds up three products in two groups of
/// one channel, is in the report: with 4-bit inputs and weights, `3 * 8 * 8` needs 9 bits.
#[test]
fn its_sums_are_reported() {
    #[derive(Debug, Clone)]
    struct GroupedConfig(QConfig);

    impl Describe for GroupedConfig {
        fn describe(&self) -> Description {
            let weight = Channels { axis: 1, count: 1 };
            let sums = Sums {
                groups: 2,
                ..Sums::new(3, 1)
            };
            Description::summing("Grouped", weight, sums, false)
        }

        fn quantization(&self) -> &QConfig {
            &self.0
        }

        fn quantization_mut(&mut self) -> &mut QConfig {
            &mut self.0
        }
    }

    #[derive(Module, Debug)]
    struct Grouped {
        weight: Param<Tensor<2>>,
        quantizers: Quantizers,
    }

    #[derive(Module, Debug)]
    struct Net {
        layer: Grouped,
    }

    let plan = TqtPlan::new(4, 4).all_tensors().plan();
    let mut planner = Planner::new(&plan).unwrap();
    let config = planner.layer("layer", GroupedConfig(QConfig::default()));
    let device = Device::flex();
    // Only the second group's sum is not zero: at least 3 * 7 * -8 = -168 steps, 9 bits.
    let weight = [0.0, 0.0, 0.0, 0.875, 0.875, 0.875].map(|w| [w]);
    let net = Net {
        layer: Grouped {
            weight: Param::from_tensor(Tensor::from_floats(weight, &device)),
            quantizers: config.unwrap().init_quantizers(&device),
        },
    };
    let reported = accumulator_bits(&net, &planner.finish().unwrap());
    assert_eq!((reported[0].layer_type, reported[0].terms), ("Grouped", 3));
    assert_eq!(
        (reported[0].needed_by_shape, reported[0].needed_by_weights),
        (9, 9)
    );
}
