/* Sums over the pixels of a bin that a rule keeps, in one order on every device.
 *
 * Part of rejection.cl, which says what the words mean. Entry i of a bin goes to lane i % LANES, each lane adds in order, a
 * tree adds the lanes; fused multiply-adds are off. GROUPED=1: a lane is a work-item of a group; GROUPED=0: one work-item
 * has all of them, as vectors.
 */

#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#pragma OPENCL FP_CONTRACT OFF

#if GROUPED
#pragma OPENCL EXTENSION cl_khr_int64_base_atomics : enable
#define SHARED local
#define LANE get_local_id(0)
#define STEP LANES
#define REAL double
#define VECTORS 1
#define LOAD(array, i) ((array)[i])
#define MASK(condition) ((long)(condition))
#define ADD(target, value) atom_add(&(target), value)
#define APPEND(length) atomic_inc(&(length))
#define LOWER(target, value) atomic_min(&(target), value)
#define RAISE(target, value) atomic_max(&(target), value)
#define SYNC barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE)
#else
#define SHARED private
#define LANE 0
#define STEP 1
#define REAL double8
#define VECTORS (LANES / 8)
#define LOAD(array, i) vload8(0, (array) + (i))
#define MASK(condition) (condition)
#define ADD(target, value) (target) += (value)
#define APPEND(length) (length)++
#define LOWER(target, value) (target) = min(target, value)
#define RAISE(target, value) (target) = max(target, value)
#define SYNC
#endif

#define COARSE 1024
#define FINE_BITS 8
#define FINE (1 << FINE_BITS)
#define KEPT_SUMS 4 /* signal, norm, norm^2 and count */

/* What the lanes of a bin share. */
typedef struct {
    ulong coarse[COARSE], fine[FINE]; /* weights in buckets of keys */
    ulong total;                      /* weight of all pixels */
    uint lowest, highest;             /* key but 0 */
    uint bucket;                      /* coarse one whose pixels are listed */
    uint listed;
    double lanes[KEPT_SUMS * LANES];
} Workspace;

/* The entries of a bin. */
typedef struct {
    global const double *s;
    global double *w, *x;
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
void add_lanes(const double (*lanes)[VECTORS], const uint sums, double *total, local Workspace *work) {
    const uint lane = LANE;
    for (uint k = 0; k < sums; k++)
        work->lanes[k * LANES + lane] = lanes[k][0];
    SYNC;
    for (uint step = LANES / 2; step; step >>= 1) {
        for (uint k = 0; k < sums && lane < step; k++)
            work->lanes[k * LANES + lane] += work->lanes[k * LANES + lane + step];
        SYNC;
    }
    for (uint k = 0; k < sums; k++)
        total[k] = work->lanes[k * LANES];
    SYNC;
}
#else
void add_lanes(double8 (*lanes)[VECTORS], const uint sums, double *total, Workspace *work) {
    for (uint k = 0; k < sums; k++) {
        for (uint step = VECTORS / 2; step; step >>= 1)
            for (uint v = 0; v < step; v++)
                lanes[k][v] += lanes[k][v + step];
        const double4 a = lanes[k][0].lo + lanes[k][0].hi;
        const double2 b = a.lo + a.hi;
        total[k] = b.x + b.y;
    }
}
#endif

/* Share of the pixel: 1 of whole ones. */
#if !SPLIT
#define SHARE(ring, i) ((REAL)1)
#elif GROUPED
#define SHARE(ring, i) ((double)(ring).share[i])
#else
#define SHARE(ring, i) convert_double8(vload8(0, (ring).share + (i)))
#endif

/* Variance of a pixel by its counts (Poisson), at least 1 as in pyFAI; of a part of it c^2 times as much. */
REAL count_variance(const Ring ring, const REAL s, const REAL w, const REAL c) {
    return max(c * c, c * (ring.gain * s) + ring.floor * w);
}

/* Sums over the pixels that a rule keeps, and their variance: about the mean (azimuthal), or that of their counts. SUMS
 * makes both for a rule; which variance, is known to the compiler. */
#define SUMS(RULE, KEPT, SUM_KEPT, ADD_VARIANCE)                                                                       \
    Sums SUM_KEPT(const Ring ring, const RULE rule, SHARED Workspace *work) {                                          \
        REAL lanes[KEPT_SUMS][VECTORS];                                                                                \
        double total[KEPT_SUMS];                                                                                       \
        for (uint v = 0; v < VECTORS; v++)                                                                             \
            lanes[0][v] = lanes[1][v] = lanes[2][v] = lanes[3][v] = (REAL)0;                                           \
        for (uint i = LANE; i < ring.entries; i += LANES)                                                              \
            for (uint v = 0; v < VECTORS; v++) {                                                                       \
                const REAL s = LOAD(ring.s, i + 8 * v), w = LOAD(ring.w, i + 8 * v), x = LOAD(ring.x, i + 8 * v);      \
                const REAL share = KEPT(rule, s, w, x), kept = share * w;                                              \
                lanes[0][v] += share * s;                                                                              \
                lanes[1][v] += kept;                                                                                   \
                lanes[2][v] += kept * kept;                                                                            \
                lanes[3][v] += share;                                                                                  \
            }                                                                                                          \
        add_lanes(lanes, KEPT_SUMS, total, work);                                                                      \
        const Sums sums = {total[0], total[1], total[2], total[3], 0};                                                 \
        return sums;                                                                                                   \
    }                                                                                                                  \
                                                                                                                       \
    Sums ADD_VARIANCE(Sums sums, const bool of_counts, const Ring ring, const RULE rule, SHARED Workspace *work) {     \
        const double mean = mean_of(sums);                                                                             \
        REAL lanes[1][VECTORS];                                                                                        \
        for (uint v = 0; v < VECTORS; v++)                                                                             \
            lanes[0][v] = (REAL)0;                                                                                     \
        for (uint i = LANE; i < ring.entries; i += LANES)                                                              \
            for (uint v = 0; v < VECTORS; v++) {                                                                       \
                const REAL s = LOAD(ring.s, i + 8 * v), w = LOAD(ring.w, i + 8 * v), x = LOAD(ring.x, i + 8 * v);      \
                const REAL share = KEPT(rule, s, w, x), d = share * (s - w * mean), c = SHARE(ring, i + 8 * v);        \
                lanes[0][v] += of_counts ? share * share * count_variance(ring, s, w, c) : d * d;                      \
            }                                                                                                          \
        add_lanes(lanes, 1, &sums.variance, work);                                                                     \
        return sums;                                                                                                   \
    }
