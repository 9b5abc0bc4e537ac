/* y = m (a - zero_a) + n (b - zero_b), requantized; `pixels` elements have one channel's constants. */
static void add_$a_$b_$s_$r_$y($S m, $S zero_a, $S n, $S zero_b, uint32_t count, uint32_t pixels,
                               const requantization_$r *then, const $A *a, const $B *b, $Y *y)
{
    uint32_t i;
    for (i = 0; i < count; i++) {
        const $S sum = m * (($S)a[i] - zero_a) + n * (($S)b[i] - zero_b);
        y[i] = ($Y)requantize_$r(then, ($R)sum, i / pixels);
    }
}
