/* Sums over the pixels of a bin that a rule keeps, in one order on every device.
 *
 * Part of rejection.cl, which says what the words mean. Entry i of a bin goes to lane i % LANES, each lane adds in order, a
 * tree adds the lanes; fused multiply-adds are off. GROUPED=1: a lane is a work-item of a group; GROUPED=0: one work-item
 * has all of them, as vectors.
 */

#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#pragma OPENCL FP_CONTRACT OFF

#define UNROLL _Pragma("unroll") /* so that what is summed stays in registers */
#define INLINE __attribute__((always_inline))

#if GROUPED
#pragma OPENCL EXTENSION cl_khr_int64_base_atomics : enable
#define SHARED local
#define LANE get_local_id(0)
#define STEP LANES
#define REAL double
#define KEYS uint
#define LENGTH 1
#define VECTORS 1
#define TOGETHER 1
#define LOAD(array, i) ((array)[i])
#define STORE(value, array, i) ((array)[i] = (value))
#define TO_REAL(x) ((double)(x))
#define TO_FLOAT(x) ((float)(x))
#define AS_KEYS(x) as_uint(x)
#define WORDS ulong
#define TO_WORDS(x) ((ulong)(x))
#define TO_INTEGERS(x) ((long)(x))
#define AS_INTEGERS(x) as_long(x)
#define AS_REAL(x) as_double(x)
#define MASKS long
#define MASK(condition) (-(long)(condition))
#define MASK_KEYS(condition) (0U - (uint)(condition))
#define ANY(condition) (condition)
#define ADD(target, value) atom_add(&(target), value)
#define APPEND_IF(condition, list, length, value)                                                                      \
    if (condition)                                                                                                     \
    (list)[atomic_inc(&(length))] = (value)
#define COPIES 1
#define LOWER(target, value) atomic_min(&(target), value)
#define RAISE(target, value) atomic_max(&(target), value)
#define SYNC barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE)
#else
#define SHARED private
#define LANE 0
#define STEP 1
#define REAL double8
#define KEYS uint8
#define LENGTH 8
#define VECTORS (LANES / 8)
#define TOGETHER 4 /* vectors whose sums the registers have room for */
#define LOAD(array, i) vload8(0, (array) + (i))
#define STORE(value, array, i) vstore8(value, 0, (array) + (i))
#define TO_REAL(x) convert_double8(x)
#define TO_FLOAT(x) convert_float8(x)
#define AS_KEYS(x) as_uint8(x)
#define WORDS ulong8
#define TO_WORDS(x) convert_ulong8(x)
#define TO_INTEGERS(x) convert_long8(x)
#define AS_INTEGERS(x) as_long8(x)
#define AS_REAL(x) as_double8(x)
#define MASKS long8
#define MASK(condition) (condition)
#define MASK_KEYS(condition) convert_uint8(condition)
#define ANY(condition) is_any(condition)
#define ADD(target, value) (target) += (value)
#define APPEND_IF(condition, list, length, value) ((list)[length] = (value), (length) += (condition))
#define COPIES 4
#define LOWER(target, value) (target) = min(target, value)
#define RAISE(target, value) (target) = max(target, value)
#define SYNC
#endif

#define COARSE 256
#define FINE_BITS 8
#define FINE (1 << FINE_BITS)
#define KEPT_SUMS 6 /* signal, norm, norm^2, count; of distances from a pivot the squares, and the products with norms */
#define NEAR 0x1p-20 /* of the mean: a pivot so near is as good */
#define FAR 1024.0 /* variances from the mean: to a pivot so far, distances cost the variance three digits */

#if !GROUPED
/* any() in a third of its instructions. */
bool is_any(const int8 condition) {
    const int4 fours = condition.lo | condition.hi;
    const int2 twos = fours.lo | fours.hi;
    return twos.x | twos.y;
}
#endif

