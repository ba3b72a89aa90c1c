/* Outlier-rejecting profiles of the summed image: sigma clipping, mean between quantiles, median and Poisson clipping.
 *
 * Built after bin_sums.cl and bin_quantiles.cl, with -D LANES=<2^n, 32 or more> -D GROUPED=<0|1> -D METHODS=<see the enum>
 * -D SPLIT=<1 where pixels are split: their parts are then what is called pixels below>
 * -D SIGNED=<1 where sums may be negative> -D CLIPS_BY_COUNTS=<0|1> -D VARIANCE_OF_COUNTS=<0|1>: whether the variance is
 * that of the counts (Poisson) instead of that along the ring (azimuthal), in sigma clipping's limit and in what is
 * written; and with -D EXPOSURE as image.cl (where frames count for their monitor, N_p is a sum of exposures).
 *
 * `sort_pixels` puts the pixels in the order of their bins. (Reading the image in the order of the detector and writing
 * in that of the bins takes a quarter of the time of the opposite.) `reject` takes the bins one after another, a work-item
 * on CPUs (GROUPED=0), a work-group of LANES work-items on GPUs (GROUPED=1), and makes all profiles of one before it goes
 * to the next: what it needs stays in a cache. It may be run for some of the bins at a time. With S the sum over the N_p
 * frames in which a pixel was valid and g its norm, s = S, w = g N_p, x = s / w. Entries that are no pixel, or one that was
 * never valid, have s = w = 0 and x = infinity, and count nowhere. High words of sums and lost frames are rare: only rows of
 * LANES entries that have any are marked, and they alone are read.
 *
 * All sums are made in one order, and quantiles do not depend on any: every device keeps the same pixels.
 */

#define ROUNDING 0x1p-40 /* of the mean: smaller standard deviations are nothing but rounding */
#define FEWEST 3.0 /* pixels for Chauvenet's criterion */
#define SQRT_2_PI 2.5066282746310002
#define MAD_TO_SIGMA 1.4826
#define CLIP_SIGMAS 4.0
#define CLIP_PASSES 3

enum { SIGMA_CLIP = 1, QUANTILE = 2, MEDIAN_CLIP = 4 };

/* Which pixels are kept: lowest <= x <= highest. */
typedef struct {
    double lowest, highest;
} Interval;

/* Those within the noise about a mean: (s - w mean)^2 <= max(16 max(1, gain w mean + floor w), (w tolerance)^2). Of counts
 * without a dark the gain is 1 and the floor 0. */
typedef struct {
    double mean, tolerance, gain, floor;
} Noise;

