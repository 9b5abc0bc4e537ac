/* What becomes of the bits that a shift takes away. */
enum rounding {
    HALF_EVEN, /* to the nearest; half goes to the even integer */
    HALF_AWAY, /* to the nearest; half goes away from zero */
    HALF_UP,   /* to the nearest; half goes up */
    FLOOR      /* down */
};
