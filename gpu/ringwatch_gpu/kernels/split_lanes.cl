/* Sums of split pixels, eight frames at once, for CPU devices.
 *
 * Built after lanes.cl (and signal.cl, where signals are signed), whose constants, pixel access and `reduce_items` it uses,
 * and the rule of valid pixels; with -D NOISE=<0|1>, whether c^2 s is summed too; and with -D EXPOSURE and
 * -D UNIT as image.cl (with a monitor N_p is a sum of exposures).
 *
 * A pixel reaches one bin or several adjacent ones, with a share c <= 1 in each: c s and c g take the place of signal and
 * norm. Products with s are summed in float64; what invalid pixels take away is summed in integers, with the norm of an
 * entry rounded to a quantum and c in 2^-24: so nothing is left in a bin that lost all its pixels.
 */

#pragma OPENCL EXTENSION cl_khr_fp64 : enable

#define SHARE_QUANTA 16777216.0f /* 2^24 */
#define SPLIT_SUMS (SUMS + NOISE) /* and of the noise: c^2 s */
#define IMAGE_SUMS 2 /* double8 each, see sum_image */

#ifdef SIGNED
#define REAL_OF(v) convert_double8(as_int8(v))
#else
#define REAL_OF(v) convert_double8(v)
#endif

/* Norm of an entry: a whole number of quanta. (Adding 2^52 rounds; `rint` is a slow call for some compilers.) */
double entry_norm(const double share, const double norm) {
#pragma OPENCL FP_CONTRACT OFF
    const double rounded = share * norm + 0x1p52;
    return rounded - 0x1p52;
}

/* Adds the invalid lanes of the pixel i, part by part. */
#define ADD_LOST_PARTS(bad)                                                                                            \
    {                                                                                                                  \
        const ulong8 one = convert_ulong8(bad & 1);                                                                    \
        global ulong8 *loss = losses + bin * LOST;                                                                     \
        for (uint e = begin; e < end; e++, loss += LOST) {                                                             \
            const ulong part = entry_norm(shares[e], norm), square = part * part;                                      \
            loss[0] += one * (ulong)rint(shares[e] * SHARE_QUANTA);                                                    \
            loss[1] += one * part;                                                                                     \
            loss[2] += one * (square & LOW_HALF);                                                                      \
            loss[3] += one * (square >> 32);                                                                           \
        }                                                                                                              \
        image_lost[i] += sum_of(as_uint8(bad & 1));                                                                    \
    }

kernel void integrate_split(
    global const PIXEL *frames,      /* counts, [8][PIXELS] */
    global const PIXEL *zeros,       /* a frame of zeros, [PIXELS] */
    global const ushort *bin_table,  /* BINS = pixel not used, [PIXELS] */
    global const uint *norm_q,       /* norm of a pixel in quanta, [PIXELS] */
    global const ushort *first_bin,  /* first bin that a pixel reaches, [PIXELS] */
    global const uint *entry_start,  /* its first entry, and the end of the last, [PIXELS + 1] */
    global const float *shares,      /* share in a bin, [entries] */
    const uint used,                 /* number of frames in this batch, 1..8 */
    const uint rare,                 /* below this every value is valid and eight of them fit in 32 bits */
    const uint limit,                /* largest valid value */
    const uint4 dummies,             /* values that are invalid, repeated if fewer than four */
    global double8 *partial,         /* sums of each work-item, [ITEMS][BINS][SPLIT_SUMS], a frame a lane */
    global ulong8 *partial_lost,     /* of its invalid pixels: c in 2^-24, norm, norm^2 in halves, [ITEMS][BINS][LOST] */
    global uint *image_low,          /* pixel-wise sum of valid counts, low word, [PIXELS] */
    global uint *image_high,         /* its high word */
    global uint *image_lost          /* number of frames in which the pixel was invalid, [PIXELS] */
    DARK)
{
    const uint item = get_global_id(0);
    const uint first = item * STRETCH, last = min((uint)PIXELS, first + STRETCH);
    POINTERS
    global double8 *sums = partial + (size_t)item * BINS * SPLIT_SUMS;
    global ulong8 *losses = partial_lost + (size_t)item * BINS * LOST;
    for (uint i = 0; i < BINS * SPLIT_SUMS; i++)
        sums[i] = (double8)0;
    for (uint i = 0; i < BINS * LOST; i++)
        losses[i] = (ulong8)0;

    for (uint i = first; i < last; i++) {
        if (bin_table[i] >= BINS)
            continue;
        const double norm = norm_q[i];
        const uint begin = entry_start[i], end = entry_start[i + 1], bin = first_bin[i];
        uint8 v = LOAD(i);
        ulong image;
#ifdef SIGNED
        const int8 bad = invalid_lanes(v, limit, dummies, used);
        if (any(bad))
            ADD_LOST_PARTS(bad)
        v = select((uint8)0, signal_of8(v, (int8)dark[i]), lanes_in_use(used) & ~bad);
        image = sum_of_wide(v);
#else
        if (or_of(v) < rare) {
            image = sum_of(v);
        } else {
            const int8 bad = invalid_lanes(v, limit, dummies, used);
            if (any(bad)) {
                ADD_LOST_PARTS(bad)
                v = select(v, (uint8)0, bad);
            }
            image = sum_of_wide(v);
        }
#endif
        const ulong pixel = image_low[i] + image;
        image_low[i] = (uint)pixel;
        if (pixel >> 32)
            image_high[i] += (uint)(pixel >> 32);
        const double8 s = REAL_OF(v);
        global double8 *at = sums + bin * SPLIT_SUMS;
        for (uint e = begin; e < end; e++, at += SPLIT_SUMS) {
            const double8 part = s * (double)shares[e];
            at[0] += part;
            at[1] += part * part;
            at[2] += part * entry_norm(shares[e], norm);
#if NOISE
            at[3] += part * (double)shares[e];
#endif
        }
    }
}

