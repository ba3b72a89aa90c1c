/* Statistics of the summed and of the averaged image, ring by ring: exact signal and norm, two-pass float64 variance.
 *
 * Built with -D BINS=<radial bins> -D GROUP=<lanes, 2^n>.
 *
 * A work-group takes one bin. Lane l takes every GROUP-th pixel of the sorted ring beginning with the l-th, and a tree
 * adds the lanes: the order of the additions depends on GROUP alone, so every device rounds alike (contraction into
 * fused multiply-adds is off).
 *
 * With S the sum over the N_p frames in which a pixel was valid and g its norm: summed image s = S, w = g N_p; averaged
 * image s = S / N_p, w = g. Variance = sum (s - w m)^2 with m = sum s / sum w (Kieffer et al. (2025), azimuthal).
 */

#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#pragma OPENCL FP_CONTRACT OFF

#define LOW_HALF 0xFFFFFFFFUL

/* Sum of one value a lane; all lanes call it and all get the sum. */
#define DEFINE_SUM(NAME, TYPE)                                                                                         \
    TYPE NAME(const TYPE value, local TYPE *scratch) {                                                                 \
        const uint lane = get_local_id(0);                                                                             \
        barrier(CLK_LOCAL_MEM_FENCE);                                                                                  \
        scratch[lane] = value;                                                                                         \
        barrier(CLK_LOCAL_MEM_FENCE);                                                                                  \
        for (uint step = GROUP / 2; step; step >>= 1) {                                                                \
            if (lane < step)                                                                                           \
                scratch[lane] += scratch[lane + step];                                                                 \
            barrier(CLK_LOCAL_MEM_FENCE);                                                                              \
        }                                                                                                              \
        return scratch[0];                                                                                             \
    }
DEFINE_SUM(sum_ulong, ulong)
DEFINE_SUM(sum_double, double)

kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void evaluate_image(
    global const uint *order,        /* used pixels sorted by bin */
    global const uint *norm_sorted,  /* their norms in quanta */
    global const uint *bin_start,    /* first entry of each bin, and the end of the last, [BINS + 1] */
    global const uint *image_low, global const uint *image_high, global const uint *image_lost,
    const uint n_frames,             /* frames in the summed image */
    global ulong *integers,          /* [4][BINS]: signal, norm as sums of low and high 32-bit halves, count */
    global double *floats)           /* [5][BINS]: norm_sq, variance; averaged: signal, norm, variance */
{
    local ulong whole[GROUP];
    local double real[GROUP];
    const uint bin = get_group_id(0), lane = get_local_id(0);
    const uint first = bin_start[bin] + lane, last = bin_start[bin + 1];

    ulong signal = 0, norm_low = 0, norm_high = 0, count = 0, plain = 0;
    double square = 0, average = 0;
    for (uint i = first; i < last; i += GROUP) {
        const uint p = order[i], valid = n_frames - image_lost[p];
        if (valid == 0)
            continue;
        const ulong s = ((ulong)image_high[p] << 32) | image_low[p], g = norm_sorted[i], w = g * valid;
        signal += s;
        norm_low += w & LOW_HALF;
        norm_high += w >> 32;
        count += 1;
        plain += g;
        square += (double)w * (double)w;
        average += (double)s / (double)valid;
    }
    signal = sum_ulong(signal, whole);
    norm_low = sum_ulong(norm_low, whole);
    norm_high = sum_ulong(norm_high, whole);
    count = sum_ulong(count, whole);
    plain = sum_ulong(plain, whole);
    square = sum_double(square, real);
    average = sum_double(average, real);
    const double norm = (double)norm_high * 4294967296.0 + (double)norm_low;
    const double mean = count ? (double)signal / norm : 0, averaged_mean = count ? average / (double)plain : 0;

    double variance = 0, averaged_variance = 0;
    for (uint i = first; i < last; i += GROUP) {
        const uint p = order[i], valid = n_frames - image_lost[p];
        if (valid == 0)
            continue;
        const ulong s = ((ulong)image_high[p] << 32) | image_low[p], g = norm_sorted[i];
        const double d = (double)s - (double)(g * valid) * mean;
        const double a = (double)s / (double)valid - (double)g * averaged_mean;
        variance += d * d;
        averaged_variance += a * a;
    }
    variance = sum_double(variance, real);
    averaged_variance = sum_double(averaged_variance, real);
    if (lane == 0) {
        integers[bin] = signal;
        integers[BINS + bin] = norm_low;
        integers[2 * BINS + bin] = norm_high;
        integers[3 * BINS + bin] = count;
        floats[bin] = square;
        floats[BINS + bin] = variance;
        floats[2 * BINS + bin] = average;
        floats[3 * BINS + bin] = (double)plain;
        floats[4 * BINS + bin] = averaged_variance;
    }
}
