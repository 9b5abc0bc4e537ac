//! Numbers in memory that Python owns: the one place that touches it.
//!
//! A [`View`] is made of what an array library says of an array (address, shape, strides, type), and lives
//! no longer than the call to which the array was handed. As with numpy itself, a program whose threads
//! write an array while another rounds it gets some of either numbers.

#![allow(unsafe_code)]

use half::{bf16, f16};
use lowbit_formats::{FormatError, Layout};

/// The types of numbers that arrays may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    F16,
    Bf16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
}

impl Kind {
    /// Bytes of a number.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }

    /// The name that numpy and PyTorch give it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::I8 => "int8",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::U8 => "uint8",
            Self::U16 => "uint16",
            Self::U32 => "uint32",
            Self::U64 => "uint64",
        }
    }

    /// The type of what comes of rounding numbers of this one: that type, and of integers float32, which
    /// has all values of all formats.
    pub(crate) fn of_result(self) -> Self {
        match self {
            Self::F16 | Self::Bf16 | Self::F32 | Self::F64 => self,
            _ => Self::F32,
        }
    }
}

/// A type of numbers, any of whose bits are a number.
pub(crate) trait Plain: Copy {
    /// Which it is.
    const KIND: Kind;
}

macro_rules! plain {
    ($($number:ty => $kind:ident,)*) => {
        $(impl Plain for $number {
            const KIND: Kind = Kind::$kind;
        })*
    };
}

plain! {
    f16 => F16,
    bf16 => Bf16,
    f32 => F32,
    f64 => F64,
    i8 => I8,
    i16 => I16,
    i32 => I32,
    i64 => I64,
    u8 => U8,
    u16 => U16,
    u32 => U32,
    u64 => U64,
}

/// Where an array's numbers are.
#[derive(Debug)]
pub(crate) struct View {
    kind: Kind,
    shape: Vec<usize>,
    /// In numbers, not bytes.
    strides: Vec<isize>,
    /// Of the element `(0, 0, ..)`.
    address: usize,
    writable: bool,
}

/// The slices of an input and an output.
pub(crate) enum Pair<'a, T> {
    /// They are one.
    InPlace(&'a mut [T]),
    /// They share nothing.
    Apart(&'a [T], &'a mut [T]),
}

impl View {
    /// An array of a type, at an address, with strides in numbers; `None` if numbers of the type cannot lie
    /// there.
    ///
    /// # Safety
    ///
    /// As long as the view is used, the places that shape and strides name are memory that may be read,
    /// and written if `writable`, and hold numbers of this type.
    pub(crate) unsafe fn new(
        kind: Kind,
        address: usize,
        shape: Vec<usize>,
        strides: Vec<isize>,
        writable: bool,
    ) -> Option<Self> {
        let aligned = address.is_multiple_of(kind.size()) || shape.contains(&0);
        (aligned && shape.len() == strides.len()).then_some(Self {
            kind,
            shape,
            strides,
            address,
            writable,
        })
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.writable
    }

    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the last dimension is the innermost, without gaps.
    pub(crate) fn is_row_major(&self) -> bool {
        let mut expected = 1;
        let dimensions = self.shape.iter().zip(&self.strides).rev();
        self.elements() == 0
            || dimensions.into_iter().all(|(&extent, &stride)| {
                let fits = extent == 1 || stride == expected;
                expected *= extent as isize;
                fits
            })
    }

    /// Whether the first dimension is the innermost, without gaps, and that is no row-major order.
    pub(crate) fn is_column_major(&self) -> bool {
        let mut expected = 1;
        let dimensions = self.shape.iter().zip(&self.strides);
        !self.is_row_major()
            && dimensions.into_iter().all(|(&extent, &stride)| {
                let fits = extent == 1 || stride == expected;
                expected *= extent as isize;
                fits
            })
    }

    /// Whether both fill their memory in one order, so that numbers that do not depend on their index can be
    /// gone through as they lie.
    pub(crate) fn lies_as(&self, other: &Self) -> bool {
        let dense = |view: &Self| view.places().1 == view.elements();
        self.shape == other.shape && self.strides == other.strides && dense(self) && dense(other)
    }

    /// Where the elements lie in the slice that [`pair`](Self::pair) gives.
    pub(crate) fn layout(&self) -> Result<Layout, FormatError> {
        let offset = (self.address - self.places().0) / self.kind.size();
        Layout::new(&self.shape, &self.strides, offset)
    }

