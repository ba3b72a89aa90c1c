/* Sums of split pixels, eight frames at once, for CPU devices.
 *
 * Built after lanes.cl (and signal.cl, where signals are signed), whose constants, pixel access and `reduce_items` it
 * uses, and the rule of valid pixels; with -D TILE=<pixels of a tile, a multiple of 8> -D LINE=<bytes of a cache line>;
 * with -D NOISE=<0|1>, whether c^2 s is summed too; with -D AT_ONCE=<4|8>, how many frames an instruction adds up; and
 * with -D EXPOSURE and -D UNIT as image.cl (with a monitor N_p is a sum of exposures).
 *
 * A pixel reaches one bin or several adjacent ones, with a share c <= 1 in each: c s and c g take the place of signal
 * and norm. Products with s are summed in float64; what invalid pixels take away is summed in integers, with the norm of
 * an entry rounded to a quantum and c in 2^-24: so nothing is left in a bin that lost all its pixels.
 *
 * A work-item takes tiles of consecutive pixels, one after another. First it writes the signals of a tile to a buffer
 * that stays in the L2 cache, the eight frames of a pixel side by side; then it adds them up bin by bin, in registers.
 */

#pragma OPENCL EXTENSION cl_khr_fp64 : enable

#define SHARE_QUANTA 16777216.0f /* 2^24 */
#define SPLIT_SUMS (SUMS + NOISE) /* and of the noise: c^2 s */
#define IMAGE_SUMS 2 /* double8 each, see sum_image */

#define UNROLL _Pragma("unroll") /* so that what is summed stays in registers */
#define FRAMES(type) VECTOR(type, AT_ONCE)
#define PASSES (8 / AT_ONCE)
#define REALS_OF(v) VECTOR(convert_double, AT_ONCE)(v)
#ifdef SIGNED
#define SIGNALS_OF(v) REALS_OF(VECTOR(as_int, AT_ONCE)(v))
#else
#define SIGNALS_OF(v) REALS_OF(v)
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
        const double norm = norm_q[i];                                                                                 \
        const ulong8 one = convert_ulong8(bad & 1);                                                                    \
        global ulong8 *loss = losses + first_bin[i] * LOST;                                                            \
        for (uint e = entry_start[i]; e < entry_start[i + 1]; e++, loss += LOST) {                                     \
            const ulong part = entry_norm(shares[e], norm), square = part * part;                                      \
            loss[0] += one * (ulong)rint(shares[e] * SHARE_QUANTA);                                                    \
            loss[1] += one * part;                                                                                     \
            loss[2] += one * (square & LOW_HALF);                                                                      \
            loss[3] += one * (square >> 32);                                                                           \
        }                                                                                                              \
        image_lost[i] += sum_of(as_uint8(bad & 1));                                                                    \
    }

/* Signals of the eight pixels from i on in the frame k, 0 where they are not used; their sum over the frames, and
 * whether one of them is invalid or large, which needs a closer look. */
