/* Rows of `length` numbers put into rows of `step` numbers, from the number `at` on. */
static void place_$x_$r_$y(uint32_t rows, uint32_t length, uint32_t step, uint32_t at,
                           const requantization_$r *then, const $X *x, $Y *y)
{
    uint32_t row, i;
    for (row = 0; row < rows; row++) {
        for (i = 0; i < length; i++) {
            y[row * step + at + i] = ($Y)requantize_$r(then, ($R)x[row * length + i], 0);
        }
    }
}
