//! Operators with kernels of their own against Burn's operators, forward and backward, over shapes.

use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor, TensorData, module};
use lowbit::ops::{self, Activation, ClampedGradient, Operand, Quantization};
use lowbit_formats::{Format, Rounding};

/// Noise between -1 and 1 that depends on `seed` alone.
fn noise<const D: usize>(shape: [usize; D], seed: u32, device: &Device) -> Tensor<D> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let values = (0..shape.iter().product()).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    });
    Tensor::from_data(TensorData::new(values.collect::<Vec<f32>>(), shape), device)
}

fn values<const D: usize>(t: Tensor<D>) -> Vec<f32> {
    t.into_data().iter::<f32>().collect()
}

/// Largest difference over the largest magnitude.
fn assert_close(what: &str, ours: &[f32], theirs: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let largest = theirs.iter().fold(1e-20f32, |m, v| m.max(v.abs()));
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= tolerance * largest, "{what}[{i}]: {a} {b}");
    }
}

/// Output and gradients of `f` for the given inputs, with noise as the output's gradient.
fn run<const D: usize, const E: usize, const O: usize>(
    x: &Tensor<D>,
    w: &Tensor<E>,
    b: &Tensor<1>,
    f: impl Fn(Tensor<D>, Tensor<E>, Tensor<1>) -> Tensor<O>,
) -> [Vec<f32>; 4] {
    let (x, w, b) = (
        x.clone().require_grad(),
        w.clone().require_grad(),
        b.clone().require_grad(),
    );
    let y = f(x.clone(), w.clone(), b.clone());
    let weights = noise(y.dims(), 99, &y.device());
    let grads = (y.clone() * weights).sum().backward();
    let grad = |g: Option<Vec<f32>>| g.unwrap_or_default();
    [
        values(y),
        grad(x.grad(&grads).map(values)),
        grad(w.grad(&grads).map(values)),
        grad(b.grad(&grads).map(values)),
    ]
}

fn assert_all_close(case: &str, ours: [Vec<f32>; 4], theirs: [Vec<f32>; 4], tolerance: f32) {
    for (what, (a, b)) in ["output", "x", "weight", "bias"]
        .into_iter()
        .zip(ours.iter().zip(&theirs))
    {
        assert_close(&format!("{case}: {what}"), a, b, tolerance);
    }
}

/// Of three images of a size, with so many channels in and out.
fn assert_convolution_is_burns(
    channels: [usize; 2],
    size: [usize; 2],
    kernel: [usize; 2],
    options: &ConvOptions<2>,
) {
    let device = Device::flex().autodiff();
    let x = noise([3, channels[0], size[0], size[1]], 1, &device);
    let w = noise([channels[1], channels[0], kernel[0], kernel[1]], 2, &device);
    let b = noise([channels[1]], 3, &device);
    let ours = run(&x, &w, &b, |x, w, b| {
        ops::conv2d(x.into(), w.into(), Some(b.into()), options.clone())
    });
    let theirs = run(&x, &w, &b, |x, w, b| {
        module::conv2d(x, w, Some(b), options.clone())
    });
    let case = format!("{channels:?} {size:?} {kernel:?} {options:?}");
    assert_all_close(&case, ours, theirs, 1e-5);
}

#[test]
fn convolutions_are_burns() {
    let mut cases = 0;
    for channels in [
        [1, 6],
        [2, 3],
        [3, 16],
        [4, 20],
        [5, 20],
        [16, 16],
        [18, 34],
    ] {
        for size in [[5, 7], [8, 8], [4, 19]] {
            for kernel in [[1, 1], [3, 3], [5, 2]] {
                for (stride, dilation) in [
                    ([1, 1], [1, 1]),
                    ([2, 2], [1, 1]),
                    ([1, 2], [2, 1]),
                    ([3, 3], [1, 1]),
                    ([3, 2], [2, 2]),
                ] {
                    for padding in [[(0, 0), (0, 0)], [(1, 1), (1, 1)], [(2, 0), (1, 2)]] {
                        let reach = |d: usize| dilation[d] * (kernel[d] - 1) + 1;
                        let room = |d: usize| size[d] + padding[d].0 + padding[d].1;
                        if room(0) < reach(0) || room(1) < reach(1) {
                            continue;
                        }
                        let options = ConvOptions::new_with_padding(stride, padding, dilation, 1);
                        assert_convolution_is_burns(channels, size, kernel, &options);
                        cases += 1;
                    }
                }
            }
        }
    }
    assert!(cases > 300, "{cases}");
}