/* What the lanes of a bin share. */
typedef struct {
    ulong coarse[COARSE][COPIES], fine[FINE]; /* weights in buckets of keys */
    ulong total;                              /* weight of all pixels */
    uint lowest, highest;                     /* keys between which most pixels are */
    uint bucket;                              /* coarse one whose pixels are listed */
    uint listed;
#if GROUPED
    double lanes[KEPT_SUMS * LANES];
#endif
} Workspace;

/* The entries of a bin. */
typedef struct {
    global double *s, *w, *x;
    global uint *key, *list; /* bits of x as a float, which are in its order; some entries */
    uint entries;            /* a multiple of LANES */
    double gain, floor;      /* variance of noise: gain c s + floor w; of counts without a dark 1 and 0 */
#if SPLIT
    global const float *share; /* c, of the pixel in the bin */
#endif
} Ring;

typedef struct {
    double signal, norm, norm_sq, count, variance;
} Sums;

double mean_of(const Sums sums) { return sums.norm > 0 ? sums.signal / sums.norm : 0; }

/* Adds the lanes of some sums; every work-item gets them. */
#if GROUPED
void add_lanes(const double (*lanes)[VECTORS], double *total, local Workspace *work) {
    const uint lane = LANE;
    for (uint k = 0; k < KEPT_SUMS; k++)
        work->lanes[k * LANES + lane] = lanes[k][0];
    SYNC;
    for (uint step = LANES / 2; step; step >>= 1) {
        for (uint k = 0; k < KEPT_SUMS && lane < step; k++)
            work->lanes[k * LANES + lane] += work->lanes[k * LANES + lane + step];
        SYNC;
    }
    for (uint k = 0; k < KEPT_SUMS; k++)
        total[k] = work->lanes[k * LANES];
    SYNC;
}
#else
void add_lanes(double8 (*lanes)[VECTORS], double *total, Workspace *work) {
    for (uint k = 0; k < KEPT_SUMS; k++) {
        for (uint step = VECTORS / 2; step; step >>= 1)
            for (uint v = 0; v < step; v++)
                lanes[k][v] += lanes[k][v + step];
        const double4 a = lanes[k][0].lo + lanes[k][0].hi;
        const double2 b = a.lo + a.hi;
        total[k] = b.x + b.y;
    }
}
#endif

/* Share of the pixel, 1 of whole ones; its signal in counts, from its words: an integer in quanta, or the bits of a double
 * where pixels are split. */
#if SPLIT
#define SHARE(ring, i) TO_REAL(LOAD((ring).share, i))
#define SIGNAL(words, quantum) AS_REAL(words)
#else
#define SHARE(ring, i) ((REAL)1)
#define SIGNAL(words, quantum) (TO_REAL(AS_INTEGERS(words)) * (quantum))
#endif

/* Variance of a pixel by its counts (Poisson), at least 1 as in pyFAI; of a part of it c^2 times as much. */
REAL count_variance(const Ring ring, const REAL s, const REAL w, const REAL c) {
    return max(c * c, c * (ring.gain * s) + ring.floor * w);
}

/* Variance about the mean, from distances to a pivot p: sum (s - w m)^2 = sum d^2 - (m - p) (2 sum d w - (m - p) sum w^2)
 * with d = s - w p. */
double variance_about_mean(const Sums sums, const double pivot, const double squares, const double products) {
    const double shift = mean_of(sums) - pivot;
    return max(0.0, squares - shift * (2 * products - shift * sums.norm_sq));
}

bool is_far(const Sums sums, const double pivot) {
    const double mean = mean_of(sums), shift = mean - pivot;
    return fabs(shift) > fabs(mean) * NEAR && shift * shift * sums.norm_sq > FAR * sums.variance;
}

/* That of some pixel: near the mean, mostly. */
double first_ratio(const Ring ring) { return ring.entries && ring.w[0] > 0 ? ring.x[0] : 0; }

/* What a rule says of a pixel: whether it is kept (MASKS), or how much of it is (REAL). */
#define TAKE_WHOLE(share, x) (x)
#define ADD_WHOLE(share, sum, x) select(sum, (sum) + (x), share)
#define TAKE_PART(share, x) ((share) * (x))
#define ADD_PART(share, sum, x) ((sum) + (x))

