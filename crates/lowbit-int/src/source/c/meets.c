/* Whether element k of the window of an output meets the input, and which element. */
static int meets(const axis *a, uint32_t output, uint32_t k, uint32_t *at)
{
    const uint32_t from = output + a->before;
    if (from < k * a->dilation || (from - k * a->dilation) % a->stride != 0) {
        return 0;
    }
    *at = (from - k * a->dilation) / a->stride;
    return *at < a->input;
}
