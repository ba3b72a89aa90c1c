/* Statistics of the summed and of the averaged image, in two passes over the pixels.
 *
 * Built with -D PIXELS=<pixels of a frame> -D BINS=<radial bins> -D ITEMS=<work-items>.
 *
 * A work-item takes one contiguous stretch of pixels and adds to its own histogram; `sum_items` adds the work-items in
 * order. The order of the additions depends on ITEMS alone, and fused multiply-adds are off: devices with the same ITEMS
 * round alike.
 *
 * With S the sum over the N_p frames in which a pixel was valid, N the number of all frames and g its norm: summed image
 * s = S, w = g N_p; averaged image s = S / N_p, w = g. Pass one sums s and w, pass two (s - w m)^2 with m = sum s /
 * sum w (Kieffer et al. (2025), azimuthal). Pixels that lost a frame (N_p < N) are rare, and summed apart: all others
 * have w = g N, whose sum is static.
 */

#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#pragma OPENCL FP_CONTRACT OFF

#define FIRST_PLANES 8 /* one for every pixel, seven for pixels that lost a frame */
#define SECOND_PLANES 2
#define LOW_HALF 0xFFFFFFFFUL

#define STRETCH ((PIXELS + ITEMS - 1) / ITEMS)

/* Adds a double to a cell of an array of 64-bit words. */
void add_double(global ulong *cell, const double value) { *cell = as_ulong(as_double(*cell) + value); }

kernel void first_pass(
    global const ushort *bin_table,  /* radial bin of a pixel, BINS = not used, [PIXELS] */
    global const uint *norm_q,       /* norm of a pixel in quanta, [PIXELS] */
    global const uint *image_low, global const uint *image_high, global const uint *image_lost, /* [PIXELS] */
    const uint n_frames,             /* frames in the summed image */
    global ulong *partial)           /* [ITEMS][BINS][FIRST_PLANES]: sum S; of pixels that lost frames: sum S, number of
                                        pixels lost in all frames, their norms, g (N - N_p) as sums of 32-bit halves,
                                        S / N_p (double), (g N)^2 - (g N_p)^2 (double) */
{
    const uint item = get_global_id(0);
    const uint first = item * STRETCH, last = min((uint)PIXELS, first + STRETCH);
    global ulong *sums = partial + (size_t)item * BINS * FIRST_PLANES;
    for (uint i = 0; i < BINS * FIRST_PLANES; i++)
        sums[i] = 0;

    for (uint i = first; i < last; i++) {
        const uint bin = bin_table[i];
        if (bin >= BINS)
            continue;
        global ulong *at = sums + bin * FIRST_PLANES;
        const ulong s = ((ulong)image_high[i] << 32) | image_low[i];
        at[0] += s;
        const uint lost = image_lost[i];
        if (lost) {
            const ulong g = norm_q[i], missing = g * lost, valid = n_frames - lost;
            const double full = (double)(g * n_frames), weight = (double)(g * valid);
            at[1] += s;
            at[2] += valid == 0;
            at[3] += valid == 0 ? g : 0;
            at[4] += missing & LOW_HALF;
            at[5] += missing >> 32;
            add_double(at + 6, valid ? (double)s / (double)valid : 0.0);
            add_double(at + 7, full * full - weight * weight);
        }
    }
}

kernel void second_pass(
    global const ushort *bin_table, global const uint *norm_q,
    global const uint *image_low, global const uint *image_high, global const uint *image_lost,
    const uint n_frames,
    global const double2 *mean,      /* m of the summed image per frame (m N), and of the averaged image, [BINS] */
    global double2 *partial)         /* variance of the summed and of the averaged image, [ITEMS][BINS] */
{
    const uint item = get_global_id(0);
    const uint first = item * STRETCH, last = min((uint)PIXELS, first + STRETCH);
    global double2 *sums = partial + (size_t)item * BINS;
    for (uint i = 0; i < BINS; i++)
        sums[i] = (double2)0;

    const double all = n_frames, one_frame = 1.0 / all;
    for (uint i = first; i < last; i++) {
        const uint bin = bin_table[i];
        if (bin >= BINS)
            continue;
        const uint lost = image_lost[i];
        if (lost == n_frames)
            continue;
        const double s = (double)(((ulong)image_high[i] << 32) | image_low[i]), g = norm_q[i];
        double valid = 1, average = s * one_frame;
        if (lost) {
            const double n = n_frames - lost;
            valid = n * one_frame;
            average = s / n;
        }
        const double2 m = mean[bin];
        const double2 d = (double2)(s - g * valid * m.x, average - g * m.y);
        sums[bin] += d * d;
    }
}

/* Adds the histograms of all work-items in order; one work-item for each cell. `planes` from `floats` on are doubles. */
kernel void sum_items(
    global const ulong *partial,     /* [ITEMS][BINS][planes] */
    const uint planes, const uint floats,
    global ulong *total)             /* [BINS][planes] */
{
    const uint cell = get_global_id(0);
    global const ulong *at = partial + cell;
    const size_t step = (size_t)BINS * planes;
    if (cell % planes >= floats) {
        double sum = 0;
        for (uint item = 0; item < ITEMS; item++)
            sum += as_double(at[item * step]);
        total[cell] = as_ulong(sum);
    } else {
        ulong sum = 0;
        for (uint item = 0; item < ITEMS; item++)
            sum += at[item * step];
        total[cell] = sum;
    }
}