#[test]
fn grouped_convolutions_are_burns() {
    let device = Device::flex().autodiff();
    for groups in [2, 4] {
        let options = ConvOptions::new([2, 1], [1, 1], [1, 1], groups);
        let x = noise([2, 8, 7, 6], 1, &device);
        let w = noise([12, 8 / groups, 3, 3], 2, &device);
        let b = noise([12], 3, &device);
        let ours = run(&x, &w, &b, |x, w, b| {
            ops::conv2d(x.into(), w.into(), Some(b.into()), options.clone())
        });
        let theirs = run(&x, &w, &b, |x, w, b| {
            module::conv2d(x, w, Some(b), options.clone())
        });
        assert_all_close(&format!("{groups} groups"), ours, theirs, 1e-5);
    }
}

#[test]
fn linears_are_burns() {
    let device = Device::flex().autodiff();
    for rows in [1, 2, 12, 31, 33, 130, 700] {
        for features in [
            [1, 1],
            [5, 3],
            [16, 32],
            [17, 33],
            [100, 40],
            [50, 130],
            [300, 10],
        ] {
            let x = noise([rows, features[0]], 1, &device);
            let w = noise(features, 2, &device);
            let b = noise([features[1]], 3, &device);
            let case = format!("{rows} rows of {features:?}");
            let ours = run(&x, &w, &b, |x, w, b| {
                ops::linear(x.into(), w.into(), Some(b.into()))
            });
            let theirs = run(&x, &w, &b, |x, w, b| module::linear(x, w, Some(b)));
            assert_all_close(&case, ours, theirs, 1e-5);
            let ours = run(&x, &w, &b, |x, w, _| ops::linear(x.into(), w.into(), None));
            let theirs = run(&x, &w, &b, |x, w, _| module::linear(x, w, None));
            assert_all_close(&case, ours, theirs, 1e-5);
        }
    }
    // More dimensions, another order of them in memory, and none but the features.
    let x = noise([4, 3, 7, 5], 1, &device);
    let w = noise([7, 6], 2, &device);
    let b = noise([6], 3, &device);
    let ours = run(&x, &w, &b, |x, w, b| {
        ops::linear(x.swap_dims(2, 3).into(), w.into(), Some(b.into()))
    });
    let theirs = run(&x, &w, &b, |x, w, b| {
        module::linear(x.swap_dims(2, 3), w, Some(b))
    });
    assert_all_close("four dimensions", ours, theirs, 1e-5);
    let x = noise([7], 1, &device);
    let ours = run(&x, &w, &b, |x, w, b| {
        ops::linear(x.into(), w.into(), Some(b.into()))
    });
    let theirs = run(&x, &w, &b, |x, w, b| {
        module::linear(x.unsqueeze::<2>(), w, Some(b)).squeeze::<1>()
    });
    assert_all_close("one dimension", ours, theirs, 1e-5);
}

/// Images smaller than the kernel, the stride or the padding, so that whole rows, columns and
/// images of what a kernel reads are zeros that were put around them.
#[test]
fn convolutions_of_small_images_are_burns() {
    let mut cases = 0;
    for channels in [[1, 17], [3, 16], [18, 5], [32, 34]] {
        for size in [[1, 1], [1, 3], [3, 1], [2, 2]] {
            for kernel in [[1, 1], [1, 2], [2, 2], [5, 5]] {
                for stride in [[1, 1], [2, 2], [3, 3], [4, 2]] {
                    for padding in [[(0, 0); 2], [(1, 1); 2], [(4, 4); 2], [(5, 3), (0, 4)]] {
                        let room = |d: usize| size[d] + padding[d].0 + padding[d].1;
                        if room(0) < kernel[0] || room(1) < kernel[1] {
                            continue;
                        }
                        let options = ConvOptions::new_with_padding(stride, padding, [1, 1], 1);
                        assert_convolution_is_burns(channels, size, kernel, &options);
                        cases += 1;
                    }
                }
            }
        }
    }
    assert!(cases > 600, "{cases}");
}

