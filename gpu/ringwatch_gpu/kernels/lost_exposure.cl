/* What the frames in which a pixel was invalid would have counted for, summed for each pixel.
 *
 * Built with -D PIXEL=<uchar|ushort|uint> -D PIXELS=<pixels of a frame> -D BINS=<radial bins>; after signal.cl with its
 * constants where signals are signed.
 *
 * One work-item a pixel. Called for batches with invalid pixels only, which are rare: the frames are read once more.
 */

#ifdef SIGNED
#define VALUE(pixel) RAW(, pixel)
#else
#define VALUE(pixel) (pixel)

bool is_invalid(const uint v, const uint limit, const uint4 dummies) { return v > limit || any((uint4)v == dummies); }
#endif

kernel void add_lost_exposure(
    global const PIXEL *frames,      /* counts, [8][PIXELS] */
    global const ushort *bin_table,  /* radial bin of a pixel, BINS = not used, [PIXELS] */
    const uint used,                 /* number of frames in this batch, 1..8 */
    const uint limit,                /* largest valid value */
    const uint4 dummies,             /* values that are invalid, repeated if fewer than four */
    const ulong8 exposure,           /* of each frame, in units of 2^-20 */
    global ulong *lost_exposure)     /* [PIXELS] */
{
    const uint i = get_global_id(0);
    if (bin_table[i] >= BINS)
        return;
    const ulong of_frame[8] = {exposure.s0, exposure.s1, exposure.s2, exposure.s3,
                               exposure.s4, exposure.s5, exposure.s6, exposure.s7};
    ulong lost = 0;
    for (uint k = 0; k < used; k++) {
        const uint v = VALUE(frames[(size_t)k * PIXELS + i]);
        if (is_invalid(v, limit, dummies))
            lost += of_frame[k];
    }
    if (lost)
        lost_exposure[i] += lost;
}
