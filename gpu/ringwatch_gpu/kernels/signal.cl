/* Signals that may be negative: s = rint(raw / quantum) - dark, for dark images, float pixels and signed values.
 *
 * Comes before the kernels that read pixels, built with -D SIGNED -D SCALE=<1 / quantum, 2^n> and either
 * -D LOWEST=<smallest valid raw value>, or -D FLOAT -D REACH=<largest |raw / quantum|>. Raw values come as 32 bits,
 * integers in two's complement, floats as they are, and signals leave in two's complement. Whether a pixel is valid is
 * judged on the raw value; limits are such that the signals of valid pixels fit.
 */

#ifdef FLOAT

#define RAW(lanes, pixels) as_uint##lanes(pixels)

/* Comparisons with what is no number are false. */
#define IS_INVALID(LANES, UINT, INT, REAL)                                                                             \
    INT is_invalid##LANES(const UINT raw, const uint limit, const uint4 dummies) {                                     \
        const REAL value = as_float##LANES(raw);                                                                       \
        const INT good = (value <= (REAL)as_float(limit)) & (fabs(rint(value * (REAL)SCALE)) <= (REAL)REACH);          \
        return (good == (INT)0) | is_dummy##LANES(raw, dummies);                                                       \
    }
#define SIGNAL_OF(LANES, UINT, INT, REAL)                                                                              \
    UINT signal_of##LANES(const UINT raw, const INT dark) {                                                            \
        return as_uint##LANES(convert_int##LANES(rint(as_float##LANES(raw) * (REAL)SCALE))) - as_uint##LANES(dark);    \
    }

#else

#define RAW(lanes, pixels) as_uint##lanes(convert_int##lanes(pixels))

#define IS_INVALID(LANES, UINT, INT, REAL)                                                                             \
    INT is_invalid##LANES(const UINT raw, const uint limit, const uint4 dummies) {                                     \
        return (raw - (UINT)(uint)(LOWEST) > (UINT)(limit - (uint)(LOWEST))) | is_dummy##LANES(raw, dummies);          \
    }
#define SIGNAL_OF(LANES, UINT, INT, REAL)                                                                              \
    UINT signal_of##LANES(const UINT raw, const INT dark) { return raw * (UINT)SCALE - as_uint##LANES(dark); }

#endif

#define SIGNALS(LANES, UINT, INT, REAL)                                                                                \
    INT is_dummy##LANES(const UINT raw, const uint4 dummies) {                                                         \
        return (raw == (UINT)dummies.x) | (raw == (UINT)dummies.y) | (raw == (UINT)dummies.z) |                        \
               (raw == (UINT)dummies.w);                                                                               \
    }                                                                                                                  \
    IS_INVALID(LANES, UINT, INT, REAL)                                                                                 \
    SIGNAL_OF(LANES, UINT, INT, REAL)

SIGNALS(, uint, int, float)
SIGNALS(8, uint8, int8, float8)
