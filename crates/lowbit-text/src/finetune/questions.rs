//! Where the answers to questions begin and end.

use std::ops::Range;

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use burn::train::TrainOutput;
use lowbit::ops::cross_entropy;
use lowbit::quantizers::{UNTRAINED_STEP, set_rounding};
use lowbit::train::{Task, checkpoint::Sums};

use super::sums::{TEST_BATCH, add, counted, right};
use super::{FineTune, Taught};
use crate::models::{EncoderInput, QuestionAnswering};
use crate::squad::{Squad, Window, WindowSettings, windows};
use crate::{Error, Tokenizer};

/// What padding scores: so little that its share is 0.
const NEVER: f32 = -1e9;

/// Windows of questions and their contexts, each with the tokens at which its answer begins and ends, as
/// `run_qa.py` of `transformers` has them: the first answer of a question, and the first token, `[CLS]`, in windows
/// that lack a part of it. Questions whose answer is not where the file says are left out. The loss is the mean of the cross-entropies of both ends.
#[derive(Debug, Clone)]
pub struct Spans<'a> {
    train: Vec<Labelled>,
    test: Vec<Labelled>,
    taught: Option<Taught<'a, QuestionAnswering>>,
    device: &'a Device,
}

/// A window and its answer's first and last token.
#[derive(Debug, Clone)]
struct Labelled {
    window: Window,
    ends: [usize; 2],
}

/// The windows of some of a file's questions.
fn labelled(
    tokenizer: &Tokenizer,
    squad: &Squad,
    asked: Range<usize>,
    settings: WindowSettings,
) -> Result<Vec<Labelled>, Error> {
    let mut all = Vec::new();
    for (paragraph, question) in squad.questions().skip(asked.start).take(asked.len()) {
        let context = &paragraph.context;
        let answer = question.answers.first();
        let span = answer.and_then(|answer| answer.span(context));
        if answer.is_some() && span.is_none() {
            continue;
        }
        let made = windows(tokenizer, &question.text, context, settings)
            .map_err(|error| Error::field(format!("question {}", question.id), error))?;
        all.extend(made.into_iter().map(|window| {
            let ends = span.as_ref().map_or([0; 2], |span| ends(&window, span));
            Labelled { window, ends }
        }));
    }
    Ok(all)
}

/// Windows of the same length.
struct Batch {
    input: EncoderInput,
    ends: [Tensor<1, Int>; 2],
}

impl<'a> Spans<'a> {
    /// Windows of the files that the options name.
    ///
    /// # Errors
    /// If a file holds no questions, or windows have no room for them.
    pub(super) fn read(
        tokenizer: &Tokenizer,
        options: &FineTune,
        taught: Option<Taught<'a, QuestionAnswering>>,
        device: &'a Device,
    ) -> Result<Self, Error> {
        let settings = WindowSettings {
            max_length: options.length,
            stride: options.stride,
        };
        let of = |squad: &Squad, asked| labelled(tokenizer, squad, asked, settings);
        let squad = Squad::open(&options.data)?;
        let count = squad.questions().count();
        let (train, test) = match &options.test {
            Some(test) => {
                let test = Squad::open(test)?;
                let count_of_test = test.questions().count();
                (of(&squad, 0..count)?, of(&test, 0..count_of_test)?)
            }
            None => {
                let first = count - count / 10;
                if first == count {
                    let message = format!(
                        "has {count} questions, whose last tenth is none; expected more, or --test"
                    );
                    return Err(Error::file(&options.data, message));
                }
                (of(&squad, 0..first)?, of(&squad, first..count)?)
            }
        };
        for (name, windows) in [("data", &train), ("test", &test)] {
            if windows.is_empty() {
                let message =
                    "has no question whose answer is where it says, expected at least one";
                return Err(Error::field(name, message));
            }
        }
        Ok(Self {
            train,
            test,
            taught,
            device,
        })
    }

    /// Windows, those that are shorter than the longest padded.
    fn batch<'w>(
        &self,
        windows: impl Iterator<Item = &'w Labelled> + Clone,
        device: &Device,
    ) -> Batch {
        let longest = windows.clone().map(|w| w.window.len()).max().unwrap_or(0);
        let count = windows.clone().count();
        let shape = [count, longest];
        let rows = |ids: fn(&Window) -> &Vec<u32>| {
            let padded = windows.clone().flat_map(|labelled| {
                let ids = ids(&labelled.window);
                let ids = ids.iter().map(|&id| id as i32);
                ids.chain(std::iter::repeat(0)).take(longest)
            });
            let data = TensorData::new(padded.collect::<Vec<i32>>(), shape);
            Tensor::<2, Int>::from_data(data, device)
        };
        let (tokens, types) = (rows(|w| &w.ids), rows(|w| &w.type_ids));
        let is_padding = windows
            .clone()
            .flat_map(|labelled| (0..longest).map(|at| at >= labelled.window.len()));
        let is_padding: Vec<bool> = is_padding.collect();
        let padding = is_padding
            .contains(&true)
            .then(|| Tensor::<2, Bool>::from_data(TensorData::new(is_padding, shape), device));
        let end = |which: usize| {
            let ends = windows.clone().map(|labelled| labelled.ends[which] as i32);
            let data = TensorData::new(ends.collect::<Vec<i32>>(), [count]);
            Tensor::<1, Int>::from_data(data, device)
        };
        Batch {
            input: EncoderInput {
                tokens,
                types,
                padding,
            },
            ends: [end(0), end(1)],
        }
    }

    fn training<'w>(&'w self, indices: &'w [u32]) -> impl Iterator<Item = &'w Labelled> + Clone {
        indices.iter().map(|&index| &self.train[index as usize])
    }
}

