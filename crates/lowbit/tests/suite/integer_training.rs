//! Training in integers: the quantizers of WAGE, WAGEUBN and NITI against the papers' formulas in f64.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use lowbit::config::QConfig;
use lowbit::data::{DataSet, ImageSet};
use lowbit::models::{Architecture, Classifier, Network};
use lowbit::optim::rounded_from_start;
use lowbit::quantizers::{Channels, QuantizerConfig, Selection, Taps, set_rounding};
use lowbit::train::{Interrupter, NamedRecipe, RunFolder, Settings, batch};
use lowbit_formats::philox::Philox;
use serde_json::Value;

use crate::training::{StopAfter, some_digits};
use crate::wage_integers::{self, Layer, LeNet};

/// A line of `integer_training.jsonl`.
struct Case(Value);

impl Case {
    fn text(&self, option: &str) -> &str {
        self.0["options"][option].as_str().unwrap_or_default()
    }

    fn number(&self, option: &str) -> u64 {
        self.0["options"][option].as_u64().unwrap_or_default()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let numbers = self.0[name].as_array().unwrap().iter();
        numbers.map(|x| x.as_f64().unwrap() as f32).collect()
    }

    fn dims(&self) -> Vec<usize> {
        let dims = self.0["shape"].as_array().unwrap().iter();
        dims.map(|n| n.as_u64().unwrap() as usize).collect()
    }

    /// The quantizer, as a plan says it.
    fn config(&self) -> QuantizerConfig {
        let (bits, power) = (self.number("bits"), self.text("power"));
        let fraction = bits.wrapping_sub(1);
        let text = match self.0["method"].as_str().unwrap() {
            "shift" => format!(
                "method = \"shift\"\nformat = \"fixed({bits},{fraction},symmetric)\"\npower = \"{power}\""
            ),
            "flag" => format!("method = \"shift\"\nformat = \"flag({bits})\""),
            "constant" => {
                let range = self.number("range");
                format!("method = \"constant\"\nbits = {bits}\nranges = [{range}]\nmilestones = []")
            }
            "wage" => {
                let limit = self.text("limit");
                format!("method = \"wage-weight\"\nbits = {bits}\nlimit = \"{limit}\"")
            }
            "niti" => format!("method = \"niti-weight\"\nbits = {bits}"),
            other => panic!("{other}"),
        };
        toml::from_str(&text).unwrap()
    }
}

fn cases() -> impl Iterator<Item = Case> {
    let lines = include_str!("../reference/integer_training.jsonl").lines();
    lines.map(|line| Case(serde_json::from_str(line).unwrap()))
}

fn read<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().map(|x| x + 0.0).collect()
}

/// What a tensor becomes forward, and what one becomes as an error on the way back.
fn both_ways(case: &Case) -> [Vec<f32>; 2] {
    let device = Device::flex().autodiff();
    let count: usize = case.dims().iter().product();
    let tensor =
        |values: Vec<f32>| Tensor::<1>::from_data(TensorData::new(values, [count]), &device);
    let config = case.config();
    let forward = config.init(None, &device).operand(tensor(case.floats("x")));
    let slots = QConfig::new().with("error", config).init(None, &device);
    let zeros = tensor(vec![0.0; count]).require_grad();
    let grads = (slots.output(zeros.clone()) * tensor(case.floats("x"))).sum();
    let grads = grads.backward();
    [read(forward.quantized()), read(zeros.grad(&grads).unwrap())]
}

#[test]
fn shifts_are_the_papers_forward_and_backward() {
    let mut compared = 0;
    for case in cases() {
        if !["shift", "flag"].contains(&case.0["method"].as_str().unwrap()) {
            continue;
        }
        let expected = case.floats("y");
        for made in both_ways(&case) {
            assert_eq!(made, expected, "{}", case.0["options"]);
        }
        compared += 1;
    }
    assert_eq!(compared, 15 * 10);
}

