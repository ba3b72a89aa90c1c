/* Outlier-rejecting profiles of the summed image: sigma clipping, mean between quantiles, median and Poisson clipping.
 *
 * Built after bin_sums.cl and bin_quantiles.cl, with -D LANES=<2^n, 8 or more> -D GROUPED=<0|1> -D METHODS=<see the enum>
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
 * never valid, have s = w = 0 and x = infinity, and count nowhere.
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
    const REAL variance = max((REAL)1, rule.gain * expected + rule.floor * w);
    const REAL limit = max(CLIP_SIGMAS * CLIP_SIGMAS * variance, allowed * allowed);
    return select((REAL)0, (REAL)1, MASK((d * d <= limit) & (w > (REAL)0)));
}

SUMS(Interval, in_interval, sum_interval, add_interval_variance)
SUMS(Band, in_band, sum_band, add_band_variance)
SUMS(Noise, in_noise, sum_noise, add_noise_variance)

Sums sigma_clip(const Ring ring, const double thres, const uint max_iter, SHARED Workspace *work) {
    Interval rule = {-DBL_MAX, DBL_MAX};
    Sums kept = add_interval_variance(sum_interval(ring, rule, work), CLIPS_BY_COUNTS, ring, rule, work);
    bool goes_on = kept.count > 0;
    for (uint cycle = 0; cycle < max_iter && goes_on; cycle++) {
        const double chauvenet = sqrt(2 * log(max(FEWEST, kept.count) / SQRT_2_PI)), mean = mean_of(kept);
        const double limit = max(thres, chauvenet) * max(sqrt(kept.variance / kept.norm_sq), fabs(mean) * ROUNDING);
        rule.lowest = max(rule.lowest, mean - limit);
        rule.highest = min(rule.highest, mean + limit);
        const Sums sums = sum_interval(ring, rule, work);
        const bool changed = sums.count != kept.count;
        Ring to_do = ring;
        to_do.entries = changed ? ring.entries : 0;
        const Sums fewer = add_interval_variance(sums, CLIPS_BY_COUNTS, to_do, rule, work);
        kept = changed ? fewer : kept;
        goes_on = changed && kept.count > 0;
    }
    if (CLIPS_BY_COUNTS != VARIANCE_OF_COUNTS)
        kept = add_interval_variance(kept, VARIANCE_OF_COUNTS, ring, rule, work);
    return kept;
}

Sums quantile(const Ring ring, const double qmin, const double qmax, SHARED Workspace *work) {
    const Band band = band_of(ring, qmin, qmax, work);
    return add_band_variance(sum_band(ring, band, work), VARIANCE_OF_COUNTS, ring, band, work);
}

Sums median_clip(const Ring ring, SHARED Workspace *work) {
    const double centre = median(ring, work);
    key_distances(ring, centre, work);
    count_coarse(ring, work);
    Noise rule = {centre, CLIP_SIGMAS * MAD_TO_SIGMA * median(ring, work), ring.gain, ring.floor};
    Sums kept = sum_noise(ring, rule, work);
    bool goes_on = true; /* until the mean stays, and with it all that follows */
    for (uint pass = 0; pass < CLIP_PASSES && goes_on; pass++) {
        const Noise next = {mean_of(kept), 0, ring.gain, ring.floor};
        const Sums sums = sum_noise(ring, next, work);
        goes_on = sums.count > 0 && mean_of(sums) != next.mean;
        if (sums.count > 0) {
            rule = next;
            kept = sums;
        }
    }
    return add_noise_variance(kept, VARIANCE_OF_COUNTS, ring, rule, work);
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
    global const uint *image_low, global const uint *image_high, global const EXPOSURE *image_lost, /* [pixels] */
    const uint pixels,
    const double quantum,            /* unit of the signals, in counts */
    global double *sums,             /* in counts, in the order of the bins */
    global EXPOSURE *lost)           /* likewise; 0 before, unless it was written for the same image already */
{
    const uint stretch = (pixels + get_global_size(0) - 1) / get_global_size(0), first = get_global_id(0) * stretch;
    for (uint i = first; i < min(pixels, first + stretch); i++) {
        const uint to = rank[i];
        if (to == UINT_MAX)
            continue;
        sums[to] = (double)(long)(((ulong)image_high[i] << 32) | image_low[i]) * quantum;
        if (image_lost[i])
            lost[to] = image_lost[i];
    }
}

kernel void reject(
    global const double *sums,       /* of the pixels; each bin begins at a multiple of LANES */
    global const EXPOSURE *lost,     /* likewise */
    global const uint *norm_sorted,  /* their norms in quanta, 0 for entries that are no pixel */
    global const uint *bin_start,    /* its first entry, and the end of the last, [bins + 1] */
    global const uint *first_bin,    /* of each work-item or work-group, and the end of the last, [items + 1] */
    const uint bins,
    const uint first_item,           /* which item the first of this run is */
    const EXPOSURE exposure,         /* N of the summed image when it was sorted */
    const double weight_unit,        /* weights are multiplied by it, so that those of a bin stay below 2^62 */
    const double thres, const uint max_iter, const double qmin, const double qmax,
    const double gain, global const double *floors, /* noise of a sum: gain x signal + floor x norm, [bins] */
    global double *weights, global double *ratios, global uint *keys, global uint *lists, /* scratch, one an entry */
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
        const Ring ring = {sums + start,   weights + scratch, ratios + scratch,
                           keys + scratch, lists + scratch,   bin_start[bin + 1] - start,
                           gain,           floors[bin] / weight_unit,
#if SPLIT
                           shares + start
#endif
        };
        ulong total = 0;
        uint lowest = UINT_MAX, highest = 0;
        for (uint i = LANE; i < ring.entries; i += STEP) {
            const double norm = norm_sorted[start + i];
            const double w = norm * (double)(exposure - lost[start + i]) * weight_unit;
            const double x = w > 0 ? ring.s[i] / w : INFINITY;
            const uint key = key_of(x);
            ring.w[i] = w;
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
