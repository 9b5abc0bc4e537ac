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

/// The same with three dimensions.
fn volumes() -> Vec<(&'static str, [usize; 5], [usize; 5], ConvOptions<3>)> {
    let options = |stride, padding: [(usize, usize); 3], dilation, groups| {
        let mut options = ConvOptions::new(stride, [0; 3], dilation, groups);
        options.padding = padding;
        options
    };
    vec![
        (
            "plain volume",
            [2, 3, 4, 5, 3],
            [4, 3, 3, 2, 2],
            options([1; 3], [(0, 0); 3], [1; 3], 1),
        ),
        (
            "strided volume",
            [1, 2, 5, 4, 6],
            [3, 2, 2, 3, 2],
            options([2, 1, 3], [(1, 0), (1, 1), (0, 2)], [1; 3], 1),
        ),
        (
            "dilated volume in groups",
            [2, 4, 5, 3, 4],
            [6, 2, 2, 1, 3],
            options([1, 1, 2], [(1, 1), (0, 0), (1, 1)], [3, 2, 1], 2),
        ),
    ]
}

/// The shape of a convolution's result.
fn out_dims<const D: usize, const N: usize>(
    x: [usize; D],
    w: [usize; D],
    options: &ConvOptions<N>,
) -> [usize; D] {
    let at = Geometry::new(&x, &w, &in_space(options.clone()));
    at.result_shape(&x).try_into().unwrap()
}