/// A batch without images has no output, and adds nothing to a gradient.
#[test]
fn convolutions_of_no_images() {
    let device = Device::flex().autodiff();
    for stride in [1, 2] {
        let options = ConvOptions::new([stride; 2], [1, 1], [1, 1], 1);
        let x = Tensor::<4>::empty([0, 3, 5, 4], &device).require_grad();
        let w = noise([6, 3, 3, 3], 2, &device).require_grad();
        let y = ops::conv2d(x.clone().into(), w.clone().into(), None, options);
        assert_eq!(y.dims()[..2], [0, 6]);
        let grads = y.sum().backward();
        assert_eq!(x.grad(&grads).unwrap().dims(), [0, 3, 5, 4]);
        assert_eq!(values(w.grad(&grads).unwrap()), [0.0; 6 * 27]);
    }
}

/// No rows, and gradients that nobody wants.
#[test]
fn linears_of_nothing_and_of_constants() {
    let device = Device::flex().autodiff();
    let w = noise([5, 3], 2, &device);
    let empty = ops::linear(
        Tensor::<2>::empty([0, 5], &device).into(),
        w.clone().into(),
        None,
    );
    assert_eq!(empty.dims(), [0, 3]);
    let bias = noise([3], 3, &device);
    let of_nothing = ops::linear(
        Tensor::<2>::empty([2, 0], &device).into(),
        Tensor::<2>::empty([0, 3], &device).into(),
        Some(bias.clone().into()),
    );
    assert_eq!(values(of_nothing), values(bias).repeat(2));
    for constant in [true, false] {
        let x = noise([4, 5], 1, &device);
        let (x, w) = if constant {
            (x, w.clone().require_grad())
        } else {
            (x.require_grad(), w.clone())
        };
        let y = ops::linear(x.clone().into(), w.clone().into(), None);
        let grads = y.sum().backward();
        assert_eq!(x.grad(&grads).is_none(), constant);
        assert_eq!(w.grad(&grads).is_none(), !constant);
    }
}

fn format(format: &str, clamped: ClampedGradient) -> Quantization {
    Quantization::Format {
        format: format.parse::<Format>().unwrap(),
        rounding: Rounding::NearestEven,
        clamped,
    }
}

fn threshold(log2_threshold: Tensor<1>, bits: u32) -> Quantization {
    Quantization::TrainedThreshold {
        log2_threshold,
        signed: Tensor::ones([1], &Device::flex().autodiff()),
        bits,
        ties: Rounding::NearestEven,
        axis: 0,
    }
}

/// Quantizations of an input and of a weight, given a threshold.
type Pair = fn(Tensor<1>) -> [Option<Quantization>; 2];

/// Among them some of which zero is no value: what is not there must not count.
const PAIRS: [(&str, Pair); 6] = [
    ("unit and float", |_| {
        [Some(format("unit(3)", ClampedGradient::Zero)), None]
    }),
    ("float and unit", |_| {
        [None, Some(format("unit(3)", ClampedGradient::Zero))]
    }),
    ("e4m3 and binary", |_| {
        [
            Some(format("e4m3", ClampedGradient::Pass)),
            Some(format("table(-0.5,0.25)", ClampedGradient::Pass)),
        ]
    }),
    ("binary and bfp", |_| {
        [
            Some(format("table(-0.5,0.25)", ClampedGradient::Zero)),
            Some(format("bfp(6)", ClampedGradient::Zero)),
        ]
    }),
    ("tqt and e5m2", |log2| {
        [
            Some(threshold(log2, 4)),
            Some(format("e5m2", ClampedGradient::Zero)),
        ]
    }),
    ("tqt", |log2| {
        [
            Some(threshold(log2.clone(), 4)),
            Some(threshold(log2 - 1.0, 3)),
        ]
    }),
];

