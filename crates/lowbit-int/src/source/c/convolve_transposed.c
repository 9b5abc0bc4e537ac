/* A transposed convolution, with weights [in, out / groups, kernel..]. */
static void convolve_transposed_$x_$w_$s_$r_$y(const convolution *c, const $W *weights,
                                               const $S *bias, uint32_t bias_step, $S zero,
                                               const requantization_$r *then, const $X *x, $Y *y)
{
    uint32_t channel, row, column, i, k, l, from, at;
    for (channel = 0; channel < c->groups * c->outputs; channel++) {
        const uint32_t plane = channel / c->outputs * c->inputs;
        for (row = 0; row < c->rows.output; row++) {
            for (column = 0; column < c->columns.output; column++) {
                $S sum = bias[channel * bias_step];
                for (i = plane; i < plane + c->inputs; i++) {
                    for (k = 0; k < c->rows.kernel; k++) {
                        const uint32_t kernel =
                            (i * c->outputs + channel % c->outputs) * c->rows.kernel + k;
                        if (!meets(&c->rows, row, k, &from)) {
                            continue;
                        }
                        for (l = 0; l < c->columns.kernel; l++) {
                            if (meets(&c->columns, column, l, &at)) {
                                at += (i * c->rows.input + from) * c->columns.input;
                                sum += ($S)weight_$w(weights, kernel * c->columns.kernel + l) *
                                       (($S)x[at] - zero);
                            }
                        }
                    }
                }
                *y++ = ($Y)requantize_$r(then, ($R)sum, channel);
            }
        }
    }
}
