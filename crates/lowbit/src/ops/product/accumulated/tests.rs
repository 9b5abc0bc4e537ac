use burn::tensor::Device;
use burn::tensor::ops::ConvTransposeOptions;

use super::*;
use crate::ops;

fn noise(count: usize, seed: u32) -> Vec<f32> {
    let hash = |i: u32| (i.wrapping_add(seed * 77_777)).wrapping_mul(2_654_435_761) >> 8;
    (0..count as u32)
        .map(|i| hash(i) as f32 / 8e6 - 1.0)
        .collect()
}

fn tensor<const D: usize>(shape: [usize; D], seed: u32) -> Tensor<D> {
    let values = TensorData::new(noise(shape.iter().product(), seed), shape);
    Tensor::from_data(values, &Device::flex().autodiff()).require_grad()
}

fn values<const D: usize>(t: Tensor<D>) -> Vec<f32> {
    t.into_data().iter::<f32>().collect()
}

/// Results and the gradients to input, weight and bias, of the sum of the results times an error.
fn all<const D: usize, const E: usize>(
    [x, e]: [[usize; D]; 2],
    w: [usize; E],
    bias: usize,
    forward: impl Fn(Tensor<D>, Tensor<E>, Tensor<1>) -> Tensor<D>,
) -> [Vec<f32>; 4] {
    let (x, w, b) = (tensor(x, 1), tensor(w, 2), tensor([bias], 3));
    let y = forward(x.clone(), w.clone(), b.clone());
    assert_eq!(y.dims(), e);
    let grads = (y.clone() * tensor(e, 4).detach()).sum().backward();
    [
        values(y),
        values(x.grad(&grads).unwrap()),
        values(w.grad(&grads).unwrap()),
        values(b.grad(&grads).unwrap()),
    ]
}

/// In fp32 the sums are the plain operators', but for the order in which they are added.
fn assert_near(found: &[Vec<f32>; 4], expected: &[Vec<f32>; 4], name: &str) {
    for (part, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!(
                (a - b).abs() < 1e-4 * (1.0 + b.abs()),
                "{name}, {part}: {a} {b}"
            );
        }
    }
}

/// Strides, paddings of unequal sides, dilations and groups; rows, columns and channels of no round
/// numbers.
fn convolutions() -> Vec<(&'static str, [usize; 4], [usize; 4], ConvOptions<2>)> {
    let options = |stride, padding: [(usize, usize); 2], dilation, groups| {
        let mut options = ConvOptions::new(stride, [0, 0], dilation, groups);
        options.padding = padding;
        options
    };
    vec![
        (
            "plain",
            [2, 3, 5, 6],
            [4, 3, 3, 2],
            options([1, 1], [(0, 0); 2], [1, 1], 1),
        ),
        (
            "same",
            [1, 2, 4, 5],
            [3, 2, 3, 3],
            options([1, 1], [(1, 1); 2], [1, 1], 1),
        ),
        (
            "strided",
            [2, 2, 7, 6],
            [2, 2, 3, 2],
            options([2, 3], [(1, 0), (0, 2)], [1, 1], 1),
        ),
        (
            "dilated",
            [1, 2, 7, 7],
            [3, 2, 2, 3],
            options([1, 2], [(0, 0), (1, 1)], [3, 2], 1),
        ),
        (
            "groups",
            [2, 4, 5, 5],
            [6, 2, 3, 3],
            options([2, 1], [(1, 1); 2], [1, 1], 2),
        ),
    ]
}

fn out_dims(x: [usize; 4], w: [usize; 4], options: &ConvOptions<2>) -> [usize; 4] {
    let [height, width] = Geometry::new(x, w, options).out;
    [x[0], w[0], height, width]
}

#[test]
fn sums_in_fp32_are_the_plain_operators() {
    for (name, x, w, options) in convolutions() {
        let shapes = [x, out_dims(x, w, &options)];
        let plain = all(shapes, w, w[0], |x, w, b| {
            ops::conv2d(x.into(), w.into(), Some(b.into()), options.clone())
        });
        let found = all(shapes, w, w[0], |x, w, b| {
            let sums: Accumulation = "fp32".parse().unwrap();
            conv2d_with_sums(x.into(), w.into(), Some(b.into()), options.clone(), sums)
        });
        assert_near(&found, &plain, name);
    }
    let shapes = [[2, 3, 5], [2, 3, 4]];
    let plain = all(shapes, [5, 4], 4, |x, w, b| {
        ops::linear(x.into(), w.into(), Some(b.into()))
    });
    let found = all(shapes, [5, 4], 4, |x, w, b| {
        let sums: Accumulation = "fp32".parse().unwrap();
        linear_with_sums(x.into(), w.into(), Some(b.into()), sums)
    });
    assert_near(&found, &plain, "linear");
}