/// Rounding inside a product is rounding before it.
fn assert_rounds_as_passes_would<const D: usize, const E: usize, const O: usize>(
    (x, w): (Tensor<D>, Tensor<E>),
    ours: impl Fn(Operand<D>, Operand<E>) -> Tensor<O>,
    burns: impl Fn(Tensor<D>, Tensor<E>) -> Tensor<O>,
) {
    let log2 = Tensor::<1>::from_floats([-0.3], &x.device());
    let with = |y: Tensor<O>, log2: Tensor<1>| y + log2.sum().unsqueeze() * 0.0;
    for (name, quantizations) in PAIRS {
        let inside = run(&x, &w, &log2, |x, w, log2| {
            let [of_x, of_w] = quantizations(log2.clone());
            with(ours(Operand::new(x, of_x), Operand::new(w, of_w)), log2)
        });
        let before = run(&x, &w, &log2, |x, w, log2| {
            let [of_x, of_w] = quantizations(log2.clone());
            let (x, w) = (
                Operand::new(x, of_x).quantized(),
                Operand::new(w, of_w).quantized(),
            );
            with(ours(x.into(), w.into()), log2)
        });
        assert_eq!(inside[..3], before[..3], "{name}");
        assert_close(name, &inside[3], &before[3], 1e-5);
        let theirs = run(&x, &w, &log2, |x, w, log2| {
            let [of_x, of_w] = quantizations(log2.clone());
            let (x, w) = (
                Operand::new(x, of_x).quantized(),
                Operand::new(w, of_w).quantized(),
            );
            with(burns(x, w), log2)
        });
        assert_all_close(name, inside, theirs, 1e-5);
    }
}

#[test]
fn a_convolution_rounds_its_operands_as_passes_of_their_own_would() {
    let device = Device::flex().autodiff();
    // Channels that do not fill a block, and so few that they are packed otherwise.
    for channels in [5, 3, 18] {
        for stride in [1, 2] {
            let options = ConvOptions::new([stride; 2], [1, 1], [1, 1], 1);
            let x = noise([3, channels, 9, 8], 1, &device) * 1.7;
            let w = noise([7, channels, 3, 3], 2, &device);
            assert_rounds_as_passes_would(
                (x, w),
                |x, w| ops::conv2d(x, w, None, options.clone()),
                |x, w| module::conv2d(x, w, None, options.clone()),
            );
            // A row of which only the padding is read.
            let options = ConvOptions::new([1, 3], [0, 1], [1, 1], 1);
            let x = noise([3, channels, 4, 2], 1, &device) * 1.7;
            let w = noise([7, channels, 1, 1], 2, &device);
            assert_rounds_as_passes_would(
                (x, w),
                |x, w| ops::conv2d(x, w, None, options.clone()),
                |x, w| module::conv2d(x, w, None, options.clone()),
            );
        }
    }
}

#[test]
fn a_linear_rounds_its_operands_as_passes_of_their_own_would() {
    let device = Device::flex().autodiff();
    for (rows, features) in [(3, [5, 3]), (40, [70, 50]), (150, [33, 16])] {
        let x = noise([rows, features[0]], 1, &device) * 1.7;
        let w = noise(features, 2, &device);
        assert_rounds_as_passes_would(
            (x, w),
            |x, w| ops::linear(x, w, None),
            |x, w| module::linear(x, w, None),
        );
    }
}

