//! Questions asked of a network.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::models::{EncoderInput, QuestionAnswering};
use crate::squad::{
    AnswerSettings, Answers, Score, Squad, Window, WindowSettings, answers, score_v1, score_v2,
    windows,
};
use crate::{Error, Tokenizer};

/// What answers questions: a network, its tokenizer, and how.
pub struct Answering<'a> {
    /// The network.
    pub network: &'a QuestionAnswering,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Positions that the network knows; no window is longer.
    pub positions: usize,
    /// How long windows are, and how far they overlap.
    pub windows: WindowSettings,
    /// Which answers are possible.
    pub answers: AnswerSettings,
    /// Where the network is.
    pub device: Device,
}

/// What a file of questions came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluated {
    /// Exact matches and F1, in percent.
    pub score: Score,
    /// The answer to each question, by its id.
    pub predictions: HashMap<String, String>,
    /// In the network and around it.
    pub time: Duration,
}

impl Answering<'_> {
    /// The answers to a question about a context, the best first.
    ///
    /// # Errors
    /// If the question leaves no room for the context in a window, windows are longer than the network
    /// knows positions, or its scores are no numbers.
    pub fn answer(&self, question: &str, context: &str) -> Result<Answers, Error> {
        let (longest, positions) = (self.windows.max_length, self.positions);
        if longest > positions {
            let message = format!("is {longest}, the network knows {positions} positions");
            return Err(Error::field("max_length", message));
        }
        let windows = windows(self.tokenizer, question, context, self.windows)?;
        let scores = windows.iter().map(|window| self.scores(window));
        let (starts, ends): (Vec<_>, Vec<_>) = scores.unzip();
        answers(context, &windows, &starts, &ends, &self.answers)
    }

    /// Scores of starts and ends. A window at a time: nothing is padded, and no answer depends on what is
    /// asked beside it.
    fn scores(&self, window: &Window) -> (Vec<f32>, Vec<f32>) {
        let row = |ids: &[u32]| {
            let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
            let length = ids.len();
            Tensor::<2, Int>::from_data(TensorData::new(ids, [1, length]), &self.device)
        };
        let [starts, ends] = self.network.forward(EncoderInput {
            tokens: row(&window.ids),
            types: row(&window.type_ids),
            padding: None,
        });
        let numbers = |scores: Tensor<2>| scores.into_data().iter::<f32>().collect();
        (numbers(starts), numbers(ends))
    }

    /// Answers all questions of a file, and scores the answers as the official script of its version does.
    /// `progress` hears how many of how many are answered.
    ///
    /// # Errors
    /// As [`answer`](Self::answer); the message names the question's id.
    pub fn evaluate(
        &self,
        squad: &Squad,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Evaluated, Error> {
        let started = Instant::now();
        let total = squad.questions().count();
        let mut predictions = HashMap::new();
        for (done, (paragraph, question)) in squad.questions().enumerate() {
            progress(done, total);
            let found = self
                .answer(&question.text, &paragraph.context)
                .map_err(|error| Error::field(format!("question {}", question.id), error))?;
            predictions.insert(question.id.clone(), found.text);
        }
        progress(total, total);
        let score = match squad.has_impossible() {
            false => score_v1(squad, &predictions)?,
            true => score_v2(squad, &predictions, None)?.all,
        };
        Ok(Evaluated {
            score,
            predictions,
            time: started.elapsed(),
        })
    }
}
