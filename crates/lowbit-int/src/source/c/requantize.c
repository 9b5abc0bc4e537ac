/* clamp(round((multiplier (clamp(value) - zero) + offset) / 2^shift) + to). Lists have one number for
   all channels, with a step of 0, or one for each, with a step of 1. */
typedef struct {
    $R least, greatest; /* of the values, proven or clamped */
    $R zero;
    const $M *multiplier;
    const $M *offset;
    const uint8_t *shift;
    uint8_t multiplier_step, offset_step, shift_step;
    uint8_t rounding;
    $R to;
    $R lowest, highest; /* of the outputs */
} requantization_$r;

static $R requantize_$r(const requantization_$r *q, $R value, uint32_t channel)
{
    const $R multiplier = q->multiplier[channel * q->multiplier_step];
    const $R offset = q->offset[channel * q->offset_step];
    const uint8_t shift = q->shift[channel * q->shift_step];
    value = value < q->least ? q->least : value;
    value = value > q->greatest ? q->greatest : value;
    value = multiplier * (value - q->zero) + offset;
    if (shift > 0) {
        /* C defines shifts of what is not negative, and two's complement of these types. */
        const $R half = ($R)(($R)1 << (shift - 1));
        const $R rest = value & (half - 1 + half);
        const $R floor = value < 0 ? ~(~value >> shift) : value >> shift;
        int up = 0;
        if (q->rounding == HALF_EVEN) {
            up = rest > half || (rest == half && (floor & 1) == 1);
        } else if (q->rounding == HALF_AWAY) {
            up = rest > half || (rest == half && value >= 0);
        } else if (q->rounding == HALF_UP) {
            up = rest >= half;
        }
        value = floor + up;
    }
    value += q->to;
    value = value < q->lowest ? q->lowest : value;
    return value > q->highest ? q->highest : value;
}