/// Burn's normalization and activation, one after the other.
fn burns_norm<const D: usize>(
    x: Tensor<D>,
    [gamma, beta]: [Tensor<1>; 2],
    statistics: Option<[Tensor<1>; 2]>,
    activation: Activation,
) -> Tensor<D> {
    let z = match statistics {
        Some([mean, variance]) => module::batch_norm(x, gamma, beta, mean, variance, 1e-3),
        None => module::batch_norm_train(x, gamma, beta, 1e-3).output,
    };
    match activation {
        Activation::Identity => z,
        Activation::Relu => burn::tensor::activation::relu(z),
        Activation::Relu6 => z.clamp(0.0, 6.0),
    }
}

#[test]
fn batch_normalizations_are_burns() {
    let device = Device::flex().autodiff();
    for channels in [1, 3, 16, 20, 50, 64] {
        for activation in [Activation::Identity, Activation::Relu, Activation::Relu6] {
            let x = noise([5, channels, 7, 9], 1, &device) * 3.0 + 0.5;
            let gamma = noise([channels], 2, &device) * 3.0;
            let beta = noise([channels], 3, &device);
            let case = format!("{channels} {activation:?}");
            let ours = run(&x, &gamma, &beta, |x, gamma, beta| {
                ops::batch_norm_train(x, [gamma, beta], 1e-3, activation).output
            });
            let theirs = run(&x, &gamma, &beta, |x, gamma, beta| {
                burns_norm(x, [gamma, beta], None, activation)
            });
            assert_all_close(&case, ours, theirs, 2e-5);

            let mean = noise([channels], 4, &device);
            let variance = noise([channels], 5, &device).abs() + 0.3;
            let given = || [mean.clone(), variance.clone()];
            let ours = run(&x, &gamma, &beta, |x, gamma, beta| {
                ops::batch_norm(x, [gamma, beta], given(), 1e-3, activation)
            });
            let theirs = run(&x, &gamma, &beta, |x, gamma, beta| {
                burns_norm(x, [gamma, beta], Some(given()), activation)
            });
            assert_all_close(&case, ours, theirs, 2e-5);
        }
    }
}

#[test]
fn batch_normalization_of_other_ranks_is_burns() {
    let device = Device::flex().autodiff();
    let (gamma, beta) = (noise([6], 2, &device), noise([6], 3, &device));
    let x = noise([50, 6], 1, &device);
    let ours = run(&x, &gamma, &beta, |x, gamma, beta| {
        ops::batch_norm_train(x, [gamma, beta], 1e-3, Activation::Identity).output
    });
    let theirs = run(&x, &gamma, &beta, |x, gamma, beta| {
        burns_norm(x, [gamma, beta], None, Activation::Identity)
    });
    assert_all_close("[batch, channels]", ours, theirs, 2e-5);
    let x = noise([4, 6, 3, 5, 2], 1, &device);
    let ours = run(&x, &gamma, &beta, |x, gamma, beta| {
        ops::batch_norm_train(x, [gamma, beta], 1e-3, Activation::Relu).output
    });
    let theirs = run(&x, &gamma, &beta, |x, gamma, beta| {
        burns_norm(x, [gamma, beta], None, Activation::Relu)
    });
    assert_all_close("five dimensions", ours, theirs, 2e-5);
}

/// The variance of numbers far from zero: each channel's are 1000 and 1001 in turn, so the biased
/// variance is 1/4.
#[test]
fn the_variance_of_numbers_far_from_zero_keeps_its_digits() {
    let device = Device::flex();
    let count = 2 * 48 * 3 * 1024;
    let x: Vec<f32> = (0..count).map(|i| 1000.0 + (i % 2) as f32).collect();
    let x = Tensor::<4>::from_data(TensorData::new(x, [2 * 48, 3, 32, 32]), &device);
    let one = Tensor::ones([3], &device);
    let made = ops::batch_norm_train(x, [one.clone(), one], 1e-5, Activation::Identity);
    for (mean, variance) in values(made.mean).iter().zip(values(made.variance)) {
        assert_eq!(*mean, 1000.5);
        assert!((variance - 0.25).abs() < 1e-6, "{variance}");
    }
}

