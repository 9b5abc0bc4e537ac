//! What follows each token of a text.

use burn::tensor::{Device, Int, Tensor, TensorData};
use burn::train::TrainOutput;
use lowbit::ops::cross_entropy;
use lowbit::quantizers::{UNTRAINED_STEP, set_rounding};
use lowbit::train::{Task, checkpoint::Sums};

use super::sums::{TEST_BATCH, add, counted, right};
use super::{FineTune, Taught};
use crate::models::{Cache, LanguageModel};
use crate::{Error, Tokenizer};

/// Windows of a text, one after the other, each of whose tokens is to be followed by the next.
#[derive(Debug, Clone)]
pub struct NextToken<'a> {
    train: Vec<u32>,
    test: Vec<u32>,
    length: usize,
    taught: Option<Taught<'a, LanguageModel>>,
    device: &'a Device,
}

/// The tokens to train on and those to test with.
pub(super) fn split(tokenizer: &Tokenizer, options: &FineTune) -> Result<[Vec<u32>; 2], Error> {
    let tokens = |path: &std::path::Path| {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let encoded = tokenizer.encode(&text);
        let encoded = encoded.map_err(|error| Error::file(path, error))?;
        Ok::<_, Error>(encoded.ids)
    };
    let mut train = tokens(&options.data)?;
    let test = match &options.test {
        Some(test) => tokens(test)?,
        None => {
            let (all, tenth) = (train.len(), train.len() / 10);
            if tenth <= options.length {
                let length = options.length;
                let message = format!(
                    "has {all} tokens, whose last tenth is no window of {length} and what follows it; \
                     expected more, or --test"
                );
                return Err(Error::file(&options.data, message));
            }
            train.split_off(all - tenth)
        }
    };
    Ok([train, test])
}

impl<'a> NextToken<'a> {
    /// Windows of `length` tokens of both texts; those at the ends that are shorter are left out.
    ///
    /// # Errors
    /// If a text has no window and a token after it.
    pub fn new(
        train: Vec<u32>,
        test: Vec<u32>,
        length: usize,
        taught: Option<Taught<'a, LanguageModel>>,
        device: &'a Device,
    ) -> Result<Self, Error> {
        for (name, tokens) in [("data", &train), ("test", &test)] {
            let count = tokens.len();
            if count <= length {
                let message = format!(
                    "text of {count} tokens, a window of {length} and what follows it has more"
                );
                return Err(Error::field(name, message));
            }
        }
        Ok(Self {
            train,
            test,
            length,
            taught,
            device,
        })
    }

    fn windows(&self, tokens: &[u32]) -> usize {
        (tokens.len() - 1) / self.length
    }

    /// Windows as rows, and what follows each of their tokens.
    fn batch(
        &self,
        tokens: &[u32],
        indices: &[u32],
        device: &Device,
    ) -> (Tensor<2, Int>, Tensor<1, Int>) {
        let shifted = |shift: usize| {
            let windows = indices.iter().flat_map(move |&index| {
                let start = index as usize * self.length + shift;
                &tokens[start..start + self.length]
            });
            let ids: Vec<i32> = windows.map(|&id| id as i32).collect();
            let count = ids.len();
            Tensor::<1, Int>::from_data(TensorData::new(ids, [count]), device)
        };
        let rows = shifted(0).reshape([indices.len(), self.length]);
        (rows, shifted(1))
    }
}

/// What follows each token, `[batch * length, vocabulary]`.
fn scores(model: &LanguageModel, rows: Tensor<2, Int>) -> Tensor<2> {
    model
        .forward(rows, None, &mut Cache::default())
        .flatten(0, 1)
}

impl Task<LanguageModel> for NextToken<'_> {
    type Output = Sums;

    fn examples(&self) -> usize {
        self.windows(&self.train)
    }

    fn step(
        &self,
        model: &LanguageModel,
        indices: &[u32],
        _epoch: u32,
        loss_scale: f32,
    ) -> TrainOutput<Sums> {
        let device = self.device.clone().autodiff();
        let (rows, targets) = self.batch(&self.train, indices, &device);
        let found = scores(model, rows.clone());
        let mut loss = cross_entropy(found.clone(), targets.clone());
        if let Some(taught) = &self.taught {
            let theirs = scores(taught.teacher, rows.inner());
            loss = taught.loss(loss, found.clone(), Tensor::from_inner(theirs));
        }
        let count = indices.len() * self.length;
        let sums = counted(loss.clone(), right(found, targets), count);
        TrainOutput::new(model, (loss * loss_scale).backward(), sums)
    }

    fn count(&self, output: &Sums, sums: &mut Sums) {
        add(sums, output);
    }

    fn test(&self, model: &LanguageModel) -> Sums {
        set_rounding(0, UNTRAINED_STEP);
        let mut sums = Sums::default();
        let windows: Vec<u32> = (0..self.windows(&self.test) as u32).collect();
        for indices in windows.chunks(TEST_BATCH) {
            let (rows, targets) = self.batch(&self.test, indices, self.device);
            let found = scores(model, rows);
            let loss = cross_entropy(found.clone(), targets.clone());
            let count = indices.len() * self.length;
            add(&mut sums, &counted(loss, right(found, targets), count));
        }
        sums
    }

    fn forward(&self, model: &LanguageModel, indices: &[u32]) {
        for indices in indices.chunks(TEST_BATCH) {
            let (rows, _) = self.batch(&self.train, indices, self.device);
            scores(model, rows);
        }
    }
}