/* Sums over the pixels that a rule keeps, and their variance: about the mean (azimuthal), or that of their counts; which,
 * is known to the compiler. One pass where the pivot, any guess of the mean, is a good one, else two. SUMS makes it for a
 * rule. */
#define SUMS(RULE, SHARE_TYPE, KEPT, HOW, SUM_KEPT)                                                                    \
    INLINE Sums SUM_KEPT##_about(const double pivot, const bool of_counts, const Ring ring, const RULE rule,           \
                                 SHARED Workspace *work) {                                                             \
        REAL lanes[KEPT_SUMS][VECTORS];                                                                                \
        double total[KEPT_SUMS];                                                                                       \
        for (uint first = 0; first < VECTORS; first += TOGETHER) {                                                     \
            REAL sums[KEPT_SUMS][TOGETHER];                                                                            \
            UNROLL                                                                                                     \
            for (uint k = 0; k < KEPT_SUMS; k++)                                                                       \
                UNROLL                                                                                                 \
                for (uint v = 0; v < TOGETHER; v++)                                                                    \
                    sums[k][v] = (REAL)0;                                                                              \
            for (uint row = LANE + 8 * first; row < ring.entries; row += LANES)                                        \
                UNROLL                                                                                                 \
                for (uint v = 0; v < TOGETHER; v++) {                                                                  \
                    const uint i = row + 8 * v;                                                                        \
                    const REAL s = LOAD(ring.s, i), w = LOAD(ring.w, i), x = LOAD(ring.x, i), c = SHARE(ring, i);      \
                    const SHARE_TYPE share = KEPT(rule, s, w, x);                                                      \
                    const REAL signal = TAKE_##HOW(share, s), norm = TAKE_##HOW(share, w);                             \
                    const REAL count = TAKE_##HOW(share, (REAL)1), d = signal - norm * pivot;                          \
                    const REAL variance = of_counts ? count * count * count_variance(ring, s, w, c) : d * d;           \
                    sums[0][v] = ADD_##HOW(share, sums[0][v], signal);                                                 \
                    sums[1][v] = ADD_##HOW(share, sums[1][v], norm);                                                   \
                    sums[2][v] = ADD_##HOW(share, sums[2][v], norm * norm);                                            \
                    sums[3][v] = ADD_##HOW(share, sums[3][v], count);                                                  \
                    sums[4][v] = ADD_##HOW(share, sums[4][v], variance);                                               \
                    sums[5][v] = ADD_##HOW(share, sums[5][v], d * norm);                                               \
                }                                                                                                      \
            UNROLL                                                                                                     \
            for (uint k = 0; k < KEPT_SUMS; k++)                                                                       \
                UNROLL                                                                                                 \
                for (uint v = 0; v < TOGETHER; v++)                                                                    \
                    lanes[k][first + v] = sums[k][v];                                                                  \
        }                                                                                                              \
        add_lanes(lanes, total, work);                                                                                 \
        Sums kept = {total[0], total[1], total[2], total[3], total[4]};                                                \
        if (!of_counts)                                                                                                \
            kept.variance = variance_about_mean(kept, pivot, total[4], total[5]);                                      \
        return kept;                                                                                                   \
    }                                                                                                                  \
                                                                                                                       \
    INLINE Sums SUM_KEPT(const double pivot, const bool of_counts, const Ring ring, const RULE rule,                   \
                                 SHARED Workspace *work) {                                                             \
        const Sums found = SUM_KEPT##_about(pivot, of_counts, ring, rule, work);                                       \
        if (of_counts)                                                                                                 \
            return found;                                                                                              \
        const bool again = is_far(found, pivot);                                                                       \
        Ring to_do = ring;                                                                                             \
        to_do.entries = again ? ring.entries : 0;                                                                      \
        const Sums better = SUM_KEPT##_about(mean_of(found), false, to_do, rule, work);                                \
        return again ? better : found;                                                                                 \
    }
