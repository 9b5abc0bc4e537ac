/* y = (a - zero_a) (b - zero_b), requantized. `shape` has the dimensions of a and of b, which is
   repeated where its shape has a 1; `pixels` elements have one channel's constants. */
static void mul_$a_$b_$s_$r_$y($S zero_a, $S zero_b, const uint32_t *shape, uint32_t dimensions,
                               uint32_t count, uint32_t pixels, const requantization_$r *then,
                               const $A *a, const $B *b, $Y *y)
{
    uint32_t i, d;
    for (i = 0; i < count; i++) {
        uint32_t rest = i, at = 0, step = 1;
        for (d = dimensions; d > 0; d--) {
            const uint32_t size = shape[2 * d - 2], other = shape[2 * d - 1];
            at += other > 1 ? rest % size * step : 0;
            rest /= size;
            step *= other;
        }
        y[i] = ($Y)requantize_$r(then, ($R)((($S)a[i] - zero_a) * (($S)b[at] - zero_b)), i / pixels);
    }
}
