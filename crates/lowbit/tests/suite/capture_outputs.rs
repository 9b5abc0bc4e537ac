//! Captured models with several results.

use burn::module::{Module, Param};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig, Relu};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Int, Tensor};
use lowbit::calibrate::calibrate;
use lowbit::capture::{Captured, prepare};
use lowbit::config::QPlan;

use crate::numbers::numbers;

/// A class and two numbers of the same features.
#[derive(Module, Debug)]
struct TwoHeads {
    trunk: Linear,
    relu: Relu,
    class: Linear,
    number: Linear,
}

type Results = (Tensor<2>, Tensor<2>);

impl TwoHeads {
    fn new(device: &Device) -> Self {
        let linear = |[inputs, outputs]: [usize; 2], bias| {
            let config = LinearConfig::new(inputs, outputs).with_bias(bias);
            let weight = numbers([inputs, outputs], outputs as f32, device) * 0.2;
            let mut linear = config.init(device);
            linear.weight = Param::from_tensor(weight);
            linear.bias = bias.then(|| Param::from_tensor(Tensor::zeros([outputs], device)));
            linear
        };
        Self {
            trunk: linear([6, 16], true),
            relu: Relu::new(),
            class: linear([16, 3], true),
            number: linear([16, 2], false),
        }
    }

    fn forward(&self, x: Tensor<2>) -> Results {
        let features = self.relu.forward(self.trunk.forward(x));
        let class = self.class.forward(features.clone());
        (class, self.number.forward(features))
    }
}

/// Rows, the place of the largest of the first three of each, and their sum and difference.
fn examples(count: usize, device: &Device) -> (Tensor<2>, Tensor<1, Int>, Tensor<2>) {
    let x: Tensor<2> = numbers([count, 6], 0.5, device);
    let class = x.clone().narrow(1, 0, 3).argmax(1).squeeze_dim(1);
    let [a, b] = [0, 1].map(|i| x.clone().narrow(1, i, 1));
    let number = Tensor::cat(vec![a.clone() + b.clone(), a - b], 1);
    (x, class, number)
}

fn loss((class, number): Results, of: &(Tensor<2>, Tensor<1, Int>, Tensor<2>)) -> Tensor<1> {
    let cross_entropy = CrossEntropyLossConfig::new().init(&class.device());
    let error = number - of.2.clone();
    cross_entropy.forward(class, of.1.clone()) + error.powi_scalar(2).mean()
}

fn bits<const D: usize>(x: Tensor<D>) -> Vec<u32> {
    let numbers: Vec<f32> = x.into_data().try_to_vec().unwrap();
    numbers.into_iter().map(f32::to_bits).collect()
}

#[test]
fn both_heads_have_the_models_bits() {
    let device = Device::flex().autodiff();
    let model = TwoHeads::new(&device);
    let of = examples(7, &device);
    let captured = prepare(
        model.clone(),
        &QPlan::float(),
        &of.0,
        |model: &TwoHeads, x| model.forward(x),
    )
    .unwrap();
    let (made, expected) = (captured.forward(of.0.clone()), model.forward(of.0.clone()));
    assert_eq!(bits(made.0.clone()), bits(expected.0.clone()));
    assert_eq!(bits(made.1.clone()), bits(expected.1.clone()));
    let [made, expected] = [made, expected].map(|results| loss(results, &of).backward());
    for (name, parameter) in [
        ("trunk", &model.trunk.weight),
        ("class", &model.class.weight),
        ("number", &model.number.weight),
    ] {
        let [made, expected] = [&made, &expected].map(|all| bits(parameter.grad(all).unwrap()));
        assert!(made.iter().any(|&x| x != 0), "{name}");
        assert_eq!(made, expected, "{name}");
    }
}

