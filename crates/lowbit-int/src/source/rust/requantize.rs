/// What becomes of the bits that a shift takes away.
#[allow(dead_code)]
#[derive(Clone, Copy)]
enum Rounding {
    /// To the nearest; half goes to the even integer.
    HalfEven,
    /// To the nearest; half goes away from zero.
    HalfAway,
    /// To the nearest; half goes up.
    HalfUp,
    /// Down.
    Floor,
}

/// Integers in which sums are made and rounded.
trait Integer:
    Copy + Ord + From<i32> + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self>
{
    /// `self / 2^bits`, rounded.
    fn shift(self, bits: u8, rounding: Rounding) -> Self;
}

/// What is stored of a sum that is proven to fit.
trait Narrow<R> {
    fn narrow(value: R) -> Self;
}

macro_rules! integers {
    ($($wide:ty)*) => {$(
        impl Integer for $wide {
            fn shift(self, bits: u8, rounding: Rounding) -> Self {
                if bits == 0 {
                    return self;
                }
                let (floor, half) = (self >> bits, 1 << (bits - 1));
                let rest = self - (floor << bits);
                let up = match rounding {
                    Rounding::HalfEven => rest > half || rest == half && floor & 1 == 1,
                    Rounding::HalfAway => rest > half || rest == half && self >= 0,
                    Rounding::HalfUp => rest >= half,
                    Rounding::Floor => false,
                };
                floor + Self::from(up)
            }
        }

        integers!($wide: i8 u8 i16 u16 i32 u32 i64);
    )*};
    ($wide:ty: $($stored:ty)*) => {$(
        impl Narrow<$wide> for $stored {
            fn narrow(value: $wide) -> Self {
                value as Self
            }
        }
    )*};
}

integers!(i32 i64);

/// The constant of a channel: one for all, or one for each.
fn of<T: Copy>(all: &[T], channel: usize) -> T {
    all[if all.len() == 1 { 0 } else { channel }]
}

/// `clamp(round((multiplier (clamp(value) - zero) + offset) / 2^shift) + to)`.
struct Requantize<R: 'static> {
    /// The least and the greatest value, proven or clamped.
    values: [R; 2],
    zero: R,
    multiplier: &'static [$M],
    offset: &'static [$M],
    shift: &'static [u8],
    rounding: Rounding,
    to: R,
    /// The least and the greatest output.
    limits: [R; 2],
}

impl<R: Integer> Requantize<R> {
    fn apply<Y: Narrow<R>>(&self, value: R, channel: usize) -> Y {
        let value = value.max(self.values[0]).min(self.values[1]) - self.zero;
        let (multiplier, offset) = (of(self.multiplier, channel), of(self.offset, channel));
        let scaled = R::from(multiplier) * value + R::from(offset);
        let rounded = scaled.shift(of(self.shift, channel), self.rounding) + self.to;
        Y::narrow(rounded.max(self.limits[0]).min(self.limits[1]))
    }
}
