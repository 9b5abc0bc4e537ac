//! The element of a scaled format.

use std::fmt;

use crate::error::FormatError;
use crate::grammar::{Call, Reason};
use crate::scalar::codebook::Codebook;
use crate::scalar::float::Float;
use crate::scalar::{FormatText, ScalarFormat};

/// The most exponent bits of a float.
const MAX_EXPONENT: u8 = 7;

/// What the elements of a [`Scaled`](super::Scaled) format are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScaledElement {
    /// A float, which saturates.
    Float(Float),
    /// A table of a name; see [`Codebook::names`].
    Table(&'static str),
}

impl ScaledElement {
    /// A float.
    ///
    /// # Errors
    ///
    /// If it has as many exponent bits as f32, so that nothing need be scaled.
    pub fn float(float: Float) -> Result<Self, FormatError> {
        let float = float.overflowing();
        if float.exponent() > MAX_EXPONENT {
            let expected = format!("a float of at most {MAX_EXPONENT} exponent bits");
            return Err(FormatError::parameter("scaled", "element", float, expected));
        }
        Ok(Self::Float(float))
    }

    /// The table of a name.
    pub fn table(name: &str) -> Option<Self> {
        Codebook::names()
            .find(|known| *known == name)
            .map(Self::Table)
    }

    /// The largest magnitude of the values.
    pub fn max(&self) -> f32 {
        match self {
            Self::Float(float) => float.max_finite(),
            Self::Table(name) => {
                let table = table(name);
                table.max().max(-table.min())
            }
        }
    }

    /// Reads an element's text.
    pub(crate) fn parse(text: &str) -> Result<Self, Reason> {
        if let Some(element) = Self::table(text) {
            return Ok(element);
        }
        let call = Call::parse(text)?;
        if Float::has_name(call.name()) {
            return Ok(Self::float(Float::from_call(&call)?)?);
        }
        let tables: Vec<&str> = Codebook::names().collect();
        Err(Reason(format!(
            "`{text}` is no element of scaled, expected a float such as e4m3, or a table: {}",
            tables.join(", ")
        )))
    }
}

/// The table of a name that is known.
pub(crate) fn table(name: &str) -> &'static Codebook {
    Codebook::known(name).expect("a table of this name")
}

impl fmt::Display for ScaledElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float(float) => float.fmt(f),
            Self::Table(name) => f.write_str(name),
        }
    }
}
