/* Each number requantized; `pixels` of them have one channel's constants. */
static void map_$x_$r_$y(uint32_t count, uint32_t pixels, const requantization_$r *then, const $X *x,
                         $Y *y)
{
    uint32_t i;
    for (i = 0; i < count; i++) {
        y[i] = ($Y)requantize_$r(then, ($R)x[i], i / pixels);
    }
}
