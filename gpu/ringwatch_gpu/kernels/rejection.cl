/* Outlier-rejecting profiles of the summed image: sigma clipping, mean between quantiles, median and Poisson clipping.
 *
 * Built with -D LANES=<2^n, 8 or more> -D GROUPED=<0|1> -D METHODS=<see the enum>.
 *
 * `sort_pixels` puts the pixels in the order of their bins: with S the sum over the N_p frames in which a pixel was
 * valid and g its norm, s = S and w = g N_p, both 0 for a pixel that was never valid. (Reading the image in the order of
 * the detector and writing in that of the bins takes a quarter of the time of the opposite.) `reject` takes the bins one
 * after another, a work-item on CPUs (GROUPED=0), a work-group of LANES work-items on GPUs (GROUPED=1), and makes all
 * profiles of one before it goes to the next: what it needs stays in a cache. Entries that are no valid pixel have
 * s = w = 0 and x = s / w = infinity, and count nowhere.
 *
 * All sums are made in one order, whatever the device: entry i of a bin goes to lane i % LANES, each lane adds in order,
 * a tree adds the lanes; fused multiply-adds are off. So every device keeps the same pixels. Quantiles are found by
 * radix selection on order-preserving keys, with weights as integers, which do not depend on any order.
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
#define ROUNDING 0x1p-40 /* of the mean: smaller standard deviations are nothing but rounding */
#define KEPT_SUMS 4 /* signal, norm, norm^2 and count */
#define FEWEST 3.0 /* pixels for Chauvenet's criterion */
#define SQRT_2_PI 2.5066282746310002
#define MAD_TO_SIGMA 1.4826
#define CLIP_SIGMAS 4.0
#define CLIP_PASSES 3

enum { SIGMA_CLIP = 1, QUANTILE = 2, MEDIAN_CLIP = 4 };

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
    global const double *s, *w;
    global double *x;
    global uint *key, *list; /* bits of x as a float, which are in its order; some entries */
    uint entries;            /* a multiple of LANES */
} Ring;

/* Which pixels are kept: lowest <= x <= highest. */
typedef struct {
    double lowest, highest;
} Interval;

/* Those whose x, rounded to a key, is between two keys, and shares of those on the keys. */
typedef struct {
    double first, last, first_share, last_share;
} Band;

/* Those within the noise of counts about a mean: (s - w mean)^2 <= max(16 max(1, w mean), (w tolerance)^2). */
typedef struct {
    double mean, tolerance;
} Noise;

typedef struct {
    double signal, norm, norm_sq, count, variance;
} Sums;

REAL in_interval(const Interval rule, const REAL s, const REAL w, const REAL x) {
    return select((REAL)0, (REAL)1, MASK((x >= rule.lowest) & (x <= rule.highest)));
}

#if GROUPED
double rounded(const double x) { return (float)x; }
#else
double8 rounded(const double8 x) { return convert_double8(convert_float8(x)); }
#endif

REAL in_band(const Band rule, const REAL s, const REAL w, const REAL x) {
    const REAL y = rounded(x);
    const REAL inside = select((REAL)0, (REAL)1, MASK((y > rule.first) & (y < rule.last)));
    const REAL at_first = select(inside, (REAL)rule.first_share, MASK(y == rule.first));
    return select(at_first, (REAL)rule.last_share, MASK(y == rule.last));
}

REAL in_noise(const Noise rule, const REAL s, const REAL w, const REAL x) {
    const REAL expected = w * rule.mean, d = s - expected, allowed = w * rule.tolerance;
    const REAL limit = max(CLIP_SIGMAS * CLIP_SIGMAS * max((REAL)1, expected), allowed * allowed);
    return select((REAL)0, (REAL)1, MASK((d * d <= limit) & (w > (REAL)0)));
}

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

