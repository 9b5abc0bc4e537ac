/* y[..][o] = bias[o] + sum of weight[o][i] (x[..][i] - zero), requantized; `pixels` outputs have one
   channel's constants. */
static void linear_$x_$w_$s_$r_$y(const $W *weights, const $S *bias, uint32_t bias_step, $S zero,
                                  uint32_t rows, uint32_t inputs, uint32_t outputs, uint32_t pixels,
                                  const requantization_$r *then, const $X *x, $Y *y)
{
    uint32_t row, o, i;
    for (row = 0; row < rows; row++) {
        for (o = 0; o < outputs; o++) {
            $S sum = bias[o * bias_step];
            for (i = 0; i < inputs; i++) {
                sum += ($S)weight_$w(weights, o * inputs + i) * (($S)x[row * inputs + i] - zero);
            }
            *y++ = ($Y)requantize_$r(then, ($R)sum, (row * outputs + o) / pixels);
        }
    }
}
