//! Networks of integers: what runs on hardware without floating point, bit for bit.
//!
//! A [`Graph`] is made of tensors of integers and of operators with stated arithmetic ([`ops`]).
//! Convolutions, linear layers, additions and averages are exact sums, as wide as they need to be;
//! [`Requantize`](ops::Requantize) is the only place where numbers are rounded or saturate. Every node
//! is checked and every sum bounded when it is added, so that nothing overflows in a graph that could
//! be built.
//!
//! | module | holds |
//! |---|---|
//! | [`numbers`] | which integers a tensor holds, and what they stand for: times a power of two, or with a scale and a zero point |
//! | [`tensor`] | a tensor's shape, numbers, and what has been proven of them |
//! | [`ops`] | the operators, one a file |
//! | [`graph`] | tensors and the nodes that make them from each other |
//! | [`interpret`](mod@interpret) | the reference: every operator by its definition |
//! | [`engine`] | the same bits, fast |
//! | [`proof`] | how wide each sum is, with a witness; where `f32` has the same bits |
//! | [`target`] | the arithmetic of other runtimes and chips, as graphs |
//! | [`tie_free`](mod@tie_free) | networks in which every rounding to the nearest is the same |
//! | [`json`] | files |
//! | [`parameters`] | integers and fraction lengths as text, and as safetensors |
//! | [`source`] | the same bits as source code: a Rust crate without the standard library, a file of C |
//! | [`conformance`] | packs that say whether another program has the same bits |
//! | [`onnx`] | files for other runtimes, with a certificate |
//!
//! A layer of four bits, from the weights to the proof:
//!
//! ```
//! use lowbit_int::ops::{Linear, Requantize, Weights};
//! use lowbit_int::proof::{Exactness, Proof};
//! use lowbit_int::{Graph, Numbers, Rounding, interpret};
//!
//! let mut graph = Graph::new();
//! // Integers 0 to 15, in sixteenths.
//! let x = graph.input("x", &[3], Numbers::power_of_two(4, false, -4)?)?;
//! let weights = Weights {
//!     shape: vec![2, 3],
//!     numbers: Numbers::power_of_two(4, true, -3)?,
//!     values: vec![1, -2, 3, 7, 0, -8],
//! };
//! let linear = Linear { weights, bias: Some(vec![4, -5]) };
//! // Sums in units of 2^-7; a shift by 3 brings them to 2^-4.
//! let sums = graph.push("linear", linear, &[x])?;
//! let output = Numbers::power_of_two(4, true, -4)?;
//! let requantize = Requantize::by_shift(3, Rounding::HalfEven, output);
//! let y = graph.push("requantize", requantize, &[sums])?;
//! graph.output(y)?;
//!
//! // 1*5 - 2*6 + 3*7 + 4 = 18, 18/8 = 2.25; 7*5 - 8*7 - 5 = -26, -26/8 = -3.25.
//! assert_eq!(interpret(&graph, &[&[5, 6, 7]])?, [[2, -3]]);
//!
//! // From -8*15 - 5 to 7*15 - 5: eight bits are enough.
//! let proof = Proof::of(&graph);
//! let interval = proof.nodes()[0].interval;
//! assert_eq!((interval.least, interval.greatest, proof.nodes()[0].bits), (-125, 100, 8));
//! assert_eq!(proof.exactness(), Exactness::Proven);
//!
//! let again = Graph::from_json(&graph.to_json())?;
//! assert_eq!(again, graph);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod conformance;
pub mod engine;
mod error;
pub mod graph;
pub mod interpret;
pub mod json;
pub mod numbers;
pub mod onnx;
pub mod ops;
pub mod parameters;
pub mod proof;
pub mod source;
pub mod target;
pub mod tensor;
pub mod tie_free;

pub use engine::Engine;
pub use error::GraphError;
pub use graph::{Graph, Node, TensorId};
pub use interpret::{Trace, interpret, trace};
pub use numbers::Numbers;
pub use ops::{Operator, Rounding};
pub use proof::Proof;
pub use target::{Target, for_target};
pub use tensor::{Interval, Residue, Tensor};
pub use tie_free::{TieFree, tie_free};
