//! The operator and its way through Burn; what the kernels compute, their own tests compare with a
//! plain recursion.

use burn::backend::flex::Flex;
use burn::tensor::{Device, Tensor, TensorData};

use super::neurons::Neurons;
use super::*;
use crate::ops::backend::operator::{Incoming, Inputs, Operator};

fn neuron() -> Neuron {
    Neuron {
        gain: Gain::Rest,
        synapse: Some(Gain::One),
        adaptation: None,
        firing: Some(Firing {
            most_spikes: 4,
            ..Firing::default()
        }),
        min_potential: Some(-0.5),
        grid: None,
    }
}

fn wave(shape: [usize; 4], frequency: f64) -> TensorData {
    let count = shape.iter().product();
    let numbers = (0..count).map(|i| ((i as f64 * frequency).sin() * 2.7 + 0.4) as f32);
    TensorData::new(numbers.collect::<Vec<f32>>(), shape)
}

fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

fn parameters(device: &Device, count: usize) -> NeuronParameters {
    let tensor = |value: f32| Tensor::full([count], value, device).require_grad();
    NeuronParameters {
        decay: tensor(0.8),
        threshold: tensor(0.7),
        synapse_decay: Some(tensor(0.6)),
        adaptation_decay: None,
    }
}

/// What the operator makes, forward and of all gradients.
fn made(shape: [usize; 4], time: usize, count: usize, permuted: bool) -> Vec<Vec<f32>> {
    let device = Device::flex().autodiff();
    let p = parameters(&device, count);
    let x = Tensor::<4>::from_data(wave(shape, 0.77), &device).require_grad();
    let weights = Tensor::<4>::from_data(wave(shape, 1.3), &device);
    // The same numbers in another order of the storage.
    let stored = match permuted {
        true => {
            let [n, c, h, w] = shape;
            let last = x.clone().permute([0, 2, 3, 1]).reshape([n, h * w * c]);
            last.reshape([n, h, w, c]).permute([0, 3, 1, 2])
        }
        false => x.clone(),
    };
    let y = spiking(stored, neuron(), p.clone(), time);
    let grads = (y.clone() * weights).sum().backward();
    let mut all = vec![numbers(y), numbers(x.grad(&grads).unwrap())];
    for parameter in [p.decay, p.threshold, p.synapse_decay.unwrap()] {
        all.push(numbers(parameter.grad(&grads).unwrap()));
    }
    all
}

#[test]
fn the_order_of_the_storage_does_not_matter() {
    for count in [1, 60] {
        let rows = made([6, 3, 4, 5], 3, count, false);
        let permuted = made([6, 3, 4, 5], 3, count, true);
        assert!(rows[0].iter().any(|&y| y > 0.0));
        assert_eq!(rows[..2], permuted[..2]);
        for (a, b) in rows[2..]
            .iter()
            .flatten()
            .zip(permuted[2..].iter().flatten())
        {
            // Sums in another order.
            assert!((a - b).abs() < 1e-4 * (1.0 + a.abs()), "{a} {b}");
        }
    }
}

/// A shared parameter's gradient is the sum of those that each neuron would have.
#[test]
fn shared_gradients_are_sums() {
    let shared = made([4, 3, 4, 5], 2, 1, false);
    let own = made([4, 3, 4, 5], 2, 60, false);
    assert_eq!(shared[..2], own[..2]);
    for (shared, own) in shared[2..].iter().zip(&own[2..]) {
        let sum: f32 = own.iter().sum();
        assert!(
            (shared[0] - sum).abs() < 1e-3 * (1.0 + sum.abs()),
            "{shared:?} {sum}"
        );
    }
}

/// Two halves, the second from the state that the first left, have the numbers and gradients of the
/// whole.
#[test]
fn gradients_go_through_the_state() {
    let device = Device::flex().autodiff();
    let weights = wave([1, 1, 10, 7], 1.3);
    let gradients = |halves: bool| {
        let p = parameters(&device, 1);
        let x = Tensor::<4>::from_data(wave([1, 1, 10, 7], 0.77), &device)
            .reshape([10, 7])
            .require_grad();
        let y = match halves {
            true => {
                let run =
                    |x: Tensor<2>, state| spiking_with_state(x, neuron(), p.clone(), 5, state);
                let (first, state) = run(x.clone().narrow(0, 0, 5), None);
                let (second, _) = run(x.clone().narrow(0, 5, 5), Some(state));
                Tensor::cat(vec![first, second], 0)
            }
            false => spiking(x.clone(), neuron(), p.clone(), 10),
        };
        let weights = Tensor::<4>::from_data(weights.clone(), &device).reshape([10, 7]);
        let grads = (y.clone() * weights).sum().backward();
        let decay = numbers(p.decay.grad(&grads).unwrap())[0];
        ([numbers(y), numbers(x.grad(&grads).unwrap())], decay)
    };
    let ((whole, decay), (halves, of_halves)) = (gradients(false), gradients(true));
    assert_eq!(whole, halves);
    assert!((decay - of_halves).abs() < 1e-4 * (1.0 + decay.abs()));
}

/// What other backends do is what Flex does.
#[test]
fn the_composed_passes_agree() {
    let device = Device::flex();
    let tensor = |values: &[f32]| Tensor::<1>::from_floats(values, &device);
    let inputs: Vec<_> = [tensor(&[0.8]), tensor(&[0.7]), tensor(&[0.6])].into();
    let x = Tensor::<4>::from_data(wave([6, 1, 4, 5], 0.77), &device);
    let state = Tensor::<3>::full([2, 2, 20], 0.25, &device);
    let neurons = Neurons::new(neuron(), 3, true, true);
    let flat = |x: burn::backend::DispatchTensor| -> burn::backend::flex::FlexTensor {
        use burn::backend::{Dispatch, ops::FloatTensorOps, read_sync};
        let data = read_sync(Dispatch::float_into_data(x)).unwrap();
        Flex::float_from_data(data, &Default::default())
    };
    let mut tensors = vec![flat(x.into_dispatch())];
    tensors.extend(inputs.into_iter().map(|p| flat(p.into_dispatch())));
    tensors.push(flat(state.into_dispatch()));
    let plain = |x: &burn::backend::flex::FlexTensor| crate::ops::backend::flex::to_vec(x);
    let kernels = neurons.flex_forward(Inputs::new(tensors.clone()));
    let composed = Operator::forward::<Flex>(&neurons, Inputs::new(tensors.clone()));
    assert_eq!(plain(&kernels[0]), plain(&composed[0]));
    let grad = kernels[0].clone();
    let kernels = neurons.flex_backward(Incoming::new(tensors.clone(), grad.clone()));
    let composed = Operator::backward::<Flex>(&neurons, Incoming::new(tensors, grad));
    for (kernel, composed) in kernels.iter().zip(&composed) {
        assert_eq!(kernel.as_ref().map(plain), composed.as_ref().map(plain));
    }
    assert_eq!(kernels.iter().flatten().count(), 5);
}
