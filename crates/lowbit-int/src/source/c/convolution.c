/* y[o][..] = bias[o] + sum of weight[o][i][k] (x[g + i][..] - zero), requantized. */
typedef struct {
    axis rows, columns;
    uint32_t inputs, outputs, groups; /* channels of the input and of the output in a group */
} convolution;
