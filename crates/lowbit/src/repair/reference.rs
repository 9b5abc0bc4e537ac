//! Roundings of a layer against those of NumPy: `tests/reference/repair.py`.

use serde::Deserialize;

use lowbit_formats::Format;
use lowbit_formats::block::{BlockCodes, Scales};

use super::moments::Moments;
use super::rounding::{Grid, Problem};
use super::{adaround, gptq};

#[derive(Deserialize)]
struct Case {
    rows: usize,
    columns: usize,
    weight: Vec<f64>,
    x: Vec<f32>,
    target: Vec<f32>,
    step: Vec<f64>,
    min: f64,
    max: f64,
    codes: Vec<f64>,
    nearest_error: f64,
    error: f64,
}

impl Case {
    /// Those of that kind.
    fn all(kind: &str) -> Vec<Self> {
        let lines = include_str!("../../tests/reference/repair.jsonl").lines();
        let start = format!("{{\"kind\": \"{kind}\"");
        let lines = lines.filter(|line| line.starts_with(&start));
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn problem(&self) -> Problem {
        let mut moments = Moments::new(self.columns, self.rows);
        // In two parts, as batches come.
        let half = self.target.len() / self.rows / 2;
        let (x, more_x) = self.x.split_at(half * self.columns);
        let (y, more_y) = self.target.split_at(half * self.rows);
        moments.add(x, y);
        moments.add(more_x, more_y);
        let grid = |&step: &f64| Grid {
            step,
            min: self.min,
            max: self.max,
        };
        Problem {
            weight: self.weight.clone(),
            grids: self.step.iter().map(grid).collect(),
            moments,
        }
    }

    fn check(&self, codes: &[f64]) {
        let problem = self.problem();
        assert_eq!(codes, self.codes);
        let numbers = |codes: &[f64]| -> Vec<f64> {
            let all = codes.iter().enumerate();
            all.map(|(i, code)| code * problem.grid(i).step).collect()
        };
        let nearest: Vec<f64> = (0..codes.len())
            .map(|i| problem.grid(i).nearest(self.weight[i]))
            .collect();
        for (codes, expected) in [(&nearest[..], self.nearest_error), (codes, self.error)] {
            let error = problem.error(&numbers(codes)) / problem.moments.power;
            assert!((error - expected).abs() < 1e-5, "{error} {expected}");
        }
    }
}

#[test]
fn gptq_rounds_as_numpy_does() {
    let cases = Case::all("gptq");
    assert_eq!(cases.len(), 4);
    cases
        .iter()
        .for_each(|case| case.check(&gptq::codes(&case.problem()).unwrap()));
}

/// One weight at a time in a block format, whose scales a file keeps as those of the case.
#[test]
fn blocks_are_rounded_as_numpy_does() {
    for case in Case::all("gptq") {
        let problem = case.problem();
        let bits = (case.max - case.min + 1.0).log2() as u32;
        let Ok(Format::Block(format)) = format!("affine({bits},symmetric,dim=0)").parse() else {
            panic!("no block format of {bits} bits")
        };
        let steps = |scales| match scales {
            Scales::Affine(mut all) => {
                let steps = all.iter_mut().zip(problem.grids.iter());
                steps.for_each(|(affine, grid)| affine.scale = grid.step as f32);
                Scales::Affine(all)
            }
            other => panic!("{other:?}"),
        };
        let weight: Vec<f32> = case.weight.iter().map(|&w| w as f32).collect();
        let gram = &problem.moments.gram;
        let factor = gptq::GptqFactor::of(gram).unwrap();
        let codes = gptq::gptq_blocks(&weight, &factor, &format, &steps).unwrap();
        let numbers = format.decode(&codes).unwrap();
        let expected = case.codes.iter().enumerate();
        let expected: Vec<f32> = expected
            .map(|(i, code)| (code * problem.grid(i).step) as f32)
            .collect();
        assert_eq!(numbers, expected);
    }
}

/// Columns in blocks: each block's scale is that of what its weights have become, and the sums are nearer than
/// those of weights rounded to the nearest.
#[test]
fn blocks_make_up_for_one_another() {
    let case = &Case::all("gptq")[0];
    let problem = case.problem();
    let gram = &problem.moments.gram;
    let factor = gptq::GptqFactor::of(gram).unwrap();
    let weight: Vec<f32> = case.weight.iter().map(|&w| w as f32).collect();
    for text in [
        "affine(3,block=2)",
        "mxfp4(block=2)",
        "nvfp4(block=2)",
        "scaled(e4m3,block=2x2)",
    ] {
        let Ok(Format::Block(format)) = text.parse() else {
            panic!("{text} is no block format")
        };
        let error = |codes: &BlockCodes| {
            let numbers = format.decode(codes).unwrap();
            let apart = numbers.iter().zip(&weight);
            gram.power(&apart.map(|(q, w)| q - w).collect::<Vec<f32>>())
        };
        let shape = [case.rows, case.columns];
        let nearest = format.encode(&weight, &shape, Default::default()).unwrap();
        let made = gptq::gptq_blocks(&weight, &factor, &format, &|scales| scales);
        let [nearest, made] = [nearest, made.unwrap()].map(|codes| error(&codes));
        assert!(made < nearest, "{text}: {made} {nearest}");
    }
    let Ok(Format::Block(down)) = "mxfp4(dim=0)".parse() else {
        panic!("no block format")
    };
    let refused = gptq::gptq_blocks(&weight, &factor, &down, &|scales| scales);
    assert!(refused.unwrap_err().to_string().contains("columns"));
}

#[test]
fn adaround_rounds_as_numpy_does() {
    let cases = Case::all("adaround");
    assert_eq!(cases.len(), 4);
    cases
        .iter()
        .for_each(|case| case.check(&adaround::codes(&case.problem()).unwrap()));
}

#[test]
fn no_number_is_no_rounding() {
    let case = &Case::all("gptq")[0];
    let mut problem = case.problem();
    problem.moments.gram.sums[0] = f64::NAN;
    assert_eq!(gptq::codes(&problem), None);
    assert!(gptq::GptqFactor::of(&problem.moments.gram).is_none());
}
