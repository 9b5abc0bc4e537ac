//! Tensors of one image as steps keep them.

use super::pixels;
use crate::graph::TensorId;
use crate::tensor::{Interval, Tensor};

/// The least numbers that a tensor fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The least integer of the tensor as 0.
    Bytes,
    /// Of 16 bits.
    Shorts,
    /// Of 32 bits.
    Words,
}

impl Form {
    /// By its width and what is proven of it. `None` beyond 32 bits.
    pub(crate) fn of(tensor: &Tensor) -> Option<Self> {
        let Interval { least, greatest } = tensor.interval();
        let ends = [least, greatest];
        if tensor.numbers.bits() <= 8 {
            Some(Self::Bytes)
        } else if ends.iter().all(|&end| i16::try_from(end).is_ok()) {
            Some(Self::Shorts)
        } else if ends.iter().all(|&end| i32::try_from(end).is_ok()) {
            Some(Self::Words)
        } else {
            None
        }
    }

    /// The integer of a tensor that is kept as 0.
    pub(crate) fn base(self, tensor: &Tensor) -> i64 {
        match self {
            Self::Bytes => tensor.numbers.least(),
            _ => 0,
        }
    }
}

/// How bytes of an image lie between the padding that the convolution reads which is all that reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Margins {
    /// Pixels of a row of the image, and of a row with its padding.
    pub(crate) columns: usize,
    pub(crate) width: usize,
    /// Rows above and columns to the left of it.
    pub(crate) before: [usize; 2],
    /// All bytes, and the byte of zero.
    pub(crate) bytes: usize,
    pub(crate) zero: u8,
}

impl Margins {
    /// The first pixel of a row of the image.
    pub(crate) fn start(&self, row: usize) -> usize {
        (row + self.before[0]) * self.width + self.before[1]
    }
}

/// What a step makes, and how it lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made {
    pub(crate) tensor: TensorId,
    pub(crate) margins: Option<Margins>,
}

/// A tensor of one image: channels last, but for the last two.
#[derive(Debug, Clone)]
pub(crate) enum Stored {
    Bytes(Vec<u8>),
    Shorts(Vec<i16>),
    Words(Vec<i32>),
    /// As the interpreter has it.
    Wide(Vec<i64>),
    /// Nobody reads it.
    Nowhere,
}

/// Does something with a tensor's numbers of at most 32 bits.
macro_rules! with_numbers {
    ($stored:expr, $numbers:ident => $does:expr) => {
        match $stored {
            $crate::engine::Stored::Bytes($numbers) => $does,
            $crate::engine::Stored::Shorts($numbers) => $does,
            $crate::engine::Stored::Words($numbers) => $does,
            _ => unreachable!("planned as numbers of at most 32 bits"),
        }
    };
}
pub(crate) use with_numbers;

impl Stored {
    /// Room for a tensor that a step makes.
    pub(crate) fn made(tensor: &Tensor, margins: Option<Margins>) -> Self {
        match margins {
            Some(margins) => Self::Bytes(vec![margins.zero; margins.bytes]),
            None => Self::of(tensor),
        }
    }

    /// Room for a tensor.
    pub(crate) fn of(tensor: &Tensor) -> Self {
        let count = tensor.elements();
        match Form::of(tensor) {
            Some(Form::Bytes) => Self::Bytes(vec![0; count]),
            Some(Form::Shorts) => Self::Shorts(vec![0; count]),
            Some(Form::Words) => Self::Words(vec![0; count]),
            None => Self::Wide(vec![0; count]),
        }
    }

    /// Takes integers in the interpreter's order.
    pub(crate) fn load(&mut self, tensor: &Tensor, values: &[i64]) {
        let least = tensor.numbers.least();
        match self {
            Self::Bytes(bytes) => load(tensor, values, bytes, |value| (value - least) as u8),
            Self::Shorts(shorts) => load(tensor, values, shorts, |value| value as i16),
            Self::Words(words) => load(tensor, values, words, |value| value as i32),
            Self::Wide(wide) => wide.copy_from_slice(values),
            Self::Nowhere => {}
        }
    }

    /// Hands out integers in the interpreter's order.
    pub(crate) fn save(&self, tensor: &Tensor, values: &mut [i64]) {
        let least = tensor.numbers.least();
        match self {
            Self::Bytes(bytes) => save(tensor, bytes, values, |byte| i64::from(byte) + least),
            Self::Shorts(shorts) => save(tensor, shorts, values, i64::from),
            Self::Words(words) => save(tensor, words, values, i64::from),
            Self::Wide(wide) => values.copy_from_slice(wide),
            Self::Nowhere => unreachable!("a tensor that is read is kept"),
        }
    }

    /// Takes some numbers of another tensor, which is kept in the same form.
    pub(crate) fn copy(&mut self, from: &Self, range: std::ops::Range<usize>) {
        match (self, from) {
            (Self::Bytes(to), Self::Bytes(from)) => copy(to, from, range),
            (Self::Shorts(to), Self::Shorts(from)) => copy(to, from, range),
            (Self::Words(to), Self::Words(from)) => copy(to, from, range),
            _ => unreachable!("planned in one form"),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            _ => unreachable!("planned as bytes"),
        }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            _ => unreachable!("planned as bytes"),
        }
    }

    /// The tensor, which is nowhere until it is put back.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Nowhere)
    }
}

fn copy<T: Copy>(to: &mut [T], from: &[T], range: std::ops::Range<usize>) {
    to[range.clone()].copy_from_slice(&from[range]);
}

/// Puts channels last.
fn load<T>(tensor: &Tensor, values: &[i64], numbers: &mut [T], of: impl Fn(i64) -> T) {
    let (channels, pixels) = pixels(tensor);
    for (channel, values) in values.chunks_exact(pixels).enumerate() {
        let numbers = numbers[channel..].iter_mut().step_by(channels);
        for (number, &value) in numbers.zip(values) {
            *number = of(value);
        }
    }
}

/// Puts channels first.
fn save<T: Copy>(tensor: &Tensor, numbers: &[T], values: &mut [i64], of: impl Fn(T) -> i64) {
    let (channels, pixels) = pixels(tensor);
    for (channel, values) in values.chunks_exact_mut(pixels).enumerate() {
        let numbers = numbers[channel..].iter().step_by(channels);
        for (value, &number) in values.iter_mut().zip(numbers) {
            *value = of(number);
        }
    }
}
