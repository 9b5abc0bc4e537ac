//! The engine on every instruction set that this CPU has. In a process of its own: what kernels use is
//! the same for a whole process.

#[path = "suite/binary.rs"]
mod binary;
#[path = "suite/engine.rs"]
mod engine;
#[path = "suite/random.rs"]
mod random;

use lowbit_kernels::vector::{Isa, use_at_most};

#[test]
fn every_instruction_set_has_the_interpreters_bits() {
    for &set in Isa::ALL.iter().filter(|&&set| set <= Isa::detected()) {
        assert_eq!(use_at_most(set), set);
        engine::check(10, 2_000);
        binary::check(12, 300);
    }
}
