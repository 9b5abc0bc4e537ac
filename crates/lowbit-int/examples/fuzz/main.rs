//! Random networks, the engine against the interpreter on every instruction set that this CPU has, and
//! damaged files through the readers, for as long as one likes.
//!
//! ```text
//! cargo run --release -p lowbit-int --example fuzz [MINUTES] [SEED]
//! ```
//!
//! Prints what it has tried. Where the engine differs, or something panics, it ends with the seed and the
//! number of the trial that did it.

#[path = "../../tests/suite/binary.rs"]
mod binary;
#[path = "../../tests/suite/random.rs"]
mod random;

use std::time::{Duration, Instant};

use lowbit_int::onnx::{self, Dialect};
use lowbit_int::{Engine, Graph, interpret};
use lowbit_kernels::vector::{Isa, use_at_most};
use random::{Random, slices};

/// What has been tried.
#[derive(Debug, Default)]
struct Tried {
    graphs: usize,
    runs: usize,
    nodes: usize,
    counted_as_bits: usize,
    json_files: usize,
    json_files_read: usize,
    onnx_files: usize,
    onnx_files_read: usize,
}

impl Tried {
    /// A network on every instruction set.
    fn engine(&mut self, random: &mut Random, graph: Graph) -> Graph {
        let batch = random.below(4);
        let images = random.images(&graph, batch);
        let expected = interpret(&graph, &slices(&images)).expect("images fit");
        let engine = Engine::new(graph);
        for &set in Isa::ALL.iter().filter(|&&set| set <= Isa::detected()) {
            use_at_most(set);
            let outputs = engine.run(&slices(&images)).expect("images fit");
            assert_eq!(outputs, expected, "{set:?} {}", engine.graph().to_json());
            self.runs += 1;
        }
        self.graphs += 1;
        self.nodes += engine.graph().nodes().len();
        self.counted_as_bits += engine.binary_nodes().count();
        engine.graph().clone()
    }

    fn json(&mut self, random: &mut Random, graph: &Graph) {
        let mut text = graph.to_json().into_bytes();
        damage(random, &mut text, b"0123456789-eE.,:[]{}\" ");
        self.json_files += 1;
        match Graph::from_json(&String::from_utf8_lossy(&text)) {
            Ok(graph) => {
                self.json_files_read += 1;
                assert_eq!(Graph::from_json(&graph.to_json()).as_ref(), Ok(&graph));
            }
            Err(error) => one_line(&error.to_string()),
        }
    }

    fn onnx(&mut self, random: &mut Random, graph: &Graph) {
        let dialect = Dialect::ALL[random.below(Dialect::ALL.len())];
        // Not every network can be written in every dialect.
        let Ok(mut file) = onnx::write(graph, dialect) else {
            return;
        };
        damage(random, &mut file, &[0, 1, 2, 7, 8, 10, 16, 127, 128, 255]);
        self.onnx_files += 1;
        match onnx::read(&file) {
            Ok(_) => self.onnx_files_read += 1,
            Err(error) => one_line(&error.to_string()),
        }
    }
}

/// What readers say is one line that controls no terminal.
fn one_line(error: &str) {
    assert!(
        !error.is_empty() && !error.contains(char::is_control),
        "{error:?}"
    );
}

/// Changes bytes, cuts, repeats and exchanges.
fn damage(random: &mut Random, bytes: &mut Vec<u8>, likely: &[u8]) {
    for _ in 0..1 + random.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len());
        let length = 1 + random.below(64.min(bytes.len() - at));
        match random.below(6) {
            0 => bytes[at] = random.next() as u8,
            1 => bytes[at] = likely[random.below(likely.len())],
            2 => bytes[at] ^= 1 << random.below(8),
            3 if random.chance(4) => bytes.truncate(at),
            4 => drop(bytes.drain(at..at + length)),
            _ => {
                let part = bytes[at..at + length].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, part);
            }
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (minutes, seed) = (number(10)?, number(1)?);
    let until = Instant::now() + Duration::from_secs(60 * minutes);
    let mut tried = Tried::default();
    let mut printed = Instant::now();
    for trial in 0u64.. {
        if Instant::now() >= until {
            break;
        }
        let mut random = Random(seed.wrapping_shl(32).wrapping_add(trial));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let graph = binary::graph(&mut random);
            let graph = tried.engine(&mut random, graph);
            tried.json(&mut random, &graph);
            let graph = random.graph();
            let graph = tried.engine(&mut random, graph);
            for _ in 0..4 {
                tried.json(&mut random, &graph);
                // Of these alone, since multipliers of wide sums take the writer seconds to fit.
                tried.onnx(&mut random, &graph);
            }
        }));
        if outcome.is_err() {
            return Err(format!("seed {seed}, trial {trial}").into());
        }
        if printed.elapsed() > Duration::from_secs(60) {
            println!("{tried:?}");
            printed = Instant::now();
        }
    }
    println!("{minutes} minutes, nothing differs, nothing panics: {tried:?}");
    Ok(())
}