/// The number at a place, or zero outside.
fn at(values: &[f32], shape: [usize; 4], place: [Option<usize>; 4]) -> f32 {
    let mut i = 0;
    for (place, size) in place.into_iter().zip(shape) {
        match place.filter(|&p| p < size) {
            Some(place) => i = i * size + place,
            None => return 0.0,
        }
    }
    values[i]
}

/// Every sum, term by term in the documented order, by the definition of a convolution and its
/// gradients: `y[n, o, i, j] = sum w[o, c, k, l] x[n, c, i s + k d - p, j s + l d - p]`.
#[test]
fn every_sum_of_a_convolution_is_made_in_its_order() {
    let sums: Accumulation = "e4m3 chunk 5".parse().unwrap();
    for (name, x_shape, w_shape, options) in convolutions() {
        let y_shape = out_dims(x_shape, w_shape, &options);
        let found = all([x_shape, y_shape], w_shape, w_shape[0], |x, w, b| {
            let (options, sums) = (options.clone(), sums.clone());
            conv2d_with_sums(x.into(), w.into(), Some(b.into()), options, sums)
        });
        let bias = noise(w_shape[0], 3);
        let count = |shape: [usize; 4]| shape.iter().product::<usize>();
        let x = noise(count(x_shape), 1);
        let w = noise(count(w_shape), 2);
        let g = noise(count(y_shape), 4);
        let [_, group_in, height, width] = w_shape;
        let group_out = w_shape[0] / options.groups;
        let (stride, dilation) = (options.stride, options.dilation);
        let padding = options.padding.map(|(before, _)| before);
        let read = |d: usize, i: usize, k: usize| {
            (i * stride[d] + k * dilation[d]).checked_sub(padding[d])
        };
        let wrote = |d: usize, i: usize, k: usize| {
            let covered = (i + padding[d]).checked_sub(k * dilation[d])?;
            (covered % stride[d] == 0).then_some(covered / stride[d])
        };
        let kernel = || (0..height).flat_map(|k| (0..width).map(move |l| (k, l)));
        let sum = |terms: Vec<(f32, f32)>| {
            let (a, b): (Vec<f32>, Vec<f32>) = terms.into_iter().unzip();
            sums.sum_of_products(&a, &b)
        };
        let places = |s: [usize; 4]| {
            (0..count(s)).map(move |i| {
                [
                    i / s[1] / s[2] / s[3],
                    i / s[2] / s[3] % s[1],
                    i / s[3] % s[2],
                    i % s[3],
                ]
            })
        };
        let y = places(y_shape).map(|[n, o, i, j]| {
            let first = o / group_out * group_in;
            let terms = (0..group_in).flat_map(|c| kernel().map(move |(k, l)| (c, k, l)));
            bias[o]
                + sum(terms
                    .map(|(c, k, l)| {
                        let weight = at(&w, w_shape, [o, c, k, l].map(Some));
                        let place = [Some(n), Some(first + c), read(0, i, k), read(1, j, l)];
                        (weight, at(&x, x_shape, place))
                    })
                    .collect())
        });
        assert_eq!(found[0], y.collect::<Vec<_>>(), "{name}: results");
        let of_input = places(x_shape).map(|[n, c, i, j]| {
            let first = c / group_in * group_out;
            let terms = (0..group_out).flat_map(|o| kernel().map(move |(k, l)| (first + o, k, l)));
            sum(terms
                .map(|(o, k, l)| {
                    let weight = at(&w, w_shape, [o, c % group_in, k, l].map(Some));
                    let place = [Some(n), Some(o), wrote(0, i, k), wrote(1, j, l)];
                    (weight, at(&g, y_shape, place))
                })
                .collect())
        });
        assert_eq!(found[1], of_input.collect::<Vec<_>>(), "{name}: input");
        let of_weight = places(w_shape).map(|[o, c, k, l]| {
            let channel = o / group_out * group_in + c;
            let results = places([y_shape[0], 1, y_shape[2], y_shape[3]]);
            sum(results
                .map(|[n, _, i, j]| {
                    let place = [Some(n), Some(channel), read(0, i, k), read(1, j, l)];
                    (
                        at(&g, y_shape, [n, o, i, j].map(Some)),
                        at(&x, x_shape, place),
                    )
                })
                .collect())
        });
        assert_eq!(found[2], of_weight.collect::<Vec<_>>(), "{name}: weight");
        let of_bias = (0..w_shape[0]).map(|o| {
            let results = places([y_shape[0], 1, y_shape[2], y_shape[3]]);
            sum(results
                .map(|[n, _, i, j]| (at(&g, y_shape, [n, o, i, j].map(Some)), 1.0))
                .collect())
        });
        assert_eq!(found[3], of_bias.collect::<Vec<_>>(), "{name}: bias");
    }
}

