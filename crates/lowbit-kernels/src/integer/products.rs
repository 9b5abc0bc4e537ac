//! Products of every channel of one tensor with every channel of another, summed over places: what the
//! gradient of a weight is.
//!
//! Both come in fours of places: an `i32` whose lowest byte is the first place's.

use super::output::Kept;
use super::quads::WEIGHTS;
use super::sums::LANES;
use super::tile::{self, Group, Row, Run, Start};
use super::{Kind, kind};

/// The sums of a tensor of bytes without sign, the inputs, and one of bytes with sign, the gradients, each
/// four places a line: of inputs `[lines][channels]`; of gradients as [`place`](Self::place) says.
#[derive(Debug, Clone)]
pub struct Products {
    inputs: usize,
    outputs: usize,
    groups: Vec<Group>,
    /// Lines of gradients.
    lines: usize,
    /// Lines of inputs that the runs reach.
    reach: usize,
}

impl Products {
    /// Of so many channels of both, over runs of lines of inputs: the first of each and how many. They
    /// meet the lines of gradients in their order.
    ///
    /// # Panics
    /// If there are no channels.
    pub fn new([inputs, outputs]: [usize; 2], runs: &[(usize, usize)]) -> Self {
        assert!(inputs > 0 && outputs > 0);
        let line = size_of::<i32>() * inputs;
        let in_bytes = |&(first, lines): &(usize, usize)| Run {
            offset: first * line,
            quads: lines,
        };
        let in_bytes: Vec<Run> = runs.iter().map(in_bytes).collect();
        let groups = tile::together(outputs.div_ceil(LANES), 4).map(|(first, vectors)| Group {
            first,
            vectors,
            channels: 0..0,
            runs: in_bytes.clone(),
        });
        Self {
            inputs,
            outputs,
            groups: groups.collect(),
            lines: runs.iter().map(|(_, lines)| lines).sum(),
            reach: runs.iter().map(|(first, n)| first + n).max().unwrap_or(0),
        }
    }

    /// Sums of an input channel: the output channels, up to whole vectors.
    pub fn sums(&self) -> usize {
        self.outputs.next_multiple_of(LANES)
    }

    /// Gradients in fours.
    pub fn fours(&self) -> usize {
        self.lines * self.sums()
    }

    /// Where the fours of a line of gradients, of sixteen channels, lie, which follow each other.
    pub fn place(&self, line: usize, vector: usize) -> usize {
        let group = self.groups.iter().rfind(|group| group.first <= vector);
        let group = group.expect("the first group starts with the first vector");
        let before = group.first * self.lines;
        (before + line * group.vectors + vector - group.first) * LANES
    }

    /// The sums for each channel of `input` from line `first` on, and `start` added, which has one for
    /// each output up to whole vectors; `sums_of_gradients` are those of each, with which kernels that
    /// count inputs from another number than zero make up for it.
    ///
    /// # Panics
    /// If `input` does not reach as far as the runs do, or another slice has another length.
    pub fn all(
        &self,
        (input, first): (&[i32], usize),
        gradients: &[i32],
        (start, sums_of_gradients): (&[i32], &[i32]),
        sums: &mut [i32],
    ) {
        self.all_by(
            kind(),
            (input, first),
            gradients,
            (start, sums_of_gradients),
            sums,
        );
    }

    /// The same with instructions that the CPU has.
    fn all_by(
        &self,
        kind: Kind,
        (input, first): (&[i32], usize),
        gradients: &[i32],
        (start, sums_of_gradients): (&[i32], &[i32]),
        sums: &mut [i32],
    ) {
        assert!((first + self.reach) * self.inputs <= input.len());
        assert_eq!(gradients.len(), self.fours());
        assert_eq!(start.len(), self.sums());
        assert_eq!(sums_of_gradients.len(), self.sums());
        assert_eq!(sums.len(), self.inputs * self.sums());
        let from = i32::from(kind.from());
        let both = start.iter().zip(sums_of_gradients);
        let bias: Vec<i32> = both
            .map(|(start, sum)| start.wrapping_add(sum.wrapping_mul(from)))
            .collect();
        let row = Row {
            image: input[first * self.inputs..].as_ptr().cast(),
            step: size_of::<i32>(),
            four: size_of::<i32>() * self.inputs,
            columns: self.inputs,
            groups: &self.groups,
            weights: Start::Bytes(gradients.as_ptr().cast()),
            bias: bias.as_ptr(),
        };
        let output = Kept {
            sums: sums.as_mut_ptr(),
            step: self.sums(),
        };
        const { assert!(WEIGHTS == LANES * size_of::<i32>()) };
        // SAFETY: the caller says that the CPU has the instructions. A line has four bytes of each channel,
        // and the input as many lines as the runs reach; gradients, bias and sums have the lengths that
        // lines, channels and vectors say.
        unsafe { tile::run(kind, row, output) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integer::tests::kinds;

    /// Numbers from a generator whose steps anyone can repeat.
    fn bytes(count: usize, mut seed: u32) -> Vec<u8> {
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        (0..count).map(|_| next()).collect()
    }

    /// Against the sum of products, with what kernels count inputs from and with lines left out.
    #[test]
    fn sums_are_those_of_products() {
        for (case, channels) in [[1, 1], [3, 16], [16, 20], [17, 64], [20, 130]]
            .into_iter()
            .enumerate()
        {
            let [inputs, outputs] = channels;
            let products = Products::new(channels, &[(0, 3), (5, 2)]);
            let input = bytes(9 * 4 * inputs, case as u32);
            let (fours_of_input, _) = input.as_chunks::<4>();
            let fours_of_input: Vec<i32> = fours_of_input
                .iter()
                .map(|&k| i32::from_le_bytes(k))
                .collect();
            let signed = bytes(5 * 4 * outputs, 7 + case as u32);
            let signed = |line: usize, output: usize, j: usize| {
                signed[(line * outputs + output) * 4 + j] as i8
            };
            let mut fours = vec![0i32; products.fours()];
            let mut of_gradients = vec![0; products.sums()];
            for line in 0..5 {
                for (output, sum) in of_gradients.iter_mut().enumerate().take(outputs) {
                    let four = [0, 1, 2, 3].map(|j| signed(line, output, j));
                    *sum += four.iter().map(|&k| i32::from(k)).sum::<i32>();
                    let at = products.place(line, output / LANES) + output % LANES;
                    fours[at] = i32::from_le_bytes(four.map(|k| k as u8));
                }
            }
            let start: Vec<i32> = (0..products.sums() as i32).collect();
            for kind in kinds() {
                let mut sums = vec![0; inputs * products.sums()];
                let of_output = (&start[..], &of_gradients[..]);
                products.all_by(kind, (&fours_of_input, 2), &fours, of_output, &mut sums);
                for i in 0..inputs {
                    for o in 0..outputs {
                        let of_line = |(line, at): (usize, usize)| {
                            let x = |j| i32::from(input[((2 + at) * inputs + i) * 4 + j]);
                            (0..4)
                                .map(|j| x(j) * i32::from(signed(line, o, j)))
                                .sum::<i32>()
                        };
                        let lines = [0, 1, 2, 5, 6].into_iter().enumerate();
                        let expected = start[o] + lines.map(of_line).sum::<i32>();
                        assert_eq!(
                            sums[i * products.sums() + o],
                            expected,
                            "{channels:?}, {kind:?}"
                        );
                    }
                }
            }
        }
    }
}