/// A shape of one place in the dimensions that are missing.
fn in_five<const D: usize>(shape: [usize; D]) -> [usize; 5] {
    let mut five = [1; 5];
    five[..2].copy_from_slice(&shape[..2]);
    five[7 - D..].copy_from_slice(&shape[2..]);
    five
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
    for (name, x, w, options) in volumes() {
        let shapes = [x, out_dims(x, w, &options)];
        let plain = all(shapes, w, w[0], |x, w, b| {
            ops::conv3d(x.into(), w.into(), Some(b.into()), options.clone())
        });
        let found = all(shapes, w, w[0], |x, w, b| {
            let sums: Accumulation = "fp32".parse().unwrap();
            conv3d_with_sums(x.into(), w.into(), Some(b.into()), options.clone(), sums)
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
fn at(values: &[f32], shape: [usize; 5], place: [Option<usize>; 5]) -> f32 {
    let mut i = 0;
    for (place, size) in place.into_iter().zip(shape) {
        match place.filter(|&p| p < size) {
            Some(place) => i = i * size + place,
            None => return 0.0,
        }
    }
    values[i]
}

/// The places of a tensor, in row-major order.
fn places(s: [usize; 5]) -> impl Iterator<Item = [usize; 5]> {
    (0..s.iter().product::<usize>()).map(move |i| {
        [
            i / s[1] / s[2] / s[3] / s[4],
            i / s[2] / s[3] / s[4] % s[1],
            i / s[3] / s[4] % s[2],
            i / s[4] % s[3],
            i % s[4],
        ]
    })
}

/// A convolution whose sums are to be made one by one.
struct Reference {
    sums: Accumulation,
    shapes: [[usize; 5]; 3],
    options: ConvOptions<3>,
    /// Input, weight, bias and the result's gradient.
    operands: [Vec<f32>; 4],
}

impl Reference {
    fn new(sums: &Accumulation, shapes: [[usize; 5]; 3], options: ConvOptions<3>) -> Self {
        let [x, w, y] = shapes.map(|shape| shape.iter().product());
        let bias = shapes[1][0];
        Self {
            sums: sums.clone(),
            shapes,
            options,
            operands: [noise(x, 1), noise(w, 2), noise(bias, 3), noise(y, 4)],
        }
    }

    fn sum(&self, terms: impl Iterator<Item = (f32, f32)>) -> f32 {
        let (a, b): (Vec<f32>, Vec<f32>) = terms.unzip();
        self.sums.sum_of_products(&a, &b)
    }

    /// Where the kernel's place reads the input for a result.
    fn read(&self, d: usize, i: usize, k: usize) -> Option<usize> {
        let covered = i * self.options.stride[d] + k * self.options.dilation[d];
        covered.checked_sub(self.options.padding[d].0)
    }

    /// Where the kernel's place wrote what it read at the input's place.
    fn wrote(&self, d: usize, i: usize, k: usize) -> Option<usize> {
        let (stride, (padding, _)) = (self.options.stride[d], self.options.padding[d]);
        let covered = (i + padding).checked_sub(k * self.options.dilation[d])?;
        (covered % stride == 0).then_some(covered / stride)
    }

    /// Channels in and out of a group.
    fn group(&self) -> [usize; 2] {
        [self.shapes[1][1], self.shapes[1][0] / self.options.groups]
    }

    fn results(&self) -> Vec<f32> {
        let ([x_shape, w_shape, y_shape], [x, w, bias, _]) = (self.shapes, &self.operands);
        let [group_in, group_out] = self.group();
        let [_, _, depth, height, width] = w_shape;
        let sum = |[n, o, z, i, j]: [usize; 5]| {
            let first = o / group_out * group_in;
            let terms = places([1, group_in, depth, height, width]).map(|[_, c, m, k, l]| {
                let [z, i, j] = [self.read(0, z, m), self.read(1, i, k), self.read(2, j, l)];
                (
                    at(w, w_shape, [o, c, m, k, l].map(Some)),
                    at(x, x_shape, [Some(n), Some(first + c), z, i, j]),
                )
            });
            bias[o] + self.sum(terms)
        };
        places(y_shape).map(sum).collect()
    }

    fn of_input(&self) -> Vec<f32> {
        let ([x_shape, w_shape, y_shape], [_, w, _, g]) = (self.shapes, &self.operands);
        let [group_in, group_out] = self.group();
        let [_, _, depth, height, width] = w_shape;
        let sum = |[n, c, z, i, j]: [usize; 5]| {
            let first = c / group_in * group_out;
            let terms = places([1, group_out, depth, height, width]).map(|[_, o, m, k, l]| {
                let [z, i, j] = [
                    self.wrote(0, z, m),
                    self.wrote(1, i, k),
                    self.wrote(2, j, l),
                ];
                (
                    at(w, w_shape, [first + o, c % group_in, m, k, l].map(Some)),
                    at(g, y_shape, [Some(n), Some(first + o), z, i, j]),
                )
            });
            self.sum(terms)
        };
        places(x_shape).map(sum).collect()
    }

    fn of_weight(&self) -> Vec<f32> {
        let ([x_shape, w_shape, y_shape], [x, _, _, g]) = (self.shapes, &self.operands);
        let [group_in, group_out] = self.group();
        let [images, _, depth, height, width] = y_shape;
        let sum = |[o, c, m, k, l]: [usize; 5]| {
            let channel = o / group_out * group_in + c;
            let terms = places([images, 1, depth, height, width]).map(|[n, _, z, i, j]| {
                let place = [self.read(0, z, m), self.read(1, i, k), self.read(2, j, l)];
                (
                    at(g, y_shape, [n, o, z, i, j].map(Some)),
                    at(
                        x,
                        x_shape,
                        [Some(n), Some(channel), place[0], place[1], place[2]],
                    ),
                )
            });
            self.sum(terms)
        };
        places(w_shape).map(sum).collect()
    }

    fn of_bias(&self) -> Vec<f32> {
        let ([_, w_shape, y_shape], g) = (self.shapes, &self.operands[3]);
        let [images, _, depth, height, width] = y_shape;
        let sum = |o: usize| {
            let results = places([images, 1, depth, height, width]);
            self.sum(
                results.map(|[n, _, z, i, j]| (at(g, y_shape, [n, o, z, i, j].map(Some)), 1.0)),
            )
        };
        (0..w_shape[0]).map(sum).collect()
    }

    fn assert_is(&self, found: &[Vec<f32>; 4], name: &str) {
        assert_eq!(found[0], self.results(), "{name}: results");
        assert_eq!(found[1], self.of_input(), "{name}: input");
        assert_eq!(found[2], self.of_weight(), "{name}: weight");
        assert_eq!(found[3], self.of_bias(), "{name}: bias");
    }
}

/// Every sum, term by term in the documented order, by the definition of a convolution and its
/// gradients: `y[n, o, i, j] = sum w[o, c, k, l] x[n, c, i s + k d - p, j s + l d - p]`, and so on in
/// depth.
#[test]
fn every_sum_of_a_convolution_is_made_in_its_order() {
    let sums: Accumulation = "e4m3 chunk 5".parse().unwrap();
    for (name, x, w, options) in convolutions() {
        let y = out_dims(x, w, &options);
        let found = all([x, y], w, w[0], |x, w, b| {
            let (options, sums) = (options.clone(), sums.clone());
            conv2d_with_sums(x.into(), w.into(), Some(b.into()), options, sums)
        });
        let shapes = [in_five(x), in_five(w), in_five(y)];
        Reference::new(&sums, shapes, in_space(options)).assert_is(&found, name);
    }
    for (name, x, w, options) in volumes() {
        let y = out_dims(x, w, &options);
        let found = all([x, y], w, w[0], |x, w, b| {
            let (options, sums) = (options.clone(), sums.clone());
            conv3d_with_sums(x.into(), w.into(), Some(b.into()), options, sums)
        });
        Reference::new(&sums, [x, w, y], options).assert_is(&found, name);
    }
}

/// A transposed convolution's result is the input's gradient of a convolution whose result's gradient
/// is its input, and the other way round: the sums of [`Reference`] in their order.
#[test]
fn every_sum_of_a_transposed_convolution_is_made_in_its_order() {
    let sums: Accumulation = "e4m3 chunk 5".parse().unwrap();
    // Depth: (3 - 1) 2 + (2 - 1) 2 + 1 + 1 - 2 = 6; rows: (2 - 1) + 2 + 1 = 4; columns:
    // (4 - 1) 3 + 1 + 1 - 2 = 9.
    let options = ConvTransposeOptions::new([2, 1, 3], [1, 0, 1], [1, 0, 0], [2, 1, 1], 2);
    let (x, w, y) = ([2, 4, 3, 2, 4], [4, 3, 2, 3, 2], [2, 6, 6, 4, 9]);
    let found = all([x, y], w, 6, |x, w, b| {
        let (options, sums) = (options.clone(), sums.clone());
        ops::conv_transpose3d_with_sums(x.into(), w.into(), Some(b.into()), options, sums)
    });
    let mut of_convolution = ConvOptions::new([2, 1, 3], [0; 3], [2, 1, 1], 2);
    of_convolution.padding = [(1, 1), (0, 0), (1, 1)];
    let mut reference = Reference::new(&sums, [y, w, x], of_convolution);
    let count = |shape: [usize; 5]| shape.iter().product::<usize>();
    // The result's gradient is the convolution's input, the input its result's gradient.
    let bias = noise(6, 3);
    reference.operands = [
        noise(count(y), 4),
        noise(count(w), 2),
        vec![0.0; 4],
        noise(count(x), 1),
    ];
    let places_of = y[2] * y[3] * y[4];
    let with_bias = reference.of_input().into_iter().enumerate();
    let results: Vec<f32> = with_bias
        .map(|(i, sum)| sum + bias[i / places_of % 6])
        .collect();
    assert_eq!(found[0], results, "results");
    assert_eq!(found[1], reference.results(), "input");
    assert_eq!(found[2], reference.of_weight(), "weight");
    let of_bias = (0..6).map(|o| {
        let [images, _, depth, height, width] = y;
        let terms = places([images, 1, depth, height, width]).map(|[n, _, z, i, j]| {
            (
                at(&reference.operands[0], y, [n, o, z, i, j].map(Some)),
                1.0,
            )
        });
        reference.sum(terms)
    });
    assert_eq!(found[3], of_bias.collect::<Vec<_>>(), "bias");
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
    let options = ConvTransposeOptions::new([2, 1, 2], [1, 0, 0], [1, 0, 1], [1, 2, 1], 2);
    // Depth: (3 - 1) 2 + 1 + 1 + 1 - 2 = 5; rows: (4 - 1) + 2 + 1 = 6; columns: (2 - 1) 2 + 2 + 1 + 1 = 6.
    let shapes = [[2, 4, 3, 4, 2], [2, 6, 5, 6, 6]];
    let transposed = |with_sums: bool| {
        all(shapes, [4, 3, 2, 2, 3], 6, |x, w, b| {
            let options = options.clone();
            match with_sums {
                false => ops::conv_transpose3d(x.into(), w.into(), Some(b.into()), options),
                true => {
                    let (x, w, b) = (x.into(), w.into(), Some(b.into()));
                    ops::conv_transpose3d_with_sums(x, w, b, options, fp32())
                }
            }
        })
    };
    assert_near(&transposed(true), &transposed(false), "three dimensions");
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
