//! The bits of a code, with its fields set apart.

use crate::format::Format;
use crate::scalar::fields::joined;
use crate::scalar::{CodeField, ScalarFormat, Visitor};

impl Format {
    /// A code in binary, the highest bit first, with spaces between its fields: sign, exponent and
    /// mantissa of a float, whole and fractional part of a fixed-point number (with a point), sign,
    /// regime, exponent and fraction of a posit, sign and magnitude of other signed numbers. Of a
    /// block format it is an element's code.
    ///
    /// ```
    /// let format: lowbit_formats::Format = "e4m3".parse()?;
    /// assert_eq!(format.code_text(0x7E), "0 1111 110");
    /// # Ok::<(), lowbit_formats::FormatError>(())
    /// ```
    pub fn code_text(&self, code: u32) -> String {
        joined(&self.code_fields(&self.digits(code)))
    }

    /// A code in binary, the highest bit first; bits above those of the format are ignored.
    pub fn digits(&self, code: u32) -> String {
        let bits = self.bits() as usize;
        format!("{code:032b}")[32 - bits..].into()
    }

    /// The fields of a code, whose [`digits`](Self::digits) are given: their names, and the digits of each.
    ///
    /// ```
    /// let format: lowbit_formats::Format = "posit(8,2)".parse()?;
    /// let fields = [("sign", "0"), ("regime", "10"), ("exponent", "00"), ("fraction", "000")];
    /// assert_eq!(format.code_fields("01000000"), fields);
    /// # Ok::<(), lowbit_formats::FormatError>(())
    /// ```
    pub fn code_fields<'a>(&self, digits: &'a str) -> Vec<CodeField<'a>> {
        struct Fields<'a>(&'a str);
        impl<'a> Visitor for Fields<'a> {
            type Output = Vec<CodeField<'a>>;
            fn visit<F: ScalarFormat>(self, format: &F) -> Vec<CodeField<'a>> {
                format.code_fields(self.0)
            }
        }
        self.visit(Fields(digits))
    }
}

#[cfg(test)]
mod tests {
    use crate::format::Format;

    fn text(format: &str, code: u32) -> String {
        format.parse::<Format>().unwrap().code_text(code)
    }

    #[test]
    fn fields_by_hand() {
        assert_eq!(text("e5m2", 0xFC), "1 11111 00");
        assert_eq!(text("fixed(8,6)", 0x60), "01.100000");
        assert_eq!(text("fixed(8,8)", 0x60), "01100000");
        assert_eq!(text("fixed(8,-3)", 0x60), "01100000");
        assert_eq!(text("int4", 0xF), "1111");
        assert_eq!(text("mxfp4", 0xF), "1 11 1");
        assert_eq!(text("mxint8", 0x40), "01.000000");
        assert_eq!(text("bf16", 0x3F80), "0 01111111 0000000");
        // IEEE P3109 binary8p4: one sign, four exponent and three trailing significand bits; without
        // a sign the exponent has one more.
        assert_eq!(text("p3109(8,4)", 0xFF), "1 1111 111");
        assert_eq!(text("p3109(8,4,unsigned)", 0xFF), "11111 111");
        assert_eq!(text("p3109(8,1)", 0x7F), "0 1111111");
        assert_eq!(text("qpytorch(5,2)", 0x7F), "0 11111 11");
        // Posit Standard 2022, section 3: 1 is 0 10 00 000, and the regime may fill the code.
        assert_eq!(text("posit(8,2)", 0x40), "0 10 00 000");
        assert_eq!(text("posit(8,2)", 0x7F), "0 1111111");
        assert_eq!(text("posit(8,2)", 0x02), "0 000001 0");
        assert_eq!(text("posit(2,0)", 0x1), "0 1");
        assert_eq!(text("pot(4)", 0xF), "1 111");
        assert_eq!(text("lns(4,3)", 0x7F), "0 1111 111");
        // Bits above those of the format do not count.
        assert_eq!(text("int4", 0x1F), "1111");
        assert_eq!(text("fp32", u32::MAX).len(), 34);
    }
}
