//! Products in low-precision sums against one sum after another, bit for bit, on every instruction
//! set and with several numbers of threads. In a process of its own: what kernels use is the same for
//! a whole process.

use crate::plain::Random;
use lowbit_formats::{Accumulation, Format, Rounding};
use lowbit_kernels::accumulate::{Shape, product};
use lowbit_kernels::vector::{Isa, use_at_most};

/// What holds partial sums: every way of the kernel, and the formats at its ends.
const PARTIALS: [&str; 45] = [
    "e6m9",
    "e4m3",
    "e4m3(saturate)",
    "e5m2",
    "e2m1",
    "e5m10",
    "float(4,5,flush)",
    "float(4,4,fnuz)",
    "float(5,0)",
    "bf16",
    "tf32",
    "e8m12",
    "e6m14",
    "e8m21",
    "e8m22",
    "fp32",
    "posit(8,1)",
    "e6m9 rounding toward-zero",
    "int8",
    "int24",
    "int24 wrap",
    "int31",
    "int32",
    "int32 wrap",
    "int48 wrap",
    "fixed(20,6)",
    "volta-fp16",
    "ampere-bf16",
    "ampere-tf32",
    "ada-fp8",
    "hopper-bf16",
    "hopper-fp8",
    "hopper-fp8 operands e5m2 e4m3",
    "blackwell-fp8",
    "cdna3-bf16",
    "cdna3-tf32",
    "cdna3-fp8",
    "e6m9:stochastic",
    "e4m3:stochastic(bits=5)",
    "e4m3(saturate):stochastic",
    "e5m2:stochastic",
    "bf16:stochastic",
    "e8m20:stochastic(bits=31)",
    "fp32:stochastic",
    "fixed(20,6):stochastic",
];

/// Operands: e5m2 and e4m3 and int8, numbers with 24 bits, those between, and those beyond f32's
/// middle.
const OPERANDS: [&str; 7] = ["e5m2", "e4m3", "int8", "fixed(8,3)", "bf16", "fp32", "wide"];

fn numbers(random: &mut Random, format: &str, count: usize) -> Vec<f32> {
    let draw = |random: &mut Random, spread: usize| {
        let exponent = 127 - spread + random.between(0, 2 * spread);
        let bits = random.between(0, 0x7F_FFFF) | exponent << 23 | random.between(0, 1) << 31;
        f32::from_bits(bits as u32)
    };
    let format: Format = match format {
        "wide" => return (0..count).map(|_| draw(random, 126)).collect(),
        format => format.parse().unwrap(),
    };
    let spread = random.of(&[1, 4, 9]);
    let scale = if format.to_string() == "int8" {
        16.0
    } else {
        1.0
    };
    let input: Vec<f32> = (0..count)
        .map(|_| match random.between(0, 9) {
            0 => 0.0,
            _ => scale * draw(random, spread),
        })
        .collect();
    format
        .quantize_to_vec(&input, Rounding::NearestEven)
        .unwrap()
}

/// Texts of every order and with products rounded or not, as far as the partial sums take them.
fn accumulations() -> Vec<Accumulation> {
    let mut all = Vec::new();
    for partial in PARTIALS {
        let integer = partial.starts_with("int") || partial.starts_with("fixed");
        let chips = [
            "volta",
            "turing",
            "ampere",
            "ada",
            "hopper",
            "blackwell",
            "cdna",
        ];
        let is_chip = chips.iter().any(|chip| partial.starts_with(chip));
        for product in ["", "product e4m3", "product bf16"] {
            for order in ["", "pairwise", "kahan", "chunk 5", "chunk 8 outer"] {
                let outer = match (order.ends_with("outer"), partial) {
                    (false, _) => "",
                    (true, "fixed(20,6)" | "fixed(20,6):stochastic") => "fixed(28,6)",
                    (true, "int24") => "int60",
                    (true, "int24 wrap") => "int28 wrap",
                    (true, _) if integer => "int31",
                    (true, "e6m9" | "bf16" | "hopper-fp8") => "fp32",
                    (true, _) => "e8m13",
                };
                let text = format!("{partial} {product} {order} {outer}");
                match text.parse() {
                    Ok(accumulation) => all.push(accumulation),
                    // What an integer or a chip cannot do.
                    Err(_) => assert!(integer || is_chip, "{text}"),
                }
            }
        }
    }
    all
}

