/* The sum of x - zero over each window, requantized. Where windows differ in size, each sum is
   multiplied with `common` divided by the elements of its window; else `common` is 0. */
static void average_pool_$x_$s_$r_$y(const axis *row_axis, const axis *column_axis,
                                     uint32_t channels, $S zero, uint32_t common,
                                     const requantization_$r *then, const $X *x, $Y *y)
{
    uint32_t channel, row, column, i, k;
    for (channel = 0; channel < channels; channel++) {
        for (row = 0; row < row_axis->output; row++) {
            const window rows = window_of(row_axis, row);
            for (column = 0; column < column_axis->output; column++) {
                const window columns = window_of(column_axis, column);
                $S sum = 0;
                for (i = 0; i < rows.count; i++) {
                    const uint32_t from = rows.at + i * row_axis->dilation;
                    for (k = 0; k < columns.count; k++) {
                        const uint32_t at = columns.at + k * column_axis->dilation;
                        sum += ($S)x[from * column_axis->input + at] - zero;
                    }
                }
                if (common > 0) {
                    sum *= ($S)(common / (rows.count * columns.count));
                }
                *y++ = ($Y)requantize_$r(then, ($R)sum, channel);
            }
        }
        x += row_axis->input * column_axis->input;
    }
}