/// Each pass, image and seed draws numbers of its own; the same seed draws the same.
#[test]
fn stochastic_sums_draw_from_their_seed() {
    let found = |seed| {
        let shapes = [[2, 2, 4, 4], [2, 2, 4, 4]];
        let mut options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
        options.padding = [(1, 1), (1, 1)];
        let sums: Accumulation = "e5m2:stochastic".parse().unwrap();
        let sums = ProductSums::from(sums).with_seed(seed);
        all(shapes, [2, 2, 3, 3], 2, |x, w, b| {
            conv2d_with_sums(
                x.into(),
                w.into(),
                Some(b.into()),
                options.clone(),
                sums.clone(),
            )
        })
    };
    let (first, again, other) = (found(1), found(1), found(2));
    assert_eq!(first, again);
    for (first, other) in first.iter().zip(&other).take(3) {
        assert_ne!(first, other);
    }
    // Two images that are alike come out differently.
    let sums: Accumulation = "e5m2:stochastic".parse().unwrap();
    let x = Tensor::<4>::ones([2, 1, 6, 6], &Device::flex());
    let w = Tensor::<4>::full([1, 1, 3, 3], 0.3, &Device::flex());
    let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
    let y = values(conv2d_with_sums(x.into(), w.into(), None, options, sums));
    assert_ne!(y[..16], y[16..]);
}

/// A row of numbers is an image one pixel high.
#[test]
fn sums_along_a_row_are_those_of_an_image() {
    let sums = || "e4m3 chunk 5".parse::<Accumulation>().unwrap();
    let rows = all([[2, 3, 9], [2, 4, 5]], [4, 3, 3], 4, |x, w, b| {
        let mut options = ConvOptions::new([2], [0], [1], 1);
        options.padding = [(1, 1)];
        ops::conv1d_with_sums(x.into(), w.into(), Some(b.into()), options, sums())
    });
    let image = all([[2, 3, 1, 9], [2, 4, 1, 5]], [4, 3, 1, 3], 4, |x, w, b| {
        let mut options = ConvOptions::new([1, 2], [0, 0], [1, 1], 1);
        options.padding = [(0, 0), (1, 1)];
        conv2d_with_sums(x.into(), w.into(), Some(b.into()), options, sums())
    });
    assert_eq!(rows, image);
}

#[test]
fn transposed_sums_in_fp32_are_the_plain_operators() {
    let fp32 = || "fp32".parse::<Accumulation>().unwrap();
    let options = ConvTransposeOptions::new([2, 1], [1, 0], [1, 0], [1, 2], 2);
    // Rows: (5 - 1) 2 + 3 - 1 + 1 + 1 - 2 = 10; columns: (4 - 1) + 2 + 1 = 6.
    let shapes = [[2, 4, 5, 4], [2, 6, 10, 6]];
    let transposed = |with_sums: bool| {
        all(shapes, [4, 3, 3, 2], 6, |x, w, b| {
            let options = options.clone();
            match with_sums {
                false => ops::conv_transpose2d(x.into(), w.into(), Some(b.into()), options),
                true => {
                    let (x, w, b) = (x.into(), w.into(), Some(b.into()));
                    ops::conv_transpose2d_with_sums(x, w, b, options, fp32())
                }
            }
        })
    };
    assert_near(&transposed(true), &transposed(false), "two dimensions");
    let options = ConvTransposeOptions::new([3], [1], [2], [1], 1);
    // (4 - 1) 3 + 3 - 1 + 2 + 1 - 2 = 12.
    let transposed = |with_sums: bool| {
        all([[2, 3, 4], [2, 2, 12]], [3, 2, 3], 2, |x, w, b| {
            let options = options.clone();
            match with_sums {
                false => ops::conv_transpose1d(x.into(), w.into(), Some(b.into()), options),
                true => {
                    let (x, w, b) = (x.into(), w.into(), Some(b.into()));
                    ops::conv_transpose1d_with_sums(x, w, b, options, fp32())
                }
            }
        })
    };
    assert_near(&transposed(true), &transposed(false), "one dimension");
}