/* Sums over the pixels that a rule keeps, and their variance about the mean: SUMS makes both for a rule. */
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
    Sums ADD_VARIANCE(Sums sums, const Ring ring, const RULE rule, SHARED Workspace *work) {                           \
        const double mean = mean_of(sums);                                                                             \
        REAL lanes[1][VECTORS];                                                                                        \
        for (uint v = 0; v < VECTORS; v++)                                                                             \
            lanes[0][v] = (REAL)0;                                                                                     \
        for (uint i = LANE; i < ring.entries; i += LANES)                                                              \
            for (uint v = 0; v < VECTORS; v++) {                                                                       \
                const REAL s = LOAD(ring.s, i + 8 * v), w = LOAD(ring.w, i + 8 * v), x = LOAD(ring.x, i + 8 * v);      \
                const REAL d = KEPT(rule, s, w, x) * (s - w * mean);                                                   \
                lanes[0][v] += d * d;                                                                                  \
            }                                                                                                          \
        add_lanes(lanes, 1, &sums.variance, work);                                                                     \
        return sums;                                                                                                   \
    }

SUMS(Interval, in_interval, sum_interval, add_interval_variance)
SUMS(Band, in_band, sum_band, add_band_variance)
SUMS(Noise, in_noise, sum_noise, add_noise_variance)

Sums sigma_clip(const Ring ring, const double thres, const uint max_iter, SHARED Workspace *work) {
    Interval rule = {0, DBL_MAX};
    Sums kept = add_interval_variance(sum_interval(ring, rule, work), ring, rule, work);
    bool goes_on = kept.count > 0;
    for (uint cycle = 0; cycle < max_iter && goes_on; cycle++) {
        const double chauvenet = sqrt(2 * log(max(FEWEST, kept.count) / SQRT_2_PI)), mean = mean_of(kept);
        const double limit = max(thres, chauvenet) * max(sqrt(kept.variance / kept.norm_sq), mean * ROUNDING);
        rule.lowest = max(rule.lowest, mean - limit);
        rule.highest = min(rule.highest, mean + limit);
        const Sums sums = sum_interval(ring, rule, work);
        goes_on = sums.count > 0 && sums.count != kept.count;
        kept = add_interval_variance(sums, ring, rule, work);
    }
    return kept;
}

/* Keys of one bucket: those from `first` on, 2^bits of them. */
typedef struct {
    uint first, bits;
} Window;

/* Lowest key but 0, and highest, of all lanes. */
void set_range(const uint lowest, const uint highest, SHARED Workspace *work) {
    SYNC;
    work->lowest = UINT_MAX;
    work->highest = 0;
    SYNC;
    LOWER(work->lowest, lowest);
    RAISE(work->highest, highest);
    SYNC;
}

/* Coarse buckets are equal stretches of keys, but the first one: it has the key 0 for itself. (All other keys are those
 * of normal floats, 2^23 and more, so that there is room below the lowest.) */
uint coarse_bits(SHARED const Workspace *work) {
    uint bits = 0;
    while (work->lowest < work->highest && (work->highest - work->lowest) >> bits > COARSE - 2)
        bits++;
    return bits;
}

uint coarse_start(SHARED const Workspace *work, const uint bits) { return sub_sat(work->lowest, 1U << bits); }

/* Weights of the coarse buckets. */
void count_coarse(const Ring ring, SHARED Workspace *work) {
    const uint bits = coarse_bits(work), start = coarse_start(work, bits);
    for (uint b = LANE; b < COARSE; b += STEP)
        work->coarse[b] = 0;
    work->bucket = COARSE;
    SYNC;
    for (uint i = LANE; i < ring.entries; i += STEP)
        ADD(work->coarse[min(sub_sat(ring.key[i], start) >> bits, COARSE - 1U)], (ulong)(long)ring.w[i]);
    SYNC;
}

/* One key of the pixels of a bin, the weight of those below it, and of those that have it. */
typedef struct {
    uint key;
    ulong below, equal;
} Place;

/* Moves on by whole buckets, until the weight so far and that of the next one reach `rank`; how many. */
uint move_on(Place *place, SHARED const ulong *weights, const uint buckets, const ulong rank) {
    uint bucket = 0;
    for (; bucket < buckets - 1 && place->below + weights[bucket] < rank; bucket++)
        place->below += weights[bucket];
    place->equal = weights[bucket];
    return bucket;
}

