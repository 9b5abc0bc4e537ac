/* y[t] = table[x[t] - least], rows of `features` numbers, requantized. */
static void embedding_$x_$w_$s_$r_$y(const $W *table, $S least, uint32_t count, uint32_t features,
                                     const requantization_$r *then, const $X *x, $Y *y)
{
    uint32_t t, i;
    for (t = 0; t < count; t++) {
        const $W *row = table + ($S)(($S)x[t] - least) * ($S)features;
        for (i = 0; i < features; i++) {
            *y++ = ($Y)requantize_$r(then, ($R)row[i], t);
        }
    }
}
