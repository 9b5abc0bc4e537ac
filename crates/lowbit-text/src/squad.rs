//! Questions about a text, answered by a span of it: the files, windows, answers and scores of the Stanford Question
//! Answering Dataset.
//!
//! [`Squad`] reads questions with their contexts, [`windows`] makes token sequences of both that fit a model, the
//! model gives each token's logits of being the answer's first and last, [`answers`] makes an answer of those, and
//! [`score_v1`] or [`score_v2`] compares the answers with the file's.
//!
//! ```
//! use std::collections::HashMap;
//!
//! use lowbit_text::Tokenizer;
//! use lowbit_text::squad::{AnswerSettings, Squad, WindowSettings, answers, score_v1, windows};
//!
//! # fn logits(ids: &[u32]) -> (Vec<f32>, Vec<f32>) { (vec![0.0; ids.len()], vec![0.0; ids.len()]) }
//! # fn main() -> Result<(), lowbit_text::Error> {
//! let tokenizer = Tokenizer::open("tests/fixtures/squad/wordpiece")?;
//! let squad = Squad::open("tests/fixtures/squad/v1.json")?;
//! let mut predictions = HashMap::new();
//! for (paragraph, question) in squad.questions().take(3) {
//!     let context = &paragraph.context;
//!     let windows = windows(&tokenizer, &question.text, context, WindowSettings::default())?;
//!     // A model's logits for each window's ids.
//!     let (starts, ends): (Vec<_>, Vec<_>) = windows.iter().map(|window| logits(&window.ids)).unzip();
//!     let answer = answers(context, &windows, &starts, &ends, &AnswerSettings::default())?;
//!     predictions.insert(question.id.clone(), answer.text);
//! }
//! let score = score_v1(&squad, &predictions)?;
//! println!("exact match {:.1}, F1 {:.1} over {} questions", score.exact, score.f1, score.total);
//! # Ok(())
//! # }
//! ```
//!
//! Sources: SQuAD v1.1 (Rajpurkar et al. 2016, arXiv:1606.05250), v2.0 (Rajpurkar et al. 2018, arXiv:1806.03822),
//! their official scripts `evaluate-v1.1.py` and `evaluate-v2.0.py`, and the example `run_qa.py` of Hugging Face's
//! `transformers`.

mod answer;
mod file;
mod normalize;
mod score;
mod windows;

pub use answer::{AnswerSettings, Answers, Candidate, answers};
pub use file::{Answer, Article, Paragraph, Question, Squad};
pub use normalize::normalize;
pub use score::{
    BestThresholds, NoAnswer, Score, ScoreV2, exact_match, f1_v1, f1_v2, score_v1, score_v2,
};
pub use windows::{Window, WindowSettings, windows};
