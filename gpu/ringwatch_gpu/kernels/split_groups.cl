/* Sums of split pixels, for GPU devices: entries sorted by bin, work-groups, trees.
 *
 * Built after groups.cl (and signal.cl, where signals are signed), whose constants, rule of valid pixels, `add_group` and
 * `accumulate_image` it uses; with -D NOISE=<0|1> -D EXPOSURE and -D UNIT as split_lanes.cl.
 *
 * An entry is a pixel with its share c <= 1 in a bin; they are sorted by bin and cut into segments that lie within one bin.
 * A work-group adds one segment of one frame; as there are no atomic additions of doubles, a second kernel adds the
 * segments of a bin in order. What invalid pixels take away is integers, see split_lanes.cl.
 */

#pragma OPENCL EXTENSION cl_khr_fp64 : enable

#define SHARE_QUANTA 16777216.0f /* 2^24 */
#define SPLIT_SUMS (SUMS + NOISE) /* and of the noise: c^2 s */
#define IMAGE_SUMS 8 /* see sum_image */

#ifdef SIGNED
#define REAL_OF(v, i) ((double)(int)signal_of(v, dark[i]))
#else
#define REAL_OF(v, i) ((double)(v))
#endif

/* Writes the sum of one value of every lane; all lanes of the group must call it. */
void write_group(const double value, local double *scratch, global double *target) {
    const uint lane = get_local_id(0);
    scratch[lane] = value;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint step = GROUP / 2; step; step >>= 1) {
        if (lane < step)
            scratch[lane] += scratch[lane + step];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    if (lane == 0)
        *target = scratch[0];
    barrier(CLK_LOCAL_MEM_FENCE);
}

kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void integrate_split(
    global const PIXEL *frames,        /* counts, [batch][PIXELS] */
    global const uint *order,          /* pixel of each entry, sorted by bin */
    global const float *shares,        /* their shares in the bin */
    global const uint *norms,          /* their norms in quanta */
    global const uint *segment_start,  /* first entry of each segment, and the end of the last, [segments + 1] */
    global const ushort *segment_bin,  /* bin of each segment, [segments] */
    const uint limit,                  /* largest valid value */
    const uint4 dummies,               /* values that are invalid, repeated if fewer than four */
    global double *partial,            /* signal, signal^2, norm x signal, noise, [batch][SPLIT_SUMS][segments] */
    global ulong *lost_sums            /* c in 2^-24, norm, norm^2 in halves, [batch][LOST][BINS], zero before */
    DARK)
{
    local double scratch[GROUP];
    local ulong lost_scratch[GROUP];
    const uint segment = get_group_id(0), segments = get_num_groups(0), frame = get_group_id(1), lane = get_local_id(0);
    global const PIXEL *pixels = frames + (size_t)frame * PIXELS;
    double signal = 0, signal_sq = 0, norm_signal = 0, noise_signal = 0;
    ulong lost = 0, lost_norm = 0, lost_sq_low = 0, lost_sq_high = 0;
    for (uint i = segment_start[segment] + lane; i < segment_start[segment + 1]; i += GROUP) {
        const uint v = VALUE(pixels[order[i]]);
        if (is_invalid(v, limit, dummies)) {
            const ulong norm = norms[i], square = norm * norm;
            lost += (ulong)rint(shares[i] * SHARE_QUANTA);
            lost_norm += norm;
            lost_sq_low += square & LOW_HALF;
            lost_sq_high += square >> 32;
        } else {
            const double s = shares[i] * REAL_OF(v, order[i]);
            signal += s;
            signal_sq += s * s;
            norm_signal += s * norms[i];
            noise_signal += s * shares[i];
        }
    }
    global double *at = partial + (size_t)frame * SPLIT_SUMS * segments + segment;
    write_group(signal, scratch, at);
    write_group(signal_sq, scratch, at + segments);
    write_group(norm_signal, scratch, at + 2 * segments);
#if NOISE
    write_group(noise_signal, scratch, at + 3 * segments);
#endif
    global ulong *gone = lost_sums + (size_t)frame * LOST * BINS + segment_bin[segment];
    add_group(lost, lost_scratch, gone);
    add_group(lost_norm, lost_scratch, gone + BINS);
    add_group(lost_sq_low, lost_scratch, gone + 2 * BINS);
    add_group(lost_sq_high, lost_scratch, gone + 3 * BINS);
}

/* Sums of the summed image (s = S, w = g N_p) and of the averaged one (s = S / N_p, w = g), N_p frames being valid:
 * c s, (c s)^2, c s w, w, w^2 and c of either, then of the first c^2 S, and c^2 where S = 0, of the second S^2 and 0. */
kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void sum_image(
    global const uint *order, global const float *shares, global const uint *norms, global const uint *segment_start,
    global const uint *image_low, global const uint *image_high, /* S, two's complement, [PIXELS] */
    global const EXPOSURE *image_lost, /* N - N_p, [PIXELS] */
    const EXPOSURE exposure,           /* N of the summed image */
    global double *partial)            /* [2][IMAGE_SUMS][segments] */
{
    local double scratch[GROUP];
    const uint segment = get_group_id(0), segments = get_num_groups(0), lane = get_local_id(0);
    double8 sums[2] = {(double8)0, (double8)0};
    for (uint i = segment_start[segment] + lane; i < segment_start[segment + 1]; i += GROUP) {
        const uint pixel = order[i];
        const EXPOSURE lost = image_lost[pixel];
        if (lost == exposure)
            continue;
        const double valid = exposure - lost, total = (double)(long)(((ulong)image_high[pixel] << 32) | image_low[pixel]);
        const double c = shares[i], w = norms[i], ww = w * w, zero = total == 0;
        const double s = c * total, a = c * (total / (valid * UNIT));
        sums[0] += (double8)(s, s * s, s * w * valid, w * valid, ww * valid * valid, c, c * s, c * c * zero);
        sums[1] += (double8)(a, a * a, a * w, w, ww, c, total * total, 0);
    }
    for (uint image = 0; image < 2; image++) {
        global double *at = partial + (size_t)image * IMAGE_SUMS * segments + segment;
        double lanes[IMAGE_SUMS];
        vstore8(sums[image], 0, lanes);
        for (uint sum = 0; sum < IMAGE_SUMS; sum++)
            write_group(lanes[sum], scratch, at + sum * segments);
    }
}

/* Adds the segments of each bin in order; work-items are (bins, planes). */
kernel void sum_segments(
    global const double *partial,      /* [planes][segments] */
    global const uint *first_segment,  /* of each bin, and the end of the last, [BINS + 1] */
    const uint segments,
    global double *sums)               /* [planes][BINS] */
{
    const uint bin = get_global_id(0), plane = get_global_id(1);
    double total = 0;
    for (uint segment = first_segment[bin]; segment < first_segment[bin + 1]; segment++)
        total += partial[(size_t)plane * segments + segment];
    sums[plane * BINS + bin] = total;
}