/// Between the two values that the formula allows, and as often the upper one as it is nearer.
#[test]
fn constant_quantization_is_the_papers() {
    let device = Device::flex().autodiff();
    let (mut up, mut expected_up, mut variance) = (0.0, 0.0, 0.0);
    for case in cases().filter(|case| case.0["method"] == "constant") {
        let x = case.floats("x");
        let tensor = |values: Vec<f32>| {
            let count = values.len();
            Tensor::<1>::from_data(TensorData::new(values, [count]), &device)
        };
        let slots = QConfig::new().with("gradient", case.config());
        let slots = slots.init(None, &device);
        let parameter = tensor(vec![0.0; x.len()]).require_grad();
        let product = slots.bias(parameter.clone()).quantized() * tensor(x.clone());
        let made = read(parameter.grad(&product.sum().backward()).unwrap());
        let (low, high) = (case.floats("low"), case.floats("high"));
        let largest = x.iter().fold(0f64, |m, x| m.max(f64::from(x.abs())));
        let shift = match largest {
            0.0 => 1.0,
            _ => largest.log2().round().exp2(),
        };
        for (i, made) in made.iter().enumerate() {
            assert!(
                *made == low[i] || *made == high[i],
                "{made} {}",
                case.0["options"]
            );
            if low[i] != high[i] {
                let scaled = f64::from(x[i]) / shift * case.number("range") as f64;
                let chance = scaled - scaled.floor();
                up += f64::from(u8::from(*made == high[i]));
                expected_up += chance;
                variance += chance * (1.0 - chance);
            }
        }
    }
    assert!(variance > 30.0, "{variance}");
    assert!(
        (up - expected_up).abs() < 4.0 * f64::sqrt(variance),
        "{up} {expected_up}"
    );
}

#[test]
fn weights_are_the_papers() {
    fn made<const D: usize>(case: &Case) -> Vec<f32> {
        let device = Device::flex();
        let dims: [usize; D] = case.dims().try_into().unwrap();
        let axis = case.number("axis") as usize;
        let count = dims[axis];
        let slots = QConfig::new().with("weight", case.config());
        let slots = slots.init(Some(Channels { axis, count }), &device);
        let data = TensorData::new(case.floats("x"), dims);
        read(
            slots
                .weight(Tensor::<D>::from_data(data, &device))
                .quantized(),
        )
    }
    let mut compared = 0;
    for case in cases() {
        if !["wage", "niti"].contains(&case.0["method"].as_str().unwrap()) {
            continue;
        }
        let made = match case.dims().len() {
            2 => made::<2>(&case),
            _ => made::<4>(&case),
        };
        assert_eq!(made, case.floats("y"), "{}", case.0["options"]);
        compared += 1;
    }
    assert_eq!(compared, 4 * 7);
}

#[test]
fn what_is_no_shift_is_refused() {
    let refused = |text: &str| {
        let config: QuantizerConfig = toml::from_str(text).unwrap();
        config.check("error").unwrap_err().to_string()
    };
    assert_eq!(
        refused("method = \"shift\"\nformat = \"e4m3\""),
        "error: format: is e4m3, expected fixed(..) or flag(..)"
    );
    let constant = "method = \"constant\"\nranges = [3]\nmilestones = []";
    assert_eq!(refused(constant), "error: constant is for gradient");
    let wage = "method = \"wage-weight\"\nbits = 2";
    assert_eq!(refused(wage), "error: wage-weight is for weight");
}

/// The numbers of a tensor, counted in steps of `2^-places`.
fn counted(data: &TensorData, places: u32) -> Vec<i64> {
    let count = |x: f32| {
        let steps = f64::from(x) * f64::from(places).exp2();
        assert_eq!(
            steps.fract(),
            0.0,
            "{x} is between two steps of 2^-{places}"
        );
        steps as i64
    };
    data.iter::<f32>().map(count).collect()
}

/// Every parameter, and its gradient where there are gradients.
struct Parameters<'a> {
    values: Vec<TensorData>,
    gradients: Option<&'a GradientsParams>,
}

impl ModuleVisitor for Parameters<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = match self.gradients {
            Some(gradients) => gradients.get::<D>(param.id).unwrap(),
            None => param.val(),
        };
        self.values.push(value.into_data());
    }
}