/// Scores of both ends, those of padding so low that they have no share.
fn scores(model: &QuestionAnswering, input: EncoderInput) -> [Tensor<2>; 2] {
    let padding = input.padding.clone();
    model.forward(input).map(|scores| match &padding {
        None => scores,
        Some(padding) => scores.mask_fill(padding.clone(), NEVER),
    })
}

/// The same for a network without a way back.
fn inner(input: EncoderInput) -> EncoderInput {
    EncoderInput {
        tokens: input.tokens.inner(),
        types: input.types.inner(),
        padding: input.padding.map(Tensor::inner),
    }
}

/// The mean loss of both ends, and for each window whether both are right.
fn judged(found: &[Tensor<2>; 2], ends: [Tensor<1, Int>; 2]) -> (Tensor<1>, Tensor<1, Int>) {
    let [first, last] = found.clone();
    let [start, end] = ends;
    let loss =
        cross_entropy(first.clone(), start.clone()) + cross_entropy(last.clone(), end.clone());
    (loss / 2.0, right(first, start) * right(last, end))
}

/// The tokens at which a span of the context begins and ends, if the window has all of it; the first token twice
/// otherwise.
fn ends(window: &Window, span: &Range<usize>) -> [usize; 2] {
    let part = || {
        let tokens = window.context.iter().enumerate();
        tokens.filter_map(|(at, token)| Some((at, token.as_ref()?)))
    };
    let begins = part()
        .next()
        .is_some_and(|(_, first)| first.start <= span.start);
    let reaches = part()
        .next_back()
        .is_some_and(|(_, last)| last.end >= span.end);
    if !(begins && reaches) {
        return [0; 2];
    }
    let start = part().rfind(|(_, token)| token.start <= span.start);
    let end = part().find(|(_, token)| token.end >= span.end);
    [start, end].map(|found| found.map_or(0, |(at, _)| at))
}

impl Task<QuestionAnswering> for Spans<'_> {
    type Output = Sums;

    fn examples(&self) -> usize {
        self.train.len()
    }

    fn step(
        &self,
        model: &QuestionAnswering,
        indices: &[u32],
        _epoch: u32,
        loss_scale: f32,
    ) -> TrainOutput<Sums> {
        let device = self.device.clone().autodiff();
        let batch = self.batch(self.training(indices), &device);
        let found = scores(model, batch.input.clone());
        let (mut loss, right) = judged(&found, batch.ends);
        if let Some(taught) = &self.taught {
            let theirs = scores(taught.teacher, inner(batch.input));
            let both = found.into_iter().zip(theirs.map(Tensor::from_inner));
            let losses = both.map(|(ours, theirs)| taught.loss(loss.clone(), ours, theirs));
            let sum = losses.reduce(|a, b| a + b);
            loss = sum.expect("there are two ends") / 2.0;
        }
        let sums = counted(loss.clone(), right, indices.len());
        TrainOutput::new(model, (loss * loss_scale).backward(), sums)
    }

    fn count(&self, output: &Sums, sums: &mut Sums) {
        add(sums, output);
    }

    fn test(&self, model: &QuestionAnswering) -> Sums {
        set_rounding(0, UNTRAINED_STEP);
        let mut sums = Sums::default();
        for windows in self.test.chunks(TEST_BATCH) {
            let batch = self.batch(windows.iter(), self.device);
            let (loss, right) = judged(&scores(model, batch.input), batch.ends);
            add(&mut sums, &counted(loss, right, windows.len()));
        }
        sums
    }

    fn forward(&self, model: &QuestionAnswering, indices: &[u32]) {
        for indices in indices.chunks(TEST_BATCH) {
            scores(model, self.batch(self.training(indices), self.device).input);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[CLS] Who ? [SEP] Ann met Bob [SEP]`, and the same without its last word.
    #[test]
    fn ends_are_tokens_of_the_context() {
        let context = |spans: &[Range<usize>]| Window {
            ids: vec![0; 5 + spans.len()],
            type_ids: vec![0; 5 + spans.len()],
            context: [None, None, None, None]
                .into_iter()
                .chain(spans.iter().cloned().map(Some))
                .chain([None])
                .collect(),
        };
        let whole = context(&[0..3, 4..7, 8..11]);
        assert_eq!(ends(&whole, &(4..11)), [5, 6]);
        assert_eq!(ends(&whole, &(0..3)), [4, 4]);
        // A part of a token is that token.
        assert_eq!(ends(&whole, &(5..6)), [5, 5]);
        let cut = context(&[0..3, 4..7]);
        assert_eq!(ends(&cut, &(4..11)), [0, 0]);
        let later = context(&[4..7, 8..11]);
        assert_eq!(ends(&later, &(0..3)), [0, 0]);
    }
}
