//! Kernels over random small shapes against plain loops.

use crate::plain::{Random, convolution, pooling, product};

#[test]
fn convolutions_of_small_shapes_are_those_of_plain_loops() {
    let mut random = Random(10);
    let mut checked = 0;
    while checked < 20_000 {
        if let Some(shape) = convolution::shape(&mut random) {
            convolution::check(&shape, &mut random);
            checked += 1;
        }
    }
}

#[test]
fn poolings_of_small_shapes_are_those_of_plain_loops() {
    let mut random = Random(11);
    let mut checked = 0;
    while checked < 20_000 {
        if let Some(windows) = pooling::sliding(&mut random) {
            pooling::check(&windows, &mut random);
            checked += 1;
        }
    }
    for _ in 0..5_000 {
        let windows = pooling::adaptive(&mut random);
        pooling::check(&windows, &mut random);
    }
}

#[test]
fn products_of_small_shapes_are_those_of_plain_loops() {
    let mut random = Random(13);
    for _ in 0..1_000 {
        let shape = product::shape(&mut random);
        product::check(&shape, &mut random);
    }
}