#ifdef SIGNED
#define SUM ulong8
#define IN_DOUBT(doubt) (or_of(doubt) != 0)
#define ROW(k)                                                                                                         \
    {                                                                                                                  \
        const int8 counts = in_bin & (int8)(k < used ? -1 : 0);                                                        \
        const uint8 raw = RAW(8, vload8(0, p##k + i));                                                                 \
        doubt |= as_uint8(is_invalid8(raw, limit, dummies) & counts);                                                  \
        row[k] = signal_of8(raw, vload8(0, dark + i)) & as_uint8(counts);                                              \
        sum += WIDE_OF(8, row[k]);                                                                                     \
    }
#define SIGNAL(v, i) signal_of8(v, (int8)dark[i])
#else
#define SUM uint8
#define IN_DOUBT(doubt) (or_of(doubt) >= rare)
#define ROW(k)                                                                                                         \
    {                                                                                                                  \
        row[k] = convert_uint8(vload8(0, p##k + i)) & as_uint8(in_bin);                                                \
        doubt |= row[k];                                                                                               \
        sum += row[k];                                                                                                 \
    }
#define SIGNAL(v, i) (v)
#endif

/* Adds to eight pixels of the summed image. */
void add_to_image(const ulong8 sum, global uint *image_low, global uint *image_high) {
    const ulong8 total = convert_ulong8(vload8(0, image_low)) + sum;
    const uint8 carry = convert_uint8(total >> 32);
    vstore8(convert_uint8(total), 0, image_low);
    if (or_of(carry))
        vstore8(vload8(0, image_high) + carry, 0, image_high);
}

/* Turns eight pixels of each of eight frames, in three steps, to eight frames of each of eight pixels. */
#define PAIRS(a, b, x, y)                                                                                              \
    const uint8 a = (uint8)(x.s0, y.s0, x.s2, y.s2, x.s4, y.s4, x.s6, y.s6);                                           \
    const uint8 b = (uint8)(x.s1, y.s1, x.s3, y.s3, x.s5, y.s5, x.s7, y.s7);
#define FOURS(a, b, x, y)                                                                                              \
    const uint8 a = (uint8)(x.s01, y.s01, x.s45, y.s45);                                                               \
    const uint8 b = (uint8)(x.s23, y.s23, x.s67, y.s67);
#define EIGHTS(a, b, x, y)                                                                                             \
    pixels[a] = (uint8)(x.lo, y.lo);                                                                                   \
    pixels[b] = (uint8)(x.hi, y.hi);

void transpose(const uint8 *row, global uint8 *pixels) {
    PAIRS(a0, a1, row[0], row[1])
    PAIRS(a2, a3, row[2], row[3])
    PAIRS(a4, a5, row[4], row[5])
    PAIRS(a6, a7, row[6], row[7])
    FOURS(b0, b2, a0, a2)
    FOURS(b1, b3, a1, a3)
    FOURS(b4, b6, a4, a6)
    FOURS(b5, b7, a5, a7)
    EIGHTS(0, 4, b0, b4)
    EIGHTS(1, 5, b1, b5)
    EIGHTS(2, 6, b2, b6)
    EIGHTS(3, 7, b3, b7)
}

/* Adds some entries of a tile that lie in one bin to the sums of this bin. Share and norm are repeated before they are
 * converted: that is one instruction.
 */
void add_parts(
    global const FRAMES(uint) *signals, global const ushort *places, global const float *shares,
    global const uint *norms, const uint entries, global FRAMES(double) *sums)
{
    FRAMES(double) totals[SPLIT_SUMS][PASSES];
    UNROLL for (uint sum = 0; sum < SPLIT_SUMS; sum++)
        UNROLL for (uint pass = 0; pass < PASSES; pass++)
            totals[sum][pass] = (FRAMES(double))0;
    for (uint e = 0; e < entries; e++) {
        const FRAMES(double) share = REALS_OF((FRAMES(float))shares[e]), norm = REALS_OF((FRAMES(uint))norms[e]);
        UNROLL for (uint pass = 0; pass < PASSES; pass++) {
            const FRAMES(double) part = SIGNALS_OF(signals[places[e] * PASSES + pass]) * share;
            totals[0][pass] += part;
            totals[1][pass] += part * part;
            totals[2][pass] += part * norm;
#if NOISE
            totals[3][pass] += part * share;
#endif
        }
    }
    UNROLL for (uint sum = 0; sum < SPLIT_SUMS; sum++)
        UNROLL for (uint pass = 0; pass < PASSES; pass++)
            sums[sum * PASSES + pass] += totals[sum][pass];
}

#define TILES ((PIXELS + TILE - 1) / TILE)
/* Both compilers have it; of OpenCL's own `prefetch` they make nothing. */
#define PREFETCH(k) __builtin_prefetch(p##k + ahead);

kernel void integrate_split(
    global const PIXEL *frames,      /* counts, [8][PIXELS] */
    global const PIXEL *zeros,       /* a frame of zeros, [PIXELS] */
    global const ushort *bin_table,  /* BINS = pixel not used, [PIXELS] */
    global const uint *norm_q,       /* norm of a pixel in quanta, [PIXELS] */
    global const ushort *first_bin,  /* first bin that a pixel reaches, [PIXELS] */
    global const uint *entry_start,  /* its first entry, and the end of the last, [PIXELS + 1] */
    global const float *shares,      /* share in a bin, [entries] */
    /* the same entries sorted by tile and bin, in segments that lie within a bin, see tiles.py */
    global const uint *first_segment, /* of each tile, and the end of the last, [TILES + 1] */
    global const ushort *segment_bin, /* [segments] */
    global const uint *segment_start, /* first entry of each segment, and the end of the last, [segments + 1] */
    global const ushort *places,     /* pixel of an entry, counted from the first of its tile, [entries] */
    global const float *tile_shares, /* [entries] */
    global const uint *tile_norms,   /* in quanta, [entries] */
    const uint used,                 /* number of frames in this batch, 1..8 */
    const uint rare,                 /* below this every value is valid and eight of them fit in 32 bits */
    const uint limit,                /* largest valid value */
    const uint4 dummies,             /* values that are invalid, repeated if fewer than four */
    global uint8 *buffer,            /* signals of a tile for each work-item, [ITEMS][TILE], a frame a lane */
    global double8 *partial,         /* sums of each work-item, [ITEMS][BINS][SPLIT_SUMS], a frame a lane */
    global ulong8 *partial_lost,     /* of its invalid pixels: c in 2^-24, norm, norm^2 in halves, [ITEMS][BINS][LOST] */
    global uint *image_low,          /* pixel-wise sum of valid counts, low word, [PIXELS] */
    global uint *image_high,         /* its high word */
    global uint *image_lost          /* number of frames in which the pixel was invalid, [PIXELS] */
    DARK)
{
    const uint item = get_global_id(0);
    POINTERS
    global uint8 *signals = buffer + (size_t)item * TILE;
    global double8 *sums = partial + (size_t)item * BINS * SPLIT_SUMS;
    global ulong8 *losses = partial_lost + (size_t)item * BINS * LOST;
    for (uint i = 0; i < BINS * SPLIT_SUMS; i++)
        sums[i] = (double8)0;
    for (uint i = 0; i < BINS * LOST; i++)
        losses[i] = (ulong8)0;

    for (uint tile = item * TILES / ITEMS; tile < (item + 1) * TILES / ITEMS; tile++) {
        const uint first = tile * TILE, last = min((uint)PIXELS, first + TILE);
        for (uint eight = first; eight < last; eight += 8) {
            uint i = eight;
            if (eight + 8 <= last) {
                const int8 in_bin = convert_int8(vload8(0, bin_table + i) < (ushort8)BINS);
                uint8 row[8], doubt = (uint8)0;
                SUM sum = (SUM)0;
                ROW(0) ROW(1) ROW(2) ROW(3) ROW(4) ROW(5) ROW(6) ROW(7)
                if (!IN_DOUBT(doubt)) {
                    add_to_image(convert_ulong8(sum), image_low + i, image_high + i);
                    transpose(row, signals + (i - first));
                    continue;
                }
            }
            for (; i < min(last, eight + 8); i++) {
                signals[i - first] = (uint8)0;
                if (bin_table[i] >= BINS)
                    continue;
                const uint8 v = LOAD(i);
                const int8 bad = invalid_lanes(v, limit, dummies, used);
                if (any(bad))
                    ADD_LOST_PARTS(bad)
                const uint8 s = select((uint8)0, SIGNAL(v, i), lanes_in_use(used) & ~bad);
                const ulong pixel = image_low[i] + sum_of_wide(s);
                image_low[i] = (uint)pixel;
                image_high[i] += (uint)(pixel >> 32);
                signals[i - first] = s;
            }
        }

        const uint begin = first_segment[tile], end = first_segment[tile + 1];
        /* Between the segments the pixels of the next tile are called for: memory works while this tile is added up. */
        const uint lines = TILE * sizeof(PIXEL) / LINE / max(1u, end - begin) + 1;
        uint ahead = last;
        for (uint segment = begin; segment < end; segment++) {
            const uint from = segment_start[segment], entries = segment_start[segment + 1] - from;
            global FRAMES(double) *at = (global FRAMES(double) *)(sums + segment_bin[segment] * SPLIT_SUMS);
            add_parts((global FRAMES(uint) *)signals, places + from, tile_shares + from, tile_norms + from, entries, at);
            for (uint line = 0; line < lines && ahead < last + TILE; line++, ahead += LINE / sizeof(PIXEL)) {
                PREFETCH(0) PREFETCH(1) PREFETCH(2) PREFETCH(3) PREFETCH(4) PREFETCH(5) PREFETCH(6) PREFETCH(7)
            }
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