/* Lists the entries of a coarse bucket, if the list is not of that one already. */
void list_bucket(const Ring ring, const uint bucket, const Window window, SHARED Workspace *work) {
    SYNC;
    const uint entries = work->bucket == bucket ? 0 : ring.entries;
    SYNC;
    work->listed = entries ? 0 : work->listed;
    work->bucket = bucket;
    SYNC;
    for (uint i = LANE; i < entries; i += STEP)
        if ((ring.key[i] - window.first) >> window.bits == 0)
            ring.list[APPEND(work->listed)] = i;
    SYNC;
}

/* Where the pixels, counted by weight in the order of their keys, reach two ranks, 1 to their total. */
void find_places(const Ring ring, const ulong *ranks, Place *places, SHARED Workspace *work) {
    for (uint p = 0; p < 2; p++) {
        const ulong rank = ranks[p];
        Window window = {0, coarse_bits(work)};
        Place place = {0, 0, 0};
        const uint bucket = move_on(&place, work->coarse, COARSE, rank);
        if (bucket)
            window.first = coarse_start(work, window.bits) + (bucket << window.bits);
        else
            window.bits = 0;
        list_bucket(ring, bucket, window, work);
        while (window.bits) {
            const uint bits = sub_sat(window.bits, (uint)FINE_BITS);
            for (uint b = LANE; b < FINE; b += STEP)
                work->fine[b] = 0;
            SYNC;
            for (uint j = LANE; j < work->listed; j += STEP) {
                const uint i = ring.list[j], offset = ring.key[i] - window.first;
                if (offset >> window.bits == 0)
                    ADD(work->fine[offset >> bits], (ulong)(long)ring.w[i]);
            }
            SYNC;
            window.first += move_on(&place, work->fine, FINE, rank) << bits;
            window.bits = bits;
            SYNC;
        }
        place.key = window.first;
        places[p] = place;
    }
}

double value_of(const Place place) { return as_float(place.key); }

/* Middle of the keys just below and just above half the weight; mostly they are one. */
double median(const Ring ring, SHARED Workspace *work) {
    const ulong half_way = rint(0.5 * work->total), ranks[] = {max(half_way, 1UL), min(half_way + 1, work->total)};
    Place places[2];
    find_places(ring, ranks, places, work);
    return 0.5 * (value_of(places[0]) + value_of(places[1]));
}

Band band_of(const Ring ring, const double qmin, const double qmax, SHARED Workspace *work) {
    const ulong start = rint(qmin * work->total), end = rint(qmax * work->total);
    const ulong ranks[] = {min(start + 1, work->total), max(end, 1UL)};
    Place places[2];
    find_places(ring, ranks, places, work);
    const Place first = places[0], last = places[1];
    Band band = {value_of(first), value_of(last), 1, 1};
    if (first.key == last.key) {
        if (start < end)
            band.first_share = band.last_share = (double)(end - start) / (double)last.equal;
    } else if (start < end) {
        band.first_share = (double)(first.below + first.equal - start) / (double)first.equal;
        band.last_share = (double)(end - last.below) / (double)last.equal;
    } else { /* between two keys: as much of both */
        const ulong both = min(first.equal, last.equal);
        band.first_share = (double)both / (double)first.equal;
        band.last_share = (double)both / (double)last.equal;
    }
    return band;
}

Sums quantile(const Ring ring, const double qmin, const double qmax, SHARED Workspace *work) {
    const Band band = band_of(ring, qmin, qmax, work);
    return add_band_variance(sum_band(ring, band, work), ring, band, work);
}

/* Makes |x - centre| the keys. */
void key_distances(const Ring ring, const double centre, SHARED Workspace *work) {
    uint lowest = UINT_MAX, highest = 0;
    for (uint i = LANE; i < ring.entries; i += STEP) {
        const uint key = as_uint((float)fabs(ring.x[i] - centre));
        ring.key[i] = key;
        lowest = min(lowest, key ? key : UINT_MAX);
        highest = max(highest, ring.w[i] > 0 ? key : 0);
    }
    set_range(lowest, highest, work);
}

