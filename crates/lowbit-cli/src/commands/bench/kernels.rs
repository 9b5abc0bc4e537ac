//! `lowbit bench kernels`.

use std::process::ExitCode;

use clap::Args;
use lowbit::report::Table;
use lowbit_formats::{Format, Rounding, bench};

use crate::commands::{Ended, print_json};
use crate::output::print;

/// Time the rounding kernels against a copy of the same memory.
///
/// Copies and kernels take turns on the same slices, so that a slow moment of the machine meets
/// both; each time is the shortest of the rounds. A second measurement rounds 2^14 elements, which
/// stay in the cache, with one thread.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Formats to measure [default: some of every kind]
    #[arg(value_name = "F")]
    formats: Vec<Format>,
    /// Rounding mode; may be given several times [default: nearest-even and stochastic]
    #[arg(long, value_name = "MODE")]
    rounding: Vec<Rounding>,
    /// Elements of the large measurement
    #[arg(long, value_name = "N", default_value_t = 1 << 24)]
    elements: usize,
    /// Threads of the large measurement
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: usize,
    /// Rounds, of which the fastest counts
    #[arg(long, value_name = "N", default_value_t = 7)]
    rounds: usize,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// What is measured when nothing is asked for.
const FORMATS: [&str; 20] = [
    "fixed(8,6)",
    "int8",
    "unit(4)",
    "e4m3",
    "e5m2",
    "fp16",
    "bf16",
    "e2m1",
    "p3109(8,4)",
    "qpytorch(5,2)",
    "bfp(8)",
    "bfp(8,block=16)",
    "mxfp8(e4m3)",
    "mxfp4",
    "mxint8",
    "nvfp4",
    "posit(8,0)",
    "posit(16,1)",
    "nf4",
    "lns(4,3)",
];

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        let formats = if self.formats.is_empty() {
            FORMATS
                .map(str::parse)
                .into_iter()
                .collect::<Result<_, _>>()?
        } else {
            self.formats
        };
        let modes = if self.rounding.is_empty() {
            vec![Rounding::NearestEven, Rounding::stochastic(0, 0)]
        } else {
            self.rounding
        };
        let cases: Vec<(Format, Rounding)> = formats
            .iter()
            .flat_map(|format| modes.iter().map(|mode| (format.clone(), *mode)))
            .collect();
        let report = bench::kernels(&cases, self.elements, self.threads, self.rounds)?;
        if self.json {
            print_json(&report)?;
        } else {
            print(table(&report))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn table(report: &bench::Report) -> Table {
    let speed = |elements_per_second: f64| format!("{:.0}", elements_per_second / 1e6);
    let headings = [
        "format",
        "rounding",
        "10^6/s",
        "over copy",
        "in cache 10^6/s",
    ];
    let rows = report.kernels.iter().map(|kernel| {
        [
            kernel.format.clone(),
            kernel.rounding.to_string(),
            speed(kernel.elements_per_second),
            format!("{:.3}", kernel.ratio_to_copy),
            speed(kernel.in_cache_elements_per_second),
        ]
    });
    let caption = format!(
        "{} elements, {} threads; a copy moves {} * 10^6 elements a second",
        report.elements,
        report.threads,
        speed(report.copy_elements_per_second)
    );
    Table::new(headings).with_caption(caption).with_rows(rows)
}
