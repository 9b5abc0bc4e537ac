//! Posits against the `softposit` crate on a sample of inputs and at every rounding boundary.

mod posit_reference;

use lowbit_formats::{Rounding, ScalarFormat};
use posit_reference::{Reference, es1, es2, standard};

/// Finite inputs around all values and all boundaries of a format of up to 16 bits: a boundary is
/// the posit of one bit more between two neighbours.
fn boundary_inputs(reference: &Reference) -> Vec<f32> {
    let posit = reference.posit;
    let finer =
        lowbit_formats::posit::Posit::new(posit.bits() as u8 + 1, posit.exponent_bits() as u8)
            .unwrap();
    (0..1u32 << finer.bits())
        .map(|code| finer.decode_f32(code))
        .filter(|x| x.is_finite())
        .flat_map(|x| [x.next_down(), x, x.next_up()])
        .collect()
}

#[test]
fn agrees() {
    for reference in standard().iter().chain(&es1()).chain(&es2()) {
        let posit = reference.posit;
        let mut inputs: Vec<f32> = (0..=u32::MAX).step_by(65_521).map(f32::from_bits).collect();
        if posit.bits() <= 16 {
            inputs.extend(boundary_inputs(reference));
        }
        let mut wrong = 0;
        for x in &inputs {
            let (code, expected) = (
                posit.encode(*x, Rounding::NearestEven, 0),
                (reference.encode)(*x),
            );
            if code != expected {
                wrong += 1;
                if wrong < 5 {
                    println!(
                        "({},{}) {x:e} {code:#x} {expected:#x}",
                        posit.bits(),
                        posit.exponent_bits()
                    );
                }
            }
        }
        println!(
            "({},{}): {wrong} of {}",
            posit.bits(),
            posit.exponent_bits(),
            inputs.len()
        );
    }
}
