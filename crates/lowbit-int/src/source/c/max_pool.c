/* The greatest number of each window, requantized. */
static void max_pool_$x_$r_$y(const axis *row_axis, const axis *column_axis, uint32_t channels,
                              const requantization_$r *then, const $X *x, $Y *y)
{
    uint32_t channel, row, column, i, k;
    for (channel = 0; channel < channels; channel++) {
        for (row = 0; row < row_axis->output; row++) {
            const window rows = window_of(row_axis, row);
            for (column = 0; column < column_axis->output; column++) {
                const window columns = window_of(column_axis, column);
                $X greatest = x[rows.at * column_axis->input + columns.at];
                for (i = 0; i < rows.count; i++) {
                    const uint32_t from = rows.at + i * row_axis->dilation;
                    for (k = 0; k < columns.count; k++) {
                        const uint32_t at = columns.at + k * column_axis->dilation;
                        const $X value = x[from * column_axis->input + at];
                        greatest = value > greatest ? value : greatest;
                    }
                }
                *y++ = ($Y)requantize_$r(then, ($R)greatest, channel);
            }
        }
        x += row_axis->input * column_axis->input;
    }
}
