/* Weights of four bits, two a byte, the first in the low bits. */
static int8_t weight_packed(const uint8_t *weights, uint32_t index)
{
    const int bits = weights[index / 2] >> (index % 2 * 4) & 15;
    return (int8_t)((bits ^ 8) - 8);
}
