static void convolve_$x_$w_$s_$r_$y(const convolution *c, const $W *weights, const $S *bias,
                                    uint32_t bias_step, $S zero, const requantization_$r *then,
                                    const $X *x, $Y *y)
{
    uint32_t channel, row, column, i, k, l;
    for (channel = 0; channel < c->groups * c->outputs; channel++) {
        const uint32_t plane = channel / c->outputs * c->inputs;
        for (row = 0; row < c->rows.output; row++) {
            const window rows = window_of(&c->rows, row);
            for (column = 0; column < c->columns.output; column++) {
                const window columns = window_of(&c->columns, column);
                $S sum = bias[channel * bias_step];
                for (i = 0; i < c->inputs; i++) {
                    for (k = 0; k < rows.count; k++) {
                        const uint32_t from = rows.at + k * c->rows.dilation;
                        const uint32_t at =
                            ((plane + i) * c->rows.input + from) * c->columns.input + columns.at;
                        const uint32_t kernel =
                            (channel * c->inputs + i) * c->rows.kernel + rows.first + k;
                        const uint32_t weight = kernel * c->columns.kernel + columns.first;
                        for (l = 0; l < columns.count; l++) {
                            sum += ($S)weight_$w(weights, weight + l) *
                                   (($S)x[at + l * c->columns.dilation] - zero);
                        }
                    }
                }
                *y++ = ($Y)requantize_$r(then, ($R)sum, channel);
            }
        }
    }
}
