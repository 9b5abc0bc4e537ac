//! Roundings of a layer against those of NumPy: `tests/reference/repair.py`.

use serde::Deserialize;

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
    problem.moments.gram[0] = f64::NAN;
    assert_eq!(gptq::codes(&problem), None);
}