/* Adds the histograms of all work-items in order; one work-item for each bin and sum. */
kernel void reduce_split(
    global const double8 *partial,   /* [ITEMS][BINS][SPLIT_SUMS], a frame a lane */
    global double *frame_sums)       /* [8][SPLIT_SUMS][BINS] */
{
    const uint at = get_global_id(0), bin = at / SPLIT_SUMS, sum = at % SPLIT_SUMS;
    double8 total = (double8)0;
    for (uint item = 0; item < ITEMS; item++)
        total += partial[((size_t)item * BINS + bin) * SPLIT_SUMS + sum];
    global double *out = frame_sums + sum * BINS + bin;
    const size_t frame = SPLIT_SUMS * BINS;
    out[0] = total.s0;
    out[frame] = total.s1;
    out[2 * frame] = total.s2;
    out[3 * frame] = total.s3;
    out[4 * frame] = total.s4;
    out[5 * frame] = total.s5;
    out[6 * frame] = total.s6;
    out[7 * frame] = total.s7;
}

/* Sums of the summed image (s = S, w = g N_p) and of the averaged one (s = S / N_p, w = g), N_p frames being valid:
 * c s, (c s)^2, c s w, w, w^2 and c of either, then of the first c^2 S, and c^2 where S = 0, of the second S^2 and 0. */
kernel void sum_image(
    global const ushort *bin_table, global const uint *norm_q,
    global const ushort *first_bin, global const uint *entry_start, global const float *shares,
    global const uint *image_low, global const uint *image_high, /* S, two's complement, [PIXELS] */
    global const EXPOSURE *image_lost, /* N - N_p, [PIXELS] */
    const EXPOSURE exposure,         /* N of the summed image */
    global double8 *partial)         /* [ITEMS][BINS][IMAGE_SUMS] */
{
    const uint item = get_global_id(0);
    const uint first = item * STRETCH, last = min((uint)PIXELS, first + STRETCH);
    global double8 *sums = partial + (size_t)item * BINS * IMAGE_SUMS;
    for (uint i = 0; i < BINS * IMAGE_SUMS; i++)
        sums[i] = (double8)0;

    for (uint i = first; i < last; i++) {
        const EXPOSURE lost = image_lost[i];
        if (bin_table[i] >= BINS || lost == exposure)
            continue;
        const double valid = exposure - lost, norm = norm_q[i];
        const double total = (double)(long)(((ulong)image_high[i] << 32) | image_low[i]);
        const double average = total / (valid * UNIT), zero = total == 0;
        global double8 *at = sums + first_bin[i] * IMAGE_SUMS;
        for (uint e = entry_start[i]; e < entry_start[i + 1]; e++, at += IMAGE_SUMS) {
            const double c = shares[e], w = entry_norm(shares[e], norm), ww = w * w;
            const double s = c * total, a = c * average;
            at[0] += (double8)(s, s * s, s * w * valid, w * valid, ww * valid * valid, c, c * s, c * c * zero);
            at[1] += (double8)(a, a * a, a * w, w, ww, c, total * total, 0);
        }
    }
}

/* Adds the histograms of all work-items in order; one work-item for each bin and image. */
kernel void reduce_image(
    global const double8 *partial,   /* [ITEMS][BINS][IMAGE_SUMS] */
    global double8 *total)           /* [BINS][IMAGE_SUMS] */
{
    const uint at = get_global_id(0);
    double8 sum = (double8)0;
    for (uint item = 0; item < ITEMS; item++)
        sum += partial[(size_t)item * BINS * IMAGE_SUMS + at];
    total[at] = sum;
}
