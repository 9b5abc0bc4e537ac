/* y = table[x - least], requantized; `pixels` elements have one channel's constants. */
static void look_up_$x_$w_$s_$r_$y(const $W *table, $S least, uint32_t count, uint32_t pixels,
                                   const requantization_$r *then, const $X *x, $Y *y)
{
    uint32_t i;
    for (i = 0; i < count; i++) {
        const $W value = table[($S)x[i] - least];
        y[i] = ($Y)requantize_$r(then, ($R)value, i / pixels);
    }
}
