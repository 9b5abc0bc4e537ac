static $W weight_$w(const $W *weights, uint32_t index)
{
    return weights[index];
}