fn parameters_of(network: &Network, gradients: Option<&GradientsParams>) -> Vec<TensorData> {
    let values = Vec::new();
    let mut found = Parameters { values, gradients };
    network.visit(&mut found);
    found.values
}

fn layers_of(network: &Network) -> Vec<Layer> {
    let parameters = parameters_of(network, None);
    let layer = |pair: &[TensorData]| Layer {
        weight: counted(&pair[0], 7),
        dims: pair[0].shape().to_vec(),
        bias: counted(&pair[1], 7),
    };
    parameters.chunks(2).map(layer).collect()
}

/// Draws weights even between -3/4 and 3/4, as the method does for layers of this size.
struct Even(u64);

impl ModuleMapper for Even {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.0 += 1;
        let philox = Philox::new(5, self.0);
        param.map(|weight| {
            let even = |i: usize| (f64::from(philox.word(i as u64)) / 2f64.powi(31) - 1.0) * 0.75;
            let dims = weight.dims();
            let numbers = (0..dims.iter().product()).map(|i| even(i) as f32);
            let data = TensorData::new(numbers.collect::<Vec<f32>>(), dims);
            Tensor::from_data(data, &weight.device()).require_grad()
        })
    }
}

/// Digits, each pixel as a square.
fn enlarged(digits: &ImageSet, indices: &[usize], side: usize, device: &Device) -> Tensor<4> {
    let by = side / digits.width;
    let at: Vec<u32> = indices.iter().map(|i| *i as u32).collect();
    let images = batch(digits, &at, None, device).images.into_data();
    let images: Vec<f32> = images.iter::<f32>().collect();
    let pixel = |i: usize| {
        let (image, row, column) = (i / (side * side), i / side % side, i % side);
        images[(image * digits.height + row / by) * digits.width + column / by]
    };
    let pixels: Vec<f32> = (0..indices.len() * side * side).map(pixel).collect();
    let data = TensorData::new(pixels, [indices.len(), 1, side, side]);
    Tensor::from_data(data, device)
}

/// Whether numbers are integers times one power of two.
fn assert_multiples(made: &[f32], integers: &[i64], what: &str) {
    assert_eq!(made.len(), integers.len(), "{what}");
    let first = made.iter().zip(integers).find(|(_, i)| **i != 0);
    let scale = first.map_or(1.0, |(x, i)| f64::from(*x) / *i as f64);
    assert!(
        scale > 0.0 && scale.log2().fract() == 0.0,
        "{what}: {scale}"
    );
    for (x, i) in made.iter().zip(integers) {
        assert_eq!(f64::from(*x), *i as f64 * scale, "{what}");
    }
}

