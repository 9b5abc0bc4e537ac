/// Numbers that say a place in a table.
trait Index: Integer {
    fn index(self) -> usize;
}

impl Index for i32 {
    fn index(self) -> usize {
        self as usize
    }
}

impl Index for i64 {
    fn index(self) -> usize {
        self as usize
    }
}
