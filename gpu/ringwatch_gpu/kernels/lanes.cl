/* Exact sums of eight frames at once, for CPU devices: one frame a lane of a 64-bit vector.
 *
 * Built with -D PIXEL=<uchar|ushort|uint> -D PIXELS=<pixels of a frame> -D BINS=<radial bins> -D ITEMS=<work-items>;
 * after signal.cl with its constants where signals are signed: then 64-bit sums of them are two's complement.
 *
 * A work-item takes one contiguous stretch of pixels. For each pixel it loads bin and norm once and the pixel of all
 * eight frames, and adds signal, signal^2 and norm x signal to its own histogram, which stays in the L2 cache. A second
 * kernel adds the histograms of all work-items. Everything is an integer: the order does not matter.
 *
 * A pixel is valid if value <= limit and value is none of the dummies. Invalid pixels are rare: one comparison of the
 * OR of all eight values with `rare` (see validity.py) decides whether a closer look is needed.
 */

#define SUMS 3 /* signal, signal^2, norm x signal */
#define LOST 4 /* of invalid pixels: number, norm, norm^2 as two sums of 32-bit halves */
#define WIDE 4 /* signal^2 and norm x signal, each as two sums of 32-bit halves */
#define LOW_HALF 0xFFFFFFFFUL

#define STRETCH ((PIXELS + ITEMS - 1) / ITEMS)

/* The pixel of eight frames; frames beyond `used` read from a frame of zeros. */
#define LANE(k) ((k) < used ? frames + (size_t)(k) * PIXELS : zeros)
#define POINTERS                                                                                                       \
    global const PIXEL *p0 = LANE(0), *p1 = LANE(1), *p2 = LANE(2), *p3 = LANE(3);                                     \
    global const PIXEL *p4 = LANE(4), *p5 = LANE(5), *p6 = LANE(6), *p7 = LANE(7);
#define JOINED(type, lanes) type##lanes
#define VECTOR(type, lanes) JOINED(type, lanes)
#define PIXELS_AT(i) ((VECTOR(PIXEL, 8))(p0[i], p1[i], p2[i], p3[i], p4[i], p5[i], p6[i], p7[i]))

#ifdef SIGNED
#define DARK , global const int *dark /* of a pixel in quanta, [PIXELS] */
#define LOAD(i) RAW(8, PIXELS_AT(i))
#define WIDE_OF(lanes, v) as_ulong##lanes(convert_long##lanes(as_int##lanes(v)))
#define MAGNITUDE(v) abs(as_int8(v))
#define HIGH_HALF(product) as_ulong8(as_long8(product) >> 32)
#else
#define DARK
#define LOAD(i) convert_uint8(PIXELS_AT(i))
#define WIDE_OF(lanes, v) convert_ulong##lanes(v)
#define HIGH_HALF(product) ((product) >> 32)
#endif

uint or_of(const uint8 v) {
    const uint4 a = v.lo | v.hi;
    const uint2 b = a.lo | a.hi;
    return b.x | b.y;
}

uint sum_of(const uint8 v) {
    const uint4 a = v.lo + v.hi;
    const uint2 b = a.lo + a.hi;
    return b.x + b.y;
}

ulong sum_of_wide(const uint8 v) {
    const ulong4 a = WIDE_OF(4, v.lo) + WIDE_OF(4, v.hi);
    const ulong2 b = a.lo + a.hi;
    return b.x + b.y;
}

/* All bits set in the lanes whose frame is in use. */
int8 lanes_in_use(const uint used) { return (uint8)(0, 1, 2, 3, 4, 5, 6, 7) < (uint8)used; }

/* All bits set in the lanes whose pixel is invalid and whose frame is in use. */
int8 invalid_lanes(const uint8 v, const uint limit, const uint4 dummies, const uint used) {
#ifdef SIGNED
    const int8 bad = is_invalid8(v, limit, dummies);
#else
    const int8 bad = (v > (uint8)limit) | (v == (uint8)dummies.x) | (v == (uint8)dummies.y) | (v == (uint8)dummies.z) |
                     (v == (uint8)dummies.w);
#endif
    return bad & lanes_in_use(used);
}

/* Adds the invalid lanes of the pixel i with its norm. */
#define ADD_LOST(bad)                                                                                                  \
    {                                                                                                                  \
        const ulong8 one = convert_ulong8(bad & 1);                                                                    \
        const ulong square = (ulong)norm * norm;                                                                       \
        global ulong8 *loss = losses + bin * LOST;                                                                     \
        loss[0] += one;                                                                                                \
        loss[1] += one * norm;                                                                                         \
        loss[2] += one * (square & LOW_HALF);                                                                          \
        loss[3] += one * (square >> 32);                                                                               \
        image_lost[i] += sum_of(as_uint8(bad & 1));                                                                    \
    }