/// LeNet-5 and the recipe of WAGE on digits of 24x24, four at a time: its inputs, scores, errors,
/// gradients and weights in each of 100 steps are those of the program in integers.
#[test]
fn wage_is_the_program_in_integers_bit_for_bit() {
    const STEPS: u64 = 100;
    let (device, seed, count, side) = (Device::flex().autodiff(), 11, 4, 24);
    let recipe = NamedRecipe::find("wage").unwrap().read().unwrap();
    let experiment = recipe.complete(Settings::default()).unwrap();
    let run = &experiment.runs[0];
    let lenet: Architecture = "lenet".parse().unwrap();
    let network = lenet.init([1, side, side], 10, &run.plan, seed, &device);
    let own = run.optimizer.own_numbers().unwrap();
    let mut network = rounded_from_start(network.unwrap().map(&mut Even(0)), &own);
    let mut optimizer = run.optimizer.init();
    let digits = DataSet::Digits.load(None, &mut |_| {}).unwrap().train;
    let mut integers = LeNet {
        layers: layers_of(&network),
    };
    let mut moved = 0;
    for step in 0..STEPS {
        let indices = (0..count).map(|i| (step as usize * count + i) % digits.len());
        let indices: Vec<usize> = indices.collect();
        let images = enlarged(&digits, &indices, side, &device);
        let classes: Vec<usize> = indices.iter().map(|i| digits.labels[*i].into()).collect();
        let targets: Vec<i32> = classes.iter().map(|class| *class as i32).collect();
        let targets = Tensor::<1, Int>::from_ints(&targets[..], &device);

        set_rounding(seed, step);
        let taps = Taps::attach_with_gradients(&network, Selection::all());
        let scores = network.forward(images);
        let grads = run.objective.loss(scores.clone(), targets).backward();
        let seen = taps.detach();
        let grads = GradientsParams::from_grads(grads, &network);
        let gradients = parameters_of(&network, Some(&grads));
        let of = |layer: &str, slot: &str| {
            let found = seen.iter().find(|t| t.path() == format!("{layer}.{slot}"));
            found.unwrap_or_else(|| panic!("{layer}.{slot}"))
        };
        let made = counted(&scores.into_data(), integers.score_places());
        let images = counted(&of("conv1", "input").read, 7);
        let expected = integers.step(&images, side, &classes);
        assert!(
            expected.largest <= wage_integers::EXACT,
            "{}",
            expected.largest
        );
        assert_eq!(made, expected.scores, "step {step}: scores");
        for (i, layer) in ["conv1", "conv2", "fc1", "fc2"].into_iter().enumerate() {
            let input = counted(&of(layer, "input").read, 7);
            assert_eq!(input, expected.inputs[i], "step {step}: {layer}.input");
            let error = of(layer, "output").gradient.as_ref().unwrap();
            let error: Vec<f32> = error.iter::<f32>().collect();
            assert_multiples(
                &error,
                &expected.errors[i],
                &format!("step {step}: {layer}.error"),
            );
        }
        for (i, (made, expected)) in gradients.iter().zip(&expected.gradients).enumerate() {
            let made: Vec<f32> = made.iter::<f32>().collect();
            assert_multiples(&made, expected, &format!("step {step}: gradient {i}"));
        }
        network = optimizer.step(8.0, network, grads);
        integers.update(&expected.gradients, 3, seed, step);
        for (made, expected) in layers_of(&network).iter().zip(&integers.layers) {
            assert_eq!(made.weight, expected.weight, "step {step}: weights");
            assert_eq!(made.bias, expected.bias, "step {step}: biases");
        }
        moved += i32::from(expected.gradients.iter().all(|g| g.iter().any(|g| *g != 0)));
    }
    assert!(moved > 90, "{moved}");
}

/// Two epochs of four steps of a recipe on another network, every step checked.
fn checked(recipe: &str, model: &str) -> Result<(), String> {
    let split = some_digits();
    let recipe = NamedRecipe::find(recipe).unwrap().read().unwrap();
    let settings = Settings {
        data: Some(DataSet::Digits),
        model: Some(model.parse().unwrap()),
        epochs: Some(2),
        batch: Some(64),
        check_integers: Some(true),
        ..Settings::default()
    };
    let experiment = recipe.complete(settings).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(folder.path().join("run"), &experiment).unwrap();
    let device = Device::flex();
    let interrupter = Interrupter::new();
    let mut silent = StopAfter(usize::MAX, &interrupter);
    let outcome = folder.train(&experiment, &split, &device, &interrupter, &mut silent);
    outcome.map(|_| ()).map_err(|error| error.to_string())
}

#[test]
fn every_step_of_the_recipes_is_integers() {
    for recipe in ["wage", "niti"] {
        assert_eq!(checked(recipe, "vgg7-x0.125"), Ok(()), "{recipe}");
    }
    for recipe in ["wageubn", "wageubn-16e2"] {
        for model in ["vgg7-x0.125", "resnet8"] {
            assert_eq!(checked(recipe, model), Ok(()), "{recipe} {model}");
        }
    }
}

/// NITI has no integers for a normalization, and an average of 16 activations of 8 bits has more.
#[test]
fn what_is_no_integer_ends_the_run_with_its_place() {
    let normalized = checked("niti", "cnn").unwrap_err();
    assert_eq!(
        normalized,
        "conv2: step 0: its input is on no grid of 24 bits"
    );
    let learned = checked("methods", "cnn").unwrap_err();
    assert!(learned.contains("states no grid"), "{learned}");
}