fn check(accumulation: &Accumulation, random: &mut Random) -> usize {
    let columns = random.of(&[1, 3, 16, 35, 70]);
    let longest = random.of(&[23, 23, 70]);
    let inner = random.between(0, longest);
    let shape = Shape {
        rows: random.between(1, 3),
        inner,
        columns: if random.between(0, 30) == 0 {
            300
        } else {
            columns
        },
    };
    let operands = [OPERANDS, OPERANDS].map(|formats| random.of(&formats));
    let a = numbers(random, operands[0], shape.rows * shape.inner);
    let b = numbers(random, operands[1], shape.inner * shape.columns);
    let mut output = vec![-7.0; shape.rows * shape.columns];
    let seed = random.between(0, 1 << 40) as u64;
    product(accumulation, &shape, [&a, &b], seed, &mut output);
    for (at, &sum) in output.iter().enumerate() {
        let place = at as u64;
        let (row, column) = (at / shape.columns, at % shape.columns);
        let row = &a[row * shape.inner..][..shape.inner];
        let column: Vec<f32> = (0..shape.inner)
            .map(|k| b[k * shape.columns + column])
            .collect();
        let expected = accumulation.seeded_sum_of_products(row, &column, seed, place);
        let same = sum.to_bits() == expected.to_bits() || sum.is_nan() && expected.is_nan();
        assert!(
            same,
            "{accumulation}: {sum} for {expected}, {row:?} {column:?}"
        );
    }
    output.len()
}

#[test]
fn every_way_gives_the_bits_of_one_sum_after_another() {
    let all = accumulations();
    for &set in Isa::ALL.iter().filter(|&&set| set <= Isa::detected()) {
        use_at_most(set);
        let (mut random, mut sums) = (Random(21), 0);
        for accumulation in &all {
            for _ in 0..30 {
                sums += check(accumulation, &mut random);
            }
        }
        println!("{set:?}: {} ways, {sums} sums, 0 differences", all.len());
    }
    use_at_most(Isa::ALL[Isa::ALL.len() - 1]);
    threads();
}

/// The same bits with one, two and three threads.
fn threads() {
    let mut random = Random(22);
    let shape = Shape {
        rows: 13,
        inner: 50,
        columns: 300,
    };
    let a = numbers(&mut random, "fp32", shape.rows * shape.inner);
    let b = numbers(&mut random, "fp32", shape.inner * shape.columns);
    for text in [
        "e6m9 chunk 16",
        "e8m12 pairwise",
        "bf16 kahan",
        "posit(8,1)",
        "int24",
        "e6m9:stochastic chunk 16",
        "e6m9:stochastic kahan",
        "hopper-fp8 chunk 32",
    ] {
        let accumulation: Accumulation = text.parse().unwrap();
        let made = [1, 2, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let mut output = vec![0.0; shape.rows * shape.columns];
            let run = || product(&accumulation, &shape, [&a, &b], 7, &mut output);
            pool.build().unwrap().install(run);
            output.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
        });
        assert_eq!(made[0], made[1], "{text}");
        assert_eq!(made[0], made[2], "{text}");
    }
}

#[test]
fn sums_of_nothing_are_zero() {
    let shape = Shape {
        rows: 2,
        inner: 0,
        columns: 3,
    };
    let mut output = [1.0; 6];
    product(&"e6m9".parse().unwrap(), &shape, [&[], &[]], 0, &mut output);
    assert_eq!(output, [0.0; 6]);
}