Sums median_clip(const Ring ring, SHARED Workspace *work) {
    const double centre = median(ring, work);
    key_distances(ring, centre, work);
    count_coarse(ring, work);
    Noise rule = {centre, CLIP_SIGMAS * MAD_TO_SIGMA * median(ring, work)};
    Sums kept = sum_noise(ring, rule, work);
    for (uint pass = 0; pass < CLIP_PASSES; pass++) {
        const Noise next = {mean_of(kept), 0};
        const Sums sums = sum_noise(ring, next, work);
        if (sums.count > 0) {
            rule = next;
            kept = sums;
        }
    }
    return add_noise_variance(kept, ring, rule, work);
}

/* Writes the sums of a bin, zeros where its pixels have no weight. */
void write(const Sums sums, const ulong total, global double *out) {
    if (LANE == 0) {
        out[0] = total ? sums.signal : 0;
        out[1] = total ? sums.norm : 0;
        out[2] = total ? sums.norm_sq : 0;
        out[3] = total ? sums.count : 0;
        out[4] = total ? sums.variance : 0;
    }
}

kernel void sort_pixels(
    global const uint *rank,         /* where a pixel goes, UINT_MAX = not used, [pixels] */
    global const uint *norm_q,       /* norm of a pixel in quanta, [pixels] */
    global const uint *image_low, global const uint *image_high, global const uint *image_lost, /* [pixels] */
    const uint pixels,
    const uint n_frames,             /* frames in the summed image */
    const double weight_unit,        /* weights are multiplied by it, so that those of a bin stay below 2^62 */
    global double *s, global double *w)
{
    const uint stretch = (pixels + get_global_size(0) - 1) / get_global_size(0), first = get_global_id(0) * stretch;
    for (uint i = first; i < min(pixels, first + stretch); i++) {
        const uint to = rank[i];
        if (to == UINT_MAX)
            continue;
        s[to] = (double)(((ulong)image_high[i] << 32) | image_low[i]);
        w[to] = (double)((ulong)norm_q[i] * (n_frames - image_lost[i])) * weight_unit;
    }
}

kernel void reject(
    global const double *sorted_s, global const double *sorted_w, /* each bin begins at a multiple of LANES */
    global const uint *bin_start,    /* its first entry, and the end of the last, [bins + 1] */
    global const uint *first_bin,    /* of each work-item or work-group, and the end of the last, [items + 1] */
    const uint bins,
    const double thres, const uint max_iter, const double qmin, const double qmax,
    global double *ratios, global uint *keys, global uint *lists, /* scratch memory, an element for each entry */
    global double *profiles)         /* signal, norm, norm^2, count and variance of the three, [3][bins][5] */
{
#if GROUPED
    local Workspace work;
#else
    Workspace work;
#endif
    const uint item = get_group_id(0), scratch = bin_start[first_bin[item]];
    for (uint bin = first_bin[item]; bin < first_bin[item + 1]; bin++) {
        const uint start = bin_start[bin];
        const Ring ring = {sorted_s + start, sorted_w + start, ratios + scratch,
                           keys + scratch,   lists + scratch,  bin_start[bin + 1] - start};
        ulong total = 0;
        uint lowest = UINT_MAX, highest = 0;
        for (uint i = LANE; i < ring.entries; i += STEP) {
            const double w = ring.w[i], x = w > 0 ? ring.s[i] / w : INFINITY;
            const uint key = as_uint((float)x);
            ring.x[i] = x;
            ring.key[i] = key;
            total += (ulong)(long)w;
            lowest = min(lowest, key ? key : UINT_MAX);
            highest = max(highest, w > 0 ? key : 0);
        }
        set_range(lowest, highest, &work);
        work.total = 0;
        SYNC;
        ADD(work.total, total);
        SYNC;
        if (METHODS & SIGMA_CLIP)
            write(sigma_clip(ring, thres, max_iter, &work), work.total, profiles + 5 * bin);
        if (METHODS & (QUANTILE | MEDIAN_CLIP))
            count_coarse(ring, &work);
        if (METHODS & QUANTILE)
            write(quantile(ring, qmin, qmax, &work), work.total, profiles + 5 * (bins + bin));
        if (METHODS & MEDIAN_CLIP)
            write(median_clip(ring, &work), work.total, profiles + 5 * (2 * bins + bin));
    }
}