/// Both heads learn with all tensors of all layers in 4 bits.
#[test]
fn both_heads_train_in_four_bits() {
    let device = Device::flex().autodiff();
    let of = examples(96, &device);
    let plan = "[[overrides]]
        type = \"Linear\"
        set.input = { method = \"tqt\", bits = 4 }
        set.weight = { method = \"tqt\", bits = 4 }
        set.bias = { method = \"tqt\", bits = 8 }
        set.output = { method = \"tqt\", bits = 8 }";
    let plan = QPlan::from_toml(plan).unwrap();
    let model = TwoHeads::new(&device);
    let captured = prepare(model, &plan, &of.0, |model: &TwoHeads, x| model.forward(x)).unwrap();
    let paths: Vec<&str> = captured.layers().iter().map(|l| &*l.path).collect();
    assert_eq!(paths, ["trunk", "class", "number"]);
    let run = |model: &Captured<TwoHeads, Tensor<2>, Results>| drop(model.forward(of.0.clone()));
    let (mut captured, _) = calibrate(captured, |_| true, run).unwrap();
    let mut optimizer = AdamConfig::new().init();
    for _ in 0..150 {
        let loss = loss(captured.forward(of.0.clone()), &of);
        let gradients = GradientsParams::from_grads(loss.backward(), &captured);
        captured = optimizer.step(0.02, captured, gradients);
    }
    let of = examples(96, &Device::flex());
    let (class, number) = captured.valid().forward(of.0);
    let same = class.argmax(1).squeeze_dim::<1>(1).equal(of.1);
    let right = same.float().mean().into_scalar::<f32>();
    let error = (number.clone() - of.2.clone()).powi_scalar(2).mean();
    let error = error.into_scalar::<f32>();
    let whole = of.2.powi_scalar(2).mean().into_scalar::<f32>();
    assert!(right > 0.85, "{right} of the classes");
    assert!(error < 0.1 * whole, "an error of {error} of {whole}");
    // With a threshold of 2 or 4, integers of 8 bits times 2^-6 or 2^-5.
    let codes = number * 2f32.powi(6);
    assert_eq!(bits(codes.clone().round()), bits(codes));
}

#[derive(Module, Debug)]
struct Product {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

/// Results of results, one twice, one that is what the model reads, and what a linear layer makes on its
/// way.
#[test]
fn any_tensors_are_results() {
    let device = Device::flex();
    let linear = LinearConfig::new(4, 3).init(&device);
    let model = Product {
        weight: linear.weight,
        bias: linear.bias.unwrap(),
    };
    type Parts = (Vec<Tensor<2>>, [Tensor<2>; 2], Tensor<1>);
    let forward = |model: &Product, x: Tensor<2>| -> Parts {
        let product = x.clone().matmul(model.weight.val());
        let sum = product.clone() + model.bias.val().unsqueeze();
        let all = vec![product, sum.clone(), x];
        (
            all,
            [sum.clone(), sum.clone() * 2.0],
            sum.sum_dim(1).flatten(0, 1),
        )
    };
    let x = |count| numbers([count, 4], 3.0, &device);
    let captured = prepare(model.clone(), &QPlan::float(), &x(2), forward).unwrap();
    let flat = |(all, pair, sum): Parts| {
        let tensors = all.into_iter().chain(pair).map(bits);
        tensors.chain([bits(sum)]).collect::<Vec<_>>()
    };
    for count in [1, 4] {
        let made = captured.forward(x(count));
        assert_eq!(made.0.len(), 3);
        assert_eq!(flat(made), flat(forward(&model, x(count))));
    }
}

#[test]
fn as_many_results_as_items_are_refused() {
    let device = Device::flex();
    let model = LinearConfig::new(4, 3).init(&device);
    let x: Tensor<2> = numbers([2, 4], 3.0, &device);
    let rows = |model: &Linear, x: Tensor<2>| model.forward(x).iter_dim(0).collect::<Vec<_>>();
    let error = prepare(model, &QPlan::float(), &x, rows).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the model: has 2 results for one size of the batch and 3 for another, expected as many"
    );
}
