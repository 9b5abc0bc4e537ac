//! The same on every instruction set that this CPU has. In a file, and a process, of its own: what
//! kernels use is the same for a whole process.

mod plain;

use lowbit_kernels::vector::{Isa, isa, use_at_most};
use plain::{Random, convolution, pooling, product};

#[test]
fn every_instruction_set_agrees_with_plain_loops() {
    for &set in Isa::ALL.iter().filter(|&&set| set <= Isa::detected()) {
        assert_eq!(use_at_most(set), set);
        assert_eq!(isa(), set);
        let mut random = Random(12);
        for _ in 0..2_000 {
            if let Some(shape) = convolution::shape(&mut random) {
                convolution::check(&shape, &mut random);
            }
            pooling::check(&pooling::adaptive(&mut random), &mut random);
        }
        for _ in 0..200 {
            product::check(&product::shape(&mut random), &mut random);
        }
    }
    let last = Isa::ALL[Isa::ALL.len() - 1];
    assert_eq!(use_at_most(last), Isa::detected());
}