kernel void integrate(
    global const PIXEL *frames,      /* counts, [8][PIXELS] */
    global const PIXEL *zeros,       /* a frame of zeros, [PIXELS] */
    global const ushort *bin_table,  /* radial bin of a pixel, BINS = not used, [PIXELS] */
    global const uint *norm_q,       /* norm of a pixel in quanta, [PIXELS] */
    const uint used,                 /* number of frames in this batch, 1..8 */
    const uint rare,                 /* below this every value is valid and eight of them fit in 32 bits */
    const uint limit,                /* largest valid value */
    const uint4 dummies,             /* values that are invalid, repeated if fewer than four */
    global ulong8 *partial,          /* sums of each work-item, [ITEMS][BINS][SUMS], a frame a lane */
    global ulong8 *partial_lost,     /* the same of its invalid pixels, [ITEMS][BINS][LOST] */
    global uint *seen,               /* OR of all valid values (their magnitudes) of each work-item, [ITEMS] */
    global uint *image_low,          /* pixel-wise sum of valid counts, low word, [PIXELS] */
    global uint *image_high,         /* its high word */
    global uint *image_lost          /* number of frames in which the pixel was invalid, [PIXELS] */
    DARK)
{
    const uint item = get_global_id(0);
    const uint first = item * STRETCH, last = min((uint)PIXELS, first + STRETCH);
    POINTERS
    global ulong8 *sums = partial + (size_t)item * BINS * SUMS, *losses = partial_lost + (size_t)item * BINS * LOST;
    for (uint i = 0; i < BINS * SUMS; i++)
        sums[i] = (ulong8)0;
    for (uint i = 0; i < BINS * LOST; i++)
        losses[i] = (ulong8)0;

    uint all = 0;
    for (uint i = first; i < last; i++) {
        const uint bin = bin_table[i];
        if (bin >= BINS)
            continue;
        const uint norm = norm_q[i];
        uint8 v = LOAD(i);
#ifdef SIGNED
        const int8 bad = invalid_lanes(v, limit, dummies, used);
        if (any(bad))
            ADD_LOST(bad)
        v = select((uint8)0, signal_of8(v, (int8)dark[i]), lanes_in_use(used) & ~bad);
        const uint together = or_of(MAGNITUDE(v));
        const ulong image = sum_of_wide(v);
#else
        uint together = or_of(v);
        ulong image;
        if (together < rare) {
            image = sum_of(v);
        } else {
            const int8 bad = invalid_lanes(v, limit, dummies, used);
            if (any(bad)) {
                ADD_LOST(bad)
                v = select(v, (uint8)0, bad);
                together = or_of(v);
            }
            image = sum_of_wide(v);
        }
#endif
        all |= together;
        const ulong pixel = image_low[i] + image;
        image_low[i] = (uint)pixel;
        if (pixel >> 32)
            image_high[i] += (uint)(pixel >> 32);
        const ulong8 s = WIDE_OF(8, v);
        global ulong8 *at = sums + bin * SUMS;
        at[0] += s;
        at[1] += s * s;
        at[2] += s * (ulong8)norm;
    }
    seen[item] = all;
}

/* The same frames again where a square or a product could overflow 64 bits: both as sums of 32-bit halves. */
kernel void integrate_wide(
    global const PIXEL *frames, global const PIXEL *zeros, global const ushort *bin_table, global const uint *norm_q,
    const uint used, const uint limit, const uint4 dummies,
    global ulong8 *partial           /* [ITEMS][BINS][WIDE], a frame a lane */
    DARK)
{
    const uint item = get_global_id(0);
    const uint first = item * STRETCH, last = min((uint)PIXELS, first + STRETCH);
    POINTERS
    global ulong8 *sums = partial + (size_t)item * BINS * WIDE;
    for (uint i = 0; i < BINS * WIDE; i++)
        sums[i] = (ulong8)0;

    for (uint i = first; i < last; i++) {
        const uint bin = bin_table[i];
        if (bin >= BINS)
            continue;
        const uint8 v = LOAD(i);
#ifdef SIGNED
        const int8 good = lanes_in_use(used) & ~is_invalid8(v, limit, dummies);
        const ulong8 s = WIDE_OF(8, select((uint8)0, signal_of8(v, (int8)dark[i]), good));
#else
        const ulong8 s = convert_ulong8(select(v, (uint8)0, invalid_lanes(v, limit, dummies, used)));
#endif
        const ulong8 square = s * s, product = s * (ulong8)(norm_q[i]);
        global ulong8 *at = sums + bin * WIDE;
        at[0] += square & LOW_HALF;
        at[1] += square >> 32;
        at[2] += product & LOW_HALF;
        at[3] += HIGH_HALF(product);
    }
}

/* Adds the histograms of all work-items; one work-item for each bin and plane. */
kernel void reduce_items(
    global const ulong8 *partial,    /* [ITEMS][BINS][planes], a frame a lane */
    const uint planes,
    const uint first_plane,          /* where they go among the planes of the result */
    const uint result_planes,
    global ulong *frame_sums)        /* [8][result_planes][BINS] */
{
    const uint at = get_global_id(0), bin = at / planes, plane = at % planes;
    ulong8 total = (ulong8)0;
    for (uint item = 0; item < ITEMS; item++)
        total += partial[((size_t)item * BINS + bin) * planes + plane];
    global ulong *out = frame_sums + (first_plane + plane) * BINS + bin;
    const size_t frame = result_planes * BINS;
    out[0] = total.s0;
    out[frame] = total.s1;
    out[2 * frame] = total.s2;
    out[3 * frame] = total.s3;
    out[4 * frame] = total.s4;
    out[5 * frame] = total.s5;
    out[6 * frame] = total.s6;
    out[7 * frame] = total.s7;
}
