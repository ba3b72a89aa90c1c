/* Statistics of the summed and of the averaged image, in two passes over the pixels.
 *
 * Built with -D BINS=<radial bins> -D SECTORS=<azimuthal sectors> -D ITEMS=<work-items> -D COPIES=<cakes>, and with
 * -D EXPOSURE=<uint|ulong>, what frames count in, and -D UNIT=<one of it>; -D MONITORED where that is their monitor.
 *
 * A work-item takes one contiguous stretch of pixels, as runs within one sector each, and adds to its own histograms;
 * `sum_items` adds the work-items in order. The order of the additions depends on ITEMS alone, and fused multiply-adds
 * are off: devices with the same ITEMS round alike. The cake (sums of each sector of each bin) is too large for 2000
 * work-items: all integers, it is either one for each work-item (COPIES = ITEMS) or shared through atomics (COPIES = 1).
 *
 * Sums of signals are two's complement: a dark may make them negative.
 *
 * With S the sum over the N_p frames in which a pixel was valid, N the number of all frames and g its norm: summed image
 * s = S, w = g N_p; averaged image s = S / N_p, w = g. Pass one sums s and w, pass two (s - w m)^2 with m = sum s /
 * sum w (Kieffer et al. (2025), azimuthal). Pixels that lost a frame (N_p < N) are rare, and summed apart: all others
 * have w = g N, whose sum is static. With a monitor each frame counts not for 1 but for its exposure f, in units of
 * 2^-20: N and N_p are then sums of f.
 */

#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#pragma OPENCL FP_CONTRACT OFF

#ifdef MONITORED
#define MISSING_PLANES 3
#else
#define MISSING_PLANES 2
#endif

#define LOST_PLANES (6 + MISSING_PLANES)
#define LOW_HALF 0xFFFFFFFFUL
#define CAKE (SECTORS * BINS)

#if COPIES < ITEMS
#pragma OPENCL EXTENSION cl_khr_int64_base_atomics : enable
#define ADD(target, value) atom_add(&(target), (ulong)(value))
#else
#define ADD(target, value) (target) += (value)
#endif

/* Norms in the cake are in units of 2^10 quanta, so that the sums of any series fit in 64 bits. */
#define COARSE(norm) (((ulong)(norm) + 512) >> 10)

/* Adds a double to a cell of an array of 64-bit words. */
void add_double(global ulong *cell, const double value) { *cell = as_ulong(as_double(*cell) + value); }

kernel void first_pass(
    global const uint *run_start,    /* first pixel of each run, and the end of the last */
    global const uchar *run_sector,  /* its azimuthal sector */
    global const uint *first_run,    /* of each work-item, and the end of the last, [ITEMS + 1] */
    global const ushort *bin_table,  /* radial bin of a pixel, BINS = not used, [PIXELS] */
    global const uint *norm_q,       /* norm of a pixel in quanta, [PIXELS] */
    global const uint *image_low, global const uint *image_high, /* S, [PIXELS] */
    global const EXPOSURE *image_lost, /* N - N_p, [PIXELS] */
    const EXPOSURE exposure,         /* N of the summed image */
    const uint shift,                /* bits that N - N_p loses in the cake */
    global ulong *cakes,             /* sum S and coarse sum of g (N - N_p), [COPIES][2][SECTORS][BINS], zero before */
    global ulong *partial)           /* of pixels that lost frames: sum S, number of pixels lost in all frames, their
                                        norms, g (N - N_p) as sums of 32-bit digits; of all pixels: the number of those
                                        that are valid and have S = 0; of pixels that lost frames: S / N_p (double),
                                        (g N)^2 - (g N_p)^2 (double), [ITEMS][LOST_PLANES][BINS] */
{
    const uint item = get_global_id(0);
    global ulong *cake = cakes + (size_t)(item % COPIES) * 2 * CAKE;
    global ulong *losses = partial + (size_t)item * LOST_PLANES * BINS;
    for (uint i = 0; i < LOST_PLANES * BINS; i++)
        losses[i] = 0;

    for (uint run = first_run[item]; run < first_run[item + 1]; run++) {
        global ulong *sums = cake + run_sector[run] * BINS, *missing_norms = sums + CAKE;
        for (uint i = run_start[run]; i < run_start[run + 1]; i++) {
            const uint bin = bin_table[i];
            if (bin >= BINS)
                continue;
            const ulong s = ((ulong)image_high[i] << 32) | image_low[i];
            ADD(sums[bin], s);
            const EXPOSURE lost = image_lost[i];
            losses[(3 + MISSING_PLANES) * BINS + bin] += (s == 0) & (lost < exposure);
            if (lost) {
                const ulong g = norm_q[i], valid = exposure - lost, missing = g * (lost & LOW_HALF);
                const double full = (double)g * (double)exposure, weight = (double)g * (double)valid;
                ADD(missing_norms[bin], COARSE(g) * (lost >> shift));
                global ulong *at = losses + bin;
                at[0] += s;
                at[BINS] += valid == 0;
                at[2 * BINS] += valid == 0 ? g : 0;
                at[3 * BINS] += missing & LOW_HALF;
#ifdef MONITORED
                const ulong missing_high = g * (lost >> 32) + (missing >> 32);
                at[4 * BINS] += missing_high & LOW_HALF;
                at[5 * BINS] += missing_high >> 32;
#else
                at[4 * BINS] += missing >> 32;
#endif
                add_double(at + (4 + MISSING_PLANES) * BINS, valid ? (double)(long)s / ((double)valid * UNIT) : 0.0);
                add_double(at + (5 + MISSING_PLANES) * BINS, full * full - weight * weight);
            }
        }
    }
}