    /// The lowest address, and how many numbers there are from there to the highest one.
    fn places(&self) -> (usize, usize) {
        if self.elements() == 0 {
            return (self.address, 0);
        }
        let reach = |&(&extent, &stride): &(&usize, &isize)| (extent as isize - 1) * stride;
        let reaches = self.shape.iter().zip(&self.strides);
        let (mut low, mut high) = (0, 0);
        for reach in reaches.map(|dimension| reach(&dimension)) {
            low += reach.min(0);
            high += reach.max(0);
        }
        let lowest = self.address as isize + low * self.kind.size() as isize;
        (lowest as usize, (high - low) as usize + 1)
    }

    /// Hands both arrays' numbers to `work`. If they share memory in another way than element by element,
    /// the input's are copied first.
    ///
    /// # Panics
    ///
    /// If the types differ, or the output may not be written.
    pub(crate) fn pair<T: Plain, R>(
        input: &Self,
        output: &Self,
        work: impl FnOnce(Pair<'_, T>) -> R,
    ) -> R {
        assert!(output.writable && output.kind == T::KIND);
        let (from, count) = input.places();
        let (to, room) = output.places();
        let shared = from < to + room * size_of::<T>() && to < from + count * size_of::<T>();
        // SAFETY: the memory may be written, as `new` was promised, and no other reference to it exists
        // in this function but the input's, which is not made if they share memory.
        let target = || unsafe { slice_mut::<T>(to, room) };
        if !shared {
            return work(Pair::Apart(input.slice(), target()));
        }
        if input.address == output.address && input.strides == output.strides {
            return work(Pair::InPlace(target()));
        }
        let copy = input.slice::<T>().to_vec();
        work(Pair::Apart(&copy, target()))
    }

    /// The numbers in row-major order.
    ///
    /// # Panics
    ///
    /// If they are of another type.
    pub(crate) fn gather<T: Plain>(&self) -> Vec<T> {
        let numbers = self.slice::<T>();
        if self.is_row_major() {
            return numbers.to_vec();
        }
        let mut gathered = Vec::with_capacity(self.elements());
        self.each_place(|place| gathered.push(numbers[place]));
        gathered
    }

    /// Writes numbers in row-major order.
    ///
    /// # Panics
    ///
    /// If they are of another type, too few, or may not be written.
    pub(crate) fn scatter<T: Plain>(&self, numbers: impl Iterator<Item = T>) {
        assert!(self.writable && self.kind == T::KIND);
        let (low, count) = self.places();
        // SAFETY: the memory may be written, as `new` was promised, and this is the only reference to it.
        let target = unsafe { slice_mut::<T>(low, count) };
        let mut numbers = numbers;
        self.each_place(|place| {
            if let Some(number) = numbers.next() {
                target[place] = number;
            }
        });
    }

    /// Calls `visit` with the place of every element, in row-major order.
    fn each_place(&self, mut visit: impl FnMut(usize)) {
        let first = ((self.address - self.places().0) / self.kind.size()) as isize;
        let mut index = vec![0; self.shape.len()];
        let mut place = first;
        for _ in 0..self.elements() {
            visit(place as usize);
            for dimension in (0..index.len()).rev() {
                index[dimension] += 1;
                place += self.strides[dimension];
                if index[dimension] < self.shape[dimension] {
                    break;
                }
                place -= self.strides[dimension] * index[dimension] as isize;
                index[dimension] = 0;
            }
        }
    }

    fn slice<T: Plain>(&self) -> &[T] {
        assert!(self.kind == T::KIND);
        let (low, count) = self.places();
        if count == 0 {
            return &[];
        }
        // SAFETY: the memory may be read, as `new` was promised; it is aligned, and any bits are a number.
        unsafe { std::slice::from_raw_parts(low as *const T, count) }
    }
}

/// # Safety
///
/// The memory may be written, and no other reference to it is used meanwhile.
unsafe fn slice_mut<'a, T: Plain>(low: usize, count: usize) -> &'a mut [T] {
    if count == 0 {
        return &mut [];
    }
    // SAFETY: as the caller promises; memory that Python hands out has some bits, which are a number.
    unsafe { std::slice::from_raw_parts_mut(low as *mut T, count) }
}
