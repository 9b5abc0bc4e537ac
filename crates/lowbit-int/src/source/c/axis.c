/* One dimension of windows over an input. */
typedef struct {
    uint32_t input, output, kernel;
    uint32_t stride; /* from one window to the next; 0 of windows that share the input evenly */
    uint32_t before; /* padding before the first element */
    uint32_t dilation;
} axis;