kernel void second_pass(
    global const uint *run_start, global const uchar *run_sector, global const uint *first_run,
    global const ushort *bin_table, global const uint *norm_q,
    global const uint *image_low, global const uint *image_high, global const EXPOSURE *image_lost,
    const EXPOSURE exposure,
    global const double2 *mean,      /* m of the summed image per frame (m N), and of the averaged image, [BINS] */
    global const double *per_square, /* 2^60 / (what the squares of the pixels of a bin cannot add up to more than) */
    global ulong *cakes,             /* sums of (s - w m)^2 per_square, rounded down, [COPIES][2][SECTORS][BINS], zero
                                        before; the first of the two is used. They cannot overflow: of counts, for
                                        one, the squares add up to no more than the square of their sum. */
    global double2 *partial)         /* variance of the summed and of the averaged image, [ITEMS][BINS] */
{
    const uint item = get_global_id(0);
    global ulong *cake = cakes + (size_t)(item % COPIES) * 2 * CAKE;
    global double2 *sums = partial + (size_t)item * BINS;
    for (uint i = 0; i < BINS; i++)
        sums[i] = (double2)0;

    const double all = (double)exposure * UNIT, one_frame = 1.0 / all;
    for (uint run = first_run[item]; run < first_run[item + 1]; run++) {
        global ulong *scatter = cake + run_sector[run] * BINS;
        for (uint i = run_start[run]; i < run_start[run + 1]; i++) {
            const uint bin = bin_table[i];
            if (bin >= BINS)
                continue;
            const EXPOSURE lost = image_lost[i];
            if (lost == exposure)
                continue;
            const double s = (double)(long)(((ulong)image_high[i] << 32) | image_low[i]), g = norm_q[i];
            double valid = 1, average = s * one_frame;
            if (lost) {
                const double n = (double)(exposure - lost) * UNIT;
                valid = n * one_frame;
                average = s / n;
            }
            const double2 m = mean[bin];
            const double2 d = (double2)(s - g * valid * m.x, average - g * m.y);
            sums[bin] += d * d;
            ADD(scatter[bin], (ulong)(d.x * d.x * per_square[bin]));
        }
    }
}

/* Norms of the used pixels: what the cake holds before any is lost. */
kernel void sum_norms(
    global const uint *run_start, global const uchar *run_sector, global const uint *first_run,
    global const ushort *bin_table, global const uint *norm_q,
    global ulong *cakes)             /* [COPIES][2][SECTORS][BINS], zero before; the first of the two is used */
{
    const uint item = get_global_id(0);
    global ulong *cake = cakes + (size_t)(item % COPIES) * 2 * CAKE;
    for (uint run = first_run[item]; run < first_run[item + 1]; run++)
        for (uint i = run_start[run]; i < run_start[run + 1]; i++)
            if (bin_table[i] < BINS)
                ADD(cake[run_sector[run] * BINS + bin_table[i]], COARSE(norm_q[i]));
}

/* Adds histograms in order; one work-item for each cell. */
kernel void sum_items(
    global const ulong *partial,     /* [items][cells] */
    const uint items,
    const uint floats,               /* cells from here on are doubles */
    global ulong *total)             /* [cells] */
{
    const uint cell = get_global_id(0), cells = get_global_size(0);
    ulong sum = 0;
    double float_sum = 0;
    for (uint item = 0; item < items; item++) {
        const ulong value = partial[(size_t)item * cells + cell];
        sum += value;
        float_sum += as_double(value);
    }
    total[cell] = cell < floats ? sum : as_ulong(float_sum);
}