#[test]
fn poolings_are_burns() {
    let device = Device::flex().autodiff();
    let unused = Tensor::<1>::ones([1], &device);
    for channels in [1, 5, 16] {
        // Few distinct values, so that windows have several greatest ones.
        let x = (noise([2, channels, 9, 8], 1, &device) * 2.0).round() / 2.0;
        for (size, stride, padding) in [
            ([2, 2], [2, 2], [0, 0]),
            ([3, 3], [2, 1], [1, 1]),
            ([3, 2], [1, 1], [1, 0]),
        ] {
            let max = MaxPoolOptions::new(size)
                .with_stride(stride)
                .with_padding(padding);
            let ours = run(&x, &unused, &unused, |x, _, _| {
                ops::max_pool2d(x, max.clone())
            });
            let theirs = run(&x, &unused, &unused, |x, _, _| {
                module::max_pool2d(x, max.clone())
            });
            assert_all_close("max", ours, theirs, 1e-6);
            for count_padding in [true, false] {
                let average = AvgPoolOptions::new(size)
                    .with_stride(stride)
                    .with_padding(padding)
                    .with_count_include_pad(count_padding);
                let ours = run(&x, &unused, &unused, |x, _, _| {
                    ops::avg_pool2d(x, average.clone())
                });
                let theirs = run(&x, &unused, &unused, |x, _, _| {
                    module::avg_pool2d(x, average.clone())
                });
                assert_all_close("average", ours, theirs, 1e-6);
            }
        }
        for output in [[1, 1], [3, 4], [9, 8], [5, 3]] {
            let ours = run(&x, &unused, &unused, |x, _, _| {
                ops::adaptive_avg_pool2d(x, output)
            });
            let theirs = run(&x, &unused, &unused, |x, _, _| {
                module::adaptive_avg_pool2d(x, output)
            });
            assert_all_close("adaptive", ours, theirs, 1e-6);
        }
    }
}

/// Tensors whose storage is permuted, and one that is read twice, as in a residual network.
#[test]
fn layouts_mix_and_gradients_add_up() {
    let device = Device::flex().autodiff();
    let unused = Tensor::<1>::ones([1], &device);
    let x = noise([2, 16, 6, 7], 1, &device);
    let w = noise([16, 16, 3, 3], 2, &device);
    let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    let ours = run(&x, &w, &unused, |x, w, _| {
        let x = x.swap_dims(2, 3);
        let y = ops::relu(ops::conv2d(
            x.clone().into(),
            w.into(),
            None,
            options.clone(),
        ));
        let sum = ops::add(y.clone().into(), x.into());
        ops::relu6(ops::add(sum.into(), y.into()) * 2.0)
    });
    let theirs = run(&x, &w, &unused, |x, w, _| {
        let x = x.swap_dims(2, 3);
        let y = burn::tensor::activation::relu(module::conv2d(x.clone(), w, None, options.clone()));
        ((y.clone() + x + y) * 2.0).clamp(0.0, 6.0)
    });
    assert_all_close("residual", ours, theirs, 1e-5);
}

/// Rounding inside an addition is rounding before it.
#[test]
fn an_addition_rounds_its_operands_as_passes_of_their_own_would() {
    let device = Device::flex().autodiff();
    let log2 = Tensor::<1>::from_floats([-0.3], &device);
    // Long enough for several parts.
    let (a, b) = (
        noise([3, 8, 41, 37], 1, &device),
        noise([3, 8, 41, 37], 2, &device),
    );
    let threshold = |log2| threshold(log2, 4);
    let format = || format("unit(3)", ClampedGradient::Zero);
    let inside = run(&a, &b, &log2, |a, b, log2| {
        let a = Operand::new(a, Some(threshold(log2.clone())));
        let both = ops::add(a, Operand::new(b.clone(), Some(threshold(log2))));
        ops::add(both.into(), Operand::new(b, Some(format())))
    });
    let before = run(&a, &b, &log2, |a, b, log2| {
        let a = threshold(log2.clone()).apply(a);
        let both = a + threshold(log2).apply(b.clone());
        both + format().apply(b)
    });
    assert_all_close("add", inside, before, 1e-5);
}
