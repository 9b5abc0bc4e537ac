/* The part of a window that lies in the input. */
typedef struct {
    uint32_t first; /* its first element, counted within the window */
    uint32_t count;
    uint32_t at; /* the first element, counted in the input */
} window;

static window window_of(const axis *a, uint32_t output)
{
    window w = {0, 0, 0};
    const uint32_t start = output * a->stride;
    if (a->stride == 0) {
        w.at = output * a->input / a->output;
        w.count = ((output + 1) * a->input + a->output - 1) / a->output - w.at;
        return w;
    }
    if (a->before > start) {
        w.first = (a->before - start + a->dilation - 1) / a->dilation;
    }
    if (a->input + a->before > start) {
        uint32_t end = (a->input + a->before - start + a->dilation - 1) / a->dilation;
        end = end < a->kernel ? end : a->kernel;
        w.count = end > w.first ? end - w.first : 0;
    }
    w.at = start + w.first * a->dilation - a->before;
    return w;
}
