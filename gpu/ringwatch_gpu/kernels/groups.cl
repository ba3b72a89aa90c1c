/* Exact sums of a batch of frames, for GPU devices: pixels sorted by ring, work-groups, integer atomics.
 *
 * Built with -D PIXEL=<uchar|ushort|uint> -D PIXELS=<pixels of a frame> -D BINS=<radial bins> -D GROUP=<lanes, 2^n>;
 * after signal.cl with its constants where signals are signed: then 64-bit sums of them are two's complement.
 *
 * The used pixels are sorted by bin and cut into segments that lie within one bin. A work-group takes one segment of
 * one frame: its lanes gather the pixels and keep all sums in registers, a tree in local memory adds the lanes, and one
 * 64-bit atomic a sum adds the group to the bin. Everything is an integer: the order does not matter.
 */

#pragma OPENCL EXTENSION cl_khr_int64_base_atomics : enable

#define SUMS 3 /* signal, signal^2, norm x signal */
#define LOST 4 /* of invalid pixels: number, norm, norm^2 as two sums of 32-bit halves */
#define WIDE 4 /* signal^2 and norm x signal, each as two sums of 32-bit halves */
#define PLANES (SUMS + LOST)
#define LOW_HALF 0xFFFFFFFFUL

#ifdef SIGNED
#define DARK , global const int *dark /* of a pixel in quanta, in the order of the detector, [PIXELS] */
#define VALUE(pixel) RAW(, pixel)
#define SIGNAL(v, i) ((ulong)(long)(int)signal_of(v, dark[i]))
#define MAGNITUDE(s) abs((int)(s))
#define HIGH_HALF(product) ((ulong)((long)(product) >> 32))
#else
#define DARK
#define VALUE(pixel) (pixel)
#define SIGNAL(v, i) (v)
#define MAGNITUDE(s) (s)
#define HIGH_HALF(product) ((product) >> 32)

bool is_invalid(const uint v, const uint limit, const uint4 dummies) {
    return v > limit || v == dummies.x || v == dummies.y || v == dummies.z || v == dummies.w;
}
#endif

/* Adds one value of every lane to `target`; all lanes of the group must call it. */
void add_group(const ulong value, local ulong *scratch, global ulong *target) {
    const uint lane = get_local_id(0);
    scratch[lane] = value;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint step = GROUP / 2; step; step >>= 1) {
        if (lane < step)
            scratch[lane] += scratch[lane + step];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    if (lane == 0 && scratch[0])
        atom_add(target, scratch[0]);
    barrier(CLK_LOCAL_MEM_FENCE);
}

kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void integrate(
    global const PIXEL *frames,        /* counts, [batch][PIXELS] */
    global const uint *order,          /* used pixels sorted by bin */
    global const uint *norm_sorted,    /* their norms in quanta */
    global const uint *segment_start,  /* first entry of each segment, and the end of the last, [segments + 1] */
    global const ushort *segment_bin,  /* bin of each segment, [segments] */
    const uint limit,                  /* largest valid value */
    const uint4 dummies,               /* values that are invalid, repeated if fewer than four */
    global ulong *frame_sums,          /* [batch][PLANES][BINS], zero before */
    global uint *seen                  /* OR of all valid values (their magnitudes), one word, zero before */
    DARK)
{
    local ulong scratch[GROUP];
    const uint segment = get_group_id(0), frame = get_group_id(1), lane = get_local_id(0);
    global const PIXEL *pixels = frames + (size_t)frame * PIXELS;
    ulong signal = 0, signal_sq = 0, norm_signal = 0, lost = 0, lost_norm = 0, lost_sq_low = 0, lost_sq_high = 0;
    uint all = 0;
    for (uint i = segment_start[segment] + lane; i < segment_start[segment + 1]; i += GROUP) {
        const uint v = VALUE(pixels[order[i]]);
        const ulong norm = norm_sorted[i];
        if (is_invalid(v, limit, dummies)) {
            const ulong square = norm * norm;
            lost += 1;
            lost_norm += norm;
            lost_sq_low += square & LOW_HALF;
            lost_sq_high += square >> 32;
        } else {
            const ulong s = SIGNAL(v, order[i]);
            signal += s;
            signal_sq += s * s;
            norm_signal += s * norm;
            all |= MAGNITUDE(s);
        }
    }
    global ulong *at = frame_sums + (size_t)frame * PLANES * BINS + segment_bin[segment];
    add_group(signal, scratch, at);
    add_group(signal_sq, scratch, at + BINS);
    add_group(norm_signal, scratch, at + 2 * BINS);
    add_group(lost, scratch, at + 3 * BINS);
    add_group(lost_norm, scratch, at + 4 * BINS);
    add_group(lost_sq_low, scratch, at + 5 * BINS);
    add_group(lost_sq_high, scratch, at + 6 * BINS);
    if (all)
        atomic_or(seen, all);
}

/* The same frames again where a square or a product could overflow 64 bits: both as sums of 32-bit halves. */
kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void integrate_wide(
    global const PIXEL *frames, global const uint *order, global const uint *norm_sorted,
    global const uint *segment_start, global const ushort *segment_bin, const uint limit, const uint4 dummies,
    global ulong *frame_sums           /* [batch][WIDE][BINS], zero before */
    DARK)
{
    local ulong scratch[GROUP];
    const uint segment = get_group_id(0), frame = get_group_id(1), lane = get_local_id(0);
    global const PIXEL *pixels = frames + (size_t)frame * PIXELS;
    ulong square_low = 0, square_high = 0, product_low = 0, product_high = 0;
    for (uint i = segment_start[segment] + lane; i < segment_start[segment + 1]; i += GROUP) {
        const uint v = VALUE(pixels[order[i]]);
        const ulong s = is_invalid(v, limit, dummies) ? 0 : SIGNAL(v, order[i]);
        const ulong square = s * s, product = s * norm_sorted[i];
        square_low += square & LOW_HALF;
        square_high += square >> 32;
        product_low += product & LOW_HALF;
        product_high += HIGH_HALF(product);
    }
    global ulong *at = frame_sums + (size_t)frame * WIDE * BINS + segment_bin[segment];
    add_group(square_low, scratch, at);
    add_group(square_high, scratch, at + BINS);
    add_group(product_low, scratch, at + 2 * BINS);
    add_group(product_high, scratch, at + 3 * BINS);
}

/* Adds the frames of a batch to the summed image; one work-item a pixel. */
kernel void accumulate_image(
    global const PIXEL *frames, global const ushort *bin_table, const uint used, const uint limit, const uint4 dummies,
    global uint *image_low,            /* pixel-wise sum of valid counts, low word, [PIXELS] */
    global uint *image_high,           /* its high word */
    global uint *image_lost            /* number of frames in which the pixel was invalid, [PIXELS] */
    DARK)
{
    const uint i = get_global_id(0);
    if (i >= PIXELS || bin_table[i] >= BINS)
        return;
    ulong sum = image_low[i];
    uint lost = 0;
    for (uint frame = 0; frame < used; frame++) {
        const uint v = VALUE(frames[(size_t)frame * PIXELS + i]);
        if (is_invalid(v, limit, dummies))
            lost++;
        else
            sum += SIGNAL(v, i);
    }
    image_low[i] = (uint)sum;
    if (sum >> 32)
        image_high[i] += (uint)(sum >> 32);
    if (lost)
        image_lost[i] += lost;
}