MASKS in_interval(const Interval rule, const REAL s, const REAL w, const REAL x) {
    return MASK((x >= rule.lowest) & (x <= rule.highest));
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

MASKS in_noise(const Noise rule, const REAL s, const REAL w, const REAL x) {
    const REAL expected = w * rule.mean, d = s - expected, allowed = w * rule.tolerance;
    const REAL variance = max((REAL)1, rule.gain * expected + rule.floor * w);
    const REAL limit = max(CLIP_SIGMAS * CLIP_SIGMAS * variance, allowed * allowed);
    return MASK((d * d <= limit) & (w > (REAL)0));
}

SUMS(Interval, MASKS, in_interval, WHOLE, sum_interval)
SUMS(Band, REAL, in_band, PART, sum_band)
SUMS(Noise, MASKS, in_noise, WHOLE, sum_noise)

Sums sigma_clip(const Ring ring, const double thres, const uint max_iter, SHARED Workspace *work) {
    Interval rule = {-DBL_MAX, DBL_MAX};
    Sums kept = sum_interval(first_ratio(ring), CLIPS_BY_COUNTS, ring, rule, work);
    bool goes_on = kept.count > 0;
    for (uint cycle = 0; cycle < max_iter && goes_on; cycle++) {
        const double chauvenet = sqrt(2 * log(max(FEWEST, kept.count) / SQRT_2_PI)), mean = mean_of(kept);
        const double limit = max(thres, chauvenet) * max(sqrt(kept.variance / kept.norm_sq), fabs(mean) * ROUNDING);
        rule.lowest = max(rule.lowest, mean - limit);
        rule.highest = min(rule.highest, mean + limit);
        const Sums fewer = sum_interval(mean, CLIPS_BY_COUNTS, ring, rule, work);
        const bool changed = fewer.count != kept.count;
        kept = changed ? fewer : kept;
        goes_on = changed && kept.count > 0;
    }
    if (CLIPS_BY_COUNTS != VARIANCE_OF_COUNTS)
        kept = sum_interval(0, VARIANCE_OF_COUNTS, ring, rule, work);
    return kept;
}

Sums quantile(const Ring ring, const double qmin, const double qmax, SHARED Workspace *work) {
    const Band band = band_of(ring, qmin, qmax, work);
    return sum_band(0.5 * (band.first + band.last), VARIANCE_OF_COUNTS, ring, band, work);
}

Sums median_clip(const Ring ring, SHARED Workspace *work) {
    const double centre = median(ring, work);
    key_distances(ring, centre, work);
    count_coarse(ring, work);
    Noise rule = {centre, CLIP_SIGMAS * MAD_TO_SIGMA * median(ring, work), ring.gain, ring.floor};
    Sums kept = sum_noise(centre, VARIANCE_OF_COUNTS, ring, rule, work);
    bool goes_on = true; /* until the mean stays, and with it all that follows */
    for (uint pass = 0; pass < CLIP_PASSES && goes_on; pass++) {
        rule.mean = mean_of(kept);
        rule.tolerance = 0;
        const Sums sums = sum_noise(rule.mean, VARIANCE_OF_COUNTS, ring, rule, work);
        goes_on = sums.count > 0 && mean_of(sums) != rule.mean;
        if (sums.count > 0)
            kept = sums;
    }
    return kept;
}

/* Writes the sums of a bin, zeros where its pixels have no weight. */
void write(const Sums sums, const bool exists, global double *out) {
    if (LANE == 0) {
        out[0] = exists ? sums.signal : 0;
        out[1] = exists ? sums.norm : 0;
        out[2] = exists ? sums.norm_sq : 0;
        out[3] = exists ? sums.count : 0;
        out[4] = exists ? sums.variance : 0;
    }
}

/* Neighbours go to many bins: on CPUs stores wait for their places unless these were called for. */
#define AHEAD 32
#if GROUPED
#define CALL_FOR(place)
#else
#define CALL_FOR(place) __builtin_prefetch(place, 1)
#endif

kernel void sort_pixels(
    global const uint *rank,         /* where a pixel goes, UINT_MAX = not used, [pixels] */
    global const uint *image_low, global const uint *image_high, global const EXPOSURE *image_lost, /* [pixels] */
    const uint pixels,
    global uint *low,                /* words of the sums, in the order of the bins */
    global uint *high, global EXPOSURE *lost, /* likewise; 0 before, or written for the same image */
    global uchar *rare)              /* of LANES entries each: whether any has these two; likewise */
{
    const uint stretch = (pixels + get_global_size(0) - 1) / get_global_size(0), first = get_global_id(0) * stretch;
    for (uint i = first; i < min(pixels, first + stretch); i++) {
        const uint to = rank[i];
        CALL_FOR(low + rank[min(i + AHEAD, pixels - 1)]);
        if (to == UINT_MAX)
            continue;
        low[to] = image_low[i];
        if (SIGNED || image_high[i] || image_lost[i]) {
            high[to] = image_high[i];
            lost[to] = image_lost[i];
            rare[to / LANES] = 1;
        }
    }
}

/* Signals, weights, ratios and keys of the entries of a bin, the first of which is `start`. */
void prepare(
    const Ring ring, const uint start, global const uint *low, global const uint *high, global const EXPOSURE *lost,
    global const uchar *rare, global const uint *norms, const EXPOSURE exposure, const double quantum,
    const double weight_unit, SHARED Workspace *work)
{
    Ranges ranges;
    clear_keys(&ranges);
    for (uint row = LANE; row < ring.entries; row += LANES) {
        const bool is_rare = rare[(start + row) / LANES];
        UNROLL
        for (uint v = 0; v < VECTORS; v++) {
            const uint i = row + 8 * v, from = start + i;
            WORDS sum = TO_WORDS(LOAD(low, from)), frames = (WORDS)exposure;
            if (is_rare) {
                sum |= TO_WORDS(LOAD(high, from)) << 32;
                frames -= TO_WORDS(LOAD(lost, from));
            }
            const REAL s = SIGNAL(sum, quantum), w = TO_REAL(LOAD(norms, from)) * TO_REAL(frames) * weight_unit;
            const REAL x = select((REAL)INFINITY, s / w, MASK(w > (REAL)0));
            const KEYS keys = keys_of(x);
            STORE(s, ring.s, i);
            STORE(w, ring.w, i);
            STORE(x, ring.x, i);
            STORE(keys, ring.key, i);
            add_keys(&ranges, v, keys, w);
        }
    }
    set_range(&ranges, work);
}

kernel void reject(
    global const uint *low, global const uint *high, /* words of the pixels' sums; each bin begins at a multiple of LANES */
    global const EXPOSURE *lost,     /* likewise */
    global const uchar *rare,        /* of LANES entries each: whether `high` and `lost` are looked at */
    global const uint *norms,        /* of the pixels in quanta, 0 for entries that are no pixel */
    global const uint *bin_start,    /* its first entry, and the end of the last, [bins + 1] */
    global const uint *first_bin,    /* of each work-item or work-group, and the end of the last, [items + 1] */
    const uint bins,
    const uint first_item,           /* which item the first of this run is */
    const EXPOSURE exposure,         /* N of the summed image when it was sorted */
    const double quantum,            /* unit of the sums, in counts */
    const double weight_unit,        /* weights are multiplied by it, so that those of a bin stay below 2^62 */
    const double thres, const uint max_iter, const double qmin, const double qmax,
    const double gain, global const double *floors, /* noise of a sum: gain x signal + floor x norm, [bins] */
    global double *signals, global double *weights, global double *ratios, global uint *keys,
    global uint *lists,              /* scratch, one an entry */
    global double *profiles          /* signal, norm, norm^2, count and variance of the three, [3][bins][5] */
#if SPLIT
    , global const float *shares     /* of the pixels in the bins, in the order of these */
#endif
    )
{
#if GROUPED
    local Workspace work;
#else
    Workspace work;
#endif
    const uint item = first_item + get_group_id(0), scratch = bin_start[first_bin[item]];
    for (uint bin = first_bin[item]; bin < first_bin[item + 1]; bin++) {
        const uint start = bin_start[bin];
        const Ring ring = {signals + scratch, weights + scratch, ratios + scratch,
                           keys + scratch,    lists + scratch,   bin_start[bin + 1] - start,
                           gain,              floors[bin] / weight_unit,
#if SPLIT
                           shares + start
#endif
        };
        prepare(ring, start, low, high, lost, rare, norms, exposure, quantum, weight_unit, &work);
        if (METHODS & SIGMA_CLIP)
            write(sigma_clip(ring, thres, max_iter, &work), true, profiles + 5 * bin);
        if (METHODS & (QUANTILE | MEDIAN_CLIP))
            count_coarse(ring, &work);
        if (METHODS & QUANTILE)
            write(quantile(ring, qmin, qmax, &work), work.total, profiles + 5 * (bins + bin));
        if (METHODS & MEDIAN_CLIP)
            write(median_clip(ring, &work), work.total, profiles + 5 * (2 * bins + bin));
    }
}
